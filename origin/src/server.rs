//! The running origin: its threads, and their end.
//!
//! Each thread has a runtime of its own and serves the connections that the
//! first one hands out in turn, so that a few connections spread evenly too
//! (the kernel's own spreading over listeners goes by hash). A runtime that is
//! dropped drops its connections: that is how the origin stops, at once.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
};

use tokio_util::sync::CancellationToken;

use crate::{
    accept::{accept, prepare},
    limits::THREADS_MAX,
    stats::{ServerCounters, Stats},
    thread::{ServerSettings, ServerThread},
    tls::Identities,
};

/// Why an origin does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(String);

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> Self {
        Self(format!("the system refused what the origin needs: {error}"))
    }
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

/// A running origin. Dropping it stops it.
#[derive(Debug)]
pub struct OriginServer {
    http: SocketAddr,
    https: Option<SocketAddr>,
    certificate_pem: Option<String>,
    counters: Arc<ServerCounters>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl OriginServer {
    /// Starts to serve HTTP, and HTTPS if it has an address, on threads of its own; port 0 takes a
    /// free one. What it serves does not depend on the runtime it is called from, if any.
    pub fn start(
        http: SocketAddr,
        https: Option<SocketAddr>,
        settings: &ServerSettings,
    ) -> Result<Self, ServerError> {
        let count = settings.threads.get();
        if count > THREADS_MAX {
            let refused = format!("{count} threads are more than the {THREADS_MAX} allowed");
            return Err(ServerError(refused));
        }
        let bind = |address| {
            TcpListener::bind(address)
                .map_err(|error| ServerError(format!("{address}: {error}{}", bind_hint(&error))))
        };
        let (http, https) = (bind(http)?, https.map(bind).transpose()?);
        let counters = Arc::new(ServerCounters::new(count));
        let mut origin = Self {
            http: http.local_addr()?,
            https: None,
            certificate_pem: None,
            counters: Arc::clone(&counters),
            stop: CancellationToken::new(),
            threads: Vec::with_capacity(count),
        };
        prepare(&http)?;
        let mut listening = vec![(http, None)];
        if let Some(https) = https {
            let identities = Identities::generate()
                .map_err(|error| ServerError(format!("no certificate could be made: {error}")))?;
            origin.https = Some(https.local_addr()?);
            origin.certificate_pem = Some(identities.certificate_pem.clone());
            prepare(&https)?;
            listening.push((https, Some(Arc::new(identities))));
        }

        let (runtimes, threads): (Vec<_>, Vec<_>) = (0..count)
            .map(|index| ServerThread::new(index, settings, &counters))
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        let threads: Arc<[_]> = threads.into();
        let mut listening = Some(listening);
        for (index, runtime) in runtimes.into_iter().enumerate() {
            let (stop, threads) = (origin.stop.clone(), Arc::clone(&threads));
            let listening = listening.take();
            let run = move || {
                let accepts = async {
                    match listening {
                        Some(listening) => accept(listening, &threads).await,
                        None => std::future::pending().await,
                    }
                };
                threads[index].run(&runtime, accepts, &stop)
            };
            // A thread that cannot be started drops the origin, which ends those that were.
            let thread = std::thread::Builder::new().name(format!("origin-{index}"));
            origin.threads.push(thread.spawn(run)?);
        }
        Ok(origin)
    }

    /// Where HTTP is served.
    pub const fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Where HTTPS is served, if it is.
    pub const fn https_addr(&self) -> Option<SocketAddr> {
        self.https
    }

    /// What URLs begin with, HTTP first. An origin that listens on every
    /// address is named by the loopback one.
    pub fn base_urls(&self) -> Vec<String> {
        let http = base_url("http", self.http);
        let https = self.https.map(|address| base_url("https", address));
        std::iter::once(http).chain(https).collect()
    }

    /// The certificate of the authority that HTTPS clients must trust, in PEM;
    /// `None` without HTTPS.
    pub fn certificate_pem(&self) -> Option<&str> {
        self.certificate_pem.as_deref()
    }

    /// What has been served.
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }

    /// Starts counting anew.
    pub fn reset_stats(&self) {
        self.counters.reset();
    }

    /// Cancelled, it stops the origin; an origin that stops by itself cancels it.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops: connections end at once, and the threads with them. An origin that had stopped by
    /// itself says why.
    pub fn stop(mut self) -> Result<(), ServerError> {
        self.stop.cancel();
        self.join()
    }

    fn join(&mut self) -> Result<(), ServerError> {
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let ended = match thread.join() {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(format!("the origin stopped serving: {error}")),
                Err(_panic) => Err("a thread of the origin panicked".to_owned()),
            };
            result = result.and(ended.map_err(ServerError));
        }
        result
    }
}

impl Drop for OriginServer {
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
