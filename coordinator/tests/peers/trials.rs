//! A trial on two workers of which one is hostile.

use fanout_engine::trial::{AbortReason, TrialEnd};
use fanout_proto::{
    limits::BATCH_MAX_URLS,
    wire::{self, from_fetcher::Message as Fetched},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio_util::sync::CancellationToken;

use crate::made_up::{
    Account, CONCURRENCY, Coordinator, MadeUp, Order, Say, bytes, completions, exited, frame,
    hello, honest, leased, ready, starts,
};

const URLS: u64 = 200;

/// A hostile worker's fetcher that was let go, and what it holds.
struct Let {
    worker: MadeUp,
    trial: u64,
    fetcher: u32,
    held: Vec<u64>,
}

impl Let {
    async fn go(mut worker: MadeUp) -> Self {
        let (trial, fetcher) = worker
            .until(|order| match order {
                Order::Prepare(prepare) => Some((prepare.trial, prepare.fetchers[0].fetcher)),
                _ => None,
            })
            .await;
        worker.say(ready(trial, fetcher)).await;
        let mut held = Vec::new();
        worker
            .until(|order| match order {
                Order::Frame(leases) => {
                    held.extend(leased(leases));
                    None
                }
                Order::Go(_) => Some(()),
                _ => None,
            })
            .await;
        assert!(!held.is_empty(), "it was given something before Go");
        Self { worker, trial, fetcher, held }
    }

    fn say(&self, message: Fetched) -> Say {
        frame(self.trial, self.fetcher, message)
    }
}

/// Runs a trial with this beside an honest worker; the account must be exact.
async fn beside<F>(hostile: impl FnOnce(Let) -> F) -> fanout_coordinator::run::Outcome
where
    F: Future<Output = ()>,
{
    let mut coordinator = Coordinator::start().await;
    let helper = tokio::spawn(honest(coordinator.url.clone()));
    coordinator.gather(1).await;
    let worker = MadeUp::attach(&coordinator.url, "hostile").await;
    coordinator.gather(2).await;
    let mut account = Account::default();
    let (outcome, ()) = tokio::join!(coordinator.trial(URLS, &mut account), async {
        hostile(Let::go(worker).await).await;
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.end, TrialEnd::Done);
    assert_eq!(outcome.counts.completed, URLS);
    assert_eq!(outcome.counts.done(), URLS);
    assert!(account.0.values().all(|times| *times == 1));
    assert_eq!(account.0.len() as u64, URLS);
    assert!(outcome.trial.degraded, "it says that something was lost");
    coordinator.fleet.dismiss("over");
    helper.await.unwrap();
    coordinator.end().await;
    outcome
}

#[tokio::test]
async fn a_fetcher_that_says_what_cannot_be_is_killed_and_its_urls_go_to_others() {
    type Lie = fn(&Let) -> Say;
    fn changed(of: &Let, change: impl FnOnce(&mut wire::CompletionBatch)) -> Say {
        let mut batch = completions(&of.held[..1]);
        change(&mut batch);
        of.say(Fetched::Completions(batch))
    }
    let lies: [(&str, Lie); 11] = [
        ("a URL past the list", |of| of.say(Fetched::Completions(completions(&[u64::MAX])))),
        ("a slot that it has not", |of| changed(of, |b| b.slots[0] = CONCURRENCY)),
        ("a time past all times", |of| changed(of, |b| b.starts_us[0] = u64::MAX)),
        ("a body past all bodies", |of| changed(of, |b| b.body_bytes[0] = u64::MAX)),
        ("an unknown outcome", |of| changed(of, |b| b.outcomes = vec![99].into())),
        ("details past the batch", |of| {
            changed(of, |b| {
                b.details.push(wire::FailureDetail { index: 1, text: String::new() });
            })
        }),
        ("a giant batch", |of| {
            let ids: Vec<_> = (0..=BATCH_MAX_URLS as u64).collect();
            of.say(Fetched::Completions(completions(&ids)))
        }),
        ("starts that it was not given", |of| of.say(Fetched::Started(starts(&[URLS + 7])))),
        ("starts without end", |of| {
            let again: Vec<_> = of.held.iter().cycle().take(4_000).copied().collect();
            of.say(Fetched::Started(starts(&again)))
        }),
        ("garbage", |of| bytes(of.trial, of.fetcher, b"\xff\xff\xff".to_vec())),
        ("Ready again", |of| ready(of.trial, of.fetcher)),
    ];
    for (what, lie) in lies {
        beside(async |mut of: Let| {
            of.worker.say(lie(&of)).await;
            let fetcher = of.fetcher;
            of.worker
                .until(|order| match order {
                    Order::Kill(kill) => {
                        assert_eq!(kill.fetcher, fetcher, "{what}");
                        Some(())
                    }
                    Order::Finish(_) => panic!("{what} was believed"),
                    _ => None,
                })
                .await;
            // It never says that the fetcher is gone, and leaves.
        })
        .await;
    }
}

#[tokio::test]
async fn a_worker_that_speaks_for_others_is_refused() {
    type Lie = fn(&Let) -> Say;
    let lies: [Lie; 4] = [
        |of| {
            let done = Fetched::Completions(completions(&of.held));
            frame(of.trial, of.fetcher - 1, done)
        },
        |of| exited(of.trial, of.fetcher - 1),
        |of| ready(of.trial, of.fetcher + 1),
        |of| exited(of.trial + 1, of.fetcher),
    ];
    for lie in lies {
        beside(async |of: Let| {
            of.worker.say(lie(&of)).await;
            let reason = of.worker.refused().await;
            assert!(reason.starts_with("it broke the protocol"), "{reason}");
        })
        .await;
    }
}

#[tokio::test]
async fn figures_past_all_sense_break_nothing() {
    let outcome = beside(async |of: Let| {
        for _ in 0..2_000 {
            let sample = wire::MemorySample {
                trial: of.trial,
                elapsed_us: u64::MAX,
                fetchers: u32::MAX,
                pss_bytes: Some(u64::MAX),
                uss_bytes: Some(u64::MAX),
                anonymous_bytes: Some(u64::MAX),
                file_bytes: Some(u64::MAX),
                threads: u32::MAX,
            };
            of.worker.say(Say::Memory(sample)).await;
        }
        let usage = wire::WorkerUsage {
            trial: of.trial,
            cpu_user_us: Some(u64::MAX),
            cpu_system_us: Some(u64::MAX),
            pipe_bytes_to_fetchers: u64::MAX,
            pipe_bytes_from_fetchers: u64::MAX,
            barrier_us: u64::MAX,
            start_us: Some(u64::MAX),
            kernel_stacks_bytes: Some(u64::MAX),
            load: Some(wire::MachineLoad {
                capacity_us: u64::MAX,
                busy_us: u64::MAX,
                steal_us: u64::MAX,
                own_us: u64::MAX,
            }),
            ..wire::WorkerUsage::default()
        };
        of.worker.say(Say::Usage(usage)).await;
        let mut batch = completions(&of.held);
        batch.durations_us.fill(10 * 366 * 24 * 3600 * 1_000_000);
        batch.body_bytes.fill(1 << 48);
        of.worker.say(of.say(Fetched::Completions(batch))).await;
        let mut last = exited(of.trial, of.fetcher);
        if let Say::Exited(exited) = &mut last {
            exited.reason = "\x1b[2J".repeat(100_000);
            exited.report = Some(wire::FetcherReport {
                connections_opened: u64::MAX,
                requests_sent: u64::MAX,
                in_flight_us: u64::MAX,
                in_flight_peak: u32::MAX,
                ..wire::FetcherReport::default()
            });
            exited.held = Some(wire::HoldSnapshot {
                hwm_bytes: Some(u64::MAX),
                pss_bytes: Some(u64::MAX),
                uss_bytes: Some(u64::MAX),
                threads: Some(u32::MAX),
                anonymous_bytes: Some(u64::MAX),
                file_bytes: Some(u64::MAX),
                page_tables_bytes: Some(u64::MAX),
                run_queue_wait_ns: Some(u64::MAX),
            });
            exited.usage = Some(wire::ResourceUsage {
                cpu_user_us: u64::MAX,
                cpu_system_us: u64::MAX,
                voluntary_switches: u64::MAX,
                involuntary_switches: u64::MAX,
                cpu_start_us: Some(u64::MAX),
            });
        }
        of.worker.say(last).await;
    })
    .await;
    assert!(outcome.trial.memory.len() <= 400, "samples are kept in bounds");
}

/// One thing that a worker may say, valid in itself.
fn anything() -> impl Strategy<Value = Say> {
    let trial = || prop_oneof![8 => Just(1_u64), 1 => 0_u64..4];
    let fetcher = || prop_oneof![6 => Just(1_u32), 1 => 0_u32..4];
    let ids = || prop::collection::vec(prop_oneof![0_u64..30, Just(u64::MAX)], 1..12);
    prop_oneof![
        1 => Just(Say::Hello(hello("again"))),
        4 => (trial(), fetcher()).prop_map(|(t, f)| ready(t, f)),
        6 => (trial(), fetcher(), ids()).prop_map(|(t, f, ids)| {
            frame(t, f, Fetched::Completions(completions(&ids)))
        }),
        3 => (trial(), fetcher(), ids()).prop_map(|(t, f, ids)| {
            frame(t, f, Fetched::Started(starts(&ids)))
        }),
        1 => (trial(), fetcher()).prop_map(|(t, f)| {
            frame(t, f, Fetched::Report(wire::FetcherReport::default()))
        }),
        1 => (trial(), fetcher(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(t, f, o)| bytes(t, f, o)),
        3 => (trial(), fetcher()).prop_map(|(t, f)| exited(t, f)),
        1 => (trial(), any::<u64>()).prop_map(|(trial, pss)| Say::Memory(wire::MemorySample {
            trial,
            pss_bytes: Some(pss),
            ..wire::MemorySample::default()
        })),
        2 => trial().prop_map(|trial| Say::Usage(wire::WorkerUsage {
            trial,
            ..wire::WorkerUsage::default()
        })),
        1 => any::<u64>().prop_map(|sequence| Say::Heartbeat(wire::Heartbeat { sequence })),
        1 => Just(Say::Goodbye(wire::Goodbye::default())),
    ]
}

/// Whatever a worker says, in whatever order, before and after it is let go:
/// the trial ends, and each URL is recorded once at most.
#[test]
fn any_order_of_messages_leads_to_an_end_and_an_exact_account() {
    const FEW: u64 = 25;
    let said = || prop::collection::vec(anything(), 0..25);
    let mut runner = TestRunner::new(Config {
        cases: 64,
        max_shrink_iters: 64,
        failure_persistence: None,
        ..Config::default()
    });
    let run = runner.run(&(said(), said()), |(before, after)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (outcome, account) = runtime.block_on(async {
            let mut coordinator = Coordinator::start().await;
            let helper = tokio::spawn(honest(coordinator.url.clone()));
            coordinator.gather(1).await;
            let mut worker = MadeUp::attach(&coordinator.url, "hostile").await;
            coordinator.gather(2).await;
            let mut account = Account::default();
            let hostile = async {
                for message in before {
                    worker.say(message).await;
                }
                // Until it is let go, if it comes to that.
                while let Some(order) = worker.next().await {
                    if let Order::Prepare(prepare) = &order {
                        for spec in &prepare.fetchers {
                            worker.say(ready(prepare.trial, spec.fetcher)).await;
                        }
                    }
                    if matches!(order, Order::Go(_) | Order::Finish(_) | Order::Kill(_)) {
                        break;
                    }
                }
                for message in after {
                    worker.say(message).await;
                }
                drop(worker);
            };
            let over = CancellationToken::new();
            let trial = async {
                let outcome = coordinator.trial(FEW, &mut account).await;
                over.cancel();
                outcome
            };
            // Nothing more may be said to it.
            let hostile = async {
                tokio::select! {
                    () = hostile => {}
                    () = over.cancelled() => {}
                }
            };
            let (outcome, ()) = tokio::join!(trial, hostile);
            coordinator.fleet.dismiss("over");
            helper.await.unwrap();
            coordinator.end().await;
            (outcome.unwrap(), account)
        });
        prop_assert!(account.0.values().all(|times| *times == 1));
        prop_assert_eq!(account.0.len() as u64, outcome.counts.done());
        match outcome.end {
            TrialEnd::Done => prop_assert_eq!(outcome.counts.done(), FEW),
            // It may say that it could not start its fetcher.
            TrialEnd::Aborted(AbortReason::Setup(_)) => {}
            TrialEnd::Aborted(other) => prop_assert!(false, "{}", other),
        }
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}\n{runner}");
    }
}
