//! Every arm against the baseline.

use std::collections::BTreeMap;

use crate::{
    format,
    record::{
        Analysis, ArmRecord, Comparison, ControlOutcome, ControlRecord, Direction, Metric, Outcome,
        PRIMARY, Size, Study, Verdict,
    },
    statistics::{
        ALPHA, BLOCKS_NEEDED, BlockRatios, CONFIDENCE, Family, Judgement, POWER, Sample, by_block,
        log_ratios, scales, usable_by_block,
    },
};

/// A comparison that is tested.
struct Question {
    /// Where it stands among the comparisons.
    at: usize,
    ratios: BlockRatios,
}

/// Compares every arm with the baseline on every metric, and says what the
/// comparisons could have seen.
pub(crate) fn compare(study: &Study, margin: f64) -> (Vec<Comparison>, Analysis) {
    let baseline = study.manifest.baseline.as_str();
    let values: BTreeMap<&str, Vec<BTreeMap<u32, f64>>> = study
        .arms
        .iter()
        .map(|arm| (arm.name.as_str(), values_by_block(study, &arm.name)))
        .collect();
    let mut comparisons = Vec::new();
    let (mut questions, mut of_control) = (Vec::new(), Vec::new());
    if let Some(base) = values.get(baseline) {
        for arm in study.arms.iter().filter(|arm| arm.name != baseline) {
            let own = &values[arm.name.as_str()];
            for (metric, (own, base)) in Metric::compared().zip(own.iter().zip(base)) {
                let ratios = log_ratios(own, base);
                if ratios.is_empty() {
                    continue;
                }
                let comparison = estimate(arm, baseline, metric, &ratios);
                let asked = comparison.outcome.is_some() || metric.name == PRIMARY.name;
                if asked && arm.fetches() && comparison.blocks >= BLOCKS_NEEDED {
                    let question = Question { at: comparisons.len(), ratios };
                    if arm.control { &mut of_control } else { &mut questions }.push(question);
                }
                comparisons.push(comparison);
            }
        }
    }

    let smallest_effect = judge(&mut comparisons, &questions, margin);
    // Whether the baseline differs from itself is no question about arms: it has a family of its
    // own.
    judge(&mut comparisons, &of_control, margin);

    let mut arms: Vec<&str> = questions.iter().map(|q| comparisons[q.at].arm.as_str()).collect();
    arms.dedup();
    let analysis = Analysis {
        margin,
        confidence: CONFIDENCE,
        tested: count(arms.len()),
        blocks: questions.iter().map(|q| comparisons[q.at].blocks).min().unwrap_or(0),
        blocks_needed: BLOCKS_NEEDED,
        smallest_effect,
        control: control(study, &comparisons, margin),
    };
    (comparisons, analysis)
}

/// An arm's usable figures by block, one map per metric.
fn values_by_block(study: &Study, arm: &str) -> Vec<BTreeMap<u32, f64>> {
    let trials = usable_by_block(study, arm);
    Metric::compared()
        .map(|metric| {
            trials.iter().filter_map(|(block, trial)| Some((*block, (metric.of)(trial)?))).collect()
        })
        .collect()
}

fn estimate(arm: &ArmRecord, baseline: &str, metric: &Metric, ratios: &BlockRatios) -> Comparison {
    let ratio = Sample::from(ratios).exp_interval(CONFIDENCE);
    Comparison {
        arm: arm.name.clone(),
        baseline: baseline.to_owned(),
        metric: metric.name.to_owned(),
        blocks: count(ratios.len()),
        ratio: ratio.value,
        ci_low: ratio.low,
        ci_high: ratio.high,
        outcome: Outcome::of(metric.name),
        ..Comparison::default()
    }
}

/// One arm against another on one metric: a question of its own. `None` without a block in which
/// both have a figure.
pub(crate) fn compare_pair(
    study: &Study,
    arm: &ArmRecord,
    other: &ArmRecord,
    metric: &Metric,
    margin: f64,
) -> Option<Comparison> {
    let of = |arm: &ArmRecord| by_block(study, &arm.name, metric);
    let ratios = log_ratios(&of(arm), &of(other));
    if ratios.is_empty() {
        return None;
    }
    let mut comparison = estimate(arm, &other.name, metric, &ratios);
    if comparison.blocks >= BLOCKS_NEEDED {
        let judgements = Family::new(std::slice::from_ref(&ratios)).judgements();
        comparison.conclude(judgements.first()?, margin);
    }
    Some(comparison)
}

