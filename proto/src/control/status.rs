//! What the coordinator has and does.

use std::time::Duration;

use super::job::{JobDescription, JobState};
use crate::{
    WireError,
    id::WorkerId,
    time::micros,
    wire::{self, job_status},
    worker::WorkerFacts,
};

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// What it is.
    pub job: JobDescription,
    /// What it is doing.
    pub state: JobState,
    /// The name under which its study is kept; empty if it is none.
    pub study: String,
}

impl From<JobStatus> for wire::JobStatus {
    fn from(status: JobStatus) -> Self {
        use job_status::State as S;
        Self {
            job: Some((&status.job).into()),
            state: Some(match status.state {
                JobState::Waiting(ahead) => S::Waiting(ahead),
                JobState::Running(progress) => S::Progress(progress.into()),
                JobState::Finished(finished) => S::Finished(finished.into()),
            }),
            study: status.study,
        }
    }
}

impl TryFrom<wire::JobStatus> for JobStatus {
    type Error = WireError;

    fn try_from(status: wire::JobStatus) -> Result<Self, WireError> {
        use job_status::State as S;
        Ok(Self {
            job: status.job.ok_or(WireError::Missing("job"))?.try_into()?,
            state: match status.state.ok_or(WireError::Missing("state"))? {
                S::Waiting(ahead) => JobState::Waiting(ahead),
                S::Progress(progress) => JobState::Running(progress.into()),
                S::Finished(finished) => JobState::Finished(finished.try_into()?),
            },
            study: status.study,
        })
    }
}

/// An attached worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerStatus {
    /// Its session.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Fetchers that it runs at a time.
    pub slots: u32,
    /// Its machine or container.
    pub facts: WorkerFacts,
    /// Since it came.
    pub attached: Duration,
    /// Since its last message.
    pub silent: Duration,
}

impl From<WorkerStatus> for wire::WorkerStatus {
    fn from(worker: WorkerStatus) -> Self {
        Self {
            id: worker.id.0,
            name: worker.name,
            slots: worker.slots,
            facts: Some((&worker.facts).into()),
            attached_us: micros(worker.attached),
            silent_us: micros(worker.silent),
        }
    }
}

impl TryFrom<wire::WorkerStatus> for WorkerStatus {
    type Error = WireError;

    fn try_from(worker: wire::WorkerStatus) -> Result<Self, WireError> {
        Ok(Self {
            id: WorkerId(worker.id),
            name: worker.name,
            slots: worker.slots,
            facts: worker.facts.ok_or(WireError::Missing("facts"))?.try_into()?,
            attached: Duration::from_micros(worker.attached_us),
            silent: Duration::from_micros(worker.silent_us),
        })
    }
}

/// What the coordinator has and does.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// fanout's version.
    pub version: String,
    /// Since it was started.
    pub uptime: Duration,
    /// Jobs that may wait.
    pub queue_max: u32,
    /// Attached workers.
    pub workers: Vec<WorkerStatus>,
    /// Running, waiting, and the last ones that are over.
    pub jobs: Vec<JobStatus>,
}

impl From<Status> for wire::StatusReply {
    fn from(status: Status) -> Self {
        Self {
            version: status.version,
            uptime_us: micros(status.uptime),
            queue_max: status.queue_max,
            workers: status.workers.into_iter().map(Into::into).collect(),
            jobs: status.jobs.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::StatusReply> for Status {
    type Error = WireError;

    fn try_from(status: wire::StatusReply) -> Result<Self, WireError> {
        let workers = status.workers.into_iter().map(TryInto::try_into);
        let jobs = status.jobs.into_iter().map(TryInto::try_into);
        Ok(Self {
            version: status.version,
            uptime: Duration::from_micros(status.uptime_us),
            queue_max: status.queue_max,
            workers: workers.collect::<Result<_, WireError>>()?,
            jobs: jobs.collect::<Result<_, WireError>>()?,
        })
    }
}
