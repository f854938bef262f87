//! The core client over the event loop's sockets: its task waits.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, ErrorKind, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use fanout_proto::completion::Outcome;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep_until, timeout_at},
};

use super::{
    ConnectLimits, Core, CoreSlot, FetchNotes, READ_BYTES,
    connection::{self, Connection, Exchange, Socket, Trouble, TrySocket, advance},
};
use crate::{
    client::AsyncClient, exchange::fetch::FetchState, fetch_failure::FetchFailure,
    work_queue::Fetched,
};

thread_local! {
    /// One read buffer for a whole loop: it is empty again after every step.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
    /// Where requests are laid out; what a socket does not take at once is copied to its slot.
    static REQUEST: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(crate) struct AsyncCore {
    slot: CoreSlot<TcpStream>,
    /// The slot's own timer, set anew for every URL: that is cheap as long as it never fires.
    timer: Pin<Box<Sleep>>,
}

impl AsyncCore {
    /// Must be called inside the runtime.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { slot: CoreSlot::new(core), timer: Box::pin(sleep_until(Instant::now().into())) }
    }

    async fn run(
        &mut self,
        url: &[u8],
        start: Instant,
        notes: &mut FetchNotes,
    ) -> Result<(), FetchFailure> {
        let deadline = self.slot.core.deadline(start);
        self.timer.as_mut().reset(deadline.into());
        self.slot.start(url)?;
        loop {
            notes.end = None;
            let mut connection = match self.slot.kept(start) {
                Some(connection) => connection,
                // Boxed, for it is rare and would make every slot's task larger.
                None => Box::pin(self.connect(deadline, notes)).await?,
            };
            self.slot.core.counters.requests_sent.increment();
            let result = self.exchange(&mut connection, deadline, notes).await;
            if !self.slot.settle(result, connection, notes)? {
                return Ok(());
            }
        }
    }

    async fn exchange(
        &mut self,
        connection: &mut Connection<TcpStream>,
        deadline: Instant,
        notes: &mut FetchNotes,
    ) -> Result<bool, Trouble> {
        let Self { slot, timer } = self;
        let CoreSlot { core, fetch, .. } = slot;
        // What a socket did not take of the request at once.
        let mut unsent: Option<Box<[u8]>> = None;
        let mut begun = false;
        poll_fn(|cx| {
            let (stream, tls) = connection.parts();
            let mut socket = Polled { stream, cx };
            let mut step = |request: &[u8], fetch: &mut FetchState| {
                let mut exchange = Exchange {
                    plan: &core.plan,
                    fetch,
                    request,
                    sent: 0,
                    first_byte: notes.first_byte,
                    deadline,
                };
                let progress = SCRATCH
                    .with_borrow_mut(|scratch| advance(&mut exchange, tls, &mut socket, scratch));
                notes.first_byte = exchange.first_byte;
                (progress, exchange.sent)
            };
            let progress = if begun {
                let request = unsent.take().unwrap_or_default();
                let (progress, sent) = step(&request, fetch);
                keep_unsent(&mut unsent, &request, sent);
                progress
            } else {
                begun = true;
                REQUEST.with_borrow_mut(|request| {
                    request.clear();
                    fetch.request(&core.plan, request);
                    let (progress, sent) = step(request, fetch);
                    keep_unsent(&mut unsent, request, sent);
                    progress
                })
            };
            match progress {
                Err(trouble) => Poll::Ready(Err(trouble)),
                Ok(Some(keep)) => Poll::Ready(Ok(keep)),
                Ok(None) if timer.as_mut().poll(cx).is_ready() => {
                    Poll::Ready(Err(Trouble::TimedOut))
                }
                Ok(None) => Poll::Pending,
            }
        })
        .await
    }

    async fn connect(
        &mut self,
        deadline: Instant,
        notes: &mut FetchNotes,
    ) -> Result<Connection<TcpStream>, FetchFailure> {
        let begin = Instant::now();
        self.slot.idle.make_room();
        let limits = ConnectLimits::new(&self.slot.core, begin, deadline);
        let result = self.establish(limits).await;
        notes.connect += begin.elapsed();
        result
    }

    async fn establish(
        &mut self,
        limits: ConnectLimits,
    ) -> Result<Connection<TcpStream>, FetchFailure> {
        let core = &self.slot.core;
        let target = self.slot.fetch.target();
        let addresses = core
            .resolver
            .lookup(target.host(), limits.end())
            .await
            .map_err(|error| limits.unresolved(core, &error))?;
        let mut failure = FetchFailure::new(Outcome::Dns, "the name has no address");
        for (tried, address) in addresses.iter().enumerate() {
            let now = Instant::now();
            let share = limits.share(now, addresses.len() - tried);
            if share.is_zero() {
                return Err(limits.passed(core, Outcome::Connect, "connecting"));
            }
            match timeout_at((now + share).into(), TcpStream::connect((*address, target.port())))
                .await
            {
                Ok(Ok(stream)) => {
                    core.counters.connections_opened.increment();
                    stream.set_nodelay(true).map_err(|error| FetchFailure::in_connect(&error))?;
                    return self.secure(stream, limits).await;
                }
                Err(_) => {
                    failure = limits.passed(core, Outcome::Connect, "connecting");
                }
                Ok(Err(error)) => {
                    failure = FetchFailure::in_connect(&error);
                    if failure.outcome == Outcome::Resource {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    async fn secure(
        &self,
        stream: TcpStream,
        limits: ConnectLimits,
    ) -> Result<Connection<TcpStream>, FetchFailure> {
        let target = self.slot.fetch.target();
        if !target.is_https() {
            return Ok(Connection::plain(target.origin(), stream));
        }
        let mut connection = Connection::with_tls(target.origin(), stream, &self.slot.core.tls)?;
        let shaken = poll_fn(|cx| match connection.parts() {
            (stream, Some(tls)) => {
                match connection::handshake(tls, &mut Polled { stream, cx }, limits.end()) {
                    Ok(true) => Poll::Ready(Ok(())),
                    Ok(false) => Poll::Pending,
                    Err(error) => Poll::Ready(Err(error)),
                }
            }
            (_, None) => Poll::Ready(Ok(())),
        });
        match timeout_at(limits.end().into(), shaken).await {
            Ok(result) => result.map_err(|error| FetchFailure::in_handshake(&error))?,
            Err(_) => {
                return Err(limits.passed(&self.slot.core, Outcome::Connect, "the TLS handshake"));
            }
        }
        Ok(connection)
    }
}

fn keep_unsent(unsent: &mut Option<Box<[u8]>>, request: &[u8], sent: usize) {
    if sent < request.len() {
        *unsent = Some(request[sent..].into());
    }
}

impl AsyncClient for AsyncCore {
    async fn fetch(&mut self, url: &[u8], start: Instant) -> Fetched {
        let mut notes = FetchNotes::default();
        let result = self.run(url, start, &mut notes).await;
        notes.conclude(&self.slot.fetch, result)
    }
}

/// A socket of the loop: what would block wakes the task instead.
struct Polled<'a, 'b, 'c> {
    stream: &'a mut TcpStream,
    cx: &'b mut Context<'c>,
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

impl Read for Polled<'_, '_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(into);
        or_would_block(Pin::new(&mut *self.stream).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Polled<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.stream).poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Polled<'_, '_, '_> {}

impl TrySocket for TcpStream {
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, into)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }
}
