//! What a large fleet costs the coordinator: many made-up workers on loopback
//! connections, each with one fetcher that completes every URL at once.
//!
//! ```text
//! cargo run --release -p fanout-coordinator --example fleet -- [WORKERS [URLS]]
//! ```
//!
//! The workers live in a process of their own, so that the coordinator's CPU
//! time and memory are its own. Every worker has a connection of its own.

use std::{
    error::Error,
    num::NonZeroU32,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fanout_coordinator::{
    fleet::FleetServer,
    run::{self, Stop, TrialRequest},
    terminal::reporter::{Terminal, Voice},
    url_list::{Source, UrlList},
};
use fanout_engine::{ledger::Split, politeness::Limits};
use fanout_proto::{
    completion::{Completion, CompletionBatchBuilder, Outcome},
    lease::LeaseBatch,
    setup::{Client, HttpSettings, Model, Setup},
    wire::{self, fleet_client::FleetClient, from_fetcher, from_worker, to_fetcher, to_worker},
    worker::{Hello, WorkerFacts},
};
use prost::Message;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

type Failure = Box<dyn Error + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(60);
const CONCURRENCY: u32 = 16;

fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let number = |at: usize, default| arguments.get(at).map_or(Ok(default), |text| text.parse());
    match arguments.first().map(String::as_str) {
        Some("workers") => {
            let url = arguments.get(2).ok_or("workers COUNT URL")?.clone();
            runtime.block_on(workers(number(1, 1)?, url))
        }
        _ => runtime.block_on(coordinator(number(0, 1000)?, number(1, 2_000_000)?)),
    }
}

async fn coordinator(workers: usize, urls: usize) -> Result<(), Failure> {
    let server = FleetServer::bind(([127, 0, 0, 1], 0).into(), None).await?;
    let url = format!("http://{}", server.address()?);
    let shutdown = CancellationToken::new();
    let (mut fleet, serve) = server.start(Routes::default(), shutdown.clone());
    let serve = tokio::spawn(serve);
    let began = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["workers", &workers.to_string(), &url])
        .stdin(Stdio::null())
        .spawn()?;
    fleet.gather(workers, PATIENCE).await?;
    eprintln!(
        "{workers} workers attached in {:.2} s",
        began.elapsed().as_secs_f64()
    );

    let lines = (0..urls).map(|i| format!("http://origin.example:8080/{i}"));
    let list = UrlList::from_lines(Source::BuiltIn, lines, 1)?;
    let setup = Setup {
        model: Model::Async,
        concurrency: NonZeroU32::new(CONCURRENCY).ok_or("a concurrency")?,
        client: Client::Null,
        http: HttpSettings::default(),
        report_starts: false,
        cpu_work: Duration::ZERO,
        cpu_lock: false,
        pace: None,
    };
    let processes = u32::try_from(workers)?;
    let request = TrialRequest {
        id: fleet.next_trial(),
        list: &list,
        setup: &setup,
        pace: &|_| None,
        placement: run::place(&fleet, processes, None, |_| true)?,
        cpus: &[],
        split: Split::Dynamic,
        done: None,
        memory_interval: None,
        limit: None,
        hosts: Limits::default(),
    };
    let mut bar = Terminal::default().bar(list.len(), "made-up fleet".to_owned());
    let outcome = run::run(&mut fleet, request, &Stop::default(), &mut bar).await?;
    bar.clear();
    let trial = &outcome.trial;
    let cpu_s = trial.coordination.coordinator_cpu_s.unwrap_or(f64::NAN);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let per_url_us = cpu_s * 1e6 / urls as f64;
    let mut shares: Vec<_> = trial.workers.iter().map(|worker| worker.urls).collect();
    shares.sort_unstable();
    eprintln!(
        "{:?}: {} URLs in {:.2} s, {per_url_us:.3} µs of the coordinator's CPU per URL",
        outcome.end,
        outcome.counts.completed,
        trial.makespan_s.unwrap_or(f64::NAN),
    );
    eprintln!(
        "URLs per worker: least {:?}, median {:?}, most {:?}; ready {:.2} s after the start",
        shares.first(),
        shares.get(shares.len() / 2),
        shares.last(),
        trial.spawn_s.unwrap_or(f64::NAN),
    );
    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|line| line.starts_with("VmHWM")) {
        eprintln!("{line}");
    }
    fleet.dismiss("the measurement is over");
    drop(fleet);
    shutdown.cancel();
    serve.await??;
    child.wait()?;
    Ok(())
}

