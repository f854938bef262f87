//! Who finished first, and who cannot be told from the first.

use crate::{
    record::{PRIMARY, Study, Verdict},
    statistics::{ALPHA, ArmSummary, by_block, log_ratios, summaries},
};

/// The arm with the lowest median makespan, and those that may be as fast.
#[derive(Debug, Clone)]
pub struct Leaders<'a> {
    /// Every arm that competes, by rising median makespan; the first leads.
    pub ranked: Vec<ArmSummary<'a>>,
    /// So many of the ranked cannot be told from the first, itself included.
    pub tied: usize,
    /// Whether all of those are known to lie within the margin of the first.
    pub equivalent: bool,
}

/// Compares every competing arm with the one whose median makespan is lowest, block by block.
///
/// An arm counts as slower than the leader when its interval lies above 1 at a confidence raised
/// for the number of arms (Bonferroni): the leader was picked after the fact, so each of the others
/// gets the benefit of the doubt. `None` when no arm competes.
#[must_use]
pub fn leaders(study: &Study) -> Option<Leaders<'_>> {
    let mut ranked = summaries(study);
    ranked.retain(ArmSummary::competes);
    let first = ranked.first()?;
    let confidence = 1.0 - ALPHA / (ranked.len() - 1).max(1) as f64;
    let leading = by_block(study, &first.arm.name, PRIMARY);
    let margin = study.analysis.margin;
    let (mut behind, mut level, mut equivalent) = (Vec::new(), Vec::new(), true);
    let mut rest = ranked.into_iter();
    level.extend(rest.next());
    for arm in rest {
        let sample = log_ratios(&by_block(study, &arm.arm.name, PRIMARY), &leading);
        let interval = sample.exp_interval(confidence);
        // A verdict on the pair itself, where there is one, is not contradicted.
        let undecided = pair_verdict(study, &level[0], &arm)
            .is_some_and(|verdict| matches!(verdict, Verdict::Inconclusive | Verdict::Equivalent));
        if interval.low.is_some_and(|low| low > 1.0) && !undecided {
            behind.push(arm);
        } else {
            equivalent &= interval.low.is_some_and(|low| low >= 1.0 - margin)
                && interval.high.is_some_and(|high| high <= 1.0 + margin);
            level.push(arm);
        }
    }
    let tied = level.len();
    level.extend(behind);
    Some(Leaders { ranked: level, tied, equivalent })
}

/// The comparison's verdict when one of the two is the baseline.
fn pair_verdict(study: &Study, a: &ArmSummary<'_>, b: &ArmSummary<'_>) -> Option<Verdict> {
    let other = match (a.baseline, b.baseline) {
        (true, false) => b,
        (false, true) => a,
        _ => return None,
    };
    study
        .comparisons
        .iter()
        .find(|c| c.arm == other.arm.name && c.metric == PRIMARY.name)
        .map(|c| c.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, StudyBuilder};

    fn tied(study: &Study) -> (Vec<&str>, bool) {
        let leaders = leaders(study).unwrap();
        let names = leaders.ranked[..leaders.tied].iter();
        (names.map(|arm| arm.arm.name.as_str()).collect(), leaders.equivalent)
    }

    #[test]
    fn a_clear_winner_stands_alone() {
        assert_eq!(tied(&fixture::study()).0, ["2xasync:16"]);
    }

    #[test]
    fn arms_alike_share_the_first_place() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "threads:32", "4xasync:8", "sequential"])
            .slower("4xasync:8", 1.3)
            .noise(0.004)
            .build();
        let (mut names, equivalent) = tied(&study);
        names.sort_unstable();
        assert_eq!((names, equivalent), (vec!["async:32", "threads:32"], true));
    }

    #[test]
    fn one_block_tells_nobody_apart() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "threads:32"])
            .slower("threads:32", 3.0)
            .blocks(1)
            .build();
        assert_eq!(tied(&study), (vec!["async:32", "threads:32"], false));
    }

    #[test]
    fn what_fetches_nothing_never_leads() {
        let study = StudyBuilder::new().arms(&["async:32@null", "async:32"]).build();
        assert_eq!(tied(&study).0, ["async:32"]);
        assert!(leaders(&StudyBuilder::new().arms(&["async:32@null"]).build()).is_none());
    }
}
