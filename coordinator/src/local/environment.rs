//! What a run stands on: a fleet and perhaps an origin. On a local run both are
//! made for it; the server has them already.

use std::{net::SocketAddr, time::Duration};

use fanout_analysis::record::Machine;
use fanout_proto::worker::WorkerFacts;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::warn;

use crate::{
    exit::Failure,
    fleet::{Fleet, FleetServer, ServeError, Token},
    local::processes::Local,
    settings::Common,
    url_list::hex,
};

/// Local workers are attached within this time.
const GATHER_PATIENCE: Duration = Duration::from_secs(15);
/// The server's sessions end within this time.
const END_DEADLINE: Duration = Duration::from_secs(3);

/// What a run stands on, however it came to be.
#[derive(Debug)]
pub(crate) struct Environment<'a> {
    pub(crate) fleet: &'a mut Fleet,
    /// Where the built-in list's URLs lead, if they are wanted.
    pub(crate) origin: Option<EnvironmentOrigin>,
    pub(crate) machine: Machine,
    /// Longest wait for a worker to come back when none is left.
    pub(crate) patience: Option<Duration>,
}

/// A server of fanout's own.
#[derive(Debug, Clone)]
pub(crate) struct EnvironmentOrigin {
    pub(crate) url: String,
    pub(crate) threads: usize,
    pub(crate) embedded: bool,
}

#[derive(Debug)]
pub(crate) struct LocalEnvironment {
    fleet: Fleet,
    origin: Option<EnvironmentOrigin>,
    local: Local,
    shutdown: CancellationToken,
    server: JoinHandle<Result<(), ServeError>>,
}

impl LocalEnvironment {
    /// Starts the origin, if `origin_seed` is given, the server and the
    /// workers, and waits until those are attached.
    pub(crate) async fn start(
        common: &Common,
        slots: u32,
        origin_seed: Option<u64>,
    ) -> Result<Self, Failure> {
        let mut local = Local::new()?;
        let cpus = &common.cpus.origin;
        let threads = cpus.len().max(1);
        let origin = match (origin_seed, &common.origin) {
            (None, _) => None,
            (Some(_), Some(url)) => {
                Some(EnvironmentOrigin { url: url.clone(), threads: 0, embedded: false })
            }
            (Some(seed), None) => Some(EnvironmentOrigin {
                url: local.start_origin(seed, threads, cpus).await?,
                threads,
                embedded: true,
            }),
        };
        let secret = secret();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = FleetServer::bind(loopback, Some(Token::new(&secret)))
            .await
            .map_err(Failure::no_fleet)?;
        let address = server.address().map_err(Failure::no_fleet)?;
        let shutdown = CancellationToken::new();
        let (fleet, serve) = server.start(Routes::default(), shutdown.clone());
        let mut environment = Self { fleet, origin, local, shutdown, server: tokio::spawn(serve) };
        let url = format!("http://{address}");
        let started = environment.start_workers(common, slots, &url, &secret);
        if let Err(failure) = started.await {
            environment.end().await;
            return Err(failure);
        }
        Ok(environment)
    }

    async fn start_workers(
        &mut self,
        common: &Common,
        slots: u32,
        url: &str,
        secret: &str,
    ) -> Result<(), Failure> {
        for number in 1..=common.local_workers {
            let name = format!("local-{number}");
            self.local.start_worker(url, &name, slots, secret, &common.fetchers)?;
        }
        let wanted = usize::try_from(common.local_workers).unwrap_or(usize::MAX);
        let gathered = self.fleet.gather(wanted, GATHER_PATIENCE).await;
        gathered.map_err(Failure::no_fleet)
    }

    pub(crate) fn environment(&mut self) -> Environment<'_> {
        // A local run's workers live where the coordinator does.
        let first = self.fleet.workers().values().next();
        let machine = first.map(|w| machine(&w.hello.facts)).unwrap_or_default();
        Environment { origin: self.origin.clone(), machine, fleet: &mut self.fleet, patience: None }
    }

    pub(crate) async fn end(mut self) {
        self.fleet.dismiss("the run is over");
        // The workers' streams end with the fleet that holds them.
        drop(self.fleet);
        self.local.end().await;
        self.shutdown.cancel();
        match timeout(END_DEADLINE, &mut self.server).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the server ended badly"),
            Ok(Err(error)) => warn!(%error, "the server's task failed"),
            Err(_) => self.server.abort(),
        }
    }
}

/// A worker's facts, as a record keeps them.
pub(crate) fn machine(facts: &WorkerFacts) -> Machine {
    Machine {
        kernel: facts.kernel.clone(),
        architecture: facts.architecture.clone(),
        cpus: facts.cpus.clone(),
        memory_bytes: facts.memory_bytes,
        cgroup: facts.cgroup.clone(),
        cgroup_cpus: facts.cgroup_cpus,
        cgroup_memory_bytes: facts.cgroup_memory_bytes,
    }
}

/// A secret that only the workers started here know.
fn secret() -> String {
    let mut secret = [0; 16];
    // Without randomness from the system the token is merely guessable by
    // other users of this machine.
    if rustix::rand::getrandom(&mut secret[..], rustix::rand::GetRandomFlags::empty()).is_err() {
        warn!("the system has no randomness for the workers' token");
    }
    hex(&secret)
}
