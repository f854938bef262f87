//! What the origin served: the server's side of a trial.
//!
//! Each thread counts for itself, so that counting costs no more than an
//! uncontended addition; what has a peak is counted for all together.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use fanout_program::lock;
use serde::{Deserialize, Serialize};

use crate::visits::Visits;

/// The counters, as `/stats` publishes them in JSON.
///
/// Requests to `/stats` itself are not counted, nor are connections that carried nothing else.
/// Counts and peaks begin anew with `/stats/reset`; `cpu_*_s` and `uptime_s` never do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests whose head arrived, bad ones too.
    pub requests: u64,
    /// Responses by status. A request may have none, if its URL asked for that.
    pub responses: BTreeMap<u16, u64>,
    /// Connections that carried at least one request.
    pub connections_accepted: u64,
    /// Connections that were closed without any: health checks, failed TLS
    /// handshakes, connections that a client opened and did not need.
    pub connections_unused: u64,
    /// Connections that the origin itself closed, of those that carried a
    /// request: as its URL or its client asked, after a fault, or after too long a pause.
    #[serde(default)]
    pub connections_closed: u64,
    /// Connections open now, of those that carried a request.
    pub connections_open: u64,
    /// Most connections open at a time.
    pub connections_peak: u64,
    /// Requests being answered now, from the end of the request's head to the response's last byte,
    /// or of the stall that it ends in. With several threads, a request may still be counted for a
    /// moment when its client has the response already.
    pub concurrency: u64,
    /// Most requests being answered at a time.
    pub concurrency_peak: u64,
    /// Responses that were held back as their URL asked.
    pub delays: u64,
    /// Sum of the delays asked for.
    pub delay_requested_s: f64,
    /// Sum of the delays as they were, from the end of the request to the response's first byte.
    pub delay_actual_s: f64,
    /// Mean of the differences; 0 without delays. A delay is never too short.
    pub delay_overshoot_mean_us: f64,
    /// The largest difference.
    pub delay_overshoot_max_us: f64,
    /// Bytes of whole bodies, after content coding and before transfer coding.
    pub body_bytes: u64,
    /// Bytes of responses, heads and transfer coding included, TLS not.
    pub sent_bytes: u64,
    /// User CPU time of this process, since it started.
    pub cpu_user_s: f64,
    /// System CPU time of this process, since it started.
    pub cpu_system_s: f64,
    /// Threads that serve.
    pub threads: usize,
    /// Time since the origin started.
    pub uptime_s: f64,
    /// Time since the counts began.
    pub counting_s: f64,
    /// The machine that this process is on, as `random/boot_id` tells it.
    #[serde(default)]
    pub boot_id: String,
}

/// Statuses are three digits.
const STATUSES: usize = 600;

#[derive(Debug)]
pub(crate) struct ServerCounters {
    shards: Box<[Shard]>,
    connections: PeakGauge,
    requests: PeakGauge,
    /// Of URLs that are busy at first.
    pub(crate) visits: Visits,
    started: Instant,
    counting_since: Mutex<Instant>,
}

/// One thread's counters, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    /// By [`Count`].
    counts: [AtomicU64; 10],
    responses: [AtomicU64; STATUSES],
}

/// What a [`Shard`] counts besides responses.
#[derive(Debug, Clone, Copy)]
enum Count {
    Requests,
    Accepted,
    Unused,
    Closed,
    Delays,
    RequestedNs,
    ActualNs,
    OvershootMaxNs,
    BodyBytes,
    SentBytes,
}

impl Shard {
    fn count(&self, of: Count) -> &AtomicU64 {
        &self.counts[of as usize]
    }

    fn add(&self, to: Count, number: u64) {
        self.count(to).fetch_add(number, Relaxed);
    }
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct PeakGauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl PeakGauge {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Relaxed) + 1;
        // Reading first keeps the line shared while the peak stands.
        if now > self.peak.load(Relaxed) {
            self.peak.fetch_max(now, Relaxed);
        }
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Relaxed);
    }

    fn reset(&self) {
        self.peak.store(0, Relaxed);
        self.peak.fetch_max(self.now.load(Relaxed), Relaxed);
    }
}

impl ServerCounters {
    pub(crate) fn new(threads: usize) -> Self {
        let now = Instant::now();
        let shard = |_| Shard {
            counts: [const { AtomicU64::new(0) }; 10],
            responses: [const { AtomicU64::new(0) }; STATUSES],
        };
        Self {
            shards: (0..threads).map(shard).collect(),
            connections: PeakGauge::default(),
            requests: PeakGauge::default(),
            visits: Visits::default(),
            started: now,
            counting_since: Mutex::new(now),
        }
    }

