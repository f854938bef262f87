//! From what was typed to what is meant: every flag is checked here, before
//! any file is written, socket opened or process started.

mod common;
pub(crate) mod cpus;
mod fetch;
mod http;
mod parse;
mod politeness;
mod study;

pub(crate) use common::{Common, FleetArgs, RunArgs, clients, origin_url, patience};
pub(crate) use fetch::{FetchArgs, FetchSettings};
pub(crate) use http::certificates;
pub(crate) use parse::margin;
pub(crate) use study::{
    Cell, SLOPE_CONCURRENCIES, Server, StudyArgs, StudyKind, StudySettings, map_cells,
};

#[cfg(test)]
mod tests;
