//! Every arm against the baseline.

use std::collections::BTreeMap;

use crate::{
    format,
    record::{
        Analysis, ArmRecord, Comparison, ControlRecord, Metric, Outcome, PRIMARY, Study, Verdict,
    },
    statistics::{ALPHA, CONFIDENCE, Sample, blocks_needed, holm, log_ratios, usable_by_block},
};

/// The primary metric's log ratios of one arm.
struct Tested {
    /// Where its comparison stands.
    at: usize,
    sample: Sample,
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
    let mut tested = Vec::new();
    let mut control = None;
    let one = blocks_needed(1, ALPHA) as usize;
    if let Some(base) = values.get(baseline) {
        for arm in study.arms.iter().filter(|arm| arm.name != baseline) {
            let own = &values[arm.name.as_str()];
            for (metric, (own, base)) in Metric::compared().zip(own.iter().zip(base)) {
                let sample = log_ratios(own, base);
                if sample.is_empty() {
                    continue;
                }
                comparisons.push(estimate(arm, baseline, metric, &sample));
                if metric.name == PRIMARY.name && arm.fetches() {
                    let entry = Tested { at: comparisons.len() - 1, sample };
                    if arm.control {
                        control = Some(entry);
                    } else if entry.sample.len() >= one {
                        tested.push(entry);
                    }
                }
            }
        }
    }

    // The control is a question of its own: it stands outside the family.
    judge(&mut comparisons, &tested, margin);
    if let Some(control) = control.as_ref().filter(|c| c.sample.len() >= one) {
        judge(&mut comparisons, std::slice::from_ref(control), margin);
    }

