//! Requests, as far as the origin cares about them.

use std::mem::MaybeUninit;

use crate::{
    limits::{REQUEST_BODY_MAX_BYTES, REQUEST_HEAD_MAX_BYTES, REQUEST_HEADERS_MAX},
    number::whole,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestHead<'b> {
    /// Path, and query if there is one: the target without scheme and authority.
    pub(crate) path_and_query: &'b str,
    pub(crate) mode: RequestMode,
    pub(crate) intake: Intake,
}

/// Bytes that belong to the request, to be taken in first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Intake {
    pub(crate) head_length: usize,
    /// The body is thrown away.
    pub(crate) body_length: u64,
    /// The client waits for a 100 before it sends the body.
    pub(crate) expects_continue: bool,
}

/// How a request wants to be answered, whatever its URL asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestMode {
    /// HEAD: the header section only.
    pub(crate) head_only: bool,
    /// HTTP/1.0: no chunked coding, and keep-alive must be announced.
    pub(crate) http10: bool,
    /// The connection may serve another request afterwards.
    pub(crate) keep_alive: bool,
    pub(crate) reused: bool,
}

impl<'b> RequestHead<'b> {
    /// The path, and the query without its question mark; empty without one.
    pub(crate) fn path_and_query(&self) -> (&'b str, &'b str) {
        self.path_and_query.split_once('?').unwrap_or((self.path_and_query, ""))
    }
}

/// A request that is not answered as it asks. The connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("this is no HTTP/1.1 request: {0}")]
    Malformed(httparse::Error),
    #[error("the request head is longer than {REQUEST_HEAD_MAX_BYTES} bytes")]
    HeadTooLong,
    #[error("the request has more than {REQUEST_HEADERS_MAX} header fields")]
    TooManyHeaders,
    #[error("the request has no Host field, which HTTP/1.1 demands")]
    NoHost,
    #[error("the request target is neither a path nor an http URL")]
    Target,
    #[error("Content-Length is no number, or there are two that differ")]
    BadLength,
    #[error("request bodies need a Content-Length here: send one instead of a transfer coding")]
    TransferCoding,
    #[error("the request body is longer than {REQUEST_BODY_MAX_BYTES} bytes")]
    BodyTooLong,
}

impl Refusal {
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Malformed(httparse::Error::Version) => 505,
            Self::Malformed(_) | Self::NoHost | Self::Target | Self::BadLength => 400,
            Self::HeadTooLong | Self::TooManyHeaders => 431,
            Self::TransferCoding => 411,
            Self::BodyTooLong => 413,
        }
    }
}

/// Reads the request at the start of `bytes`; `None` until its head is complete.
/// `reused`: the connection has served a request before.
pub(crate) fn parse(bytes: &[u8], reused: bool) -> Result<Option<RequestHead<'_>>, Refusal> {
    let mut fields = [const { MaybeUninit::uninit() }; REQUEST_HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut []);
    let head_length = match raw.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length <= REQUEST_HEAD_MAX_BYTES => length,
        Ok(httparse::Status::Complete(_)) => return Err(Refusal::HeadTooLong),
        Ok(httparse::Status::Partial) if bytes.len() >= REQUEST_HEAD_MAX_BYTES => {
            return Err(Refusal::HeadTooLong);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
        Err(error) => return Err(Refusal::Malformed(error)),
    };
    let http10 = raw.version == Some(0);
    let target = raw.path.unwrap_or_default();
    let path_and_query = path_and_query(target).ok_or(Refusal::Target)?;
    let mut mode =
        RequestMode { head_only: raw.method == Some("HEAD"), http10, keep_alive: !http10, reused };
    let mut expects_continue = false;
    let mut host = http10;
    let mut length = None;
    for field in &*raw.headers {
        // Most fields are told apart by their length alone.
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => host = true,
            10 if field.name.eq_ignore_ascii_case("connection") => {
                if has_token(field.value, "close") {
                    mode.keep_alive = false;
                } else if http10 && has_token(field.value, "keep-alive") {
                    mode.keep_alive = true;
                }
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let value = decimal(field.value).ok_or(Refusal::BadLength)?;
                if length.is_some_and(|earlier| earlier != value) {
                    return Err(Refusal::BadLength);
                }
                length = Some(value);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                return Err(Refusal::TransferCoding);
            }
            6 if field.name.eq_ignore_ascii_case("expect") => {
                expects_continue = has_token(field.value, "100-continue");
            }
            _ => {}
        }
    }
    if !host {
        return Err(Refusal::NoHost);
    }
    let body_length = length.unwrap_or(0);
    if body_length > REQUEST_BODY_MAX_BYTES {
        return Err(Refusal::BodyTooLong);
    }
    let intake = Intake { head_length, body_length, expects_continue };
    Ok(Some(RequestHead { path_and_query, mode, intake }))
}

