//! Sessions over a pipe in memory.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fanout_proto::wire::{self, exit::How, from_worker, to_worker};
use fanout_worker::{AttachError, FetcherCommand, SessionEnd, SessionSettings, attach};
use tokio_util::sync::CancellationToken;

use crate::{
    coordinator::{Attached, Coordinator, PATIENCE},
    fake::{self, Manner, WORK},
    process,
};

type Test = (&'static str, fn());
type Ended = Result<SessionEnd, AttachError>;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_trial_runs_from_prepare_to_usage", a_trial_runs),
        ("a_start_is_as_long_as_a_stopwatch_says", stopwatch),
        ("cpu_time_before_go_is_told_apart", cpu_before_go),
        ("memory_is_the_trials_own_whoever_runs_beside_it", memory_beside_others),
        ("a_second_trial_follows_the_first", a_second_trial),
        ("two_trials_share_the_slots", two_trials),
        ("fetchers_past_the_slots_are_not_started", slots),
        ("a_fetcher_that_cannot_be_started_says_why", not_started),
        ("a_fetcher_runs_on_its_processors", processors),
        ("a_refusal_is_final_and_says_why", refused),
        ("a_wrong_token_is_final", wrong_token),
        ("the_token_goes_with_the_stream", token),
        ("anything_but_a_welcome_first_is_an_error", no_welcome),
        ("a_fetcher_that_crashes_is_told_with_its_last_words", crash),
        ("a_fetcher_that_is_killed_by_a_signal_is_told", signalled),
        ("what_was_completed_before_a_crash_counts", crash_when_done),
        ("a_setup_that_fails_is_told", cannot_work),
        ("a_fetcher_that_writes_nonsense_is_killed", nonsense),
        ("a_fetcher_that_speaks_out_of_turn_is_killed", out_of_turn),
        ("a_frame_that_is_never_completed_ends_with_the_trial", withholds),
        ("a_coordinator_that_reads_nothing_is_left", unread),
        ("a_coordinator_with_trials_without_end_is_left", trials_without_end),
        ("what_a_fetcher_leaves_behind_is_swept_up", leaves_a_child),
        ("kill_ends_one_fetcher", kill),
        ("abort_ends_a_trial", abort),
        ("a_fetcher_that_does_not_read_holds_nobody_up", overfull),
        ("a_flood_waits_for_the_coordinator", flood),
        ("messages_about_unknown_trials_are_ignored", unknown),
        ("a_message_that_makes_no_sense_ends_the_session", protocol_errors),
        ("a_message_past_the_limit_ends_the_session", too_large),
        ("a_cut_stream_leaves_no_fetcher", cut),
        ("goodbye_leaves_no_fetcher", goodbye),
        ("stopping_says_goodbye_and_leaves_no_fetcher", stop),
        ("heartbeats_are_sent", heartbeats),
        ("a_silent_coordinator_is_gone", silence),
    ]
}

fn settings(slots: u32) -> SessionSettings {
    SessionSettings {
        name: "tested".to_owned(),
        slots,
        authorization: None,
        fetcher: FetcherCommand::new("/proc/self/exe", vec!["fetcher".into()]),
        others: Vec::new(),
        declared: Vec::new(),
    }
}

/// Runs a worker with `settings` against a scripted coordinator.
fn with<F: Future<Output = ()>>(settings: SessionSettings, script: impl FnOnce(Script) -> F) {
    on(tokio::runtime::Builder::new_current_thread(), settings, script);
}

fn on<F: Future<Output = ()>>(
    mut runtime: tokio::runtime::Builder,
    settings: SessionSettings,
    script: impl FnOnce(Script) -> F,
) {
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (coordinator, channel) = Coordinator::in_memory().await;
        let stop = CancellationToken::new();
        let worker = tokio::spawn({
            let stop = stop.clone();
            async move { attach(channel, &settings, &stop).await }
        });
        let script = script(Script { coordinator, stop, worker });
        tokio::time::timeout(2 * PATIENCE, script).await.expect("the script ends");
    });
}

struct Script {
    coordinator: Coordinator,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<Ended>,
}

