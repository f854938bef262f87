//! Who needs least of one thing: the rule for leaders, asked of any metric.

use crate::{
    record::{ArmRecord, Metric, Study, TrialRecord},
    statistics::{ArmSummary, leaders, summaries},
};

/// With fewer blocks no test can call a difference.
const BLOCKS_NEEDED: usize = 6;

/// The arms that compete, by what they need.
#[derive(Debug, Clone)]
pub(crate) struct Contest<'a> {
    /// Every arm with the median of what it needs; those that lead come first.
    pub(crate) ranked: Vec<(&'a ArmRecord, f64)>,
    /// So many lead: no other arm is known to need less.
    pub(crate) tied: usize,
    /// Whether those that lead are known to lie within the margin of one another.
    pub(crate) equivalent: bool,
    /// Whether at least two arms have blocks enough for a test.
    pub(crate) tested: bool,
}

impl<'a> Contest<'a> {
    /// Ranks the arms by a metric of which less is better; `None` where no arm has it.
    pub(crate) fn on(study: &'a Study, metric: &Metric) -> Option<Self> {
        let rows = summaries(study);
        let known = rows.iter().filter(|row| row.competes());
        let known = known.filter_map(|row| Some((row, row.value(metric)?)));
        let known: Vec<(&ArmSummary<'_>, f64)> = known.filter(|(_, value)| *value > 0.0).collect();
        let asked = only(study, metric);
        let leaders = leaders(&asked)?;
        let ranked = leaders.ranked.iter().filter_map(|leader| {
            let of_arm = |(row, _): &&(&ArmSummary<'_>, f64)| row.arm.name == leader.arm.name;
            known.iter().find(of_arm).map(|(row, value)| (row.arm, *value))
        });
        let ranked: Vec<_> = ranked.collect();
        let long = known.iter().filter(|(row, _)| row.trials.len() >= BLOCKS_NEEDED);
        (ranked.len() == leaders.ranked.len()).then(|| Self {
            ranked,
            tied: leaders.tied,
            equivalent: leaders.equivalent,
            tested: long.count() >= 2,
        })
    }

    /// Every arm with what it needs over the least that one needs.
    pub(crate) fn over_least(&self) -> impl Iterator<Item = (&'a ArmRecord, f64)> {
        let least = self.ranked.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        self.ranked.iter().map(move |(arm, value)| (*arm, value / least))
    }

    /// Whether another arm is known to need less than this one.
    pub(crate) fn trails(&self, arm: &str) -> bool {
        self.tested && self.ranked.iter().skip(self.tied).any(|(behind, _)| behind.name == arm)
    }
}

/// The study with the metric in the place of the time.
fn only(study: &Study, metric: &Metric) -> Study {
    let trials = study.trials.iter().map(|trial| TrialRecord {
        arm: trial.arm.clone(),
        block: trial.block,
        order: trial.order,
        discarded: trial.discarded,
        degraded: trial.degraded,
        valid: trial.valid,
        completed: trial.completed,
        failed: trial.failed,
        abandoned: trial.abandoned,
        start_s: Some(0.0),
        makespan_s: (metric.of)(trial).filter(|value| *value > 0.0),
        ..TrialRecord::default()
    });
    Study {
        manifest: study.manifest.clone(),
        arms: study.arms.clone(),
        trials: trials.collect(),
        analysis: study.analysis.clone(),
        ..Study::default()
    }
}
