//! The daemon in a process of its own: signals, exit codes, and what is left of it.

use std::{
    num::NonZeroU32,
    os::fd::OwnedFd,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use fanout_proto::{
    arm::{Client, Model},
    setup::{HttpSettings, Setup},
    wire::{self, exit::How, to_fetcher, to_worker},
};
use fanout_worker::WorkerArgs;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use crate::{
    coordinator::{Attached, Coordinator, PATIENCE},
    fake::{Manner, SWITCHES},
};

type Test = (&'static str, fn());

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("sigterm_ends_it_with_its_fetchers", sigterm),
        ("sigint_ends_it_with_130", sigint),
        ("sigkill_leaves_no_fetcher", sigkill),
        ("it_ends_with_its_stdin", stdin),
        ("it_ignores_ctrl_c_where_its_starter_decides", ctrl_c),
        ("it_comes_back_when_the_stream_is_cut", comes_back),
        ("a_goodbye_ends_it_if_it_was_to_attach_once", once),
        ("a_refusal_ends_it_with_3", refused),
        ("no_coordinator_ends_it_with_3_if_tried_once", unreachable),
        ("bad_usage_ends_it_with_2", usage),
        ("it_waits_for_a_coordinator_until_told_to_end", waits),
        ("switches_of_all_threads_count", switches),
        ("the_binary_is_its_own_fetcher", binary),
        ("the_binary_says_its_version", version),
    ]
}

pub(crate) fn measurements() -> Vec<Test> {
    vec![("print_cost_per_url", cost)]
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    worker: WorkerArgs,
}

/// What this binary is with the argument `worker`.
pub(crate) fn worker() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    match fanout_worker::run(Cli::parse_from(arguments).worker) {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("{error}");
            error.exit_code().into()
        }
    }
}

/// A process that is watched without being a child.
pub(crate) struct Watched(OwnedFd);

impl Watched {
    pub(crate) fn new(pid: u32) -> Self {
        Self(pidfd_open(raw(pid), PidfdFlags::empty()).expect("it lives"))
    }

    pub(crate) fn wait_for_its_end(&self) {
        let patience =
            Timespec { tv_sec: PATIENCE.as_secs().try_into().expect("a short time"), tv_nsec: 0 };
        let mut ends = [PollFd::new(&self.0, PollFlags::IN)];
        let ended = poll(&mut ends, Some(&patience)).expect("poll works");
        assert_eq!(ended, 1, "it is still there");
    }
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().expect("a process id")).expect("not 0")
}

/// A worker's process; killed when dropped.
struct Worker(Child);

impl Worker {
    /// This binary, whose fetchers are fake.
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new("/proc/self/exe").arg("worker").args(arguments))
    }

    /// The binary that is shipped.
    fn start_binary(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_worker")).args(arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        let child = command
            .env_remove("FANOUT_COORDINATOR")
            .env_remove("FANOUT_TOKEN")
            .env_remove("FANOUT_TOKEN_FILE")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.expect("a worker"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(raw(self.0.id()), signal).expect("it lives");
    }

    /// Waits for its end; answers with its exit code and what it said.
    fn ended(mut self) -> (Option<i32>, String) {
        Watched::new(self.0.id()).wait_for_its_end();
        let mut said = String::new();
        let mut stderr = self.0.stderr.take().expect("a pipe");
        std::io::Read::read_to_string(&mut stderr, &mut said).expect("text");
        (self.0.wait().expect("it has ended").code(), said)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn script<F: Future<Output = ()>>(script: impl FnOnce(Coordinator, String) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (coordinator, url) = Coordinator::on_tcp().await;
        let script = script(coordinator, url);
        tokio::time::timeout(2 * PATIENCE, script).await.expect("the script ends");
    });
}

/// Two fetchers that run, one of them deaf.
async fn running(coordinator: &mut Coordinator) -> (Attached, Vec<Watched>) {
    let (mut attached, _) = coordinator.welcomed().await;
    let pids = attached.prepared(&[Manner::Deaf, Manner::Obliging]).await;
    attached.go().await;
    (attached, pids.into_iter().map(Watched::new).collect())
}

fn sigterm() {
    script(async |mut coordinator, url| {
        let worker = Worker::start(&["--coordinator", &url]);
        let (mut attached, fetchers) = running(&mut coordinator).await;
        worker.signal(Signal::TERM);
        assert_eq!(attached.goodbye().await, "this worker was told to stop");
        drop(attached);
        assert_eq!(worker.ended().0, Some(0));
        fetchers.iter().for_each(Watched::wait_for_its_end);
    });
}

