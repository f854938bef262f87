//! `ureq`: what people use for blocking requests.
//!
//! One agent for all slots, as its documentation asks for, with a pool that holds a connection per
//! slot. Of its two buffers of 128 KiB per connection, the one for requests is made as small as the
//! longest request line allows, the other as small as the core's: a head must fit into it.

use std::{
    cell::Cell,
    io::{self, Read},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use fanout_proto::{completion::Outcome, setup::Setup};
use http::{Request, Uri, uri::Scheme};
use rustls::crypto::ring;
use ureq::{
    Agent, Error, Timeout,
    config::{AutoHeaderValue, Config},
    tls::{Certificate, RootCerts, TlsConfig},
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver as UreqResolver},
        transport::{
            ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
            time,
        },
    },
};

use super::library::{CountedConnector, LibraryFetch, LibraryPlan, LibraryResolver};
use crate::{
    client::BlockingClient,
    counters::Counters,
    drive::{READ_BYTES, read_buffers},
    exit_reason::{ExitReason, SetupError},
    fetch_failure::{FetchFailure, tls_error},
    models::{self, Subject},
    pipes::Pipes,
    resolve::{LookupError, Resolver},
    tls::Roots,
    work_queue::Fetched,
};

/// A request's line and any one of its headers fit, by the limits of both.
const OUTPUT_BYTES: usize = 20 * 1024;
/// A head that fills the input buffer is too long.
const HEAD_MAX_BYTES: usize = READ_BYTES - 1;

/// The library counts the time of a connection attempt in whole milliseconds, rounded down.
const TIMER_SLACK: Duration = Duration::from_millis(2);

thread_local! {
    /// What the connector did for the request that this thread is at.
    static CONNECTING: Cell<Connecting> = const { Cell::new(Connecting::NONE) };
}

/// Seen from inside the agent, on the requesting thread.
#[derive(Debug, Clone, Copy)]
struct Connecting {
    took: Duration,
    failed: bool,
}

impl Connecting {
    const NONE: Self = Self { took: Duration::ZERO, failed: false };

    fn note(begin: Instant, failed: bool) {
        CONNECTING.with(|connecting| {
            connecting.set(Self { took: connecting.get().took + begin.elapsed(), failed });
        });
    }
}

pub(super) fn run(subject: Subject, pipes: &mut Pipes) -> Result<(), ExitReason> {
    let (setup, counters) = (&subject.setup, subject.counters.clone());
    let agent = agent(setup, &counters)?;
    let plan = Arc::new(LibraryPlan::new(&setup.http, counters)?);
    let mut buffers = read_buffers(subject.slots());
    models::run_blocking(subject, pipes, move || Ureq {
        agent: agent.clone(),
        fetch: LibraryFetch::new(&plan),
        plan: plan.clone(),
        scratch: buffers(),
    })
}

fn agent(setup: &Setup, counters: &Arc<Counters>) -> Result<Agent, SetupError> {
    let tls = TlsWhenNeeded {
        setup: setup.clone(),
        roots: Roots::new(&setup.http)?,
        config: OnceLock::new(),
        inner: RustlsConnector::default(),
    };
    if setup.https {
        tls.config();
    }
    let connector = CountedConnector {
        inner: ().chain(TcpConnector::default()).chain(tls),
        counters: counters.clone(),
    };
    let resolver = LibraryResolver(Resolver::new(&setup.http, counters));
    Ok(Agent::with_parts(config(setup, TlsConfig::default()), connector, resolver))
}

fn config(setup: &Setup, tls: TlsConfig) -> Config {
    let http = &setup.http;
    let slots = usize::try_from(setup.concurrency.get()).unwrap_or(usize::MAX);
    Config::builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .proxy(None)
        // Redirects are followed here, as under every client.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        .timeout_global(Some(http.timeout))
        .timeout_resolve(Some(http.connect_timeout))
        .timeout_connect(Some(http.connect_timeout))
        .max_response_header_size(HEAD_MAX_BYTES)
        .input_buffer_size(READ_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        .max_idle_connections(slots)
        .max_idle_connections_per_host(slots)
        .build()
}

/// The library's own TLS. It wants certificates in the configuration of its agent; this one holds
/// none, and is replaced here where a connection needs them.
#[derive(Debug)]
struct TlsWhenNeeded {
    setup: Setup,
    roots: Roots,
    config: OnceLock<Config>,
    inner: RustlsConnector,
}

impl TlsWhenNeeded {
    fn config(&self) -> &Config {
        self.config.get_or_init(|| {
            let insecure = self.setup.http.insecure;
            let roots = match (!insecure).then(|| self.roots.read()).flatten() {
                Some(certificates) => certificates
                    .iter()
                    .map(|certificate| Certificate::from_der(certificate).to_owned())
                    .into(),
                None => RootCerts::WebPki,
            };
            let tls = TlsConfig::builder()
                .root_certs(roots)
                .disable_verification(insecure)
                .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
                .build();
            config(&self.setup, tls)
        })
    }
}

impl<In: Transport> Connector<In> for TlsWhenNeeded {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if !details.needs_tls() {
            return self.inner.connect(details, chained);
        }
        let details = ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: self.config(),
            // The connector keeps what it made of a configuration that is an agent's.
            request_level: false,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.inner.connect(&details, chained)
    }
}

