//! Who finished first and who last, as far as the trials tell.

use std::collections::BTreeMap;

use crate::{
    record::{Study, TrialRecord},
    statistics::{ArmSummary, BLOCKS_NEEDED, BlockRatios, Family, log_ratios, median, summaries},
};

/// A log ratio counts for so many times the median one at most: a block in which something stalled
/// is still a block, but no more than that.
const HEAVIEST: f64 = 2.0;

/// What is known of two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pair {
    /// The first takes less time.
    Faster,
    /// The first takes more time.
    Slower,
    /// The trials do not tell.
    CannotTell,
    /// They have fewer blocks in common than a test needs.
    Untested,
}

/// The arms in the order of their time (start and makespan), and which of them can be told apart.
#[derive(Debug, Clone)]
pub(crate) struct Leaders<'a> {
    /// Every arm that competes: those that lead, then the others, each by rising median.
    pub(crate) ranked: Vec<ArmSummary<'a>>,
    /// So many lead: no other arm is known to be faster.
    pub(crate) tied: usize,
    /// Whether all of those are known to lie within the margin of each other.
    pub(crate) equivalent: bool,
    /// Whether any two arms have blocks enough for a test. Without one, the median alone makes the
    /// order, and only the first leads.
    pub(crate) tested: bool,
    slowest: Option<usize>,
    /// What is known of every two arms, by their places in `ranked`: for tests of the order.
    #[cfg(any(test, feature = "fixture"))]
    pub(crate) pairs: Vec<Vec<Pair>>,
}

impl<'a> Leaders<'a> {
    /// The arm that is known to be slower than every other; where there were too few blocks for a
    /// test, the one that was slower in these trials.
    pub(crate) fn slowest(&self) -> Option<&ArmSummary<'a>> {
        self.ranked.get(self.slowest?)
    }
}

/// Tells every pair of competing arms apart, as far as that goes, by one rule: the sign flips over
/// the family of all pairs. No pair is special, so that nothing depends on the baseline. `None`
/// when no arm competes.
pub(crate) fn leaders(study: &Study) -> Option<Leaders<'_>> {
    leaders_on(study, |trial| Some(trial.start_s.unwrap_or_default() + trial.makespan_s?))
}

/// The same by any figure of which less is better, among the arms that have it.
pub(crate) fn leaders_on(
    study: &Study,
    figure: impl Fn(&TrialRecord) -> Option<f64>,
) -> Option<Leaders<'_>> {
    let by_block = |arm: &ArmSummary<'_>| -> BTreeMap<u32, f64> {
        arm.trials.iter().filter_map(|trial| Some((trial.block, figure(trial)?))).collect()
    };
    let competing = summaries(study).into_iter().filter(ArmSummary::competes);
    let known = competing.map(|arm| (by_block(&arm), arm)).filter(|(times, _)| !times.is_empty());
    let (times, by_median): (Vec<BTreeMap<u32, f64>>, Vec<ArmSummary<'_>>) = known.unzip();
    let medians: Vec<f64> = times
        .iter()
        .map(|times| median(times.values().copied()).unwrap_or(f64::INFINITY))
        .collect();
    let mut places: Vec<usize> = (0..by_median.len()).collect();
    places.sort_by(|a, b| medians[*a].total_cmp(&medians[*b]));
    let known = Known::of(&times, study.analysis.margin);
    // Without a test the range of the trials may still tell.
    let beats = |one: usize, other: usize| match known.pairs[one][other] {
        Pair::Faster => true,
        Pair::Slower | Pair::CannotTell => false,
        Pair::Untested if known.tested => apart(&times[one], &times[other]),
        Pair::Untested => medians[one] < medians[other],
    };
    let mut ranked: Vec<usize> = places
        .iter()
        .copied()
        .filter(|&arm| !places.iter().any(|&other| beats(other, arm)))
        .collect();
    let tied = ranked.len();
    places.retain(|arm| !ranked.contains(arm));
    while !places.is_empty() {
        // None stands before one that beats it, whatever the medians say.
        let free = |arm: &usize| !places.iter().any(|&other| beats(other, *arm));
        let at = places.iter().position(free).unwrap_or(0);
        ranked.push(places.remove(at));
    }
    let first = *ranked.first()?;
    let leading = &ranked[..tied.max(1)];
    let equivalent = leading.iter().all(|&a| leading.iter().all(|&b| known.equivalent[a][b]));
    #[cfg(any(test, feature = "fixture"))]
    let pairs = ranked.iter().map(|&a| ranked.iter().map(|&b| known.pairs[a][b]).collect());
    let slowest = (0..by_median.len())
        .find(|&arm| arm != first && (0..by_median.len()).all(|b| b == arm || beats(b, arm)));
    let slowest = slowest.and_then(|arm| ranked.iter().position(|&at| at == arm));
    #[cfg(any(test, feature = "fixture"))]
    let pairs = pairs.collect();
    let mut arms: Vec<Option<ArmSummary<'_>>> = by_median.into_iter().map(Some).collect();
    let ranked = ranked.into_iter().filter_map(|at| arms[at].take()).collect();
    Some(Leaders {
        ranked,
        tied: tied.max(1),
        equivalent,
        tested: known.tested,
        slowest,
        #[cfg(any(test, feature = "fixture"))]
        pairs,
    })
}