fn sigint() {
    script(async |mut coordinator, url| {
        let worker = Worker::start(&["--coordinator", &url]);
        let (mut attached, fetchers) = running(&mut coordinator).await;
        worker.signal(Signal::INT);
        attached.goodbye().await;
        drop(attached);
        assert_eq!(worker.ended().0, Some(130));
        fetchers.iter().for_each(Watched::wait_for_its_end);
    });
}

fn sigkill() {
    script(async |mut coordinator, url| {
        let worker = Worker::start(&["--coordinator", &url]);
        let (mut attached, _) = coordinator.welcomed().await;
        let pids = attached.prepared(&[Manner::Obliging, Manner::Obliging]).await;
        attached.go().await;
        let fetchers: Vec<_> = pids.into_iter().map(Watched::new).collect();
        worker.signal(Signal::KILL);
        fetchers.iter().for_each(Watched::wait_for_its_end);
        assert!(attached.next_or_end().await.is_none());
    });
}

fn stdin() {
    script(async |mut coordinator, url| {
        let mut worker = Worker::start(&["--coordinator", &url, "--exit-with-stdin"]);
        let (mut attached, fetchers) = running(&mut coordinator).await;
        drop(worker.0.stdin.take());
        attached.goodbye().await;
        drop(attached);
        assert_eq!(worker.ended().0, Some(0));
        fetchers.iter().for_each(Watched::wait_for_its_end);
    });
}

fn ctrl_c() {
    script(async |mut coordinator, url| {
        let worker = Worker::start(&["--coordinator", &url, "--exit-with-stdin"]);
        let (mut attached, _) = coordinator.welcomed().await;
        worker.signal(Signal::INT);
        attached.prepared(&[Manner::Obliging]).await;
        worker.signal(Signal::TERM);
        attached.goodbye().await;
        drop(attached);
        assert_eq!(worker.ended().0, Some(0));
    });
}

fn comes_back() {
    script(async |mut coordinator, url| {
        let worker = Worker::start(&["--coordinator", &url, "--name", "homing"]);
        let (attached, fetchers) = running(&mut coordinator).await;
        attached.cut();
        let (mut again, hello) = coordinator.welcomed().await;
        assert_eq!(hello.name, "homing");
        fetchers.iter().for_each(Watched::wait_for_its_end);
        again.prepared(&[Manner::Obliging]).await;
        // After a goodbye it comes back as well.
        say_goodbye(&again).await;
        coordinator.welcomed().await;
        worker.signal(Signal::TERM);
        assert_eq!(worker.ended().0, Some(0));
    });
}

async fn say_goodbye(attached: &Attached) {
    let reason = "that was all".to_owned();
    attached.say(to_worker::Message::Goodbye(wire::Goodbye { reason })).await;
}

fn once() {
    script(async |mut coordinator, url| {
        let worker = Worker::start(&["--coordinator", &url, "--once"]);
        let (attached, fetchers) = running(&mut coordinator).await;
        say_goodbye(&attached).await;
        assert_eq!(worker.ended().0, Some(0));
        fetchers.iter().for_each(Watched::wait_for_its_end);
    });
}

fn refused() {
    script(async |mut coordinator, url| {
        let worker = Worker::start(&["--coordinator", &url]);
        let mut attached = coordinator.attached().await;
        attached.next().await;
        let reason = "upgrade the worker to 9.9".to_owned();
        attached.say(to_worker::Message::Refused(wire::Refused { reason })).await;
        let (code, said) = worker.ended();
        assert_eq!(code, Some(3));
        assert!(said.contains("upgrade the worker to 9.9"), "{said}");
    });
}

/// A URL at which nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

fn unreachable() {
    let worker = Worker::start(&["--coordinator", &nowhere(), "--once"]);
    let (code, said) = worker.ended();
    assert_eq!(code, Some(3));
    // The cause, not only 'transport error'.
    assert!(said.contains("onnection refused"), "{said}");
}

fn usage() {
    let (code, said) = Worker::start(&["--coordinator", "nonsense"]).ended();
    assert_eq!(code, Some(2));
    assert!(said.contains("--coordinator"), "{said}");
    assert_eq!(Worker::start(&["--slots", "0"]).ended().0, Some(2));
}

fn waits() {
    let worker = Worker::start(&["--coordinator", &nowhere()]);
    let busy = Watched::new(worker.0.id());
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: Duration::from_millis(300).as_nanos().try_into().expect("short"),
    };
    let mut ends = [PollFd::new(&busy.0, PollFlags::IN)];
    let ended = poll(&mut ends, Some(&moment)).expect("poll works");
    assert_eq!(ended, 0, "it does not give up");
    worker.signal(Signal::TERM);
    assert_eq!(worker.ended().0, Some(0));
}

