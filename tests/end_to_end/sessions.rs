//! How the coordinator parts with workers: those that fall silent, and those
//! that speak another version of the protocol.

use std::{collections::BTreeSet, fs, net::TcpListener};

use fanout_proto::{
    PROTOCOL_VERSION,
    control::PROTOCOL_KEY,
    wire::{
        self, control_client::ControlClient, fleet_client::FleetClient, from_worker, to_worker,
    },
    worker::{Hello, WorkerFacts},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use crate::harness::{PATIENCE, Place, Ran, assert_each_once, ids, read, records, wait_for};

/// A process and its fetchers, as one that freezes or thaws with its container.
fn family(place: &Place, parent: Pid) -> Vec<Pid> {
    let line = format!("PPid:\t{parent}");
    let born_of = |pid: &Pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|found| found == line)
    };
    let mut family = vec![parent];
    family.extend(place.processes("fetcher").into_iter().filter(born_of));
    family
}

fn send(family: &[Pid], signal: Signal) {
    for process in family {
        kill_process(*process, signal).expect("it lives");
    }
}

#[test]
fn a_frozen_worker_is_found_loses_nothing_and_comes_back() {
    const URLS: u64 = 1200;
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(1200, "delay=20ms"));
    let serving = place.serve(&[]);
    let _one = serving.worker(&place, "one");
    let two = serving.worker(&place, "two");
    let fetch = ["fetch", "urls.txt", "--workers", "2"];
    let fetch = [&fetch[..], &["--coordinator", &serving.url]].concat();
    let slowly = ["--arm", "2xasync:4", "--out", "got.jsonl"];
    let client = place.start(&[&fetch[..], &slowly].concat());
    wait_for("records of the worker that is to freeze", || {
        let text = fs::read_to_string(place.path("got.jsonl.part")).ok()?;
        text.contains("\"two\"").then_some(())
    });
    let frozen = family(&place, two.pid());
    assert_eq!(frozen.len(), 2, "the worker and its fetcher");
    send(&frozen, Signal::STOP);
    let ran: Ran = client.finish().expect(0);
    let text = read(&place.path("got.jsonl"));
    assert_each_once(ids(&text), URLS);
    let again: Vec<_> =
        records(&text).into_iter().filter(|record| record["attempt"].as_u64() > Some(1)).collect();
    assert!(!again.is_empty(), "it held leases: {}", ran.stderr);
    assert!(again.iter().all(|r| r["worker"] == "one"), "{again:?}");
    let names = |status: serde_json::Value| -> Vec<_> {
        let workers = status["workers"].as_array().unwrap().iter();
        workers.map(|worker| worker["name"].clone()).collect()
    };
    assert_eq!(names(serving.status(&place)), ["one"]);

    send(&frozen, Signal::CONT);
    serving.attached(&place, "two");
    wait_for("the fetcher of the lost session to end", || {
        place.processes("fetcher").is_empty().then_some(())
    });
    let ran = place.run(&[&fetch[..], &["--arm", "2xasync:32"]].concat());
    let ran = ran.expect(0);
    assert_each_once(ids(&ran.stdout), URLS);
    let workers: BTreeSet<_> =
        ran.records().iter().map(|record| record["worker"].to_string()).collect();
    assert_eq!(workers.len(), 2, "both are used again");
}

#[test]
fn a_client_may_wait_for_a_coordinator_and_find_its_token_in_a_file() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(5, ""));
    place.write("token", "s3cret\n");
    let early = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = early.local_addr().unwrap().to_string();
    let url = format!("http://{address}");
    let shown = |args: &[&str]| {
        let mut command = place.command(&[args, &["--coordinator", &url]].concat());
        command.env("FANOUT_TOKEN_FILE", "token");
        place.start_as(command)
    };
    let client = shown(&["fetch", "urls.txt", "--wait", "60s"]);
    let _worker = shown(&["worker"]);
    // Somebody has come, and there is no coordinator yet.
    drop(early.accept().unwrap());
    drop(early);
    let _serving = place.serve_at(&address, &["--token-file", "token"]);
    assert_each_once(ids(&client.finish().expect(0).stdout), 5);
}

