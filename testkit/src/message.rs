//! What workers and fetchers say, made and read.

use bytes::Bytes;
use fanout_proto::{
    completion::{Completion, CompletionBatch, CompletionBatchBuilder, Outcome, StartedBatch},
    id::UrlId,
    lease::{LeaseBatch, LeaseBatchBuilder},
    wire::{self, from_fetcher, from_worker, to_fetcher},
    worker::{Hello, WorkerFacts},
};
use prost::Message;

/// A worker's message.
#[must_use]
pub fn from_worker(message: from_worker::Message) -> wire::FromWorker {
    let message = Some(message);
    wire::FromWorker { message }
}

/// How a worker introduces itself.
#[must_use]
pub fn hello(name: &str, slots: u32) -> wire::Hello {
    let name = name.to_owned();
    let facts = WorkerFacts::default();
    Hello { name, slots, facts, fetchers: Vec::new() }.into()
}

/// A fetcher is ready.
#[must_use]
pub fn ready(trial: u64, fetcher: u32) -> from_worker::Message {
    from_worker::Message::Ready(wire::FetcherReady { trial, fetcher, spawn_us: 1 })
}

/// A fetcher has ended as it should.
#[must_use]
pub fn exited(trial: u64, fetcher: u32) -> from_worker::Message {
    from_worker::Message::Exited(wire::FetcherExited {
        trial,
        fetcher,
        exit: Some(wire::Exit { how: Some(wire::exit::How::Code(0)), out_of_memory: false }),
        report: Some(wire::FetcherReport::default()),
        ..wire::FetcherExited::default()
    })
}

/// A worker's last word about a trial.
#[must_use]
pub fn usage(trial: u64) -> from_worker::Message {
    from_worker::Message::Usage(wire::WorkerUsage { trial, ..wire::WorkerUsage::default() })
}

/// A fetcher's message in the frame that a worker forwards.
#[must_use]
pub fn frame(trial: u64, fetcher: u32, message: from_fetcher::Message) -> wire::FetcherFrame {
    let message = Some(message);
    wire::FetcherFrame {
        trial,
        fetcher,
        frame: wire::FromFetcher { message }.encode_to_vec().into(),
    }
}

/// What a forwarded frame says.
#[must_use]
pub fn said(frame: &wire::FetcherFrame) -> from_fetcher::Message {
    let message = wire::FromFetcher::decode(frame.frame.clone()).unwrap();
    message.message.unwrap()
}

/// A message for a fetcher, as bytes.
#[must_use]
pub fn to_fetcher(message: to_fetcher::Message) -> Bytes {
    let message = Some(message);
    wire::ToFetcher { message }.encode_to_vec().into()
}

/// A batch that leases these URLs.
#[must_use]
pub fn leases(ids: impl IntoIterator<Item = u64>, url: &str) -> to_fetcher::Message {
    let mut batch = LeaseBatchBuilder::default();
    for id in ids {
        batch.push(UrlId(id), url.as_bytes());
    }
    to_fetcher::Message::Leases(batch.finish())
}

/// The URLs that a batch leases.
#[must_use]
pub fn ids(leases: wire::LeaseBatch) -> Vec<UrlId> {
    let mut leases = LeaseBatch::try_from(leases).unwrap();
    let mut ids = Vec::new();
    while let Some((id, _)) = leases.advance() {
        ids.push(id);
    }
    ids
}

/// The URLs that a frame leases; none if it says something else.
#[must_use]
pub fn leased(frame: &wire::FetcherFrame) -> Vec<UrlId> {
    let message = wire::ToFetcher::decode(frame.frame.clone()).unwrap();
    match message.message {
        Some(to_fetcher::Message::Leases(leases)) => ids(leases),
        _ => Vec::new(),
    }
}

/// A batch, however long, that says these URLs went well, each taken up at `start_us`.
pub fn completions(ids: impl IntoIterator<Item = UrlId>, start_us: u64) -> wire::CompletionBatch {
    let mut batch = CompletionBatchBuilder::default();
    for id in ids {
        let completion = Completion {
            id,
            outcome: Outcome::Ok,
            status: Some(200),
            body_bytes: 1,
            start_us,
            connect_us: 0,
            first_byte_us: Some(1),
            duration_us: 1,
            slot: 0,
            wait_us: None,
        };
        batch.push(&completion, None);
    }
    batch.take()
}

/// The URLs that a frame completes; none if it says something else.
#[must_use]
pub fn completed(frame: &wire::FetcherFrame) -> Vec<UrlId> {
    match said(frame) {
        from_fetcher::Message::Completions(batch) => {
            let batch = CompletionBatch::try_from(batch).unwrap();
            batch.completions.iter().map(|one| one.id).collect()
        }
        _ => Vec::new(),
    }
}

/// A batch that says these URLs were taken up.
#[must_use]
pub fn starts(ids: &[UrlId]) -> wire::StartedBatch {
    let starts = ids.iter().map(|id| (*id, 1)).collect();
    (&StartedBatch { starts }).into()
}

/// The URLs that a frame says were taken up; none if it says something else.
#[must_use]
pub fn started(frame: &wire::FetcherFrame) -> Vec<UrlId> {
    match said(frame) {
        from_fetcher::Message::Started(batch) => {
            let batch = StartedBatch::try_from(batch).unwrap();
            batch.starts.iter().map(|(id, _)| *id).collect()
        }
        _ => Vec::new(),
    }
}
