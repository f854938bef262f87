//! The gRPC service for clients.

use std::{pin::Pin, sync::Arc, time::Duration};

use fanout_proto::{
    PROTOCOL_VERSION, WireError,
    control::{
        JobDescription, JobEvent, JobState, PROTOCOL_KEY, Status as DaemonStatus, Submission,
        Submitted,
    },
    id::JobId,
    limits::{LIST_MAX_BYTES, PART_MAX_BYTES},
    wire::{self, control_server::Control as ControlRpc, submit_part::Part},
};
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{self, error::SendTimeoutError},
    },
    time::Instant,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, service::Interceptor};
use tracing::info;

use super::{
    jobs::{Cancelled, Job, Jobs},
    output::Tail,
    plan::{Checked, Plan, Received},
};
use crate::{
    accept::{PeerInfo, RefusalLog},
    cli::without_secrets,
    fleet::{Roster, Token},
};

/// Events on their way to one follower; the rest is read when there is room.
const EVENTS_MAX: usize = 4;
/// A client sends the next part of its list within this time.
const PART_PATIENCE: Duration = Duration::from_secs(60);
/// A list comes at least this fast on average, once the patience is used up:
/// it has a place in the queue meanwhile.
const LIST_BYTES_PER_S_MIN: u64 = 4 * 1024;
/// Calls at a time that follow a job or read a study.
const READERS_MAX: usize = 256;
/// A reader takes the next event within this time, or comes back later.
const READER_PATIENCE: Duration = Duration::from_secs(120);

/// Lets those in that show the token and speak this version's protocol.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) token: Option<Token>,
    pub(super) refusals: RefusalLog,
}

impl Gate {
    fn refused(&self, peer: Option<&PeerInfo>, reason: &'static str, detail: &str) {
        if let Some(peer) = peer {
            self.refusals.note(peer.ip(), reason, detail);
        }
    }
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let text = |key: &str| request.metadata().get(key).and_then(|v| v.to_str().ok());
        let peer = request.extensions().get::<PeerInfo>();
        if let Some(token) = &self.token
            && !token.fits(text("authorization"))
        {
            self.refused(peer, "a client with a wrong or missing token", "");
            return Err(Status::unauthenticated(
                "wrong or missing token; pass the coordinator's with --token-file or FANOUT_TOKEN",
            ));
        }
        let theirs: u32 = text(PROTOCOL_KEY).and_then(|v| v.parse().ok()).unwrap_or(0);
        if theirs != PROTOCOL_VERSION {
            let older = if theirs < PROTOCOL_VERSION {
                "client"
            } else {
                "coordinator"
            };
            let detail = format!("it speaks protocol {theirs}");
            self.refused(peer, "a client of another version", &detail);
            return Err(Status::failed_precondition(format!(
                "the client speaks protocol {theirs}, this coordinator is fanout {} with protocol \
                 {PROTOCOL_VERSION}: upgrade the {older}",
                fanout_program::VERSION,
            )));
        }
        if let Some(peer) = peer {
            peer.admit();
        }
        Ok(request)
    }
}

/// What the service stands on.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) jobs: Jobs,
    pub(super) roster: Roster,
    pub(super) origin: Option<String>,
    pub(super) began: Instant,
    pub(super) readers: Readers,
}

/// Places for calls that are answered for as long as the client likes.
#[derive(Debug)]
pub(super) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS_MAX)))
    }
}

impl Readers {
    fn enter(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.0.clone().try_acquire_owned().map_err(|_| {
            Status::unavailable(format!(
                "{READERS_MAX} clients follow jobs already; try again when one has left"
            ))
        })
    }
}

impl Desk {
    /// What there is, and what it does.
    pub(super) fn status(&self) -> DaemonStatus {
        DaemonStatus {
            version: fanout_program::VERSION.to_owned(),
            uptime: self.began.elapsed(),
            queue_max: u32::try_from(self.jobs.queue_max()).unwrap_or(u32::MAX),
            workers: self.roster.workers(),
            jobs: self.jobs.list(),
        }
    }

    fn job(&self, id: u64) -> Result<Arc<Job>, Status> {
        self.jobs.get(JobId(id)).ok_or_else(|| {
            Status::not_found(format!(
                "there is no job {id}; `coordinator status` shows those there are"
            ))
        })
    }
}

/// The service; clones share the desk.
#[derive(Debug, Clone)]
pub(super) struct Service(pub(super) Arc<Desk>);

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

