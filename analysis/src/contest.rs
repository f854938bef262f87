//! Who needs least of one thing: the rule for leaders, asked of any metric.

use crate::{
    record::{ArmRecord, Metric, Study},
    statistics::leaders_on,
};

/// The arms that compete, by what they need.
#[derive(Debug, Clone)]
pub(crate) struct Contest<'a> {
    /// Every arm with the median of what it needs; those that lead come first.
    pub(crate) ranked: Vec<(&'a ArmRecord, f64)>,
    /// So many lead: no other arm is known to need less.
    pub(crate) tied: usize,
    /// Whether those that lead are known to lie within the margin of one another.
    pub(crate) equivalent: bool,
    /// Whether any two arms have blocks enough for a test.
    pub(crate) tested: bool,
}

impl<'a> Contest<'a> {
    /// Ranks the arms by a metric of which less is better; `None` where no arm has it.
    pub(crate) fn on(study: &'a Study, metric: &Metric) -> Option<Self> {
        let leaders = leaders_on(study, |trial| (metric.of)(trial).filter(|value| *value > 0.0))?;
        let ranked = leaders
            .ranked
            .iter()
            .map(|row| Some((row.arm, row.value(metric).filter(|value| *value > 0.0)?)));
        Some(Self {
            ranked: ranked.collect::<Option<_>>()?,
            tied: leaders.tied,
            equivalent: leaders.equivalent,
            tested: leaders.tested,
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
