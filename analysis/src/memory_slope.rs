//! Memory per URL in flight, and per process.
//!
//! In every block a straight line is fitted through the arms' memory by least squares; the blocks'
//! slopes are then a sample like any other, with its t-interval. So the block is the unit, as
//! everywhere: what shifts all arms of a block alike (shared pages, a machine's state) falls out,
//! and the noise of large arms need not be that of small ones. A median of pairwise slopes
//! (Theil–Sen) would weigh the close, noisy pairs as much as the far ones, which with three or four
//! concurrencies is half of them.

use crate::{
    groups::{Group, groups},
    record::{Interval, MemorySlope, Metric, ScalingFactor, Study, TrialRecord},
    statistics::{CONFIDENCE, Sample, usable_by_block},
};

/// What grows with URLs in flight.
const METRICS: [&str; 5] = [
    "memory_peak_bytes",
    "pss_peak_bytes",
    "uss_peak_bytes",
    "cgroup_sock_bytes",
    "cgroup_kernel_stack_bytes",
];

/// Lines through the arms of a group, one a block.
pub(crate) struct Slopes {
    pub(crate) slope: Interval,
    base: Interval,
    blocks: usize,
    range: (f64, f64),
}

/// Every metric of every group of arms that differ in their concurrency only.
pub(crate) fn memory_slopes(study: &Study) -> Vec<MemorySlope> {
    let groups = groups(study);
    let by_concurrency = groups.iter().filter(|group| group.factor == ScalingFactor::Concurrency);
    by_concurrency
        .flat_map(|group| {
            METRICS.iter().filter_map(move |name| {
                let metric = Metric::named(name)?;
                let processes = group.arms.first()?.1.processes;
                let slopes = slope_by_block(study, group, |n, trial| {
                    // A short list never fills all slots: the gauge knows.
                    let in_flight = trial.in_flight_peak.unwrap_or(n.saturating_mul(processes));
                    Some((f64::from(in_flight), (metric.of)(trial)?))
                })?;
                Some(MemorySlope {
                    family: group.family.clone(),
                    metric: metric.name.to_owned(),
                    blocks: u32::try_from(slopes.blocks).unwrap_or(u32::MAX),
                    in_flight: [whole(slopes.range.0), whole(slopes.range.1)],
                    bytes_per_request: slopes.slope,
                    base_bytes: slopes.base,
                })
            })
        })
        .collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // they were u32
fn whole(n: f64) -> u32 {
    n as u32
}

/// Fits a line in every block in which all arms of the group have a figure;
/// `None` where there is no such block, or nothing varies.
pub(crate) fn slope_by_block(
    study: &Study,
    group: &Group<'_>,
    figure: impl Fn(u32, &TrialRecord) -> Option<(f64, f64)>,
) -> Option<Slopes> {
    let arms: Vec<_> =
        group.arms.iter().map(|(n, arm)| (*n, usable_by_block(study, &arm.name))).collect();
    let mut slopes = Vec::new();
    let mut bases = Vec::new();
    let mut range = (f64::INFINITY, 0.0_f64);
    for block in arms.first()?.1.keys() {
        let points: Option<Vec<(f64, f64)>> =
            arms.iter().map(|(n, trials)| figure(*n, trials.get(block)?)).collect();
        let Some((slope, base)) = points.as_deref().and_then(line) else {
            continue;
        };
        slopes.push(slope);
        bases.push(base);
        for (x, _) in points.into_iter().flatten() {
            range = (range.0.min(x), range.1.max(x));
        }
    }
    (!slopes.is_empty()).then(|| Slopes {
        blocks: slopes.len(),
        slope: Sample::new(slopes).interval(CONFIDENCE),
        base: Sample::new(bases).interval(CONFIDENCE),
        range,
    })
}

/// Slope and base of the least-squares line; `None` where x does not vary.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
    let spread: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    let product: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let slope = product / spread;
    slope.is_finite().then_some((slope, mean_y - slope * mean_x))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{record::ArmRecord, statistics::normal};

    /// 4 KiB per URL in flight on 3 MiB, with noise shared by a block and
    /// noise of each trial's own.
    fn study(seed: u64, blocks: u32) -> Study {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut study = Study {
            arms: [100, 1_000, 4_000]
                .map(|concurrency| ArmRecord {
                    name: format!("async:{concurrency}"),
                    processes: 1,
                    model: "async".into(),
                    concurrency,
                    client: "core".into(),
                    ..ArmRecord::default()
                })
                .into(),
            ..Study::default()
        };
        for block in 1..=blocks {
            let shared = 200_000.0 * normal(&mut rng);
            for arm in &study.arms {
                let own = 30_000.0 * normal(&mut rng);
                let bytes = 3_145_728.0 + 4_096.0 * f64::from(arm.concurrency) + shared + own;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                study.trials.push(TrialRecord {
                    arm: arm.name.clone(),
                    block,
                    valid: true,
                    pss_peak_bytes: Some(bytes as u64),
                    in_flight_peak: Some(arm.concurrency),
                    ..TrialRecord::default()
                });
            }
        }
        study
    }

    #[test]
    fn the_slope_is_found_under_a_drift_that_a_block_shares() {
        let slopes = memory_slopes(&study(1, 10));
        assert_eq!(slopes.len(), 1, "only one metric is known");
        let slope = &slopes[0];
        assert_eq!((slope.family.as_str(), slope.blocks), ("async:N", 10));
        assert_eq!(slope.in_flight, [100, 4_000]);
        let bytes = slope.bytes_per_request;
        assert!((bytes.value - 4_096.0).abs() < 15.0, "{bytes:?}");
        assert!(bytes.low.unwrap() < 4_096.0 && 4_096.0 < bytes.high.unwrap());
        assert!(bytes.high.unwrap() - bytes.low.unwrap() < 30.0, "{bytes:?}");
        assert!((slope.base_bytes.value - 3_145_728.0).abs() < 200_000.0);
    }

    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        let held = (0..300)
            .filter(|&seed| {
                let bytes = memory_slopes(&study(seed, 8))[0].bytes_per_request;
                bytes.low.unwrap() <= 4_096.0 && 4_096.0 <= bytes.high.unwrap()
            })
            .count();
        println!("95 % intervals of bytes per request: {held} of 300 hold the truth");
        assert!((273..=297).contains(&held), "{held}");
    }

    #[test]
    fn one_block_gives_no_interval_and_an_incomplete_one_nothing() {
        let mut study = study(3, 2);
        study.trials[5].valid = false;
        let slope = &memory_slopes(&study)[0];
        assert_eq!((slope.blocks, slope.bytes_per_request.low), (1, None));
        study.trials[1].pss_peak_bytes = None;
        assert_eq!(memory_slopes(&study), []);
    }

    #[test]
    fn a_list_too_short_for_the_slots_counts_what_was_in_flight() {
        let mut study = study(4, 6);
        for trial in &mut study.trials {
            trial.in_flight_peak = trial.in_flight_peak.map(|n| n.min(500));
        }
        assert_eq!(memory_slopes(&study)[0].in_flight, [100, 500]);
        for trial in &mut study.trials {
            trial.in_flight_peak = Some(100);
        }
        assert_eq!(memory_slopes(&study), []);
    }
}
