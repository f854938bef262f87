//! The gRPC side of the fleet.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use fanout_proto::{
    PROTOCOL_VERSION,
    id::WorkerId,
    limits::{FRAME_MAX_BYTES, NAME_MAX_BYTES},
    text,
    wire::{
        self,
        fleet_server::{Fleet as FleetRpc, FleetServer as GrpcServer},
        from_worker, to_worker,
    },
    worker::Hello,
};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Code, Request, Response, Status, Streaming,
    service::Routes,
    transport::{Server, ServerTlsConfig, server::Connected},
};
use tracing::{debug, info};

use super::{
    EVENTS_MAX, Fleet, OUTBOX_MAX, RawEvent, Roster, Traffic, WorkerMessage, WorkerSender,
    roster::RosterGuard,
};
use crate::accept::{self, PeerInfo, RefusalLog, Rules, Speaks};

/// A worker says Hello within this time or is not let in.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// Workers send a heartbeat this often.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// After this many intervals of silence a worker is taken as gone.
const HEARTBEATS_MISSED: u32 = 4;
/// Connections that wait to be served.
const GREETED_MAX: usize = 64;
/// Heartbeats that a worker may be ahead of its intervals.
const HEARTBEATS_AHEAD: f64 = 16.0;
/// Workers attached at a time.
const WORKERS_MAX: usize = 4096;
/// Streams that have not said Hello yet.
const NEWCOMERS_MAX: usize = 1024;
/// Connections at a time: workers, clients and probes.
const CONNECTIONS_MAX: usize = 8192;
/// Calls at a time on one connection.
const CALLS_MAX: u32 = 64;
/// A connection on which no call was admitted by then is closed.
const ADMIT_WITHIN: Duration = Duration::from_secs(15);
/// A refusal is on its way to the worker within this time; then its connection
/// is closed.
const REFUSAL_GRACE: Duration = Duration::from_millis(250);
/// Header fields of one call.
const HEADERS_MAX_BYTES: u32 = 16 * 1024;
/// Room for what a message wraps around a frame.
const MESSAGE_MAX_BYTES: usize = FRAME_MAX_BYTES + 64 * 1024;

/// The server could not start or failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {error}; choose another with --listen")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The transport failed.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A secret that workers and clients must show.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Keeps a hash of the secret; comparing hashes tells nothing by its timing.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Whether the value of an `authorization` header shows the secret.
    #[must_use]
    pub fn fits(&self, header: Option<&str>) -> bool {
        header
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|secret| Self::new(secret).0 == self.0)
    }
}

/// Serves the fleet's gRPC service until it is shut down.
#[derive(Debug)]
pub struct FleetServer {
    listener: TcpListener,
    token: Option<Token>,
    tls: Option<ServerTlsConfig>,
    roster: Roster,
    refusals: RefusalLog,
}

