//! Studies as they might have been, for tests of what is made from studies.
//!
//! Trials come from a small simulation of slots, processors and seeded delays,
//! so that their figures fit together: the gauge agrees with Little's law, the
//! histogram with the percentiles, the picture of requests with the makespan.

use std::{cmp::Reverse, collections::BinaryHeap, num::NonZeroU32, sync::LazyLock};

use fanout_proto::{arm::Arm, http::HttpSettings};
use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    conclude,
    latency::Latency,
    record::{
        ArmRecord, Coordination, Http, Machine, Manifest, MemoryPoint, Origin, OriginMetrics,
        Phases, Regime, Request, SCHEMA_VERSION, Study, TrialRecord, Worker, WorkerShare,
    },
    statistics::normal,
};

const MIB: u64 = 1024 * 1024;
const CONNECT_US: u64 = 180;
/// Requests kept for the picture of one trial per arm.
const REQUESTS_KEPT: usize = 1024;

/// The study that runs by default, with one trial lost and repeated.
#[must_use]
pub fn study() -> Study {
    static STUDY: LazyLock<Study> = LazyLock::new(|| {
        let mut study = StudyBuilder::new()
            .slower("2xasync:16", 0.91)
            .slower("threads:32", 1.07)
            .slower("async:32@reqwest", 1.01)
            .slower("threads:32@ureq", 1.16)
            .slower("32xsequential", 1.21)
            .build_raw();
        lose_a_trial(&mut study);
        conclude(&mut study, &crate::Options::default());
        study
    });
    STUDY.clone()
}

/// A study whose arms differ in their number of processes, and in their concurrency.
#[must_use]
pub fn scaling() -> Study {
    static STUDY: LazyLock<Study> = LazyLock::new(|| {
        StudyBuilder::new()
            .arms(&[
                "async:16",
                "2xasync:16",
                "4xasync:16",
                "8xasync:16",
                "threads:8",
                "threads:32",
                "threads:128",
            ])
            .urls(2_000)
            .build()
    });
    STUDY.clone()
}

/// Trials of arms that take so many seconds of time and of CPU, apart from noise; without
/// conclusions, which the trials' other figures would not bear out.
#[must_use]
pub fn with_truth(truth: &[(&str, f64, f64)], noise: f64, seed: u64) -> Study {
    let names: Vec<&str> = truth.iter().map(|(name, ..)| *name).collect();
    let mut study = StudyBuilder::new().arms(&names).urls(8).blocks(8).seed(seed).build_raw();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for trial in &mut study.trials {
        let name = trial.arm.trim_end_matches(" (again)");
        let Some((_, time_s, cpu_s)) = truth.iter().find(|(arm, ..)| *arm == name) else {
            continue;
        };
        trial.valid = !trial.discarded;
        trial.start_s = Some(0.0);
        trial.makespan_s = Some(time_s * (noise * normal(&mut rng)).exp());
        trial.cpu_start_s = Some(0.0);
        trial.cpu_user_s = Some(cpu_s * (noise * normal(&mut rng)).exp());
        trial.cpu_system_s = Some(0.0);
    }
    for arm in &mut study.arms {
        arm.shortened = None;
    }
    study.analysis.margin = 0.05;
    study
}

/// A study at two servers: at the one that answers at once threads and processes cost more.
#[must_use]
pub fn two_servers() -> Study {
    let mut study = study();
    study.manifest.delay_s = Some(0.008);
    let mut there = StudyBuilder::new()
        .slower("threads:32", 1.8)
        .slower("32xsequential", 1.6)
        .slower("2xasync:16", 0.7)
        .urls(300)
        .blocks(6)
        .seed(8)
        .build();
    there.manifest.delay_s = Some(0.0);
    study.regimes =
        vec![Regime { name: "fast".into(), delay_s: Some(0.0), study: there, ..Regime::default() }];
    study
}

