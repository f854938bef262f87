//! Heartbeats, both ways.

use std::time::Duration;

use tokio::time::Instant;

/// A peer that says nothing for so many intervals is gone.
const SILENT_INTERVALS: u32 = 3;

/// When to send a heartbeat, and when the peer's are missed.
#[derive(Debug)]
pub(super) struct Heartbeats {
    interval: Duration,
    next: Instant,
    sequence: u64,
    heard: Instant,
}

impl Heartbeats {
    /// Both sides send a heartbeat every `interval`, from `now` on.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, next: now + interval, sequence: 0, heard: now }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    fn silent_at(&self) -> Instant {
        self.heard + SILENT_INTERVALS * self.interval
    }

    /// When [`Heartbeats::beat`] and [`Heartbeats::silence`] are to be asked next.
    pub(super) fn deadline(&self) -> Instant {
        self.next.min(self.silent_at())
    }

    /// The number of the heartbeat to send now, if one is due.
    pub(super) fn beat(&mut self, now: Instant) -> Option<u64> {
        if now < self.next {
            return None;
        }
        self.next = now + self.interval;
        self.sequence += 1;
        Some(self.sequence)
    }

    /// How long the peer has been silent, if that is too long. `due` is when
    /// this was to be asked: if it is asked late, this process was frozen, and
    /// what the peer said meanwhile may still be in its socket.
    pub(super) fn silence(&mut self, now: Instant, due: Instant) -> Option<Duration> {
        if now < self.silent_at() {
            return None;
        }
        if now.saturating_duration_since(due) >= self.interval {
            self.heard = now - (SILENT_INTERVALS - 1) * self.interval;
            return None;
        }
        Some(now.saturating_duration_since(self.heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn heartbeats_are_numbered_and_never_pile_up() {
        let start = Instant::now();
        let mut heartbeats = Heartbeats::new(SECOND, start);
        assert_eq!(heartbeats.beat(start), None);
        assert_eq!(heartbeats.beat(start + SECOND), Some(1));
        assert_eq!(heartbeats.beat(start + 9 * SECOND), Some(2));
        assert_eq!(heartbeats.beat(start + Duration::from_millis(9900)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_silent_after_three_intervals() {
        let start = Instant::now();
        let mut heartbeats = Heartbeats::new(SECOND, start);
        let heard = start + SECOND;
        heartbeats.heard(heard);
        let due = heard + 3 * SECOND;
        assert_eq!(heartbeats.silence(due - Duration::from_millis(1), due), None);
        assert_eq!(heartbeats.silence(due, due), Some(3 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_was_frozen_itself_waits_one_interval_more() {
        let start = Instant::now();
        let mut heartbeats = Heartbeats::new(SECOND, start);
        let thawed = start + 20 * SECOND;
        assert_eq!(heartbeats.silence(thawed, start + SECOND), None);
        let due = thawed + SECOND;
        assert_eq!(heartbeats.silence(due, due), Some(3 * SECOND));
    }
}