impl FleetServer {
    /// Listens on `address`.
    ///
    /// # Errors
    ///
    /// [`ServeError::Bind`].
    pub async fn bind(address: SocketAddr, token: Option<Token>) -> Result<Self, ServeError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| ServeError::Bind { address, error })?;
        Ok(Self {
            listener,
            token,
            tls: None,
            roster: Roster::default(),
            refusals: RefusalLog::default(),
        })
    }

    /// Speaks TLS only.
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTlsConfig) -> Self {
        self.tls = Some(tls.timeout(ADMIT_WITHIN));
        self
    }

    /// Where refusals are told, for the other services.
    pub(crate) fn refusals(&self) -> RefusalLog {
        self.refusals.clone()
    }

    /// The attached workers, to be read while the fleet is driven.
    #[must_use]
    pub fn roster(&self) -> Roster {
        self.roster.clone()
    }

    /// The address that workers dial.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts serving, `others` beside the fleet's own service; the fleet is
    /// driven through what is returned first, the second ends when `shutdown`
    /// is cancelled and every session is over.
    pub fn start(
        self,
        others: Routes,
        shutdown: CancellationToken,
    ) -> (
        Fleet,
        impl Future<Output = Result<(), ServeError>> + Send + 'static,
    ) {
        let rules = Rules {
            speaks: match self.tls {
                Some(_) => Speaks::GrpcInTls,
                None => Speaks::Grpc,
            },
            connections_max: CONNECTIONS_MAX,
            admit_within: ADMIT_WITHIN,
        };
        let (let_in, inside) = mpsc::channel(GREETED_MAX);
        let accepting = accept::accept_connections(
            self.listener,
            rules,
            let_in,
            self.refusals.clone(),
            shutdown.clone(),
        );
        let access = Access {
            token: self.token,
            tls: self.tls,
            roster: self.roster,
            refusals: self.refusals,
        };
        let incoming = ReceiverStream::new(inside).map(Ok::<_, io::Error>);
        Self::serve_on(incoming, accepting, access, others, shutdown)
    }

    /// Serves the fleet's service on connections that come from elsewhere than
    /// a port of this machine, in plain text and without a token.
    pub fn start_on<I, C>(
        incoming: I,
        shutdown: CancellationToken,
    ) -> (
        Fleet,
        impl Future<Output = Result<(), ServeError>> + Send + 'static,
    )
    where
        I: Stream<Item = io::Result<C>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let accepting = std::future::ready(());
        Self::serve_on(
            incoming,
            accepting,
            Access::default(),
            Routes::default(),
            shutdown,
        )
    }

    fn serve_on<I, C>(
        incoming: I,
        accepting: impl Future<Output = ()> + Send + 'static,
        access: Access,
        others: Routes,
        shutdown: CancellationToken,
    ) -> (
        Fleet,
        impl Future<Output = Result<(), ServeError>> + Send + 'static,
    )
    where
        I: Stream<Item = io::Result<C>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let fleet = Fleet {
            workers: Default::default(),
            events: receiver,
            traffic: Traffic::default(),
            trials: 0,
        };
        let sessions = TaskTracker::new();
        let service = FleetService(Arc::new(FleetState {
            events,
            next_id: AtomicU32::new(1),
            token: access.token,
            roster: access.roster,
            newcomers: Arc::new(Semaphore::new(NEWCOMERS_MAX)),
            refusals: access.refusals,
            sessions: sessions.clone(),
            shutdown: shutdown.clone(),
        }));
        let serve = async move {
            let mut builder = Server::builder()
                .max_concurrent_streams(CALLS_MAX)
                .http2_max_header_list_size(HEADERS_MAX_BYTES)
                .http2_keepalive_interval(Some(Duration::from_secs(10)))
                .http2_keepalive_timeout(Some(Duration::from_secs(10)));
            if let Some(tls) = access.tls {
                builder = builder.tls_config(tls)?;
            }
            let fleet = GrpcServer::new(service).max_decoding_message_size(MESSAGE_MAX_BYTES);
            let served = builder
                .add_routes(others.add_service(fleet))
                .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
            let ended = async {
                let result = served.await;
                shutdown.cancel();
                result
            };
            let (result, ()) = tokio::join!(ended, accepting);
            sessions.close();
            sessions.wait().await;
            Ok(result?)
        };
        (fleet, serve)
    }
}

/// Who may come in, and what is known of them.
#[derive(Default)]
struct Access {
    token: Option<Token>,
    tls: Option<ServerTlsConfig>,
    roster: Roster,
    refusals: RefusalLog,
}

struct FleetState {
    events: mpsc::Sender<RawEvent>,
    next_id: AtomicU32,
    token: Option<Token>,
    roster: Roster,
    newcomers: Arc<Semaphore>,
    refusals: RefusalLog,
    sessions: TaskTracker,
    shutdown: CancellationToken,
}

#[derive(Clone)]
struct FleetService(Arc<FleetState>);

