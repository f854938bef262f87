//! One connection: reads requests, has them decided, sends what was rendered.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;

use crate::{
    cursor::{SLICES_MAX, SendCursor},
    decide::{Decision, decide},
    limits::{LINGER_MAX, READ_BUFFER_BYTES, REQUEST_HEAD_MAX_BYTES, STALL_MAX, WRITE_MAX_BYTES},
    request::{Intake, RequestMode},
    response::{After, RenderedResponse},
    stats::Tally,
    thread::ServerThread,
    timer::Sleep,
};

/// What a connection runs over: TCP, or TLS over TCP.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Transport for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves one connection to its end. How it ended is not reported: a client
/// may go away whenever it likes, and what it got is counted.
pub(crate) async fn serve<T: Transport>(transport: T, thread: &ServerThread) {
    let mut connection = ServedConnection {
        transport,
        thread,
        tally: thread.tally(),
        input: BytesMut::with_capacity(READ_BUFFER_BYTES),
        response: RenderedResponse::new(),
        idle: IdleTimeout::new(thread),
    };
    // The error is the client's doing, or a timeout.
    let _ = connection.run().await;
}

struct ServedConnection<'t, T> {
    transport: T,
    thread: &'t ServerThread,
    tally: Tally<'t>,
    input: BytesMut,
    response: RenderedResponse,
    idle: IdleTimeout<'t>,
}

