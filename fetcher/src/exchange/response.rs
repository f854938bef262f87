//! One response, received in pieces of any size.
//!
//! `httparse` splits a head into its fields; what they mean for the body is
//! decided here, as RFC 9112 has it (section 6.3), and held to limits. Plain
//! heads, which are nearly all, are read by [`plain_head`].

use std::mem::MaybeUninit;

use fanout_proto::{
    completion::Outcome,
    limits::{HEADER_MAX_BYTES, HEADERS_MAX},
    setup::Method,
};
use httparse::{Error, Header, ParserConfig, Status};

use super::{body::Coding, chunked::Chunked, course::is_redirect, plain_head, retry_after};
use crate::failure::Failure;

/// Interim (1xx) responses before the final one.
const INTERIM_MAX: u8 = 16;
/// Heads shorter than this are looked at with every piece, longer ones only at
/// a line's end: so a head that dribbles costs no quadratic time.
const EAGER_HEAD_BYTES: usize = 1024;

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
    /// How long a busy server asks to be left alone.
    pub(crate) retry_after_s: Option<u32>,
    /// The body's length, where it is known beforehand.
    pub(crate) length: Option<u64>,
}

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// All bytes were taken; there is more to come.
    More,
    /// The response is whole; so many of the bytes came after it.
    Over {
        /// Bytes that are none of this response.
        excess: usize,
    },
}

/// Receives one response: first [`Self::head`] until it is there, then [`Self::body`].
#[derive(Debug)]
pub(crate) struct Response {
    state: State,
    interim: u8,
    /// Bytes of blank lines before a status line.
    blank: usize,
}

#[derive(Debug)]
enum State {
    /// The head's bytes so far; empty when one piece holds it all.
    Head(Vec<u8>),
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Over,
}

