//! fanout's coordinator: splits a URL list, leases it to fetchers through
//! workers, gathers completions, compares arms.

pub mod arm;
pub mod cli;
pub mod client;
pub mod daemon;
mod door;
pub mod drive;
pub mod exit;
pub mod fetch;
pub mod figures;
pub mod fleet;
pub mod ground;
pub mod id_set;
pub mod ledger;
pub mod local;
pub mod placement;
pub mod politeness;
pub mod progress;
pub mod report;
pub mod results;
pub mod settings;
pub mod store;
pub mod study;
pub mod trial;
pub mod url_list;
pub mod usage;
pub mod voice;
