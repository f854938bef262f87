//! A connection and the one step that moves an exchange on, however its driver waits.
//!
//! [`advance`] is all there is of reading and writing: it runs until the socket would block. A
//! blocking socket blocks inside and answers `WouldBlock` when its timeout passes; a socket of the
//! event loop answers it at once and wakes its task later.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use fanout_proto::completion::Outcome;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use crate::{
    exchange::{
        fetch::{ExchangeProgress, FetchPlan, FetchState},
        target::UrlOrigin,
    },
    fetch_failure::FetchFailure,
};

/// Idle for less than this, a connection is used without asking whether it
/// still lives: asking costs a system call, and a wrong guess only a retry.
const TRUSTED_IDLE: Duration = Duration::from_millis(1);

/// A socket that never waits longer than it was told.
pub(crate) trait Socket: Read + Write {
    /// So much time is left. For a socket that blocks.
    fn limit_wait(&mut self, _left: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// A socket that can be asked without waiting.
pub(crate) trait TrySocket {
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize>;
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

struct NonBlocking<'a, S>(&'a S);

impl<S: TrySocket> Read for NonBlocking<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl<S: TrySocket> Write for NonBlocking<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: TrySocket> Socket for NonBlocking<'_, S> {}

/// An established connection, with TLS or without.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    pub(crate) origin: UrlOrigin,
    pub(crate) socket: S,
    tls: Option<Box<ClientConnection>>,
    idle_since: Option<Instant>,
}

/// A request on its way and what came back so far.
pub(crate) struct Exchange<'a> {
    pub(crate) plan: &'a FetchPlan,
    pub(crate) fetch: &'a mut FetchState,
    pub(crate) request: &'a [u8],
    pub(crate) sent: usize,
    pub(crate) first_byte: Option<Instant>,
    pub(crate) deadline: Instant,
}

#[derive(Debug)]
pub(crate) enum Trouble {
    /// The connection broke or ended before any byte of a response.
    Lost(io::Error),
    TimedOut,
    Failed(FetchFailure),
}

impl From<FetchFailure> for Trouble {
    fn from(failure: FetchFailure) -> Self {
        Self::Failed(failure)
    }
}

impl<S> Connection<S> {
    pub(crate) fn plain(origin: UrlOrigin, socket: S) -> Self {
        Self { origin, socket, tls: None, idle_since: None }
    }

    /// A connection on which [`handshake`] is to follow.
    pub(crate) fn with_tls(
        origin: UrlOrigin,
        socket: S,
        config: &Arc<ClientConfig>,
    ) -> Result<Self, FetchFailure> {
        let failed =
            |error: &dyn std::fmt::Display| FetchFailure::new(Outcome::Tls, error.to_string());
        let name = ServerName::try_from(origin.host.to_string()).map_err(|e| failed(&e))?;
        let tls = ClientConnection::new(config.clone(), name).map_err(|e| failed(&e))?;
        Ok(Self { tls: Some(Box::new(tls)), ..Self::plain(origin, socket) })
    }

    /// The connection's parts, so that a socket can be wrapped while TLS is used.
    pub(crate) fn parts(&mut self) -> (&mut S, &mut Option<Box<ClientConnection>>) {
        (&mut self.socket, &mut self.tls)
    }

    pub(crate) fn was_idle(&self) -> bool {
        self.idle_since.is_some()
    }

    pub(crate) fn rest(&mut self, now: Instant) {
        self.idle_since = Some(now);
    }

    /// Whether it can still be used, as far as can be told without waiting:
    /// neither ended nor with bytes on it that were not asked for.
    pub(crate) fn is_alive(&mut self, now: Instant) -> bool
    where
        S: TrySocket,
    {
        if self.idle_since.is_some_and(|since| now.saturating_duration_since(since) <= TRUSTED_IDLE)
        {
            return true;
        }
        let mut byte = [0];
        matches!(
            read(&mut self.tls, &mut NonBlocking(&self.socket), &mut byte),
            Err(error) if error.kind() == ErrorKind::WouldBlock
        )
    }
}

