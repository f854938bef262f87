//! A connection that was accepted.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Who is at the other end, and how to be rid of them; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct PeerInfo {
    address: SocketAddr,
    admitted: Arc<AtomicBool>,
    hang_up: CancellationToken,
}

impl PeerInfo {
    fn new(address: SocketAddr) -> Self {
        Self { address, admitted: Arc::default(), hang_up: CancellationToken::new() }
    }

    /// Of a connection that was not accepted here.
    pub(crate) fn elsewhere() -> Self {
        Self::new(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// The peer has shown that it may be here: its connection may stay.
    pub(crate) fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
    }

    /// Ends the connection at once, whatever is under way on it.
    pub(crate) fn hang_up(&self) {
        self.hang_up.cancel();
    }
}

/// A connection, from its first byte on. It ends by itself when no
/// call was admitted over it in time, and counts as a connection until then.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Read already, to be read again.
    head: Bytes,
    stream: TcpStream,
    info: PeerInfo,
    hung_up: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
}

impl Peer {
    /// A connection over which a call must be admitted within `patience`.
    pub(super) fn new(
        stream: TcpStream,
        address: SocketAddr,
        head: Bytes,
        patience: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let info = PeerInfo::new(address);
        Self {
            head,
            stream,
            hung_up: Box::pin(info.hang_up.clone().cancelled_owned()),
            deadline: Some(Box::pin(sleep(patience))),
            info,
            _permit: permit,
        }
    }

    pub(crate) fn info(&self) -> PeerInfo {
        self.info.clone()
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.hung_up.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if let Some(deadline) = &mut self.deadline {
            if self.info.admitted.load(Ordering::Relaxed) {
                self.deadline = None;
            } else if deadline.as_mut().poll(cx).is_ready() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        if self.head.has_remaining() {
            let length = self.head.len().min(buffer.remaining());
            buffer.put_slice(&self.head.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Peer {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info()
    }
}
