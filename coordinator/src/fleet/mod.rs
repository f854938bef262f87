//! The fleet: the workers that are attached, as a trial sees them.
//!
//! The gRPC side (`server`) turns every worker's stream into [`FleetEvent`]s on one bounded queue;
//! when they are not taken, the streams fill and the workers wait. What is sent to a worker is
//! bounded by the credit of its fetchers; a worker whose queue is full all the same does not read
//! any more and is cut off.

pub mod assign;
mod message;
mod roster;
mod server;
mod stream;
mod token;

use std::{collections::BTreeMap, time::Duration};

use fanout_proto::{
    id::{TrialId, WorkerId},
    wire,
    worker::Hello,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;
use tonic::Status;
use tracing::debug;

pub use message::{TrialMessage, WorkerMessage};
pub use roster::Roster;
pub use server::{FleetServer, ServeError};
pub use token::Token;

/// Messages from all workers that wait to be taken.
const EVENTS_MAX: usize = 256;
/// Messages that wait to be sent to one worker.
const OUTBOX_MAX: usize = 16 * 1024;

/// What the fleet tells the run that drives it.
#[derive(Debug)]
pub enum FleetEvent {
    /// A worker has come and was welcomed.
    Joined(WorkerId),
    /// A worker is gone, for the reason given.
    Left(WorkerId, String),
    /// A worker speaks of a trial.
    Message(WorkerId, TrialId, TrialMessage),
}

enum RawEvent {
    Joined(WorkerId, Hello, WorkerSender, DropGuard),
    Left(WorkerId, String),
    /// With its bytes.
    Message(WorkerId, TrialId, TrialMessage, u64),
}

type WorkerSender = mpsc::Sender<Result<wire::ToWorker, Status>>;

/// An attached worker.
#[derive(Debug)]
pub struct Attached {
    /// Who it is.
    pub hello: Hello,
    outbox: WorkerSender,
    /// Ends its session when it goes.
    _session: DropGuard,
}

/// Bytes and messages over gRPC, header compression and framing not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of messages to workers.
    pub bytes_sent: u64,
    /// Bytes of messages from workers.
    pub bytes_received: u64,
    /// Messages to workers.
    pub messages_sent: u64,
    /// Messages from workers.
    pub messages_received: u64,
}

impl std::ops::Sub for Traffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            bytes_sent: self.bytes_sent - earlier.bytes_sent,
            bytes_received: self.bytes_received - earlier.bytes_received,
            messages_sent: self.messages_sent - earlier.messages_sent,
            messages_received: self.messages_received - earlier.messages_received,
        }
    }
}

/// There are too few workers, or they have too few slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TooFewWorkers(String);

/// The workers that are attached.
#[derive(Debug)]
pub struct Fleet {
    workers: BTreeMap<WorkerId, Attached>,
    events: mpsc::Receiver<RawEvent>,
    traffic: Traffic,
    trials: u64,
}

impl Fleet {
    /// A number for the next trial: one that no worker has heard of.
    pub fn next_trial(&mut self) -> TrialId {
        self.trials += 1;
        TrialId(self.trials)
    }

    /// The workers, in the order in which they came.
    pub fn workers(&self) -> &BTreeMap<WorkerId, Attached> {
        &self.workers
    }

    /// What went over gRPC so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The next event; cancel-safe. Never ends while the server runs.
    pub async fn next(&mut self) -> FleetEvent {
        loop {
            let Some(raw) = self.events.recv().await else {
                return std::future::pending().await;
            };
            if let Some(event) = self.apply(raw) {
                return event;
            }
        }
    }

    /// Takes what has happened already, between trials: messages of trials that
    /// are over are dropped.
    pub fn catch_up(&mut self) {
        while let Ok(raw) = self.events.try_recv() {
            self.apply(raw);
        }
    }

    fn apply(&mut self, raw: RawEvent) -> Option<FleetEvent> {
        match raw {
            RawEvent::Joined(id, hello, outbox, session) => {
                let attached = Attached { hello, outbox, _session: session };
                self.workers.insert(id, attached);
                Some(FleetEvent::Joined(id))
            }
            // A worker that was cut off has been told of already.
            RawEvent::Left(id, reason) => {
                self.workers.remove(&id)?;
                Some(FleetEvent::Left(id, reason))
            }
            RawEvent::Message(id, trial, message, bytes) => {
                self.traffic.bytes_received += bytes;
                self.traffic.messages_received += 1;
                if !self.workers.contains_key(&id) {
                    return None;
                }
                if trial.0 > self.trials {
                    let reason = "it speaks of a trial that there is not";
                    self.cut_off(id, reason);
                    return Some(FleetEvent::Left(id, reason.to_owned()));
                }
                Some(FleetEvent::Message(id, trial, message))
            }
        }
    }

    /// Waits until `wanted` workers are attached.
    pub async fn gather(&mut self, wanted: usize, patience: Duration) -> Result<(), TooFewWorkers> {
        let deadline = Instant::now() + patience;
        while self.workers.len() < wanted {
            tokio::select! {
                _ = self.next() => {}
                () = tokio::time::sleep_until(deadline) => {
                    return Err(TooFewWorkers(format!(
                        "{} of {wanted} workers were there after {} s; start more with `worker \
                         --coordinator URL`, or ask for fewer with --workers",
                        self.workers.len(),
                        patience.as_secs()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Sends a message; says whether the worker is still there. A worker that
    /// takes nothing any more is cut off.
    pub fn send(&mut self, worker: WorkerId, message: wire::to_worker::Message) -> bool {
        use prost::Message;
        let Some(attached) = self.workers.get(&worker) else {
            return false;
        };
        let message = wire::ToWorker { message: Some(message) };
        let bytes = message.encoded_len() as u64;
        if attached.outbox.try_send(Ok(message)).is_err() {
            self.workers.remove(&worker);
            return false;
        }
        self.traffic.bytes_sent += bytes;
        self.traffic.messages_sent += 1;
        true
    }

    /// Refuses a worker that has broken the protocol: its session and its connection end.
    pub fn cut_off(&mut self, worker: WorkerId, reason: &str) {
        debug!(%worker, reason, "worker cut off");
        let refused = wire::Refused { reason: format!("it broke the protocol: {reason}") };
        self.send(worker, wire::to_worker::Message::Refused(refused));
        self.workers.remove(&worker);
    }

    /// Says goodbye to every worker.
    pub fn dismiss(&mut self, reason: &str) {
        let ids: Vec<_> = self.workers.keys().copied().collect();
        for id in ids {
            let goodbye = wire::Goodbye { reason: reason.to_owned() };
            self.send(id, wire::to_worker::Message::Goodbye(goodbye));
        }
    }
}
