//! The record of a study: what `study.json` holds.
//!
//! Units stand last in a name. What could not be read is `None` (`null`),
//! never 0. Fields are only ever added within one [`SCHEMA_VERSION`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of this record; raised when a field changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// A whole study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Study {
    /// The version of this record's form.
    pub schema_version: u32,
    /// Under which conditions the study ran.
    pub manifest: Manifest,
    /// What was compared, in the order given; the A/A control comes last.
    pub arms: Vec<Arm>,
    /// Every trial, in the order in which they ran; none is left out.
    pub trials: Vec<Trial>,
    /// Arms against the baseline, one entry per arm and metric.
    pub comparisons: Vec<Comparison>,
    /// What a reader must know before believing a figure, in plain words.
    pub caveats: Vec<String>,
    /// Whether the study was stopped before its last block.
    pub interrupted: bool,
    /// How the comparisons were made, and what they could have seen.
    #[serde(default)]
    pub analysis: Analysis,
    /// What more of one thing brings, where arms differ in that thing only.
    #[serde(default)]
    pub scaling: Vec<Scaling>,
    /// Memory per URL in flight, where arms differ in their concurrency only.
    #[serde(default)]
    pub memory_slopes: Vec<MemorySlope>,
}

/// Under which conditions a study ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// fanout's version; behind its `+` the commit that it was built from.
    pub version: String,
    /// When the study started, UTC, RFC 3339.
    pub started: String,
    /// How long it took.
    pub elapsed_s: f64,
    /// The command line that repeats it.
    pub command: Vec<String>,
    /// Where the URLs came from: `built-in`, a file's name, or `stdin`.
    pub list: String,
    /// URLs in the list, repeats counted.
    pub urls: u64,
    /// SHA-256 over the list's URLs, each followed by a newline, in hex.
    pub list_sha256: String,
    /// Lines left out by `--skip-invalid`.
    pub skipped_lines: u64,
    /// `--repeat`.
    pub repeat: u64,
    /// Seed of the order of arms and of the origin.
    pub seed: u64,
    /// Blocks asked for, the discarded one not counted.
    pub blocks: u32,
    /// `dynamic` or `static`.
    pub split: String,
    /// Open loop: URLs taken up per second, in all fetchers together; `None` in a
    /// closed loop, where a slot takes the next URL up when it is free.
    #[serde(default)]
    pub rate_per_s: Option<f64>,
    /// URLs of one host out at a time, over all fetchers together; `None`: any number.
    #[serde(default)]
    pub max_per_host: Option<u32>,
    /// URLs of one host leased per second, over all fetchers together; `None`: any number.
    #[serde(default)]
    pub rate_per_host: Option<f64>,
    /// Name of the arm that the others are compared with.
    pub baseline: String,
    /// Concurrency of arms that name none.
    pub concurrency: u32,
    /// `--placement` as given.
    pub placement: String,
    /// What HTTP looked like in every arm.
    pub http: Http,
    /// The workers that took part, in the order in which they came.
    pub workers: Vec<Worker>,
    /// The coordinator's machine.
    pub coordinator: Machine,
    /// The server, when it is fanout's own.
    pub origin: Option<Origin>,
    /// Anything else worth keeping, by name: governor, allocator, TLS provider …
    pub facts: BTreeMap<String, String>,
}

/// What HTTP looked like in every arm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Http {
    /// `GET` or `HEAD`.
    pub method: String,
    /// One whole exchange.
    pub timeout_s: f64,
    /// Resolving, connecting, TLS handshake.
    pub connect_timeout_s: f64,
    /// Largest body.
    pub max_body_bytes: u64,
    /// Redirects followed.
    pub redirects: u32,
    /// Names of headers of one's own; values may be secret and are not kept.
    pub headers: Vec<String>,
    /// User-Agent.
    pub user_agent: String,
    /// Any certificate was accepted.
    pub insecure: bool,
    /// Own roots were used.
    pub cacert: bool,
    /// Compressed bodies were asked for and decoded.
    pub decompress: bool,
    /// A new connection for every request.
    pub no_keepalive: bool,
    /// Spun per response.
    pub cpu_work_s: f64,
    /// Spun under one lock per process.
    pub cpu_lock: bool,
}

