//! The core client over blocking sockets: its thread waits.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use fanout_proto::completion::Outcome;
use rustix::net::{RecvFlags, SendFlags};

use super::{
    ConnectLimits, Core, CoreSlot, FetchNotes,
    connection::{self, Connection, Exchange, Socket, Trouble, TrySocket, advance},
};
use crate::{
    client::BlockingClient, fetch_failure::FetchFailure, watchdog::Watchdog, work_queue::Fetched,
};

pub(crate) struct BlockingCore {
    slot: CoreSlot<DeadlineStream>,
    request: Vec<u8>,
    scratch: &'static mut [u8],
    watchdog: Option<Watchdog>,
}

impl BlockingCore {
    pub(crate) fn new(
        core: Arc<Core>,
        scratch: &'static mut [u8],
        watchdog: Option<Watchdog>,
    ) -> Self {
        Self { slot: CoreSlot::new(core), request: Vec::new(), scratch, watchdog }
    }

    fn run(
        &mut self,
        url: &[u8],
        start: Instant,
        notes: &mut FetchNotes,
    ) -> Result<(), FetchFailure> {
        let deadline = self.slot.core.deadline(start);
        self.slot.start(url)?;
        loop {
            notes.end = None;
            let mut connection = match self.slot.kept(start) {
                Some(connection) => connection,
                None => self.connect(deadline, notes)?,
            };
            self.slot.core.counters.requests_sent.increment();
            let result = self.exchange(&mut connection, deadline, notes);
            if !self.slot.settle(result, connection, notes)? {
                return Ok(());
            }
        }
    }

    fn exchange(
        &mut self,
        connection: &mut Connection<DeadlineStream>,
        deadline: Instant,
        notes: &mut FetchNotes,
    ) -> Result<bool, Trouble> {
        self.request.clear();
        self.slot.fetch.request(&self.slot.core.plan, &mut self.request);
        let (socket, tls) = connection.parts();
        let mut exchange = Exchange {
            plan: &self.slot.core.plan,
            fetch: &mut self.slot.fetch,
            request: &self.request,
            sent: 0,
            first_byte: notes.first_byte,
            deadline,
        };
        loop {
            let progress = advance(&mut exchange, tls, socket, self.scratch);
            notes.first_byte = exchange.first_byte;
            match progress? {
                Some(keep) => return Ok(keep),
                None => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Trouble::TimedOut);
                    }
                    if let Some(watchdog) = self.watchdog {
                        watchdog.check();
                    }
                    socket.limit_wait(left).map_err(|error| FetchFailure::in_exchange(&error))?;
                }
            }
        }
    }

    // Out of line for the sake of its caller's frame.
    #[inline(never)]
    fn connect(
        &mut self,
        deadline: Instant,
        notes: &mut FetchNotes,
    ) -> Result<Connection<DeadlineStream>, FetchFailure> {
        let begin = Instant::now();
        self.slot.idle.make_room();
        let limits = ConnectLimits::new(&self.slot.core, begin, deadline);
        let result = self.establish(limits);
        notes.connect += begin.elapsed();
        result
    }

    fn establish(
        &mut self,
        limits: ConnectLimits,
    ) -> Result<Connection<DeadlineStream>, FetchFailure> {
        let core = &self.slot.core;
        let target = self.slot.fetch.target();
        let addresses = core
            .resolver
            .lookup_blocking(target.host(), limits.end())
            .map_err(|error| limits.unresolved(core, &error))?;
        let mut failure = FetchFailure::new(Outcome::Dns, "the name has no address");
        for (tried, address) in addresses.iter().enumerate() {
            let share = limits.share(Instant::now(), addresses.len() - tried);
            if share.is_zero() {
                return Err(limits.passed(core, Outcome::Connect, "connecting"));
            }
            match DeadlineStream::connect((*address, target.port()).into(), share, self.watchdog) {
                Ok(stream) => {
                    core.counters.connections_opened.increment();
                    return if target.is_https() {
                        self.secure(stream, limits)
                    } else {
                        Ok(Connection::plain(target.origin(), stream))
                    };
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    failure = limits.passed(core, Outcome::Connect, "connecting");
                }
                Err(error) => {
                    failure = FetchFailure::in_connect(&error);
                    if failure.outcome == Outcome::Resource {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    // Out of line for the sake of its caller's frame.
    #[inline(never)]
    fn secure(
        &self,
        stream: DeadlineStream,
        limits: ConnectLimits,
    ) -> Result<Connection<DeadlineStream>, FetchFailure> {
        let target = self.slot.fetch.target();
        let mut connection = Connection::with_tls(target.origin(), stream, &self.slot.core.tls)?;
        if let (socket, Some(tls)) = connection.parts() {
            loop {
                let left = limits.end().saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(limits.passed(
                        &self.slot.core,
                        Outcome::Connect,
                        "the TLS handshake",
                    ));
                }
                let failed = |error: io::Error| FetchFailure::in_handshake(&error);
                socket.limit_wait(left).map_err(failed)?;
                if connection::handshake(tls, socket, limits.end()).map_err(failed)? {
                    break;
                }
                if let Some(watchdog) = self.watchdog {
                    watchdog.check();
                }
            }
        }
        Ok(connection)
    }
}

impl BlockingClient for BlockingCore {
    fn fetch(&mut self, url: &[u8], start: Instant) -> Fetched {
        let mut notes = FetchNotes::default();
        let result = self.run(url, start, &mut notes);
        notes.conclude(&self.slot.fetch, result)
    }
}

/// A blocking socket whose timeout follows a deadline, with few system calls.
#[derive(Debug)]
pub(crate) struct DeadlineStream {
    stream: TcpStream,
    timeout: Duration,
    /// No longer timeout than this is ever set.
    most: Duration,
}

impl DeadlineStream {
    fn connect(to: SocketAddr, within: Duration, watchdog: Option<Watchdog>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, within)?;
        stream.set_nodelay(true)?;
        let most = watchdog.map_or(Duration::MAX, |_| Watchdog::INTERVAL);
        let timeout = within.min(most).max(SHORTEST_WAIT);
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, timeout, most })
    }
}

