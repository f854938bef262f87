//! What a fetcher did, and where that and its frames go.

use std::io;

use bytes::Bytes;
use fanout_proto::{
    id::{FetcherId, TrialId},
    wire::{self, from_worker},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{measure::usage::Reaped, message::from_worker, trial::TrialInput};

#[derive(Debug)]
pub(crate) struct FetcherEvent {
    pub(crate) trial: TrialId,
    pub(crate) fetcher: FetcherId,
    pub(crate) what: FetcherEventKind,
}

#[derive(Debug)]
pub(crate) enum FetcherEventKind {
    /// What its trial is to be told.
    Did(TrialInput),
    /// It has been reaped; always the last.
    Ended(FetcherEnd),
}

#[derive(Debug)]
pub(crate) struct FetcherEnd {
    pub(crate) reaped: io::Result<Reaped>,
    pub(crate) last_words: String,
    pub(crate) bytes_to_fetcher: u64,
    pub(crate) bytes_from_fetcher: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct FetcherOutput {
    pub(crate) trial: TrialId,
    pub(crate) fetcher: FetcherId,
    /// To the coordinator; full, it stops the reading from the fetcher.
    pub(crate) frames: mpsc::Sender<wire::FromWorker>,
    pub(crate) events: mpsc::Sender<FetcherEvent>,
    /// Cancelled when this trial's frames are not wanted any more.
    pub(crate) unwanted: CancellationToken,
}

impl FetcherOutput {
    pub(super) async fn did(&self, input: TrialInput) {
        self.tell(FetcherEventKind::Did(input)).await;
    }

    pub(super) async fn tell(&self, what: FetcherEventKind) {
        let (trial, fetcher) = (self.trial, self.fetcher);
        // A session that is over listens no more.
        let _ = self.events.send(FetcherEvent { trial, fetcher, what }).await;
    }

    /// Passes a frame on; `false` when it is not wanted.
    pub(super) async fn forward(&self, frame: Bytes) -> bool {
        let (trial, fetcher) = (self.trial.0, self.fetcher.0);
        let frame = wire::FetcherFrame { trial, fetcher, frame };
        let message = from_worker(from_worker::Message::Frame(frame));
        tokio::select! {
            biased;
            () = self.unwanted.cancelled() => false,
            sent = self.frames.send(message) => sent.is_ok(),
        }
    }
}
