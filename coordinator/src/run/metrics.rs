//! A trial's metrics, gathered while it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fanout_analysis::{
    latency::Latency,
    record::{MemoryPoint, Phases, Request, TrialRecord, WorkerShare},
    sum::{FetcherExits, sum},
};
use fanout_engine::trial::Accepted;
use fanout_proto::{
    completion::Outcome,
    id::{FetcherId, UrlId, WorkerId},
    report::{FetcherExited, MemorySample, WorkerUsage},
    time::{micros, seconds},
};

use super::machines::Machines;

/// Requests kept for the picture of who waits when: those of a whole trial of the built-in list.
const REQUESTS_KEPT: usize = 1024;
/// Memory samples kept; past that every second one goes.
const MEMORY_POINTS_MAX: usize = 400;
/// An event loop's timer has a resolution of 1 ms; what comes later is late.
const LATE_US: u64 = 2_000;
/// Statuses that are counted one by one.
const STATUSES: usize = 1000;

#[derive(Debug, Default)]
struct FetcherMetrics {
    worker: WorkerId,
    urls: u64,
    spawn: Option<Duration>,
    busy_us: u64,
    last_end_us: u64,
    slots: u32,
    exited: Option<FetcherExited>,
}

/// Gathers one trial's metrics.
#[derive(Debug, Default)]
pub struct TrialMetrics {
    concurrency: u32,
    fetchers: BTreeMap<FetcherId, FetcherMetrics>,
    memory: BTreeMap<WorkerId, Vec<MemorySample>>,
    usage: BTreeMap<WorkerId, WorkerUsage>,
    outcomes: BTreeMap<Outcome, u64>,
    statuses: Vec<u64>,
    bytes: u64,
    latency: Latency,
    first_byte: Latency,
    connect: Latency,
    queue_wait: Latency,
    sojourn: Latency,
    late_starts: u64,
    connect_us: u64,
    wait_us: u64,
    body_us: u64,
    requests: Vec<Request>,
    lost_workers: Vec<WorkerId>,
    lag_us: u64,
}

/// Memory over time, by the trapezoidal rule; `None` if a sample is not known.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
fn held_over_time(memory: &[MemoryPoint]) -> Option<f64> {
    let pieces = memory.windows(2).map(|pair| {
        let mean = f64::midpoint(pair[0].pss_bytes? as f64, pair[1].pss_bytes? as f64);
        Some(mean * (pair[1].elapsed_s - pair[0].elapsed_s))
    });
    sum(pieces)
}

/// What the fetchers need, whoever else runs: the anonymous memory of all, and the file pages of
/// their program once for each machine.
fn alone<'a>(
    samples: &BTreeMap<WorkerId, MemorySample>,
    machine_of: &impl Fn(WorkerId) -> &'a str,
) -> Option<u64> {
    let mut file_bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for (worker, sample) in samples {
        let most = file_bytes.entry(machine_of(*worker)).or_default();
        *most = sample.file_bytes?.max(*most);
    }
    let anonymous = samples.values().map(|s| s.anonymous_bytes);
    sum(anonymous.chain(file_bytes.into_values().map(Some)))
}

impl TrialMetrics {
    /// Nothing yet.
    pub fn new(concurrency: u32) -> Self {
        Self { concurrency, statuses: vec![0; STATUSES], ..Self::default() }
    }

    /// A fetcher is being started.
    pub fn started(&mut self, fetcher: FetcherId, worker: WorkerId) {
        self.fetchers.entry(fetcher).or_default().worker = worker;
    }

    /// A fetcher is ready.
    pub fn ready(&mut self, fetcher: FetcherId, spawn: Duration) {
        self.fetchers.entry(fetcher).or_default().spawn = Some(spawn);
    }

