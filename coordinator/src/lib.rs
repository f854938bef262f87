//! fanout's coordinator: splits a URL list, leases it to fetchers through
//! workers, gathers completions, compares arms.

pub mod arm;
pub mod ledger;
pub mod trial;
pub mod url_list;
