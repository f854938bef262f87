//! What the page shows of a study: its arms in one order, with what the
//! sections draw. Every section takes its figures from here, so no two disagree.

use super::{identity::Identity, svg::plot::LineEnd};
use crate::{
    record::{ArmRecord, Study, TrialRecord},
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
}

impl<'a> StudyView<'a> {
    pub(super) fn new(study: &'a Study) -> Self {
        let identities = Identity::of_all(&study.arms);
        let row = |summary: ArmSummary<'a>| {
            let id = study.arms.iter().position(|arm| std::ptr::eq(arm, summary.arm))?;
            Some(ArmRow { id, identity: *identities.get(id)?, summary })
        };
        let rows = summaries(study).into_iter().filter_map(row).collect();
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