struct Ureq {
    agent: Agent,
    plan: Arc<LibraryPlan>,
    fetch: LibraryFetch,
    scratch: &'static mut [u8],
}

impl Ureq {
    fn run(&mut self, url: &[u8], start: Instant) -> Result<(), FetchFailure> {
        self.fetch.start(url)?;
        loop {
            CONNECTING.set(Connecting::NONE);
            self.plan.counters.requests_sent.increment();
            let exchanged = self.exchange(start);
            self.fetch.connect += CONNECTING.get().took;
            exchanged?;
            if !self.fetch.follow(&self.plan)? {
                return Ok(());
            }
            self.plan.counters.redirects_followed.increment();
        }
    }

    fn exchange(&mut self, start: Instant) -> Result<(), FetchFailure> {
        let (agent, plan, fetch) = (&self.agent, &self.plan, &mut self.fetch);
        let (target, headers) = fetch.request(plan)?;
        let mut request =
            Request::builder().method(&plan.method).uri(target.as_str()).body(()).map_err(
                |error| FetchFailure::protocol(format!("the URL cannot be fetched: {error}")),
            )?;
        *request.headers_mut() = headers.clone();
        // The agent's own limit holds for one request; redirects share it.
        let left = plan.timeout.saturating_sub(start.elapsed());
        let response = if fetch.chain.followed == 0 {
            agent.run(request)
        } else {
            let request = agent.configure_request(request);
            agent.run(request.timeout_global(Some(left)).build())
        };
        let response = response.map_err(|error| failure(plan, start, error))?;
        fetch.head(plan, Instant::now(), response.status(), response.headers())?;
        let mut body = response.into_body();
        let mut reader = body.as_reader();
        loop {
            match reader.read(self.scratch) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    if fetch.body(&self.scratch[..count])? {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failure(plan, start, Error::from(error))),
            }
        }
    }
}

impl BlockingClient for Ureq {
    fn fetch(&mut self, url: &[u8], start: Instant) -> Fetched {
        let result = self.run(url, start);
        self.fetch.conclude(result)
    }
}

/// What an error of the library is called here.
fn failure(plan: &LibraryPlan, start: Instant, error: Error) -> FetchFailure {
    let connect_passed =
        |outcome, stage| FetchFailure::connect_timed_out(outcome, stage, plan.connect_timeout);
    match error {
        // Whichever limit the library names, this one has passed.
        Error::Timeout(_) if start.elapsed() + TIMER_SLACK >= plan.timeout => {
            FetchFailure::timed_out(plan.timeout)
        }
        Error::Timeout(Timeout::Resolve) => connect_passed(Outcome::Dns, "resolving the name"),
        Error::Timeout(Timeout::Connect) => connect_passed(Outcome::Connect, "connecting"),
        Error::Timeout(_) => FetchFailure::timed_out(plan.timeout),
        Error::Other(error) => match error.downcast_ref::<LookupError>() {
            Some(error) => FetchFailure::new(error.outcome(), error.to_string()),
            None => FetchFailure::protocol(error.to_string()),
        },
        Error::HostNotFound => FetchFailure::new(Outcome::Dns, "the name has no address"),
        Error::Tls(_) | Error::Rustls(_) | Error::Pem(_) | Error::TlsRequired => {
            FetchFailure::new(Outcome::Tls, error.to_string())
        }
        Error::ConnectionFailed => FetchFailure::new(Outcome::Connect, error.to_string()),
        Error::Io(error) if tls_error(&error).is_some() => FetchFailure::in_handshake(&error),
        Error::Io(error) if CONNECTING.get().failed => FetchFailure::in_connect(&error),
        Error::Io(error) => FetchFailure::in_exchange(&error),
        error => FetchFailure::protocol(error.to_string()),
    }
}

impl<In: Transport, C: Connector<In>> Connector<In> for CountedConnector<C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let begin = Instant::now();
        let result = self.inner.connect(details, chained);
        if result.is_ok() {
            self.counters.connections_opened.increment();
        }
        Connecting::note(begin, result.is_err());
        result
    }
}

impl UreqResolver for LibraryResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let begin = Instant::now();
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let https = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let within = match timeout.after {
            time::Duration::Exact(duration) => duration,
            time::Duration::NotHappening => fanout_proto::limits::TIMEOUT_MAX,
        };
        let result = self.0.lookup_blocking(host, begin + within);
        Connecting::note(begin, result.is_err());
        let addresses = result.map_err(|error| match error {
            LookupError::TimedOut => Error::Timeout(timeout.reason),
            error => Error::Other(Box::new(error)),
        })?;
        let mut resolved = self.empty();
        for address in addresses.iter() {
            if resolved.try_push((*address, port).into()).is_err() {
                break;
            }
        }
        Ok(resolved)
    }
}
