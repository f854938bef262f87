//! Medians and ranges of an arm's trials.

use std::collections::BTreeMap;

use crate::{
    latency::Latency,
    record::{ArmRecord, Better, Metric, Per, Study, TrialRecord},
};

/// Whether a trial may enter a comparison.
pub(crate) fn usable(trial: &TrialRecord) -> bool {
    trial.valid && !trial.discarded && !trial.degraded
}

/// An arm's usable trials; of a block's several the first.
pub(crate) fn usable_by_block<'a>(study: &'a Study, arm: &str) -> BTreeMap<u32, &'a TrialRecord> {
    let mut blocks: BTreeMap<u32, &TrialRecord> = BTreeMap::new();
    for trial in study.trials.iter().filter(|trial| trial.arm == arm) {
        if usable(trial) {
            let kept = blocks.entry(trial.block).or_insert(trial);
            if trial.order < kept.order {
                *kept = trial;
            }
        }
    }
    blocks
}

/// A metric of an arm's usable trials, by block.
pub(crate) fn by_block(study: &Study, arm: &str, metric: &Metric) -> BTreeMap<u32, f64> {
    usable_by_block(study, arm)
        .into_iter()
        .filter_map(|(block, trial)| Some((block, (metric.of)(trial)?)))
        .collect()
}

/// The middle of some numbers, or of the middle two; `None` of nothing.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    Spread::of(numbers).map(|spread| spread.median)
}

/// Some trials' figures: the middle one and the outermost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// The middle, or the mean of the middle two.
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

/// What an arm's usable trials show.
#[derive(Debug, Clone)]
pub(crate) struct ArmSummary<'a> {
    pub(crate) arm: &'a ArmRecord,
    /// Whether the others are compared with it.
    pub(crate) baseline: bool,
    /// Usable trials, one a block.
    pub(crate) trials: Vec<&'a TrialRecord>,
    /// Trials that counted, were they usable or not: what failed in one that was run again is not
    /// forgotten.
    pub(crate) attempts: Vec<&'a TrialRecord>,
    /// URLs of all attempts that ended, however.
    pub(crate) urls: u64,
    /// URLs of all attempts that failed or were given up.
    pub(crate) lost: u64,
    pub(crate) makespan_s: Option<Spread>,
    /// Start and makespan in seconds; the makespan alone where no start was recorded.
    pub(crate) time_s: Option<Spread>,
}

impl ArmSummary<'_> {
    /// The spread of a metric over the usable trials.
    pub(crate) fn spread(&self, metric: impl Fn(&TrialRecord) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.trials.iter().filter_map(|trial| metric(trial)))
    }

    /// The median of a metric over the usable trials.
    pub(crate) fn median(&self, metric: impl Fn(&TrialRecord) -> Option<f64>) -> Option<f64> {
        self.spread(metric).map(|spread| spread.median)
    }

    /// The median of a metric over the usable trials, at its scale.
    pub(crate) fn value(&self, metric: &Metric) -> Option<f64> {
        self.median(|trial| {
            let value = (metric.of)(trial)?;
            match metric.per {
                Per::Trial => Some(value),
                Per::ThousandUrls => Some(trial.per_url(value)? * 1e3),
            }
        })
    }

    /// The latencies of all URLs of the usable trials together: the one distribution that tables and
    /// charts show. `None` without any.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let mut pooled = Latency::new();
        for trial in &self.trials {
            if let Some(text) = &trial.latency_histogram {
                pooled.merge(&Latency::decode(text).ok()?);
            }
        }
        (pooled.count() > 0).then_some(pooled)
    }

    /// The median of the metric of that name, in words.
    pub(crate) fn say(&self, name: &str) -> String {
        let metric = Metric::named(name);
        metric.map_or_else(String::new, |metric| metric.say(self.value(metric)))
    }

    /// Whether the arm fetches: with the `null` client only the machinery runs.
    pub(crate) fn fetches(&self) -> bool {
        self.arm.fetches()
    }

    /// Whether the arm may be called the best: it fetches, is no control, and has usable trials, in
    /// none of which every URL failed.
    pub(crate) fn competes(&self) -> bool {
        let fetched = self.trials.iter().all(|trial| trial.completed > 0);
        self.fetches() && !self.arm.control && self.makespan_s.is_some() && fetched
    }
}

/// The best figure of a metric, as it reads: arms that read alike share it. `None` where fewer than
/// two arms compete.
pub(crate) fn best<'a>(
    rows: impl IntoIterator<Item = &'a ArmSummary<'a>>,
    metric: &Metric,
) -> Option<String> {
    let competing = rows.into_iter().filter(|row| row.competes());
    let figures = competing.filter_map(|row| row.value(metric)).filter(|figure| figure.is_finite());
    let figures: Vec<f64> = figures.collect();
    let best = figures.iter().copied().reduce(match metric.better {
        Better::More => f64::max,
        Better::Less | Better::Neither => f64::min,
    });
    best.filter(|_| figures.len() > 1).map(|best| metric.say(Some(best)))
}

