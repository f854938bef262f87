//! `coordinator serve`: workers attach, clients submit, one job runs at a time.
//!
//! ```text
//!  clients ══ Control ── jobs ──► run, the one owner of the fleet ◄── Fleet ══ workers
//!                         │            │
//!  browsers ── pages ─────┴── files ◄──┘ journal, results, studies
//! ```

mod config;
mod control;
mod data;
mod gate;
mod jobs;
mod metrics;
mod output;
mod pages;
mod plan;
mod state;
mod transcript;
mod upload;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use fanout_proto::{
    FILE_DESCRIPTOR_SET,
    control::JobFinished,
    wire::{control_server::ControlServer, fleet_server},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, interceptor::InterceptedService};
use tracing::{info, warn};

use self::{
    config::ServeConfig,
    control::ControlService,
    data::Data,
    gate::Gate,
    jobs::{Jobs, ServerJob},
    output::JobOutput,
    plan::JobPlan,
    state::ServerState,
};
use crate::{
    cli::ServeArgs,
    exit::{CommandExit, Failure},
    fetch::PreparedFetch,
    fleet::{Fleet, FleetServer},
    local::environment::{Environment, EnvironmentOrigin, machine},
    results::ClaimedOutput,
    run::Stop,
};

/// A job waits this long for the workers that it asks for.
const GATHER_PATIENCE: Duration = Duration::from_secs(60);
/// A study that has lost its last worker waits this long for one to come back.
const RETURN_PATIENCE: Duration = Duration::from_secs(30);
/// Sessions and pages end within this time.
const END_DEADLINE: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: ServeArgs) -> Result<CommandExit, Failure> {
    let config = ServeConfig::new(args)?;
    let data = Data::open(&config.data)?;
    let jobs = Jobs::new(data, config.queue).map_err(Failure::usage)?;
    let mut server =
        FleetServer::bind(config.listen, config.token.clone()).await.map_err(Failure::usage)?;
    let pages = TcpListener::bind(config.http_listen).await.map_err(|error| {
        Failure::usage(format!(
            "cannot listen on {}: {error}; choose another address with --http-listen",
            config.http_listen
        ))
    })?;
    let grpc_at = server.address().map_err(Failure::usage)?;
    let pages_at = pages.local_addr().map_err(Failure::usage)?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    if let Some(tls) = config.tls {
        server = server.with_tls(tls);
    }
    let state = ServerState::new(jobs.clone(), server.roster(), config.origin);
    let refusals = server.refusals();
    let gate = Gate { token: config.token.clone(), refusals: refusals.clone() };
    let routes = routes(&state, gate).await?;
    let shutdown = CancellationToken::new();
    let (fleet, grpc) = server.start(routes, shutdown.clone());
    let mut grpc = tokio::spawn(grpc);
    let mut pages = tokio::spawn(pages::serve(
        pages,
        pages_at,
        state.clone(),
        config.token,
        refusals,
        shutdown.clone(),
    ));
    let signals = end_signals().map_err(Failure::incomplete)?;
    announce(scheme, grpc_at, pages_at, &config.data);
    let ended = tokio::select! {
        exit = work(fleet, &jobs, signals) => Ok(exit),
        ended = &mut grpc => Err(Failure::incomplete(match ended {
            Ok(Ok(())) => "the gRPC server ended by itself".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        })),
    };
    shutdown.cancel();
    if ended.is_ok() && timeout(END_DEADLINE, &mut grpc).await.is_err() {
        grpc.abort();
    }
    if timeout(END_DEADLINE, &mut pages).await.is_err() {
        pages.abort();
    }
    ended
}

/// Where it is, on standard output: a program that starts it reads that.
fn announce(scheme: &str, grpc: SocketAddr, pages: SocketAddr, data: &Path) {
    let text = format!("coordinator {scheme}://{grpc}\npages http://{pages}\n");
    if let Err(error) = crate::terminal::print::print(&text) {
        warn!(%error, "cannot say where it serves");
    }
    info!(%grpc, %pages, data = %data.display(), "serving");
}

async fn routes(state: &Arc<ServerState>, gate: Gate) -> Result<Routes, Failure> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ControlServer<ControlService>>().await;
    health
        .set_service_status(fleet_server::SERVICE_NAME, tonic_health::ServingStatus::Serving)
        .await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(Failure::incomplete)?;
    let control = ControlServer::new(ControlService(state.clone()));
    Ok(Routes::new(InterceptedService::new(control, gate))
        .add_service(health_service)
        .add_service(reflection))
}

/// Waits for a signal, as often as it is asked to: what it means for the exit.
fn end_signals() -> std::io::Result<impl AsyncFnMut() -> CommandExit> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move || {
        tokio::select! {
            _ = interrupt.recv() => CommandExit::Interrupted,
            _ = terminate.recv() => CommandExit::Done,
        }
    })
}

