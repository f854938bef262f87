//! From what was typed to what is meant: every flag is checked here, before
//! any file is written, socket opened or process started.

mod common;
pub mod cpus;
mod error;
mod fetch;
mod http;
mod parse;
mod politeness;
mod study;

pub use common::Common;
pub(crate) use common::origin_url;
pub use error::SettingsError;
pub use fetch::FetchSettings;
pub use http::certificates;
pub(crate) use parse::patience;
pub use study::{SLOPE_CONCURRENCIES, StudyKind, StudySettings};

#[cfg(test)]
mod tests;
