//! The exact sign-flip test of paired differences.
//!
//! If two arms are the same and their order within a block is random, each
//! block's difference is as likely to have come out with the other sign
//! (Fisher 1935, The Design of Experiments, section 21). The p-value is the
//! share of all sign patterns whose sum is at least as far from 0 as the one seen.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Up to this many differences every sign pattern is counted: the sums of two
/// halves, 2^20 each, are met in the middle, so 2^40 patterns cost 2^21 steps.
const EXACT_MAX: usize = 40;
/// Above that, so many patterns are drawn; the one seen counts as one of them,
/// which keeps the p-value valid (Phipson and Smyth 2010).
const DRAWN: u32 = 100_000;
/// The largest difference as an integer: sums of whole numbers are exact, so
/// the answer does not depend on the order of the differences.
const SCALE: f64 = (1u64 << 40) as f64;

/// The two-sided p-value of "the differences are symmetric around 0"; 1 when there is none.
pub(crate) fn p_value(differences: &[f64]) -> f64 {
    let largest = differences.iter().fold(0.0_f64, |m, d| m.max(d.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return 1.0;
    }
    // At most 2^40 in size.
    #[allow(clippy::cast_possible_truncation)]
    let mut whole: Vec<i64> =
        differences.iter().map(|d| (d / largest * SCALE).round() as i64).collect();
    // Rounding moved each by half a unit at most; sums that close are ties.
    let tolerance = i64::try_from(whole.len()).unwrap_or(i64::MAX);
    let seen = whole.iter().sum::<i64>().abs().saturating_sub(tolerance);
    if seen <= 0 {
        return 1.0;
    }
    if whole.len() > EXACT_MAX {
        // Only sizes matter; sorted, so that any order of blocks draws alike.
        whole.iter_mut().for_each(|d| *d = d.abs());
        whole.sort_unstable();
        return drawn(&whole, seen);
    }
    let (left, right) = whole.split_at(whole.len() / 2);
    let (left, right) = (sums(left), sums(right));
    let mut reaching: u64 = 0;
    let mut fit = 0; // so many of the largest sums of `right` reach far enough
    for sum in &left {
        while fit < right.len() && sum + right[right.len() - 1 - fit] >= seen {
            fit += 1;
        }
        reaching += fit as u64;
    }
    // As many lie as far below.
    let patterns = (left.len() as u64 * right.len() as u64) as f64;
    (2 * reaching) as f64 / patterns
}

/// Every sum of ± the given numbers, in rising order: each number shifts the
/// sums so far down and up, and the two rising lists are merged.
fn sums(numbers: &[i64]) -> Vec<i64> {
    let mut sums = vec![0];
    for number in numbers {
        let step = number.abs();
        let mut merged = Vec::with_capacity(2 * sums.len());
        let mut lower = 0;
        for upper in &sums {
            while lower < sums.len() && sums[lower] - step <= upper + step {
                merged.push(sums[lower] - step);
                lower += 1;
            }
            merged.push(upper + step);
        }
        sums = merged;
    }
    sums
}

fn drawn(numbers: &[i64], seen: i64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut reaching = 1_u32;
    for _ in 0..DRAWN {
        let sum: i64 = numbers.iter().map(|d| if rng.random::<bool>() { *d } else { -d }).sum();
        reaching += u32::from(sum.abs() >= seen);
    }
    f64::from(reaching) / f64::from(DRAWN + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Counts every pattern one by one.
    fn by_enumeration(differences: &[i32]) -> f64 {
        let seen: i32 = differences.iter().sum();
        let patterns = 1_u32 << differences.len();
        let reaching = (0..patterns)
            .filter(|pattern| {
                let sum: i32 = (0..)
                    .zip(differences)
                    .map(|(bit, d)| if pattern >> bit & 1 == 0 { *d } else { -d })
                    .sum();
                sum.abs() >= seen.abs()
            })
            .count();
        reaching as f64 / f64::from(patterns)
    }

    /// Darwin's maize, which Fisher worked through in section 21: 863 of the
    /// 32,768 patterns reach the sum of 314.
    #[test]
    fn fishers_example() {
        let maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48].map(f64::from);
        assert!((p_value(&maize) - 2.0 * 863.0 / 32_768.0).abs() < 1e-12);
    }

    #[test]
    fn the_smallest_p_value_halves_with_each_block() {
        for n in 1..=40 {
            let all_up = vec![0.1; n];
            let smallest = 2.0 / 2f64.powi(i32::try_from(n).unwrap());
            assert!((p_value(&all_up) / smallest - 1.0).abs() < 1e-12, "{n}");
        }
    }

    #[test]
    fn no_difference_is_no_evidence() {
        assert_eq!(p_value(&[]), 1.0);
        assert_eq!(p_value(&[0.0; 8]), 1.0);
        assert_eq!(p_value(&[0.2, -0.2]), 1.0);
    }

    #[test]
    fn many_blocks_are_drawn_close_to_the_normal_approximation() {
        // 60 differences of ±1, 38 of them up: sum 16, sd √60.
        let mut differences = vec![1.0; 38];
        differences.extend([-1.0; 22]);
        // P(|S| >= 16) of a binomial with 60 trials: 2 P(X >= 38).
        let p = p_value(&differences);
        assert!((p - 0.0519).abs() < 0.004, "{p}");
        differences.reverse();
        assert_eq!(p_value(&differences), p);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn agrees_with_plain_enumeration(differences in prop::collection::vec(-50..50i32, 1..12)) {
            let p = p_value(&differences.iter().copied().map(f64::from).collect::<Vec<_>>());
            prop_assert!((p - by_enumeration(&differences)).abs() < 1e-12);
        }

        #[test]
        fn order_and_direction_do_not_matter(
            (differences, shuffled) in prop::collection::vec(-1.0..1.0f64, 1..16)
                .prop_flat_map(|d| (Just(d.clone()), Just(d).prop_shuffle()))
        ) {
            let p = p_value(&differences);
            prop_assert!(p > 0.0 && p <= 1.0);
            prop_assert_eq!(p_value(&shuffled), p);
            prop_assert_eq!(p_value(&differences.iter().map(|d| -d).collect::<Vec<_>>()), p);
        }
    }
}