// In a process of its own: others that reap children meanwhile would be counted.
fn switches() {
    script(async |mut coordinator, url| {
        let _worker = Worker::start(&["--coordinator", &url]);
        let (mut attached, _) = coordinator.welcomed().await;
        attached.prepared(&[Manner::Switches]).await;
        attached.go().await;
        attached.finish().await;
        let usage = attached.exited().await.usage.unwrap();
        // Its first thread alone switches a few times only.
        assert!(usage.voluntary_switches >= SWITCHES.into(), "{usage:?}");
        attached.usage().await;
        // Those of the fetcher that is reaped next are its own.
        attached.prepared(&[Manner::Obliging]).await;
        attached.finish().await;
        let usage = attached.exited().await.usage.unwrap();
        assert!(usage.voluntary_switches < u64::from(SWITCHES) / 2, "{usage:?}");
    });
}

fn binary() {
    script(async |mut coordinator, url| {
        let worker = Worker::start_binary(&["--coordinator", &url]);
        let (mut attached, _) = coordinator.welcomed().await;
        let setup = Setup {
            model: Model::Async,
            concurrency: NonZeroU32::MIN,
            client: Client::NULL,
            http: HttpSettings::default(),
            report_starts: false,
            cpu_work: Duration::ZERO,
            cpu_lock: false,
            pace: None,
            https: false,
        };
        let setup =
            fanout_testkit::message::to_fetcher(to_fetcher::Message::Setup((&setup).into()));
        let prepare = |trial| {
            to_worker::Message::Prepare(wire::Prepare {
                trial,
                fetchers: vec![wire::FetcherSpec {
                    fetcher: 0,
                    setup: setup.clone(),
                    cpus: vec![],
                    program: String::new(),
                }],
                memory_interval_ms: 0,
            })
        };
        attached.say(prepare(1)).await;
        attached.ready().await;
        attached.lease(0, 0..10).await;
        attached.go().await;
        while attached.completed().len() < 10 {
            let frame = attached.next_frame().await;
            attached.frames.push(frame);
        }
        attached.finish().await;
        let exited = attached.exited().await;
        assert_eq!(exited.reason, "");
        assert_eq!(exited.exit.unwrap().how, Some(How::Code(0)));
        assert_eq!(exited.held.unwrap().threads, Some(1));
        attached.usage().await;

        // A real fetcher ends with its worker, however that ends.
        attached.say(prepare(2)).await;
        attached.ready().await;
        let fetchers: Vec<_> = children(worker.0.id()).into_iter().map(Watched::new).collect();
        assert_eq!(fetchers.len(), 1);
        worker.signal(Signal::KILL);
        fetchers.iter().for_each(Watched::wait_for_its_end);
    });
}

fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("it lives");
    children.split_whitespace().map(|child| child.parse().expect("a number")).collect()
}

fn version() {
    let output = Command::new(env!("CARGO_BIN_EXE_worker")).arg("--version").output();
    let said = output.expect("it runs").stdout;
    assert_eq!(said, format!("worker {}\n", fanout_program::LONG_VERSION).as_bytes());
}

/// What forwarding costs the worker, for each URL: a lease out, a completion back.
fn cost() {
    const URLS: u64 = 1_000_000;
    for (fetchers, batch) in [(1, 4000), (1, 1000), (1, 250), (16, 1000), (64, 1000)] {
        script(async |mut coordinator, url| {
            let _worker = Worker::start(&["--coordinator", &url]);
            let (mut attached, _) = coordinator.welcomed().await;
            let began = Instant::now();
            attached.prepared(&vec![Manner::Obliging; fetchers]).await;
            let ready = began.elapsed();
            attached.go().await;
            let fetchers = u32::try_from(fetchers).unwrap();
            let (mut leased, mut completed) = (0, 0);
            for fetcher in (0..fetchers).cycle() {
                // Credit of 16 batches.
                while leased < URLS && leased - completed < 16 * batch {
                    attached.lease(fetcher, leased..leased + batch).await;
                    leased += batch;
                }
                let frame = attached.next_frame().await;
                attached.frames.push(frame);
                completed += attached.completed().len() as u64;
                attached.frames.clear();
                if completed >= URLS {
                    break;
                }
            }
            attached.finish().await;
            for _ in 0..fetchers {
                attached.exited().await;
            }
            let usage = attached.usage().await;
            let user = usage.cpu_user_us.unwrap();
            let system = usage.cpu_system_us.unwrap();
            eprintln!(
                "{fetchers:2} fetchers, batches of {batch:4}: {} + {} ns/URL user + system, ready in {} us, barrier {} us",
                user * 1000 / URLS,
                system * 1000 / URLS,
                ready.as_micros(),
                usage.barrier_us,
            );
        });
    }
}
