//! One trial, and the one table of its metrics.
//!
//! A new metric gets a field here, whose doc becomes the schema's, a row in
//! [`FIELDS`], and a line in [`TrialRecord::sum_up`] if fetchers measure it; from both follow `trials.csv`, comparisons, columns and notes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{format, sum::FetcherExits};

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
    /// From a fetcher's fork to its Ready, of the fetcher that took longest.
    pub spawn_s: Option<f64>,
    /// From the first fetcher's fork to the last one's Ready, on the slowest worker.
    #[serde(default)]
    pub start_s: Option<f64>,
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
    /// CPU time of all fetchers from their forks to Go, in user mode and in the kernel: what
    /// starting them takes.
    #[serde(default)]
    pub cpu_start_s: Option<f64>,
    /// Context switches of all fetchers because they waited.
    pub voluntary_switches: Option<u64>,
    /// Context switches of all fetchers because their time was up.
    pub involuntary_switches: Option<u64>,
    /// Time that the fetchers' threads were ready and did not run.
    pub run_queue_wait_s: Option<f64>,
    /// Most threads seen in all fetchers together.
    pub threads_peak: Option<u32>,
    /// What the arm alone needs, whoever else runs, at its peak: the anonymous memory of all
    /// fetchers, and the file pages of their program once.
    #[serde(default)]
    pub memory_peak_bytes: Option<u64>,
    /// Page tables of all fetchers at the hold: memory that the kernel needs for them.
    #[serde(default)]
    pub page_tables_bytes: Option<u64>,
    /// Kernel stacks of all fetchers' threads at the hold: as many as there were threads, each of
    /// the size that this kernel gives one.
    #[serde(default)]
    pub kernel_stacks_bytes: Option<u64>,
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
    /// CPU time, from Go to the hold, of processes that are not part of the study, on the
    /// machines that fetch.
    #[serde(default)]
    pub foreign_cpu_s: Option<f64>,
    /// CPU time, from Go to the hold, that a hypervisor gave to other machines.
    #[serde(default)]
    pub steal_s: Option<f64>,
    /// CPU time that the machines that fetch could have given from Go to the hold: their CPUs
    /// times its length.
    #[serde(default)]
    pub machine_cpu_s: Option<f64>,
    /// Time that slots had no URL though the list had some left: what waiting for the coordinator
    /// cost. Summed over all slots. `None` where slots wait on purpose: under limits per host and
    /// at a fixed rate.
    #[serde(default)]
    pub starved_s: Option<f64>,
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
    /// Redirects that the fetchers followed.
    #[serde(default)]
    pub redirects_followed: Option<u64>,
    /// Names that the fetchers looked up; one that is known already is not looked up again.
    #[serde(default)]
    pub names_resolved: Option<u64>,
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
    /// What the fetchers need, whoever else runs; see `memory_peak_bytes`.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
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