/// Whether every trial of one took less than every trial of the other.
fn apart(one: &BTreeMap<u32, f64>, other: &BTreeMap<u32, f64>) -> bool {
    let longest = one.values().copied().fold(f64::NEG_INFINITY, f64::max);
    other.values().all(|time| *time > longest)
}

/// What is known of every pair, both ways.
struct Known {
    pairs: Vec<Vec<Pair>>,
    equivalent: Vec<Vec<bool>>,
    tested: bool,
}

impl Known {
    fn of(times: &[BTreeMap<u32, f64>], margin: f64) -> Self {
        let count = times.len();
        let mut tested = Vec::new();
        let (mut ratios, mut bounded) = (Vec::new(), Vec::new());
        for one in 0..count {
            for other in one + 1..count {
                let pair = log_ratios(&times[one], &times[other]);
                if pair.len() >= BLOCKS_NEEDED as usize {
                    tested.push((one, other));
                    bounded.push(bound(&pair));
                    ratios.push(pair);
                }
            }
        }
        let mut known = Self {
            pairs: vec![vec![Pair::Untested; count]; count],
            equivalent: (0..count).map(|a| (0..count).map(|b| a == b).collect()).collect(),
            tested: !tested.is_empty(),
        };
        let margin = margin.ln_1p();
        let intervals = Family::new(&ratios).judgements();
        let called = Family::new(&bounded).judgements();
        for ((one, other), (called, interval)) in
            tested.into_iter().zip(called.iter().zip(intervals))
        {
            let lower = called.mean < 0.0;
            let (pair, back) = match (called.called(), lower) {
                (false, _) => (Pair::CannotTell, Pair::CannotTell),
                (true, true) => (Pair::Faster, Pair::Slower),
                (true, false) => (Pair::Slower, Pair::Faster),
            };
            known.pairs[one][other] = pair;
            known.pairs[other][one] = back;
            let inside = interval.low >= -margin && interval.high <= margin;
            known.equivalent[one][other] = inside;
            known.equivalent[other][one] = inside;
        }
        known
    }
}

