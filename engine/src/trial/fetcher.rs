//! One fetcher of a trial, as the trial knows it.

use std::time::Duration;

use fanout_proto::id::WorkerId;

/// The rate is averaged over about this long.
const RATE_WINDOW: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FetcherLife {
    #[default]
    Starting,
    Ready,
    Running,
    Lost,
    Exited,
}

#[derive(Debug, Default)]
pub(super) struct Fetcher {
    pub(super) worker: WorkerId,
    pub(super) shard: Option<u32>,
    pub(super) life: FetcherLife,
    pub(super) outstanding: u64,
    pub(super) rate_per_s: f64,
    pub(super) rate_since: Duration,
    pub(super) last_progress: Duration,
    /// Holds URLs since then, if it does.
    pub(super) held_since: Duration,
    /// Gets nothing but one suspect at a time.
    pub(super) quarantined: bool,
    /// It was told to die: another one starts in its stead only when it has been
    /// reaped, which is waited for until then.
    pub(super) dying_until: Option<Duration>,
    /// URLs it was given, and said that it took up; the second never passes the first.
    pub(super) leased: u64,
    pub(super) started: u64,
}

impl Fetcher {
    pub(super) fn new(now: Duration, worker: WorkerId, shard: Option<u32>) -> Self {
        Self {
            worker,
            shard,
            rate_since: now,
            last_progress: now,
            held_since: now,
            ..Self::default()
        }
    }

    pub(super) fn is_live(&self) -> bool {
        !matches!(self.life, FetcherLife::Lost | FetcherLife::Exited)
    }

    pub(super) fn hold(&mut self, now: Duration, urls: usize) {
        if self.outstanding == 0 {
            self.held_since = now;
        }
        self.outstanding += urls as u64;
        self.leased += urls as u64;
    }

    /// Averages the rate exponentially; the first observation counts whole.
    pub(super) fn observe(&mut self, now: Duration, completions: u64) {
        let elapsed = now.saturating_sub(self.rate_since).as_secs_f64();
        if elapsed <= 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let rate = completions as f64 / elapsed;
        let weight = if self.rate_per_s == 0.0 {
            1.0
        } else {
            -(-elapsed / RATE_WINDOW.as_secs_f64()).exp_m1()
        };
        self.rate_per_s += weight * (rate - self.rate_per_s);
        self.rate_since = now;
    }
}
