//! What clients ask for, and what the coordinator says about it.

use std::time::Duration;

use bytes::Bytes;

use super::list::{ListIdentity, for_people};
use crate::{
    WireError,
    id::JobId,
    limits::{ARGUMENTS_MAX, SUBMISSION_MAX_BYTES},
    time::micros,
    wire::{self, job_event, submitted},
};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Compares arms.
    Study,
    /// Fetches a list once.
    Fetch,
}

impl JobKind {
    /// The command that asks for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Study => "study",
            Self::Fetch => "fetch",
        }
    }
}

impl From<JobKind> for wire::JobKind {
    fn from(kind: JobKind) -> Self {
        match kind {
            JobKind::Study => Self::Study,
            JobKind::Fetch => Self::Fetch,
        }
    }
}

/// A job as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDescription {
    /// Its number.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// As typed, without the program's name.
    pub arguments: Vec<String>,
    /// Of a fetch: the list that its records are of.
    pub list: Option<ListIdentity>,
}

impl From<&JobDescription> for wire::JobDescription {
    fn from(job: &JobDescription) -> Self {
        Self {
            job: job.id.0,
            kind: wire::JobKind::from(job.kind).into(),
            arguments: job.arguments.clone(),
            list: job.list.clone().map(Into::into),
        }
    }
}

impl TryFrom<wire::JobDescription> for JobDescription {
    type Error = WireError;

    fn try_from(job: wire::JobDescription) -> Result<Self, WireError> {
        let kind = match wire::JobKind::try_from(job.kind) {
            Ok(wire::JobKind::Study) => JobKind::Study,
            Ok(wire::JobKind::Fetch) => JobKind::Fetch,
            Ok(wire::JobKind::Unspecified) | Err(_) => {
                return Err(WireError::Unknown { field: "kind", value: job.kind.into() });
            }
        };
        Ok(Self {
            id: JobId(job.job),
            kind,
            arguments: job.arguments,
            list: job.list.map(TryInto::try_into).transpose()?,
        })
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// As typed, without the program's name.
    pub arguments: Vec<String>,
    /// What the client calls its list; `None`: the built-in one.
    pub list_name: Option<String>,
    /// The content of the file that `--cacert` names.
    pub ca_certificates: Bytes,
    /// A fetch that goes on: the list that it was begun with. Which of its URLs
    /// are done comes after the submission.
    pub resumed: Option<ListIdentity>,
}

impl From<Submission> for wire::Submission {
    fn from(submission: Submission) -> Self {
        Self {
            arguments: submission.arguments,
            list_name: submission.list_name,
            ca_certificates: submission.ca_certificates,
            resumed: submission.resumed.map(Into::into),
        }
    }
}

impl TryFrom<wire::Submission> for Submission {
    type Error = WireError;

    fn try_from(submission: wire::Submission) -> Result<Self, WireError> {
        if submission.arguments.len() > ARGUMENTS_MAX {
            return Err(WireError::Invalid { field: "arguments", reason: "there are too many" });
        }
        let bytes = submission.ca_certificates.len()
            + submission.arguments.iter().map(String::len).sum::<usize>();
        if bytes > SUBMISSION_MAX_BYTES {
            return Err(WireError::Inconsistent(
                "arguments and certificates are longer than a submission may be",
            ));
        }
        Ok(Self {
            arguments: submission.arguments,
            list_name: submission.list_name.as_deref().map(for_people),
            ca_certificates: submission.ca_certificates,
            resumed: submission.resumed.map(TryInto::try_into).transpose()?,
        })
    }
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It has a place in the queue.
    Job(JobId),
    /// It cannot be run.
    Refused {
        /// The client's exit code.
        exit_code: u8,
        /// What a local run would have said.
        message: String,
        /// Lines before that: where the requests would have gone.
        said: String,
    },
}

impl From<Submitted> for wire::Submitted {
    fn from(answer: Submitted) -> Self {
        Self {
            answer: Some(match answer {
                Submitted::Job(id) => submitted::Answer::Job(id.0),
                Submitted::Refused { exit_code, message, said } => {
                    submitted::Answer::Refusal(wire::Refusal {
                        exit_code: exit_code.into(),
                        message,
                        said,
                    })
                }
            }),
        }
    }
}

impl TryFrom<wire::Submitted> for Submitted {
    type Error = WireError;

