//! Follows a job to its end. A connection that breaks is made again where it
//! was lost: the coordinator keeps what a job says on disk.

use std::time::Duration;

use fanout_engine::ledger::Counts;
use fanout_proto::{
    control::{JobDescription, JobEvent, JobFinished, JobProgress},
    id::JobId,
    wire,
};
use tokio::time::{Instant, sleep};
use tonic::{Code, Streaming};
use tracing::debug;

use super::{coordinator::Coordinator, output::ClientOutput};
use crate::{
    exit::Failure,
    run::{Progress, Stop},
    terminal::{
        Terminal,
        reporter::{Report, Reporter},
    },
};

/// A lost coordinator is looked for this long.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(15);
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// What Ctrl-C does to the job.
#[derive(Debug, Clone, Copy)]
pub(super) enum OnInterrupt<'a> {
    /// It is cancelled when these say so.
    Cancels(&'a Stop),
    /// It goes on without this client.
    Detaches,
}

/// Why the events ended before the job did.
enum Broken {
    /// Worth another try.
    Connection(Failure),
    Final(Failure),
}

pub(super) async fn describe(
    coordinator: &Coordinator,
    job: JobId,
) -> Result<JobDescription, Failure> {
    let mut events = open(coordinator, job, (0, 0)).await?;
    match next(coordinator, &mut events).await? {
        JobEvent::Job(description) => Ok(description),
        other => Err(Failure::no_fleet(format!("the coordinator begins with {other:?}"))),
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Connection(failure) | Broken::Final(failure) => failure,
        }
    }
}

async fn open(
    coordinator: &Coordinator,
    job: JobId,
    from: (u64, u64),
) -> Result<Streaming<wire::JobEvent>, Broken> {
    let mut control = coordinator.control().await.map_err(Broken::Connection)?;
    let request = wire::FollowRequest { job: job.0, journal_from: from.0, results_from: from.1 };
    let answer = control.follow(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| broken(coordinator, &status))
}

fn broken(coordinator: &Coordinator, status: &tonic::Status) -> Broken {
    let failure = coordinator.failure(status);
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => {
            Broken::Connection(failure)
        }
        _ => Broken::Final(failure),
    }
}

async fn next(
    coordinator: &Coordinator,
    events: &mut Streaming<wire::JobEvent>,
) -> Result<JobEvent, Broken> {
    match events.message().await {
        Ok(Some(event)) => {
            JobEvent::try_from(event).map_err(|error| Broken::Final(Failure::no_fleet(error)))
        }
        Ok(None) => {
            Err(Broken::Connection(Failure::no_fleet("the coordinator ended before the job did")))
        }
        Err(status) => Err(broken(coordinator, &status)),
    }
}

/// Follows a job to its end; `None`: this client left it.
pub(super) async fn follow(
    coordinator: &Coordinator,
    job: JobId,
    output: &mut ClientOutput,
    on_interrupt: OnInterrupt<'_>,
) -> Result<Option<JobFinished>, Failure> {
    let mut view = ProgressView::default();
    let mut deadline = None;
    loop {
        let followed =
            follow_once(coordinator, job, output, &mut view, on_interrupt, &mut deadline);
        let lost = match followed.await {
            Ok(Some(finished)) => {
                view.clear();
                return Ok(Some(finished));
            }
            Ok(None) => {
                view.clear();
                eprintln!(
                    "\ndetached; `coordinator attach {job}` follows it again, `coordinator cancel {job}` ends it"
                );
                return Ok(None);
            }
            Err(Broken::Final(failure)) => return Err(failure),
            Err(Broken::Connection(failure)) => failure,
        };
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + RECONNECT_PATIENCE);
        if Instant::now() > deadline {
            return Err(Failure::no_fleet(format!(
                "{lost}; if the job goes on, `coordinator attach {job}` follows it again"
            )));
        }
        debug!(%lost, "looking for the coordinator again");
        sleep(RECONNECT_PAUSE).await;
    }
}