async fn workers(count: usize, url: String) -> Result<(), Failure> {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let url = url.clone();
        tasks.spawn(async move { worker(number, url).await.map_err(|error| error.to_string()) });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// One worker with one fetcher that does at once whatever it is given.
async fn worker(number: usize, url: String) -> Result<(), Failure> {
    let mut client = FleetClient::connect(url).await?;
    let (outbox, stream) = mpsc::channel(64);
    let say = async |message| {
        let message = wire::FromWorker {
            message: Some(message),
        };
        outbox.send(message).await
    };
    let hello = Hello {
        name: format!("made-up-{number}"),
        slots: 1,
        facts: WorkerFacts::default(),
    };
    say(from_worker::Message::Hello((&hello).into())).await?;
    let mut inbound = client
        .attach(ReceiverStream::new(stream))
        .await?
        .into_inner();
    let mut running: Option<(u64, u32)> = None;
    let mut went = None;
    let mut held = Vec::new();
    let mut beats = tokio::time::interval(Duration::from_secs(2));
    loop {
        let message = tokio::select! {
            message = inbound.message() => message?,
            _ = beats.tick() => {
                say(from_worker::Message::Heartbeat(wire::Heartbeat { sequence: 0 })).await?;
                continue;
            }
        };
        let Some(message) = message.and_then(|message| message.message) else {
            return Ok(());
        };
        match message {
            to_worker::Message::Prepare(prepare) => {
                for fetcher in prepare.fetchers {
                    running = Some((prepare.trial, fetcher.fetcher));
                    let ready = wire::FetcherReady {
                        trial: prepare.trial,
                        fetcher: fetcher.fetcher,
                        spawn_us: 1,
                    };
                    say(from_worker::Message::Ready(ready)).await?;
                }
            }
            to_worker::Message::Go(_) => {
                went = Some(Instant::now());
                for frame in held.drain(..) {
                    for answer in complete(frame, Instant::now())? {
                        say(from_worker::Message::Frame(answer)).await?;
                    }
                }
            }
            to_worker::Message::Frame(frame) => match went {
                None => held.push(frame),
                Some(went) => {
                    for answer in complete(frame, went)? {
                        say(from_worker::Message::Frame(answer)).await?;
                    }
                }
            },
            to_worker::Message::Finish(finish) => {
                let (trial, fetcher) = running.take().ok_or("Finish before Prepare")?;
                let exited = wire::FetcherExited {
                    trial,
                    fetcher,
                    exit: Some(wire::Exit {
                        how: Some(wire::exit::How::Code(0)),
                        out_of_memory: false,
                    }),
                    report: Some(wire::FetcherReport::default()),
                    held: Some(wire::HeldFigures::default()),
                    usage: None,
                    reason: String::new(),
                };
                say(from_worker::Message::Exited(exited)).await?;
                let usage = wire::WorkerUsage {
                    trial: finish.trial,
                    ..wire::WorkerUsage::default()
                };
                say(from_worker::Message::Usage(usage)).await?;
            }
            to_worker::Message::Goodbye(_) => return Ok(()),
            to_worker::Message::Refused(refused) => return Err(refused.reason.into()),
            _ => {}
        }
    }
}

/// Completions for all leases in a frame.
fn complete(frame: wire::FetcherFrame, went: Instant) -> Result<Vec<wire::FetcherFrame>, Failure> {
    let Some(to_fetcher::Message::Leases(leases)) = wire::ToFetcher::decode(frame.frame)?.message
    else {
        return Ok(Vec::new());
    };
    let leases = LeaseBatch::try_from(leases)?;
    let start_us = u64::try_from(went.elapsed().as_micros())?;
    let mut batch = CompletionBatchBuilder::default();
    let mut full = Vec::new();
    for (id, _) in leases.iter() {
        let completion = Completion {
            id,
            outcome: Outcome::Ok,
            status: Some(200),
            body_bytes: 1,
            start_us,
            connect_us: 0,
            first_byte_us: Some(1),
            duration_us: 1,
            slot: 0,
            wait_us: None,
        };
        batch.push(&completion, None);
        if batch.is_full() {
            full.push(batch.take());
        }
    }
    if !batch.is_empty() {
        full.push(batch.take());
    }
    let frames = full.into_iter().map(|batch| wire::FetcherFrame {
        trial: frame.trial,
        fetcher: frame.fetcher,
        frame: wire::FromFetcher {
            message: Some(from_fetcher::Message::Completions(batch)),
        }
        .encode_to_vec()
        .into(),
    });
    Ok(frames.collect())
}
