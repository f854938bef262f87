//! What a study's figures mean.
//!
//! Everything here is pure: a [`record::Study`] goes in; comparisons, tables, sentences and pages
//! come out. Reading and writing files is the coordinator's work.

mod caveats;
mod conclude;
mod contest;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod format;
mod groups;
pub mod latency;
mod map;
mod memory_slope;
pub mod page;
pub mod record;
mod regimes;
mod scaling;
#[cfg(test)]
mod schema_tests;
#[cfg(any(test, feature = "fixture"))]
pub mod simulated;
pub mod statistics;
pub mod sum;
pub mod text;
pub mod validity;
pub mod vote;

pub use conclude::{Options, conclude};