/// Tests a family of comparisons and judges each. Returns the smallest difference in time that
/// would have been called in so many studies as [`POWER`] says, whichever arm has it.
fn judge(comparisons: &mut [Comparison], questions: &[Question], margin: f64) -> Option<f64> {
    if questions.is_empty() {
        return None;
    }
    let ratios: Vec<BlockRatios> = questions.iter().map(|q| q.ratios.clone()).collect();
    let family = Family::new(&ratios);
    let judgements = family.judgements();
    for (question, judgement) in questions.iter().zip(&judgements) {
        comparisons[question.at].conclude(judgement, margin);
    }
    let metric = |at: usize| comparisons[questions[at].at].metric.as_str();
    let asked: Vec<usize> = (0..questions.len())
        .filter(|at| [Outcome::Time.metric(), PRIMARY.name].contains(&metric(*at)))
        .collect();
    let thresholds = family.thresholds(&judgements, &asked);
    // Without the start there is no more than the makespan.
    let smallest_effect = [Outcome::Time.metric(), PRIMARY.name].into_iter().find_map(|wanted| {
        let all = asked.iter().zip(&thresholds).filter(|(at, _)| metric(**at) == wanted);
        let (of, thresholds): (Vec<usize>, Vec<&Vec<f64>>) = all.unzip();
        found_by_most(thresholds.into_iter().flatten(), family.degrees(&of))
    });
    for (at, thresholds) in asked.iter().zip(&thresholds) {
        comparisons[questions[*at].at].smallest_effect =
            found_by_most(thresholds, family.degrees(&[*at]));
    }
    smallest_effect
}

/// What [`POWER`] of the numbers reach at most, as a ratio. They are made with a variance that is
/// known with so many degrees of freedom, so that the true one may be larger or smaller.
fn found_by_most<'a>(numbers: impl IntoIterator<Item = &'a f64>, degrees: f64) -> Option<f64> {
    let scales = scales(degrees);
    let numbers = numbers.into_iter().flat_map(|number| scales.map(|scale| scale * *number));
    let mut numbers: Vec<f64> = numbers.collect();
    let share = POWER * numbers.len() as f64;
    let at = (0..numbers.len()).find(|at| (at + 1) as f64 >= share)?;
    let (_, number, _) = numbers.select_nth_unstable_by(at, f64::total_cmp);
    Some(number.exp()).filter(|ratio| ratio.is_finite())
}

impl Comparison {
    /// Fills in what a test says.
    fn conclude(&mut self, judgement: &Judgement, margin: f64) {
        let margin = margin.ln_1p();
        let direction = match (judgement.called(), self.ratio < 1.0) {
            (false, _) => Direction::CannotTell,
            (true, true) => Direction::Less,
            (true, false) => Direction::More,
        };
        let size = if judgement.low >= -margin && judgement.high <= margin {
            Size::Negligible
        } else if judgement.low > margin || judgement.high < -margin {
            Size::Relevant
        } else {
            Size::Unsure
        };
        self.p_value = Some(judgement.p_value);
        self.p_adjusted = Some(judgement.p_adjusted);
        self.family_low = Some(judgement.low.exp()).filter(|low| *low > 0.0);
        self.family_high = Some(judgement.high.exp()).filter(|high| high.is_finite());
        self.direction = Some(direction);
        self.size = Some(size);
        if self.metric == PRIMARY.name {
            self.verdict = match (size, direction) {
                (Size::Negligible, _) => Verdict::Equivalent,
                (_, Direction::Less) => Verdict::Faster,
                (_, Direction::More) => Verdict::Slower,
                (_, Direction::CannotTell) => Verdict::Inconclusive,
            };
        }
    }
}

