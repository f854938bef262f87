//! What more processes, concurrency or workers bring.
//!
//! Throughput X(N) is compared with Amdahl's law (1967), Gunther's Universal
//! Scalability Law (2007) and the plain alternative min(γN, ceiling). Intervals
//! come from a bootstrap of whole blocks (Efron 1979), seeded by the study.

mod bootstrap;
mod curve;
mod fitted;
mod least_squares;

use std::collections::BTreeMap;

use crate::{
    groups::{Group, groups},
    memory_slope::slope_by_block,
    record::{Interval, Metric, Scaling, ScalingPoint, Study, TrialRecord},
    statistics::{CONFIDENCE, Sample, by_block, log_ratios, median, usable_by_block},
};
use bootstrap::Rows;
pub(crate) use curve::curve_name;
use fitted::{ARMS_MIN, Fitted, whole};

/// Fewer blocks that all arms share give no idea of the noise.
const BLOCKS_MIN: usize = 3;

/// Every group of arms that differ in one thing only.
pub(crate) fn scaling(study: &Study) -> Vec<Scaling> {
    groups(study).iter().map(|group| of_group(study, group)).collect()
}

/// Throughput of every arm, by block.
fn throughputs(study: &Study, group: &Group<'_>) -> Vec<BTreeMap<u32, f64>> {
    let metric = Metric::named("requests_per_s").expect("the list of metrics has it");
    group
        .arms
        .iter()
        .map(|(_, arm)| {
            let mut blocks = by_block(study, &arm.name, metric);
            // A trial without one complete response has no logarithm.
            blocks.retain(|_, per_second| *per_second > 0.0);
            blocks
        })
        .collect()
}

/// The curves through a group's points; `None` where it has too few.
fn fit(study: &Study, group: &Group<'_>, by_arm: &[BTreeMap<u32, f64>]) -> Option<Fitted> {
    let ns: Vec<f64> = group.arms.iter().map(|(n, _)| f64::from(*n)).collect();
    let rows = Rows::complete(by_arm);
    (ns.len() >= ARMS_MIN && rows.len() >= BLOCKS_MIN)
        .then(|| Fitted::of(&ns, &rows, study.manifest.seed))
}

fn of_group(study: &Study, group: &Group<'_>) -> Scaling {
    let by_arm = throughputs(study, group);
    let points = points(study, group, &by_arm);
    let mut result = Scaling {
        factor: group.factor,
        family: group.family.clone(),
        points,
        memory_per_step_bytes: slope_by_block(study, group, |n, trial| {
            Some((f64::from(n), trial.memory_peak_bytes? as f64))
        })
        .map(|slopes| slopes.slope),
        ..Scaling::default()
    };
    let Some(fitted) = fit(study, group, &by_arm) else {
        result.choice = format!(
            "No curve was fitted, so no peak was looked for: that needs {ARMS_MIN} arms in {BLOCKS_MIN} blocks."
        );
        return result;
    };
    result.choice = fitted.choice();
    result.peak = fitted.peak(&Rows::complete(&by_arm), study.analysis.margin);
    result.fits = fitted.into_record();
    result
}