    pub(crate) fn tally(&self, thread: usize) -> Tally<'_> {
        Tally { counters: self, shard: &self.shards[thread] }
    }

    /// The counters now. While requests are served, the sums of different
    /// fields may be a request apart.
    pub(crate) fn snapshot(&self) -> Stats {
        let each = |of| self.shards.iter().map(move |s| s.count(of).load(Relaxed));
        let sum = |of| each(of).sum::<u64>();
        let seconds = |ns| Duration::from_nanos(ns).as_secs_f64();
        let mut responses = BTreeMap::new();
        for shard in &self.shards {
            for (status, counter) in (0..).zip(&shard.responses) {
                match counter.load(Relaxed) {
                    0 => {}
                    count => *responses.entry(status).or_default() += count,
                }
            }
        }
        let delays = sum(Count::Delays);
        let (requested_ns, actual_ns) = (sum(Count::RequestedNs), sum(Count::ActualNs));
        let overshoot_us = actual_ns.saturating_sub(requested_ns) as f64 / 1e3;
        let overshoot_max_ns = each(Count::OvershootMaxNs).max().unwrap_or(0);
        let (cpu_user_s, cpu_system_s) = cpu_time_s();
        let now = Instant::now();
        Stats {
            requests: sum(Count::Requests),
            responses,
            connections_accepted: sum(Count::Accepted),
            connections_unused: sum(Count::Unused),
            connections_closed: sum(Count::Closed),
            connections_open: self.connections.now.load(Relaxed),
            connections_peak: self.connections.peak.load(Relaxed),
            concurrency: self.requests.now.load(Relaxed),
            concurrency_peak: self.requests.peak.load(Relaxed),
            delays,
            delay_requested_s: seconds(requested_ns),
            delay_actual_s: seconds(actual_ns),
            delay_overshoot_mean_us: match delays {
                0 => 0.0,
                _ => overshoot_us / delays as f64,
            },
            delay_overshoot_max_us: overshoot_max_ns as f64 / 1e3,
            body_bytes: sum(Count::BodyBytes),
            sent_bytes: sum(Count::SentBytes),
            cpu_user_s,
            cpu_system_s,
            threads: self.shards.len(),
            uptime_s: (now - self.started).as_secs_f64(),
            counting_s: (now - *lock(&self.counting_since)).as_secs_f64(),
            boot_id: fanout_program::boot_id(),
        }
    }

    /// Counts begin at zero again, peaks at the present values.
    pub(crate) fn reset(&self) {
        for shard in &self.shards {
            let all = shard.counts.iter().chain(&shard.responses);
            all.for_each(|counter| counter.store(0, Relaxed));
        }
        self.connections.reset();
        self.requests.reset();
        self.visits.reset();
        *lock(&self.counting_since) = Instant::now();
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally<'c> {
    counters: &'c ServerCounters,
    shard: &'c Shard,
}

impl<'c> Tally<'c> {
    /// A connection was accepted; what it counts as shows with its first request.
    pub(crate) fn connection(self) -> CountedConnection<'c> {
        CountedConnection { tally: self, use_: Use::None }
    }

    pub(crate) fn response(self, status: u16) {
        if let Some(counter) = self.shard.responses.get(usize::from(status)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn delay(self, requested: Duration, actual: Duration) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.shard.add(Count::Delays, 1);
        self.shard.add(Count::RequestedNs, ns(requested));
        self.shard.add(Count::ActualNs, ns(actual));
        let overshoot_max = self.shard.count(Count::OvershootMaxNs);
        overshoot_max.fetch_max(ns(actual.saturating_sub(requested)), Relaxed);
    }

    pub(crate) fn sent(self, bytes: u64) {
        self.shard.add(Count::SentBytes, bytes);
    }

    pub(crate) fn body(self, bytes: u64) {
        self.shard.add(Count::BodyBytes, bytes);
    }
}

/// One connection, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct CountedConnection<'c> {
    tally: Tally<'c>,
    use_: Use,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    None,
    StatsOnly,
    Requests,
}

impl<'c> CountedConnection<'c> {
    /// A request arrived; it is being answered until the result is dropped.
    pub(crate) fn request(&mut self) -> OpenRequest<'c> {
        let tally = self.tally;
        if self.use_ != Use::Requests {
            self.use_ = Use::Requests;
            tally.shard.add(Count::Accepted, 1);
            tally.counters.connections.enter();
        }
        tally.shard.add(Count::Requests, 1);
        tally.counters.requests.enter();
        OpenRequest(tally.counters)
    }

    /// The origin closes it, not its client.
    pub(crate) fn closed_here(&self) {
        if self.use_ == Use::Requests {
            self.tally.shard.add(Count::Closed, 1);
        }
    }

    pub(crate) fn stats_request(&mut self) {
        if self.use_ == Use::None {
            self.use_ = Use::StatsOnly;
        }
    }
}

