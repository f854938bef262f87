//! The gRPC service for clients.

use std::{pin::Pin, sync::Arc, time::Duration};

use fanout_proto::{
    WireError,
    control::{JobDescription, JobEvent, JobState, Submission, Submitted},
    id::JobId,
    limits::PART_MAX_BYTES,
    wire::{self, control_server, submit_part::Part},
};
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use super::{
    jobs::{Cancelled, ServerJob},
    plan::{JobPlan, Received},
    state::ServerState,
    transcript::Tail,
    upload::{invalid, next_part, receive},
};
use crate::{accept::PeerInfo, settings::clients, terminal::command::without_secrets};

/// Events on their way to one follower; the rest is read when there is room.
const EVENTS_MAX: usize = 4;
/// A reader takes the next event within this time, or comes back later.
const READER_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(super) struct ControlService(pub(super) Arc<ServerState>);

type EventStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

#[tonic::async_trait]
impl control_server::Control for ControlService {
    type FollowStream = EventStream<wire::JobEvent>;
    type ReadStudyStream = EventStream<wire::StudyPart>;

    async fn submit(
        &self,
        request: Request<Streaming<wire::SubmitPart>>,
    ) -> Result<Response<wire::Submitted>, Status> {
        let peer = request.extensions().get::<PeerInfo>().map(PeerInfo::ip);
        let answer = submit(&self.0, request.into_inner()).await?;
        match &answer {
            Submitted::Job(id) => info!(job = %id, ?peer, "job submitted"),
            Submitted::Refused { message, .. } => info!(?peer, reason = message, "job refused"),
        }
        Ok(Response::new(answer.into()))
    }

    async fn follow(
        &self,
        request: Request<wire::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let request = request.into_inner();
        let job = self.0.job(request.job)?;
        let permit = self.0.reader()?;
        let (events, stream) = mpsc::channel(EVENTS_MAX);
        // Ends with the job, or with the client that it speaks to.
        tokio::spawn(async move {
            let follow = follow(&job, request.journal_from, request.results_from, &events);
            tokio::select! {
                ended = follow => if let Err(Some(status)) = ended {
                    // A client that reads nothing, or is gone, needs no reason.
                    let _ = events.try_send(Err(status));
                },
                () = events.closed() => {}
            }
            drop(permit);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn cancel(
        &self,
        request: Request<wire::CancelRequest>,
    ) -> Result<Response<wire::Cancelled>, Status> {
        let request = request.into_inner();
        self.0.job(request.job)?;
        let cancelled = self.0.jobs.cancel(JobId(request.job), request.at_once);
        Ok(Response::new(wire::Cancelled {
            was_live: matches!(cancelled, Some(Cancelled::Running | Cancelled::Waiting)),
        }))
    }

    async fn status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusReply>, Status> {
        Ok(Response::new(self.0.status().into()))
    }

    async fn read_study(
        &self,
        request: Request<wire::ReadStudyRequest>,
    ) -> Result<Response<Self::ReadStudyStream>, Status> {
        let name = request.into_inner().name;
        let path = self.0.jobs.data().study_file(&name, "study.json");
        let path = path.ok_or_else(|| {
            Status::not_found(
                "no study of that name is kept here; the coordinator's page lists them",
            )
        })?;
        let permit = self.0.reader()?;
        let json = tokio::fs::read(path).await.map_err(|error| {
            Status::internal(format!("the coordinator cannot read the study: {error}"))
        })?;
        let json = bytes::Bytes::from(json);
        let parts = (0..json.len()).step_by(PART_MAX_BYTES).map(move |start| {
            let _held_to_the_end = &permit;
            let end = (start + PART_MAX_BYTES).min(json.len());
            Ok(wire::StudyPart { json: json.slice(start..end) })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }
}

async fn submit(
    state: &Arc<ServerState>,
    mut parts: Streaming<wire::SubmitPart>,
) -> Result<Submitted, Status> {
    let first = next_part(&mut parts).await?;
    let Some(Part::Submission(submission)) = first else {
        return Err(invalid(&WireError::Missing("submission")));
    };
    let submission = Submission::try_from(submission).map_err(|error| invalid(&error))?;
    let admission = state.jobs.admit();
    let admission = admission.map_err(|full| Status::resource_exhausted(full.to_string()))?;
    let directory = admission.directory().map_err(Status::internal)?.to_owned();
    let mut received = Received { submission, id: admission.id, directory, list: None, done: None };
    receive(&mut parts, &mut received).await?;
    let check = {
        let state = state.clone();
        // A long list takes a while to read, and workers must not wait for it.
        tokio::task::spawn_blocking(move || {
            let declared = clients(&state.roster.fetchers());
            let (data, origin) = (state.jobs.data(), state.origin.as_deref());
            let checked = JobPlan::check(&received, data, origin, &declared);
            (received, checked)
        })
    };
    let (received, (plan, said)) =
        check.await.map_err(|error| Status::internal(error.to_string()))?;
    let plan = match plan {
        Ok(plan) => plan,
        Err(failure) => {
            return Ok(Submitted::Refused {
                exit_code: failure.exit.code(),
                message: failure.to_string(),
                said,
            });
        }
    };
    let id = admission.id;
    let description = JobDescription {
        id,
        kind: plan.kind(),
        arguments: without_secrets(&received.submission.arguments),
        list: plan.list(),
    };
    let queued = admission.queue(description, plan, &said);
    queued.map_err(Status::unavailable)?;
    Ok(Submitted::Job(id))
}

/// Sends one client everything. The state is looked at before the files are,
/// so that all else comes before the end.
async fn follow(
    job: &ServerJob,
    journal_from: u64,
    results_from: u64,
    events: &mpsc::Sender<Result<wire::JobEvent, Status>>,
) -> Result<(), Option<Status>> {
    let send = async |event: JobEvent| {
        let sent = events.send_timeout(Ok(event.into()), READER_PATIENCE).await;
        sent.map_err(|error| match error {
            // The client is told when it reads again, and asks for the rest.
            SendTimeoutError::Timeout(_) => Some(Status::unavailable("the client reads nothing")),
            SendTimeoutError::Closed(_) => None,
        })
    };
    let unreadable = |error: std::io::Error| {
        Some(Status::internal(format!("the coordinator cannot read the job's output: {error}")))
    };
    let mut state = job.watch();
    let mut journal = Tail::new(vec![job.journal()], journal_from);
    let mut results = Tail::new(job.results(), results_from);
    send(JobEvent::Job(job.description.clone())).await?;
    loop {
        let now = state.borrow_and_update().clone();
        while let Some(bytes) = journal.read().map_err(unreadable)? {
            send(JobEvent::Journal(bytes)).await?;
        }
        while let Some(bytes) = results.read().map_err(unreadable)? {
            send(JobEvent::Results(bytes)).await?;
        }
        match now {
            JobState::Waiting(ahead) => send(JobEvent::Waiting(ahead)).await?,
            JobState::Running(progress) => send(JobEvent::Progress(progress)).await?,
            JobState::Finished(finished) => return send(JobEvent::Finished(finished)).await,
        }
        if state.changed().await.is_err() {
            // The job was forgotten; it is over, so its state has said so.
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
