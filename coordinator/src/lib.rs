//! fanout's coordinator: splits a URL list, leases it to fetchers through
//! workers, gathers completions, compares arms.

mod accept;
pub mod cli;
pub mod client;
pub mod fetch;
pub mod fleet;
pub mod generate;
pub mod local;
pub mod report;
pub mod results;
pub mod run;
pub mod serve;
pub mod settings;
pub mod study;
pub mod terminal;
pub mod url_list;
