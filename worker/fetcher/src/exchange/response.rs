//! One response, received in pieces of any size.
//!
//! `ureq-proto` decides what a head means and where a body ends, but for the
//! plain heads that [`plain_head`] reads by itself; here its input is gathered
//! and held to limits.

use fanout_proto::{
    completion::Outcome,
    limits::{HEADER_MAX_BYTES, HEADERS_MAX},
    setup::Method,
};
use http::{HeaderMap, Request, Version, header};
use ureq_proto::{
    BodyMode,
    client::{Call, MAX_RESPONSE_HEADERS, RecvResponseResult, SendRequestResult, state},
};

use super::{body::Coding, course::is_redirect, plain_head};
use crate::failure::Failure;

const _: () = assert!(MAX_RESPONSE_HEADERS == HEADERS_MAX);

/// Interim (1xx) responses before the final one.
const INTERIM_MAX: u8 = 16;
/// A chunk's size line, or a line of trailers.
const CHUNK_LINE_MAX_BYTES: usize = 4096;
/// Octets of framing that one octet of a chunked body may cost: a size line
/// has at most 22, its data's end two.
const CHUNK_OVERHEAD_MAX: u64 = 32;
/// Heads shorter than this are looked at with every piece, longer ones only at
/// a line's end: so a head that dribbles costs no quadratic time.
const EAGER_HEAD_BYTES: usize = 1024;
/// Chunk data is unframed in steps that stay in the nearest cache.
const STEP_BYTES: usize = 2048;

/// What the head of a response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Whether the connection serves another request after this one.
    pub(crate) persistent: bool,
    /// Where a redirect leads, if the status is one's and it says so.
    pub(crate) location: Option<Box<[u8]>>,
    /// The content coding, if it is one that can be decoded.
    pub(crate) coding: Option<Coding>,
    /// The body's length, where it is known beforehand.
    pub(crate) length: Option<u64>,
}

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// All octets were taken; there is more to come.
    More,
    /// The response is whole; so many of the octets came after it.
    Over {
        /// Octets that are none of this response.
        excess: usize,
    },
}

/// Receives one response: first [`Self::head`] until it is there, then [`Self::body`].
#[derive(Debug)]
pub(crate) struct Response {
    state: State,
    interim: u8,
}

#[derive(Debug)]
enum State {
    /// The head's octets so far; empty when one piece holds it all.
    Head(Vec<u8>),
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
    Over,
}

struct Chunked {
    call: Call<state::RecvBody>,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    framing: u64,
    data: u64,
}

impl std::fmt::Debug for Chunked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunked")
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

impl Response {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head(Vec::new()),
            interim: 0,
        }
    }

    /// Whether no octet of this response, or of an interim one, has come.
    pub(crate) fn is_untouched(&self) -> bool {
        self.interim == 0 && self.awaits_first_octet()
    }

    /// Whether the next octet is the first of the final response, as far as is known.
    pub(crate) fn awaits_first_octet(&self) -> bool {
        matches!(&self.state, State::Head(gathered) if gathered.is_empty())
    }

    /// Whether the head is not whole yet.
    pub(crate) fn awaits_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Takes octets of the head: it and the count of octets taken once it is
    /// whole, `None` when all were taken and more are needed.
    pub(crate) fn head(
        &mut self,
        method: Method,
        octets: &[u8],
    ) -> Result<Option<(Head, usize)>, Failure> {
        let State::Head(gathered) = &mut self.state else {
            return Err(Failure::protocol("a second head"));
        };
        let before = gathered.len();
        if before > 0 {
            gathered.extend_from_slice(octets);
            if before > EAGER_HEAD_BYTES && !octets.contains(&b'\n') {
                return check_head_length(gathered.len()).map(|()| None);
            }
        }
        let input = if before > 0 { &gathered[..] } else { octets };
        let mut used = 0;
        let found = loop {
            match parse(method, &input[used..])? {
                Parsed::Final(length, head, body) => {
                    used += length;
                    break Some((head, body));
                }
                Parsed::Interim(length) => {
                    used += length;
                    self.interim += 1;
                    if self.interim > INTERIM_MAX {
                        return Err(Failure::protocol("interim responses without end"));
                    }
                }
                Parsed::Incomplete => break None,
            }
        };
        match found {
            Some((head, body)) => {
                check_head_length(used)?;
                self.state = body;
                Ok(Some((head, used - before)))
            }
            None => {
                if before > 0 {
                    gathered.drain(..used);
                } else {
                    gathered.extend_from_slice(&octets[used..]);
                }
                check_head_length(gathered.len()).map(|()| None)
            }
        }
    }

    /// Takes octets of the body and hands its data on to `sink`. Also says
    /// that a response without a body is over.
    pub(crate) fn body(
        &mut self,
        octets: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Body, Failure> {
        match &mut self.state {
            State::Head(_) => Err(Failure::protocol("a body before its head")),
            State::Length(left) => {
                let taken = usize::try_from(*left).map_or(octets.len(), |l| l.min(octets.len()));
                sink(&octets[..taken])?;
                *left -= taken as u64;
                if *left > 0 {
                    return Ok(Body::More);
                }
                self.state = State::Over;
                Ok(Body::Over {
                    excess: octets.len() - taken,
                })
            }
            State::UntilClose => {
                sink(octets)?;
                Ok(Body::More)
            }
            State::Chunked(chunked) => {
                let progress = chunked.receive(octets, &mut sink)?;
                if let Body::Over { .. } = progress {
                    self.state = State::Over;
                }
                Ok(progress)
            }
            State::Over => Ok(Body::Over {
                excess: octets.len(),
            }),
        }
    }

    /// The connection ended: the response is whole only where its end is the body's.
    pub(crate) fn end(&mut self, method: Method) -> Result<(), Failure> {
        let cut = match &self.state {
            State::Over | State::UntilClose => {
                self.state = State::Over;
                return Ok(());
            }
            State::Head(gathered) if gathered.is_empty() => "before the response",
            State::Head(gathered) => {
                // Whether it could have become a head at all.
                parse(method, gathered)?;
                "within the response's head"
            }
            State::Length(_) | State::Chunked(_) => "within the body",
        };
        Err(Failure::new(
            Outcome::Closed,
            format!("the server closed the connection {cut}"),
        ))
    }
}

