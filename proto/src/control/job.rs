//! What clients ask for, and what the coordinator says about it.

use std::time::Duration;

use bytes::Bytes;

use super::list::{ListIdentity, for_people};
use crate::{
    WireError,
    id::JobId,
    limits::{ARGUMENTS_MAX, SUBMISSION_MAX_BYTES},
    message::{Field, Part, message},
    time::micros,
    wire::{self, job_event, job_status, submitted},
};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "record", serde(rename_all = "lowercase"))]
pub enum JobKind {
    /// Compares arms.
    Study,
    /// Fetches a list once.
    Fetch,
}

impl JobKind {
    /// The command that asks for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Study => "study",
            Self::Fetch => "fetch",
        }
    }
}

impl Field<i32> for JobKind {
    fn to_wire(self) -> i32 {
        match self {
            Self::Study => wire::JobKind::Study,
            Self::Fetch => wire::JobKind::Fetch,
        }
        .into()
    }

    fn from_wire(wire: i32, field: &'static str) -> Result<Self, WireError> {
        match wire::JobKind::try_from(wire) {
            Ok(wire::JobKind::Study) => Ok(Self::Study),
            Ok(wire::JobKind::Fetch) => Ok(Self::Fetch),
            Ok(wire::JobKind::Unspecified) | Err(_) => Err(WireError::Unknown(field, wire.into())),
        }
    }
}

message! {
    /// A job as it was asked for.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
    pub struct JobDescription = JobDescription {
        /// Its number.
        #[cfg_attr(feature = "record", serde(skip))]
        pub id: JobId = job,
        /// What it does.
        pub kind: JobKind = kind,
        /// As typed, without the program's name.
        pub arguments: Vec<String> = arguments,
        /// Of a fetch: the list that its records are of.
        pub list: Option<ListIdentity> = list,
    }
}

message! {
    /// What a client asks for.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Submission = Submission, checked {
        /// As typed, without the program's name.
        pub arguments: Vec<String> = arguments,
        /// What the client calls its list; `None`: the built-in one.
        pub list_name: Option<String> = list_name,
        /// The content of the file that `--cacert` names.
        pub ca_certificates: Bytes = ca_certificates,
        /// A fetch that goes on: the list that it was begun with. Which of its URLs
        /// are done comes after the submission.
        pub resumed: Option<ListIdentity> = resumed,
    }
}

fn checked(submission: wire::Submission) -> Result<wire::Submission, WireError> {
    if submission.arguments.len() > ARGUMENTS_MAX {
        return Err(WireError::Invalid("arguments", "there are too many"));
    }
    let bytes = submission.ca_certificates.len()
        + submission.arguments.iter().map(String::len).sum::<usize>();
    if bytes > SUBMISSION_MAX_BYTES {
        return Err(WireError::Inconsistent(
            "arguments and certificates are longer than a submission may be",
        ));
    }
    let list_name = submission.list_name.as_deref().map(for_people);
    Ok(wire::Submission { list_name, ..submission })
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
                exit_code: Field::from_wire(refusal.exit_code, "exit_code")?,
                message: refusal.message,
                said: refusal.said,
            }),
        }
    }
}

/// An exit code.
impl Field<u32> for u8 {
    fn to_wire(self) -> u32 {
        self.into()
    }

    fn from_wire(wire: u32, field: &'static str) -> Result<Self, WireError> {
        let refused = WireError::OutOfRange { field, value: wire.into(), range: "0 to 255" };
        Self::try_from(wire).map_err(|_| refused)
    }
}

message! {
    /// Where a job stands.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct JobProgress = JobProgress {
        /// The arm and block, for people.
        pub what: String = what,
        /// URLs of the trial.
        pub total: u64 = total,
        /// URLs with outcome `ok`.
        pub completed: u64 = completed,
        /// URLs with another outcome.
        pub failed: u64 = failed,
        /// URLs given up.
        pub abandoned: u64 = abandoned,
        /// Bytes of bodies.
        pub bytes: u64 = bytes,
        /// Since Go; `None` before.
        pub elapsed: Option<Duration> = elapsed_us,
        ..
        /// Where slots are free, and the limits per host let them wait.
        pub waiting: Option<HostsWaited>,
    }
}

impl JobProgress {
    /// URLs that have come to an end, whichever.
    pub fn done(&self) -> u64 {
        self.completed + self.failed + self.abandoned
    }
}

/// Hosts that free slots wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostsWaited {
    /// How many.
    pub hosts: u32,
    /// Until one of them may be asked, if time alone leads there.
    pub next: Option<Duration>,
}

impl Part<wire::JobProgress> for Option<HostsWaited> {
    fn to_wire(self) -> wire::JobProgress {
        wire::JobProgress {
            hosts_waited_for: self.map(|waiting| waiting.hosts),
            next_host_us: self.and_then(|waiting| waiting.next).map(micros),
            ..wire::JobProgress::default()
        }
    }

    fn from_wire(wire: &wire::JobProgress) -> Self {
        let next = wire.next_host_us.map(Duration::from_micros);
        wire.hosts_waited_for.map(|hosts| HostsWaited { hosts, next })
    }
}

message! {
    /// How a job ended.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
    pub struct JobFinished = JobFinished {
        /// The exit code that a local run would have had.
        pub exit_code: u8 = exit_code,
        /// What went wrong; empty when nothing did.
        pub message: String = message,
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
                JobEvent::Job(job) => E::Job(job.into()),
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
            E::Progress(progress) => Self::Progress(progress.try_into()?),
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

impl Field<Option<job_status::State>> for JobState {
    fn to_wire(self) -> Option<job_status::State> {
        use job_status::State as S;
        Some(match self {
            Self::Waiting(ahead) => S::Waiting(ahead),
            Self::Running(progress) => S::Progress(progress.into()),
            Self::Finished(finished) => S::Finished(finished.into()),
        })
    }

    fn from_wire(wire: Option<job_status::State>, name: &'static str) -> Result<Self, WireError> {
        use job_status::State as S;
        Ok(match wire.ok_or(WireError::Missing(name))? {
            S::Waiting(ahead) => Self::Waiting(ahead),
            S::Progress(progress) => Self::Running(progress.try_into()?),
            S::Finished(finished) => Self::Finished(finished.try_into()?),
        })
    }
}