/// Moves the TLS handshake on: true once it is done, false if the socket would block.
pub(crate) fn handshake(
    tls: &mut ClientConnection,
    socket: &mut impl Socket,
    deadline: Instant,
) -> io::Result<bool> {
    loop {
        match flush(tls, socket) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if !tls.is_handshaking() {
            return Ok(true);
        }
        match tls.read_tls(socket) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => process(tls, socket)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.limit_wait(left)?;
    }
}

/// Moves an exchange on: whether to keep the connection once the response is
/// dealt with, `None` if the socket would block.
pub(crate) fn advance(
    exchange: &mut Exchange<'_>,
    tls: &mut Option<Box<ClientConnection>>,
    socket: &mut impl Socket,
    scratch: &mut [u8],
) -> Result<Option<bool>, Trouble> {
    while exchange.sent < exchange.request.len() {
        match write(tls, socket, &exchange.request[exchange.sent..]) {
            Ok(0) => return Err(Trouble::Lost(ErrorKind::WriteZero.into())),
            Ok(count) => exchange.sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(lost(exchange, error)),
        }
    }
    loop {
        let count = match read(tls, socket, scratch) {
            Ok(0) if exchange.fetch.response.is_untouched() => {
                return Err(Trouble::Lost(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the server closed the connection before the response",
                )));
            }
            Ok(0) => {
                exchange.fetch.end(exchange.plan)?;
                return Ok(Some(false));
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(lost(exchange, error)),
        };
        let mut now = None;
        if exchange.fetch.response.awaits_first_byte() {
            now = Some(Instant::now());
            exchange.first_byte = now;
        }
        match exchange.fetch.receive(exchange.plan, &scratch[..count])? {
            ExchangeProgress::Over { keep } => return Ok(Some(keep && is_drained(tls))),
            ExchangeProgress::More => {
                // A server that sends a byte now and then must not win.
                let now = now.unwrap_or_else(Instant::now);
                let left = exchange.deadline.saturating_duration_since(now);
                if left.is_zero() {
                    return Err(Trouble::TimedOut);
                }
                socket.limit_wait(left).map_err(|error| FetchFailure::in_exchange(&error))?;
            }
        }
    }
}

fn lost(exchange: &Exchange<'_>, error: io::Error) -> Trouble {
    if exchange.fetch.response.is_untouched() {
        Trouble::Lost(error)
    } else {
        Trouble::Failed(FetchFailure::in_exchange(&error))
    }
}

/// Whether TLS holds no decrypted bytes that were not asked for.
fn is_drained(tls: &mut Option<Box<ClientConnection>>) -> bool {
    tls.as_mut().is_none_or(|tls| {
        tls.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() == 0)
    })
}

fn write(
    tls: &mut Option<Box<ClientConnection>>,
    socket: &mut impl Socket,
    bytes: &[u8],
) -> io::Result<usize> {
    let Some(tls) = tls else {
        return socket.write(bytes);
    };
    let taken = tls.writer().write(bytes)?;
    match flush(tls, socket) {
        // What was taken is TLS's to send; reading flushes again.
        Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => Ok(taken),
        result => result.map(|()| taken),
    }
}

fn read(
    tls: &mut Option<Box<ClientConnection>>,
    socket: &mut impl Socket,
    into: &mut [u8],
) -> io::Result<usize> {
    let Some(tls) = tls else {
        return socket.read(into);
    };
    loop {
        match tls.reader().read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
        match flush(tls, socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        tls.read_tls(socket)?;
        process(tls, socket)?;
    }
}

fn flush(tls: &mut ClientConnection, socket: &mut impl Socket) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn process(tls: &mut ClientConnection, socket: &mut impl Socket) -> io::Result<()> {
    if let Err(error) = tls.process_new_packets() {
        // The alert that tells the peer why, as far as it can be sent.
        let _ = flush(tls, socket);
        return Err(io::Error::new(ErrorKind::InvalidData, error));
    }
    Ok(())
}