fn invalid(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

#[tonic::async_trait]
impl ControlRpc for Service {
    type FollowStream = Events<wire::JobEvent>;
    type ReadStudyStream = Events<wire::StudyPart>;

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
        let place = self.0.readers.enter()?;
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
            drop(place);
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
        let place = self.0.readers.enter()?;
        let json = tokio::fs::read(path).await.map_err(|error| {
            Status::internal(format!("the coordinator cannot read the study: {error}"))
        })?;
        let json = bytes::Bytes::from(json);
        let parts = (0..json.len()).step_by(PART_MAX_BYTES).map(move |start| {
            let _held_to_the_end = &place;
            let end = (start + PART_MAX_BYTES).min(json.len());
            Ok(wire::StudyPart {
                json: json.slice(start..end),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }
}

async fn submit(
    desk: &Arc<Desk>,
    mut parts: Streaming<wire::SubmitPart>,
) -> Result<Submitted, Status> {
    let first = next(&mut parts).await?;
    let Some(Part::Submission(submission)) = first else {
        return Err(invalid(&WireError::Missing("submission")));
    };
    let submission = Submission::try_from(submission).map_err(|error| invalid(&error))?;
    let admission = desk
        .jobs
        .admit()
        .map_err(|full| Status::resource_exhausted(full.to_string()))?;
    let directory = admission.directory().map_err(Status::internal)?.to_owned();
    let mut received = Received {
        submission,
        id: admission.id,
        directory,
        list: None,
        done: None,
    };
    receive(&mut parts, &mut received).await?;
    let check = {
        let desk = desk.clone();
        // A long list takes a while to read, and workers wait for nobody.
        tokio::task::spawn_blocking(move || {
            let checked = Plan::of(&received, desk.jobs.data(), desk.origin.as_deref());
            (received, checked)
        })
    };
    let (received, checked) = check
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    let Checked { kind, plan, said } = match checked {
        Ok(checked) => checked,
        Err(refused) => {
            return Ok(Submitted::Refused {
                exit_code: refused.failure.exit.code(),
                message: refused.failure.to_string(),
                said: refused.said,
            });
        }
    };
    let id = admission.id;
    let description = JobDescription {
        id,
        kind,
        arguments: without_secrets(&received.submission.arguments),
        list: plan.list(),
    };
    admission
        .queue(description, plan, &said)
        .map_err(Status::unavailable)?;
    Ok(Submitted::Job(id))
}

async fn next(parts: &mut Streaming<wire::SubmitPart>) -> Result<Option<Part>, Status> {
    match tokio::time::timeout(PART_PATIENCE, parts.next()).await {
        Ok(Some(part)) => part?
            .part
            .map(Some)
            .ok_or_else(|| invalid(&WireError::Missing("part"))),
        Ok(None) => Ok(None),
        Err(_) => Err(Status::deadline_exceeded(
            "the client sent nothing for too long",
        )),
    }
}

fn is_too_slow(bytes: u64, elapsed: Duration) -> bool {
    let counted = elapsed.saturating_sub(PART_PATIENCE);
    bytes < counted.as_secs().saturating_mul(LIST_BYTES_PER_S_MIN)
}

/// Writes to disk what follows a submission, as it comes: what is done already
/// of a resumed fetch, then the list.
async fn receive(
    parts: &mut Streaming<wire::SubmitPart>,
    received: &mut Received,
) -> Result<(), Status> {
    let mut kept = None;
    if let Some(resumed) = &received.submission.resumed {
        let path = received.directory.join("done");
        let mut done = Kept::create(&path, resumed.urls.div_ceil(8))
            .await
            .map_err(full)?;
        kept = loop {
            match next(parts).await? {
                Some(Part::Done(bytes)) => done.write(&bytes).await?,
                other => break other,
            }
        };
        done.finish().await?;
        received.done = Some(path);
    }
    if received.submission.list_name.is_none() {
        return Ok(());
    }
    let path = received.directory.join("list");
    let mut list = Kept::create(&path, LIST_MAX_BYTES).await.map_err(full)?;
    if kept.is_none() && received.done.is_none() {
        kept = next(parts).await?;
    }
    while let Some(part) = kept {
        let Part::List(bytes) = part else {
            return Err(invalid(&WireError::Inconsistent(
                "a submission comes once, then what is done, then the list",
            )));
        };
        list.write(&bytes).await?;
        kept = next(parts).await?;
    }
    list.finish().await?;
    received.list = Some(path);
    Ok(())
}

/// A file that a client fills, up to a limit.
struct Kept {
    file: File,
    began: Instant,
    length: u64,
    limit: u64,
}

impl Kept {
    async fn create(path: &std::path::Path, limit: u64) -> std::io::Result<Self> {
        Ok(Self {
            file: File::create(path).await?,
            began: Instant::now(),
            length: 0,
            limit,
        })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            return Err(Status::resource_exhausted(format!(
                "what was sent is longer than the {} bytes that are taken",
                self.limit
            )));
        }
        if is_too_slow(self.length, self.began.elapsed()) {
            return Err(Status::deadline_exceeded(format!(
                "what was sent comes slower than {LIST_BYTES_PER_S_MIN} bytes a second"
            )));
        }
        self.file.write_all(bytes).await.map_err(full)
    }

    async fn finish(mut self) -> Result<(), Status> {
        self.file.flush().await.map_err(full)
    }
}

fn full(error: std::io::Error) -> Status {
    Status::resource_exhausted(format!(
        "the coordinator cannot keep the list: {error}; make room where its data is"
    ))
}

/// Tells one client everything. The state is looked at before the files are:
/// whoever is told the end was told all before it.
async fn follow(
    job: &Job,
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
        Some(Status::internal(format!(
            "the coordinator cannot read the job's output: {error}"
        )))
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
            JobState::Finished(finished) => {
                return send(JobEvent::Finished(finished)).await;
            }
        }
        if state.changed().await.is_err() {
            // The job was forgotten; it is over, so its state has said so.
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
