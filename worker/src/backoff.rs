//! How long to wait before the next try.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that double up to a limit. The upper half of each is random, so that
/// a fleet does not come back all at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next pause; `chance` is a random number from 0 to 1.
    pub(crate) fn pause(&mut self, chance: f64) -> Duration {
        let whole = FIRST.saturating_mul(2_u32.saturating_pow(self.tries)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        whole.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }

    /// All is well again: the next pause is the first.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_grow_within_their_bounds(chances in prop::collection::vec(0.0..=1.0, 1..50)) {
            let mut backoff = Backoff::default();
            let mut whole = FIRST;
            for chance in chances {
                let pause = backoff.pause(chance);
                prop_assert!(pause >= whole / 2 && pause <= whole);
                whole = (whole * 2).min(LONGEST);
            }
            backoff.reset();
            prop_assert!(backoff.pause(1.0) == FIRST);
        }
    }
}