impl Chunked {
    // Out of line for the sake of its caller's frame.
    #[inline(never)]
    fn receive(
        &mut self,
        octets: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Body, Failure> {
        let mut line = std::mem::take(&mut self.line);
        let gathered = !line.is_empty();
        if gathered {
            line.extend_from_slice(octets);
        }
        let mut rest = if gathered { &line[..] } else { octets };
        let mut data = [0; STEP_BYTES];
        loop {
            let (used, produced) = self.call.read(rest, &mut data).map_err(not_http)?;
            sink(&data[..produced])?;
            rest = &rest[used..];
            self.data += produced as u64;
            self.framing += (used - produced) as u64;
            if self.framing > HEADER_MAX_BYTES as u64 + self.data * CHUNK_OVERHEAD_MAX {
                return Err(Failure::protocol("the trailers are too long"));
            }
            if self.call.can_proceed() {
                return Ok(Body::Over { excess: rest.len() });
            }
            if used == 0 {
                break;
            }
        }
        if rest.len() > CHUNK_LINE_MAX_BYTES {
            return Err(Failure::protocol("a line of the chunked body is too long"));
        }
        self.line = rest.to_vec();
        Ok(Body::More)
    }
}

enum Parsed {
    /// The final response: length of its head, what it says, what follows.
    Final(usize, Head, State),
    /// An interim response of this length.
    Interim(usize),
    Incomplete,
}

fn parse(method: Method, octets: &[u8]) -> Result<Parsed, Failure> {
    if let Some((used, head)) = plain_head::read(method, octets) {
        let state = match head.length {
            Some(length) if length > 0 => State::Length(length),
            _ => State::Over,
        };
        return Ok(Parsed::Final(used, head, state));
    }
    parse_any(method, octets)
}

/// What `ureq-proto` makes of a final response's head.
#[cfg(test)]
pub(crate) fn judge(method: Method, octets: &[u8]) -> Result<Option<(usize, Head)>, Failure> {
    Ok(match parse_any(method, octets)? {
        Parsed::Final(used, head, _) => Some((used, head)),
        Parsed::Interim(_) | Parsed::Incomplete => None,
    })
}

// Out of line for the sake of its caller's frame.
#[inline(never)]
fn parse_any(method: Method, octets: &[u8]) -> Result<Parsed, Failure> {
    let mut call = parser(method).map_err(not_http)?;
    let (used, response) = call.try_response(octets, false).map_err(not_http)?;
    let Some(response) = response else {
        return Ok(if used > 0 {
            Parsed::Interim(used)
        } else {
            Parsed::Incomplete
        });
    };
    let status = response.status().as_u16();
    if status == 101 {
        return Err(Failure::protocol("the server switched protocols unasked"));
    }
    let mut persistent = persists(response.version(), response.headers());
    let (state, length) = match call.proceed() {
        Some(RecvResponseResult::RecvBody(call)) => match call.body_mode() {
            BodyMode::LengthDelimited(length) => (State::Length(length), Some(length)),
            BodyMode::Chunked => (
                State::Chunked(Box::new(Chunked {
                    call,
                    line: Vec::new(),
                    framing: 0,
                    data: 0,
                })),
                None,
            ),
            BodyMode::CloseDelimited => {
                persistent = false;
                (State::UntilClose, None)
            }
            BodyMode::NoBody => (State::Over, Some(0)),
        },
        Some(RecvResponseResult::Redirect(_) | RecvResponseResult::Cleanup(_)) | None => {
            (State::Over, Some(0))
        }
    };
    let field = |name| response.headers().get_all(name).iter().next_back();
    let head = Head {
        status,
        persistent,
        location: is_redirect(status)
            .then(|| field(header::LOCATION).map(|value| value.as_bytes().into()))
            .flatten(),
        coding: field(header::CONTENT_ENCODING)
            .and_then(|value| Coding::from_field(value.as_bytes())),
        length,
    };
    Ok(Parsed::Final(used, head, state))
}

/// A call that waits for its response. The request itself is written from a
/// template; of it, only the method matters to the response.
fn parser(method: Method) -> Result<Call<state::RecvResponse>, ureq_proto::Error> {
    let mut request = Request::new(());
    *request.method_mut() = match method {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
    };
    let mut call = Call::new(request)?.proceed();
    call.write(&mut [0; 32])?;
    match call.proceed()? {
        Some(SendRequestResult::RecvResponse(call)) => Ok(call),
        _ => Err(ureq_proto::Error::OutputOverflow),
    }
}

/// RFC 9112 section 9.3; and section 6.3: a message with both framings may be
/// an attempt at smuggling, after which the connection is closed.
fn persists(version: Version, headers: &HeaderMap) -> bool {
    let has = |token: &str| {
        headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|element| element.trim().eq_ignore_ascii_case(token))
    };
    let ambiguous = headers.contains_key(header::TRANSFER_ENCODING)
        && headers.contains_key(header::CONTENT_LENGTH);
    !ambiguous && !has("close") && (version == Version::HTTP_11 || has("keep-alive"))
}