#[test]
fn what_the_shell_holds_for_a_fleet_does_not_disturb_a_run_here() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(5, ""));
    let mut command = place.command(&["fetch", "urls.txt"]);
    for variable in ["TOKEN_FILE", "TLS_CA", "TLS_CERT", "TLS_KEY"] {
        command.env(format!("FANOUT_{variable}"), "absent");
    }
    let ran = place.start_as(command).finish().expect(0);
    assert_each_once(ids(&ran.stdout), 5);
}

fn hello(protocol: u32) -> wire::FromWorker {
    let hello = Hello {
        name: "made-up".to_owned(),
        slots: 1,
        facts: WorkerFacts { version: "9.8.7".to_owned(), ..WorkerFacts::default() },
        fetchers: Vec::new(),
    };
    let hello = wire::Hello { protocol_version: protocol, ..hello.into() };
    wire::FromWorker { message: Some(from_worker::Message::Hello(hello)) }
}

/// What the coordinator answers to a worker that speaks this protocol.
async fn answer_to_worker(url: &str, protocol: u32) -> to_worker::Message {
    let mut client = FleetClient::connect(url.to_owned()).await.unwrap();
    let stream = client.attach(tokio_stream::iter([hello(protocol)])).await.unwrap();
    let first = stream.into_inner().message().await.unwrap();
    first.unwrap().message.unwrap()
}

#[tokio::test]
async fn a_fleet_may_have_more_workers_than_a_shell_allows_open_files() {
    const WORKERS: usize = 100;
    let place = Place::new();
    let mut limited = std::process::Command::new("sh");
    let program = place.command(&[]).get_program().to_owned();
    limited
        .args(["-c", "ulimit -Sn 64 && exec \"$@\"", "sh"])
        .arg(program)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(["--http-listen", "127.0.0.1:0", "--data"])
        .arg(place.path("data"))
        .stdout(std::process::Stdio::piped());
    let serving = Place::serving(limited);
    let mut attached = Vec::new();
    let attach = async {
        for _ in 0..WORKERS {
            let mut client = FleetClient::connect(serving.url.clone()).await.unwrap();
            // It stays until this test ends.
            let said = tokio_stream::iter([hello(PROTOCOL_VERSION)]).chain(tokio_stream::pending());
            let mut answers = client.attach(said).await.unwrap().into_inner();
            let welcome = answers.message().await.unwrap();
            assert!(welcome.is_some());
            attached.push((client, answers));
        }
    };
    let all = tokio::time::timeout(PATIENCE, attach).await;
    assert!(all.is_ok(), "only {} came in", attached.len());
}

/// What the coordinator answers to a client that speaks this protocol.
async fn answer_to_client(url: &str, protocol: u32) -> Result<(), tonic::Status> {
    let mut client = ControlClient::connect(url.to_owned()).await.unwrap();
    let mut request = Request::new(wire::StatusRequest {});
    request.metadata_mut().insert(PROTOCOL_KEY, protocol.to_string().parse().unwrap());
    client.status(request).await.map(|_| ())
}

#[tokio::test]
async fn another_versions_worker_or_client_is_told_which_side_to_upgrade() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let (older, newer) = (PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1);
    for (theirs, behind) in [(older, "worker"), (newer, "coordinator")] {
        let answer = answer_to_worker(&serving.url, theirs).await;
        let to_worker::Message::Refused(refused) = answer else {
            panic!("{answer:?}");
        };
        for part in [
            "worker 'made-up' is fanout 9.8.7 with protocol ",
            &format!("{theirs}, this coordinator is fanout {}", env!("CARGO_PKG_VERSION")),
            &format!("with protocol {PROTOCOL_VERSION}: upgrade the {behind}"),
        ] {
            assert!(refused.reason.contains(part), "{}", refused.reason);
        }
    }
    for (theirs, behind) in [(older, "client"), (newer, "coordinator")] {
        let refused = answer_to_client(&serving.url, theirs).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let end = format!("with protocol {PROTOCOL_VERSION}: upgrade the {behind}");
        assert!(refused.message().ends_with(&end), "{}", refused.message());
    }
    let welcome = answer_to_worker(&serving.url, PROTOCOL_VERSION).await;
    assert!(matches!(welcome, to_worker::Message::Welcome(_)), "{welcome:?}");
    assert!(answer_to_client(&serving.url, PROTOCOL_VERSION).await.is_ok());
}