/// A machine, or the part of one that a process may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// `uname -m`.
    pub architecture: String,
    /// Processors that may be used.
    pub cpus: Vec<u32>,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// `v1`, `v2` or empty.
    pub cgroup: String,
    /// The cgroup's CPU limit.
    pub cgroup_cpus: Option<f64>,
    /// The cgroup's memory limit.
    pub cgroup_memory_bytes: Option<u64>,
}

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// The number of its session.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// fanout's version there; behind its `+` the commit that it was built from.
    pub version: String,
    /// Fetchers that it runs at most.
    pub slots: u32,
    /// Its machine or container.
    pub machine: Machine,
    /// The first block that used it, if it came after the study had begun.
    #[serde(default)]
    pub joined_block: Option<u32>,
    /// The block during which it was lost or left.
    #[serde(default)]
    pub left_block: Option<u32>,
}

/// fanout's own server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// Base URLs.
    pub urls: Vec<String>,
    /// Threads that serve.
    pub threads: u32,
    /// Whether fanout started it for this study on this machine.
    pub embedded: bool,
}

/// One arrangement under study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Arm {
    /// The arm's canonical name; the A/A control has ` (again)` at its end.
    pub name: String,
    /// Fetchers, each a process.
    pub processes: u32,
    /// `sequential`, `threads`, `async` or `async-mt`.
    pub model: String,
    /// URLs in flight in each fetcher.
    pub concurrency: u32,
    /// `core`, `ureq`, `reqwest` or `null`.
    pub client: String,
    /// Workers it was asked to run on; `None`: all there were.
    pub workers: Option<u32>,
    /// Whether this is the baseline run a second time, as a control.
    pub control: bool,
    /// Why it ran in fewer blocks than the others, if it did.
    pub shortened: Option<String>,
}

/// One arm over the whole list, once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
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
    pub origin: Option<OriginFigures>,
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
pub struct OriginFigures {
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

/// One arm against the baseline on one metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// The arm it is compared with.
    pub baseline: String,
    /// The metric, by its name in [`Trial`]; `cpu_s` is user and system together.
    pub metric: String,
    /// Blocks that both arms were in, with valid trials.
    pub blocks: u32,
    /// Geometric mean of the per-block ratios: below 1 is less than the baseline.
    pub ratio: f64,
    /// Lower end of the 95 % interval.
    pub ci_low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub ci_high: Option<f64>,
    /// Of the exact sign-flip test.
    pub p_value: Option<f64>,
    /// After Holm's adjustment over the arms.
    pub p_adjusted: Option<f64>,
    /// What this says.
    pub verdict: Verdict,
    /// The smallest difference, as a ratio above 1, that this comparison would
    /// have found in four of five studies; `None` where it could find none.
    #[serde(default)]
    pub smallest_effect: Option<f64>,
}

/// What a comparison says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Less time (or memory, or CPU) than the baseline.
    Faster,
    /// More than the baseline.
    Slower,
    /// The interval lies inside the margin.
    Equivalent,
    /// The data do not say.
    Inconclusive,
    /// Not tested (a secondary metric, too few blocks, or a client that fetches
    /// nothing): the interval speaks for itself.
    #[default]
    Estimate,
}

/// How the comparisons were made, and what they could have seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Analysis {
    /// Differences up to this share count as none: 0.05 is ±5 %.
    pub margin: f64,
    /// Share of intervals that should hold the truth.
    pub confidence: f64,
    /// Arms whose makespan was tested, over which Holm's adjustment runs.
    pub tested: u32,
    /// Fewest blocks of a tested arm.
    pub blocks: u32,
    /// Blocks from which on the exact test can call a difference, with that
    /// many arms tested.
    pub blocks_needed: u32,
    /// The smallest difference in makespan, as a ratio above 1, that this
    /// study would have found in four of five cases; `None`: none.
    pub smallest_effect: Option<f64>,
    /// How the baseline compared with itself.
    pub control: Option<Control>,
}

