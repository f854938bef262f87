//! Who fetches which URL, and when: the exact account of a list, leases and
//! credit, losses, and limits per host.
//!
//! Everything here is pure: events and moments go in, commands come out. There
//! is no I/O, no clock and no runtime.

pub mod id_set;
pub mod ledger;
pub mod politeness;
pub mod trial;
