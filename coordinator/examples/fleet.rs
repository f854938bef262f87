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
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fanout_coordinator::{
    fleet::{FleetServer, assign::assign},
    run::{self, Stop, TrialRequest},
    url_list::{Source, UrlList},
};
use fanout_engine::{ledger::Split, politeness::Limits};
use fanout_proto::wire::from_worker;
use fanout_testkit::{ScriptedWorker, message};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes, transport::Endpoint};

type Failure = Box<dyn Error + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(60);
const CONCURRENCY: u32 = 16;

fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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
    eprintln!("{workers} workers attached in {:.2} s", began.elapsed().as_secs_f64());

    let lines = (0..urls).map(|i| format!("http://origin.example:8080/{i}"));
    let list = UrlList::from_lines(Source::BuiltIn, lines, 1)?;
    let setup = fanout_testkit::setup(CONCURRENCY);
    let processes = u32::try_from(workers)?;
    let request = TrialRequest {
        id: fleet.next_trial(),
        list: &list,
        setup: &setup,
        pace: &|_| None,
        placement: assign(&fleet, processes, None, |_| true)?,
        cpus: &[],
        split: Split::Dynamic,
        done: None,
        memory_interval: None,
        limit: None,
        hosts: Limits::default(),
        observe: &|_| Ok(()),
    };
    let outcome = run::run(&mut fleet, request, &Stop::default(), &mut ()).await?;
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
        let channel = Endpoint::from_shared(url.clone())?.connect().await?;
        let hello = message::hello(&format!("made-up-{number}"), 1);
        let first = message::from_worker(from_worker::Message::Hello(hello));
        tasks.spawn(async move {
            ScriptedWorker::attach(channel, first).await?.oblige().await;
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended?.map_err(|status: Status| status.message().to_owned())?;
    }
    Ok(())
}
