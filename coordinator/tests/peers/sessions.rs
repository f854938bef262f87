//! What a worker may say before a trial and outside of one.

use fanout_proto::{limits::FRAME_MAX_BYTES, wire};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::made_up::{
    Coordinator, MadeUp, Order, PATIENCE, Say, bytes, connect, exited, from_worker, hello, ready,
};

fn heartbeat() -> Say {
    Say::Heartbeat(wire::Heartbeat { sequence: 1 })
}

fn changed(change: impl FnOnce(&mut wire::Hello)) -> wire::FromWorker {
    let mut hello = hello("w");
    change(&mut hello);
    from_worker(Say::Hello(hello))
}

#[tokio::test]
async fn who_does_not_say_hello_first_and_well_is_refused() {
    let mut coordinator = Coordinator::start().await;
    let cases = [
        (from_worker(heartbeat()), "the first message must be Hello"),
        (wire::FromWorker { message: None }, "the first message must be Hello"),
        (changed(|m| m.protocol_version += 1), "upgrade the coordinator"),
        (
            changed(|m| {
                m.protocol_version = 0;
                m.name = format!("\x1b[2J\n{}", "x".repeat(100_000));
            }),
            "upgrade the worker",
        ),
        (changed(|m| m.facts = None), "facts is missing"),
        (changed(|m| m.slots = 0), "slots is 0, outside 1 to 4096"),
        (changed(|m| m.slots = u32::MAX), "slots is 4294967295"),
        (changed(|m| m.name.clear()), "name is not valid"),
        (changed(|m| m.name = "a\nb".to_owned()), "a control character"),
        (changed(|m| m.name = "x".repeat(129)), "1 to 128 bytes"),
        (changed(|m| m.name = "x".repeat(2 * FRAME_MAX_BYTES)), "too large"),
        (changed(|m| m.facts.as_mut().unwrap().cpus = vec![1; 5_000]), "cpus is 5000"),
    ];
    for (first, expected) in cases {
        let worker = MadeUp::with_first(&coordinator.url, first).await;
        let reason = worker.refused().await;
        assert!(reason.contains(expected), "{reason:?} says not {expected:?}");
        assert!(reason.len() < 1_000 && !reason.contains(char::is_control));
    }
    // Nobody else has noticed.
    let _honest = MadeUp::attach(&coordinator.url, "honest").await;
    coordinator.gather(1).await;
    assert_eq!(coordinator.fleet.workers().len(), 1);
    coordinator.end().await;
}

#[tokio::test]
async fn who_breaks_the_protocol_later_is_refused_then() {
    let mut coordinator = Coordinator::start().await;
    let url = coordinator.url.clone();
    let _honest = MadeUp::attach(&url, "honest").await;
    coordinator.gather(1).await;
    let garbled = Say::Exited(wire::FetcherExited::default());
    let cases = [
        (vec![Say::Hello(hello("w"))], "Hello is said once"),
        (vec![garbled], "exit is missing"),
        (vec![bytes(0, 0, vec![0; 2 * FRAME_MAX_BYTES])], "too large"),
        (vec![heartbeat(); 40], "heartbeats without end"),
        (vec![ready(99, 0)], "a trial that there is not"),
        (vec![exited(u64::MAX, u32::MAX)], "a trial that there is not"),
        (vec![bytes(7, 0, b"garbage".to_vec())], "a trial that there is not"),
    ];
    let misbehave = async {
        for (said, expected) in cases {
            let worker = MadeUp::attach(&url, "hostile").await;
            for message in said {
                worker.say(message).await;
            }
            let reason = worker.refused().await;
            assert!(reason.contains(expected), "{reason:?} says not {expected:?}");
        }
        // A message without content.
        let worker = MadeUp::attach(&url, "hostile").await;
        worker.worker.say_raw(wire::FromWorker { message: None }).await;
        assert!(worker.refused().await.contains("message is missing"));
    };
    tokio::select! {
        () = misbehave => {}
        () = async { loop { coordinator.fleet.next().await; } } => {}
    }
    coordinator.fleet.catch_up();
    let left: Vec<_> = coordinator.fleet.workers().values().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].hello.name, "honest");
    coordinator.end().await;
}

#[tokio::test]
async fn a_worker_that_reads_nothing_is_cut_off_and_what_waits_for_it_is_let_go() {
    let mut coordinator = Coordinator::start().await;
    let stalled = MadeUp::attach(&coordinator.url, "stalled").await;
    coordinator.gather(1).await;
    let id = *coordinator.fleet.workers().keys().next().unwrap();
    let frame =
        || Order::Frame(wire::FetcherFrame { trial: 1, fetcher: 0, frame: vec![0; 512].into() });
    let mut sent = 0;
    while coordinator.fleet.send(id, frame()) {
        sent += 1;
        if sent % 100 == 0 {
            tokio::task::yield_now().await;
        }
        assert!(sent < 100_000, "what waits for one worker is bounded");
    }
    let closed = tokio::time::timeout(PATIENCE, async {
        // Its window is full: what ends the connection is seen when it reads.
        let MadeUp { mut worker, ended } = stalled;
        while let Ok(Some(_)) = worker.heard.message().await {}
        ended.cancelled().await;
    });
    closed.await.expect("the connection is closed");
    assert!(coordinator.fleet.workers().is_empty());
    coordinator.end().await;
}

#[tokio::test]
async fn streams_without_a_hello_are_bounded_and_run_into_their_deadline() {
    const STREAMS: usize = 1_100;
    let mut coordinator = Coordinator::start().await;
    let mut tasks = JoinSet::new();
    for _ in 0..STREAMS.div_ceil(50) {
        let url = coordinator.url.clone();
        tasks.spawn(async move {
            let (channel, _) = connect(&url).await;
            let mut silent = JoinSet::new();
            for _ in 0..50 {
                let mut client = wire::fleet_client::FleetClient::new(channel.clone());
                silent.spawn(async move {
                    let (say, stream) = tokio::sync::mpsc::channel(1);
                    let attached = client.attach(ReceiverStream::new(stream)).await;
                    let mut heard = match attached {
                        Ok(attached) => attached.into_inner(),
                        Err(status) => return status.message().to_owned(),
                    };
                    let first = heard.message().await;
                    drop(say);
                    match first {
                        Ok(Some(wire::ToWorker { message: Some(Order::Refused(refused)) })) => {
                            refused.reason
                        }
                        // Its connection went with another stream's refusal.
                        Err(_) | Ok(None) => "closed".to_owned(),
                        other => panic!("{other:?}"),
                    }
                });
            }
            let mut reasons = Vec::new();
            while let Some(reason) = silent.join_next().await {
                reasons.push(reason.unwrap());
            }
            reasons
        });
    }
    let mut reasons = Vec::new();
    while let Some(some) =
        tokio::time::timeout(PATIENCE, tasks.join_next()).await.expect("all are refused in time")
    {
        reasons.extend(some.unwrap());
    }
    assert!(reasons.len() >= STREAMS);
    let allowed = ["no Hello came", "too many workers say nothing; try again", "closed"];
    for reason in &reasons {
        assert!(allowed.contains(&reason.as_str()), "{reason}");
    }
    assert!(reasons.iter().any(|reason| reason == allowed[0]));
    // Those that were refused last are still on their way out.
    let _honest = MadeUp::attach_in_time(&coordinator.url, "honest").await;
    coordinator.gather(1).await;
    coordinator.end().await;
}
