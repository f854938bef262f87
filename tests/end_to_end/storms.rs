//! Seeded faults on real processes: at moments given by how many URLs are done,
//! fetchers and workers are killed and stopped, connections cut and frozen. Each
//! run must end with an exact account.
//!
//! ```text
//! cargo test -p fanout-coordinator --test end_to_end storms
//! FANOUT_SEED=17 cargo test -p fanout-coordinator --test end_to_end storms    # that one only
//! FANOUT_STORMS=500 cargo test -p fanout-coordinator --test end_to_end storms
//! ```

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    harness::{PATIENCE, Place, Serving, Started, read, records, wait_for},
    proxy::{Cut, Proxy},
};

/// Runs where nothing else is asked for.
const STORMS: u64 = 52;
/// Runs at a time: they mostly wait.
const LANES: u64 = 4;
/// Studies where nothing else is asked for.
const STUDIES: u64 = 2;
/// URLs of a run.
const URLS: u64 = 480;
/// Workers of a fleet. One is never hit as a whole, so that every run can end.
const WORKERS: usize = 3;
/// Whatever is frozen for a while is thawed when nothing has moved for so long.
const STANDSTILL: Duration = Duration::from_millis(400);
/// One run in so many freezes something for good.
const FOR_GOOD: u64 = 13;

/// What happens to what is there when so many URLs are done.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillFetcher(usize),
    FreezeFetcher(usize),
    KillWorker(usize),
    FreezeWorker(usize),
    Cut(usize, Cut),
    FreezeWire(usize),
    FreezeCoordinator,
}

#[derive(Debug)]
struct Storm {
    seed: u64,
    arm: &'static str,
    faults: Vec<(usize, Fault)>,
    /// What is frozen stays so until it is noticed.
    for_good: bool,
}

impl Storm {
    fn from_seed(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let for_good = seed % FOR_GOOD == FOR_GOOD - 1;
        let arms = ["3xasync:8", "6xthreads:3", "9xsequential", "6xasync:3"];
        let arm = arms[rng.random_range(0..arms.len())];
        let count = if for_good { 1 } else { rng.random_range(1..=3) };
        let last = usize::try_from(URLS * 6 / 10).unwrap();
        let mut faults: Vec<_> = (0..count)
            .map(|_| {
                // The last worker is the one that is spared.
                let who = rng.random_range(0..WORKERS - 1);
                let fetcher = rng.random_range(0..64);
                let kind = rng.random_range(0..12);
                let fault = match kind {
                    _ if for_good && kind < 5 => Fault::FreezeFetcher(fetcher),
                    _ if for_good && kind < 9 => Fault::FreezeWorker(who),
                    _ if for_good => Fault::FreezeWire(who),
                    0..=2 => Fault::KillFetcher(fetcher),
                    3 => Fault::FreezeFetcher(fetcher),
                    4..=5 => Fault::KillWorker(who),
                    6 => Fault::FreezeWorker(who),
                    7 => Fault::Cut(who, Cut::Both),
                    8 => Fault::Cut(who, Cut::ToCoordinator),
                    9 => Fault::Cut(who, Cut::ToWorker),
                    10 => Fault::FreezeWire(who),
                    _ => Fault::FreezeCoordinator,
                };
                (rng.random_range(1..=last), fault)
            })
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Self { seed, arm, faults, for_good }
    }
}

/// What was frozen, and how it goes on.
enum Frozen {
    Process(Pid),
    Wire(usize),
}

/// What runs came to, all together.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    struck: u64,
    missed: u64,
    requeued: u64,
    ignored: u64,
    abandoned: u64,
    recovery_max_s: f64,
}

/// A coordinator that serves, and workers behind wires that can be cut.
struct Fleet {
    // Dropped in this order: processes before what they stand on.
    workers: Vec<Option<Started>>,
    proxies: Vec<Proxy>,
    serving: Serving,
    origin: crate::harness::Origin,
    place: Place,
}

impl Fleet {
    fn new() -> Self {
        let place = Place::new();
        let origin = place.origin();
        place.write("urls.txt", origin.list(URLS.try_into().unwrap(), "delay=10ms..30ms"));
        let serving = place.serve(&["--origin", &origin.base]);
        let proxies: Vec<_> = (0..WORKERS).map(|_| Proxy::to(&serving.url)).collect();
        let mut fleet =
            Self { workers: (0..WORKERS).map(|_| None).collect(), proxies, serving, origin, place };
        fleet.complete();
        fleet
    }

