//! The sans-IO core: one HTTP/1.1 exchange after another until a URL is done.
//! No socket, no clock, no large buffer; the same under every model.

pub(crate) mod body;
pub(crate) mod course;
pub(crate) mod fetch;
pub(crate) mod plain_head;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod target;
