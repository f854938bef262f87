//! One trial, and every metric of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One arm over the whole list, once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Trial")]
pub struct TrialRecord {
    /// The arm's name.
    pub arm: String,
    /// Its block, from 0; the first is discarded.
    pub block: u32,
    /// Its place among all trials, from 0.
    pub order: u32,
    /// Ran only to warm up.
    pub discarded: bool,
    /// Whether it may enter a comparison.
    pub valid: bool,
    /// Why not.
    pub invalid_reasons: Vec<String>,
    /// A fetcher or worker was lost, and its URLs were leased again.
    pub degraded: bool,
    /// From Go to the last completion, as the coordinator sees it.
    pub makespan_s: Option<f64>,
    /// From Go to the last completion, as the slowest fetcher sees it.
    pub fetch_makespan_s: Option<f64>,
    /// From the first spawn to the last fetcher's Ready.
    pub spawn_s: Option<f64>,
    /// URLs with outcome `ok`.
    pub completed: u64,
    /// URLs with another outcome.
    pub failed: u64,
    /// URLs given up after three lost leases.
    pub abandoned: u64,
    /// URLs leased again after a loss.
    pub requeued: u64,
    /// Completions of URLs that were done already.
    pub duplicates_ignored: u64,
    /// Fetchers that were lost, those of lost workers included.
    #[serde(default)]
    pub fetchers_lost: u32,
    /// From a lost fetcher's last sign of life, its Ready or a completion, to the
    /// moment at which its loss was noticed; the longest. `None`: none was lost.
    #[serde(default)]
    pub notice_s: Option<f64>,
    /// From noticing a loss to the end of the last URL that was leased again; the
    /// longest, where losses that overlap count as one. `None`: none was.
    #[serde(default)]
    pub recovery_s: Option<f64>,
    /// Answers of 429 or 503 after which a URL was asked for again.
    #[serde(default)]
    pub asked_again: u64,
    /// How long slots were free for which the limits per host allowed no URL;
    /// `None` without such limits.
    #[serde(default)]
    pub host_wait_s: Option<f64>,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Completed, per second of makespan.
    pub requests_per_s: Option<f64>,
    /// CPU time of all fetchers in user mode.
    pub cpu_user_s: Option<f64>,
    /// CPU time of all fetchers in the kernel.
    pub cpu_system_s: Option<f64>,
    /// Context switches of all fetchers because they waited.
    pub voluntary_switches: Option<u64>,
    /// Context switches of all fetchers because their time was up.
    pub involuntary_switches: Option<u64>,
    /// Time that the fetchers' threads were ready and did not run.
    pub run_queue_wait_s: Option<f64>,
    /// Most threads seen in all fetchers together.
    pub threads_peak: Option<u32>,
    /// Peak of the fetchers' summed proportional set size.
    pub pss_peak_bytes: Option<u64>,
    /// Peak of the fetchers' summed unique set size.
    pub uss_peak_bytes: Option<u64>,
    /// The fetchers' summed proportional set size, integrated from Go to the hold:
    /// how much memory was held for how long.
    #[serde(default)]
    pub pss_byte_s: Option<f64>,
    /// Sum of every fetcher's peak resident memory.
    pub hwm_sum_bytes: Option<u64>,
    /// Peak memory of the workers' cgroups.
    pub cgroup_peak_bytes: Option<u64>,
    /// Socket buffers in the workers' cgroups at the hold.
    pub cgroup_sock_bytes: Option<u64>,
    /// Kernel stacks in the workers' cgroups at the hold.
    pub cgroup_kernel_stack_bytes: Option<u64>,
    /// URLs in flight, averaged over the fetchers' makespan: the gauge's integral.
    pub in_flight_mean: Option<f64>,
    /// Sum of the fetchers' peaks of URLs in flight.
    pub in_flight_peak: Option<u32>,
    /// Connections that the fetchers opened.
    pub connections_opened: Option<u64>,
    /// Requests that the fetchers sent, redirects and retries included.
    pub requests_sent: Option<u64>,
    /// Requests sent again because a kept connection had been closed.
    #[serde(default)]
    pub stale_retries: Option<u64>,
    /// Time that the coordinator's machine was suspended: boot time less monotonic time.
    #[serde(default)]
    pub suspended_s: Option<f64>,
    /// From taking a URL up to its body's last byte, or to its failure.
    pub latency_s: Option<Percentiles>,
    /// Open loop: from a URL's intended start to its take-up; `None` in a closed loop.
    #[serde(default)]
    pub queue_wait_s: Option<Percentiles>,
    /// Open loop: from a URL's intended start to its body's last byte: the
    /// latency corrected for starts that came late.
    #[serde(default)]
    pub sojourn_s: Option<Percentiles>,
    /// Open loop: starts that came more than 2 ms after they were intended. None
    /// is dropped: every URL is fetched.
    #[serde(default)]
    pub late_starts: Option<u64>,
    /// From taking a URL up to the response's first byte.
    pub first_byte_s: Option<Percentiles>,
    /// Resolving, connecting and TLS handshake, of URLs that needed it.
    pub connect_s: Option<Percentiles>,
    /// Sums over all URLs of where the slots' time went.
    pub phases: Phases,
    /// The cost of spreading the work.
    pub coordination: Coordination,
    /// How the URLs ended, by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// How the responses ended, by status.
    pub statuses: BTreeMap<String, u64>,
    /// Memory over time.
    pub memory: Vec<MemoryPoint>,
    /// Latencies as an HDR histogram of microseconds (V2 + DEFLATE, base64).
    pub latency_histogram: Option<String>,
    /// Per worker, in the order of the manifest.
    pub workers: Vec<WorkerShare>,
    /// What the origin counted, when it is fanout's own.
    pub origin: Option<OriginMetrics>,
    /// The first requests, in their slots; only for one trial of each arm.
    pub requests: Vec<Request>,
}