/// The control against the baseline.
fn control(study: &Study, comparisons: &[Comparison], margin: f64) -> Option<ControlRecord> {
    let arm = study.arms.iter().find(|arm| arm.control)?;
    let on = |metric: &str| comparisons.iter().find(|c| c.arm == arm.name && c.metric == metric);
    let makespan = on(PRIMARY.name)?;
    let outcomes = Outcome::ALL.into_iter().filter_map(|outcome| {
        let comparison = on(outcome.metric())?;
        let called = comparison.p_adjusted.map(|p| p < ALPHA);
        Some(ControlOutcome { outcome, ratio: comparison.interval(), called })
    });
    // Without the start there is no more than the makespan.
    let time = on(Outcome::Time.metric()).unwrap_or(makespan);
    let too_noisy =
        time.half_width().filter(|half| *half > 1.0 + margin && time.blocks >= BLOCKS_NEEDED);
    Some(ControlRecord {
        ratio: makespan.interval(),
        half_width: makespan.half_width(),
        too_noisy: too_noisy.map(|half| {
            format!(
                "This machine was too noisy to tell whether a difference in time is within \
                 ±{}: the baseline, run twice, is known to ±{} only.",
                format::percent(margin),
                format::percent(half - 1.0),
            )
        }),
        outcomes: outcomes.collect(),
    })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng as _, seq::SliceRandom as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{
        fixture::{self, StudyBuilder},
        simulated::{Noise, Simulation},
        statistics::false_positives,
    };

    fn on<'a>(study: &'a Study, arm: &str, metric: &str) -> &'a Comparison {
        study.comparisons.iter().find(|c| c.arm == arm && c.metric == metric).unwrap()
    }

    fn primary<'a>(study: &'a Study, arm: &str) -> &'a Comparison {
        on(study, arm, PRIMARY.name)
    }

    fn compared(mut study: Study) -> Study {
        (study.comparisons, study.analysis) = compare(&study, 0.05);
        study
    }

    /// A study of arms with these ratios in every outcome.
    fn simulated(seed: u64, ratios: &[f64], blocks: u32) -> Study {
        let arms = ratios.iter().map(|ratio| [*ratio; 4]).collect();
        let nothing = Simulation::of_nothing(0, blocks, Noise::Normal);
        compared(Simulation { arms, ..nothing }.study(seed))
    }

    #[test]
    fn the_baseline_against_itself_is_called_different_in_at_most_one_study_of_twenty() {
        let simulation = Simulation::of_nothing(0, 6, Noise::Bursts);
        let studies: Vec<Study> = (0..200).map(|seed| compared(simulation.study(seed))).collect();
        for outcome in Outcome::ALL {
            let of = |study| on(study, "async:32 (again)", outcome.metric()).p_adjusted;
            let found = false_positives(studies.iter().map(of));
            assert_eq!(found.studies, 200);
            assert!(!found.too_many(), "{outcome:?}: {found:?}");
        }
    }

    #[test]
    fn a_tenth_more_is_found() {
        for seed in 0..8 {
            let study = simulated(seed, &[1.1, 1.0], 8);
            let time = on(&study, "threads:1", "total_s");
            assert_eq!(time.direction, Some(Direction::More), "{seed}");
            assert!(time.family_low.unwrap() > 1.0, "{time:?}");
            assert_eq!(primary(&study, "threads:1").verdict, Verdict::Slower);
        }
    }

    #[test]
    fn few_blocks_give_intervals_only() {
        let study = simulated(1, &[2.0], 5);
        for c in &study.comparisons {
            assert_eq!((c.verdict, c.p_value, c.p_adjusted), (Verdict::Estimate, None, None));
            assert_eq!((c.direction, c.size, c.smallest_effect), (None, None, None));
            assert_eq!((c.family_low, c.family_high), (None, None));
        }
        assert!(primary(&study, "threads:1").ci_low.unwrap() > 1.5);
        assert_eq!((study.analysis.tested, study.analysis.smallest_effect), (0, None));
        // Six are enough, however many arms there are.
        let study = simulated(1, &[2.0; 9], 6);
        assert_eq!(study.analysis.tested, 9);
        for arm in 0..9 {
            let c = primary(&study, &Simulation::arm(arm));
            assert_eq!((c.verdict, c.p_value), (Verdict::Slower, Some(2.0 / 64.0)));
        }
    }

    #[test]
    fn an_arm_with_too_few_blocks_is_not_tested_beside_others() {
        let mut study = Simulation::of_nothing(2, 8, Noise::Normal).study(3);
        study.trials.retain(|trial| trial.arm != "threads:1" || trial.block <= 3);
        study.trials.retain(|trial| trial.arm != "threads:2" || trial.block != 5);
        let study = compared(study);
        assert_eq!(primary(&study, "threads:1").p_value, None);
        assert!(primary(&study, "threads:2").p_value.is_some());
        assert_eq!((study.analysis.tested, study.analysis.blocks), (1, 7));
    }

    #[test]
    fn a_small_difference_that_is_proven_has_a_direction_and_is_negligible() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "threads:32"])
            .slower("threads:32", 1.02)
            .noise(0.002)
            .build();
        let c = primary(&study, "threads:32");
        assert_eq!((c.direction, c.size), (Some(Direction::More), Some(Size::Negligible)));
        assert_eq!(c.verdict, Verdict::Equivalent);
    }

    #[test]
    fn the_margin_is_the_same_both_ways() {
        let size = |low: f64, high: f64| {
            let judgement = Judgement {
                mean: 0.0,
                p_value: 1.0,
                p_adjusted: 1.0,
                low: low.ln(),
                high: high.ln(),
            };
            let mut comparison = Comparison::default();
            comparison.conclude(&judgement, 0.25);
            comparison.size.unwrap()
        };
        assert_eq!(size(0.81, 1.24), Size::Negligible);
        assert_eq!(size(0.79, 1.24), Size::Unsure);
        assert_eq!(size(0.81, 1.26), Size::Unsure);
        assert_eq!(size(1.26, 2.0), Size::Relevant);
        assert_eq!(size(0.3, 0.79), Size::Relevant);
        assert_eq!(size(0.3, 0.81), Size::Unsure);
        assert_eq!(size(0.5, 2.0), Size::Unsure);
    }

    #[test]
    fn memory_that_never_varies_is_judged_all_the_same() {
        let mut study = Simulation::of_nothing(2, 6, Noise::Normal).study(1);
        for trial in &mut study.trials {
            trial.memory_peak_bytes = Some(if trial.arm == "threads:1" { 3000 } else { 1000 });
        }
        let study = compared(study);
        let more = on(&study, "threads:1", "memory_peak_bytes");
        assert_eq!((more.direction, more.size), (Some(Direction::More), Some(Size::Relevant)));
        assert!((more.family_low.unwrap() - 3.0).abs() < 1e-6, "{more:?}");
        let same = on(&study, "threads:2", "memory_peak_bytes");
        assert_eq!(
            (same.direction, same.size),
            (Some(Direction::CannotTell), Some(Size::Negligible))
        );
        assert_eq!(same.p_adjusted, Some(1.0));
    }

    #[test]
    fn a_control_beyond_the_margin_is_told_and_one_that_differs_a_little_is_not() {
        let mut study = Simulation::of_nothing(1, 10, Noise::Normal).study(5);
        let control = |study: &Study| compared(study.clone()).analysis.control.unwrap();
        for trial in &mut study.trials {
            if trial.arm == "async:32 (again)" {
                trial.makespan_s = trial.makespan_s.map(|s| s * 1.2);
            }
        }
        let differs = control(&study);
        assert!(differs.ratio.low.unwrap() > 1.0 && differs.too_noisy.is_none());
        assert_eq!(differs.outcomes.len(), 4);
        assert_eq!(differs.outcomes[0].called, Some(true));
        assert_eq!(differs.outcomes[2].called, Some(false));
        for trial in &mut study.trials {
            if trial.arm == "async:32 (again)" {
                let factor = if trial.block % 2 == 0 { 1.3 } else { 1.0 / 1.3 };
                trial.makespan_s = trial.makespan_s.map(|s| s * factor);
            }
        }
        let text = control(&study).too_noisy.unwrap();
        assert!(text.contains("within ±5.0 %: the baseline, run twice, is known to ±"), "{text}");
    }

    #[test]
    fn a_client_that_fetches_nothing_is_estimated_not_judged() {
        let study = StudyBuilder::new().arms(&["async:32", "async:32@null", "threads:32"]).build();
        let null = primary(&study, "async:32@null");
        assert_eq!((null.verdict, null.p_value), (Verdict::Estimate, None));
        assert_eq!(study.analysis.tested, 1);
    }

    #[test]
    fn other_metrics_are_estimates() {
        let study = fixture::study();
        let of = |metric: &str| on(&study, "32xsequential", metric);
        let pss = of("pss_peak_bytes");
        assert_eq!((pss.verdict, pss.direction, pss.p_value), (Verdict::Estimate, None, None));
        assert!(pss.ratio > 10.0);
        let (requests, makespan) = (of("requests_per_s"), of("makespan_s"));
        assert!((requests.ratio * makespan.ratio - 1.0).abs() < 1e-9);
        assert_eq!(makespan.verdict, Verdict::Slower);
        let memory = of("memory_peak_bytes");
        assert_eq!(memory.outcome, Some(Outcome::Memory));
        assert_eq!((memory.direction, memory.size), (Some(Direction::More), Some(Size::Relevant)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn any_order_of_arrival_gives_the_same_answer(seed in any::<u64>()) {
            let study = simulated(seed % 7, &[1.1, 0.9], 8);
            let mut shuffled = study.clone();
            shuffled.trials.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(compare(&study, 0.05), compare(&shuffled, 0.05));
        }

        #[test]
        fn interval_and_direction_never_contradict_each_other(
            seed in any::<u64>(),
            ratios in prop::collection::vec(0.9..1.1f64, 1..5),
            blocks in 6..9u32,
        ) {
            for c in &simulated(seed, &ratios, blocks).comparisons {
                let Some(direction) = c.direction else { continue };
                let (low, high) = (c.family_low.unwrap(), c.family_high.unwrap());
                prop_assert!(low <= c.ratio && c.ratio <= high, "{:?}", c);
                match direction {
                    Direction::Less => prop_assert!(high < 1.0, "{:?}", c),
                    Direction::More => prop_assert!(low > 1.0, "{:?}", c),
                    Direction::CannotTell => prop_assert!(low <= 1.0 && 1.0 <= high, "{:?}", c),
                }
                prop_assert!(c.p_value <= c.p_adjusted && (direction == Direction::CannotTell) == (c.p_adjusted.unwrap() >= ALPHA));
            }
        }
    }
}
