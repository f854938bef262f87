//! What a trial is told, and what it says.

use std::time::Duration;

use fanout_proto::{
    completion::{Completion, CompletionBatch},
    id::{FetcherId, UrlId, WorkerId},
    report::FetcherExited,
};

use crate::{ledger::Split, politeness::HostName};

/// From Prepare to the last Ready.
pub(super) const PREPARE_DEADLINE: Duration = Duration::from_secs(60);

/// What a trial needs to know.
#[derive(Debug, Clone, Default)]
pub struct TrialPlan {
    /// URLs in the list.
    pub urls: u64,
    /// How they are handed out.
    pub split: Split,
    /// In flight in each fetcher.
    pub concurrency: u32,
    /// URLs that one fetcher may hold at most, however fast it is.
    pub credit_max: u32,
    /// One exchange takes no longer.
    pub timeout: Duration,
    /// The worker of every fetcher; ids are the positions.
    pub placement: Vec<WorkerId>,
}

/// What happens to a trial.
#[derive(Debug)]
pub enum Event {
    /// A fetcher's model is set up.
    Ready(FetcherId),
    /// A fetcher did some URLs.
    Completions(FetcherId, CompletionBatch),
    /// A fetcher was reaped.
    Exited(Box<FetcherExited>),
    /// A worker sent what the protocol does not allow for this fetcher.
    Misbehaved(FetcherId, String),
    /// A worker has told all it knows of this trial.
    WorkerDone(WorkerId),
    /// A worker is gone, and with it its fetchers.
    WorkerLost(WorkerId),
    /// The hosts of all the URLs that [`Command::LookUp`] named.
    Hosts(Vec<(UrlId, HostName)>),
    /// Lease no more; end when the URLs in hand are done, at the latest then.
    Drain {
        /// When the rest is given up.
        deadline: Duration,
    },
    /// End at once.
    Cancel,
    /// Time has passed.
    Tick,
    /// Time has passed, and nothing was taken from the workers: no fetcher counts as silent.
    Stalled,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Start a fetcher.
    Prepare(WorkerId, FetcherId),
    /// Find out the hosts of these URLs, in ascending order, and say so with [`Event::Hosts`].
    LookUp(Vec<UrlId>),
    /// Send these URLs, in ascending order.
    Lease(WorkerId, FetcherId, Vec<UrlId>),
    /// Open the barrier for the worker's fetchers that still wait at it.
    Go(WorkerId),
    /// Hold, measure, exit, reap.
    Finish(WorkerId),
    /// End one fetcher.
    Kill(WorkerId, FetcherId),
    /// End all fetchers of the trial there.
    Abort(WorkerId),
    /// These completions count.
    Record(FetcherId, Vec<Accepted>, Vec<(u32, String)>),
    /// These URLs are given up.
    Abandoned(Vec<UrlId>),
    /// A fetcher was lost; for the log and the report.
    Lost(FetcherId, String),
    /// Nothing more will come.
    Ended(TrialEnd),
}

/// A completion that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// What the fetcher said.
    pub completion: Completion,
    /// From 1; above 1 after lost leases, and where the URL was asked for again.
    pub attempt: u8,
    /// Its position in the fetcher's batch, which the details refer to.
    pub position: u32,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialEnd {
    /// Every URL is done.
    Done,
    /// Some are not.
    Aborted(AbortReason),
}

/// Why a trial ended before every URL was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AbortReason {
    /// It was asked for.
    #[error("interrupted")]
    Cancelled,
    /// A fetcher could not be set up.
    #[error("a fetcher could not start: {0}")]
    Setup(String),
    /// Not every fetcher was ready in time.
    #[error("{missing} of {all} fetchers were not ready within {} s", PREPARE_DEADLINE.as_secs())]
    NotReady {
        /// Fetchers that were not.
        missing: usize,
        /// Fetchers in all.
        all: usize,
    },
    /// No fetcher is left.
    #[error("all fetchers are lost; the last one: {0}")]
    AllLost(String),
}

/// What was lost on the way, and how long it took to be made good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Fetchers, those of lost workers included.
    pub fetchers: u32,
    /// From a fetcher's last sign of life, its Ready or a completion, to the
    /// moment at which its loss was noticed; the longest.
    pub notice: Option<Duration>,
    /// From that moment to the end of the last URL that went out again; the
    /// longest. Losses that overlap count as one.
    pub recovery: Option<Duration>,
}