/// A distribution in a few numbers; `p99` and the like are `None` where fewer
/// than ten samples lie beyond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentiles {
    /// Half were faster.
    pub p50: f64,
    /// 1 in 10 was slower.
    pub p90: Option<f64>,
    /// 1 in 100 was slower.
    pub p99: Option<f64>,
    /// The slowest.
    pub max: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// How many there were.
    pub count: u64,
}

/// Where the slots' time went, summed over all URLs of a trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phases {
    /// Resolving, connecting, TLS handshake.
    pub connect_s: f64,
    /// Request sent, waiting for the first byte.
    pub wait_s: f64,
    /// Reading the body.
    pub body_s: f64,
    /// Between two URLs: the slot had none, or its process did not run.
    pub idle_s: f64,
}

/// The cost of spreading the work over processes and machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coordination {
    /// `makespan_s` less `fetch_makespan_s`.
    pub overhead_s: Option<f64>,
    /// From a URL's end in its fetcher to its entry in the ledger, on average: time
    /// since Go here less time since Go there, so Go's own way is part of it.
    #[serde(default)]
    pub lag_mean_s: Option<f64>,
    /// From Go's arrival at a worker to its last fetcher's Go; the slowest worker's.
    pub barrier_s: Option<f64>,
    /// The coordinator's own CPU time.
    pub coordinator_cpu_s: Option<f64>,
    /// The workers' own CPU time, memory sampling included.
    pub worker_cpu_s: Option<f64>,
    /// Bytes written into fetchers' pipes.
    pub pipe_bytes_sent: u64,
    /// Bytes read from fetchers' pipes.
    pub pipe_bytes_received: u64,
    /// Bytes of messages to workers.
    pub grpc_bytes_sent: u64,
    /// Bytes of messages from workers.
    pub grpc_bytes_received: u64,
    /// Messages to workers.
    pub grpc_messages_sent: u64,
    /// Messages from workers.
    pub grpc_messages_received: u64,
}

/// Memory of all fetchers at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryPoint {
    /// Since Go.
    pub elapsed_s: f64,
    /// Summed proportional set size.
    pub pss_bytes: Option<u64>,
    /// Summed unique set size.
    pub uss_bytes: Option<u64>,
}

/// One worker's part in a trial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerShare {
    /// The worker's session.
    pub worker: u32,
    /// Its name.
    pub name: String,
    /// Fetchers that it ran.
    pub fetchers: u32,
    /// URLs done there.
    pub urls: u64,
    /// From Go to the last completion of its slowest fetcher.
    pub fetch_makespan_s: Option<f64>,
    /// CPU time of its fetchers.
    pub cpu_s: Option<f64>,
    /// Peak of its fetchers' summed proportional set size.
    pub pss_peak_bytes: Option<u64>,
    /// Whether it was lost.
    pub lost: bool,
}

/// What fanout's own origin counted during a trial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OriginMetrics {
    /// Requests served.
    pub requests: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Most connections open at a time.
    pub connections_peak: u64,
    /// Most requests under way at a time.
    pub concurrent_peak: u64,
    /// CPU time it took.
    pub cpu_s: Option<f64>,
    /// Share of the origin's threads that was busy: 1 is the limit.
    pub busy: Option<f64>,
    /// Delays served less delays asked for, mean.
    pub delay_error_mean_s: Option<f64>,
    /// Connections that the origin itself closed: after a body without a
    /// length, a fault, or too long a pause. Clients must replace those.
    #[serde(default)]
    pub connections_closed: Option<u64>,
}

/// One request in its slot, for the picture of who waits when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// The fetcher, from 0.
    pub fetcher: u32,
    /// The slot within the fetcher.
    pub slot: u32,
    /// Taken up, since Go.
    pub start_s: f64,
    /// Spent on connecting.
    pub connect_s: f64,
    /// From taking up to the first byte.
    pub first_byte_s: Option<f64>,
    /// From taking up to the end.
    pub duration_s: f64,
    /// Whether the outcome was `ok`.
    pub ok: bool,
}
