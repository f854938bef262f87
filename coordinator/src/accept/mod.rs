//! Which peers may connect, before what they say is looked at.
//!
//! The number of connections is bounded, below the process's limit of open files. A connection
//! shows within a deadline that it speaks what the port speaks, and is told in its own protocol if
//! it does not; over one that does, a call must be admitted within another deadline. A refused peer
//! is logged once, and then now and then with a count.

mod detect;
mod peer;
mod refusals;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub(crate) use detect::Speaks;
use detect::{DETECT_BYTES, Protocol};
pub(crate) use peer::{Peer, PeerInfo};
use refusals::AGAIN_AFTER;
pub(crate) use refusals::RefusalLog;

/// A connection's first bytes come within this time.
const DETECT_DEADLINE: Duration = Duration::from_secs(10);
/// A refused peer has this long to take its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes of a refused peer that are read, so that its answer is not lost to a reset.
const ANSWER_READ_BYTES: u64 = 64 * 1024;
/// Open files that are needed for other things than connections.
const FILES_RESERVED: u64 = 256;
/// After the system could not give another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) speaks: Speaks,
    /// Connections at a time, as far as the limit of open files allows.
    pub(crate) connections_max: usize,
    pub(crate) admit_within: Duration,
}

pub(crate) async fn accept_connections(
    listener: TcpListener,
    rules: Rules,
    inside: mpsc::Sender<Peer>,
    refusals: RefusalLog,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(within_open_files(rules.connections_max)));
    let mut checks = JoinSet::new();
    let mut ticks = interval(AGAIN_AFTER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            () = inside.closed() => break,
            Some(_) = checks.join_next() => continue,
            _ = ticks.tick() => {
                refusals.tell_due();
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            // Of a peer that is gone, or for want of descriptors or memory:
            // those come back when others leave.
            Err(error) => {
                debug!(%error, "no connection accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            refusals.note(address.ip(), "too many connections", "");
            continue;
        };
        let (inside, refusals) = (inside.clone(), refusals.clone());
        checks.spawn(async move {
            match check(stream, address, rules, permit).await {
                // Fails only when the server ends.
                Ok(peer) => drop(inside.send(peer).await),
                Err(NotAccepted::Gone) => {}
                Err(NotAccepted::Because(reason)) => refusals.note(address.ip(), reason, ""),
            }
        });
    }
}

enum NotAccepted {
    /// It left before it said anything: a probe of the port.
    Gone,
    Because(&'static str),
}

async fn check(
    mut stream: TcpStream,
    address: SocketAddr,
    rules: Rules,
    permit: OwnedSemaphorePermit,
) -> Result<Peer, NotAccepted> {
    // What is written is a whole message.
    let _ = stream.set_nodelay(true);
    let opened = timeout(DETECT_DEADLINE, read_protocol(&mut stream)).await;
    let (protocol, head) = opened
        .map_err(|_| NotAccepted::Because("nothing came in time"))?
        .map_err(|_| NotAccepted::Gone)?;
    if let Err(reason) = rules.speaks.check(protocol) {
        let answer = rules.speaks.answer(protocol);
        // A peer that does not take its answer needs none.
        let _ = timeout(ANSWER_DEADLINE, refuse(stream, &answer)).await;
        return Err(NotAccepted::Because(reason));
    }
    Ok(Peer::new(stream, address, head, rules.admit_within, permit))
}

async fn read_protocol(stream: &mut TcpStream) -> io::Result<(Protocol, Bytes)> {
    let mut head = BytesMut::with_capacity(DETECT_BYTES);
    loop {
        let mut rest = (&mut *stream).take((DETECT_BYTES - head.len()) as u64);
        if rest.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(protocol) = Protocol::of(&head) {
            return Ok((protocol, head.freeze()));
        }
    }
}

async fn refuse(mut stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(ANSWER_READ_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Raises the limit of open files as far as it goes, and keeps below it.
fn within_open_files(wanted: usize) -> usize {
    // Each worker and each client holds a connection.
    fanout_program::raise_file_limit();
    let Some(files) = getrlimit(Resource::Nofile).current else {
        return wanted;
    };
    let room = usize::try_from(files.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX);
    wanted.min(room.max(16))
}
