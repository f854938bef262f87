//! From a listening socket to a connection that is served: accepting, handing out to the threads,
//! and the TLS handshake or what the client asked for instead of it.

use std::{
    convert::Infallible, future::poll_fn, io, net::TcpListener, os::fd::OwnedFd, sync::Arc,
    task::Poll, time::Instant,
};

use fanout_program::watch;
use rustix::{
    io::Errno,
    net::{SocketFlags, accept_with, listen, sockopt::set_tcp_nodelay},
};
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, unix::AsyncFd},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use crate::{
    connection,
    limits::{ACCEPT_PAUSE, BACKLOG, CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, STALL_MAX},
    thread::ServerThread,
    tls::{HandshakeReply, Identities},
};

pub(crate) type Listening<S = TcpListener> = (S, Option<Arc<Identities>>);

/// Makes a bound socket ready for [`accept`].
pub(crate) fn prepare(socket: &TcpListener) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Connections inherit this: the last piece of a body must not wait
    // for the acknowledgement of the one before.
    set_tcp_nodelay(socket, true)?;
    Ok(listen(socket, BACKLOG)?)
}

/// Accepts connections and hands them out to the threads in turn. Runs on the first of them.
pub(crate) async fn accept(
    listening: Vec<Listening>,
    threads: &[Arc<ServerThread>],
) -> io::Result<Infallible> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let watched = listening
        .into_iter()
        .map(|(socket, tls)| Ok((watch(socket.into())?, tls)))
        .collect::<io::Result<Vec<_>>>()?;
    let mut turns = threads.iter().cycle();
    let mut first = 0;
    loop {
        // Room before the connection: without any, it waits in the kernel.
        let permit =
            Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        first = (first + 1) % watched.len();
        match next_connection(&watched, first).await {
            Ok((socket, tls)) => {
                let thread = Arc::clone(turns.next().expect("there is a thread at least"));
                let handle = thread.handle.clone();
                handle.spawn(serve_connection(socket, tls, thread, permit));
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
                threads[0].timer.at(Instant::now() + ACCEPT_PAUSE).await;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The next connection on any socket; the one at `first` is asked first, so that none is starved.
async fn next_connection(
    listening: &[Listening<AsyncFd<OwnedFd>>],
    first: usize,
) -> Result<(OwnedFd, Option<Arc<Identities>>), Errno> {
    const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
    poll_fn(|cx| {
        let (before, after) = listening.split_at(first);
        for (socket, tls) in after.iter().chain(before) {
            while let Poll::Ready(ready) = socket.poll_read_ready(cx) {
                let Ok(mut ready) = ready else {
                    // The runtime shuts down, and this future with it.
                    return Poll::Ready(Err(Errno::CANCELED));
                };
                match accept_with(socket.get_ref(), FLAGS) {
                    Err(Errno::AGAIN) => ready.clear_ready(),
                    accepted => return Poll::Ready(accepted.map(|socket| (socket, tls.clone()))),
                }
            }
        }
        Poll::Pending
    })
    .await
}

/// One connection from its acceptance to its end; the permit is given back then.
async fn serve_connection(
    socket: OwnedFd,
    tls: Option<Arc<Identities>>,
    thread: Arc<ServerThread>,
    _permit: OwnedSemaphorePermit,
) {
    let stream = match TcpStream::from_std(socket.into()) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!("a connection could not be watched: {error}"),
    };
    let Some(tls) = tls else {
        return connection::serve(stream, &thread).await;
    };
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let shaken = match thread.timer.within(HANDSHAKE_TIMEOUT, hello).await {
        Some(Ok(start)) => match tls.reply(start.client_hello().server_name()) {
            HandshakeReply::Shake(config) => {
                let rest = start.into_stream(config);
                thread.timer.within(HANDSHAKE_TIMEOUT, rest).await
            }
            fault => {
                drop(thread.tally().connection());
                // Whatever comes of it, the client asked for it.
                let _ = reply_with_fault(start, &fault, &thread).await;
                return;
            }
        },
        Some(Err(error)) => Some(Err(error)),
        None => None,
    };
    match shaken {
        Some(Ok(stream)) => return connection::serve(stream, &thread).await,
        Some(Err(error)) => tracing::debug!("TLS handshake failed: {error}"),
        None => tracing::debug!("TLS handshake took too long"),
    }
    drop(thread.tally().connection());
}

/// Gives a client what it asked for instead of a handshake.
async fn reply_with_fault(
    start: StartHandshake<TcpStream>,
    fault: &HandshakeReply,
    thread: &ServerThread,
) -> io::Result<()> {
    let mut socket = start.io;
    match fault {
        HandshakeReply::Shake(_) | HandshakeReply::Close => Ok(()),
        HandshakeReply::Reset => socket.set_zero_linger(),
        HandshakeReply::Plain => {
            const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            let send = socket.write_all(NO_TLS);
            let sent = thread.timer.within(thread.idle_timeout, send);
            sent.await.unwrap_or(Ok(()))
        }
        HandshakeReply::Stall => {
            let gone = async {
                let mut bytes = [0; 256];
                while socket.read(&mut bytes).await? > 0 {}
                Ok(())
            };
            let stalled = thread.timer.within(STALL_MAX, gone);
            stalled.await.unwrap_or(Ok(()))
        }
    }
}