impl Script {
    async fn ended(self) -> Ended {
        self.worker.await.expect("the worker does not panic")
    }
}

fn is_gone(pid: u32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}

fn a_trial_runs() {
    with(settings(2), async |mut script| {
        let (mut worker, hello) = script.coordinator.welcomed().await;
        assert_eq!(hello.protocol_version, fanout_proto::PROTOCOL_VERSION);
        assert_eq!((hello.name.as_str(), hello.slots), ("tested", 2));
        assert!(!hello.facts.expect("facts").cpus.is_empty());

        let pids = worker.prepared(&[Manner::Obliging, Manner::Obliging]).await;
        worker.lease(0, 0..1000).await;
        worker.lease(1, 1000..1003).await;
        worker.go().await;
        worker.lease(0, 1003..4000).await;
        while worker.completed().len() < 4000 {
            let frame = worker.next_frame().await;
            worker.frames.push(frame);
        }
        let mut completed = worker.completed();
        completed.sort_unstable();
        let expected = (0..1000).chain(1003..4000).map(|id| (0, id));
        assert!(completed.into_iter().eq(expected.chain((1000..1003).map(|id| (1, id)))));

        worker.finish().await;
        let mut exited = [worker.exited().await, worker.exited().await];
        exited.sort_by_key(|exited| exited.fetcher);
        for (exited, requests) in exited.iter().zip([3997, 3]) {
            assert_eq!(exited.reason, "");
            assert_eq!(exited.exit.unwrap().how, Some(How::Code(0)));
            assert_eq!(exited.report.unwrap().requests_sent, requests);
            let held = exited.held.unwrap();
            assert!(held.hwm_bytes.unwrap() >= held.uss_bytes.unwrap());
            assert!(held.pss_bytes.unwrap() >= held.uss_bytes.unwrap());
            assert_eq!(held.threads, Some(1));
            assert!(held.run_queue_wait_ns.is_some());
            assert!(held.page_tables_bytes.unwrap() > 0);
            let usage = exited.usage.unwrap();
            assert!(usage.voluntary_switches > 0);
            let cpu_us = usage.cpu_user_us + usage.cpu_system_us;
            assert!((1..cpu_us).contains(&usage.cpu_start_us.unwrap()), "{usage:?}");
        }
        let usage = worker.usage().await;
        assert!(usage.pipe_bytes_to_fetchers > 4000 * 47);
        assert!(usage.pipe_bytes_from_fetchers > 4000);
        assert!(usage.barrier_us > 0);
        let last = worker.samples.last().expect("one at the hold");
        assert_eq!(last.fetchers, 2);
        assert_eq!(last.threads, 2);
        let held = |read: fn(&wire::HoldSnapshot) -> Option<u64>| {
            exited.iter().map(|e| read(&e.held.unwrap()).unwrap()).sum::<u64>()
        };
        assert_eq!(last.pss_bytes, Some(held(|h| h.pss_bytes)));
        assert_eq!(last.uss_bytes, Some(held(|h| h.uss_bytes)));
        assert_eq!(last.anonymous_bytes, Some(held(|h| h.anonymous_bytes)));
        let file_bytes = exited.iter().map(|e| e.held.unwrap().file_bytes);
        assert_eq!(last.file_bytes, file_bytes.max().unwrap());
        let stacks = usage.kernel_stacks_bytes.unwrap();
        assert!(stacks.is_multiple_of(2 * 4096) && stacks >= 2 * 4096, "{stacks}");
        let load = usage.load.unwrap();
        assert!(load.own_us > 0 && load.capacity_us > 0, "{load:?}");
        assert!(pids.into_iter().all(is_gone));

        worker.say(to_worker::Message::Goodbye(wire::Goodbye { reason: "done".into() })).await;
        assert_eq!(script.ended().await.unwrap(), SessionEnd::Goodbye("done".into()));
    });
}

