//! Lookups over real sockets, for threads that may block and for the event loop.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout_at,
};

use super::{
    config::ResolverConfig,
    lookup::{Lookup, LookupError, LookupStep, Wait},
};

/// Largest datagram looked at; without EDNS a server sends 512 bytes at most.
const DATAGRAM_BYTES: usize = 1500;

pub(crate) fn blocking(
    config: &ResolverConfig,
    host: &str,
    deadline: Instant,
) -> Result<Vec<IpAddr>, LookupError> {
    let mut lookup = Lookup::new(config, host);
    loop {
        let result = match lookup.step() {
            LookupStep::Done(result) => return result,
            LookupStep::Datagrams { server, queries } => {
                blocking_datagrams(&mut lookup, server, &queries, until(config, deadline))
            }
            LookupStep::Stream { server, query } => {
                blocking_stream(&mut lookup, server, &query, until(config, deadline))
            }
        };
        note(&mut lookup, result, deadline)?;
    }
}

pub(crate) async fn on_loop(
    config: &ResolverConfig,
    host: &str,
    deadline: Instant,
) -> Result<Vec<IpAddr>, LookupError> {
    let mut lookup = Lookup::new(config, host);
    loop {
        let result = match lookup.step() {
            LookupStep::Done(result) => return result,
            LookupStep::Datagrams { server, queries } => {
                loop_datagrams(&mut lookup, server, &queries, until(config, deadline)).await
            }
            LookupStep::Stream { server, query } => {
                let asked = loop_stream(&mut lookup, server, &query);
                let answered = timeout_at(until(config, deadline).into(), asked).await;
                answered.unwrap_or_else(|elapsed| Err(elapsed.into()))
            }
        };
        note(&mut lookup, result, deadline)?;
    }
}

fn note(
    lookup: &mut Lookup<'_>,
    result: io::Result<()>,
    deadline: Instant,
) -> Result<(), LookupError> {
    if let Err(error) = result {
        if Instant::now() >= deadline {
            return Err(LookupError::TimedOut);
        }
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => lookup.fail("no answer in time"),
            _ => lookup.fail(&error.to_string()),
        }
    }
    Ok(())
}

fn until(config: &ResolverConfig, deadline: Instant) -> Instant {
    (Instant::now() + config.timeout).min(deadline)
}

/// Any port of any address of the server's family; the kernel picks the port at random.
fn any_of_family(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// The end of waiting, after an answer came that may be the last.
fn shortened(end: Instant, wait: Wait) -> Option<Instant> {
    match wait {
        Wait::On => Some(end),
        Wait::Briefly(longer) => Some(end.min(Instant::now() + longer)),
        Wait::Over => None,
    }
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn blocking_datagrams(
    lookup: &mut Lookup<'_>,
    server: SocketAddr,
    queries: &[Vec<u8>],
    end: Instant,
) -> io::Result<()> {
    let socket = UdpSocket::bind(any_of_family(server))?;
    // From here on, datagrams of others are dropped by the kernel.
    socket.connect(server)?;
    for query in queries {
        socket.send(query)?;
    }
    let mut datagram = [0; DATAGRAM_BYTES];
    let mut end = end;
    loop {
        socket.set_read_timeout(Some(left(end)?))?;
        let count = socket.recv(&mut datagram)?;
        match shortened(end, lookup.answer(&datagram[..count], false)) {
            Some(sooner) => end = sooner,
            None => return Ok(()),
        }
    }
}

fn blocking_stream(
    lookup: &mut Lookup<'_>,
    server: SocketAddr,
    query: &[u8],
    end: Instant,
) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, left(end)?)?;
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(&framed(query)?)?;
    let mut length = [0; 2];
    read_exact_until(&mut stream, &mut length, end)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    read_exact_until(&mut stream, &mut message, end)?;
    answer_of_stream(lookup, &message)
}

fn read_exact_until(stream: &mut TcpStream, mut into: &mut [u8], end: Instant) -> io::Result<()> {
    while !into.is_empty() {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(into)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => into = &mut into[count..],
        }
    }
    Ok(())
}

async fn loop_datagrams(
    lookup: &mut Lookup<'_>,
    server: SocketAddr,
    queries: &[Vec<u8>],
    end: Instant,
) -> io::Result<()> {
    let socket = tokio::net::UdpSocket::bind(any_of_family(server)).await?;
    socket.connect(server).await?;
    for query in queries {
        socket.send(query).await?;
    }
    let mut datagram = [0; DATAGRAM_BYTES];
    let mut end = end;
    loop {
        let count = timeout_at(end.into(), socket.recv(&mut datagram)).await??;
        match shortened(end, lookup.answer(&datagram[..count], false)) {
            Some(sooner) => end = sooner,
            None => return Ok(()),
        }
    }
}

async fn loop_stream(lookup: &mut Lookup<'_>, server: SocketAddr, query: &[u8]) -> io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(server).await?;
    stream.write_all(&framed(query)?).await?;
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    answer_of_stream(lookup, &message)
}

/// RFC 1035 section 4.2.2: over TCP a length stands before each message.
fn framed(query: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(query.len()).map_err(|_| ErrorKind::InvalidInput)?;
    Ok([&length.to_be_bytes(), query].concat())
}

fn answer_of_stream(lookup: &mut Lookup<'_>, message: &[u8]) -> io::Result<()> {
    // Of the two questions, the one that was answered in a datagram is settled:
    // so whatever this answered, nothing more is waited for on this stream.
    let before = lookup.truncated();
    lookup.answer(message, true);
    if lookup.truncated() == before {
        return Err(io::Error::new(ErrorKind::InvalidData, "an answer to another question"));
    }
    Ok(())
}