/// One connection's worth; `None`: this client goes.
async fn follow_once(
    coordinator: &Coordinator,
    job: JobId,
    output: &mut ClientOutput,
    view: &mut ProgressView,
    on_interrupt: OnInterrupt<'_>,
    deadline: &mut Option<Instant>,
) -> Result<Option<JobFinished>, Broken> {
    let mut events = open(coordinator, job, output.received).await?;
    // It answers: the next loss has the whole time again.
    *deadline = None;
    let mut sent = SentCancels::default();
    loop {
        let event = tokio::select! {
            event = async {
                output.room().await;
                next(coordinator, &mut events).await
            } => event?,
            interrupt = sent.next(on_interrupt) => match interrupt {
                Interrupt::Detach => return Ok(None),
                Interrupt::Cancel { at_once } => {
                    cancel(coordinator, job, at_once).await?;
                    continue;
                }
            },
        };
        let wrote = match event {
            JobEvent::Job(job) => output.begin(&job),
            JobEvent::Waiting(ahead) => {
                view.waiting(ahead);
                Ok(())
            }
            JobEvent::Progress(progress) => {
                view.progress(progress);
                Ok(())
            }
            JobEvent::Journal(bytes) => {
                view.clear();
                output.journal(&bytes).map_err(Failure::incomplete)
            }
            JobEvent::Results(bytes) => {
                // They may go to the terminal that the bar is on.
                if output.shows_results() {
                    view.clear();
                }
                output.results(&bytes)
            }
            JobEvent::Finished(finished) => return Ok(Some(finished)),
        };
        if let Err(failure) = wrote {
            // What would come cannot be kept.
            cancel(coordinator, job, true).await?;
            return Err(Broken::Final(failure));
        }
    }
}

async fn cancel(coordinator: &Coordinator, job: JobId, at_once: bool) -> Result<(), Broken> {
    let mut control = coordinator.control().await.map_err(Broken::Connection)?;
    let request = wire::CancelRequest { job: job.0, at_once };
    let cancelled = control.cancel(request).await;
    cancelled.map(drop).map_err(|status| broken(coordinator, &status))
}

enum Interrupt {
    Cancel { at_once: bool },
    Detach,
}

/// What was passed on over this connection already.
#[derive(Debug, Default)]
struct SentCancels {
    drained: bool,
    cancelled: bool,
}

impl SentCancels {
    async fn next(&mut self, on_interrupt: OnInterrupt<'_>) -> Interrupt {
        let stop = match on_interrupt {
            OnInterrupt::Cancels(stop) => stop,
            OnInterrupt::Detaches => {
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending::<()>().await;
                }
                return Interrupt::Detach;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancel.cancelled(), if !self.cancelled => {
                self.cancelled = true;
                Interrupt::Cancel { at_once: true }
            }
            () = stop.drain.cancelled(), if !self.drained && !self.cancelled => {
                self.drained = true;
                Interrupt::Cancel { at_once: false }
            }
            else => std::future::pending().await,
        }
    }
}

#[derive(Default)]
struct ProgressView {
    terminal: Terminal,
    /// The trial that it shows.
    what: Option<String>,
    ahead: Option<u32>,
}

impl ProgressView {
    fn waiting(&mut self, ahead: u32) {
        if self.ahead != Some(ahead) {
            self.ahead = Some(ahead);
            match ahead {
                0 => eprintln!("next in the queue"),
                ahead => eprintln!("waiting, {ahead} before it"),
            }
        }
    }

    fn progress(&mut self, progress: JobProgress) {
        if progress.total == 0 {
            return;
        }
        if self.what.as_ref() != Some(&progress.what) {
            let trial = Report::Trial(&progress.what, progress.total);
            self.terminal.tell(trial);
            self.what = Some(progress.what);
        }
        self.terminal.tell(Report::Progress(&Progress {
            counts: Counts {
                completed: progress.completed,
                failed: progress.failed,
                abandoned: progress.abandoned,
                ..Counts::default()
            },
            total: progress.total,
            bytes: progress.bytes,
            elapsed: progress.elapsed,
            waiting: progress.waiting,
        }));
    }

    fn clear(&mut self) {
        self.what = None;
        self.terminal.tell(Report::Idle);
    }
}
