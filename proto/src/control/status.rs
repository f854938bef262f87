//! What the coordinator has and does.

use std::time::Duration;

use super::job::{JobDescription, JobState};
use crate::{id::WorkerId, message::message, worker::WorkerFacts};

message! {
    /// A job.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct JobStatus = JobStatus {
        /// What it is.
        pub job: JobDescription = job,
        /// What it is doing.
        pub state: JobState = state,
        /// The name under which its study is kept; empty if it is none.
        pub study: String = study,
    }
}

message! {
    /// An attached worker.
    #[derive(Debug, Clone, PartialEq)]
    pub struct WorkerStatus = WorkerStatus {
        /// Its session.
        pub id: WorkerId = id,
        /// Its name.
        pub name: String = name,
        /// Fetchers that it runs at a time.
        pub slots: u32 = slots,
        /// Its machine or container.
        pub facts: WorkerFacts = facts,
        /// Since it came.
        pub attached: Duration = attached_us,
        /// Since its last message.
        pub silent: Duration = silent_us,
    }
}

message! {
    /// What the coordinator has and does.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Status = StatusReply {
        /// fanout's version.
        pub version: String = version,
        /// Since it was started.
        pub uptime: Duration = uptime_us,
        /// Jobs that may wait.
        pub queue_max: u32 = queue_max,
        /// Attached workers.
        pub workers: Vec<WorkerStatus> = workers,
        /// Running, waiting, and the last ones that are over.
        pub jobs: Vec<JobStatus> = jobs,
    }
}
