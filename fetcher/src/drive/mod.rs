//! The core client at work: exchanges driven over real sockets.

pub(crate) mod blocking;
mod connection;
pub(crate) mod event_loop;
mod idle;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use connection::{Connection, Trouble, TrySocket};
use fanout_proto::{completion::Outcome, setup::Setup};
use idle::IdleConnections;
use rustls::ClientConfig;

use crate::{
    counters::Counters,
    exchange::fetch::{FetchPlan, FetchState},
    exit_reason::SetupError,
    fetch_failure::FetchFailure,
    resolve::{LookupError, Resolver},
    tls,
    work_queue::Fetched,
};

/// Bytes read from a socket at a time, under every model.
pub(crate) const READ_BYTES: usize = 16 * 1024;

/// A read buffer for each slot, in one allocation that lives as long as the
/// process: pages that no slot reads into are never touched and so cost nothing.
pub(crate) fn read_buffers(slots: u32) -> impl FnMut() -> &'static mut [u8] {
    let slots = usize::try_from(slots).expect("at most 65,536");
    let mut buffers = vec![0; slots * READ_BYTES].leak().chunks_exact_mut(READ_BYTES);
    move || buffers.next().expect("a buffer for each slot")
}

/// What all slots of a fetcher with the core client share.
#[derive(Debug)]
pub(crate) struct Core {
    plan: FetchPlan,
    tls: Arc<ClientConfig>,
    resolver: Arc<Resolver>,
    counters: Arc<Counters>,
    timeout: Duration,
    connect_timeout: Duration,
    kept_per_slot: usize,
}

impl Core {
    pub(crate) fn new(
        setup: &Setup,
        kept_per_slot: usize,
        counters: Arc<Counters>,
    ) -> Result<Self, SetupError> {
        let http = &setup.http;
        Ok(Self {
            plan: FetchPlan::new(http)?,
            tls: Arc::new(tls::client_config(setup)?),
            resolver: Resolver::new(http, &counters),
            counters,
            timeout: http.timeout,
            connect_timeout: http.connect_timeout,
            kept_per_slot,
        })
    }

    /// When a URL that was taken up at `start` is given up.
    fn deadline(&self, start: Instant) -> Instant {
        start + self.timeout
    }

    fn timed_out(&self) -> FetchFailure {
        FetchFailure::timed_out(self.timeout)
    }
}

/// What a slot of the core client keeps from one exchange to the next.
struct CoreSlot<S> {
    core: Arc<Core>,
    fetch: FetchState,
    idle: IdleConnections<S>,
    may_reuse: bool,
}

impl<S: TrySocket> CoreSlot<S> {
    fn new(core: Arc<Core>) -> Self {
        Self {
            fetch: FetchState::new(&core.plan),
            idle: IdleConnections::new(core.kept_per_slot),
            may_reuse: true,
            core,
        }
    }

    fn start(&mut self, url: &[u8]) -> Result<(), FetchFailure> {
        self.may_reuse = true;
        self.fetch.start(url)
    }

    fn kept(&mut self, now: Instant) -> Option<Connection<S>> {
        if !self.may_reuse {
            return None;
        }
        self.idle.take_alive(self.fetch.target(), now)
    }

    /// Deals with the end of an exchange: whether another one is to follow.
    fn settle(
        &mut self,
        result: Result<bool, Trouble>,
        mut connection: Connection<S>,
        notes: &mut FetchNotes,
    ) -> Result<bool, FetchFailure> {
        let counters = &self.core.counters;
        match result {
            Ok(keep) => {
                let now = Instant::now();
                notes.end = Some(now);
                if keep {
                    connection.rest(now);
                    self.idle.put(connection);
                }
                self.may_reuse = true;
                let follows = self.fetch.follow(&self.core.plan)?;
                if follows {
                    counters.redirects_followed.increment();
                }
                Ok(follows)
            }
            // The server closed it while it was idle: not a failure.
            Err(Trouble::Lost(_)) if connection.was_idle() => {
                counters.stale_retries.increment();
                self.may_reuse = false;
                Ok(true)
            }
            Err(Trouble::Lost(error)) => Err(FetchFailure::in_exchange(&error)),
            Err(Trouble::TimedOut) => Err(self.core.timed_out()),
            Err(Trouble::Failed(failure)) => Err(failure),
        }
    }
}

/// The time limits of connecting: its own, and that of the whole exchange.
#[derive(Debug, Clone, Copy)]
struct ConnectLimits {
    own: Instant,
    whole: Instant,
}

impl ConnectLimits {
    fn new(core: &Core, now: Instant, whole: Instant) -> Self {
        Self { own: now + core.connect_timeout, whole }
    }

    fn end(self) -> Instant {
        self.own.min(self.whole)
    }

    /// What the end means, at this stage of connecting.
    fn passed(self, core: &Core, outcome: Outcome, stage: &'static str) -> FetchFailure {
        if self.whole <= self.own {
            core.timed_out()
        } else {
            FetchFailure::connect_timed_out(outcome, stage, core.connect_timeout)
        }
    }

    fn unresolved(self, core: &Core, error: &LookupError) -> FetchFailure {
        match error {
            LookupError::TimedOut => self.passed(core, Outcome::Dns, "resolving the name"),
            error => FetchFailure::new(error.outcome(), error.to_string()),
        }
    }

    /// What one of several addresses may take of the time that is left, so
    /// that one that does not answer leaves some to the others.
    fn share(self, now: Instant, addresses_left: usize) -> Duration {
        let left = self.end().saturating_duration_since(now);
        left / u32::try_from(addresses_left.max(1)).unwrap_or(u32::MAX)
    }
}

/// Notes of one URL's fetch that become its [`Fetched`].
#[derive(Debug, Default)]
struct FetchNotes {
    connect: Duration,
    first_byte: Option<Instant>,
    /// The end of the last exchange, if it came to one.
    end: Option<Instant>,
}

impl FetchNotes {
    fn conclude(self, fetch: &FetchState, result: Result<(), FetchFailure>) -> Fetched {
        Fetched {
            status: fetch.status,
            retry_after_s: fetch.retry_after_s,
            body_bytes: fetch.body_bytes(),
            connect: self.connect,
            first_byte: self.first_byte,
            ..Fetched::new(result, self.end.unwrap_or_else(Instant::now))
        }
    }
}
