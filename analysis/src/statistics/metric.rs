//! What is compared, trial by trial.

use crate::record::TrialRecord;

/// A figure of a trial that arms are compared on.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name in comparisons: that of the field of [`TrialRecord`], or of the sum
    /// of two fields. Every arm fetches the same list, so that the ratio of
    /// sums is also the ratio per URL.
    pub name: &'static str,
    /// Reads it; `None` where it is not known.
    pub of: fn(&TrialRecord) -> Option<f64>,
}

/// The outcome that verdicts are about, named before any trial.
pub const PRIMARY: Metric = Metric {
    name: "makespan_s",
    of: |trial| trial.makespan_s,
};

impl Metric {
    /// Every metric, the primary one first.
    pub const ALL: [Self; 8] = [
        PRIMARY,
        Self {
            name: "requests_per_s",
            of: |trial| trial.requests_per_s,
        },
        Self {
            name: "pss_peak_bytes",
            of: |trial| trial.pss_peak_bytes.map(|bytes| bytes as f64),
        },
        Self {
            name: "uss_peak_bytes",
            of: |trial| trial.uss_peak_bytes.map(|bytes| bytes as f64),
        },
        Self {
            name: "cpu_s",
            of: |trial| Some(trial.cpu_user_s? + trial.cpu_system_s?),
        },
        Self {
            name: "switches",
            of: |trial| Some((trial.voluntary_switches? + trial.involuntary_switches?) as f64),
        },
        Self {
            name: "latency_s.p50",
            of: |trial| Some(trial.latency_s?.p50),
        },
        Self {
            name: "latency_s.p99",
            of: |trial| trial.latency_s?.p99,
        },
    ];

    /// The metric of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name == name)
    }
}
