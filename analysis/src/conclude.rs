//! The one way from trials to conclusions.

use crate::{
    caveats::caveats, memory_slope::memory_slopes, record::Study, scaling::scaling, statistics,
    validity,
};

/// What conclusions are drawn with.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Differences up to this share are negligible: 0.05 is from 1/1.05 to 1.05. `None`: what the
    /// study recorded, else 5 %.
    pub margin: Option<f64>,
}

/// The margin where none is named.
const MARGIN: f64 = 0.05;

/// Draws every conclusion from a study's manifest, arms and trials: trials that
/// may not be compared are marked with the reason, and comparisons, scaling,
/// memory slopes, analysis and caveats are filled in anew.
///
/// The same study gives the same conclusions, in whatever order its trials stand.
pub fn conclude(study: &mut Study, options: &Options) {
    validity::mark(study);
    let recorded = Some(study.analysis.margin).filter(|margin| *margin > 0.0);
    let margin = options.margin.or(recorded).unwrap_or(MARGIN);
    (study.comparisons, study.analysis) = statistics::compare(study, margin);
    study.scaling = scaling(study);
    study.memory_slopes = memory_slopes(study);
    study.caveats = caveats(study);
    for regime in &mut study.regimes {
        conclude(&mut regime.study, options);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{fixture::StudyBuilder, record::Study, text};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        /// Whatever the figures are, conclusions are finite (JSON has no other
        /// numbers) and can be written down and read back.
        #[test]
        fn odd_figures_give_a_record_that_can_be_read(
            figures in prop::collection::vec(
                (
                    prop::option::of(prop_oneof![Just(0.0), 1e-9..1e-6f64, 0.1..10.0f64, 1e6..1e12f64]),
                    prop::option::of(prop_oneof![Just(0u64), Just(1), any::<u32>().prop_map(u64::from)]),
                    0..1_000u64,
                ),
                30,
            ),
            margin in 0.0001..0.5f64,
        ) {
            let mut study = StudyBuilder::new()
                .arms(&["async:4", "2xasync:4", "4xasync:4", "8xasync:4", "threads:4"])
                .blocks(4)
                .urls(40)
                .build_raw();
            for (trial, (seconds, count, failed)) in study.trials.iter_mut().zip(figures.iter().cycle()) {
                trial.makespan_s = *seconds;
                trial.requests_per_s = seconds.map(|s| 40.0 / s).filter(|x| x.is_finite());
                trial.pss_peak_bytes = *count;
                trial.voluntary_switches = *count;
                trial.failed = *failed % 3;
                trial.completed = 40 - trial.failed;
                trial.origin = None;
                trial.fetch_makespan_s = None;
                trial.in_flight_mean = None;
            }
            conclude(&mut study, &Options { margin: Some(margin) });
            let read: Study = serde_json::from_str(&text::json(&study)).unwrap();
            prop_assert_eq!(&read, &study);
            for text in [text::table(&study, 100, true, true), text::markdown(&study), text::csv(&study)] {
                prop_assert!(!text.contains("NaN") && !text.contains("inf "), "{text}");
            }
        }

        #[test]
        fn any_order_of_trials_gives_the_same_conclusions(seed in any::<u64>()) {
            use rand::{SeedableRng as _, seq::SliceRandom as _};
            let mut study = StudyBuilder::new()
                .arms(&["async:4", "2xasync:4", "4xasync:4", "threads:4"])
                .blocks(6)
                .urls(60)
                .build_raw();
            study.trials[5].bytes += 1;
            let mut shuffled = study.clone();
            shuffled.trials.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
            conclude(&mut study, &Options::default());
            conclude(&mut shuffled, &Options::default());
            shuffled.trials.sort_by_key(|trial| trial.order);
            prop_assert_eq!(study, shuffled);
        }
    }
}