impl Drop for CountedConnection<'_> {
    fn drop(&mut self) {
        match self.use_ {
            Use::None => self.tally.shard.add(Count::Unused, 1),
            Use::StatsOnly => {}
            Use::Requests => self.tally.counters.connections.leave(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct OpenRequest<'c>(&'c ServerCounters);

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        self.0.requests.leave();
    }
}

/// User and system time of this process so far, to a hundredth of a second;
/// zero where /proc cannot be read.
fn cpu_time_s() -> (f64, f64) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return (0.0, 0.0);
    };
    let tick_s = 1.0 / rustix::param::clock_ticks_per_second() as f64;
    parse_cpu_ticks(&stat)
        .map_or((0.0, 0.0), |(user, system)| (user as f64 * tick_s, system as f64 * tick_s))
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc_pid_stat(5)). The second field,
/// the command in brackets, may hold anything, brackets too.
fn parse_cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    let user = fields.next()?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    Some((user, system))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_together_from_all_threads() {
        let counters = ServerCounters::new(2);
        let mut first = counters.tally(0).connection();
        let mut second = counters.tally(1).connection();
        let one = first.request();
        let two = second.request();
        counters.tally(0).response(200);
        counters.tally(1).response(200);
        counters.tally(1).response(503);
        counters.tally(1).sent(10);
        counters.tally(0).body(4);
        let stats = counters.snapshot();
        assert_eq!((stats.requests, stats.concurrency), (2, 2));
        assert_eq!(stats.responses, BTreeMap::from([(200, 2), (503, 1)]));
        assert_eq!((stats.connections_accepted, stats.connections_open), (2, 2));
        assert_eq!((stats.sent_bytes, stats.body_bytes, stats.threads), (10, 4, 2));
        drop((one, two, first, second));
        let stats = counters.snapshot();
        assert_eq!((stats.concurrency, stats.concurrency_peak), (0, 2));
        assert_eq!((stats.connections_open, stats.connections_peak), (0, 2));
    }

    #[test]
    fn connections_are_told_apart_by_their_use() {
        let counters = ServerCounters::new(1);
        drop(counters.tally(0).connection());
        counters.tally(0).connection().stats_request();
        let mut both = counters.tally(0).connection();
        both.stats_request();
        drop(both.request());
        both.stats_request();
        drop(both.request());
        let stats = counters.snapshot();
        assert_eq!((stats.connections_accepted, stats.connections_unused), (1, 1));
        assert_eq!((stats.requests, stats.connections_open), (2, 1));
    }

    #[test]
    fn delays_add_up() {
        let counters = ServerCounters::new(1);
        let tally = counters.tally(0);
        let ms = Duration::from_millis;
        tally.delay(ms(5), ms(6));
        tally.delay(ms(10), ms(13));
        let stats = counters.snapshot();
        assert_eq!(stats.delays, 2);
        assert!((stats.delay_requested_s - 0.015).abs() < 1e-9);
        assert!((stats.delay_actual_s - 0.019).abs() < 1e-9);
        assert!((stats.delay_overshoot_mean_us - 2000.0).abs() < 1e-6);
        assert!((stats.delay_overshoot_max_us - 3000.0).abs() < 1e-6);
    }

    #[test]
    fn a_reset_keeps_what_is_open() {
        let counters = ServerCounters::new(1);
        let mut connection = counters.tally(0).connection();
        let open = connection.request();
        drop(connection.request());
        assert_eq!(counters.snapshot().concurrency_peak, 2);
        counters.reset();
        let stats = counters.snapshot();
        assert_eq!((stats.requests, stats.connections_accepted), (0, 0));
        assert_eq!((stats.concurrency, stats.concurrency_peak), (1, 1));
        assert_eq!((stats.connections_open, stats.connections_peak), (1, 1));
        drop(open);
        drop(connection);
        assert_eq!(counters.snapshot().connections_open, 0);
    }

    #[test]
    fn json_round_trips() {
        let counters = ServerCounters::new(1);
        counters.tally(0).response(404);
        let stats = counters.snapshot();
        let json = serde_json::to_string(&stats).unwrap();
        assert!(json.contains(r#""responses":{"404":1}"#), "{json}");
        assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), stats);
    }

    #[test]
    fn cpu_ticks_are_found_behind_any_command() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 75 0 0 20";
        assert_eq!(parse_cpu_ticks(stat), Some((250, 75)));
        assert_eq!(parse_cpu_ticks("7 (a) S 1"), None);
    }
}