impl<T: Transport> ServedConnection<'_, T> {
    async fn run(&mut self) -> io::Result<()> {
        let mut counted = self.tally.connection();
        let mut reused = false;
        loop {
            let decision = self.next_decision(reused).await.inspect_err(|error| {
                if error.kind() == io::ErrorKind::TimedOut {
                    counted.closed_here();
                }
            })?;
            // Counted until the response, and the connection if that ends with it, is done with.
            let _open = match decision {
                Decision::ReadOn => return Ok(()),
                Decision::Respond { intake, delay } => {
                    let open = counted.request();
                    self.respond(intake, delay).await?;
                    Some(open)
                }
                Decision::Stats { intake, reset, mode } => {
                    counted.stats_request();
                    self.take_in(intake).await?;
                    self.respond_with_stats(reset, mode).await?;
                    None
                }
            };
            match self.response.after {
                After::KeepAlive => reused = true,
                end => {
                    counted.closed_here();
                    return self.end(end).await;
                }
            }
        }
    }

    /// Reads until there is something to decide; [`Decision::ReadOn`] if the client closes before.
    async fn next_decision(&mut self, reused: bool) -> io::Result<Decision> {
        self.idle.restart();
        let mut worth_parsing = !self.input.is_empty();
        loop {
            if worth_parsing {
                let (seed, visits) = (self.thread.seed, &self.thread.counters.visits);
                match decide(&self.input, seed, reused, visits, &mut self.response) {
                    Decision::ReadOn => {}
                    decision => return Ok(decision),
                }
            }
            let before = self.input.len();
            if self.read().await? == 0 {
                return Ok(Decision::ReadOn);
            }
            // A head ends in a line end, so that one that comes byte by
            // byte is not parsed from its start for each of them.
            worth_parsing =
                self.input[before..].contains(&b'\n') || self.input.len() >= REQUEST_HEAD_MAX_BYTES;
        }
    }

    async fn respond(&mut self, intake: Intake, delay: Option<Duration>) -> io::Result<()> {
        // Only a response that is held back needs to know the time.
        let arrived = delay.map(|delay| (delay, Instant::now()));
        self.take_in(intake).await?;
        if let Some((delay, arrived)) = arrived {
            self.thread.timer.at(arrived + delay).await;
            self.tally.delay(delay, arrived.elapsed());
        }
        // Counted before it is sent, so that a client that has it and asks
        // for the counters finds it there.
        if let Some(status) = self.response.status {
            self.tally.response(status);
        }
        self.send().await?;
        self.tally.body(self.response.body_bytes);
        Ok(())
    }

    async fn respond_with_stats(&mut self, reset: bool, mode: RequestMode) -> io::Result<()> {
        let stats = self.thread.counters.snapshot();
        if reset {
            self.thread.counters.reset();
        }
        let mut body = serde_json::to_vec(&stats)?;
        body.push(b'\n');
        self.response.render_own(200, "application/json", &body, mode);
        self.send_at_once(&mut SendCursor::default()).await
    }

    /// Takes the request out of the buffer, and its body from the client.
    async fn take_in(&mut self, intake: Intake) -> io::Result<()> {
        self.input.advance(intake.head_length);
        if intake.body_length == 0 {
            return Ok(());
        }
        if intake.expects_continue && self.input.is_empty() {
            const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.idle.restart();
            let mut left = GO_ON;
            while !left.is_empty() {
                let (transport, idle) = (&mut self.transport, &mut self.idle);
                let slices = [IoSlice::new(left)];
                left = &left[poll_fn(|cx| poll_write(transport, idle, &slices, cx)).await?..];
            }
            self.flush().await?;
        }
        let mut left = intake.body_length;
        loop {
            let here = self.input.len();
            let part = usize::try_from(left).map_or(here, |left| left.min(here));
            self.input.advance(part);
            left -= u64::try_from(part).expect("at most what is left");
            if left == 0 {
                return Ok(());
            }
            self.idle.restart();
            if self.read().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        let mut cursor = SendCursor::default();
        let result = match self.response.pace {
            None => self.send_at_once(&mut cursor).await,
            Some(_) => self.send_paced(&mut cursor).await,
        };
        self.tally.sent(cursor.sent());
        result
    }

    async fn send_at_once(&mut self, cursor: &mut SendCursor) -> io::Result<()> {
        while !cursor.at_end(&self.response) {
            self.send_some(cursor, WRITE_MAX_BYTES).await?;
        }
        self.flush().await
    }

    async fn send_paced(&mut self, cursor: &mut SendCursor) -> io::Result<()> {
        let mut due = None;
        while !cursor.at_end(&self.response) {
            let stride = self.response.stride(cursor.sent());
            if let Some(interval) = stride.interval {
                let next = due.map_or_else(Instant::now, |last| last + interval);
                self.thread.timer.at(next).await;
                due = Some(next);
            }
            self.send_some(cursor, stride.bytes).await?;
            // Each stride leaves on its own, over TLS too, and a response
            // that is sent byte by byte does not hold up other connections.
            self.flush().await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn send_some(&mut self, cursor: &mut SendCursor, limit: u64) -> io::Result<()> {
        self.idle.restart();
        let (transport, response, idle) = (&mut self.transport, &self.response, &mut self.idle);
        let count = poll_fn(|cx| {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = cursor.gather(response, limit, &mut slices);
            poll_write(transport, idle, &slices[..used], cx)
        })
        .await?;
        cursor.advance(&self.response, count);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let (transport, idle) = (&mut self.transport, &mut self.idle);
        poll_fn(|cx| idle.bound(Pin::new(&mut *transport).poll_flush(cx), cx)).await
    }

    async fn read(&mut self) -> io::Result<usize> {
        let (transport, idle, input) = (&mut self.transport, &mut self.idle, &mut self.input);
        // Room that a usual request does not fill: a read that leaves some tells
        // the runtime that the socket is empty, and saves asking it again.
        input.reserve(READ_BUFFER_BYTES);
        poll_fn(|cx| idle.bound(poll_read_buf(Pin::new(&mut *transport), cx, input), cx)).await
    }

    async fn end(&mut self, how: After) -> io::Result<()> {
        match how {
            After::KeepAlive | After::CutOff => Ok(()),
            After::Close => self.shutdown().await,
            After::Reset => self.transport.socket().set_zero_linger(),
            After::Refuse => {
                self.shutdown().await?;
                self.read_away(LINGER_MAX).await
            }
            After::Stall => self.read_away(STALL_MAX).await,
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        let (transport, idle) = (&mut self.transport, &mut self.idle);
        poll_fn(|cx| idle.bound(Pin::new(&mut *transport).poll_shutdown(cx), cx)).await
    }

    /// Reads and forgets until the client closes, or for `limit`.
    async fn read_away(&mut self, limit: Duration) -> io::Result<()> {
        let (transport, input) = (&mut self.transport, &mut self.input);
        let to_the_end = async {
            loop {
                input.clear();
                input.reserve(READ_BUFFER_BYTES);
                if transport.read_buf(input).await? == 0 {
                    return Ok(());
                }
            }
        };
        let ended = self.thread.timer.within(limit, to_the_end);
        ended.await.unwrap_or(Ok(()))
    }
}

/// Writes what it can, or gives up a client that takes nothing for too long.
fn poll_write<T: Transport>(
    transport: &mut T,
    idle: &mut IdleTimeout<'_>,
    slices: &[IoSlice<'_>],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let transport = Pin::new(transport);
    let written = match slices {
        // One slice goes by the cheaper call.
        [one] => transport.poll_write(cx, one),
        many => transport.poll_write_vectored(cx, many),
    };
    match written {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => idle.bound(written, cx),
    }
}

/// Ends a connection that makes no progress. One wait serves for the whole connection: it is looked
/// at only when it ends, and then put off for as long as there was progress meanwhile.
struct IdleTimeout<'t> {
    sleep: Sleep<'t>,
    limit: Duration,
    since: Instant,
}

impl<'t> IdleTimeout<'t> {
    fn new(thread: &'t ServerThread) -> Self {
        let since = Instant::now();
        Self {
            sleep: thread.timer.at(since + thread.idle_timeout),
            limit: thread.idle_timeout,
            since,
        }
    }

    fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// The progress that was polled, or the error that ends the connection.
    fn bound<R>(
        &mut self,
        progress: Poll<io::Result<R>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        if progress.is_ready() {
            return progress;
        }
        loop {
            ready!(Pin::new(&mut self.sleep).poll(cx));
            let deadline = self.since + self.limit;
            if Instant::now() >= deadline {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.sleep.reset(deadline);
        }
    }
}