#[tonic::async_trait]
impl FleetRpc for FleetService {
    type AttachStream =
        Pin<Box<dyn Stream<Item = Result<wire::ToWorker, Status>> + Send + 'static>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let state = &self.0;
        let peer = request.extensions().get::<PeerInfo>().cloned();
        let peer = peer.unwrap_or_else(PeerInfo::elsewhere);
        if let Some(token) = &state.token {
            let header = request.metadata().get("authorization");
            if !token.fits(header.and_then(|value| value.to_str().ok())) {
                let reason = "a worker with a wrong or missing token";
                state.refusals.note(peer.ip(), reason, "");
                return Err(Status::unauthenticated(
                    "wrong or missing token; pass the coordinator's with --token-file or FANOUT_TOKEN",
                ));
            }
        }
        if state.roster.len() >= WORKERS_MAX {
            return Err(Status::resource_exhausted(format!(
                "this coordinator takes {WORKERS_MAX} workers at most"
            )));
        }
        let Ok(newcomer) = state.newcomers.clone().try_acquire_owned() else {
            let reason = "too many streams without a Hello";
            state.refusals.note(peer.ip(), reason, "");
            return Err(Status::resource_exhausted(
                "too many workers say nothing; try again",
            ));
        };
        let (outbox, stream) = mpsc::channel(OUTBOX_MAX);
        let inbound = request.into_inner();
        state
            .sessions
            .spawn(session(state.clone(), inbound, outbox, peer, newcomer));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// One worker's stream, from Hello to its end.
async fn session(
    state: Arc<FleetState>,
    mut inbound: Streaming<wire::FromWorker>,
    outbox: WorkerSender,
    peer: PeerInfo,
    newcomer: OwnedSemaphorePermit,
) {
    let hello = match timeout(HELLO_DEADLINE, introduced(&mut inbound)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(reason)) => return refuse(&state, outbox, &peer, reason).await,
        Err(_) => {
            let reason = "no Hello came".to_owned();
            return refuse(&state, outbox, &peer, reason).await;
        }
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
    let reason = match &end {
        StreamEnd::Ends(reason) => reason.clone(),
        StreamEnd::Broke(reason) => {
            let text = format!("it broke the protocol: {reason}");
            state
                .refusals
                .note(peer.ip(), "a worker broke the protocol", reason);
            if let Some(outbox) = weak.upgrade() {
                let reason = text.clone();
                // A worker that has left no room for it reads nothing.
                let _ = outbox.try_send(to_worker(to_worker::Message::Refused(wire::Refused {
                    reason,
                })));
            }
            text
        }
        // Also how a run on this machine ends: no fault.
        StreamEnd::CutOff => "it was cut off".to_owned(),
    };
    info!(worker = %id, reason, "worker detached");
    // Fails only when the fleet is gone.
    let _ = state.events.send(RawEvent::Left(id, reason)).await;
    if !matches!(end, StreamEnd::Ends(_)) {
        drop(inbound);
        sleep(REFUSAL_GRACE).await;
        peer.hang_up();
    }
}

/// How a session comes to its end.
enum StreamEnd {
    /// As sessions do.
    Ends(String),
    /// The worker said what it must not say.
    Broke(String),
    /// The fleet is done with it.
    CutOff,
}

fn to_worker(message: to_worker::Message) -> Result<wire::ToWorker, Status> {
    Ok(wire::ToWorker {
        message: Some(message),
    })
}

/// Says why there is no Welcome, and closes the connection.
async fn refuse(state: &FleetState, outbox: WorkerSender, peer: &PeerInfo, reason: String) {
    state
        .refusals
        .note(peer.ip(), "a worker's introduction", &reason);
    let refused = to_worker::Message::Refused(wire::Refused { reason });
    // A worker that is gone already needs no reason.
    let _ = outbox.try_send(to_worker(refused));
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
        let older = if theirs < PROTOCOL_VERSION {
            "worker"
        } else {
            "coordinator"
        };
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
    outbox: &mpsc::WeakSender<Result<wire::ToWorker, Status>>,
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
                let answer = to_worker::Message::Heartbeat(wire::Heartbeat { sequence });
                // A full outbox is the fleet's to judge.
                let _ = outbox.try_send(to_worker(answer));
            }
            Ok(WorkerMessage::Goodbye(reason)) => {
                debug!(worker = %id, reason, "goodbye");
                return StreamEnd::Ends(format!("it said goodbye: {reason}"));
            }
            Ok(message) => {
                let event = RawEvent::Message(id, message, bytes);
                if !pass_on(state, event, outbox).await {
                    return StreamEnd::Ends("the fleet is gone".to_owned());
                }
            }
            Err(error) => return StreamEnd::Broke(error.to_string()),
        }
    }
}

/// Hands an event to the fleet; `false` where that is gone. While it is not taken, nothing is read from the worker, its heartbeats included: it is
/// told that the coordinator lives all the same.
async fn pass_on(
    state: &FleetState,
    event: RawEvent,
    outbox: &mpsc::WeakSender<Result<wire::ToWorker, Status>>,
) -> bool {
    let mut passed = std::pin::pin!(state.events.send(event));
    loop {
        if let Ok(passed) = timeout(HEARTBEAT_INTERVAL, &mut passed).await {
            return passed.is_ok();
        }
        if let Some(outbox) = outbox.upgrade() {
            let beat = to_worker::Message::Heartbeat(wire::Heartbeat { sequence: 0 });
            // A full outbox is the fleet's to judge.
            let _ = outbox.try_send(to_worker(beat));
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
        Self {
            left: HEARTBEATS_AHEAD,
            since: now,
        }
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
mod tests;