impl TrialRecord {
    /// URLs that failed or were given up.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.failed.saturating_add(self.abandoned)
    }

    /// URLs that it went through, however each ended.
    #[must_use]
    pub fn urls(&self) -> u64 {
        self.completed.saturating_add(self.lost())
    }

    /// A sum over all of these URLs as that of one; `None` where there was none.
    #[must_use]
    pub fn per_url(&self, sum: f64) -> Option<f64> {
        (self.urls() > 0).then(|| sum / self.urls() as f64)
    }

    /// Fills in what the fetchers counted and used, all together; a metric is known if it is known
    /// of every one. The time that they took must be there already.
    pub fn sum_up(&mut self, exits: &FetcherExits<'_>) {
        let in_flight_s = exits.reported(|r| r.in_flight.as_secs_f64());
        self.in_flight_mean =
            in_flight_s.zip(self.fetch_makespan_s).map(|(integral, makespan)| integral / makespan);
        self.in_flight_peak = exits.reported(|r| r.in_flight_peak);
        self.starved_s = exits.reported_if_known(|r| r.starved.map(|time| time.as_secs_f64()));
        self.connections_opened = exits.reported(|r| r.counts.connections_opened);
        self.requests_sent = exits.reported(|r| r.counts.requests_sent);
        self.stale_retries = exits.reported(|r| r.counts.stale_retries);
        self.redirects_followed = exits.reported(|r| r.counts.redirects_followed);
        self.names_resolved = exits.reported(|r| r.counts.names_resolved);
        self.cpu_user_s = exits.used(|u| Some(u.cpu_user.as_secs_f64()));
        self.cpu_system_s = exits.used(|u| Some(u.cpu_system.as_secs_f64()));
        self.cpu_start_s = exits.used(|u| Some(u.cpu_start?.as_secs_f64()));
        self.voluntary_switches = exits.used(|u| Some(u.voluntary_switches));
        self.involuntary_switches = exits.used(|u| Some(u.involuntary_switches));
        self.run_queue_wait_s = exits.held(|h| h.run_queue_wait.map(|w| w.as_secs_f64()));
        self.hwm_sum_bytes = exits.held(|h| h.hwm_bytes);
        self.page_tables_bytes = exits.held(|h| h.page_tables_bytes);
    }
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
    /// Sum of the delays served: for so long URLs had to wait for the server, whoever fetched them.
    #[serde(default)]
    pub delays_served_s: Option<f64>,
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

/// What a metric counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Bytes, held for so many seconds.
    ByteSeconds,
    /// So many per second.
    PerSecond,
    /// So many.
    Count,
    /// A share of one.
    Share,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Less is.
    Less,
    /// More is.
    More,
    /// Neither: it tells what happened.
    Neither,
}

/// What a metric is divided by where arms are shown side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// Nothing: it is the whole trial's.
    Trial,
    /// The trial's URLs, in thousands.
    ThousandUrls,
}

/// A number that a trial gives.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its path in the record, which `trials.csv` writes with `_`; or the name of
    /// a sum of two fields. Every arm fetches the same list, so that the ratio of
    /// sums is also the ratio per URL.
    pub name: &'static str,
    /// What it counts in.
    pub unit: MetricUnit,
    /// Which way is better.
    pub better: Better,
    /// What it is divided by.
    pub per: Per,
    /// Reads it; `None` where it is not known.
    pub of: fn(&TrialRecord) -> Option<f64>,
}

/// A field that may be unknown, as a number.
trait Known {
    fn known(self) -> Option<f64>;
}

impl Known for f64 {
    fn known(self) -> Option<f64> {
        Some(self)
    }
}

impl Known for u32 {
    fn known(self) -> Option<f64> {
        Some(self.into())
    }
}

impl Known for u64 {
    fn known(self) -> Option<f64> {
        Some(self as f64)
    }
}

impl<T: Known> Known for Option<T> {
    fn known(self) -> Option<f64> {
        self?.known()
    }
}

/// A row of the table: the field's path, its unit, which way is better. A part
/// with `?` may be missing.
macro_rules! metric {
    ($part:ident ? . $field:ident, $unit:ident, $better:ident) => {
        Metric {
            name: concat!(stringify!($part), ".", stringify!($field)),
            unit: MetricUnit::$unit,
            better: Better::$better,
            per: Per::Trial,
            of: |trial| trial.$part?.$field.known(),
        }
    };
    ($first:ident $(. $rest:ident)?, $unit:ident, $better:ident) => {
        Metric {
            name: concat!(stringify!($first) $(, ".", stringify!($rest))?),
            unit: MetricUnit::$unit,
            better: Better::$better,
            per: Per::Trial,
            of: |trial| trial.$first $(.$rest)?.known(),
        }
    };
}

macro_rules! percentiles {
    ($part:ident) => {
        [
            metric!($part?.p50, Seconds, Less),
            metric!($part?.p90, Seconds, Less),
            metric!($part?.p99, Seconds, Less),
            metric!($part?.max, Seconds, Less),
            metric!($part?.mean, Seconds, Less),
            metric!($part?.count, Count, Neither),
        ]
    };
}