/// Nothing makes a start look longer than it was. A busy machine holds the test up as well, so
/// one try of many must agree.
fn stopwatch() {
    with(settings(8), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let mut least = f64::MAX;
        for _ in 0..20 {
            let began = Instant::now();
            worker.prepare(&[Manner::Obliging; 8]).await;
            let mut longest_us = 0;
            for _ in 0..8 {
                longest_us = worker.ready().await.spawn_us.max(longest_us);
            }
            let outside = began.elapsed();
            worker.go().await;
            worker.finish().await;
            let start = Duration::from_micros(worker.finished(8).await.start_us.unwrap());
            assert!(start <= outside, "{start:?} of {outside:?}");
            assert!(start >= Duration::from_micros(longest_us), "{start:?} of {longest_us} µs");
            least = least.min(outside.as_secs_f64() / start.as_secs_f64());
        }
        assert!(least < 1.03, "the stopwatch showed {least} times the start");
    });
}

fn cpu_before_go() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepared(&[Manner::Works]).await;
        worker.go().await;
        worker.finish().await;
        let usage = worker.exited().await.usage.unwrap();
        let start_us = usage.cpu_start_us.unwrap();
        let run_us = usage.cpu_user_us + usage.cpu_system_us - start_us;
        let [before_us, after_us] = WORK.map(fanout_proto::time::micros);
        assert!((before_us..before_us + after_us).contains(&start_us), "{start_us}");
        assert!((after_us..2 * after_us).contains(&run_us), "{run_us}");
    });
}

/// Where the system put the program decides which of its pages come in with others, so single
/// processes differ by a few per cent; the medians of some must agree.
fn memory_beside_others() {
    with(settings(13), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let alone = memory_bytes(&mut worker).await;
        let fetchers = (0..12).map(|fetcher| wire::FetcherSpec {
            fetcher,
            setup: fake::setup(Manner::Obliging),
            cpus: vec![],
            program: String::new(),
        });
        worker
            .say(to_worker::Message::Prepare(wire::Prepare {
                trial: 2,
                fetchers: fetchers.collect(),
                memory_interval_ms: 0,
            }))
            .await;
        for _ in 0..12 {
            worker.ready().await;
        }
        let beside_others = memory_bytes(&mut worker).await;
        let ratio = beside_others as f64 / alone as f64;
        assert!((ratio - 1.0).abs() <= 0.02, "{beside_others} of {alone}");
    });
}

/// The median of what trials of one fetcher need.
async fn memory_bytes(worker: &mut Attached) -> u64 {
    const TRIALS: usize = 61;
    let mut bytes = Vec::new();
    for _ in 0..TRIALS {
        worker.prepare(&[Manner::Obliging]).await;
        worker.ready().await;
        worker.go().await;
        worker.finish().await;
        worker.finished(1).await;
        let held = worker.samples.last().expect("one at the hold");
        bytes.push(held.anonymous_bytes.unwrap() + held.file_bytes.unwrap());
    }
    bytes.sort_unstable();
    bytes[TRIALS / 2]
}

fn a_second_trial() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        for _ in 0..3 {
            worker.prepared(&[Manner::Obliging]).await;
            worker.go().await;
            worker.finish().await;
            assert_eq!(worker.exited().await.reason, "");
            worker.usage().await;
        }
    });
}

fn two_trials() {
    with(settings(3), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepared(&[Manner::Obliging, Manner::Obliging]).await;
        let fetchers = (0..2).map(|fetcher| wire::FetcherSpec {
            fetcher,
            setup: fake::setup(Manner::Obliging),
            cpus: vec![],
            program: String::new(),
        });
        worker
            .say(to_worker::Message::Prepare(wire::Prepare {
                trial: 2,
                fetchers: fetchers.collect(),
                memory_interval_ms: 0,
            }))
            .await;
        let exited = worker.exited().await;
        assert_eq!((exited.trial, exited.fetcher), (2, 1));
        assert_eq!(exited.exit.unwrap().how, Some(How::NotStarted(true)));
        worker.ready().await;
        worker.finish().await;
        for _ in 0..2 {
            assert_eq!(worker.exited().await.trial, 1);
        }
        assert_eq!(worker.usage().await.trial, 1);
        worker.say(to_worker::Message::Finish(wire::Finish { trial: 2 })).await;
        assert_eq!(worker.exited().await.reason, "");
        assert_eq!(worker.usage().await.trial, 2);
    });
}

