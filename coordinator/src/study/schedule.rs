//! The order of trials: randomised complete blocks.

use std::time::Duration;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;

/// Every arm once, in a fresh random order that the seed gives, another one in every part of the
/// study. The first block, which is discarded, begins with the baseline, so that slow arms can be
/// told there.
pub(super) fn block_order(
    seed: u64,
    part: u32,
    arms: usize,
    baseline: usize,
    block: u32,
) -> Vec<usize> {
    let mut order: Vec<_> = (0..arms).collect();
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(part) << 32 | u64::from(block));
    order.shuffle(&mut rng);
    if block == 0 {
        order.sort_by_key(|arm| *arm != baseline);
    }
    order
}

/// How long the trials that are left take: of each arm so many, and as long as its last one. `None`
/// while an arm that is left has not run.
pub(super) fn time_left(arms: impl Iterator<Item = (u32, Option<Duration>)>) -> Option<Duration> {
    arms.filter(|(left, _)| *left > 0).map(|(left, took)| Some(took? * left)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_before() {
        let s = |s| Some(Duration::from_secs(s));
        assert_eq!(time_left([(3, s(2)), (1, s(10)), (0, None)].into_iter()), s(16));
        assert_eq!(time_left([(3, s(2)), (1, None)].into_iter()), None);
        assert_eq!(time_left([(0, None)].into_iter()), s(0));
    }

    #[test]
    fn every_arm_has_one_turn_in_an_order_that_the_seed_gives() {
        let orders: Vec<_> = (1..=10).map(|block| block_order(7, 0, 8, 2, block)).collect();
        for block in &orders {
            let mut sorted = block.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..8).collect::<Vec<_>>());
        }
        assert!(orders.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(orders[2], block_order(7, 0, 8, 2, 3));
        assert_ne!(orders[0], block_order(7, 1, 8, 2, 1));
        assert_ne!(orders[0], block_order(8, 0, 8, 2, 1));
        assert_eq!(block_order(7, 0, 8, 2, 0)[0], 2);
    }
}