    let mut analysis = Analysis {
        margin,
        confidence: CONFIDENCE,
        tested: count(tested.len()),
        blocks: count(tested.iter().map(|t| t.sample.len()).min().unwrap_or(0)),
        blocks_needed: blocks_needed(count(tested.len()), ALPHA),
        smallest_effect: typical_effect(&tested),
        control: None,
    };
    analysis.control = control.map(|c| conclude_control(&c.sample, &comparisons, &tested));
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

fn estimate(arm: &ArmRecord, baseline: &str, metric: &Metric, sample: &Sample) -> Comparison {
    let ratio = sample.exp_interval(CONFIDENCE);
    Comparison {
        arm: arm.name.clone(),
        baseline: baseline.to_owned(),
        metric: metric.name.to_owned(),
        blocks: count(sample.len()),
        ratio: ratio.value,
        ci_low: ratio.low,
        ci_high: ratio.high,
        p_value: None,
        p_adjusted: None,
        verdict: Verdict::Estimate,
        smallest_effect: None,
        outcome: Outcome::of(metric.name),
        ..Comparison::default()
    }
}

/// Tests a family of comparisons, adjusts for their number, and judges each.
fn judge(comparisons: &mut [Comparison], family: &[Tested], margin: f64) {
    let p_values: Vec<f64> = family.iter().map(|t| t.sample.p_value()).collect();
    let adjusted = holm::adjust(&p_values);
    for (tested, (p_value, p_adjusted)) in family.iter().zip(p_values.iter().zip(adjusted)) {
        let comparison = &mut comparisons[tested.at];
        comparison.p_value = Some(*p_value);
        comparison.p_adjusted = Some(p_adjusted);
        comparison.verdict = verdict(comparison, p_adjusted, margin);
        comparison.smallest_effect = smallest_effect(&tested.sample, family.len());
    }
}

fn verdict(comparison: &Comparison, p_adjusted: f64, margin: f64) -> Verdict {
    let inside = |bound: Option<f64>| {
        bound.is_some_and(|ratio| (1.0 - margin..=1.0 + margin).contains(&ratio))
    };
    if inside(comparison.ci_low) && inside(comparison.ci_high) {
        Verdict::Equivalent
    } else if p_adjusted < ALPHA {
        if comparison.ratio < 1.0 { Verdict::Faster } else { Verdict::Slower }
    } else {
        Verdict::Inconclusive
    }
}

/// As a ratio above 1, at the level that Holm asks of the smallest p-value;
/// `None` where the test can call nothing with so few blocks.
fn smallest_effect(sample: &Sample, family: usize) -> Option<f64> {
    if sample.len() < blocks_needed(count(family), ALPHA) as usize {
        return None;
    }
    let effect = sample.smallest_effect(ALPHA / family.max(1) as f64)?;
    Some(effect.exp())
}

/// What the study as a whole could have seen: the root mean square of its
/// comparisons' effects, so that the noise of all arms counts.
fn typical_effect(tested: &[Tested]) -> Option<f64> {
    let squares: Vec<f64> = tested
        .iter()
        .filter_map(|t| Some(smallest_effect(&t.sample, tested.len())?.ln().powi(2)))
        .collect();
    (!squares.is_empty()).then(|| {
        let mean = squares.iter().sum::<f64>() / squares.len() as f64;
        mean.sqrt().exp()
    })
}

/// Whether the baseline differed from itself, or was too unsteady for the
/// smallest difference that is called.
fn conclude_control(
    sample: &Sample,
    comparisons: &[Comparison],
    tested: &[Tested],
) -> ControlRecord {
    let ratio = sample.exp_interval(CONFIDENCE);
    let half_width = sample.half_width(CONFIDENCE).map(f64::exp);
    let claim = tested
        .iter()
        .map(|t| &comparisons[t.at])
        .filter(|c| matches!(c.verdict, Verdict::Faster | Verdict::Slower))
        .map(|c| c.ratio.ln().abs())
        .min_by(f64::total_cmp)
        .map(f64::exp);
    let too_noisy = match (ratio.low, ratio.high, half_width) {
        (Some(low), Some(high), _) if low > 1.0 || high < 1.0 => {
            let noise = high.max(1.0 / low);
            let claims = match claim {
                Some(claim) if claim > noise => format!(
                    " The smallest difference called here, {}, is larger.",
                    format::percent(claim - 1.0)
                ),
                Some(claim) => format!(
                    " The smallest difference called here is {}.",
                    format::percent(claim - 1.0)
                ),
                None => String::new(),
            };
            Some(format!(
                "This machine was too noisy for claims of differences below {}: the baseline, run \
                 twice, took {} of its own time (95 % interval {}).{claims} By chance alone this \
                 happens in 1 study of 20.",
                format::percent(noise - 1.0),
                format::ratio(ratio.value),
                format::ratio_interval(low, high),
            ))
        }
        (_, _, Some(half)) if claim.is_some_and(|claim| half > claim) => Some(format!(
            "This machine was too noisy for these claims: the baseline, run twice, is known to \
             ±{} only, and the smallest difference called is {}.",
            format::percent(half - 1.0),
            format::percent(claim.unwrap_or(1.0) - 1.0),
        )),
        _ => None,
    };
    ControlRecord { ratio, half_width, too_noisy }
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
        fixture::{self, StudyBuilder, normal},
        record::{Manifest, TrialRecord},
        statistics::false_positives,
    };

