//! One response, received in pieces of any size and held to limits.

use fanout_proto::{completion::Outcome, limits::HEADER_MAX_BYTES, setup::Method};

use super::{
    body::BodyProgress,
    chunked::Chunked,
    head::{self, BodyEnd, Head, ParsedHead},
};
use crate::fetch_failure::FetchFailure;

/// Interim (1xx) responses before the final one.
const INTERIM_MAX: u8 = 16;
/// Heads shorter than this are looked at with every piece, longer ones only at
/// a line's end: so a head that dribbles costs no quadratic time.
const EAGER_HEAD_BYTES: usize = 1024;

/// Receives one response: first [`Self::head`] until it is there, then [`Self::body`].
#[derive(Debug)]
pub(crate) struct Response {
    state: ResponseState,
    interim: u8,
    /// Bytes of blank lines before a status line.
    blank: usize,
}

#[derive(Debug)]
enum ResponseState {
    /// The head's bytes so far; empty when one piece holds it all.
    Head(Vec<u8>),
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Over,
}

impl Response {
    pub(crate) fn new() -> Self {
        Self { state: ResponseState::Head(Vec::new()), interim: 0, blank: 0 }
    }

    /// Whether no byte of this response, or of an interim one, has come: on a
    /// kept connection that ended, the request may then be sent on a new one.
    pub(crate) fn is_untouched(&self) -> bool {
        self.interim == 0 && self.blank == 0 && self.awaits_first_byte()
    }

    /// Whether the next byte is the first of the final response, as far as is known.
    pub(crate) fn awaits_first_byte(&self) -> bool {
        matches!(&self.state, ResponseState::Head(gathered) if gathered.is_empty())
    }

    pub(crate) fn awaits_head(&self) -> bool {
        matches!(self.state, ResponseState::Head(_))
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.state {
            ResponseState::Head(gathered) => gathered.capacity(),
            _ => 0,
        }
    }

    /// Takes bytes of the head: it and the count of bytes taken once it is
    /// whole, `None` when all were taken and more are needed.
    pub(crate) fn head(
        &mut self,
        method: Method,
        bytes: &[u8],
    ) -> Result<Option<(Head, usize)>, FetchFailure> {
        let ResponseState::Head(gathered) = &mut self.state else {
            return Err(FetchFailure::protocol("a second head"));
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
            match head::parse(method, &input[used..])? {
                ParsedHead::Final(length, head) => {
                    check_head_length(length)?;
                    used += length;
                    break Some(head);
                }
                ParsedHead::Interim(length) => {
                    check_head_length(length)?;
                    used += length;
                    self.interim += 1;
                    if self.interim > INTERIM_MAX {
                        return Err(FetchFailure::protocol("interim responses without end"));
                    }
                }
                ParsedHead::Incomplete => break None,
            }
        };
        match found {
            Some(head) => {
                self.state = match head.end {
                    BodyEnd::Length(0) => ResponseState::Over,
                    BodyEnd::Length(length) => ResponseState::Length(length),
                    BodyEnd::Chunks => ResponseState::Chunked(Chunked::default()),
                    BodyEnd::Close => ResponseState::UntilClose,
                };
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
        mut sink: impl FnMut(&[u8]) -> Result<(), FetchFailure>,
    ) -> Result<BodyProgress, FetchFailure> {
        match &mut self.state {
            ResponseState::Head(_) => Err(FetchFailure::protocol("a body before its head")),
            ResponseState::Length(left) => {
                let taken = usize::try_from(*left).map_or(bytes.len(), |l| l.min(bytes.len()));
                sink(&bytes[..taken])?;
                *left -= taken as u64;
                if *left > 0 {
                    return Ok(BodyProgress::More);
                }
                self.state = ResponseState::Over;
                Ok(BodyProgress::Over { excess: bytes.len() - taken })
            }
            ResponseState::UntilClose => {
                sink(bytes)?;
                Ok(BodyProgress::More)
            }
            ResponseState::Chunked(chunked) => {
                let progress = chunked.receive(bytes, &mut sink)?;
                if let BodyProgress::Over { .. } = progress {
                    self.state = ResponseState::Over;
                }
                Ok(progress)
            }
            ResponseState::Over => Ok(BodyProgress::Over { excess: bytes.len() }),
        }
    }

    /// The connection ended: the response is whole only where its end is the body's.
    pub(crate) fn end(&mut self, method: Method) -> Result<(), FetchFailure> {
        let cut = match &self.state {
            ResponseState::Over | ResponseState::UntilClose => {
                self.state = ResponseState::Over;
                return Ok(());
            }
            ResponseState::Head(gathered) if gathered.is_empty() => "before the response",
            ResponseState::Head(gathered) => {
                // Whether it could have become a head at all.
                head::parse(method, gathered)?;
                "within the response's head"
            }
            ResponseState::Length(_) | ResponseState::Chunked(_) => "within the body",
        };
        Err(FetchFailure::new(Outcome::Closed, format!("the server closed the connection {cut}")))
    }
}

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

fn check_head_length(length: usize) -> Result<(), FetchFailure> {
    if length > HEADER_MAX_BYTES {
        return Err(FetchFailure::protocol(format!(
            "the response's head is longer than {HEADER_MAX_BYTES} bytes"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanout_proto::limits::HEADERS_MAX;
    use proptest::prelude::*;

    /// Status, data of the body, and what came after it.
    type ReceivedVerdict = Result<(u16, Vec<u8>, usize), Outcome>;

    fn receive(method: Method, pieces: &[&[u8]], closed: bool) -> Option<ReceivedVerdict> {
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
                Ok(BodyProgress::More) => {}
                Ok(BodyProgress::Over { excess: rest }) => {
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

    fn head(text: &str) -> Result<Head, FetchFailure> {
        let mut response = Response::new();
        response.head(Method::Get, text.as_bytes()).map(|found| found.expect("a whole head").0)
    }

    fn keeps(text: &str) -> bool {
        head(text).unwrap().persistent
    }

    #[test]
    fn bodies_end_where_they_say() {
        let get = |text: &str| receive(Method::Get, &[text.as_bytes()], false);
        let whole = |status, data: &str| Some(Ok((status, data.as_bytes().to_vec(), 0)));
        assert_eq!(get("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"), whole(200, "ab"));
        assert_eq!(get("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), whole(200, ""));
        assert_eq!(get("HTTP/1.1 204 No Content\r\n\r\n"), whole(204, ""));
        assert_eq!(get("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"), whole(304, ""));
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
        assert_eq!(closed("HTTP/1.1 200 OK\r\n\r\nab"), Ok((200, b"ab".to_vec(), 0)));
        assert_eq!(closed("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"), Err(Outcome::Closed));
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
            assert_eq!(receive(Method::Get, &pieces, false), Some(Err(Outcome::Protocol)));
        };
        refused(format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(HEADER_MAX_BYTES)));
        refused(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1)));
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
        assert!(!keeps("HTTP/1.1 204 x\r\ntransfer-encoding: chunked\r\n\r\n"));
        assert!(keeps("HTTP/1.1 204 x\r\ncontent-length: 0\r\n\r\n"));
        assert!(keeps("HTTP/1.1 304 x\r\ncontent-length: 1\r\n\r\n"));
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        assert!(keeps("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 1\r\n\r\n"));
        assert!(!keeps("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n"));
        assert!(keeps("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 1\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!keeps(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n"
        ));
    }

    #[test]
    fn only_redirects_lead_on() {
        let location = |status: u16| {
            head(&format!("HTTP/1.1 {status} x\r\nlocation: /a\r\ncontent-length: 0\r\n\r\n"))
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