fn slots() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepare(&[Manner::Obliging, Manner::Obliging]).await;
        let exited = worker.exited().await;
        assert_eq!(exited.fetcher, 1);
        assert_eq!(exited.exit.unwrap().how, Some(How::NotStarted(true)));
        assert!(exited.reason.contains("--slots"), "{}", exited.reason);
        assert!(exited.usage.is_none());
    });
}

fn not_started() {
    let mut settings = settings(1);
    settings.fetcher = FetcherCommand::new("/nonexistent/fetcher", vec![]);
    with(settings, async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepare(&[Manner::Obliging]).await;
        let exited = worker.exited().await;
        assert_eq!(exited.exit.unwrap().how, Some(How::NotStarted(true)));
        assert!(exited.reason.contains("/nonexistent/fetcher"), "{}", exited.reason);
    });
}

fn processors() {
    with(settings(2), async |mut script| {
        let (mut worker, hello) = script.coordinator.welcomed().await;
        let allowed = hello.facts.expect("facts").cpus;
        let own = *allowed.last().expect("a processor");
        let fetchers = [(0, own), (1, 9999)].map(|(fetcher, cpu)| wire::FetcherSpec {
            fetcher,
            setup: fake::setup(Manner::Obliging),
            cpus: vec![cpu],
            program: String::new(),
        });
        worker
            .say(to_worker::Message::Prepare(wire::Prepare {
                trial: 1,
                fetchers: fetchers.into(),
                memory_interval_ms: 0,
            }))
            .await;
        let exited = worker.exited().await;
        assert_eq!(exited.fetcher, 1);
        assert!(exited.reason.contains("processor 9999"), "{}", exited.reason);
        worker.ready().await;
        let pid = worker.pid_said().await;
        let oom_score_adj = |pid: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
            text.expect("it lives").trim().parse::<i32>().expect("a number")
        };
        let raised = (oom_score_adj("self") + 500).min(1000);
        assert_eq!(oom_score_adj(&pid.to_string()), raised);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let allowed = format!("Cpus_allowed_list:\t{own}\n");
        assert!(status.contains(&allowed), "{status}");
    });
}

fn refused() {
    with(settings(1), async |mut script| {
        let mut worker = script.coordinator.attached().await;
        worker.next().await;
        let reason = "this coordinator is version 9: upgrade the worker".to_owned();
        worker.say(to_worker::Message::Refused(wire::Refused { reason })).await;
        let error = script.ended().await.unwrap_err();
        assert!(error.is_final());
        assert_eq!(
            error.to_string(),
            "the coordinator refuses this worker: this coordinator is version 9: upgrade the worker"
        );
    });
}

fn wrong_token() {
    let mut settings = settings(1);
    settings.authorization = Some("Bearer wrong".parse().expect("ASCII"));
    with(settings, async |script| {
        let error = script.ended().await.unwrap_err();
        assert!(error.is_final());
        assert!(error.to_string().contains("--token-file"), "{error}");
    });
}

fn token() {
    let mut settings = settings(1);
    settings.authorization = Some("Bearer s3cret".parse().expect("ASCII"));
    with(settings, async |mut script| {
        let worker = script.coordinator.attached().await;
        assert_eq!(worker.metadata.get("authorization").unwrap(), "Bearer s3cret");
    });
}

fn no_welcome() {
    with(settings(1), async |mut script| {
        let worker = script.coordinator.attached().await;
        worker.go().await;
        let error = script.ended().await.unwrap_err();
        assert!(matches!(error, AttachError::Protocol(_)), "{error}");
    });
}

/// What is told of a fetcher of this manner that is let go.
fn fate_of(manner: Manner) -> wire::FetcherExited {
    let mut fate = None;
    with(settings(2), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let pids = worker.prepared(&[manner, Manner::Obliging]).await;
        worker.go().await;
        let exited = worker.exited().await;
        assert!(is_gone(pids[0]));
        assert_eq!(exited.fetcher, 0);
        assert_eq!(exited.report, None);
        assert!(exited.usage.is_some());
        // The other one goes on.
        worker.lease(1, 0..10).await;
        while worker.completed() != (0..10).map(|id| (1, id)).collect::<Vec<_>>() {
            let frame = worker.next_frame().await;
            worker.frames.push(frame);
        }
        worker.finish().await;
        let other = worker.exited().await;
        assert_eq!((other.fetcher, other.reason.as_str()), (1, ""));
        worker.usage().await;
        fate = Some(exited);
    });
    fate.expect("the script ran")
}

