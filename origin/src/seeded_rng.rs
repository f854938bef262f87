//! Reproducible random numbers: what a URL gets depends on the seed and on
//! its path and query, and on nothing else.
//!
//! The generator is `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number
//! generators", OOPSLA 2014): eight bytes of state, a few instructions, and the same numbers on
//! every platform and in every version of this crate.

use std::f64::consts::TAU;

#[derive(Debug, Clone)]
pub(crate) struct SeededRng(u64);

impl SeededRng {
    /// The stream of a number, such as a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// The stream of a URL. The text is hashed with FNV-1a, 64 bits.
    pub(crate) fn of_url(seed: u64, path_and_query: &str) -> Self {
        const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let hash = path_and_query.bytes().fold(OFFSET_BASIS ^ mix(seed), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(PRIME)
        });
        Self(mix(hash))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// Uniform in `low..=high`; `low` must not be above `high`. The bias of
    /// the multiplication is below 2⁻⁶⁴ times the width.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let width = u128::from(high - low) + 1;
        let offset = (u128::from(self.next()) * width) >> 64;
        low + u64::try_from(offset).expect("a 64-bit fraction of the width is below the width")
    }

    /// Uniform in `[0, 1)`, 53 bits.
    fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.next() >> 11) as f64 * STEP
    }

    /// A sample of the standard normal distribution (Box and Muller, 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_matches_its_published_sequence() {
        // State 1234567: the sequence of the reference implementation.
        let mut rng = SeededRng(1_234_567);
        assert_eq!(rng.next(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next(), 3_203_168_211_198_807_973);
        assert_eq!(rng.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn seed_and_url_both_matter_and_nothing_else() {
        let first = |seed, url| SeededRng::of_url(seed, url).next();
        assert_eq!(first(1, "/a?delay=1ms"), first(1, "/a?delay=1ms"));
        assert_ne!(first(1, "/a"), first(2, "/a"));
        assert_ne!(first(1, "/a"), first(1, "/b"));
    }

    #[test]
    fn between_reaches_both_ends_and_stays_inside() {
        let mut rng = SeededRng::new(7);
        let mut seen = [0u32; 4];
        for _ in 0..1000 {
            let value = usize::try_from(rng.between(10, 13)).unwrap() - 10;
            seen[value] += 1;
        }
        assert!(seen.iter().all(|&count| count > 150), "{seen:?}");
        assert_eq!(rng.between(5, 5), 5);
        rng.between(0, u64::MAX);
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut rng = SeededRng::new(11);
        let samples: Vec<f64> = (0..100_000).map(|_| rng.normal()).collect();
        let n = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / n;
        let variance = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        // Five standard errors.
        assert!(mean.abs() < 0.016, "{mean}");
        assert!((variance - 1.0).abs() < 0.023, "{variance}");
    }
}
