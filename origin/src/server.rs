//! The running origin: listeners, threads, and their end.
//!
//! Each thread has a runtime of its own and serves the connections that the
//! first one hands out in turn, so that a few connections spread evenly too
//! (the kernel's own spreading over listeners goes by hash). A runtime that is
//! dropped drops its connections: that is how the origin stops, at once.

use std::{
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    os::fd::OwnedFd,
    sync::Arc,
    task::Poll,
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SocketFlags, accept_with, listen, sockopt::set_tcp_nodelay},
};
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, unix::AsyncFd},
    runtime::{Handle, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tokio_util::sync::CancellationToken;

use crate::{
    connection,
    limits::{
        ACCEPT_PAUSE, BACKLOG, CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, STALL_MAX,
        THREADS_MAX,
    },
    stats::{Counters, Stats, Tally},
    timer::Timer,
    tls::{Greeting, Identities, TlsError},
    watch::watch,
};

/// How an origin serves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What random delays and sizes are drawn from, together with the URL.
    pub seed: u64,
    /// Threads that serve; at most 256.
    pub threads: NonZeroUsize,
    /// How long a connection may make no progress.
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            threads: NonZeroUsize::MIN,
            idle_timeout: IDLE_TIMEOUT,
        }
    }
}

/// Sockets that wait for connections.
#[derive(Debug)]
pub struct Listeners {
    http: TcpListener,
    https: Option<TcpListener>,
}

impl Listeners {
    /// Binds the addresses; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// [`StartError::Bind`] names the address that cannot be had.
    pub fn bind(http: SocketAddr, https: Option<SocketAddr>) -> Result<Self, StartError> {
        let bind = |address| {
            TcpListener::bind(address).map_err(|source| StartError::Bind { address, source })
        };
        let http = bind(http)?;
        let https = https.map(bind).transpose()?;
        Ok(Self { http, https })
    }

    /// Takes sockets that are bound already.
    #[must_use]
    pub const fn from_std(http: TcpListener, https: Option<TcpListener>) -> Self {
        Self { http, https }
    }
}

/// Why an origin does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("{address}: {source}{}", bind_hint(source))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Too many threads.
    #[error("{0} threads are more than the {THREADS_MAX} allowed")]
    Threads(usize),
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system has no thread or descriptor left.
    #[error("the system refused what the origin needs: {0}")]
    System(#[from] io::Error),
}

fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; end the process that holds the port, or take another (port 0 takes a free one)"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: take a higher one",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// Why an origin stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A thread met an error that it cannot go on after.
    #[error("the origin stopped serving: {0}")]
    System(#[from] io::Error),
    /// A thread panicked, which is a bug.
    #[error("a thread of the origin panicked")]
    Panicked,
}