    /// Completions that count, entered so long after their fetcher's Go.
    pub fn record(&mut self, fetcher: FetcherId, accepted: &[Accepted], since_go: Duration) {
        let since_go_us = micros(since_go);
        let own = self.fetchers.entry(fetcher).or_default();
        own.urls += accepted.len() as u64;
        for Accepted { completion: c, .. } in accepted {
            let first_byte_us = c.first_byte_us.map(|us| us.min(c.duration_us));
            let waited_us = first_byte_us.unwrap_or(c.duration_us);
            let connect_us = c.connect_us.min(waited_us);
            self.latency.record(c.duration_us);
            if let Some(wait_us) = c.wait_us {
                self.queue_wait.record(wait_us);
                self.sojourn.record(wait_us.saturating_add(c.duration_us));
                self.late_starts += u64::from(wait_us > LATE_US);
            }
            if let Some(us) = first_byte_us {
                self.first_byte.record(us);
            }
            if connect_us > 0 {
                self.connect.record(connect_us);
            }
            self.connect_us = self.connect_us.saturating_add(connect_us);
            self.wait_us = self.wait_us.saturating_add(waited_us - connect_us);
            self.body_us = self.body_us.saturating_add(c.duration_us - waited_us);
            *self.outcomes.entry(c.outcome).or_default() += 1;
            if let Some(count) =
                c.status.and_then(|status| self.statuses.get_mut(usize::from(status)))
            {
                *count += 1;
            }
            self.bytes = self.bytes.saturating_add(c.body_bytes);
            own.busy_us = own.busy_us.saturating_add(c.duration_us);
            let end_us = c.start_us.saturating_add(c.duration_us);
            own.last_end_us = own.last_end_us.max(end_us);
            self.lag_us = self.lag_us.saturating_add(since_go_us.saturating_sub(end_us));
            own.slots = own.slots.max(c.slot.saturating_add(1));
            if self.requests.len() < REQUESTS_KEPT {
                self.requests.push(Request {
                    fetcher: fetcher.0,
                    slot: c.slot,
                    start_s: seconds(c.start_us),
                    connect_s: seconds(connect_us),
                    first_byte_s: first_byte_us.map(seconds),
                    duration_s: seconds(c.duration_us),
                    ok: c.outcome == Outcome::Ok,
                });
            }
        }
    }

    /// URLs that were given up.
    pub fn abandoned(&mut self, ids: &[UrlId]) {
        *self.outcomes.entry(Outcome::Abandoned).or_default() += ids.len() as u64;
    }

    /// Memory of a worker's fetchers.
    pub fn memory(&mut self, worker: WorkerId, sample: MemorySample) {
        let samples = self.memory.entry(worker).or_default();
        if samples.len() >= MEMORY_POINTS_MAX {
            // Long trials are shown with less detail; the peaks are kept.
            let peak = |of: fn(&MemorySample) -> Option<u64>| {
                let largest = samples.iter().enumerate().max_by_key(|(_, s)| of(s));
                largest.map(|(index, _)| index)
            };
            let peaks = [peak(|s| s.pss_bytes), peak(|s| s.anonymous_bytes)];
            let mut index = 0;
            samples.retain(|_| {
                index += 1;
                index % 2 == 1 || peaks.contains(&Some(index - 1))
            });
        }
        samples.push(sample);
    }

    /// A fetcher was reaped.
    pub fn exited(&mut self, exited: FetcherExited) {
        let fetcher = exited.fetcher;
        self.fetchers.entry(fetcher).or_default().exited = Some(exited);
    }

    /// A worker's own cost.
    pub fn usage(&mut self, worker: WorkerId, usage: WorkerUsage) {
        self.usage.insert(worker, usage);
    }

    /// A worker was lost.
    pub fn worker_lost(&mut self, worker: WorkerId) {
        let took_part = self.fetchers.values().any(|f| f.worker == worker);
        if took_part && !self.lost_workers.contains(&worker) {
            self.lost_workers.push(worker);
        }
    }

