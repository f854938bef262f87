//! The gRPC side of the fleet.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use fanout_proto::{
    limits::FRAME_MAX_BYTES,
    text::causes,
    wire::{
        self,
        fleet_server::{Fleet as FleetRpc, FleetServer as GrpcServer},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, mpsc},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Response, Status, Streaming,
    service::Routes,
    transport::{Server, ServerTlsConfig, server::Connected},
};

use super::{
    EVENTS_MAX, Fleet, OUTBOX_MAX, Traffic,
    roster::Roster,
    stream::{FleetState, serve_worker},
    token::Token,
};
use crate::accept::{self, PeerInfo, RefusalLog, Rules, Speaks};

/// Connections that wait to be served.
const GREETED_MAX: usize = 64;
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
/// Header fields of one call.
const HEADERS_MAX_BYTES: u32 = 16 * 1024;
/// Room for what a message wraps around a frame.
const MESSAGE_MAX_BYTES: usize = FRAME_MAX_BYTES + 64 * 1024;

/// The server could not start or failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServeError(String);

impl From<tonic::transport::Error> for ServeError {
    fn from(error: tonic::transport::Error) -> Self {
        Self(format!("the gRPC server failed: {}", causes(&error)))
    }
}

/// Serves the fleet's gRPC service until it is shut down.
#[derive(Debug)]
pub struct FleetServer {
    listener: TcpListener,
    access: Access,
}

type Serving = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

impl FleetServer {
    /// Listens on `address`.
    pub async fn bind(address: SocketAddr, token: Option<Token>) -> Result<Self, ServeError> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            ServeError(format!("cannot listen on {address}: {error}; choose another with --listen"))
        })?;
        Ok(Self { listener, access: Access { token, ..Access::default() } })
    }

    /// Speaks TLS only.
    #[must_use]
    pub fn with_tls(mut self, tls: ServerTlsConfig) -> Self {
        self.access.tls = Some(tls.timeout(ADMIT_WITHIN));
        self
    }

    /// Where refusals are told, for the other services.
    pub(crate) fn refusals(&self) -> RefusalLog {
        self.access.refusals.clone()
    }

    /// The attached workers, to be read while the fleet is driven.
    pub fn roster(&self) -> Roster {
        self.access.roster.clone()
    }

    /// The address that workers dial.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts serving, `others` beside the fleet's own service; the fleet is driven through what is
    /// returned first, the second ends when `shutdown` is cancelled and every session is over.
    pub fn start(self, others: Routes, shutdown: CancellationToken) -> (Fleet, Serving) {
        let rules = Rules {
            speaks: match self.access.tls {
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
            self.access.refusals.clone(),
            shutdown.clone(),
        );
        let incoming = ReceiverStream::new(inside).map(Ok::<_, io::Error>);
        Self::serve_on(incoming, accepting, self.access, others, shutdown)
    }

    /// Serves the fleet's service on connections that come from elsewhere than
    /// a port of this machine, in plain text and without a token.
    pub fn start_on<I, C>(incoming: I, shutdown: CancellationToken) -> (Fleet, Serving)
    where
        I: Stream<Item = io::Result<C>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let (accepting, access) = (std::future::ready(()), Access::default());
        Self::serve_on(incoming, accepting, access, Routes::default(), shutdown)
    }

    fn serve_on<I, C>(
        incoming: I,
        accepting: impl Future<Output = ()> + Send + 'static,
        access: Access,
        others: Routes,
        shutdown: CancellationToken,
    ) -> (Fleet, Serving)
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
        let tls = access.tls;
        let state = FleetState {
            events,
            next_id: AtomicU32::new(1),
            roster: access.roster,
            refusals: access.refusals,
            shutdown: shutdown.clone(),
        };
        let service = FleetService {
            state: Arc::new(state),
            token: access.token,
            newcomers: Arc::new(Semaphore::new(NEWCOMERS_MAX)),
            sessions: sessions.clone(),
        };
        let serve = async move {
            let mut builder = Server::builder()
                .max_concurrent_streams(CALLS_MAX)
                .http2_max_header_list_size(HEADERS_MAX_BYTES)
                .http2_keepalive_interval(Some(Duration::from_secs(10)))
                .http2_keepalive_timeout(Some(Duration::from_secs(10)));
            if let Some(tls) = tls {
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
        (fleet, Box::pin(serve))
    }
}

/// Which workers may come in, and what is known of them.
#[derive(Debug, Default)]
struct Access {
    token: Option<Token>,
    tls: Option<ServerTlsConfig>,
    roster: Roster,
    refusals: RefusalLog,
}

#[derive(Clone)]
struct FleetService {
    state: Arc<FleetState>,
    token: Option<Token>,
    newcomers: Arc<Semaphore>,
    sessions: TaskTracker,
}

#[tonic::async_trait]
impl FleetRpc for FleetService {
    type AttachStream =
        Pin<Box<dyn Stream<Item = Result<wire::ToWorker, Status>> + Send + 'static>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let state = &self.state;
        let peer = request.extensions().get::<PeerInfo>().cloned();
        let peer = peer.unwrap_or_else(PeerInfo::elsewhere);
        Token::check(self.token.as_ref(), request.metadata()).inspect_err(|_| {
            state.refusals.note(peer.ip(), "a worker with a wrong or missing token", "");
        })?;
        if state.roster.len() >= WORKERS_MAX {
            return Err(Status::resource_exhausted(format!(
                "this coordinator takes {WORKERS_MAX} workers at most"
            )));
        }
        let Ok(newcomer) = self.newcomers.clone().try_acquire_owned() else {
            let reason = "too many streams without a Hello";
            state.refusals.note(peer.ip(), reason, "");
            return Err(Status::resource_exhausted("too many workers say nothing; try again"));
        };
        let (outbox, stream) = mpsc::channel(OUTBOX_MAX);
        let inbound = request.into_inner();
        self.sessions.spawn(serve_worker(state.clone(), inbound, outbox, peer, newcomer));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