/// Every arm, by rising median time; the control stands behind the
/// baseline, arms that fetch nothing and arms without a usable trial last.
pub(crate) fn summaries(study: &Study) -> Vec<ArmSummary<'_>> {
    let mut all: Vec<ArmSummary<'_>> = study
        .arms
        .iter()
        .map(|arm| {
            let trials: Vec<&TrialRecord> =
                usable_by_block(study, &arm.name).into_values().collect();
            let counts = |trial: &&TrialRecord| trial.arm == arm.name && !trial.discarded;
            let attempts: Vec<&TrialRecord> = study.trials.iter().filter(counts).collect();
            let total = |of: fn(&TrialRecord) -> u64| {
                attempts.iter().map(|trial| of(trial)).fold(0, u64::saturating_add)
            };
            ArmSummary {
                arm,
                baseline: arm.name == study.manifest.baseline,
                urls: total(TrialRecord::urls),
                lost: total(TrialRecord::lost),
                attempts,
                makespan_s: Spread::of(trials.iter().filter_map(|trial| trial.makespan_s)),
                time_s: Spread::of(trials.iter().filter_map(|trial| {
                    Some(trial.start_s.unwrap_or_default() + trial.makespan_s?)
                })),
                trials,
            }
        })
        .collect();
    all.sort_by(|a, b| {
        let key = |s: &ArmSummary<'_>| {
            let median = s.time_s.map_or(f64::INFINITY, |spread| spread.median);
            (s.time_s.is_none(), !s.fetches(), median)
        };
        let (a, b) = (key(a), key(b));
        (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2))
    });
    if let Some(at) = all.iter().position(|summary| summary.arm.control) {
        let control = all.remove(at);
        let baseline = all.iter().position(|summary| summary.baseline);
        all.insert(baseline.map_or(all.len(), |at| at + 1), control);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_middle_of_even_and_odd_counts() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
        let spread = Spread::of([5.0, -1.0]).unwrap();
        assert_eq!((spread.min, spread.max), (-1.0, 5.0));
    }

    #[test]
    fn a_repeated_trial_counts_once_and_a_degraded_one_not() {
        let study = fixture::study();
        let arm = usable_by_block(&study, "32xsequential");
        assert_eq!(arm.len(), 10);
        assert!(arm.values().all(|trial| !trial.degraded));
        let mut twice = study.clone();
        let mut again = (*arm[&3]).clone();
        again.order = 9_999;
        again.makespan_s = Some(1.0);
        twice.trials.insert(0, again);
        assert_eq!(usable_by_block(&twice, "32xsequential")[&3], arm[&3]);
    }

    #[test]
    fn what_fails_in_an_attempt_that_is_run_again_is_not_forgotten() {
        let mut study = fixture::StudyBuilder::new().arms(&["async:32", "threads:32"]).build_raw();
        let arm = |study: &crate::record::Study| {
            let trials = study.trials.iter();
            let of_arm = trials.filter(|trial| trial.arm == "threads:32" && !trial.discarded);
            of_arm.cloned().collect::<Vec<_>>()
        };
        // In 4 of 10 blocks the arm loses 20 URLs; run again, it loses none.
        for mut lossy in arm(&study).into_iter().take(4) {
            (lossy.completed, lossy.failed) = (980, 20);
            lossy.statuses = [("200".to_owned(), 980)].into();
            lossy.outcomes = [("ok".to_owned(), 980), ("reset".to_owned(), 20)].into();
            lossy.makespan_s = lossy.makespan_s.map(|s| s / 2.0);
            study.trials.insert(0, lossy);
        }
        crate::conclude(&mut study, &crate::Options::default());
        let all = summaries(&study);
        let arm = all.iter().find(|summary| summary.arm.name == "threads:32").unwrap();
        assert_eq!((arm.lost, arm.urls, arm.attempts.len()), (80, 14_000, 14));
        // Its faster attempts did less work: they enter no ratio.
        assert!(arm.trials.len() == 10 && arm.trials.iter().all(|trial| trial.failed == 0));
        let failures =
            "URLs failed: threads:32 80 of 14,000 (0.6 %) in 4 of 14 trials (80 × reset)";
        assert!(
            study.caveats.iter().any(|caveat| caveat.starts_with(failures)),
            "{:?}",
            study.caveats
        );
    }

    #[test]
    fn sorted_by_time_with_the_control_behind_the_baseline() {
        let study = fixture::StudyBuilder::new()
            .arms(&["sequential", "async:32", "async:32@null", "threads:32"])
            .slower("threads:32", 0.9)
            .build();
        let names: Vec<&str> =
            summaries(&study).iter().map(|summary| summary.arm.name.as_str()).collect();
        assert_eq!(
            names,
            ["threads:32", "async:32", "async:32 (again)", "sequential", "async:32@null"]
        );
    }
}
