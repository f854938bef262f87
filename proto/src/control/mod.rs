//! What clients and the coordinator say about jobs.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    WireError,
    id::{JobId, WorkerId},
    limits::{ARGUMENTS_MAX, SUBMISSION_MAX_BYTES, URLS_MAX},
    text::is_plain,
    time::micros,
    wire::{self, job_event, job_status, submitted},
    worker::WorkerFacts,
};

/// The metadata key under which a client says its protocol version.
pub const PROTOCOL_KEY: &str = "fanout-protocol";

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

/// What tells one URL list from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListIdentity {
    /// What people call it; two lists of one content may have two names.
    pub name: String,
    /// SHA-256 over its URLs, each followed by a newline, once; hexadecimal.
    pub sha256: String,
    /// URLs, repeats counted.
    pub urls: u64,
    /// How many times over.
    pub repeat: u64,
}

impl ListIdentity {
    /// Whether both have the same ids with the same URLs.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.sha256, self.urls, self.repeat) == (&other.sha256, other.urls, other.repeat)
    }
}

impl std::fmt::Display for ListIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.sha256.get(..12).unwrap_or(&self.sha256);
        write!(f, "{} ({} URLs", self.name, self.urls)?;
        if self.repeat > 1 {
            write!(f, " with --repeat {}", self.repeat)?;
        }
        write!(f, ", SHA-256 {digits}…)")
    }
}

impl From<ListIdentity> for wire::ListIdentity {
    fn from(list: ListIdentity) -> Self {
        Self {
            name: list.name,
            sha256: list.sha256,
            urls: list.urls,
            repeat: list.repeat,
        }
    }
}

impl TryFrom<wire::ListIdentity> for ListIdentity {
    type Error = WireError;

    fn try_from(list: wire::ListIdentity) -> Result<Self, WireError> {
        if list.urls > URLS_MAX {
            return Err(WireError::OutOfRange {
                field: "urls",
                value: list.urls,
                range: "0 to 8589934592 URLs",
            });
        }
        if list.sha256.len() != 64 || !list.sha256.bytes().all(|o| o.is_ascii_hexdigit()) {
            return Err(WireError::Invalid {
                field: "sha256",
                reason: "it is not 64 hexadecimal digits",
            });
        }
        Ok(Self {
            name: for_people(&list.name),
            sha256: list.sha256,
            urls: list.urls,
            repeat: list.repeat,
        })
    }
}

/// A name that stands in reports and on terminals.
fn for_people(name: &str) -> String {
    name.chars().filter(|c| is_plain(*c)).take(256).collect()
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
                return Err(WireError::Unknown {
                    field: "kind",
                    value: job.kind.into(),
                });
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
            return Err(WireError::Invalid {
                field: "arguments",
                reason: "there are too many",
            });
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
                Submitted::Refused {
                    exit_code,
                    message,
                    said,
                } => submitted::Answer::Refusal(wire::Refusal {
                    exit_code: exit_code.into(),
                    message,
                    said,
                }),
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
            next_host_us: progress
                .waiting
                .and_then(|waiting| waiting.next)
                .map(micros),
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
        Self {
            exit_code: finished.exit_code.into(),
            message: finished.message,
        }
    }
}

impl TryFrom<wire::JobFinished> for JobFinished {
    type Error = WireError;

    fn try_from(finished: wire::JobFinished) -> Result<Self, WireError> {
        Ok(Self {
            exit_code: exit_code(finished.exit_code)?,
            message: finished.message,
        })
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

/// A job, for whoever asks what there is.
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

/// An attached worker, for whoever asks what there is.
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
            facts: worker
                .facts
                .ok_or(WireError::Missing("facts"))?
                .try_into()?,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> ListIdentity {
        ListIdentity {
            name: "urls.txt".to_owned(),
            sha256: "0f".repeat(32),
            urls: 6,
            repeat: 2,
        }
    }

    fn job() -> JobDescription {
        JobDescription {
            id: JobId(7),
            kind: JobKind::Fetch,
            arguments: vec!["fetch".to_owned(), "-".to_owned()],
            list: Some(list()),
        }
    }

    #[test]
    fn a_list_is_told_by_its_content() {
        assert_eq!(
            list().to_string(),
            "urls.txt (6 URLs with --repeat 2, SHA-256 0f0f0f0f0f0f…)"
        );
        let renamed = ListIdentity {
            name: "other".to_owned(),
            ..list()
        };
        assert!(list().is_same(&renamed));
        assert_eq!(
            ListIdentity::try_from(wire::ListIdentity::from(list())),
            Ok(list())
        );
        let refused = |change: fn(&mut wire::ListIdentity)| {
            let mut list = wire::ListIdentity::from(list());
            change(&mut list);
            ListIdentity::try_from(list).is_err()
        };
        assert!(refused(|list| list.urls = URLS_MAX + 1));
        assert!(refused(|list| list.sha256 = "é".repeat(32)));
        assert!(refused(|list| list.sha256.truncate(63)));
    }

    #[test]
    fn a_status_survives_the_wire() {
        let sent = Status {
            version: "1".to_owned(),
            uptime: Duration::from_secs(3),
            queue_max: 4,
            workers: vec![WorkerStatus {
                id: WorkerId(1),
                name: "w".to_owned(),
                slots: 2,
                facts: WorkerFacts::default(),
                attached: Duration::from_secs(2),
                silent: Duration::from_millis(1),
            }],
            jobs: vec![JobStatus {
                job: job(),
                state: JobState::Running(JobProgress {
                    elapsed: Some(Duration::from_micros(5)),
                    waiting: Some(HostsWaited {
                        hosts: 3,
                        next: Some(Duration::from_secs(4)),
                    }),
                    ..JobProgress::default()
                }),
                study: String::new(),
            }],
        };
        assert_eq!(
            Status::try_from(wire::StatusReply::from(sent.clone())),
            Ok(sent)
        );
    }

    #[test]
    fn events_survive_the_wire_and_nonsense_does_not() {
        for sent in [
            JobEvent::Job(job()),
            JobEvent::Waiting(2),
            JobEvent::Results(Bytes::from_static(b"x")),
            JobEvent::Finished(JobFinished {
                exit_code: 130,
                message: "why".to_owned(),
            }),
        ] {
            assert_eq!(
                JobEvent::try_from(wire::JobEvent::from(sent.clone())),
                Ok(sent)
            );
        }
        assert_eq!(
            JobEvent::try_from(wire::JobEvent::default()),
            Err(WireError::Missing("event"))
        );
        let mut unknown = wire::JobDescription::from(&job());
        unknown.kind = 9;
        assert!(JobDescription::try_from(unknown).is_err());
        let code = wire::JobFinished {
            exit_code: 256,
            message: String::new(),
        };
        assert!(JobFinished::try_from(code).is_err());
    }

    #[test]
    fn a_submission_has_limits_and_a_printable_name() {
        let mut submission = wire::Submission {
            arguments: vec!["study".to_owned()],
            list_name: Some("a\u{1b}[2Jb".to_owned()),
            ca_certificates: Bytes::new(),
            resumed: None,
        };
        let taken = Submission::try_from(submission.clone()).unwrap();
        assert_eq!(taken.list_name.as_deref(), Some("a[2Jb"));
        submission.arguments = vec![String::new(); ARGUMENTS_MAX + 1];
        assert!(Submission::try_from(submission.clone()).is_err());
        submission.arguments = vec!["x".repeat(SUBMISSION_MAX_BYTES + 1)];
        assert!(Submission::try_from(submission).is_err());
    }
}
