//! The one way from trials to conclusions.

use crate::{record::Study, statistics, validity};

/// What conclusions are drawn with.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Differences up to this share count as none: 0.05 is ±5 %.
    pub margin: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { margin: 0.05 }
    }
}

/// Draws every conclusion from a study's manifest, arms and trials: trials that
/// may not be compared are marked with the reason, and comparisons, scaling,
/// memory slopes, analysis and caveats are filled in anew.
///
/// The same study gives the same conclusions, in whatever order its trials stand.
pub fn conclude(study: &mut Study, options: &Options) {
    validity::mark(study);
    (study.comparisons, study.analysis) = statistics::compare(study, options.margin);
    study.caveats = validity::caveats(study);
}