    fn try_from(answer: wire::Submitted) -> Result<Self, WireError> {
        match answer.answer.ok_or(WireError::Missing("answer"))? {
            submitted::Answer::Job(id) => Ok(Self::Job(JobId(id))),
            submitted::Answer::Refusal(refusal) => Ok(Self::Refused {
                exit_code: exit_code(refusal.exit_code)?,
                message: refusal.message,
                said: refusal.said,
            }),
        }
    }
}

fn exit_code(code: u32) -> Result<u8, WireError> {
    u8::try_from(code).map_err(|_| WireError::OutOfRange {
        field: "exit_code",
        value: code.into(),
        range: "0 to 255",
    })
}

/// Where a job stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// The arm and block, for people.
    pub what: String,
    /// URLs of the trial.
    pub total: u64,
    /// URLs with outcome `ok`.
    pub completed: u64,
    /// URLs with another outcome.
    pub failed: u64,
    /// URLs given up.
    pub abandoned: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Since Go; `None` before.
    pub elapsed: Option<Duration>,
    /// Where slots are free, and the limits per host let them wait.
    pub waiting: Option<HostsWaited>,
}

/// Hosts that free slots wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostsWaited {
    /// How many.
    pub hosts: u32,
    /// Until one of them may be asked, if time alone leads there.
    pub next: Option<Duration>,
}

impl From<JobProgress> for wire::JobProgress {
    fn from(progress: JobProgress) -> Self {
        Self {
            what: progress.what,
            total: progress.total,
            completed: progress.completed,
            failed: progress.failed,
            abandoned: progress.abandoned,
            bytes: progress.bytes,
            elapsed_us: progress.elapsed.map(micros),
            hosts_waited_for: progress.waiting.map(|waiting| waiting.hosts),
            next_host_us: progress.waiting.and_then(|waiting| waiting.next).map(micros),
        }
    }
}

impl From<wire::JobProgress> for JobProgress {
    fn from(progress: wire::JobProgress) -> Self {
        Self {
            what: progress.what,
            total: progress.total,
            completed: progress.completed,
            failed: progress.failed,
            abandoned: progress.abandoned,
            bytes: progress.bytes,
            elapsed: progress.elapsed_us.map(Duration::from_micros),
            waiting: progress.hosts_waited_for.map(|hosts| HostsWaited {
                hosts,
                next: progress.next_host_us.map(Duration::from_micros),
            }),
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFinished {
    /// The exit code that a local run would have had.
    pub exit_code: u8,
    /// What went wrong; empty when nothing did.
    pub message: String,
}

impl From<JobFinished> for wire::JobFinished {
    fn from(finished: JobFinished) -> Self {
        Self { exit_code: finished.exit_code.into(), message: finished.message }
    }
}

impl TryFrom<wire::JobFinished> for JobFinished {
    type Error = WireError;

    fn try_from(finished: wire::JobFinished) -> Result<Self, WireError> {
        Ok(Self { exit_code: exit_code(finished.exit_code)?, message: finished.message })
    }
}

/// What a followed job says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// What it is; the first event.
    Job(JobDescription),
    /// So many jobs come before it.
    Waiting(u32),
    /// How far it is.
    Progress(JobProgress),
    /// More of its journal: lines whose first byte is 1 or 2.
    Journal(Bytes),
    /// More of its results.
    Results(Bytes),
    /// It is over; the last event.
    Finished(JobFinished),
}

impl From<JobEvent> for wire::JobEvent {
    fn from(event: JobEvent) -> Self {
        use job_event::Event as E;
        Self {
            event: Some(match event {
                JobEvent::Job(job) => E::Job((&job).into()),
                JobEvent::Waiting(ahead) => E::Waiting(ahead),
                JobEvent::Progress(progress) => E::Progress(progress.into()),
                JobEvent::Journal(bytes) => E::Journal(bytes),
                JobEvent::Results(bytes) => E::Results(bytes),
                JobEvent::Finished(finished) => E::Finished(finished.into()),
            }),
        }
    }
}

impl TryFrom<wire::JobEvent> for JobEvent {
    type Error = WireError;

    fn try_from(event: wire::JobEvent) -> Result<Self, WireError> {
        use job_event::Event as E;
        Ok(match event.event.ok_or(WireError::Missing("event"))? {
            E::Job(job) => Self::Job(job.try_into()?),
            E::Waiting(ahead) => Self::Waiting(ahead),
            E::Progress(progress) => Self::Progress(progress.into()),
            E::Journal(bytes) => Self::Journal(bytes),
            E::Results(bytes) => Self::Results(bytes),
            E::Finished(finished) => Self::Finished(finished.try_into()?),
        })
    }
}

/// What a job is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// So many jobs come before it.
    Waiting(u32),
    /// It runs.
    Running(JobProgress),
    /// It is over.
    Finished(JobFinished),
}