fn not_http(error: ureq_proto::Error) -> Failure {
    Failure::protocol(error.to_string())
}

fn check_head_length(length: usize) -> Result<(), Failure> {
    if length > HEADER_MAX_BYTES {
        return Err(Failure::protocol(format!(
            "the response's head is longer than {HEADER_MAX_BYTES} octets"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Status, data of the body, and what came after it.
    type Verdict = Result<(u16, Vec<u8>, usize), Outcome>;

    fn receive(method: Method, pieces: &[&[u8]], closed: bool) -> Option<Verdict> {
        let mut response = Response::new();
        let mut status = None;
        let mut data = Vec::new();
        let mut excess = 0;
        let mut over = false;
        for piece in pieces {
            let mut piece = *piece;
            if over {
                excess += piece.len();
                continue;
            }
            if status.is_none() {
                match response.head(method, piece) {
                    Err(failure) => return Some(Err(failure.outcome)),
                    Ok(None) => continue,
                    Ok(Some((head, used))) => {
                        status = Some(head.status);
                        piece = &piece[used..];
                    }
                }
            }
            match response.body(piece, |octets| {
                data.extend_from_slice(octets);
                Ok(())
            }) {
                Err(failure) => return Some(Err(failure.outcome)),
                Ok(Body::More) => {}
                Ok(Body::Over { excess: rest }) => {
                    over = true;
                    excess += rest;
                }
            }
        }
        if !over && closed {
            if let Err(failure) = response.end(method) {
                return Some(Err(failure.outcome));
            }
            over = true;
        }
        over.then(|| Ok((status.unwrap(), data, excess)))
    }

    fn head(text: &str) -> Result<Head, Failure> {
        let mut response = Response::new();
        response
            .head(Method::Get, text.as_bytes())
            .map(|found| found.expect("a whole head").0)
    }

    fn keeps(text: &str) -> bool {
        head(text).unwrap().persistent
    }

    #[test]
    fn bodies_end_where_they_say() {
        let get = |text: &str| receive(Method::Get, &[text.as_bytes()], false);
        let whole = |status, data: &str| Some(Ok((status, data.as_bytes().to_vec(), 0)));
        assert_eq!(
            get("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"),
            whole(200, "ab")
        );
        assert_eq!(
            get("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            whole(200, "")
        );
        assert_eq!(get("HTTP/1.1 204 No Content\r\n\r\n"), whole(204, ""));
        assert_eq!(
            get("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
            whole(304, "")
        );
        assert_eq!(
            get(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x=y\r\na\r\n01\r\nb\r\n0\r\nt: u\r\n\r\n"
            ),
            whole(200, "ab")
        );
        assert_eq!(
            get(
                "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 \r\ncontent-length: 1\r\n\r\na"
            ),
            whole(404, "a")
        );
        assert_eq!(
            get("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabc"),
            Some(Ok((200, b"a".to_vec(), 2)))
        );
        assert_eq!(get("HTTP/1.1 200 OK\r\n\r\nab"), None);
        let head_only = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(receive(Method::Head, &[head_only], false), whole(200, ""));
    }

    #[test]
    fn an_early_end_is_told_from_the_end() {
        let closed = |text: &str| receive(Method::Get, &[text.as_bytes()], true).unwrap();
        assert_eq!(
            closed("HTTP/1.1 200 OK\r\n\r\nab"),
            Ok((200, b"ab".to_vec(), 0))
        );
        assert_eq!(
            closed("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"),
            Err(Outcome::Closed)
        );
        assert_eq!(
            closed("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"),
            Err(Outcome::Closed)
        );
        assert_eq!(closed("HTTP/1.1 200 OK\r\n"), Err(Outcome::Closed));
        assert_eq!(closed(""), Err(Outcome::Closed));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        let refused = |text: &str| receive(Method::Get, &[text.as_bytes()], true).unwrap();
        for text in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 099 x\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert_eq!(refused(text), Err(Outcome::Protocol), "{text}");
        }
    }

    #[test]
    fn limits_hold() {
        let refused = |text: String| {
            let pieces: Vec<_> = text.as_bytes().chunks(1000).collect();
            assert_eq!(
                receive(Method::Get, &pieces, false),
                Some(Err(Outcome::Protocol))
            );
        };
        refused(format!(
            "HTTP/1.1 200 OK\r\na: {}\r\n\r\n",
            "b".repeat(HEADER_MAX_BYTES)
        ));
        refused(format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "a: b\r\n".repeat(HEADERS_MAX + 1)
        ));
        refused("HTTP/1.1 102 x\r\n\r\n".repeat(17));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        refused(format!("{chunked}{}", "1".repeat(5000)));
        refused(format!("{chunked}0\r\n{}", "a: b\r\n".repeat(20_000)));
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        assert!(keeps("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n"));
        assert!(!keeps(
            "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 1\r\n\r\n"
        ));
        assert!(!keeps("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n"));
        assert!(keeps(
            "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 1\r\n\r\n"
        ));
        assert!(!keeps("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!keeps(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n"
        ));
    }

    #[test]
    fn only_redirects_lead_on() {
        let location = |status: u16| {
            head(&format!(
                "HTTP/1.1 {status} x\r\nlocation: /a\r\ncontent-length: 0\r\n\r\n"
            ))
            .unwrap()
            .location
        };
        for status in [301, 302, 303, 307, 308] {
            assert_eq!(location(status).as_deref(), Some(&b"/a"[..]));
        }
        for status in [200, 201, 300, 304, 305] {
            assert_eq!(location(status), None);
        }
    }

    const RESPONSES: [&str; 8] = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n\r\nhello",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nserver: s\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;e\r\n0123456789\r\n0\r\na: b\r\n\r\nrest",
        "HTTP/1.1 200 OK\r\n\r\nuntil the close",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        "HTTP/1.1 2x0 OK\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort",
        "nonsense",
    ];

    #[test]
    fn every_split_gives_the_same_verdict() {
        for text in RESPONSES {
            let octets = text.as_bytes();
            let whole = receive(Method::Get, &[octets], true);
            for at in 0..=octets.len() {
                let (a, b) = octets.split_at(at);
                assert_eq!(receive(Method::Get, &[a, b], true), whole, "{text} at {at}");
            }
            let single: Vec<_> = octets.chunks(1).collect();
            assert_eq!(receive(Method::Get, &single, true), whole, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_response_or_an_error(
            prefix in prop::sample::select(&RESPONSES[..]),
            keep in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..100),
            cut in 1_usize..50,
        ) {
            let mut octets = prefix.as_bytes()[..keep.index(prefix.len())].to_vec();
            octets.extend_from_slice(&noise);
            let pieces: Vec<_> = octets.chunks(cut).collect();
            let split = receive(Method::Get, &pieces, true);
            prop_assert_eq!(split, receive(Method::Get, &[&octets], true));
        }
    }
}
