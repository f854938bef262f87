//! From what was typed to what is meant: every flag is checked here, before
//! any file is written, socket opened or process started.

mod common;
pub(crate) mod cpus;
mod error;
mod fetch;
mod http;
mod parse;
mod politeness;
mod study;

pub(crate) use common::Common;
pub(crate) use common::origin_url;
pub(crate) use error::SettingsError;
pub(crate) use fetch::FetchSettings;
pub(crate) use http::certificates;
pub(crate) use parse::patience;
pub(crate) use study::{SLOPE_CONCURRENCIES, StudyKind, StudySettings};

#[cfg(test)]
mod tests;
