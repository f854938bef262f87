//! What clients and the coordinator say about jobs.

mod job;
mod list;
mod status;

pub use job::{
    HostsWaited, JobDescription, JobEvent, JobFinished, JobKind, JobProgress, JobState, Submission,
    Submitted,
};
pub use list::ListIdentity;
pub use status::{JobStatus, Status, WorkerStatus};

/// The metadata key under which a client says its protocol version.
pub const PROTOCOL_KEY: &str = "fanout-protocol";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        WireError,
        id::{JobId, WorkerId},
        limits::{ARGUMENTS_MAX, SUBMISSION_MAX_BYTES, URLS_MAX},
        wire,
        worker::WorkerFacts,
    };

    fn list() -> ListIdentity {
        ListIdentity { name: "urls.txt".to_owned(), sha256: "0f".repeat(32), urls: 6, repeat: 2 }
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
        assert_eq!(list().to_string(), "urls.txt (6 URLs with --repeat 2, SHA-256 0f0f0f0f0f0f…)");
        let renamed = ListIdentity { name: "other".to_owned(), ..list() };
        assert!(list().is_same(&renamed));
        assert_eq!(ListIdentity::try_from(wire::ListIdentity::from(list())), Ok(list()));
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
                    waiting: Some(HostsWaited { hosts: 3, next: Some(Duration::from_secs(4)) }),
                    ..JobProgress::default()
                }),
                study: String::new(),
            }],
        };
        assert_eq!(Status::try_from(wire::StatusReply::from(sent.clone())), Ok(sent));
    }

    #[test]
    fn events_survive_the_wire_and_nonsense_does_not() {
        for sent in [
            JobEvent::Job(job()),
            JobEvent::Waiting(2),
            JobEvent::Results(Bytes::from_static(b"x")),
            JobEvent::Finished(JobFinished { exit_code: 130, message: "why".to_owned() }),
        ] {
            assert_eq!(JobEvent::try_from(wire::JobEvent::from(sent.clone())), Ok(sent));
        }
        assert_eq!(JobEvent::try_from(wire::JobEvent::default()), Err(WireError::Missing("event")));
        let mut unknown = wire::JobDescription::from(job());
        unknown.kind = 9;
        assert!(JobDescription::try_from(unknown).is_err());
        let code = wire::JobFinished { exit_code: 256, message: String::new() };
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
