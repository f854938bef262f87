//! Resampling of whole blocks.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF as _, Normal};

use crate::{
    record::Interval,
    statistics::{BlockRatios, CONFIDENCE, quantile},
};

/// Resampled studies. Their 25 outermost on either side make a 95 % interval.
const RESAMPLES: usize = 1_000;

/// Logarithms of throughput, a row a block, a column an arm.
pub(crate) struct Rows(Vec<Vec<f64>>);

impl Rows {
    /// The blocks in which every arm has a throughput.
    pub(crate) fn complete(by_arm: &[BTreeMap<u32, f64>]) -> Self {
        let blocks: BTreeSet<u32> = by_arm.iter().flat_map(|arm| arm.keys().copied()).collect();
        Self(
            blocks
                .into_iter()
                .filter_map(|block| {
                    by_arm
                        .iter()
                        .map(|arm| arm.get(&block).filter(|x| **x > 0.0).map(|x| x.ln()))
                        .collect()
                })
                .collect(),
        )
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Geometric mean of every arm.
    pub(crate) fn means(&self) -> Vec<f64> {
        means(self.0.iter())
    }

    /// Log ratios of one arm to another, by block.
    pub(crate) fn ratio(&self, arm: usize, to: usize) -> BlockRatios {
        (0..).zip(&self.0).map(|(block, row)| (block, row[arm] - row[to])).collect()
    }

    /// Standard deviation of one trial's throughput, as a share, after what
    /// arms and what blocks have in common: the residual of a two-way layout.
    pub(crate) fn noise(&self) -> f64 {
        let (blocks, arms) = (self.len(), self.0.first().map_or(0, Vec::len));
        if blocks < 2 || arms < 2 {
            return 0.0;
        }
        let of_arm: Vec<f64> = (0..arms)
            .map(|arm| self.0.iter().map(|row| row[arm]).sum::<f64>() / blocks as f64)
            .collect();
        let all = of_arm.iter().sum::<f64>() / arms as f64;
        let squares: f64 = self
            .0
            .iter()
            .map(|row| {
                let of_block = row.iter().sum::<f64>() / arms as f64;
                row.iter()
                    .zip(&of_arm)
                    .map(|(x, of_arm)| (x - of_arm - of_block + all).powi(2))
                    .sum::<f64>()
            })
            .sum();
        (squares / ((blocks - 1) * (arms - 1)) as f64).sqrt()
    }
}

fn means<'a>(rows: impl Iterator<Item = &'a Vec<f64>>) -> Vec<f64> {
    let mut sums: Vec<f64> = Vec::new();
    let mut count = 0.0;
    for row in rows {
        sums.resize(row.len(), 0.0);
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
        count += 1.0;
    }
    sums.into_iter().map(|sum| (sum / count).exp()).collect()
}

/// The geometric means of resampled studies.
pub(crate) struct Bootstrap {
    resamples: Vec<Vec<f64>>,
    /// Share of resamples below the interval.
    tail: f64,
}

impl Bootstrap {
    /// Draws whole blocks, so that what a block's trials share stays together.
    pub(crate) fn of(rows: &Rows, rng: &mut ChaCha8Rng) -> Self {
        let resamples = (0..RESAMPLES)
            .map(|_| means((0..rows.len()).map(|_| &rows.0[rng.random_range(0..rows.len())])))
            .collect();
        Self { resamples, tail: tail(rows.len()) }
    }

    pub(crate) fn resamples(&self) -> impl Iterator<Item = &[f64]> {
        self.resamples.iter().map(Vec::as_slice)
    }

    /// The percentile interval of what the resamples gave.
    pub(crate) fn interval(&self, value: f64, resampled: impl Iterator<Item = f64>) -> Interval {
        let mut sorted: Vec<f64> = resampled.filter(|x| x.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * sorted.len() as f64;
            // A share of a count: between 0 and the count.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let place = place as usize;
            sorted.get(place.min(sorted.len().saturating_sub(1))).copied()
        };
        // Where many resamples have no such figure (no peak, say), there is no interval either.
        let enough = 2 * sorted.len() >= RESAMPLES;
        Interval {
            value,
            low: at(self.tail).filter(|_| enough),
            high: at(1.0 - self.tail).filter(|_| enough),
        }
    }
}

/// Resampling few blocks gives intervals that are too narrow, by √((n − 1)/n) and by taking the
/// normal for the t distribution; so the tail is taken that much smaller (Hesterberg 2015, "What
/// teachers should know about the bootstrap", section 5.3, the expanded percentile interval).
fn tail(blocks: usize) -> f64 {
    let n = blocks as f64;
    let normal = Normal::new(0.0, 1.0).expect("constants that the library accepts");
    quantile((1.0 - CONFIDENCE) / 2.0, blocks.saturating_sub(1))
        .map_or(0.0, |t| normal.cdf(t * (n / (n - 1.0)).sqrt()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn rows() -> Rows {
        let arm = |factor: f64| {
            (1..=10).map(move |block: u32| (block, factor * (1.0 + 0.1 * f64::from(block % 3))))
        };
        let mut second: BTreeMap<u32, f64> = arm(2.0).collect();
        second.remove(&4);
        Rows::complete(&[arm(1.0).collect(), second])
    }

    #[test]
    fn only_complete_blocks_are_kept() {
        assert_eq!(rows().len(), 9);
        let means = rows().means();
        assert!((means[1] / means[0] - 2.0).abs() < 1e-12);
    }

    #[test]
    fn what_arms_and_blocks_have_in_common_is_no_noise() {
        assert!(rows().noise() < 1e-12);
        let mut rows = rows();
        rows.0[0][0] += 0.3;
        assert!(rows.noise() > 0.01);
    }

    #[test]
    fn few_blocks_widen_the_interval() {
        // Hesterberg's table: α/2 = 0.025 becomes 0.0086 at n = 10.
        assert!((tail(10) - 0.0086).abs() < 1e-4, "{}", tail(10));
        assert!((tail(1_000) - 0.025).abs() < 1e-3);
        assert!(tail(3) < 1e-6);
    }

    #[test]
    fn the_interval_surrounds_the_mean() {
        let rows = rows();
        let bootstrap = Bootstrap::of(&rows, &mut ChaCha8Rng::seed_from_u64(1));
        let mean = rows.means()[0];
        let interval = bootstrap.interval(mean, bootstrap.resamples().map(|means| means[0]));
        assert!(interval.low.unwrap() < mean && mean < interval.high.unwrap());
        let few = bootstrap.interval(mean, std::iter::once(1.0));
        assert_eq!((few.low, few.high), (None, None));
    }
}