fn points(study: &Study, group: &Group<'_>, by_arm: &[BTreeMap<u32, f64>]) -> Vec<ScalingPoint> {
    let Some(((smallest, _), base)) = group.arms.first().zip(by_arm.first()) else {
        return Vec::new();
    };
    group
        .arms
        .iter()
        .zip(by_arm)
        .filter(|(_, own)| !own.is_empty())
        .map(|((n, arm), own)| {
            let trials = usable_by_block(study, &arm.name);
            let middle = |of: fn(&TrialRecord) -> Option<f64>| {
                median(trials.values().filter_map(|trial| of(trial)))
            };
            let speedup = Sample::from(&log_ratios(own, base)).exp_interval(CONFIDENCE);
            let growth = f64::from(*n) / f64::from(*smallest);
            ScalingPoint {
                arm: arm.name.clone(),
                n: *n,
                blocks: u32::try_from(own.len()).unwrap_or(u32::MAX),
                requests_per_s: Sample::new(own.values().map(|x| x.ln()).collect())
                    .exp_interval(CONFIDENCE),
                trials_per_s: own.values().copied().collect(),
                speedup,
                efficiency: Interval {
                    value: speedup.value / growth,
                    low: speedup.low.map(|low| low / growth),
                    high: speedup.high.map(|high| high / growth),
                },
                pss_peak_bytes: middle(|trial| trial.pss_peak_bytes.map(|bytes| bytes as f64))
                    .map(whole),
                spawn_s: middle(|trial| trial.spawn_s),
                overhead_s: middle(|trial| trial.coordination.overhead_s),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::{least_squares::Usl, *};
    use crate::{
        fixture,
        record::{ArmRecord, Peak, ScalingModel},
        statistics::normal,
    };

    const NS: [u32; 6] = [1, 2, 4, 8, 16, 32];

    /// A study of arms that differ in their processes, with this throughput,
    /// this noise within blocks and more of it between them.
    fn simulated(seed: u64, blocks: u32, noise: f64, truth: impl Fn(f64) -> f64) -> Study {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let arms = NS.map(|processes| ArmRecord {
            name: format!("{processes}xasync:16"),
            processes,
            model: "async".into(),
            concurrency: 16,
            client: "core".into(),
            ..ArmRecord::default()
        });
        let mut study = Study { arms: arms.into(), ..Study::default() };
        study.analysis.margin = 0.05;
        for block in 1..=blocks {
            let shared = 0.05 * normal(&mut rng);
            for arm in &study.arms {
                let n = f64::from(arm.processes);
                study.trials.push(TrialRecord {
                    arm: arm.name.clone(),
                    block,
                    valid: true,
                    requests_per_s: Some(truth(n) * (shared + noise * normal(&mut rng)).exp()),
                    memory_peak_bytes: Some(2_000_000 + 1_500_000 * u64::from(arm.processes)),
                    ..TrialRecord::default()
                });
            }
        }
        study
    }

    fn usl(gamma: f64, sigma: f64, kappa: f64) -> impl Fn(f64) -> f64 {
        let usl = Usl { gamma, sigma, kappa };
        move |n| usl.at(n)
    }

    fn fitted(study: &Study) -> Scaling {
        let mut all = scaling(study);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// The curves alone, without what only the drawing needs.
    fn curves(study: &Study) -> Fitted {
        let group = &groups(study)[0];
        fit(study, group, &throughputs(study, group)).unwrap()
    }

    fn peak(study: &Study) -> Peak {
        let rows = Rows::complete(&throughputs(study, &groups(study)[0]));
        curves(study).peak(&rows, study.analysis.margin)
    }

    #[test]
    fn known_parameters_are_found_and_the_right_curve_chosen() {
        let result = fitted(&simulated(1, 10, 0.01, usl(1_000.0, 0.05, 0.004)));
        let fit = &result.fits[0];
        assert_eq!(fit.model, ScalingModel::Usl);
        assert!((fit.gamma.value / 1_000.0 - 1.0).abs() < 0.05, "{fit:?}");
        assert!((fit.sigma.unwrap().value - 0.05).abs() < 0.01, "{fit:?}");
        assert!((fit.kappa.unwrap().value - 0.004).abs() < 0.000_5, "{fit:?}");
        // √(0.95 / 0.004) = 15.4.
        let peak = result.peak.n.unwrap();
        assert!(peak.low.unwrap() < 15.4 && 15.4 < peak.high.unwrap(), "{peak:?}");
        insta::assert_snapshot!(result.peak.text, @"Throughput peaks near 16 (15–16): 32 brings 16 % less than 16.");

        let amdahl = fitted(&simulated(2, 10, 0.01, usl(1_000.0, 0.05, 0.0)));
        assert_eq!(amdahl.fits[0].model, ScalingModel::Amdahl);
        insta::assert_snapshot!(amdahl.peak.text, @"Throughput still rises: 32 brings 1.37× what 16 does.");

        let flat = fitted(&simulated(3, 10, 0.01, |n| (1_000.0 * n).min(6_000.0)));
        assert_eq!(flat.fits[0].model, ScalingModel::LinearThenFlat);
        let ceiling = flat.fits[0].ceiling.unwrap();
        assert!((ceiling.value / 6_000.0 - 1.0).abs() < 0.05, "{ceiling:?}");
        assert_eq!(flat.peak.n, None);
        insta::assert_snapshot!(flat.choice, @"Best described by min(γN, ceiling): AIC 8.06, against 18,620 for Amdahl's law and 4,927 for the Universal Scalability Law.");
    }

    /// 90 studies of what only ever rises, 30 of each kind.
    #[test]
    fn no_peak_in_smooth_saturations() {
        let saturations: [fn(f64) -> f64; 3] = [
            |n| 1_000.0 * n / (1.0 + 0.1 * (n - 1.0)),
            |n| (1_000.0 * n).min(6_000.0),
            |n| 6_000.0 * (1.0 - (-n / 6.0).exp()),
        ];
        for (kind, truth) in saturations.into_iter().enumerate() {
            for (seed, noise) in (0..30).zip([0.003, 0.01, 0.03].into_iter().cycle()) {
                let peak = peak(&simulated(100 * kind as u64 + seed, 10, noise, truth));
                assert_eq!(peak.n, None, "{kind} {seed} {peak:?}");
            }
        }
    }

    #[test]
    fn a_real_peak_is_found() {
        // √(0.95 / 0.004) = 15.4.
        let peaks = (0..30).map(|seed| {
            peak(&simulated(seed, 8, 0.01, usl(1_000.0, 0.05, 0.004))).n.map(|n| n.value)
        });
        let found = peaks.flatten().filter(|n| (n / 15.4 - 1.0).abs() < 0.15).count();
        // A right curve fits badly in 1 of 100 by chance.
        assert!(found >= 28, "{found} of 30");
    }

    #[test]
    fn what_the_largest_arm_brings_is_told() {
        let rising = peak(&simulated(4, 10, 0.01, |n| 1_000.0 * n.powf(0.8)));
        insta::assert_snapshot!(rising.text, @"Throughput still rises: 32 brings 1.74× what 16 does.");
        let flat = peak(&simulated(5, 10, 0.01, |n| (1_000.0 * n).min(6_000.0)));
        insta::assert_snapshot!(flat.text, @"Throughput levels off: 32 and 16 bring the same, within 5.0 %.");
        let noisy = peak(&simulated(6, 10, 0.2, |n| (1_000.0 * n).min(6_000.0)));
        insta::assert_snapshot!(noisy.text, @"The trials do not tell whether throughput still rises from 16 to 32.");
        let saw = |n: f64| if n == 8.0 { 9_000.0 } else { 1_000.0 * n.sqrt() };
        let falling = peak(&simulated(7, 10, 0.01, saw));
        assert_eq!(falling.n, None);
        insta::assert_snapshot!(falling.text, @"Of the arms measured, 8 brings the most: 16 brings 56 % less than 8.");
        let few = peak(&simulated(8, 5, 0.01, usl(1_000.0, 0.05, 0.004)));
        insta::assert_snapshot!(few.text, @"Whether more brings less was not tested: that needs 6 blocks.");
    }

    #[test]
    fn a_curve_that_fits_nothing_is_told() {
        let saw = |n: f64| {
            if n == 4.0 { 9_000.0 } else { 1_000.0 * n.sqrt() }
        };
        let result = fitted(&simulated(5, 10, 0.005, saw));
        assert!(result.choice.ends_with("trust the points, not the curve."));
    }

    #[test]
    fn intervals_hold_the_truth_about_as_often_as_they_say() {
        let studies = 40;
        let mut covered = [0; 3];
        for seed in 0..studies {
            let study = simulated(1_000 + seed, 10, 0.02, usl(1_000.0, 0.05, 0.004));
            let fitted = curves(&study);
            let usl = fitted
                .candidates
                .iter()
                .find(|candidate| candidate.model == ScalingModel::Usl)
                .unwrap();
            let parameters =
                [0, 1, 2].map(|at| fitted.interval(usl, |curve| curve.parameters()[at]));
            for ((held, interval), truth) in
                covered.iter_mut().zip(parameters).zip([1_000.0, 0.05, 0.004])
            {
                *held +=
                    usize::from(interval.low.unwrap() <= truth && truth <= interval.high.unwrap());
            }
        }
        println!("95 % intervals of γ, σ, κ hold the truth in {covered:?} of {studies}");
        // 38 of 40 expected; below 34 has a chance of about 1 in 100.
        assert!(covered.iter().all(|held| *held >= 34), "{covered:?}");
    }

    #[test]
    fn speedup_and_efficiency_are_relative_to_the_smallest() {
        let result = fitted(&simulated(6, 6, 0.001, |n| 1_000.0 * n.powf(0.9)));
        let last = result.points.last().unwrap();
        assert_eq!((last.n, last.blocks), (32, 6));
        assert!((last.speedup.value / 32f64.powf(0.9) - 1.0).abs() < 0.01);
        assert!((last.efficiency.value / 32f64.powf(-0.1) - 1.0).abs() < 0.01);
        assert_eq!(result.points[0].efficiency.value, 1.0);
        let memory = result.memory_per_step_bytes.unwrap();
        assert!((memory.value - 1_500_000.0).abs() < 1.0, "{memory:?}");
    }

    #[test]
    fn too_little_is_not_fitted() {
        let few_blocks = fitted(&simulated(7, 2, 0.01, usl(1_000.0, 0.0, 0.0)));
        assert!(few_blocks.fits.is_empty() && few_blocks.points.len() == 6);
        let mut two_arms = simulated(8, 6, 0.01, usl(1_000.0, 0.0, 0.0));
        two_arms.arms.truncate(2);
        let two_arms = fitted(&two_arms);
        insta::assert_snapshot!(two_arms.choice, @"No curve was fitted, so no peak was looked for: that needs 3 arms in 3 blocks.");
        assert!(two_arms.fits.is_empty());
        // Arms without a usable trial are no points.
        let mut none = simulated(9, 6, 0.01, usl(1_000.0, 0.0, 0.0));
        none.trials.clear();
        assert_eq!(fitted(&none).points, []);
    }

    #[test]
    fn the_fixtures_groups() {
        let study = fixture::scaling();
        let families: Vec<&str> = study.scaling.iter().map(|s| s.family.as_str()).collect();
        assert_eq!(families, ["Nxasync:16", "threads:N"]);
        assert!(study.scaling.iter().all(|group| !group.fits.is_empty()));
    }
}
