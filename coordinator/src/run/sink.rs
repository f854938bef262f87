//! Where a trial's results go, and how far it is.

use std::{io, sync::Arc, time::Duration};

use fanout_engine::{ledger::Counts, trial::Accepted};
use fanout_proto::{
    completion::StartedBatch,
    control::HostsWaited,
    id::{FetcherId, UrlId},
};
use tokio::sync::Notify;

/// Takes what a trial produces while it runs.
pub trait Sink {
    /// URLs were taken up; only where the setup asks for it.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the trial then ends.
    fn started(&mut self, who: &Who<'_>, batch: &StartedBatch) -> io::Result<()> {
        let _ = (who, batch);
        Ok(())
    }

    /// Completions that count.
    ///
    /// # Errors
    ///
    /// As [`Sink::started`].
    fn record(
        &mut self,
        who: &Who<'_>,
        accepted: &[Accepted],
        details: &[(u32, String)],
    ) -> io::Result<()> {
        let _ = (who, accepted, details);
        Ok(())
    }

    /// URLs that were given up.
    ///
    /// # Errors
    ///
    /// As [`Sink::started`].
    fn abandoned(&mut self, ids: &[UrlId]) -> io::Result<()> {
        let _ = ids;
        Ok(())
    }

    /// Called about ten times a second: what was gathered may be written.
    ///
    /// # Errors
    ///
    /// As [`Sink::started`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// When it can take no more for now: what tells that it may have room again. Until then nothing
    /// is taken from the workers, who wait in turn. A sink that never is says `None`; there is no
    /// default that a sink around another one could forget.
    fn full(&self) -> Option<Arc<Notify>>;
}

/// Takes nothing.
impl Sink for () {
    fn full(&self) -> Option<Arc<Notify>> {
        None
    }
}

/// Whose completions these are.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The worker's name.
    pub worker: &'a str,
    /// The fetcher's number.
    pub fetcher: FetcherId,
    /// When it went, since the first fetchers did; above 0 for replacements.
    pub went: Duration,
}

/// How far a trial has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The account.
    pub counts: Counts,
    /// URLs in all.
    pub total: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Since Go; `None` before.
    pub elapsed: Option<Duration>,
    /// Where slots are free, and the limits per host let them wait.
    pub waiting: Option<HostsWaited>,
}
