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
    limits::FRAME_MAX_BYTES,
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
    sync::mpsc,
    time::timeout,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Response, Status, Streaming,
    service::Routes,
    transport::{
        Server, ServerTlsConfig,
        server::{Connected, TcpIncoming},
    },
};
use tracing::{debug, info, warn};

use super::{
    EVENTS_MAX, Fleet, OUTBOX_MAX, Outbox, RawEvent, Roster, Traffic, WorkerMessage, roster::Place,
};

/// A worker says Hello within this time or is not let in.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// Workers send a heartbeat this often.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// After this many intervals of silence a worker is taken as gone.
const HEARTBEATS_MISSED: u32 = 4;
/// Workers attached at a time.
const WORKERS_MAX: usize = 4096;
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
        })
    }

    /// Speaks TLS only.
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The attached workers, for whoever asks while the fleet is driven.
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
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        Self::serve_on(
            incoming,
            (self.token, self.tls, self.roster),
            others,
            shutdown,
        )
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
        let open = (None, None, Roster::default());
        Self::serve_on(incoming, open, Routes::default(), shutdown)
    }

    fn serve_on<I, C>(
        incoming: I,
        (token, tls, roster): (Option<Token>, Option<ServerTlsConfig>, Roster),
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
        let service = Service(Arc::new(Shared {
            events,
            next_id: AtomicU32::new(1),
            token,
            roster,
            sessions: sessions.clone(),
            shutdown: shutdown.clone(),
        }));
        let serve = async move {
            let mut builder = Server::builder()
                .http2_keepalive_interval(Some(Duration::from_secs(10)))
                .http2_keepalive_timeout(Some(Duration::from_secs(10)));
            if let Some(tls) = tls {
                builder = builder.tls_config(tls)?;
            }
            let fleet = GrpcServer::new(service).max_decoding_message_size(MESSAGE_MAX_BYTES);
            let result = builder
                .add_routes(others.add_service(fleet))
                .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned())
                .await;
            shutdown.cancel();
            sessions.close();
            sessions.wait().await;
            Ok(result?)
        };
        (fleet, serve)
    }
}

struct Shared {
    events: mpsc::Sender<RawEvent>,
    next_id: AtomicU32,
    token: Option<Token>,
    roster: Roster,
    sessions: TaskTracker,
    shutdown: CancellationToken,
}

#[derive(Clone)]
struct Service(Arc<Shared>);

#[tonic::async_trait]
impl FleetRpc for Service {
    type AttachStream =
        Pin<Box<dyn Stream<Item = Result<wire::ToWorker, Status>> + Send + 'static>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let shared = &self.0;
        if let Some(token) = &shared.token {
            let header = request.metadata().get("authorization");
            if !token.fits(header.and_then(|value| value.to_str().ok())) {
                warn!(peer = ?request.remote_addr(), "refused a worker: wrong or missing token");
                return Err(Status::unauthenticated(
                    "wrong or missing token; pass the coordinator's with --token-file or FANOUT_TOKEN",
                ));
            }
        }
        if shared.sessions.len() >= WORKERS_MAX {
            return Err(Status::resource_exhausted(format!(
                "this coordinator takes {WORKERS_MAX} workers at most"
            )));
        }
        let (outbox, stream) = mpsc::channel(OUTBOX_MAX);
        shared
            .sessions
            .spawn(session(shared.clone(), request.into_inner(), outbox));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// One worker's stream, from Hello to its end.
async fn session(shared: Arc<Shared>, mut inbound: Streaming<wire::FromWorker>, outbox: Outbox) {
    let hello = match timeout(HELLO_DEADLINE, introduced(&mut inbound)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(reason)) => return refuse(&outbox, reason).await,
        Err(_) => return refuse(&outbox, "no Hello came".to_owned()).await,
    };
    let id = WorkerId(shared.next_id.fetch_add(1, Ordering::Relaxed));
    let interval_ms = u32::try_from(HEARTBEAT_INTERVAL.as_millis()).unwrap_or(u32::MAX);
    let welcome = to_worker::Message::Welcome(wire::Welcome {
        worker_id: id.0,
        heartbeat_interval_ms: interval_ms,
    });
    if outbox.send(to_worker(welcome)).await.is_err() {
        return;
    }
    info!(worker = %id, name = hello.name, slots = hello.slots, "worker attached");
    // The fleet holds the only outbox: whoever it drops is cut off, because
    // the stream to the worker then ends.
    let weak = outbox.downgrade();
    let place = shared.roster.enter(id, hello.clone());
    let joined = RawEvent::Joined(id, hello, outbox);
    if shared.events.send(joined).await.is_err() {
        return;
    }
    let reason = tokio::select! {
        reason = receive(&shared, &place, id, &mut inbound, &weak) => reason,
        () = shared.shutdown.cancelled() => "the coordinator ends".to_owned(),
    };
    drop(place);
    info!(worker = %id, reason, "worker detached");
    // Fails only when nobody drives the fleet any more.
    let _ = shared.events.send(RawEvent::Left(id, reason)).await;
}