/// Every metric that has a field, in the order of `trials.csv`.
const FIELDS: [&[Metric]; 7] = [
    &[
        metric!(makespan_s, Seconds, Less),
        metric!(fetch_makespan_s, Seconds, Less),
        metric!(spawn_s, Seconds, Less),
        metric!(start_s, Seconds, Less),
        metric!(completed, Count, More),
        metric!(failed, Count, Less),
        metric!(abandoned, Count, Less),
        metric!(requeued, Count, Less),
        metric!(duplicates_ignored, Count, Less),
        metric!(fetchers_lost, Count, Less),
        metric!(notice_s, Seconds, Less),
        metric!(recovery_s, Seconds, Less),
        metric!(asked_again, Count, Less),
        metric!(bytes, Bytes, Neither),
        metric!(requests_per_s, PerSecond, More),
        metric!(cpu_user_s, Seconds, Less),
        metric!(cpu_system_s, Seconds, Less),
        metric!(cpu_start_s, Seconds, Less),
        metric!(voluntary_switches, Count, Less),
        metric!(involuntary_switches, Count, Less),
        metric!(run_queue_wait_s, Seconds, Less),
        metric!(threads_peak, Count, Less),
        metric!(memory_peak_bytes, Bytes, Less),
        metric!(page_tables_bytes, Bytes, Less),
        metric!(kernel_stacks_bytes, Bytes, Less),
        metric!(pss_peak_bytes, Bytes, Less),
        metric!(uss_peak_bytes, Bytes, Less),
        metric!(hwm_sum_bytes, Bytes, Less),
        metric!(pss_byte_s, ByteSeconds, Less),
        metric!(cgroup_peak_bytes, Bytes, Less),
        metric!(cgroup_sock_bytes, Bytes, Less),
        metric!(cgroup_kernel_stack_bytes, Bytes, Less),
        metric!(foreign_cpu_s, Seconds, Less),
        metric!(steal_s, Seconds, Less),
        metric!(machine_cpu_s, Seconds, Neither),
        metric!(starved_s, Seconds, Less),
        metric!(in_flight_mean, Count, Neither),
        metric!(in_flight_peak, Count, Neither),
        metric!(connections_opened, Count, Less),
        metric!(requests_sent, Count, Less),
        metric!(stale_retries, Count, Less),
        metric!(redirects_followed, Count, Neither),
        metric!(names_resolved, Count, Neither),
        metric!(suspended_s, Seconds, Less),
        metric!(late_starts, Count, Less),
        metric!(host_wait_s, Seconds, Less),
    ],
    &percentiles!(latency_s),
    &percentiles!(first_byte_s),
    &percentiles!(connect_s),
    &percentiles!(queue_wait_s),
    &percentiles!(sojourn_s),
    &[
        metric!(phases.connect_s, Seconds, Less),
        metric!(phases.wait_s, Seconds, Less),
        metric!(phases.body_s, Seconds, Less),
        metric!(phases.idle_s, Seconds, Less),
        metric!(coordination.overhead_s, Seconds, Less),
        metric!(coordination.lag_mean_s, Seconds, Less),
        metric!(coordination.barrier_s, Seconds, Less),
        metric!(coordination.coordinator_cpu_s, Seconds, Less),
        metric!(coordination.worker_cpu_s, Seconds, Less),
        metric!(coordination.pipe_bytes_sent, Bytes, Less),
        metric!(coordination.pipe_bytes_received, Bytes, Less),
        metric!(coordination.grpc_bytes_sent, Bytes, Less),
        metric!(coordination.grpc_bytes_received, Bytes, Less),
        metric!(coordination.grpc_messages_sent, Count, Less),
        metric!(coordination.grpc_messages_received, Count, Less),
        metric!(origin?.requests, Count, Neither),
        metric!(origin?.connections, Count, Neither),
        metric!(origin?.connections_peak, Count, Neither),
        metric!(origin?.concurrent_peak, Count, Neither),
        metric!(origin?.cpu_s, Seconds, Less),
        metric!(origin?.busy, Share, Less),
        metric!(origin?.delay_error_mean_s, Seconds, Less),
        metric!(origin?.delays_served_s, Seconds, Neither),
        metric!(origin?.connections_closed, Count, Neither),
    ],
];

