//! One worker's stream, from Hello to its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use fanout_proto::{
    PROTOCOL_VERSION,
    id::WorkerId,
    limits::NAME_MAX_BYTES,
    text,
    wire::{self, from_worker, to_worker},
    worker::Hello,
};
use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep, timeout},
};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info};

use super::{
    RawEvent, WorkerSender,
    message::WorkerMessage,
    roster::{Roster, RosterGuard},
};
use crate::accept::{PeerInfo, RefusalLog};

/// A worker says Hello within this time or is not let in.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// Workers send a heartbeat this often.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// After this many intervals of silence a worker is taken as gone.
const HEARTBEATS_MISSED: u32 = 4;
/// Heartbeats that a worker may be ahead of its intervals.
const HEARTBEATS_AHEAD: f64 = 16.0;
/// A refusal is on its way to the worker within this time; then its connection is closed.
const REFUSAL_GRACE: Duration = Duration::from_millis(250);

type WeakWorkerSender = mpsc::WeakSender<Result<wire::ToWorker, Status>>;

pub(super) struct FleetState {
    pub(super) events: mpsc::Sender<RawEvent>,
    pub(super) next_id: AtomicU32,
    pub(super) roster: Roster,
    pub(super) refusals: RefusalLog,
    pub(super) shutdown: CancellationToken,
}

impl FleetState {
    /// Why the stream ended; a worker that broke the protocol is told so.
    fn last_words(&self, end: &StreamEnd, peer: &PeerInfo, outbox: &WeakWorkerSender) -> String {
        match end {
            StreamEnd::Ends(reason) => reason.clone(),
            StreamEnd::Broke(reason) => {
                let text = format!("it broke the protocol: {reason}");
                self.refusals.note(peer.ip(), "a worker broke the protocol", reason);
                if let Some(outbox) = outbox.upgrade() {
                    // A worker that has left no room for it reads nothing.
                    let _ = outbox.try_send(refused(text.clone()));
                }
                text
            }
            // Also how a run on this machine ends: no fault.
            StreamEnd::CutOff => "it was cut off".to_owned(),
        }
    }
}

pub(super) async fn serve_worker(
    state: Arc<FleetState>,
    mut inbound: Streaming<wire::FromWorker>,
    outbox: WorkerSender,
    peer: PeerInfo,
    newcomer: OwnedSemaphorePermit,
) {
    let introduced = timeout(HELLO_DEADLINE, introduced(&mut inbound)).await;
    let hello = match introduced.unwrap_or_else(|_| Err("no Hello came".to_owned())) {
        Ok(hello) => hello,
        Err(reason) => return refuse(&state, outbox, &peer, reason).await,
    };
    drop(newcomer);
    peer.admit();
    let id = WorkerId(state.next_id.fetch_add(1, Ordering::Relaxed));
    let interval_ms = u32::try_from(HEARTBEAT_INTERVAL.as_millis()).unwrap_or(u32::MAX);
    let welcome = to_worker::Message::Welcome(wire::Welcome {
        worker_id: id.0,
        heartbeat_interval_ms: interval_ms,
    });
    if outbox.send(to_worker(welcome)).await.is_err() {
        return;
    }
    info!(worker = %id, name = hello.name, slots = hello.slots, "worker attached");
    // The fleet holds the only outbox: a worker that it drops is cut off, because
    // the stream to the worker then ends.
    let weak = outbox.downgrade();
    let cut_off = CancellationToken::new();
    let guard = state.roster.enter(id, hello.clone());
    let joined = RawEvent::Joined(id, hello, outbox, cut_off.clone().drop_guard());
    if state.events.send(joined).await.is_err() {
        return;
    }
    let end = tokio::select! {
        end = receive(&state, &guard, id, &mut inbound, &weak) => end,
        () = cut_off.cancelled() => StreamEnd::CutOff,
        () = state.shutdown.cancelled() => StreamEnd::Ends("the coordinator ends".to_owned()),
    };
    drop(guard);
    let reason = state.last_words(&end, &peer, &weak);
    info!(worker = %id, reason, "worker detached");
    // Fails only when the fleet is gone.
    let _ = state.events.send(RawEvent::Left(id, reason)).await;
    if !matches!(end, StreamEnd::Ends(_)) {
        drop(inbound);
        sleep(REFUSAL_GRACE).await;
        peer.hang_up();
    }
}

enum StreamEnd {
    Ends(String),
    /// The worker said what it must not say.
    Broke(String),
    /// The fleet is done with it.
    CutOff,
}

fn to_worker(message: to_worker::Message) -> Result<wire::ToWorker, Status> {
    Ok(wire::ToWorker { message: Some(message) })
}

fn refused(reason: String) -> Result<wire::ToWorker, Status> {
    to_worker(to_worker::Message::Refused(wire::Refused { reason }))
}

fn heartbeat(sequence: u64) -> Result<wire::ToWorker, Status> {
    to_worker(to_worker::Message::Heartbeat(wire::Heartbeat { sequence }))
}

/// Says why there is no Welcome, and closes the connection.
async fn refuse(state: &FleetState, outbox: WorkerSender, peer: &PeerInfo, reason: String) {
    state.refusals.note(peer.ip(), "a worker's introduction", &reason);
    // A worker that is gone already needs no reason.
    let _ = outbox.try_send(refused(reason));
    drop(outbox);
    sleep(REFUSAL_GRACE).await;
    peer.hang_up();
}

