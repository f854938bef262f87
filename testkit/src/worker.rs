//! A worker's stream in a test's hands.

use std::time::{Duration, Instant};

use fanout_proto::{
    limits::BATCH_MAX_URLS,
    wire::{
        self, fleet_client::FleetClient, from_fetcher, from_worker::Message as Say,
        to_worker::Message as Order,
    },
};
use tokio::{sync::mpsc, time::interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::message;

/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A worker that says whatever it is told to.
pub struct ScriptedWorker {
    /// What the coordinator says.
    pub heard: Streaming<wire::ToWorker>,
    say: mpsc::Sender<wire::FromWorker>,
}

impl ScriptedWorker {
    /// Opens a stream and says this first.
    ///
    /// # Errors
    ///
    /// The coordinator's, when it takes no stream.
    pub async fn attach(channel: Channel, first: wire::FromWorker) -> Result<Self, Status> {
        let (say, stream) = mpsc::channel(64);
        say.send(first).await.unwrap();
        let mut client = FleetClient::new(channel);
        let attached = client.attach(ReceiverStream::new(stream)).await?;
        let heard = attached.into_inner();
        Ok(Self { heard, say })
    }

    /// Says something. The coordinator may be gone; then it is lost.
    pub async fn say(&self, message: Say) {
        self.say_raw(message::from_worker(message)).await;
    }

    /// As [`ScriptedWorker::say`], for what may be no message at all.
    pub async fn say_raw(&self, message: wire::FromWorker) {
        let _ = self.say.send(message).await;
    }

    /// The next order; `None` where the stream ends or breaks.
    pub async fn next(&mut self) -> Option<Order> {
        self.heard.message().await.ok()??.message
    }

    /// Does at once what it is told, with any number of fetchers, until the
    /// coordinator says goodbye or is gone.
    pub async fn oblige(mut self) {
        let mut fetchers = Vec::new();
        let mut went = None;
        let mut waiting = Vec::new();
        let mut heartbeats = interval(HEARTBEAT);
        loop {
            let order = tokio::select! {
                order = self.next() => order,
                _ = heartbeats.tick() => {
                    self.say(Say::Heartbeat(wire::Heartbeat { sequence: 0 })).await;
                    continue;
                }
            };
            match order {
                Some(Order::Prepare(prepare)) => {
                    for spec in prepare.fetchers {
                        fetchers.push(spec.fetcher);
                        self.say(message::ready(prepare.trial, spec.fetcher)).await;
                    }
                }
                Some(Order::Go(_)) => went = Some(Instant::now()),
                Some(Order::Frame(frame)) => waiting.push(frame),
                Some(Order::Finish(finish)) => {
                    for fetcher in fetchers.drain(..) {
                        self.say(message::exited(finish.trial, fetcher)).await;
                    }
                    self.say(message::usage(finish.trial)).await;
                    went = None;
                }
                Some(Order::Refused(refused)) => panic!("refused: {}", refused.reason),
                Some(Order::Goodbye(_)) | None => return,
                Some(_) => {}
            }
            let Some(went) = went else { continue };
            for frame in waiting.drain(..) {
                self.complete(&frame, went).await;
            }
        }
    }

    /// Completes every URL that a frame leases.
    async fn complete(&self, frame: &wire::FetcherFrame, went: Instant) {
        let start_us = went.elapsed().as_micros().try_into().unwrap();
        for ids in message::leased(frame).chunks(BATCH_MAX_URLS) {
            let batch = message::completions(ids.iter().copied(), start_us);
            let done = from_fetcher::Message::Completions(batch);
            let frame = message::frame(frame.trial, frame.fetcher, done);
            self.say(Say::Frame(frame)).await;
        }
    }
}
