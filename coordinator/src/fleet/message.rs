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
    /// Something of a trial.
    Trial(TrialId, TrialMessage),
    /// The worker is alive.
    Heartbeat(u64),
    /// The worker leaves on purpose.
    Goodbye(String),
}

/// What a worker says of a trial.
#[derive(Debug)]
pub enum TrialMessage {
    /// A fetcher's model is set up, so long after just before its spawn.
    Ready(FetcherId, Duration),
    /// A fetcher did some URLs.
    Completions(FetcherId, CompletionBatch),
    /// A fetcher took some URLs up.
    Started(FetcherId, StartedBatch),
    /// A fetcher sent what makes no sense.
    Misbehaved(FetcherId, String),
    /// Memory of the worker's fetchers.
    Memory(MemorySample),
    /// A fetcher was reaped.
    Exited(Box<FetcherExited>),
    /// The worker has told all it knows of the trial.
    Usage(WorkerUsage),
}

impl TrialMessage {
    /// The fetcher that it is about, if it is about one.
    pub fn fetcher(&self) -> Option<FetcherId> {
        match self {
            Self::Ready(fetcher, _)
            | Self::Completions(fetcher, _)
            | Self::Started(fetcher, _)
            | Self::Misbehaved(fetcher, _) => Some(*fetcher),
            Self::Exited(exited) => Some(exited.fetcher),
            Self::Memory(_) | Self::Usage(_) => None,
        }
    }
}

impl TryFrom<wire::FromWorker> for WorkerMessage {
    type Error = WireError;

    fn try_from(message: wire::FromWorker) -> Result<Self, WireError> {
        use TrialMessage as T;
        use from_worker::Message as M;
        let (trial, message) = match message.message.ok_or(WireError::Missing("message"))? {
            M::Hello(_) => return Err(WireError::Inconsistent("Hello is said once")),
            M::Heartbeat(m) => return Ok(Self::Heartbeat(m.sequence)),
            M::Goodbye(m) => return Ok(Self::Goodbye(text::reason(&m.reason))),
            M::Ready(m) => {
                (m.trial, T::Ready(FetcherId(m.fetcher), Duration::from_micros(m.spawn_us)))
            }
            M::Frame(m) => {
                let fetcher = FetcherId(m.fetcher);
                // A fetcher's fault is not its worker's.
                let message = fetcher_frame(fetcher, m.frame)
                    .unwrap_or_else(|error| T::Misbehaved(fetcher, error.to_string()));
                (m.trial, message)
            }
            M::Memory(m) => (m.trial, T::Memory(m.try_into()?)),
            M::Exited(m) => (m.trial, T::Exited(Box::new(m.try_into()?))),
            M::Usage(m) => (m.trial, T::Usage(m.try_into()?)),
        };
        Ok(Self::Trial(TrialId(trial), message))
    }
}

fn fetcher_frame(fetcher: FetcherId, frame: bytes::Bytes) -> Result<TrialMessage, WireError> {
    use TrialMessage::{Completions, Started};
    use from_fetcher::Message as M;
    match wire::FromFetcher::decode(frame)?.message {
        Some(M::Completions(batch)) => Ok(Completions(fetcher, batch.try_into()?)),
        Some(M::Started(batch)) => Ok(Started(fetcher, batch.try_into()?)),
        Some(M::Ready(_) | M::Report(_) | M::Failed(_)) => {
            Err(WireError::Inconsistent("the worker keeps this message to itself"))
        }
        None => Err(WireError::Missing("frame")),
    }
}
