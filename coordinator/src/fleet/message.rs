//! Worker messages, from the wire into the domain.

use std::time::Duration;

use fanout_proto::{
    WireError,
    completion::{CompletionBatch, StartedBatch},
    id::{FetcherId, TrialId},
    report::{FetcherExited, MemorySample, WorkerUsage},
    text,
    wire::{self, from_fetcher, from_worker},
};
use prost::Message;

/// What an attached worker says.
#[derive(Debug)]
pub enum WorkerMessage {
    /// A fetcher's model is set up.
    Ready {
        /// In this trial.
        trial: TrialId,
        /// Which fetcher.
        fetcher: FetcherId,
        /// From just before its spawn to its Ready.
        spawn: Duration,
    },
    /// A fetcher did some URLs.
    Completions(TrialId, FetcherId, CompletionBatch),
    /// A fetcher took some URLs up.
    Started(TrialId, FetcherId, StartedBatch),
    /// A fetcher sent what makes no sense.
    Misbehaved(TrialId, FetcherId, String),
    /// Memory of the worker's fetchers.
    Memory(TrialId, MemorySample),
    /// A fetcher was reaped.
    Exited(TrialId, Box<FetcherExited>),
    /// The worker has told all it knows of the trial.
    Usage(TrialId, WorkerUsage),
    /// The worker is alive.
    Heartbeat(u64),
    /// The worker leaves on purpose.
    Goodbye(String),
}

impl WorkerMessage {
    /// The trial that it is about, if it is about one.
    pub fn trial(&self) -> Option<TrialId> {
        match self {
            Self::Ready { trial, .. }
            | Self::Completions(trial, ..)
            | Self::Started(trial, ..)
            | Self::Misbehaved(trial, ..)
            | Self::Memory(trial, _)
            | Self::Exited(trial, _)
            | Self::Usage(trial, _) => Some(*trial),
            Self::Heartbeat(_) | Self::Goodbye(_) => None,
        }
    }

    /// The fetcher that it is about, if it is about one.
    pub fn fetcher(&self) -> Option<FetcherId> {
        match self {
            Self::Ready { fetcher, .. }
            | Self::Completions(_, fetcher, _)
            | Self::Started(_, fetcher, _)
            | Self::Misbehaved(_, fetcher, _) => Some(*fetcher),
            Self::Exited(_, exited) => Some(exited.fetcher),
            Self::Memory(..) | Self::Usage(..) | Self::Heartbeat(_) | Self::Goodbye(_) => None,
        }
    }
}

impl TryFrom<wire::FromWorker> for WorkerMessage {
    type Error = WireError;

    fn try_from(message: wire::FromWorker) -> Result<Self, WireError> {
        use from_worker::Message as M;
        Ok(match message.message.ok_or(WireError::Missing("message"))? {
            M::Hello(_) => return Err(WireError::Inconsistent("Hello is said once")),
            M::Ready(m) => Self::Ready {
                trial: TrialId(m.trial),
                fetcher: FetcherId(m.fetcher),
                spawn: Duration::from_micros(m.spawn_us),
            },
            M::Frame(m) => {
                let (trial, fetcher) = (TrialId(m.trial), FetcherId(m.fetcher));
                // A fetcher's fault is not its worker's.
                fetcher_frame(trial, fetcher, m.frame)
                    .unwrap_or_else(|error| Self::Misbehaved(trial, fetcher, error.to_string()))
            }
            M::Memory(m) => Self::Memory(TrialId(m.trial), m.try_into()?),
            M::Exited(m) => Self::Exited(TrialId(m.trial), Box::new(m.try_into()?)),
            M::Usage(m) => Self::Usage(TrialId(m.trial), m.try_into()?),
            M::Heartbeat(m) => Self::Heartbeat(m.sequence),
            M::Goodbye(m) => Self::Goodbye(text::reason(&m.reason)),
        })
    }
}

fn fetcher_frame(
    trial: TrialId,
    fetcher: FetcherId,
    frame: bytes::Bytes,
) -> Result<WorkerMessage, WireError> {
    use WorkerMessage::{Completions, Started};
    use from_fetcher::Message as M;
    match wire::FromFetcher::decode(frame)?.message {
        Some(M::Completions(batch)) => Ok(Completions(trial, fetcher, batch.try_into()?)),
        Some(M::Started(batch)) => Ok(Started(trial, fetcher, batch.try_into()?)),
        Some(M::Ready(_) | M::Report(_) | M::Failed(_)) => {
            Err(WireError::Inconsistent("the worker keeps this message to itself"))
        }
        None => Err(WireError::Missing("frame")),
    }
}