/// A receive timeout of 0 would mean none.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// A wait may end so much later than its deadline.
const TOLERANCE: Duration = Duration::from_millis(5);

/// The timeout to set when `set` is the one in force; `None` to leave it.
///
/// It may be too long by a sixteenth of what is left: so a body in many pieces
/// costs few system calls, and yet no wait outlives its deadline by more than
/// [`TOLERANCE`], for the sixteenth shrinks with it.
fn timeout_to_set(set: Duration, left: Duration, most: Duration) -> Option<Duration> {
    let wanted = left.min(most).max(SHORTEST_WAIT);
    let too_long = set > wanted + (wanted / 16).max(TOLERANCE);
    let too_short = set < wanted / 2;
    (too_long || too_short).then_some(wanted)
}

impl Socket for DeadlineStream {
    fn limit_wait(&mut self, left: Duration) -> io::Result<()> {
        if let Some(timeout) = timeout_to_set(self.timeout, left, self.most) {
            self.stream.set_read_timeout(Some(timeout))?;
            self.stream.set_write_timeout(Some(timeout))?;
            self.timeout = timeout;
        }
        Ok(())
    }
}

impl Read for DeadlineStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.read(into)
    }
}

impl Write for DeadlineStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TrySocket for DeadlineStream {
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let (_, count) = rustix::net::recv(&self.stream, into, RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(rustix::net::send(&self.stream, bytes, flags)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_wait_outlives_its_deadline_and_few_calls_are_made(
            start_ms in 1_u64..100_000,
            steps in prop::collection::vec(0_u64..2000, 1..200),
            most_ms in 1_u64..5000,
        ) {
            let most = Duration::from_millis(most_ms);
            let mut set = Duration::from_millis(start_ms).min(most);
            let mut left = Duration::from_millis(start_ms);
            for step in steps {
                left = left.saturating_sub(Duration::from_millis(step));
                if let Some(timeout) = timeout_to_set(set, left, most) {
                    set = timeout;
                    prop_assert_eq!(timeout_to_set(set, left, most), None);
                }
                prop_assert!(!set.is_zero());
                prop_assert!(set <= most.max(SHORTEST_WAIT) + most / 16 + TOLERANCE);
                prop_assert!(set <= left + (left / 16).max(TOLERANCE) + SHORTEST_WAIT);
            }
        }
    }
}