/// The baseline against itself: what this machine's noise looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// Ratio of the second run's makespan to the first's, with its interval.
    pub ratio: Interval,
    /// Half of the interval's width, as a ratio above 1.
    pub half_width: Option<f64>,
    /// Why the study's claims are in doubt; `None` when the control found nothing.
    pub too_noisy: Option<String>,
}

/// A value and its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

/// Arms that differ in one thing only, and what more of that thing brings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scaling {
    /// What varies: `processes`, `concurrency` or `workers`.
    pub factor: ScalingFactor,
    /// The arms' common name with `N` for what varies: `Nxasync:16`.
    pub family: String,
    /// One per arm, by rising `n`.
    pub points: Vec<ScalingPoint>,
    /// The curves that were fitted, the chosen one first.
    pub fits: Vec<ScalingFit>,
    /// Why the first was chosen.
    pub choice: String,
    /// Whether and where more brings less, in words.
    pub peak: Peak,
    /// Peak memory (PSS) that one more of it costs.
    pub memory_per_step_bytes: Option<Interval>,
}

/// What varies between the arms of a [`Scaling`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingFactor {
    /// Fetchers.
    #[default]
    Processes,
    /// URLs in flight in each fetcher.
    Concurrency,
    /// Workers, with the same fetchers in all.
    Workers,
}

/// One arm of a [`Scaling`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScalingPoint {
    /// The arm's name.
    pub arm: String,
    /// How much it has of what varies.
    pub n: u32,
    /// Blocks with a valid trial.
    pub blocks: u32,
    /// Geometric mean of the trials' `requests_per_s`.
    pub requests_per_s: Interval,
    /// Every valid trial's `requests_per_s`, by block.
    pub trials_per_s: Vec<f64>,
    /// Throughput over that of the smallest arm, by block.
    pub speedup: Interval,
    /// Speedup over the growth of `n`: 1 is ideal.
    pub efficiency: Interval,
    /// Median of the trials' `pss_peak_bytes`.
    pub pss_peak_bytes: Option<u64>,
    /// Median of the trials' `spawn_s`.
    pub spawn_s: Option<f64>,
    /// Median of the trials' coordination overhead.
    pub overhead_s: Option<f64>,
}

/// A curve through the points of a [`Scaling`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScalingFit {
    /// Which curve.
    pub model: ScalingModel,
    /// γ: requests per second at 1, if there were nothing in the way.
    pub gamma: Interval,
    /// σ: share of the work that cannot be spread (Amdahl, USL).
    pub sigma: Option<Interval>,
    /// κ: cost of keeping each pair in agreement (USL).
    pub kappa: Option<Interval>,
    /// Requests per second that are never exceeded (linear, then flat).
    pub ceiling: Option<Interval>,
    /// χ² of the arms' means around the curve plus twice the number of
    /// parameters: lower is better.
    pub aic: f64,
    /// The curve, with a 95 % band, over the measured range.
    pub curve: Vec<CurvePoint>,
}

/// What kind of curve a [`ScalingFit`] is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingModel {
    /// min(γN, ceiling).
    #[default]
    LinearThenFlat,
    /// γN / (1 + σ(N − 1)).
    Amdahl,
    /// γN / (1 + σ(N − 1) + κN(N − 1)).
    Usl,
}

/// A point of a fitted curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurvePoint {
    /// How much of what varies; between whole numbers too.
    pub n: f64,
    /// The curve there, with its band.
    pub requests_per_s: Interval,
}

/// Where more of what varies starts to bring less.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Peak {
    /// The N with the highest throughput; `None` where none was seen.
    pub n: Option<Interval>,
    /// The same in words, with the reason when none was seen.
    pub text: String,
}

/// Memory per URL in flight, over arms that differ in their concurrency only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySlope {
    /// The arms' common name with `N` for the concurrency: `threads:N`.
    pub family: String,
    /// The metric, by its name in [`Trial`].
    pub metric: String,
    /// Blocks, each of which gave one slope.
    pub blocks: u32,
    /// Lowest and highest number of URLs in flight.
    pub in_flight: [u32; 2],
    /// Bytes per URL in flight.
    pub bytes_per_request: Interval,
    /// What is left at none in flight.
    pub base_bytes: Interval,
}