/// The same log ratios, none further from 0 than [`HEAVIEST`] times the median distance. That is
/// the same for every flip of their signs, so the test stays exact.
fn bound(ratios: &BlockRatios) -> BlockRatios {
    let middle = median(ratios.values().map(|ratio| ratio.abs())).unwrap_or_default();
    let limit = HEAVIEST * middle;
    ratios.iter().map(|(block, ratio)| (*block, ratio.clamp(-limit, limit))).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{
        fixture::{self, StudyBuilder},
        simulated::{Noise, Simulation},
        statistics::normal,
    };

    fn tied(study: &Study) -> (Vec<&str>, bool) {
        let leaders = leaders(study).unwrap();
        let names = leaders.ranked[..leaders.tied].iter();
        (names.map(|arm| arm.arm.name.as_str()).collect(), leaders.equivalent)
    }

    fn slowest(study: &Study) -> Option<&str> {
        leaders(study).unwrap().slowest().map(|arm| arm.arm.name.as_str())
    }

    #[test]
    fn a_clear_winner_stands_alone() {
        let study = fixture::study();
        assert_eq!(tied(&study).0, ["2xasync:16"]);
        // Its three blocks are too few for a test, but none of its trials was near the others'.
        assert_eq!(slowest(&study), Some("sequential"));
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
    fn without_blocks_enough_the_medians_make_the_order() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "threads:32"])
            .slower("threads:32", 3.0)
            .blocks(5)
            .build();
        assert_eq!(tied(&study).0, ["async:32"]);
        let leaders = leaders(&study).unwrap();
        assert_eq!((leaders.tested, leaders.pairs[0][1]), (false, Pair::Untested));
    }

    #[test]
    fn what_fetches_nothing_never_leads() {
        let study = StudyBuilder::new().arms(&["async:32@null", "async:32"]).build();
        assert_eq!(tied(&study).0, ["async:32"]);
        assert!(leaders(&StudyBuilder::new().arms(&["async:32@null"]).build()).is_none());
    }

    #[test]
    fn an_arm_without_a_success_never_competes() {
        let mut study = StudyBuilder::new().arms(&["async:32", "threads:32"]).build();
        for trial in study.trials.iter_mut().filter(|trial| trial.arm == "threads:32") {
            trial.makespan_s = Some(0.001);
            trial.failed = trial.completed;
            trial.completed = 0;
        }
        assert_eq!(leaders(&study).unwrap().ranked.len(), 1);
    }

    #[test]
    fn a_block_that_stalled_hides_no_difference() {
        let mut simulation = Simulation::of_nothing(4, 10, Noise::Normal);
        simulation.arms[2][0] = 1.2;
        for seed in 0..20 {
            let mut study = simulation.study(seed);
            for trial in &mut study.trials {
                if trial.arm == "threads:3" && trial.block == 4 {
                    trial.makespan_s = trial.makespan_s.map(|s| s * 8.0);
                }
            }
            assert_eq!(slowest(&study), Some("threads:3"), "{seed}");
        }
    }

    #[test]
    fn the_baseline_does_not_matter() {
        let mut simulation = Simulation::of_nothing(4, 8, Noise::Bursts);
        simulation.arms[1][0] = 1.1;
        simulation.arms[2][0] = 0.95;
        let mut study = simulation.study(1);
        let said = |study: &Study| {
            let leaders = leaders(study).unwrap();
            let names: Vec<_> = leaders.ranked.iter().map(|arm| arm.arm.name.clone()).collect();
            (names, leaders.tied, leaders.equivalent, leaders.pairs, leaders.slowest)
        };
        let before = said(&study);
        study.manifest.baseline = "threads:3".into();
        assert_eq!(said(&study), before);
    }

    /// Each study may say something false with a chance of 5 %.
    #[test]
    fn leaders_slowest_and_order_are_right() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let (studies, mut wrong, mut told) = (1_000_u32, 0_u32, 0_u32);
        for seed in 0..studies {
            let noise = Noise::ALL[seed as usize % Noise::ALL.len()];
            let mut simulation = Simulation::of_nothing(4, 6 + seed % 5, noise);
            for arm in &mut simulation.arms {
                arm[0] = (0.05 * normal(&mut rng)).exp();
            }
            let study = simulation.study(seed.into());
            wrong += u32::from(simulation.misplaced(&study));
            told += u32::from(leaders(&study).unwrap().slowest().is_some());
        }
        println!("wrong in {wrong} of {studies}; the slowest named in {told}");
        // qbinom(0.95, 1000, 0.05).
        assert!(wrong <= 62, "{wrong} of {studies}");
        assert!(told > studies / 5, "{told}");
    }
}