/// A running origin. Dropping it stops it.
#[derive(Debug)]
pub struct Origin {
    http: SocketAddr,
    https: Option<SocketAddr>,
    certificate_pem: Option<String>,
    counters: Arc<Counters>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Origin {
    /// Starts to serve, on threads of its own. What it serves does not depend
    /// on the runtime it is called from, if any.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the system, or the TLS library, has not what is needed.
    pub fn start(listeners: Listeners, settings: &Settings) -> Result<Self, StartError> {
        let count = settings.threads.get();
        if count > THREADS_MAX {
            return Err(StartError::Threads(count));
        }
        let http = listeners.http.local_addr()?;
        let mut certificate_pem = None;
        let mut https = None;
        let mut doors = vec![Door::new(listeners.http, None)?];
        if let Some(listener) = listeners.https {
            let identities = Identities::generate()?;
            https = Some(listener.local_addr()?);
            certificate_pem = Some(identities.certificate_pem.clone());
            doors.push(Door::new(listener, Some(Arc::new(identities)))?);
        }

        let counters = Arc::new(Counters::new(count));
        let mut runtimes = Vec::with_capacity(count);
        for thread in 0..count {
            let runtime = runtime()?;
            let timer = {
                let _entered = runtime.enter();
                Timer::new()?
            };
            let worker = Arc::new(Worker {
                seed: settings.seed,
                idle_timeout: settings.idle_timeout,
                timer,
                counters: Arc::clone(&counters),
                thread,
            });
            runtimes.push((runtime, worker));
        }
        let places: Arc<[Place]> = runtimes
            .iter()
            .map(|(runtime, worker)| Place {
                handle: runtime.handle().clone(),
                worker: Arc::clone(worker),
            })
            .collect();

        let mut origin = Self {
            http,
            https,
            certificate_pem,
            counters,
            stop: CancellationToken::new(),
            threads: Vec::with_capacity(count),
        };
        let mut doors = Some(doors);
        for (index, (runtime, worker)) in runtimes.into_iter().enumerate() {
            let stop = origin.stop.clone();
            let entrance = doors.take().map(|doors| (doors, Arc::clone(&places)));
            // A thread that cannot be started drops the origin, which ends
            // those that were.
            let thread = std::thread::Builder::new()
                .name(format!("origin-{index}"))
                .spawn(move || run_thread(&runtime, &worker, entrance, &stop))?;
            origin.threads.push(thread);
        }
        Ok(origin)
    }

    /// Where HTTP is served.
    #[must_use]
    pub const fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where HTTPS is served, if it is.
    #[must_use]
    pub const fn https_addr(&self) -> Option<SocketAddr> {
        self.https
    }

    /// What URLs begin with, HTTP first. An origin that listens on every
    /// address is named by the loopback one.
    #[must_use]
    pub fn base_urls(&self) -> Vec<String> {
        let http = base_url("http", self.http);
        let https = self.https.map(|address| base_url("https", address));
        std::iter::once(http).chain(https).collect()
    }

    /// The certificate of the authority that HTTPS clients must trust, in PEM;
    /// `None` without HTTPS.
    #[must_use]
    pub fn certificate_pem(&self) -> Option<&str> {
        self.certificate_pem.as_deref()
    }

    /// What has been served.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    /// Starts counting anew.
    pub fn reset_stats(&self) {
        self.counters.reset();
    }

    /// Cancelled, it stops the origin; an origin that stops by itself cancels it.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops: connections end at once, and the threads with them.
    ///
    /// # Errors
    ///
    /// [`StopError`] if the origin had stopped by itself before.
    pub fn stop(mut self) -> Result<(), StopError> {
        self.stop.cancel();
        self.join()
    }

    fn join(&mut self) -> Result<(), StopError> {
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let ended = match thread.join() {
                Ok(ended) => ended.map_err(StopError::from),
                Err(_panic) => Err(StopError::Panicked),
            };
            result = result.and(ended);
        }
        result
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Err(error) = self.join() {
            tracing::error!("{error}");
        }
    }
}

fn base_url(scheme: &str, mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("{scheme}://{address}")
}

/// One thread's part of the origin.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) seed: u64,
    pub(crate) idle_timeout: Duration,
    pub(crate) timer: Timer,
    pub(crate) counters: Arc<Counters>,
    thread: usize,
}

impl Worker {
    /// Where this thread counts.
    pub(crate) fn tally(&self) -> Tally<'_> {
        self.counters.tally(self.thread)
    }
}

/// Where connections can be served.
struct Place {
    handle: Handle,
    worker: Arc<Worker>,
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        // Busy connections are interrupted this often to look at the timer
        // and the sockets: a due response waits for so many others at most.
        .event_interval(16)
        .build()
}

/// What the first thread has besides its connections.
type Entrance = (Vec<Door>, Arc<[Place]>);

