//! Sessions over a pipe in memory.

use std::{future::Future, path::Path};

use bytes::Bytes;
use fanout_proto::wire::{self, exit::How, from_worker, to_worker};
use fanout_worker::{FetcherCommand, Parting, SessionError, Settings, attach};
use tokio_util::sync::CancellationToken;

use crate::{
    coordinator::{Attached, Coordinator, PATIENCE},
    fake::{Manner, SWITCHES},
};

type Test = (&'static str, fn());
type Ended = Result<Parting, SessionError>;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_trial_runs_from_prepare_to_usage", a_trial_runs),
        ("fetchers_past_the_slots_are_not_started", slots),
    ]
}

fn settings(slots: u32) -> Settings {
    Settings {
        name: "tested".to_owned(),
        slots,
        authorization: None,
        fetcher: FetcherCommand::new("/proc/self/exe", vec!["fetcher".into()]),
    }
}

/// Runs a worker with `settings` against a scripted coordinator.
fn with<F: Future<Output = ()>>(settings: Settings, script: impl FnOnce(Script) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (coordinator, channel) = Coordinator::in_memory().await;
        let stop = CancellationToken::new();
        let worker = tokio::spawn({
            let stop = stop.clone();
            async move { attach(channel, &settings, &stop).await }
        });
        let script = script(Script {
            coordinator,
            stop,
            worker,
        });
        tokio::time::timeout(2 * PATIENCE, script)
            .await
            .expect("the script ends");
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
        assert!(
            completed
                .into_iter()
                .eq(expected.chain((1000..1003).map(|id| (1, id))))
        );

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
            let usage = exited.usage.unwrap();
            assert!(usage.minor_faults > 0 && usage.voluntary_switches > 0);
        }
        let usage = worker.usage().await;
        assert!(usage.pipe_bytes_to_fetchers > 4000 * 47);
        assert!(usage.pipe_bytes_from_fetchers > 4000);
        assert!(usage.barrier_us > 0);
        assert!(usage.memory_samples >= 1);
        let last = worker.samples.last().expect("one at the hold");
        assert_eq!(last.fetchers, 2);
        assert_eq!(last.threads, 2);
        let held = |read: fn(&wire::HeldFigures) -> Option<u64>| {
            exited
                .iter()
                .map(|e| read(&e.held.unwrap()).unwrap())
                .sum::<u64>()
        };
        assert_eq!(last.pss_bytes, Some(held(|h| h.pss_bytes)));
        assert_eq!(last.uss_bytes, Some(held(|h| h.uss_bytes)));
        assert!(pids.into_iter().all(is_gone));

        worker
            .say(to_worker::Message::Goodbye(wire::Goodbye {
                reason: "done".into(),
            }))
            .await;
        assert_eq!(
            script.ended().await.unwrap(),
            Parting::Goodbye("done".into())
        );
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
        script.stop.cancel();
        assert_eq!(script.ended().await.unwrap(), Parting::Stopped);
    });
}