fn crash() {
    let fate = fate_of(Manner::Crashes);
    assert_eq!(fate.exit.unwrap().how, Some(How::Code(3)));
    assert_eq!(
        fate.reason,
        "it ended by itself with exit code 3 while it ran; its last words: \
         first line; the disk is on fire"
    );
}

fn signalled() {
    let fate = fate_of(Manner::IsKilled);
    assert_eq!(fate.exit.unwrap().how, Some(How::Signal(9)));
    assert!(!fate.exit.unwrap().out_of_memory);
    assert_eq!(fate.reason, "it was ended by signal 9 (SIGKILL) while it ran");
}

fn nonsense() {
    for manner in [Manner::Babbles, Manner::Misspeaks] {
        let fate = fate_of(manner);
        assert_eq!(fate.exit.unwrap().how, Some(How::Signal(9)));
        assert!(fate.reason.contains("makes no sense"), "{}", fate.reason);
    }
}

fn out_of_turn() {
    for (manner, why) in [
        (Manner::Boasts, "longer than the 1048576 allowed"),
        (Manner::Repeats, "it said Ready twice"),
        (Manner::Reports, "without being told to hold"),
    ] {
        let fate = fate_of(manner);
        assert_eq!(fate.exit.unwrap().how, Some(How::Signal(9)));
        assert!(fate.reason.contains(why), "{}", fate.reason);
    }
}

fn withholds() {
    with(settings(2), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepared(&[Manner::Withholds, Manner::Obliging]).await;
        worker.lease(1, 0..3).await;
        worker.go().await;
        while worker.completed().len() < 3 {
            let frame = worker.next_frame().await;
            worker.frames.push(frame);
        }
        worker.finish().await;
        let mut fates = [worker.exited().await, worker.exited().await];
        fates.sort_by_key(|fate| fate.fetcher);
        assert!(fates[0].reason.contains("did not report"), "{}", fates[0].reason);
        assert_eq!(fates[1].reason, "");
        worker.usage().await;
    });
}

/// Orders whose answers are not read: past the slots nothing is started, and
/// that is told each time.
fn unread() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let pids = worker.prepared(&[Manner::Obliging]).await;
        for round in 0..30 {
            let first = 1 + round * 1000;
            let fetchers = (first..first + 1000).map(|fetcher| wire::FetcherSpec {
                fetcher,
                setup: Bytes::new(),
                cpus: vec![],
                program: String::new(),
            });
            worker
                .say(to_worker::Message::Prepare(wire::Prepare {
                    trial: 1,
                    fetchers: fetchers.collect(),
                    memory_interval_ms: 0,
                }))
                .await;
        }
        let error = script.ended().await.unwrap_err();
        assert!(error.to_string().contains("is not read"), "{error}");
        assert!(pids.into_iter().all(is_gone));
    });
}

fn trials_without_end() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        for trial in 0..=64 {
            worker
                .say(to_worker::Message::Prepare(wire::Prepare {
                    trial,
                    fetchers: vec![],
                    memory_interval_ms: 0,
                }))
                .await;
        }
        let reason = worker.goodbye().await;
        assert!(reason.contains("more than 64 trials"), "{reason}");
        let error = script.ended().await.unwrap_err();
        assert!(matches!(error, AttachError::Protocol(_)), "{error}");
    });
}

fn cannot_work() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepare(&[Manner::CannotWork]).await;
        let exited = worker.exited().await;
        assert_eq!(exited.reason, "its setup failed: no such model");
        worker.finish().await;
        worker.usage().await;
    });
}