fn run_thread(
    runtime: &Runtime,
    worker: &Worker,
    entrance: Option<Entrance>,
    stop: &CancellationToken,
) -> io::Result<()> {
    // If this thread ends by itself, or panics, the others end too.
    let _end_all = stop.clone().drop_guard();
    runtime.block_on(async {
        let receive = async {
            match entrance {
                Some((doors, places)) => receive(doors, &places, worker).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            Err(error) = worker.timer.drive() => Err(error),
            Err(error) = receive => Err(error),
        }
    })
}

/// A listener, and what a connection through it goes through.
struct Door {
    listener: TcpListener,
    tls: Option<Arc<Identities>>,
}

impl Door {
    fn new(listener: TcpListener, tls: Option<Arc<Identities>>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Connections inherit this: the last piece of a body must not wait
        // for the acknowledgement of the one before.
        set_tcp_nodelay(&listener, true)?;
        listen(&listener, BACKLOG)?;
        Ok(Self { listener, tls })
    }
}

/// Accepts connections and hands them out to the threads in turn.
async fn receive(
    doors: Vec<Door>,
    places: &[Place],
    worker: &Worker,
) -> io::Result<std::convert::Infallible> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut open = Vec::with_capacity(doors.len());
    for door in doors {
        let listener = watch(door.listener.into())?;
        open.push((listener, door.tls));
    }
    let mut turn = (0..places.len()).cycle();
    let mut first = 0;
    loop {
        // A place before the connection: who finds none waits in the kernel.
        let permit = Arc::clone(&room)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        first = (first + 1) % open.len();
        match next_connection(&open, first).await {
            Ok((socket, tls)) => {
                let place = &places[turn.next().expect("there is a thread at least")];
                let worker = Arc::clone(&place.worker);
                place.handle.spawn(welcome(socket, tls, worker, permit));
            }
            // The client gave up, or the network failed it: accept(2) lists
            // these among the errors to be treated as none.
            Err(
                Errno::CONNABORTED
                | Errno::INTR
                | Errno::NETDOWN
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
                | Errno::PERM,
            ) => {}
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                tracing::warn!(
                    "cannot accept connections: {errno}; raise the limit on open files (ulimit -n)"
                );
                worker
                    .timer
                    .at(std::time::Instant::now() + ACCEPT_PAUSE)
                    .await;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

type OpenDoor = (AsyncFd<OwnedFd>, Option<Arc<Identities>>);

/// The next connection through any door; the one at `first` is asked first,
/// so that none is starved.
async fn next_connection(
    doors: &[OpenDoor],
    first: usize,
) -> Result<(OwnedFd, Option<Arc<Identities>>), Errno> {
    const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
    poll_fn(|cx| {
        let (before, after) = doors.split_at(first);
        for (listener, tls) in after.iter().chain(before) {
            while let Poll::Ready(ready) = listener.poll_read_ready(cx) {
                let Ok(mut ready) = ready else {
                    // The runtime shuts down, and this future with it.
                    return Poll::Ready(Err(Errno::CANCELED));
                };
                match accept_with(listener.get_ref(), FLAGS) {
                    Err(Errno::AGAIN) => ready.clear_ready(),
                    Ok(socket) => return Poll::Ready(Ok((socket, tls.clone()))),
                    Err(errno) => return Poll::Ready(Err(errno)),
                }
            }
        }
        Poll::Pending
    })
    .await
}

/// One connection from its acceptance to its end; the permit is given back then.
async fn welcome(
    socket: OwnedFd,
    tls: Option<Arc<Identities>>,
    worker: Arc<Worker>,
    _permit: OwnedSemaphorePermit,
) {
    let stream = match tokio::net::TcpStream::from_std(TcpStream::from(socket)) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!("a connection could not be watched: {error}");
            return;
        }
    };
    let Some(tls) = tls else {
        connection::serve(stream, &worker).await;
        return;
    };
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let shaken = match worker.timer.within(HANDSHAKE_TIMEOUT, hello).await {
        Some(Ok(start)) => match tls.greet(start.client_hello().server_name()) {
            Greeting::Shake(config) => {
                let rest = start.into_stream(config);
                worker.timer.within(HANDSHAKE_TIMEOUT, rest).await
            }
            greeting => {
                drop(worker.tally().connection());
                // Whatever comes of it, the client asked for it.
                let _ = disappoint(start, &greeting, &worker).await;
                return;
            }
        },
        Some(Err(error)) => Some(Err(error)),
        None => None,
    };
    match shaken {
        Some(Ok(stream)) => connection::serve(stream, &worker).await,
        Some(Err(error)) => {
            drop(worker.tally().connection());
            tracing::debug!("TLS handshake failed: {error}");
        }
        None => {
            drop(worker.tally().connection());
            tracing::debug!("TLS handshake took too long");
        }
    }
}

/// Gives a client what it asked for instead of a handshake.
async fn disappoint(
    start: StartHandshake<tokio::net::TcpStream>,
    greeting: &Greeting,
    worker: &Worker,
) -> io::Result<()> {
    let mut socket = start.io;
    match greeting {
        Greeting::Shake(_) | Greeting::Close => Ok(()),
        Greeting::Reset => socket.set_zero_linger(),
        Greeting::Plain => {
            const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            let sent = worker
                .timer
                .within(worker.idle_timeout, socket.write_all(NO_TLS));
            sent.await.unwrap_or(Ok(()))
        }
        Greeting::Stall => {
            let gone = async {
                let mut bytes = [0; 256];
                while socket.read(&mut bytes).await? > 0 {}
                Ok(())
            };
            let stalled = worker.timer.within(STALL_MAX, gone);
            stalled.await.unwrap_or(Ok(()))
        }
    }
}