/// Metrics that are sums of two fields.
const SUMS: [Metric; 4] = [
    Metric {
        name: "total_s",
        unit: MetricUnit::Seconds,
        better: Better::Less,
        per: Per::Trial,
        of: |trial| Some(trial.start_s? + trial.makespan_s?),
    },
    Metric {
        name: "cpu_run_s",
        unit: MetricUnit::Seconds,
        better: Better::Less,
        per: Per::ThousandUrls,
        of: |trial| {
            let after_go = trial.cpu_user_s? + trial.cpu_system_s? - trial.cpu_start_s?;
            Some(after_go.max(0.0))
        },
    },
    Metric {
        name: "cpu_s",
        unit: MetricUnit::Seconds,
        better: Better::Less,
        per: Per::ThousandUrls,
        of: |trial| Some(trial.cpu_user_s? + trial.cpu_system_s?),
    },
    Metric {
        name: "switches",
        unit: MetricUnit::Count,
        better: Better::Less,
        per: Per::ThousandUrls,
        of: |trial| {
            let (own, forced) = (trial.voluntary_switches?, trial.involuntary_switches?);
            own.saturating_add(forced).known()
        },
    },
];

/// The outcome that verdicts are about, named before any trial.
pub const PRIMARY: &Metric = &FIELDS[0][0];

/// What arms are compared with the baseline on, the primary metric first.
const COMPARED: [&str; 11] = [
    PRIMARY.name,
    "total_s",
    "cpu_run_s",
    "memory_peak_bytes",
    "requests_per_s",
    "pss_peak_bytes",
    "uss_peak_bytes",
    "cpu_s",
    "switches",
    "latency_s.p50",
    "latency_s.p99",
];

impl Metric {
    /// Every metric that has a field, in the order of `trials.csv`.
    pub(crate) fn fields() -> impl Iterator<Item = &'static Self> {
        FIELDS.iter().copied().flatten()
    }

    /// The metric of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::fields().chain(&SUMS).find(|metric| metric.name == name)
    }

    /// What arms are compared with the baseline on, the primary metric first.
    pub(crate) fn compared() -> impl Iterator<Item = &'static Self> {
        COMPARED.iter().filter_map(|name| Self::named(name))
    }

    /// What it is called in a table: its name without the unit, which stands with the figures.
    #[must_use]
    pub fn label(&self) -> String {
        let bare = self.name.replace("_s.", ".").replace("_bytes.", ".");
        let bare = match self.unit {
            MetricUnit::Seconds => bare.trim_end_matches("_s"),
            MetricUnit::Bytes => bare.trim_end_matches("_bytes"),
            _ => &bare,
        };
        let words = bare.split(['_', '.']).map(|word| match word {
            "cpu" | "pss" | "uss" | "hwm" => word.to_uppercase(),
            "requests" if self.unit == MetricUnit::PerSecond => "URLs".to_owned(),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// A value in words, in its unit.
    #[must_use]
    pub fn say(&self, value: Option<f64>) -> String {
        let Some(value) = value else {
            return format::UNKNOWN.to_owned();
        };
        match self.unit {
            MetricUnit::Seconds => format::duration(value),
            MetricUnit::Bytes => format::bytes(value),
            MetricUnit::ByteSeconds => format!("{}·s", format::bytes(value)),
            MetricUnit::PerSecond | MetricUnit::Count => format::rate(value),
            MetricUnit::Share => format::percent(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_from_names() {
        let labels: Vec<String> = Metric::compared().map(Metric::label).collect();
        insta::assert_snapshot!(labels.join(", "), @"makespan, total, CPU run, memory peak, URLs per s, PSS peak, USS peak, CPU, switches, latency p50, latency p99");
    }

    #[test]
    fn every_metric_that_is_compared_is_in_the_table() {
        assert_eq!(PRIMARY.name, "makespan_s");
        assert_eq!(Metric::compared().count(), COMPARED.len());
    }
}