    /// Starts the workers that are missing, and waits until all are attached.
    fn complete(&mut self) {
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let (url, name) = (&self.proxies[index].url, format!("w{index}"));
            let args = ["worker", "--coordinator", url, "--name", &name];
            worker.get_or_insert_with(|| self.place.start_quietly(&args));
        }
        wait_for("all workers", || {
            let status = self.serving.status(&self.place);
            let workers = status["workers"].as_array()?;
            let name = |worker: &Value| worker["name"].as_str().map(str::to_owned);
            let mut names: Vec<_> = workers.iter().filter_map(name).collect();
            names.sort_unstable();
            (names == ["w0", "w1", "w2"]).then_some(())
        });
    }

    fn strike(&mut self, fault: Fault) -> Option<Option<Frozen>> {
        let fetcher = |which: usize| {
            let all = self.place.processes("fetcher");
            (!all.is_empty()).then(|| all[which % all.len()])
        };
        let stop = |pid: Pid| {
            // One that has just ended cannot be stopped.
            kill_process(pid, Signal::STOP).ok()?;
            Some(Some(Frozen::Process(pid)))
        };
        match fault {
            Fault::KillFetcher(which) => {
                kill_process(fetcher(which)?, Signal::KILL).ok()?;
                Some(None)
            }
            Fault::FreezeFetcher(which) => stop(fetcher(which)?),
            Fault::KillWorker(who) => {
                // It ends with the handle, by SIGKILL.
                drop(self.workers[who].take()?);
                Some(None)
            }
            Fault::FreezeWorker(who) => stop(self.workers[who].as_ref()?.pid()),
            Fault::Cut(who, how) => {
                self.proxies[who].cut(how);
                Some(None)
            }
            Fault::FreezeWire(who) => {
                self.proxies[who].freeze();
                Some(Some(Frozen::Wire(who)))
            }
            Fault::FreezeCoordinator => stop(self.serving.process.pid()),
        }
    }

    fn thaw(&self, frozen: &Frozen) {
        match frozen {
            // It may have been killed meanwhile.
            Frozen::Process(pid) => drop(kill_process(*pid, Signal::CONT)),
            Frozen::Wire(who) => self.proxies[*who].thaw(),
        }
    }

    fn weather(&mut self, storm: &Storm, tally: &mut Tally) {
        let out = format!("{}.jsonl", storm.seed);
        let url = self.serving.url.clone();
        let run = self.place.start(&[
            "fetch",
            "urls.txt",
            "--arm",
            storm.arm,
            "--timeout",
            "1s",
            "--out",
            &out,
            "--coordinator",
            &url,
        ]);
        let part = self.place.path(&format!("{out}.part"));
        let whole = self.place.path(&out);
        let mut frozen: Vec<Frozen> = Vec::new();
        let mut faults = storm.faults.iter().peekable();
        let (mut before, mut moved) = (0, Instant::now());
        let began = Instant::now();
        while !whole.exists() {
            assert!(began.elapsed() < PATIENCE, "no end");
            let lines = |text: String| text.lines().count();
            let done = std::fs::read_to_string(&part).map_or(before, lines);
            if done != before {
                (before, moved) = (done, Instant::now());
            }
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= done) {
                match self.strike(*fault) {
                    Some(ice) => {
                        tally.struck += 1;
                        // Nothing is seen to move while the coordinator stands.
                        frozen.extend(ice);
                    }
                    None => tally.missed += 1,
                }
            }
            if !storm.for_good && moved.elapsed() > STANDSTILL {
                frozen.drain(..).for_each(|ice| self.thaw(&ice));
            }
            thread::sleep(Duration::from_millis(5));
        }
        tally.missed += faults.count() as u64;
        frozen.iter().for_each(|ice| self.thaw(ice));
        let ran = run.finish();
        check(&read(&whole), &ran.stderr, ran.code, tally);
        tally.runs += 1;
        wait_for("the run's fetchers to end", || {
            self.place.processes("fetcher").is_empty().then_some(())
        });
        self.complete();
    }
}

impl Fleet {
    fn end(self) {
        let Self { workers, proxies, serving, origin, place } = self;
        drop((workers, proxies, serving, origin));
        place.assert_nothing_left();
    }