/// A map: threads suffer from the lock, and one event loop from work that could be spread.
#[must_use]
pub fn map() -> Study {
    let mut map = Study::default();
    let mut seed = 1;
    for delay_s in [0.0_f64, 0.001, 0.010, 0.050] {
        for (work_s, lock) in
            [(0.0, false), (0.0002, false), (0.0002, true), (0.002, false), (0.002, true)]
        {
            let waiting = 100.0 * delay_s / 32.0;
            let busy = |cores: f64| waiting.max(0.1 * (6e-5 + work_s) * 1e3 / cores);
            let cpu = |fetching: f64| 0.1 * 1e3 * (fetching + work_s);
            let threads = if lock { 1.1 * busy(1.0) } else { busy(1.9) };
            let truth = [
                ("async:32", busy(1.0), cpu(5e-5)),
                ("threads:32", threads, cpu(8e-5)),
                ("2xasync:16", busy(1.9), cpu(5.2e-5)),
                ("32xsequential", busy(1.7), cpu(9e-5)),
            ];
            seed += 1;
            let study = with_truth(&truth, 0.01, seed);
            map.manifest = study.manifest.clone();
            map.arms = study.arms.iter().filter(|arm| !arm.control).cloned().collect();
            map.regimes.push(Regime {
                name: format!("{delay_s} {work_s} {lock}"),
                delay_s: Some(delay_s),
                cpu_work_s: work_s,
                cpu_lock: lock,
                study,
            });
        }
    }
    map
}

/// Makes a [`Study`] out of arms, blocks and a seed.
#[derive(Debug, Clone)]
pub struct StudyBuilder {
    arms: Vec<String>,
    blocks: u32,
    seed: u64,
    urls: u32,
    cores: u32,
    noise: f64,
    slower: Vec<(String, f64)>,
}

impl Default for StudyBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl StudyBuilder {
    /// The default study: seven arms, ten blocks, 1,000 URLs, two cores.
    #[must_use]
    pub fn new() -> Self {
        let builder = Self {
            arms: Vec::new(),
            blocks: 10,
            seed: 7,
            urls: 1_000,
            cores: 2,
            noise: 0.012,
            slower: Vec::new(),
        };
        builder.arms(&[
            "sequential",
            "threads:32",
            "async:32",
            "32xsequential",
            "2xasync:16",
            "threads:32@ureq",
            "async:32@reqwest",
        ])
    }

