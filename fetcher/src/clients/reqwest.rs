//! `reqwest`: what people use for requests on an event loop.
//!
//! One client for all slots, as its documentation asks for, with a pool that holds a connection per
//! slot, HTTP/1.1 only, without proxies, redirects and retries of its own.

use std::{
    cell::Cell,
    error::Error as StdError,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use fanout_proto::{completion::Outcome, limits::HEADERS_MAX, setup::Setup, text::causes};
use reqwest::{
    Client, Error,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect, retry,
};
use tokio::task::yield_now;
use tower_layer::Layer;
use tower_service::Service;

use super::library::{CountedConnector, LibraryFetch, LibraryPlan, LibraryResolver};
use crate::{
    client::AsyncClient,
    counters::Counters,
    exit_reason::{ExitReason, SetupError},
    fetch_failure::{FetchFailure, tls_error},
    models::{self, Subject},
    pipes::Pipes,
    resolve::{LookupError, Resolver},
    tls,
    work_queue::Fetched,
};

tokio::task_local! {
    /// Time that the connector took for the request that this task is at.
    static CONNECTING: Cell<Duration>;
}

pub(super) fn run(subject: Subject, pipes: &mut Pipes) -> Result<(), ExitReason> {
    let (setup, counters) = (&subject.setup, subject.counters.clone());
    let client = client(setup, &counters)?;
    let plan = Arc::new(LibraryPlan::new(&setup.http, counters)?);
    models::run_on_loop(subject, pipes, move || Reqwest {
        client: client.clone(),
        fetch: LibraryFetch::new(&plan),
        plan: plan.clone(),
    })
}

fn client(setup: &Setup, counters: &Arc<Counters>) -> Result<Client, SetupError> {
    let http = &setup.http;
    let slots = usize::try_from(setup.concurrency.get()).unwrap_or(usize::MAX);
    Client::builder()
        .tls_backend_preconfigured(tls::client_config(setup)?)
        .http1_only()
        .http1_max_headers(HEADERS_MAX)
        .no_proxy()
        // Redirects are followed here, as under every client.
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .connect_timeout(http.connect_timeout)
        .pool_max_idle_per_host(if http.no_keepalive { 0 } else { slots })
        .tcp_nodelay(true)
        .dns_resolver(LibraryResolver(Resolver::new(http, counters)))
        .connector_layer(CountConnections(counters.clone()))
        .build()
        .map_err(|error| SetupError::client("reqwest", &causes(&error)))
}

/// What an error of the library is called here.
fn failure(plan: &LibraryPlan, error: &Error) -> FetchFailure {
    if error.is_timeout() {
        return if error.is_connect() {
            let limit = plan.connect_timeout;
            FetchFailure::connect_timed_out(Outcome::Connect, "connecting", limit)
        } else {
            FetchFailure::timed_out(plan.timeout)
        };
    }
    if let Some(lookup) = cause(error, |error| error.downcast_ref::<LookupError>()) {
        return FetchFailure::new(lookup.outcome(), lookup.to_string());
    }
    let tls = cause(error, |error| match error.downcast_ref::<io::Error>() {
        Some(error) => tls_error(error),
        None => error.downcast_ref(),
    });
    if let Some(tls) = tls {
        return FetchFailure::new(Outcome::Tls, tls.to_string());
    }
    if let Some(cause) = cause(error, |error| error.downcast_ref::<io::Error>()) {
        return of_input_or_output(error, cause);
    }
    if let Some(hyper) = cause(error, |error| error.downcast_ref::<hyper::Error>()) {
        let ended = hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled();
        let outcome = match ended {
            true => Outcome::Closed,
            false => Outcome::Protocol,
        };
        return FetchFailure::new(outcome, causes(hyper));
    }
    let outcome = match error.is_connect() {
        true => Outcome::Connect,
        false => Outcome::Protocol,
    };
    FetchFailure::new(outcome, causes(error))
}

fn of_input_or_output(error: &Error, cause: &io::Error) -> FetchFailure {
    // What the library itself says of a body that is not chunked as it should
    // be; the system has other words.
    let is_no_body = cause.raw_os_error().is_none()
        && matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
    if error.is_connect() {
        FetchFailure::in_connect(cause)
    } else if is_no_body {
        FetchFailure::protocol(cause.to_string())
    } else {
        FetchFailure::in_exchange(cause)
    }
}

/// The first of an error and its causes that is `wanted`.
fn cause<'a, T: 'a>(
    error: &'a Error,
    wanted: impl Fn(&'a (dyn StdError + 'static)) -> Option<&'a T>,
) -> Option<&'a T> {
    let first: &'a (dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |&error| error.source()).find_map(wanted)
}

struct Reqwest {
    client: Client,
    plan: Arc<LibraryPlan>,
    fetch: LibraryFetch,
}

impl Reqwest {
    async fn run(&mut self, url: &[u8], start: Instant) -> Result<(), FetchFailure> {
        self.fetch.start(url)?;
        loop {
            self.plan.counters.requests_sent.increment();
            let (exchanged, connecting) = CONNECTING
                .scope(Cell::default(), async {
                    let exchanged = self.exchange(start).await;
                    (exchanged, CONNECTING.with(Cell::get))
                })
                .await;
            self.fetch.connect += connecting;
            exchanged?;
            if !self.fetch.follow(&self.plan)? {
                return Ok(());
            }
            self.plan.counters.redirects_followed.increment();
        }
    }

    async fn exchange(&mut self, start: Instant) -> Result<(), FetchFailure> {
        let (plan, fetch) = (&self.plan, &mut self.fetch);
        let failed = |error| failure(plan, &error);
        let (target, headers) = fetch.request(plan)?;
        let mut response = self
            .client
            .request(plan.method.clone(), target.as_str())
            .headers(headers.clone())
            .timeout(plan.timeout.saturating_sub(start.elapsed()))
            .send()
            .await
            .map_err(failed)?;
        fetch.head(plan, Instant::now(), response.status(), response.headers())?;
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            if fetch.body(&bytes)? {
                break;
            }
        }
        Ok(())
    }
}

impl AsyncClient for Reqwest {
    async fn fetch(&mut self, url: &[u8], start: Instant) -> Fetched {
        let result = self.run(url, start).await;
        let fetched = self.fetch.conclude(result);
        // The library's own tasks give the connection back to the pool. A slot
        // that went on without letting them would open another one instead.
        yield_now().await;
        fetched
    }
}

#[derive(Debug, Clone)]
struct CountConnections(Arc<Counters>);

impl<S> Layer<S> for CountConnections {
    type Service = CountedConnector<S>;

    fn layer(&self, inner: S) -> CountedConnector<S> {
        CountedConnector { inner, counters: self.0.clone() }
    }
}

impl<S, T> Service<T> for CountedConnector<S>
where
    S: Service<T>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, to: T) -> Self::Future {
        let counters = self.counters.clone();
        let connecting = self.inner.call(to);
        Box::pin(async move {
            let begin = Instant::now();
            let result = connecting.await;
            if result.is_ok() {
                counters.connections_opened.increment();
            }
            // A connection may come too late for its request, which went on
            // with another: it is then established outside of any request.
            let _ = CONNECTING.try_with(|spent| spent.set(spent.get() + begin.elapsed()));
            result
        })
    }
}

impl Resolve for LibraryResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            // The connector's own time limit drops this future.
            let deadline = Instant::now() + fanout_proto::limits::TIMEOUT_MAX;
            let addresses = resolver.lookup(name.as_str(), deadline).await?;
            let addresses: Vec<_> =
                addresses.iter().map(|address| SocketAddr::from((*address, 0))).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