    /// A study of a few blocks, with a fault in each.
    fn study(&mut self, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let out = format!("study-{seed}");
        let run = self.place.start(&[
            "study",
            "--arm",
            "6xasync:4",
            "--arm",
            "3xthreads:8",
            "--blocks",
            "3",
            "--out",
            &out,
            "--format",
            "json",
            "--coordinator",
            &self.serving.url,
        ]);
        let jobs = self.place.path("data/jobs");
        let job = std::fs::read_dir(&jobs).unwrap().count() as u64 + 1;
        let name = self.serving.job(&self.place, job, "running")["study"].clone();
        let part = format!("data/studies/{}/study.json.part", name.as_str().unwrap());
        for block in 0..3 {
            wait_for("the next block", || {
                let text = std::fs::read_to_string(self.place.path(&part)).unwrap_or_default();
                // The last part has its name only for a moment.
                let over = self.place.path(&format!("{out}/study.json")).exists();
                (over || text.contains(&format!(r#""block": {block}"#))).then_some(())
            });
            let fault = match rng.random_range(0..4) {
                0 => Fault::KillWorker(rng.random_range(0..WORKERS - 1)),
                1 => Fault::Cut(rng.random_range(0..WORKERS - 1), Cut::Both),
                _ => Fault::KillFetcher(rng.random_range(0..64)),
            };
            self.strike(fault);
        }
        let ran = run.finish().expect(0);
        let study: Value = serde_json::from_str(&ran.stdout).unwrap();
        let trials = study["trials"].as_array().unwrap();
        let number = |trial: &Value, name: &str| trial[name].as_u64().unwrap();
        for trial in trials {
            let done: u64 =
                ["completed", "failed", "abandoned"].iter().map(|name| number(trial, name)).sum();
            assert!(done == 1000 || trial["valid"] == false, "{trial}");
            let lost = number(trial, "fetchers_lost") > 0;
            assert_eq!(trial["degraded"], lost, "{trial}");
            assert!(!(lost && trial["valid"] == true), "{trial}");
            let again = number(trial, "requeued") > 0;
            assert_eq!(trial["recovery_s"].is_f64(), again && done == 1000, "{trial}");
        }
        let valid = trials.iter().filter(|trial| trial["valid"] == true);
        assert_eq!(valid.count(), 9, "two arms and the control, three blocks");
        self.complete();
    }
}

/// The account is exact, in the records and in what is said of them.
fn check(text: &str, said: &str, code: Option<i32>, tally: &mut Tally) {
    let records = records(text);
    let mut ids: Vec<_> = records.iter().map(|r| r["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..URLS).collect::<Vec<_>>(), "each URL once\n{said}");
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for record in &records {
        *outcomes.entry(record["outcome"].as_str().unwrap()).or_default() += 1;
    }
    let of = |outcome: &str| outcomes.get(outcome).copied().unwrap_or(0);
    let (ok, abandoned) = (of("ok"), of("abandoned"));
    let failed = URLS - ok - abandoned;
    let account =
        format!("{URLS} URLs: {ok} ok, {failed} failed, {abandoned} abandoned, 0 not done");
    assert!(said.contains(&account), "{account}\n{said}");
    assert_eq!(code, Some(i32::from(abandoned > 0)), "{said}");
    // A lease that was lost is an attempt more.
    let again: u64 = records.iter().map(|r| r["attempt"].as_u64().unwrap() - 1).sum();
    let losses = said.lines().find(|line| line.contains(" leases were lost"));
    let number = |after: &str, before: &str| -> Option<f64> {
        let line = losses?;
        let start = line.find(after)? + after.len();
        line[start..].split(before).next()?.trim().parse().ok()
    };
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let again_said = again as f64;
    assert_eq!(number("", " leases").unwrap_or(0.0), again_said, "{said}");
    let recovery_s = number("made good within", " s");
    assert_eq!(recovery_s.is_some(), again > 0, "{said}");
    tally.requeued += again;
    tally.abandoned += abandoned;
    tally.recovery_max_s = tally.recovery_max_s.max(recovery_s.unwrap_or(0.0));
    let ignored = number(" s, ", " late").or_else(|| number("lost, ", " late"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let ignored = ignored.unwrap_or(0.0) as u64;
    tally.ignored += ignored;
}

fn seeds(count: u64) -> Range<u64> {
    let from_environment = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().expect("a number"))
    };
    match from_environment("FANOUT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_environment("FANOUT_STORMS").unwrap_or(count),
    }
}

#[test]
fn every_url_ends_exactly_once_whatever_is_killed_stopped_or_cut() {
    let seeds = seeds(STORMS);
    let next = AtomicU64::new(seeds.start);
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES.min(seeds.end - seeds.start))
            .map(|_| {
                scope.spawn(|| {
                    let mut tally = Tally::default();
                    let mut fleet = Fleet::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            break;
                        }
                        let storm = Storm::from_seed(seed);
                        eprintln!("FANOUT_SEED={seed} repeats {storm:?}");
                        fleet.weather(&storm, &mut tally);
                    }
                    fleet.end();
                    tally
                })
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    });
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let recovery_max_s = tallies.iter().map(|t| t.recovery_max_s).fold(0.0, f64::max);
    eprintln!(
        "{} runs, {} faults struck, {} came too late; {} leases lost, {} late or double completions ignored, \
         {} URLs abandoned, recovered within {recovery_max_s:.1} s",
        sum(|t| t.runs),
        sum(|t| t.struck),
        sum(|t| t.missed),
        sum(|t| t.requeued),
        sum(|t| t.ignored),
        sum(|t| t.abandoned),
    );
    assert!(sum(|t| t.struck) > 0 && sum(|t| t.requeued) > 0);
}

#[test]
fn a_study_keeps_its_account_in_a_storm() {
    let mut fleet = Fleet::new();
    for seed in seeds(STUDIES) {
        eprintln!("FANOUT_SEED={seed} repeats this study");
        fleet.study(seed);
    }
    fleet.end();
}