/// Runs job after job until a signal comes; then the running one is cancelled
/// and saved, and the workers are sent away. A second signal ends all at once.
async fn work(
    mut fleet: Fleet,
    jobs: &Jobs,
    mut signalled: impl AsyncFnMut() -> CommandExit,
) -> CommandExit {
    let over = CancellationToken::new();
    let run = async {
        loop {
            let (job, plan) = tokio::select! {
                biased;
                () = over.cancelled() => break,
                next = jobs.next() => next,
                _ = fleet.next() => continue,
            };
            let finished = run_job(&job, plan, &mut fleet).await;
            jobs.finish(&job, finished);
        }
    };
    let exit = {
        tokio::pin!(run);
        let exit = tokio::select! {
            () = &mut run => CommandExit::Done,
            exit = signalled() => exit,
        };
        info!("ending");
        jobs.close();
        over.cancel();
        tokio::select! {
            () = run => {}
            _ = signalled() => std::process::exit(CommandExit::Interrupted.code().into()),
        }
        exit
    };
    fleet.dismiss("the coordinator ends");
    exit
}

async fn run_job(job: &Arc<ServerJob>, plan: JobPlan, fleet: &mut Fleet) -> JobFinished {
    info!(job = %job.description.id, "job starts");
    let result = match JobOutput::open(job.clone()) {
        Ok(output) => carry_out(job, plan, &output, fleet).await,
        Err(error) => Err(plan::cannot_keep(&error)),
    };
    // Whatever it was read from is not needed any more.
    let _ = std::fs::remove_file(job.directory.join("list"));
    match result {
        Ok(exit) => ended(exit, ""),
        Err(failure) => ended(failure.exit, &failure.to_string()),
    }
}

/// How a job ended, as its followers are told.
fn ended(exit: CommandExit, message: &str) -> JobFinished {
    JobFinished { exit_code: exit.code(), message: message.to_owned() }
}

async fn carry_out(
    job: &ServerJob,
    plan: JobPlan,
    output: &JobOutput,
    fleet: &mut Fleet,
) -> Result<CommandExit, Failure> {
    if let Err(failure) = gather(fleet, plan.workers(), &job.stop).await {
        plan.discard();
        return Err(failure);
    }
    let environment = Environment {
        fleet,
        origin: plan.origin().map(|url| EnvironmentOrigin { url, threads: 0, embedded: false }),
        machine: machine(&fanout_worker::facts()),
        patience: Some(RETURN_PATIENCE),
    };
    match plan {
        JobPlan::Study(study, _) => study.run(environment, &job.stop, output).await,
        JobPlan::Fetch(settings, list, done) => {
            let here = |failure: Failure| match failure.exit {
                CommandExit::Incomplete => {
                    Failure::incomplete(format!("on the coordinator's machine: {failure}"))
                }
                _ => failure,
            };
            let claimed = ClaimedOutput::of(&settings.destination, false)
                .map_err(|error| here(Failure::incomplete(error)))?
                .ok_or_else(|| Failure::incomplete("the job has its results already"))?;
            let fetch = PreparedFetch::new(&settings, &list, claimed, done, output)
                .map_err(|failure| here(Failure::incomplete(failure)))?;
            let ended = match fetch.nothing_left() {
                true => fetch.conclude(&job.stop).await,
                false => fetch.run(environment, &job.stop).await,
            };
            ended.map_err(here)
        }
    }
}

async fn gather(fleet: &mut Fleet, wanted: u32, stop: &Stop) -> Result<(), Failure> {
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    fleet.catch_up();
    tokio::select! {
        gathered = fleet.gather(wanted, GATHER_PATIENCE) => return gathered.map_err(Failure::no_fleet),
        () = stop.cancel.cancelled() => {}
        () = stop.drain.cancelled() => {}
    }
    Err(Failure::interrupted("cancelled while it waited for workers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Token;
    use tokio_stream::StreamExt;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    #[tokio::test]
    async fn probes_and_grpcurl_find_their_way_without_the_token() {
        let place = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(Data::open(place.path()).unwrap(), 1).unwrap();
        let token = Token::new("s3cret");
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = FleetServer::bind(loopback, Some(token.clone())).await.unwrap();
        let url = format!("http://{}", server.address().unwrap());
        let state = ServerState::new(jobs, server.roster(), None);
        let routes =
            routes(&state, Gate { token: Some(token), refusals: server.refusals() }).await.unwrap();
        let shutdown = CancellationToken::new();
        let (_fleet, serve) = server.start(routes, shutdown.clone());
        let serve = tokio::spawn(serve);

        let endpoint = tonic::transport::Endpoint::from_shared(url).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut health = HealthClient::new(channel.clone());
        for service in ["", "fanout.v1.Fleet", "fanout.v1.Control"] {
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = health.check(request).await.unwrap().into_inner();
            assert_eq!(answer.status().as_str_name(), "SERVING", "{service}");
        }
        let mut reflection = ServerReflectionClient::new(channel);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let asked = tokio_stream::iter([request]);
        let mut answers = reflection.server_reflection_info(asked).await.unwrap().into_inner();
        let answer = answers.next().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(services)) = answer else {
            panic!("it lists no services: {answer:?}");
        };
        let names: Vec<_> = services.service.iter().map(|s| s.name.as_str()).collect();
        assert!(names.contains(&"fanout.v1.Fleet"), "{names:?}");
        assert!(names.contains(&"fanout.v1.Control"), "{names:?}");
        drop((health, answers, reflection));
        shutdown.cancel();
        serve.await.unwrap().unwrap();
    }
}