/// The path and query of a target in origin or absolute form (RFC 9112, section 3.2).
fn path_and_query(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    let rest =
        ["http://", "https://"].into_iter().find_map(|scheme| target.strip_prefix(scheme))?;
    Some(rest.find(['/', '?']).map_or("/", |start| &rest[start..]))
}

/// Whether a comma-separated list holds `token`, in any case.
fn has_token(list: &[u8], token: &str) -> bool {
    list.split(|&byte| byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn decimal(value: &[u8]) -> Option<u64> {
    whole(std::str::from_utf8(value.trim_ascii()).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(head: &str) -> RequestHead<'_> {
        parse(head.as_bytes(), false).unwrap().unwrap()
    }

    fn refused(head: &str) -> u16 {
        parse(head.as_bytes(), false).unwrap_err().status()
    }

    #[test]
    fn a_plain_request_is_read() {
        let text = "GET /a/b?size=9 HTTP/1.1\r\nHost: x\r\n\r\nnext";
        let request = read(text);
        assert_eq!(
            request,
            RequestHead {
                path_and_query: "/a/b?size=9",
                mode: RequestMode {
                    head_only: false,
                    http10: false,
                    keep_alive: true,
                    reused: false,
                },
                intake: Intake {
                    head_length: text.len() - 4,
                    body_length: 0,
                    expects_continue: false,
                },
            }
        );
        assert_eq!(request.path_and_query(), ("/a/b", "size=9"));
    }

    #[test]
    fn keep_alive_follows_version_and_connection_field() {
        let kept = |text: &str| read(text).mode.keep_alive;
        assert!(!kept("GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n"));
        assert!(!kept("GET / HTTP/1.1\r\nHost: x\r\nConnection: te, close\r\n\r\n"));
        assert!(!kept("GET / HTTP/1.0\r\n\r\n"));
        assert!(kept("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn absolute_targets_lose_their_authority() {
        let path = |text: &str| read(text).path_and_query.to_owned();
        assert_eq!(path("GET http://h:1/a?b HTTP/1.1\r\nHost: h\r\n\r\n"), "/a?b");
        assert_eq!(path("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n"), "/");
        assert_eq!(refused("GET a HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
        assert_eq!(refused("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    }

    #[test]
    fn bodies_are_bounded() {
        let with = |field: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
        let text = with("Content-Length: 5\r\nExpect: 100-continue");
        assert_eq!(read(&text).intake.body_length, 5);
        assert!(read(&text).intake.expects_continue);
        assert_eq!(refused(&with("Content-Length: 1048577")), 413);
        assert_eq!(refused(&with("Content-Length: +5")), 400);
        assert_eq!(refused(&with("Content-Length:")), 400);
        assert_eq!(refused(&with("Content-Length: 1\r\nContent-Length: 2")), 400);
        assert_eq!(refused(&with("Transfer-Encoding: chunked")), 411);
    }

    #[test]
    fn heads_are_bounded() {
        assert_eq!(parse(b"GET / HT", false).unwrap(), None);
        let endless = format!("GET /{}", "a".repeat(REQUEST_HEAD_MAX_BYTES));
        assert_eq!(refused(&endless), 431);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert_eq!(refused(&many), 431);
        assert_eq!(refused("GET / HTTP/2.0\r\n\r\n"), 505);
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused("\u{16}\u{3}\u{1}"), 400);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, false);
        }

        #[test]
        fn a_head_is_complete_at_its_end_and_not_before(cut in 0usize..60) {
            let whole = b"GET /some/path?size=1k..2k HTTP/1.1\r\nHost: localhost:80\r\n\r\n";
            prop_assert_eq!(parse(&whole[..cut.min(whole.len() - 1)], false), Ok(None));
            prop_assert!(parse(whole, false).unwrap().is_some());
        }
    }
}