async fn introduced(inbound: &mut Streaming<wire::FromWorker>) -> Result<Hello, String> {
    let first = match inbound.next().await {
        Some(Ok(message)) => message.message,
        Some(Err(status)) => return Err(status.message().to_owned()),
        None => return Err("the stream ended before Hello".to_owned()),
    };
    let Some(from_worker::Message::Hello(hello)) = first else {
        return Err("the first message must be Hello".to_owned());
    };
    let theirs = hello.protocol_version;
    if theirs != PROTOCOL_VERSION {
        let version = hello.facts.map(|facts| facts.version).unwrap_or_default();
        let version = text::plain(&version, NAME_MAX_BYTES);
        let name = text::plain(&hello.name, NAME_MAX_BYTES);
        let older = if theirs < PROTOCOL_VERSION { "worker" } else { "coordinator" };
        return Err(format!(
            "worker '{name}' is fanout {version} with protocol {theirs}, this coordinator is fanout {} with \
             protocol {PROTOCOL_VERSION}: upgrade the {older}",
            fanout_program::VERSION,
        ));
    }
    Hello::try_from(hello).map_err(|error| format!("its Hello is not valid: {error}"))
}

/// Takes messages until the worker leaves; says why it did.
async fn receive(
    state: &FleetState,
    guard: &RosterGuard,
    id: WorkerId,
    inbound: &mut Streaming<wire::FromWorker>,
    outbox: &WeakWorkerSender,
) -> StreamEnd {
    let patience = HEARTBEAT_INTERVAL * HEARTBEATS_MISSED;
    let mut heartbeats = Allowance::new(Instant::now());
    loop {
        let message = match timeout(patience, inbound.next()).await {
            Ok(Some(Ok(message))) => message,
            // Too long, or no message at all.
            Ok(Some(Err(status))) if matches!(status.code(), Code::OutOfRange | Code::Internal) => {
                return StreamEnd::Broke(text::reason(status.message()));
            }
            Ok(Some(Err(status))) => {
                return StreamEnd::Ends(format!("its stream broke: {}", status.message()));
            }
            Ok(None) => return StreamEnd::Ends("its stream was cut".to_owned()),
            Err(_) => {
                return StreamEnd::Ends(format!("it was silent for {} s", patience.as_secs()));
            }
        };
        guard.heard();
        let bytes = message.encoded_len() as u64;
        match WorkerMessage::try_from(message) {
            Ok(WorkerMessage::Heartbeat(sequence)) => {
                if !heartbeats.take(Instant::now()) {
                    return StreamEnd::Broke("it sends heartbeats without end".to_owned());
                }
                let Some(outbox) = outbox.upgrade() else {
                    return StreamEnd::CutOff;
                };
                // A full outbox is the fleet's to judge.
                let _ = outbox.try_send(heartbeat(sequence));
            }
            Ok(WorkerMessage::Goodbye(reason)) => {
                debug!(worker = %id, reason, "goodbye");
                return StreamEnd::Ends(format!("it said goodbye: {reason}"));
            }
            Ok(WorkerMessage::Trial(trial, message)) => {
                let event = RawEvent::Message(id, trial, message, bytes);
                if !pass_on(state, event, outbox).await {
                    return StreamEnd::Ends("the fleet is gone".to_owned());
                }
            }
            Err(error) => return StreamEnd::Broke(error.to_string()),
        }
    }
}

/// Hands an event to the fleet; `false` where that is gone. While it is not taken, nothing is
/// read from the worker, its heartbeats included: it is told that the coordinator lives all the same.
async fn pass_on(state: &FleetState, event: RawEvent, outbox: &WeakWorkerSender) -> bool {
    let mut passed = std::pin::pin!(state.events.send(event));
    loop {
        if let Ok(passed) = timeout(HEARTBEAT_INTERVAL, &mut passed).await {
            return passed.is_ok();
        }
        if let Some(outbox) = outbox.upgrade() {
            // A full outbox is the fleet's to judge.
            let _ = outbox.try_send(heartbeat(0));
        }
    }
}

/// How many heartbeats a worker may send: its share, and a few on top for
/// those that were held up on their way.
#[derive(Debug)]
struct Allowance {
    left: f64,
    since: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: HEARTBEATS_AHEAD, since: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let intervals = now.saturating_duration_since(self.since).as_secs_f64()
            / HEARTBEAT_INTERVAL.as_secs_f64();
        self.since = now;
        // Twice the rate that was asked for: clocks and timers differ.
        self.left = (self.left + 2.0 * intervals).min(HEARTBEATS_AHEAD) - 1.0;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_may_be_late_together_but_not_without_end() {
        let began = Instant::now();
        let mut allowance = Allowance::new(began);
        let burst = (0..100).take_while(|_| allowance.take(began)).count();
        assert_eq!(burst, 16);
        let mut allowance = Allowance::new(began);
        for beat in 0..10_000 {
            assert!(allowance.take(began + HEARTBEAT_INTERVAL * beat));
        }
        // Twice as often as asked for is still borne.
        let mut allowance = Allowance::new(began);
        for beat in 0..10_000 {
            assert!(allowance.take(began + HEARTBEAT_INTERVAL / 2 * beat));
        }
    }
}