fn crash_when_done() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepared(&[Manner::CrashesWhenDone]).await;
        worker.lease(0, 0..4000).await;
        worker.go().await;
        let exited = worker.exited().await;
        assert_eq!(exited.exit.unwrap().how, Some(How::Code(4)));
        // All of it came before the exit was told.
        assert!(worker.completed().into_iter().eq((0..4000).map(|id| (0, id))));
    });
}

fn leaves_a_child() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepared(&[Manner::LeavesAChild]).await;
        worker.go().await;
        let left = process::Watched::new(worker.pid_said().await);
        let exited = worker.exited().await;
        assert_eq!(exited.exit.unwrap().how, Some(How::Code(0)));
        assert!(exited.reason.contains("by itself"), "{}", exited.reason);
        left.wait_for_its_end();
    });
}

fn kill() {
    with(settings(2), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let pids = worker.prepared(&[Manner::Deaf, Manner::Obliging]).await;
        worker.go().await;
        let kill = wire::Kill { trial: 1, fetcher: 0 };
        worker.say(to_worker::Message::Kill(kill)).await;
        let exited = worker.exited().await;
        assert_eq!(exited.fetcher, 0);
        assert_eq!(exited.exit.unwrap().how, Some(How::Signal(9)));
        assert_eq!(exited.reason, "killed as the coordinator asked");
        assert!(is_gone(pids[0]) && !is_gone(pids[1]));
        worker.finish().await;
        assert_eq!(worker.exited().await.reason, "");
    });
}

fn abort() {
    with(settings(3), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let manners = [Manner::Deaf, Manner::Floods, Manner::Obliging];
        let pids = worker.prepared(&manners).await;
        worker.go().await;
        worker.say(to_worker::Message::Abort(wire::Abort { trial: 1 })).await;
        for _ in pids.iter() {
            let exited = worker.exited().await;
            assert_eq!(exited.exit.unwrap().how, Some(How::Signal(9)));
            assert_eq!(exited.reason, "the trial was aborted");
        }
        worker.usage().await;
        assert!(pids.into_iter().all(is_gone));
    });
}

fn overfull() {
    with(settings(2), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepared(&[Manner::Deaf, Manner::Obliging]).await;
        worker.go().await;
        let padding = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..34 {
            worker.frame(0, padding.clone()).await;
        }
        worker.lease(1, 0..1).await;
        let exited = worker.exited().await;
        assert_eq!(exited.fetcher, 0);
        assert!(exited.reason.contains("credit"), "{}", exited.reason);
        worker.finish().await;
        let other = worker.exited().await;
        assert_eq!((other.fetcher, other.reason.as_str()), (1, ""));
        assert_eq!(worker.completed(), [(1, 0)]);
    });
}

fn flood() {
    with(settings(2), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.prepared(&[Manner::Floods, Manner::Obliging]).await;
        worker.lease(1, 0..3).await;
        worker.go().await;
        // However long the flood, the other fetcher's frames come through, and
        // so does what the worker itself has to say.
        while !worker.completed().contains(&(1, 2)) {
            let frame = worker.next_frame().await;
            if frame.fetcher == 1 {
                worker.frames.push(frame);
            }
        }
        let kill = wire::Kill { trial: 1, fetcher: 0 };
        worker.say(to_worker::Message::Kill(kill)).await;
        assert_eq!(worker.exited().await.fetcher, 0);
    });
}

fn unknown() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        worker.go().await;
        worker.finish().await;
        worker.lease(3, 0..4).await;
        worker.say(to_worker::Message::Abort(wire::Abort { trial: 1 })).await;
        worker.prepared(&[Manner::Obliging]).await;
        worker.lease(9, 0..4).await;
        worker.say(to_worker::Message::Kill(wire::Kill { trial: 1, fetcher: 9 })).await;
        worker.finish().await;
        assert_eq!(worker.exited().await.reason, "");
    });
}