    /// Other arms, by their names. The baseline is `async:32` if it is among them, else the first.
    #[must_use]
    pub fn arms(mut self, names: &[&str]) -> Self {
        self.arms = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Blocks that count.
    #[must_use]
    pub fn blocks(mut self, blocks: u32) -> Self {
        self.blocks = blocks;
        self
    }

    /// Seed of delays, order and noise.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// URLs in the list.
    #[must_use]
    pub fn urls(mut self, urls: u32) -> Self {
        self.urls = urls;
        self
    }

    /// Processors of the machine.
    #[must_use]
    pub fn cores(mut self, cores: u32) -> Self {
        self.cores = cores.max(1);
        self
    }

    /// Standard deviation of a trial's speed, as a share.
    #[must_use]
    pub fn noise(mut self, noise: f64) -> Self {
        self.noise = noise;
        self
    }

    /// Makes everything in one arm take `factor` times as long.
    #[must_use]
    pub fn slower(mut self, arm: &str, factor: f64) -> Self {
        self.slower.push((arm.to_owned(), factor));
        self
    }

    /// The study, with its conclusions.
    #[must_use]
    pub fn build(&self) -> Study {
        let mut study = self.build_raw();
        conclude(&mut study, &crate::Options::default());
        study
    }

    /// The study as it comes from the trials, before any conclusion.
    #[must_use]
    pub fn build_raw(&self) -> Study {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let delays_us = self.delays(&mut rng);
        let mut arms: Vec<ArmRecord> = self.arms.iter().map(|name| arm(name)).collect();
        let baseline = arms.iter().position(|arm| arm.name == "async:32").unwrap_or(0);
        let mut control = arms[baseline].clone();
        let baseline = control.name.clone();
        control.name.push_str(" (again)");
        control.control = true;
        arms.push(control);
        for arm in &mut arms {
            if arm.processes * arm.concurrency == 1 && self.urls > 5 {
                arm.shortened = Some(
                    "takes more than five times as long as the baseline: 3 blocks only".into(),
                );
            }
        }

        let mut trials = Vec::new();
        let mut drift = 0.0;
        for block in 0..=self.blocks {
            drift = 0.7 * drift + 0.02 * normal(&mut rng);
            let mut order: Vec<usize> = (0..arms.len()).collect();
            order.shuffle(&mut rng);
            for place in order {
                let arm = &arms[place];
                if arm.shortened.is_some() && block > 3 {
                    continue;
                }
                let factor = self
                    .slower
                    .iter()
                    .filter(|(name, _)| *name == arm.name)
                    .map(|(_, factor)| factor)
                    .product::<f64>();
                let speed = factor * (drift + self.noise * normal(&mut rng)).exp();
                let mut trial = self.trial(arm, &delays_us, speed, &mut rng);
                trial.block = block;
                trial.discarded = block == 0;
                trial.order = u32::try_from(trials.len()).unwrap_or(u32::MAX);
                if block != 1 {
                    trial.requests.clear();
                }
                trials.push(trial);
            }
        }
        Study {
            schema_version: SCHEMA_VERSION,
            manifest: self.manifest(baseline),
            arms,
            trials,
            ..Study::default()
        }
    }

    fn delays(&self, rng: &mut ChaCha8Rng) -> Vec<u64> {
        // Lognormal with a mean of 8 ms.
        let (mean, sigma) = (8_000.0_f64, 0.5_f64);
        (0..self.urls)
            .map(|_| micros(mean * (sigma * normal(rng) - sigma * sigma / 2.0).exp()))
            .collect()
    }

    fn manifest(&self, baseline: String) -> Manifest {
        let machine = Machine {
            kernel: "6.18.2".into(),
            architecture: "x86_64".into(),
            cpus: (0..self.cores).collect(),
            memory_bytes: Some(8 * 1024 * MIB),
            cgroup: "v2".into(),
            cgroup_cpus: None,
            cgroup_memory_bytes: None,
        };
        Manifest {
            version: "0.1.0".into(),
            started: "2026-11-22T15:04:05Z".into(),
            elapsed_s: 41.3,
            command: ["coordinator", "study", "--seed", &self.seed.to_string()]
                .map(str::to_owned)
                .to_vec(),
            list: "built-in".into(),
            urls: self.urls.into(),
            list_sha256: "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4".into(),
            delay_s: None,
            skipped_lines: 0,
            repeat: 1,
            seed: self.seed,
            blocks: self.blocks,
            split: "dynamic".into(),
            rate_per_s: None,
            max_per_host: None,
            rate_per_host: None,
            baseline,
            concurrency: 32,
            placement: "shared".into(),
            http: Http {
                settings: HttpSettings {
                    user_agent: "fanout/0.1.0".into(),
                    ..HttpSettings::default()
                },
                ..Http::default()
            },
            workers: vec![Worker {
                id: 1,
                name: "local-1".into(),
                version: "0.1.0".into(),
                slots: 64,
                machine: machine.clone(),
                ..Worker::default()
            }],
            coordinator: machine,
            origin: Some(Origin {
                urls: vec!["http://127.0.0.1:40123".into()],
                threads: 1,
                embedded: true,
            }),
            facts: [
                ("allocator", "system"),
                ("governor", "performance"),
                ("tls", "rustls 0.23, ring"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        }
    }

    fn trial(
        &self,
        arm: &ArmRecord,
        delays_us: &[u64],
        speed: f64,
        rng: &mut ChaCha8Rng,
    ) -> TrialRecord {
        let cost = Cost::of(arm);
        let run = run(arm, &cost, delays_us, speed, self.cores);
        let urls = u64::from(self.urls);
        let fetch_makespan_s = seconds(run.makespan_us);
        let overhead_s = 0.003 + 0.0002 * f64::from(arm.processes) + 0.0005 * rng.random::<f64>();
        let makespan_s = fetch_makespan_s + overhead_s;
        let pss = cost.pss_bytes(arm, rng);
        let uss = pss - pss / 8;
        let cpu_s = seconds(run.cpu_us) + 0.002 * f64::from(arm.processes);
        let null = arm.client == "null";
        let slots = u64::from(arm.processes) * u64::from(arm.concurrency);
        let body_bytes = if null { 0 } else { 33_280 };
        TrialRecord {
            arm: arm.name.clone(),
            valid: true,
            makespan_s: Some(makespan_s),
            fetch_makespan_s: Some(fetch_makespan_s),
            spawn_s: Some(0.004 + 0.0011 * f64::from(arm.processes)),
            start_s: Some(0.003 + 0.0015 * f64::from(arm.processes)),
            completed: urls,
            bytes: urls * body_bytes,
            requests_per_s: Some(f64::from(self.urls) / makespan_s),
            cpu_user_s: Some(cpu_s * 0.4),
            cpu_system_s: Some(cpu_s * 0.6),
            cpu_start_s: Some(0.002 * f64::from(arm.processes)),
            voluntary_switches: Some(micros(cost.switches * f64::from(self.urls) * speed)),
            involuntary_switches: Some(urls / 20),
            run_queue_wait_s: Some(cpu_s * 0.3),
            threads_peak: Some(if arm.model == "threads" {
                arm.processes * (arm.concurrency + 1)
            } else {
                arm.processes
            }),
            memory_peak_bytes: Some(pss + pss / 5),
            page_tables_bytes: Some(48 * 1024 * u64::from(arm.processes)),
            foreign_cpu_s: Some(0.004),
            steal_s: Some(0.0),
            machine_cpu_s: Some(f64::from(self.cores) * makespan_s),
            starved_s: Some(0.0),
            pss_peak_bytes: Some(pss),
            uss_peak_bytes: Some(uss),
            hwm_sum_bytes: Some(pss + u64::from(arm.processes) * MIB),
            in_flight_mean: Some(run.in_flight_us / to_f64(run.makespan_us)),
            in_flight_peak: u32::try_from(slots.min(urls)).ok(),
            connections_opened: (arm.client == "core").then_some(slots.min(urls)),
            requests_sent: (arm.client == "core").then_some(urls),
            stale_retries: (arm.client == "core").then_some(0),
            suspended_s: Some(0.0),
            latency_s: run.latency.percentiles(),
            first_byte_s: run.first_byte.percentiles(),
            connect_s: run.connect.percentiles(),
            phases: run.phases,
            coordination: Coordination {
                overhead_s: Some(overhead_s),
                barrier_s: Some(0.0004 + 0.00002 * f64::from(arm.processes)),
                coordinator_cpu_s: Some(0.002 + 0.9e-6 * f64::from(self.urls)),
                worker_cpu_s: Some(0.004 + 0.001 * f64::from(arm.processes)),
                pipe_bytes_sent: urls * 52,
                pipe_bytes_received: urls * 17,
                grpc_bytes_sent: urls * 53,
                grpc_bytes_received: urls * 19,
                grpc_messages_sent: 6 + 2 * u64::from(arm.processes),
                grpc_messages_received: 9 + 4 * u64::from(arm.processes),
                lag_mean_s: Some(0.0112),
            },
            outcomes: [("ok".to_owned(), urls)].into(),
            statuses: if null { [].into() } else { [("200".to_owned(), urls)].into() },
            memory: memory(makespan_s, pss, uss),
            latency_histogram: Some(run.latency.encode()),
            workers: vec![WorkerShare {
                worker: 1,
                name: "local-1".into(),
                fetchers: arm.processes,
                urls,
                fetch_makespan_s: Some(fetch_makespan_s),
                cpu_s: Some(cpu_s),
                pss_peak_bytes: Some(pss),
                lost: false,
            }],
            origin: (!null).then(|| OriginMetrics {
                requests: urls,
                connections: slots.min(urls),
                connections_peak: slots.min(urls),
                concurrent_peak: slots.min(urls),
                cpu_s: Some(0.000_04 * f64::from(self.urls)),
                busy: Some(0.000_04 * f64::from(self.urls) / makespan_s),
                delay_error_mean_s: Some(0.000_031),
                delays_served_s: Some(
                    delays_us.iter().map(|us| speed * seconds(*us) + 31e-6).sum(),
                ),
                connections_closed: Some(0),
            }),
            requests: run.requests,
            ..TrialRecord::default()
        }
    }
}

/// One trial of `32xsequential` loses a fetcher, and is repeated in its block.
fn lose_a_trial(study: &mut Study) {
    let Some(at) =
        study.trials.iter().position(|trial| trial.arm == "32xsequential" && trial.block == 7)
    else {
        return;
    };
    let mut lost = study.trials[at].clone();
    lost.degraded = true;
    lost.valid = false;
    lost.requeued = 3;
    lost.fetchers_lost = 1;
    lost.notice_s = Some(0.004);
    lost.recovery_s = Some(0.02);
    lost.makespan_s = lost.makespan_s.map(|s| s * 1.4);
    lost.invalid_reasons = vec!["a fetcher was lost: ended by signal 9".into()];
    study.trials.insert(at, lost);
    for (order, trial) in (0..).zip(&mut study.trials) {
        trial.order = order;
    }
}

/// Reads an arm's name; a name that is none panics.
pub(crate) fn arm(name: &str) -> ArmRecord {
    let concurrency = NonZeroU32::new(32).expect("not zero");
    let arm = Arm::parse(name, concurrency).expect("an arm's name");
    ArmRecord::new(&arm, name.to_owned())
}

/// What an arm's requests cost.
struct Cost {
    cpu_us: f64,
    switches: f64,
    per_slot_bytes: u64,
}

impl Cost {
    fn of(arm: &ArmRecord) -> Self {
        let (cpu_us, switches, slot_kib) = match arm.model.as_str() {
            "sequential" => (62.0, 3.1, 8),
            "threads" => (58.0, 3.2, 22),
            "async-mt" => (52.0, 1.9, 5),
            _ => (41.0, 0.6, 4),
        };
        let (cpu_us, slot_kib) = match arm.client.as_str() {
            "ureq" => (cpu_us + 34.0, slot_kib + 290),
            "reqwest" => (cpu_us + 27.0, slot_kib + 26),
            "null" => (0.4, 1),
            _ => (cpu_us, slot_kib),
        };
        Self { cpu_us, switches, per_slot_bytes: slot_kib * 1024 }
    }

    fn pss_bytes(&self, arm: &ArmRecord, rng: &mut ChaCha8Rng) -> u64 {
        let processes = u64::from(arm.processes);
        let shared = 2 * MIB;
        let own = MIB + MIB / 3 + self.per_slot_bytes * u64::from(arm.concurrency);
        shared + processes * own + rng.random_range(0..64 * 1024)
    }
}

struct Run {
    makespan_us: u64,
    cpu_us: u64,
    /// The integral of URLs in flight over time.
    in_flight_us: f64,
    latency: Latency,
    first_byte: Latency,
    connect: Latency,
    phases: Phases,
    requests: Vec<Request>,
}

/// Slots take URLs up in turn; responses wait for a processor.
fn run(arm: &ArmRecord, cost: &Cost, delays_us: &[u64], speed: f64, cores: u32) -> Run {
    let null = arm.client == "null";
    let slots = (arm.processes * arm.concurrency) as usize;
    let lanes = match arm.model.as_str() {
        "sequential" | "async" => arm.processes.min(cores),
        _ => cores,
    } as usize;
    let mut lane_free_us = vec![0u64; lanes];
    let mut result = Run {
        makespan_us: 0,
        cpu_us: 0,
        in_flight_us: 0.0,
        latency: Latency::new(),
        first_byte: Latency::new(),
        connect: Latency::new(),
        phases: Phases::default(),
        requests: Vec::new(),
    };
    let mut waiting = BinaryHeap::new();
    let mut next = 0;
    let mut take_up =
        |slot: usize, now: u64, waiting: &mut BinaryHeap<Reverse<(u64, usize, u64, u64)>>| {
            if let Some(&delay) = delays_us.get(next) {
                let connect = if next < slots && !null { CONNECT_US } else { 0 };
                let delay = if null { 0 } else { micros(to_f64(delay) * speed) };
                waiting.push(Reverse((now + connect + delay, slot, now, connect)));
                next += 1;
            }
        };
    for slot in 0..slots {
        take_up(slot, 0, &mut waiting);
    }
    while let Some(Reverse((first_byte, slot, start, connect))) = waiting.pop() {
        let lane = slot % lanes;
        let cpu = micros(cost.cpu_us * speed).max(1);
        let end = first_byte.max(lane_free_us[lane]) + cpu;
        lane_free_us[lane] = end;
        result.cpu_us += cpu;
        result.makespan_us = result.makespan_us.max(end);
        result.in_flight_us += to_f64(end - start);
        result.latency.record(end - start);
        result.first_byte.record(first_byte - start);
        if connect > 0 {
            result.connect.record(connect);
        }
        result.phases.connect_s += seconds(connect);
        result.phases.wait_s += seconds(first_byte - start - connect);
        result.phases.body_s += seconds(end - first_byte);
        if result.requests.len() < REQUESTS_KEPT {
            result.requests.push(Request {
                fetcher: u32::try_from(slot).unwrap_or(u32::MAX) / arm.concurrency,
                slot: u32::try_from(slot).unwrap_or(u32::MAX) % arm.concurrency,
                start_s: seconds(start),
                connect_s: seconds(connect),
                first_byte_s: Some(seconds(first_byte - start)),
                duration_s: seconds(end - start),
                ok: true,
            });
        }
        take_up(slot, end, &mut waiting);
    }
    result.phases.idle_s =
        (to_f64(result.makespan_us) * to_f64(slots as u64) - result.in_flight_us) / 1e6;
    result
}

/// At Go, every 100 ms, and at the hold.
fn memory(makespan_s: f64, pss: u64, uss: u64) -> Vec<MemoryPoint> {
    let point = |elapsed_s: f64, eighths: u64| MemoryPoint {
        elapsed_s,
        pss_bytes: Some(pss / 8 * eighths),
        uss_bytes: Some(uss / 8 * eighths),
        memory_bytes: Some((pss + pss / 5) / 8 * eighths),
    };
    let mut points = vec![point(0.0, 5)];
    points.extend(
        (1..)
            .map(|tick| 0.1 * f64::from(tick))
            .take_while(|&elapsed_s| elapsed_s < makespan_s)
            .enumerate()
            .map(|(tick, elapsed_s)| point(elapsed_s, if tick == 0 { 7 } else { 8 })),
    );
    points.push(MemoryPoint {
        elapsed_s: makespan_s,
        pss_bytes: Some(pss),
        uss_bytes: Some(uss),
        memory_bytes: Some(pss + pss / 5),
    });
    points
}

fn to_f64(n: u64) -> f64 {
    n as f64
}

fn seconds(us: u64) -> f64 {
    to_f64(us) / 1e6
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive and small
fn micros(us: f64) -> u64 {
    us.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_holds_together() {
        let study = study();
        assert_eq!(study.arms.len(), 8);
        // Seven arms in eleven blocks, one of them in four, one trial repeated.
        assert_eq!(study.trials.len(), 7 * 11 + 4 + 1);
        for trial in &study.trials {
            let latency = trial.latency_s.unwrap();
            let per_second = to_f64(latency.count) / trial.fetch_makespan_s.unwrap();
            let in_flight = trial.in_flight_mean.unwrap();
            assert!((per_second * latency.mean / in_flight - 1.0).abs() < 0.01, "{}", trial.arm);
        }
        let requests = |arm: &str| {
            let kept = study.trials.iter().filter(|trial| trial.arm == arm);
            kept.filter(|trial| !trial.requests.is_empty()).count()
        };
        assert_eq!(requests("sequential"), 1);
        assert_eq!(requests("async:32 (again)"), 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_study() {
        let small = StudyBuilder::new().blocks(2).urls(50);
        assert_eq!(small.build(), small.build());
        assert_ne!(small.clone().seed(8).build(), small.build());
    }

    #[test]
    fn what_it_looks_like() {
        let study = study();
        let mut lines = Vec::new();
        for arm in &study.arms {
            let trial = study.trials.iter().find(|t| t.arm == arm.name && t.block == 1).unwrap();
            let latency = trial.latency_s.unwrap();
            lines.push(format!(
                "{:18} {:.2} s, {:.1} in flight, p50 {:.1} ms, p99 {:.1} ms, {} MiB",
                arm.name,
                trial.makespan_s.unwrap(),
                trial.in_flight_mean.unwrap(),
                latency.p50 * 1e3,
                latency.p99.unwrap() * 1e3,
                trial.pss_peak_bytes.unwrap() / MIB,
            ));
        }
        insta::assert_snapshot!(lines.join("\n"), @r#"
        sequential         8.19 s, 1.0 in flight, p50 7.3 ms, p99 22.0 ms, 3 MiB
        threads:32         0.29 s, 31.0 in flight, p50 8.0 ms, p99 24.1 ms, 4 MiB
        async:32           0.27 s, 31.0 in flight, p50 7.4 ms, p99 22.3 ms, 3 MiB
        32xsequential      0.33 s, 31.0 in flight, p50 8.9 ms, p99 27.0 ms, 44 MiB
        2xasync:16         0.24 s, 31.0 in flight, p50 6.5 ms, p99 19.8 ms, 4 MiB
        threads:32@ureq    0.31 s, 31.0 in flight, p50 8.5 ms, p99 25.7 ms, 13 MiB
        async:32@reqwest   0.27 s, 31.0 in flight, p50 7.4 ms, p99 22.3 ms, 4 MiB
        async:32 (again)   0.27 s, 31.0 in flight, p50 7.3 ms, p99 22.1 ms, 3 MiB
        "#);
    }
}