    fn primary<'a>(study: &'a Study, arm: &str) -> &'a Comparison {
        study.comparisons.iter().find(|c| c.arm == arm && c.metric == PRIMARY.name).unwrap()
    }

    /// A study of arms with these true ratios to the first, and its A/A
    /// control: drift within and between blocks, and heavy tails.
    fn simulated(seed: u64, ratios: &[f64], blocks: u32, noise: f64) -> Study {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let arm = |name: String, control: bool| ArmRecord { name, control, ..ArmRecord::default() };
        let mut arms: Vec<ArmRecord> =
            (0..ratios.len()).map(|i| arm(format!("arm{i}"), false)).collect();
        arms.push(arm("arm0 (again)".into(), true));
        let mut trials = Vec::new();
        let mut drift = 0.0;
        for block in 1..=blocks {
            let block_effect = 0.05 * normal(&mut rng);
            let mut order: Vec<usize> = (0..arms.len()).collect();
            order.shuffle(&mut rng);
            for place in order {
                // Autocorrelated from trial to trial, with a trend.
                drift = 0.8 * drift + 0.5 * noise * normal(&mut rng) + 0.0005;
                // Student's t with three degrees of freedom, scaled to variance 1.
                let chi: f64 = (0..3).map(|_| normal(&mut rng).powi(2)).sum();
                let tail = normal(&mut rng) / (chi / 3.0).sqrt() / 3f64.sqrt();
                // Now and then something else runs on the machine.
                let burst = if rng.random::<f64>() < 0.02 { 0.2 } else { 0.0 };
                let log = block_effect + drift + noise * tail + burst;
                let ratio = ratios.get(place).copied().unwrap_or(1.0);
                trials.push(TrialRecord {
                    arm: arms[place].name.clone(),
                    block,
                    order: count(trials.len()),
                    valid: true,
                    makespan_s: Some(ratio * log.exp()),
                    ..TrialRecord::default()
                });
            }
        }
        Study {
            manifest: Manifest { baseline: "arm0".into(), ..Manifest::default() },
            arms,
            trials,
            ..Study::default()
        }
    }

    fn compared(mut study: Study) -> Study {
        (study.comparisons, study.analysis) = compare(&study, 0.05);
        study
    }

    #[test]
    fn a_study_of_nothing_calls_a_difference_in_at_most_one_of_twenty() {
        let noise = [0.01, 0.04, 0.1];
        for (series, noise) in noise.into_iter().enumerate() {
            let control = (0..400).map(|i| {
                let study = compared(simulated(1_000 * series as u64 + i, &[1.0], 10, noise));
                primary(&study, "arm0 (again)").verdict
            });
            let found = false_positives(control);
            assert_eq!(found.studies, 400);
            println!(
                "A/A, noise {noise}: {} of {} called, {} allowed",
                found.called, found.studies, found.allowed
            );
            assert!(!found.too_many(), "noise {noise}: {found:?}");
        }
    }

    #[test]
    fn six_arms_without_a_difference_are_called_in_at_most_one_study_of_twenty() {
        let any_call = (0..200).map(|seed| {
            let study = compared(simulated(5_000 + seed, &[1.0; 7], 10, 0.05));
            assert_eq!(study.analysis.tested, 6);
            (1..7)
                .map(|i| primary(&study, &format!("arm{i}")).verdict)
                .find(|verdict| matches!(verdict, Verdict::Faster | Verdict::Slower))
                .unwrap_or(Verdict::Inconclusive)
        });
        let found = false_positives(any_call);
        println!(
            "six arms alike: any call in {} of {} studies, {} allowed",
            found.called, found.studies, found.allowed
        );
        assert!(!found.too_many(), "{found:?}");
    }

    #[test]
    fn a_tenth_more_time_is_found() {
        let studies = 200;
        let found = (0..studies)
            .filter(|&seed| {
                let study = compared(simulated(9_000 + seed, &[1.0, 1.1], 10, 0.02));
                primary(&study, "arm1").verdict == Verdict::Slower
            })
            .count();
        println!("10 % slower: found in {found} of {studies}");
        assert!(found as f64 >= 0.95 * studies as f64, "{found} of {studies}");
    }

    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        let studies = 1_000_u32;
        let covered = (0..studies)
            .filter(|&seed| {
                let study = compared(simulated(seed.into(), &[1.0, 1.3], 10, 0.03));
                let c = primary(&study, "arm1");
                c.ci_low.unwrap() <= 1.3 && 1.3 <= c.ci_high.unwrap()
            })
            .count();
        println!("95 % intervals: {covered} of {studies} hold the truth");
        // 95 % less three standard deviations of a binomial count: 929.3. Heavy
        // tails make the t-interval wider than needed, never much narrower.
        assert!((930..=985).contains(&covered), "{covered}");
    }

    #[test]
    fn the_smallest_effect_is_found_in_about_four_of_five_studies() {
        let studies = 300;
        let mut found = 0;
        for seed in 0..studies {
            let effect =
                compared(simulated(seed, &[1.0, 1.0], 10, 0.04)).analysis.smallest_effect.unwrap();
            // The effect is estimated anew in each study, so it varies itself.
            let study = compared(simulated(20_000 + seed, &[1.0, effect], 10, 0.04));
            found += u32::from(primary(&study, "arm1").p_adjusted.unwrap() < ALPHA);
        }
        let share = f64::from(found) / studies as f64;
        println!("smallest effect: found in {found} of {studies}");
        assert!((0.65..0.93).contains(&share), "{share}");
    }

    #[test]
    fn few_blocks_give_intervals_only() {
        let study = compared(simulated(1, &[1.0, 2.0], 5, 0.01));
        let c = primary(&study, "arm1");
        assert_eq!((c.verdict, c.p_value), (Verdict::Estimate, None));
        assert!(c.ci_low.unwrap() > 1.5 && c.smallest_effect.is_none());
        let study = compared(simulated(1, &[1.0, 2.0], 6, 0.01));
        assert_eq!(primary(&study, "arm1").verdict, Verdict::Slower);
        // With six arms, six blocks cannot call anything.
        let study = compared(simulated(1, &[1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], 6, 0.01));
        assert_eq!(primary(&study, "arm1").verdict, Verdict::Inconclusive);
        assert_eq!(study.analysis.blocks_needed, 8);
        assert_eq!(study.analysis.smallest_effect, None);
    }

    #[test]
    fn a_narrow_interval_inside_the_margin_is_equivalent_even_when_significant() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "threads:32"])
            .slower("threads:32", 1.02)
            .noise(0.002)
            .build();
        let c = primary(&study, "threads:32");
        assert!(c.p_adjusted.unwrap() < ALPHA);
        assert_eq!(c.verdict, Verdict::Equivalent);
    }

    #[test]
    fn a_control_that_differs_from_itself_is_told() {
        let mut study = simulated(4, &[1.0, 1.5], 10, 0.01);
        for trial in &mut study.trials {
            if trial.arm == "arm0 (again)" {
                trial.makespan_s = trial.makespan_s.map(|s| s * 1.3);
            }
        }
        let text = compared(study).analysis.control.unwrap().too_noisy.unwrap();
        assert!(text.contains("took 1.31× of its own time"), "{text}");
    }

    #[test]
    fn a_control_less_steady_than_the_smallest_claim_is_told() {
        let mut study = simulated(5, &[1.0, 1.08], 10, 0.005);
        for trial in &mut study.trials {
            if trial.arm == "arm0 (again)" {
                let sign = if trial.block % 2 == 0 { 1.3 } else { 1.0 / 1.3 };
                trial.makespan_s = trial.makespan_s.map(|s| s * sign);
            }
        }
        let text = compared(study).analysis.control.unwrap().too_noisy.unwrap();
        assert!(text.contains("the smallest difference called is"), "{text}");
    }

    #[test]
    fn a_client_that_fetches_nothing_is_estimated_not_judged() {
        let study = StudyBuilder::new().arms(&["async:32", "async:32@null", "threads:32"]).build();
        let null = primary(&study, "async:32@null");
        assert_eq!((null.verdict, null.p_value), (Verdict::Estimate, None));
        assert_eq!(study.analysis.tested, 1);
    }

    #[test]
    fn secondary_metrics_are_estimates() {
        let study = fixture::study();
        let of = |metric: &str| {
            study
                .comparisons
                .iter()
                .find(|c| c.arm == "32xsequential" && c.metric == metric)
                .unwrap()
        };
        assert_eq!(of("pss_peak_bytes").verdict, Verdict::Estimate);
        assert!(of("pss_peak_bytes").ratio > 10.0);
        let (requests, makespan) = (of("requests_per_s"), of("makespan_s"));
        assert!((requests.ratio * makespan.ratio - 1.0).abs() < 1e-9);
        assert_eq!(makespan.verdict, Verdict::Slower);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_order_of_arrival_gives_the_same_answer(seed in any::<u64>()) {
            let study = simulated(seed % 7, &[1.0, 1.1, 0.9], 8, 0.05);
            let mut shuffled = study.clone();
            shuffled.trials.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(compare(&study, 0.05), compare(&shuffled, 0.05));
        }
    }
}