    /// Bytes of bodies so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The metrics as a trial's record; what only the coordinator knows
    /// (makespan, counts, its own CPU) is the caller's to fill in.
    #[must_use]
    pub fn finish<'a>(
        self,
        name_of: impl Fn(WorkerId) -> String,
        machine_of: impl Fn(WorkerId) -> &'a str,
    ) -> TrialRecord {
        let mut trial = TrialRecord {
            bytes: self.bytes,
            latency_s: self.latency.percentiles(),
            queue_wait_s: self.queue_wait.percentiles(),
            sojourn_s: self.sojourn.percentiles(),
            late_starts: (self.queue_wait.count() > 0).then_some(self.late_starts),
            first_byte_s: self.first_byte.percentiles(),
            connect_s: self.connect.percentiles(),
            latency_histogram: (self.latency.count() > 0).then(|| self.latency.encode()),
            outcomes: self
                .outcomes
                .iter()
                .map(|(outcome, count)| (outcome.to_string(), *count))
                .collect(),
            statuses: self
                .statuses
                .iter()
                .enumerate()
                .filter(|(_, count)| **count > 0)
                .map(|(status, count)| (status.to_string(), *count))
                .collect(),
            workers: self.shares(&name_of),
            ..TrialRecord::default()
        };
        self.add_times(&mut trial);
        let exits: Vec<_> = self.fetchers.values().map(|f| f.exited.as_ref()).collect();
        trial.sum_up(&FetcherExits(&exits));
        self.add_memory(&FetcherExits(&exits), &machine_of, &mut trial);
        self.add_workers(&mut trial);
        trial.requests = self.requests;
        trial
    }

    /// From completions: how long it took, and where the slots' time went.
    fn add_times(&self, trial: &mut TrialRecord) {
        let fetchers = || self.fetchers.values();
        let spawns: Option<Vec<Duration>> = fetchers().map(|f| f.spawn).collect();
        let slowest = spawns.and_then(|spawns| spawns.into_iter().max());
        trial.spawn_s = slowest.map(|spawn| spawn.as_secs_f64());
        let last_end_us = fetchers().map(|f| f.last_end_us).max();
        trial.fetch_makespan_s = last_end_us.filter(|us| *us > 0).map(seconds);
        let makespan_s = trial.fetch_makespan_s.unwrap_or(0.0);
        let slots_s: f64 =
            fetchers().map(|f| f64::from(f.slots.max(self.concurrency)) * makespan_s).sum();
        let busy_s: f64 = fetchers().map(|f| seconds(f.busy_us)).sum();
        trial.phases = Phases {
            connect_s: seconds(self.connect_us),
            wait_s: seconds(self.wait_us),
            body_s: seconds(self.body_us),
            idle_s: (slots_s - busy_s).max(0.0),
        };
        trial.coordination.lag_mean_s = Duration::from_micros(self.lag_us)
            .checked_div(u32::try_from(self.latency.count()).unwrap_or(u32::MAX))
            .map(|lag| lag.as_secs_f64());
    }

    /// From samples, and from what was read while fetchers held.
    fn add_memory<'a>(
        &self,
        exits: &FetcherExits<'_>,
        machine_of: &impl Fn(WorkerId) -> &'a str,
        trial: &mut TrialRecord,
    ) {
        let threads = self.threads_peak().into_iter();
        trial.threads_peak = threads.chain(exits.held(|h| h.memory.threads)).max();
        let memory = self.memory_points(machine_of);
        // The last sample is the one of the hold.
        trial.memory_peak_bytes = memory.iter().filter_map(|p| p.memory_bytes).max();
        let pss = memory.iter().filter_map(|p| p.pss_bytes);
        trial.pss_peak_bytes = pss.chain(exits.held(|h| h.memory.pss_bytes)).max();
        let uss = memory.iter().filter_map(|p| p.uss_bytes);
        trial.uss_peak_bytes = uss.chain(exits.held(|h| h.memory.uss_bytes)).max();
        trial.pss_byte_s = held_over_time(&memory);
        trial.memory = memory;
    }

    fn add_workers(&self, trial: &mut TrialRecord) {
        let usage = || self.usage.values();
        trial.cgroup_peak_bytes = sum(usage().map(|u| u.cgroup_peak_bytes));
        trial.cgroup_sock_bytes = sum(usage().map(|u| u.cgroup_sock_bytes));
        trial.cgroup_kernel_stack_bytes = sum(usage().map(|u| u.cgroup_kernel_stack_bytes));
        trial.kernel_stacks_bytes = sum(usage().map(|u| u.kernel_stacks_bytes));
        let starts: Option<Vec<Duration>> = usage().map(|u| u.start).collect();
        let slowest = starts.and_then(|starts| starts.into_iter().max());
        trial.start_s = slowest.map(|start| start.as_secs_f64());
        let cost = &mut trial.coordination;
        cost.barrier_s = usage().map(|u| u.barrier).max().map(|b| b.as_secs_f64());
        cost.worker_cpu_s = sum(usage().map(|u| Some((u.cpu_user? + u.cpu_system?).as_secs_f64())));
        let pipe_bytes =
            |of: fn(&WorkerUsage) -> u64| sum(usage().map(|u| Some(of(u)))).unwrap_or(0);
        cost.pipe_bytes_sent = pipe_bytes(|u| u.pipe_bytes_to_fetchers);
        cost.pipe_bytes_received = pipe_bytes(|u| u.pipe_bytes_from_fetchers);
    }

    fn shares(&self, name_of: &impl Fn(WorkerId) -> String) -> Vec<WorkerShare> {
        self.workers()
            .into_iter()
            .map(|worker| {
                let own = || self.fetchers.values().filter(|f| f.worker == worker);
                let held = own().map(|f| f.exited.as_ref().and_then(|e| e.held.memory.pss_bytes));
                WorkerShare {
                    worker: worker.0,
                    name: name_of(worker),
                    fetchers: u32::try_from(own().count()).unwrap_or(u32::MAX),
                    urls: own().map(|f| f.urls).sum(),
                    fetch_makespan_s: own()
                        .map(|f| f.last_end_us)
                        .max()
                        .filter(|us| *us > 0)
                        .map(seconds),
                    cpu_s: sum(own().map(|f| {
                        let usage = f.exited.as_ref()?.usage?;
                        Some((usage.cpu_user + usage.cpu_system).as_secs_f64())
                    })),
                    pss_peak_bytes: self
                        .memory
                        .get(&worker)
                        .into_iter()
                        .flatten()
                        .filter_map(|s| s.pss_bytes)
                        .chain(sum(held))
                        .max(),
                    lost: self.lost_workers.contains(&worker),
                }
            })
            .collect()
    }

    fn threads_peak(&self) -> Option<u32> {
        let peaks = self.memory.values().map(|samples| samples.iter().map(|s| s.threads).max());
        sum(peaks)
    }

    /// Every worker's samples together: each counts with its latest one.
    fn memory_points<'a>(&self, machine_of: &impl Fn(WorkerId) -> &'a str) -> Vec<MemoryPoint> {
        let mut all: Vec<(Duration, WorkerId, MemorySample)> = self
            .memory
            .iter()
            .flat_map(|(worker, samples)| samples.iter().map(|s| (s.elapsed, *worker, *s)))
            .collect();
        all.sort_by_key(|(elapsed, worker, _)| (*elapsed, *worker));
        let expected = self.memory.len();
        let mut latest: BTreeMap<WorkerId, MemorySample> = BTreeMap::new();
        let mut points = Vec::with_capacity(all.len());
        for (elapsed, worker, sample) in all {
            latest.insert(worker, sample);
            if latest.len() < expected {
                continue;
            }
            points.push(MemoryPoint {
                elapsed_s: elapsed.as_secs_f64(),
                pss_bytes: sum(latest.values().map(|s| s.pss_bytes)),
                uss_bytes: sum(latest.values().map(|s| s.uss_bytes)),
                memory_bytes: alone(&latest, machine_of),
            });
        }
        points
    }

    /// What the machines did, as their workers tell.
    pub fn machines<'a>(&self, machine_of: impl Fn(WorkerId) -> &'a str) -> Machines {
        let mut machines = Machines::default();
        for worker in self.workers() {
            let load = self.usage.get(&worker).and_then(|usage| usage.load);
            machines.worker(machine_of(worker), load);
        }
        machines
    }

    fn workers(&self) -> BTreeSet<WorkerId> {
        self.fetchers.values().map(|f| f.worker).collect()
    }
}