fn to_worker(message: to_worker::Message) -> Result<wire::ToWorker, Status> {
    Ok(wire::ToWorker {
        message: Some(message),
    })
}

async fn refuse(outbox: &Outbox, reason: String) {
    warn!(reason, "refused a worker");
    let refused = to_worker::Message::Refused(wire::Refused { reason });
    // A worker that is gone already needs no reason.
    let _ = outbox.send(to_worker(refused)).await;
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
        let older = if theirs < PROTOCOL_VERSION {
            "worker"
        } else {
            "coordinator"
        };
        return Err(format!(
            "worker '{}' is fanout {version} with protocol {theirs}, this coordinator is fanout {} with \
             protocol {PROTOCOL_VERSION}: upgrade the {older}",
            hello.name,
            env!("FANOUT_VERSION"),
        ));
    }
    Hello::try_from(hello).map_err(|error| format!("its Hello is not valid: {error}"))
}

/// Takes messages until the worker leaves; says why it did.
async fn receive(
    shared: &Shared,
    place: &Place,
    id: WorkerId,
    inbound: &mut Streaming<wire::FromWorker>,
    outbox: &mpsc::WeakSender<Result<wire::ToWorker, Status>>,
) -> String {
    let patience = HEARTBEAT_INTERVAL * HEARTBEATS_MISSED;
    loop {
        let message = match timeout(patience, inbound.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(status))) => return format!("its stream broke: {}", status.message()),
            Ok(None) => return "its stream was cut".to_owned(),
            Err(_) => return format!("it was silent for {} s", patience.as_secs()),
        };
        place.heard();
        let bytes = message.encoded_len() as u64;
        match WorkerMessage::try_from(message) {
            Ok(WorkerMessage::Heartbeat(sequence)) => {
                let Some(outbox) = outbox.upgrade() else {
                    return "it was cut off: it read nothing any more".to_owned();
                };
                let answer = to_worker::Message::Heartbeat(wire::Heartbeat { sequence });
                // A full outbox is the fleet's to judge.
                let _ = outbox.try_send(to_worker(answer));
            }
            Ok(WorkerMessage::Goodbye(reason)) => {
                debug!(worker = %id, reason, "goodbye");
                return format!("it said goodbye: {reason}");
            }
            Ok(message) => {
                let event = RawEvent::Message(id, message, bytes);
                if !pass_on(shared, event, outbox).await {
                    return "nobody drives the fleet any more".to_owned();
                }
            }
            Err(error) => return format!("it broke the protocol: {error}"),
        }
    }
}

/// Hands an event to whoever drives the fleet; `false`: nobody does. While it is
/// not taken, nothing is read from the worker, its heartbeats included: it is
/// told that the coordinator lives all the same.
async fn pass_on(
    shared: &Shared,
    event: RawEvent,
    outbox: &mpsc::WeakSender<Result<wire::ToWorker, Status>>,
) -> bool {
    let mut passed = std::pin::pin!(shared.events.send(event));
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
