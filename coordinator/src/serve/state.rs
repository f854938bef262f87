//! What the pages and the service for clients both look at.

use std::sync::Arc;

use fanout_proto::{control, id::JobId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::Status;

use super::jobs::{Jobs, ServerJob};
use crate::fleet::Roster;

/// Calls at a time that follow a job or read a study.
pub(super) const READERS_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct ServerState {
    pub(super) jobs: Jobs,
    pub(super) roster: Roster,
    /// The origin that built-in lists lead to.
    pub(super) origin: Option<String>,
    began: Instant,
    /// Permits for calls that are answered for as long as the client likes.
    readers: Arc<Semaphore>,
}

impl ServerState {
    pub(super) fn new(jobs: Jobs, roster: Roster, origin: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            jobs,
            roster,
            origin,
            began: Instant::now(),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
        })
    }

    pub(super) fn status(&self) -> control::Status {
        control::Status {
            version: fanout_program::VERSION.to_owned(),
            uptime: self.began.elapsed(),
            queue_max: u32::try_from(self.jobs.queue_max()).unwrap_or(u32::MAX),
            workers: self.roster.workers(),
            jobs: self.jobs.list(),
        }
    }

    pub(super) fn job(&self, id: u64) -> Result<Arc<ServerJob>, Status> {
        self.jobs.get(JobId(id)).ok_or_else(|| {
            Status::not_found(format!(
                "there is no job {id}; `coordinator status` shows those there are"
            ))
        })
    }

    pub(super) fn reader(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.readers.clone().try_acquire_owned().map_err(|_| {
            Status::unavailable(format!(
                "{READERS_MAX} clients follow jobs already; try again when one has left"
            ))
        })
    }
}