impl Response {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head(Vec::new()),
            interim: 0,
            blank: 0,
        }
    }

    /// Whether no byte of this response, or of an interim one, has come.
    pub(crate) fn is_untouched(&self) -> bool {
        self.interim == 0 && self.blank == 0 && self.awaits_first_byte()
    }

    /// Whether the next byte is the first of the final response, as far as is known.
    pub(crate) fn awaits_first_byte(&self) -> bool {
        matches!(&self.state, State::Head(gathered) if gathered.is_empty())
    }

    /// Whether the head is not whole yet.
    pub(crate) fn awaits_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Bytes that are kept from one piece to the next.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.state {
            State::Head(gathered) => gathered.capacity(),
            _ => 0,
        }
    }

    /// Takes bytes of the head: it and the count of bytes taken once it is
    /// whole, `None` when all were taken and more are needed.
    pub(crate) fn head(
        &mut self,
        method: Method,
        bytes: &[u8],
    ) -> Result<Option<(Head, usize)>, Failure> {
        let State::Head(gathered) = &mut self.state else {
            return Err(Failure::protocol("a second head"));
        };
        let before = gathered.len();
        if before > 0 {
            gathered.extend_from_slice(bytes);
            if before > EAGER_HEAD_BYTES && !bytes.contains(&b'\n') {
                return check_head_length(gathered.len()).map(|()| None);
            }
        }
        let input = if before > 0 { &gathered[..] } else { bytes };
        let mut used = 0;
        let found = loop {
            // Dropped at once: gathered, they would be looked at again and again.
            let blank = blank_lines(&input[used..]);
            used += blank;
            self.blank += blank;
            check_head_length(self.blank)?;
            match parse(method, &input[used..])? {
                Parsed::Final(length, head, body) => {
                    check_head_length(length)?;
                    used += length;
                    break Some((head, body));
                }
                Parsed::Interim(length) => {
                    check_head_length(length)?;
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
                self.state = body;
                Ok(Some((head, used - before)))
            }
            None => {
                if before > 0 {
                    gathered.drain(..used);
                } else {
                    gathered.extend_from_slice(&bytes[used..]);
                }
                check_head_length(gathered.len()).map(|()| None)
            }
        }
    }

    /// Takes bytes of the body and hands its data on to `sink`. Also says
    /// that a response without a body is over.
    pub(crate) fn body(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Body, Failure> {
        match &mut self.state {
            State::Head(_) => Err(Failure::protocol("a body before its head")),
            State::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |l| l.min(bytes.len()));
                sink(&bytes[..taken])?;
                *left -= taken as u64;
                if *left > 0 {
                    return Ok(Body::More);
                }
                self.state = State::Over;
                Ok(Body::Over {
                    excess: bytes.len() - taken,
                })
            }
            State::UntilClose => {
                sink(bytes)?;
                Ok(Body::More)
            }
            State::Chunked(chunked) => {
                let progress = chunked.receive(bytes, &mut sink)?;
                if let Body::Over { .. } = progress {
                    self.state = State::Over;
                }
                Ok(progress)
            }
            State::Over => Ok(Body::Over {
                excess: bytes.len(),
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

/// The length of the blank lines at the start.
fn blank_lines(bytes: &[u8]) -> usize {
    let mut length = 0;
    loop {
        length += match &bytes[length..] {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return length,
        }
    }
}

enum Parsed {
    /// The final response: length of its head, what it says, what follows.
    Final(usize, Head, State),
    /// An interim response of this length.
    Interim(usize),
    Incomplete,
}

fn parse(method: Method, bytes: &[u8]) -> Result<Parsed, Failure> {
    if let Some((used, head)) = plain_head::read(method, bytes) {
        let state = match head.length {
            Some(length) if length > 0 => State::Length(length),
            _ => State::Over,
        };
        return Ok(Parsed::Final(used, head, state));
    }
    parse_any(method, bytes)
}

/// What is made of a final response's head without the shortcut for plain ones.
#[cfg(test)]
pub(crate) fn judge(method: Method, bytes: &[u8]) -> Result<Option<(usize, Head)>, Failure> {
    Ok(match parse_any(method, bytes)? {
        Parsed::Final(used, head, _) => Some((used, head)),
        Parsed::Interim(_) | Parsed::Incomplete => None,
    })
}

// Out of line for the sake of its caller's frame.
#[inline(never)]
fn parse_any(method: Method, bytes: &[u8]) -> Result<Parsed, Failure> {
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let used = match ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    ) {
        Ok(Status::Complete(used)) => used,
        Ok(Status::Partial) => return Ok(Parsed::Incomplete),
        Err(Error::TooManyHeaders) => {
            return Err(Failure::protocol(format!(
                "the response has more than {HEADERS_MAX} header fields"
            )));
        }
        Err(error) => return Err(Failure::protocol(format!("not HTTP/1.1: {error}"))),
    };
    let status = match response.code {
        Some(101) => {
            return Err(Failure::protocol("the server switched protocols unasked"));
        }
        Some(100..200) => return Ok(Parsed::Interim(used)),
        Some(status @ 200..) => status,
        Some(0..100) | None => return Err(Failure::protocol("a status below 100")),
    };
    let fields = Fields(response.headers);
    let old = response.version == Some(0);
    let state = framing(method, status, old, &fields)?;
    let length = match &state {
        State::Length(length) => Some(*length),
        State::Over => Some(0),
        _ => None,
    };
    let head = Head {
        status,
        persistent: !matches!(state, State::UntilClose) && persists(status, old, &fields),
        location: is_redirect(status)
            .then(|| fields.last("location").map(Into::into))
            .flatten(),
        coding: fields.last("content-encoding").and_then(Coding::from_field),
        retry_after_s: retry_after::seconds(status, |name| fields.last(name)),
        length,
    };
    Ok(Parsed::Final(used, head, state))
}

/// A head's fields; names are compared without regard to case.
struct Fields<'a>(&'a [Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    fn last(&self, name: &'static str) -> Option<&'a [u8]> {
        self.all(name).next_back()
    }

    fn has(&self, name: &'static str) -> bool {
        self.last(name).is_some()
    }

    /// The elements of a list (RFC 9110, section 5.6.1), empty ones left out.
    fn elements(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// The body's length, if it is named; all names of it must agree.
    fn length(&self) -> Result<Option<u64>, Failure> {
        let mut length = None;
        for element in self
            .all("content-length")
            .flat_map(|value| value.split(|byte| *byte == b','))
        {
            let here = plain_head::digits(element.trim_ascii())
                .ok_or_else(|| Failure::protocol("the Content-Length is no number"))?;
            if length.replace(here).is_some_and(|before| before != here) {
                return Err(Failure::protocol("two lengths that differ"));
            }
        }
        Ok(length)
    }
}

/// Where the body ends (RFC 9112, section 6.3).
fn framing(method: Method, status: u16, old: bool, fields: &Fields<'_>) -> Result<State, Failure> {
    if method == Method::Head || matches!(status, 204 | 304) {
        return Ok(State::Over);
    }
    if fields.has("transfer-encoding") {
        if old {
            return Err(Failure::protocol("a transfer coding in HTTP/1.0"));
        }
        // Whatever else was applied: only chunks tell where they end.
        let is_chunked = fields
            .elements("transfer-encoding")
            .next_back()
            .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
        return Ok(match is_chunked {
            true => State::Chunked(Chunked::new()),
            false => State::UntilClose,
        });
    }
    Ok(match fields.length()? {
        Some(length) => State::Length(length),
        None => State::UntilClose,
    })
}

/// Whether the connection can serve another request (RFC 9112, section 9.3),
/// and whether it should: not after two framings, which may be an attempt at
/// smuggling (section 6.3), nor after a 204 that announces a body all the same.
fn persists(status: u16, old: bool, fields: &Fields<'_>) -> bool {
    let has = |token: &[u8]| {
        fields
            .elements("connection")
            .any(|element| element.eq_ignore_ascii_case(token))
    };
    let chunked = fields.has("transfer-encoding");
    let ambiguous = match status {
        204 => chunked || fields.all("content-length").any(|length| length != b"0"),
        _ => chunked && fields.has("content-length"),
    };
    !ambiguous && !has(b"close") && (!old || has(b"keep-alive"))
}

fn check_head_length(length: usize) -> Result<(), Failure> {
    if length > HEADER_MAX_BYTES {
        return Err(Failure::protocol(format!(
            "the response's head is longer than {HEADER_MAX_BYTES} bytes"
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
            match response.body(piece, |bytes| {
                data.extend_from_slice(bytes);
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
    fn blank_lines_before_a_response_are_dropped_up_to_a_limit() {
        let mut response = Response::new();
        assert!(response.is_untouched());
        for _ in 0..HEADER_MAX_BYTES {
            assert_eq!(response.head(Method::Get, b"\n"), Ok(None));
            assert!(response.held_bytes() < 10 && !response.is_untouched());
        }
        assert!(response.head(Method::Get, b"\n").is_err());
    }

    #[test]
    fn a_head_has_its_own_length_whatever_came_before_it() {
        let long = |status: &str| {
            format!(
                "HTTP/1.1 {status}\r\na: {}\r\ncontent-length: 0\r\n\r\n",
                "b".repeat(HEADER_MAX_BYTES - 100)
            )
        };
        let text = long("103 x") + &long("200 OK");
        for piece in [1000, text.len()] {
            let pieces: Vec<_> = text.as_bytes().chunks(piece).collect();
            let whole = Some(Ok((200, Vec::new(), 0)));
            assert_eq!(receive(Method::Get, &pieces, false), whole);
        }
    }

    #[test]
    fn after_two_framings_or_a_204_that_announces_a_body_the_connection_is_given_up() {
        assert!(!keeps(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n"
        ));
        assert!(!keeps("HTTP/1.1 204 x\r\ncontent-length: 1\r\n\r\n"));
        assert!(!keeps(
            "HTTP/1.1 204 x\r\ntransfer-encoding: chunked\r\n\r\n"
        ));
        assert!(keeps("HTTP/1.1 204 x\r\ncontent-length: 0\r\n\r\n"));
        assert!(keeps("HTTP/1.1 304 x\r\ncontent-length: 1\r\n\r\n"));
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
            let bytes = text.as_bytes();
            let whole = receive(Method::Get, &[bytes], true);
            for at in 0..=bytes.len() {
                let (a, b) = bytes.split_at(at);
                assert_eq!(receive(Method::Get, &[a, b], true), whole, "{text} at {at}");
            }
            let single: Vec<_> = bytes.chunks(1).collect();
            assert_eq!(receive(Method::Get, &single, true), whole, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_response_or_an_error(
            prefix in prop::sample::select(&RESPONSES[..]),
            keep in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..100),
            cut in 1_usize..50,
        ) {
            let mut bytes = prefix.as_bytes()[..keep.index(prefix.len())].to_vec();
            bytes.extend_from_slice(&noise);
            let pieces: Vec<_> = bytes.chunks(cut).collect();
            let split = receive(Method::Get, &pieces, true);
            prop_assert_eq!(split, receive(Method::Get, &[&bytes], true));
        }
    }
}
