//! The sans-IO core: one HTTP/1.1 exchange after another until a URL is done.
//! No socket, no clock, no large buffer; the same under every model.

pub(crate) mod body;
mod chunked;
pub(crate) mod fetch;
mod head;
pub(crate) mod redirect_chain;
pub(crate) mod request;
mod response;
pub(crate) mod retry_after;
pub(crate) mod target;

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
