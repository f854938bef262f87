//! What the page shows of a study: its arms in one order, with what the
//! sections draw. Every section takes its figures from here, so no two disagree.

use super::{identity::Identity, svg::plot::LineEnd};
use crate::{
    record::{ArmRecord, Study, TrialRecord, Verdict},
    statistics::{ArmSummary, summaries},
};

/// A study as the page shows it.
#[derive(Debug)]
pub(super) struct StudyView<'a> {
    pub(super) study: &'a Study,
    /// The arms, quickest first, as in the text.
    pub(super) rows: Vec<ArmRow<'a>>,
}

/// One arm.
#[derive(Debug)]
pub(super) struct ArmRow<'a> {
    /// Its usable trials and their medians.
    pub(super) summary: ArmSummary<'a>,
    /// Its place in the record: its class is `a` and this number.
    pub(super) id: usize,
    /// How it is drawn.
    pub(super) identity: Identity,
    /// Its makespan over the baseline's.
    pub(super) ratio: Option<Ratio>,
    /// The same for every block in which both ran.
    pub(super) runs: Vec<Run>,
}

/// A makespan over the baseline's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    pub(super) value: f64,
    /// Its 95 % interval.
    pub(super) interval: Option<(f64, f64)>,
    /// What the comparison says; `None` for the baseline and without a comparison.
    pub(super) verdict: Option<Verdict>,
}

/// One block's ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    pub(super) block: u32,
    /// The arm's makespan there.
    pub(super) makespan_s: f64,
    /// The same over the baseline's makespan in this block.
    pub(super) ratio: f64,
}

impl<'a> StudyView<'a> {
    pub(super) fn new(study: &'a Study) -> Self {
        let identities = Identity::of_all(&study.arms);
        let summaries = summaries(study);
        let baseline = summaries.iter().find(|summary| summary.baseline);
        let reference = baseline.and_then(|summary| Some(summary.makespan_s?.median));
        let baseline: Vec<&TrialRecord> = baseline.map_or_else(Vec::new, |b| b.trials.clone());
        let row = |summary: ArmSummary<'a>| {
            let mut arms = study.arms.iter();
            let id = arms.position(|arm| std::ptr::eq(arm, summary.arm))?;
            Some(ArmRow {
                id,
                identity: *identities.get(id)?,
                ratio: ratio(&summary, reference),
                runs: runs(&summary.trials, &baseline),
                summary,
            })
        };
        let rows = summaries.into_iter().filter_map(row).collect();
        Self { study, rows }
    }

    /// The arms without the A/A control: in pictures of what an arm is like,
    /// it would only repeat the baseline.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &ArmRow<'a>> {
        self.rows.iter().filter(|row| !row.arm().control)
    }

    pub(super) fn baseline(&self) -> Option<&ArmRow<'a>> {
        self.rows.iter().find(|row| row.summary.baseline)
    }

    pub(super) fn row(&self, arm: &str) -> Option<&ArmRow<'a>> {
        self.rows.iter().find(|row| row.arm().name == arm)
    }
}

impl<'a> ArmRow<'a> {
    pub(super) fn arm(&self) -> &'a ArmRecord {
        self.summary.arm
    }

    pub(super) fn name(&self) -> &'a str {
        &self.summary.arm.name
    }

    /// The median of its makespans, in seconds.
    pub(super) fn makespan_s(&self) -> Option<f64> {
        self.summary.makespan_s.map(|spread| spread.median)
    }

    /// The classes of the groups that draw this arm: it can be singled out, and it has its colour.
    pub(super) fn class(&self) -> String {
        format!("arm a{} {}", self.id, self.identity.kind.colour().name)
    }

    /// The end of its line in a chart of lines.
    pub(super) fn end(&self, (x, y): (f64, f64), value: String, title: String) -> LineEnd {
        LineEnd {
            x,
            y,
            identity: self.identity,
            class: self.class(),
            name: self.name().to_owned(),
            value,
            title,
            goes_on: false,
        }
    }

    /// The trial with the median makespan, among those that `has` what is to
    /// be shown. Of an even number, the quicker of the two in the middle.
    pub(super) fn typical(&self, has: impl Fn(&TrialRecord) -> bool) -> Option<&'a TrialRecord> {
        let trials = self.summary.trials.iter().filter(|trial| has(trial));
        let mut timed: Vec<(f64, &'a TrialRecord)> =
            trials.filter_map(|trial| Some((trial.makespan_s?, *trial))).collect();
        timed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.order.cmp(&b.1.order)));
        let middle = timed.len().checked_sub(1)? / 2;
        Some(timed[middle].1)
    }

    /// URLs in flight at most, in all processes together.
    pub(super) fn slots(&self) -> u64 {
        let arm = self.arm();
        u64::from(arm.processes.max(1)) * u64::from(arm.concurrency.max(1))
    }
}