fn protocol_errors() {
    let spec = |fetcher| wire::FetcherSpec {
        fetcher,
        setup: fake::setup(Manner::Obliging),
        cpus: vec![],
        program: String::new(),
    };
    let prepare = |fetchers: &[u32]| {
        to_worker::Message::Prepare(wire::Prepare {
            trial: 1,
            fetchers: fetchers.iter().map(|fetcher| spec(*fetcher)).collect(),
            memory_interval_ms: 0,
        })
    };
    let welcome = wire::Welcome { worker_id: 1, heartbeat_interval_ms: 1000 };
    let cases = [
        None,
        Some(prepare(&[1, 1])),
        Some(prepare(&[0])),
        Some(to_worker::Message::Welcome(welcome)),
    ];
    for message in cases {
        with(settings(2), async |mut script| {
            let (mut worker, _) = script.coordinator.welcomed().await;
            let pids = worker.prepared(&[Manner::Obliging]).await;
            worker.say_raw(wire::ToWorker { message }).await;
            let reason = worker.goodbye().await;
            assert!(reason.contains("makes no sense"), "{reason}");
            let error = script.ended().await.unwrap_err();
            assert!(matches!(error, AttachError::Protocol(_)), "{error}");
            assert!(pids.into_iter().all(is_gone));
        });
    }
}

fn too_large() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let pids = worker.prepared(&[Manner::Obliging]).await;
        let fetchers = (0..33).map(|fetcher| wire::FetcherSpec {
            fetcher,
            setup: vec![0; 1 << 20].into(),
            cpus: vec![],
            program: String::new(),
        });
        worker
            .say(to_worker::Message::Prepare(wire::Prepare {
                trial: 2,
                fetchers: fetchers.collect(),
                memory_interval_ms: 0,
            }))
            .await;
        let reason = worker.goodbye().await;
        assert!(reason.contains("too large"), "{reason}");
        let error = script.ended().await.unwrap_err();
        assert!(!error.is_final(), "{error}");
        assert!(pids.into_iter().all(is_gone));
    });
}

fn cut() {
    with(settings(2), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let pids = worker.prepared(&[Manner::Deaf, Manner::Obliging]).await;
        worker.go().await;
        worker.cut();
        let error = script.ended().await.unwrap_err();
        assert!(matches!(error, AttachError::Cut(_)), "{error}");
        assert!(!error.is_final());
        assert!(pids.into_iter().all(is_gone));
    });
}

fn goodbye() {
    with(settings(1), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let pids = worker.prepared(&[Manner::Obliging]).await;
        let reason = "shutting down".to_owned();
        worker.say(to_worker::Message::Goodbye(wire::Goodbye { reason })).await;
        assert_eq!(script.ended().await.unwrap(), SessionEnd::Goodbye("shutting down".into()));
        assert!(pids.into_iter().all(is_gone));
    });
}

fn stop() {
    with(settings(2), async |mut script| {
        let (mut worker, _) = script.coordinator.welcomed().await;
        let pids = worker.prepared(&[Manner::Deaf, Manner::Obliging]).await;
        worker.go().await;
        script.stop.cancel();
        assert_eq!(worker.goodbye().await, "this worker was told to stop");
        assert!(worker.next_or_end().await.is_none());
        drop(worker);
        assert_eq!(script.ended().await.unwrap(), SessionEnd::Stopped);
        assert!(pids.into_iter().all(is_gone));
    });
}

fn heartbeats() {
    with(settings(1), async |mut script| {
        let mut worker = script.coordinator.attached().await;
        worker.next().await;
        worker.welcome(Duration::from_millis(10)).await;
        for expected in 1..4 {
            worker.say(to_worker::Message::Heartbeat(wire::Heartbeat { sequence: 1 })).await;
            let from_worker::Message::Heartbeat(beat) = worker.next().await else {
                panic!("nothing else is to be said");
            };
            assert_eq!(beat.sequence, expected);
        }
    });
}

fn silence() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.start_paused(true);
    on(runtime, settings(1), async |mut script| {
        let mut worker = script.coordinator.attached().await;
        worker.next().await;
        worker.welcome(Duration::from_secs(2)).await;
        let began = tokio::time::Instant::now();
        let reason = worker.goodbye().await;
        assert!(reason.contains("said nothing for 6"), "{reason}");
        assert_eq!(began.elapsed().as_secs(), 6);
        drop(worker);
        let error = script.ended().await.unwrap_err();
        assert!(matches!(error, AttachError::Silent(_)), "{error}");
        assert!(!error.is_final());
    });
}
