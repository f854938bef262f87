//! From trials to ratios, intervals and verdicts.
//!
//! The unit is the trial, never the request: requests of one trial share its
//! processes, its caches and its moment. Arms are compared within a block, so
//! that drift between blocks falls out. `docs/method.md` has the sources.

mod comparison;
mod false_positives;
mod family;
mod leaders;
mod paired;
mod student;
mod summary;

pub(crate) use comparison::{compare, compare_pair};
pub use false_positives::{FalsePositives, false_positives};
pub(crate) use family::{BLOCKS_NEEDED, BlockRatios, Family, Judgement};
#[cfg(any(test, feature = "fixture"))]
pub(crate) use leaders::Pair;
pub(crate) use leaders::{Leaders, leaders, leaders_on};
pub(crate) use paired::{Sample, log_ratios};
pub(crate) use student::{normal, quantile, scales};
pub(crate) use summary::{
    ArmSummary, Spread, best, by_block, median, summaries, usable, usable_by_block,
};

/// Share of intervals that should hold the truth.
pub(crate) const CONFIDENCE: f64 = 0.95;
/// Share of studies without any difference in which one may be called.
pub(crate) const ALPHA: f64 = 0.05;
/// Share of studies in which the smallest effect should be found.
pub(crate) const POWER: f64 = 0.8;