/// URLs that a trial went through; `None` for none.
pub(super) fn urls(trial: &TrialRecord) -> Option<f64> {
    let urls = trial.completed + trial.failed + trial.abandoned;
    (urls > 0).then_some(urls as f64)
}

fn ratio(summary: &ArmSummary<'_>, reference: Option<f64>) -> Option<Ratio> {
    let usable = |value: f64| value.is_finite() && value > 0.0;
    let median = summary.makespan_s?.median;
    let comparison = summary.comparison.filter(|c| usable(c.ratio));
    let (value, interval, verdict) = match comparison {
        _ if summary.baseline => (1.0, None, None),
        Some(comparison) => {
            let interval = comparison.ci_low.zip(comparison.ci_high);
            let interval = interval.filter(|(l, h)| usable(*l) && usable(*h) && l <= h);
            (comparison.ratio, interval, Some(comparison.verdict))
        }
        // Without a comparison there are still the medians.
        None => (median / reference?, None, None),
    };
    usable(value).then_some(Ratio { value, interval, verdict })
}

fn runs(kept: &[&TrialRecord], baseline: &[&TrialRecord]) -> Vec<Run> {
    let run = |trial: &&TrialRecord| {
        let other = baseline.iter().find(|other| other.block == trial.block)?;
        let makespan_s = trial.makespan_s?;
        let run = Run { block: trial.block, makespan_s, ratio: makespan_s / other.makespan_s? };
        (run.ratio.is_finite() && run.ratio > 0.0).then_some(run)
    };
    kept.iter().filter_map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(arm: &str, block: u32, makespan_s: f64) -> TrialRecord {
        TrialRecord {
            arm: arm.into(),
            block,
            order: block,
            valid: true,
            makespan_s: Some(makespan_s),
            ..TrialRecord::default()
        }
    }

    fn arm(name: &str) -> ArmRecord {
        ArmRecord {
            name: name.into(),
            processes: 1,
            model: name.into(),
            concurrency: 4,
            client: "core".into(),
            ..ArmRecord::default()
        }
    }

    fn study() -> Study {
        let mut study = Study {
            arms: vec![arm("sequential"), arm("async"), arm("threads")],
            trials: vec![
                trial("sequential", 1, 4.0),
                trial("async", 1, 1.0),
                trial("threads", 1, 0.5),
                trial("async", 2, 2.0),
                TrialRecord { valid: false, ..trial("threads", 2, 100.0) },
                TrialRecord { discarded: true, ..trial("async", 0, 9.0) },
            ],
            ..Study::default()
        };
        study.manifest.baseline = "async".into();
        study
    }

    #[test]
    fn invalid_and_discarded_trials_enter_no_picture() {
        let study = study();
        let view = StudyView::new(&study);
        assert_eq!(view.row("threads").unwrap().makespan_s(), Some(0.5));
        let runs = &view.row("threads").unwrap().runs;
        assert_eq!(runs.len(), 1);
        assert_eq!((runs[0].block, runs[0].ratio), (1, 0.5));
    }

    #[test]
    fn without_comparisons_the_medians_still_compare() {
        let study = study();
        let view = StudyView::new(&study);
        assert_eq!(view.baseline().unwrap().ratio.unwrap().value, 1.0);
        let ratio = view.row("sequential").unwrap().ratio.unwrap();
        assert!((ratio.value - 4.0 / 1.5).abs() < 1e-9);
        assert_eq!((ratio.interval, ratio.verdict), (None, None));
    }

    #[test]
    fn the_typical_trial_has_the_median_makespan() {
        let study = Study {
            arms: vec![arm("async")],
            trials: [5.0, 1.0, 3.0, 2.0]
                .iter()
                .zip(0..)
                .map(|(s, block)| trial("async", block, *s))
                .collect(),
            ..Study::default()
        };
        let view = StudyView::new(&study);
        assert_eq!(view.rows[0].typical(|_| true).unwrap().makespan_s, Some(2.0));
        assert!(view.rows[0].typical(|t| !t.memory.is_empty()).is_none());
    }
}
