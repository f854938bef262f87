//! How many URLs are in flight: measured while it happens, and so independent
//! of the durations that the completions tell.

use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Gauge {
    count: u32,
    pub(crate) peak: u32,
    changed_at: Option<Instant>,
    /// URL-seconds in flight, up to the last change.
    pub(crate) integral: Duration,
}

impl Gauge {
    pub(crate) fn enter(&mut self, now: Instant) {
        self.advance(now);
        self.count += 1;
        self.peak = self.peak.max(self.count);
    }

    pub(crate) fn leave(&mut self, now: Instant) {
        self.advance(now);
        self.count = self.count.saturating_sub(1);
    }

    /// Two threads may come here in another order than they read the clock:
    /// time then stands still for the later one.
    fn advance(&mut self, now: Instant) {
        if let Some(before) = self.changed_at {
            self.integral += now.saturating_duration_since(before) * self.count;
            self.changed_at = Some(before.max(now));
        } else {
            self.changed_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integral_is_the_area_under_the_counter() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gauge = Gauge::default();
        gauge.enter(at(0));
        gauge.enter(at(10));
        gauge.leave(at(30));
        gauge.enter(at(30));
        // Read earlier, told later.
        gauge.leave(at(25));
        gauge.leave(at(40));
        assert_eq!(gauge.count, 0);
        assert_eq!(gauge.peak, 2);
        assert_eq!(gauge.integral, Duration::from_millis(10 + 2 * 20 + 10));
    }
}
