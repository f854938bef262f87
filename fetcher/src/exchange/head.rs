//! The head of a response: what it says of the body and of the connection.
//!
//! `httparse` splits a head into its fields; what they mean is decided here, as RFC 9112 has it.
//! The fields are gone through once: looking each name up would cost a multiple, and a study of a
//! hundred thousand requests per second would measure that.

use std::mem::MaybeUninit;

use fanout_proto::{limits::HEADERS_MAX, setup::Method};
use httparse::{Error, Header, ParserConfig, Status};

use super::{body::ContentCoding, redirect_chain::is_redirect, retry_after};
use crate::fetch_failure::FetchFailure;

/// Header fields that nearly no head exceeds. Room for [`HEADERS_MAX`] is taken
/// on the stack only for those that do.
const USUAL_FIELDS: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Whether the connection serves another request after this one.
    pub(crate) persistent: bool,
    /// Where a redirect leads, if the status is one's and it says so.
    pub(crate) location: Option<Box<[u8]>>,
    /// The content coding, if it is one that can be decoded.
    pub(crate) coding: Option<ContentCoding>,
    pub(crate) retry_after_s: Option<u32>,
    pub(super) end: BodyEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyEnd {
    Length(u64),
    Chunks,
    Close,
}

impl Head {
    /// The body's length, where it is known beforehand.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.end {
            BodyEnd::Length(length) => Some(length),
            BodyEnd::Chunks | BodyEnd::Close => None,
        }
    }
}

pub(super) enum ParsedHead {
    /// The final response's, and its length.
    Final(usize, Head),
    /// An interim response's of this length.
    Interim(usize),
    Incomplete,
}

pub(super) fn parse(method: Method, bytes: &[u8]) -> Result<ParsedHead, FetchFailure> {
    parse_fields::<USUAL_FIELDS>(method, bytes)
        .or_else(|| parse_fields::<HEADERS_MAX>(method, bytes))
        .unwrap_or_else(|| {
            Err(FetchFailure::protocol(format!(
                "the response has more than {HEADERS_MAX} header fields"
            )))
        })
}

/// `None` if there are more than `MAX` fields.
// Out of line for the sake of its caller's frame.
#[inline(never)]
fn parse_fields<const MAX: usize>(
    method: Method,
    bytes: &[u8],
) -> Option<Result<ParsedHead, FetchFailure>> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX];
    let mut response = httparse::Response::new(&mut []);
    match ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    ) {
        Ok(Status::Complete(length)) => Some(judge(method, &response, length)),
        Ok(Status::Partial) => Some(Ok(ParsedHead::Incomplete)),
        Err(Error::TooManyHeaders) => None,
        Err(error) => Some(Err(FetchFailure::protocol(format!("not HTTP/1.1: {error}")))),
    }
}

fn judge(
    method: Method,
    response: &httparse::Response<'_, '_>,
    length: usize,
) -> Result<ParsedHead, FetchFailure> {
    let status = match response.code {
        Some(101) => {
            return Err(FetchFailure::protocol("the server switched protocols unasked"));
        }
        Some(100..200) => return Ok(ParsedHead::Interim(length)),
        Some(status @ 200..) => status,
        Some(0..100) | None => return Err(FetchFailure::protocol("a status below 100")),
    };
    let old = response.version == Some(0);
    let fields = HeadFields::gather(response.headers);
    let end = fields.body_end(method, status, old)?;
    let last = |name| last(response.headers, name);
    let head = Head {
        status,
        persistent: end != BodyEnd::Close && fields.persists(status, old),
        location: is_redirect(status).then(|| last("location").map(Into::into)).flatten(),
        coding: fields.coding,
        retry_after_s: retry_after::seconds(status, last),
        end,
    };
    Ok(ParsedHead::Final(length, head))
}

/// The last field of a name, which is compared without regard to case.
fn last<'a>(fields: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields.iter().rfind(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// What the fields say that matter in nearly every head.
#[derive(Default)]
struct HeadFields {
    length: Option<u64>,
    bad_length: Option<&'static str>,
    /// Whether a length says anything but `0`.
    announces_body: bool,
    /// Whether the last transfer coding is chunked, if there is the field.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
    coding: Option<ContentCoding>,
}

impl HeadFields {
    fn gather(fields: &[Header<'_>]) -> Self {
        let mut found = Self::default();
        for Header { name, value } in fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            // By the length of their names, the fewest are compared.
            match name.len() {
                14 if is("content-length") => found.add_length(value),
                17 if is("transfer-encoding") => {
                    let last = elements(value).next_back();
                    let chunked = last.map(|last| last.eq_ignore_ascii_case(b"chunked"));
                    // A field without an element leaves the last one to those before it.
                    found.chunked = chunked.or(found.chunked).or(Some(false));
                }
                10 if is("connection") => {
                    for element in elements(value) {
                        found.close |= element.eq_ignore_ascii_case(b"close");
                        found.keep_alive |= element.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                16 if is("content-encoding") => found.coding = ContentCoding::from_field(value),
                _ => {}
            }
        }
        found
    }

    /// All names of a length must agree.
    fn add_length(&mut self, value: &[u8]) {
        self.announces_body |= value != b"0";
        // Nearly always it is one number.
        if self.length.is_none()
            && let Some(length) = digits(value)
        {
            self.length = Some(length);
            return;
        }
        for element in value.split(|byte| *byte == b',') {
            let bad = match digits(element.trim_ascii()) {
                None => Some("the Content-Length is no number"),
                Some(here) => self
                    .length
                    .replace(here)
                    .filter(|before| *before != here)
                    .map(|_| "two lengths that differ"),
            };
            self.bad_length = self.bad_length.or(bad);
        }
    }

    /// Where the body ends (RFC 9112, section 6.3).
    fn body_end(&self, method: Method, status: u16, old: bool) -> Result<BodyEnd, FetchFailure> {
        if method == Method::Head || matches!(status, 204 | 304) {
            return Ok(BodyEnd::Length(0));
        }
        match (self.chunked, self.bad_length) {
            (Some(_), _) if old => Err(FetchFailure::protocol("a transfer coding in HTTP/1.0")),
            (Some(true), _) => Ok(BodyEnd::Chunks),
            // Whatever else was applied: only chunks tell where they end.
            (Some(false), _) => Ok(BodyEnd::Close),
            (None, Some(bad)) => Err(FetchFailure::protocol(bad)),
            (None, None) => Ok(self.length.map_or(BodyEnd::Close, BodyEnd::Length)),
        }
    }

    /// Whether the connection can serve another request (RFC 9112, section 9.3),
    /// and whether it should: not after two framings, which may be an attempt at
    /// smuggling (section 6.3), nor after a 204 that announces a body all the same.
    fn persists(&self, status: u16, old: bool) -> bool {
        let chunked = self.chunked.is_some();
        let ambiguous = match status {
            204 => chunked || self.announces_body,
            _ => chunked && (self.length.is_some() || self.bad_length.is_some()),
        };
        !ambiguous && !self.close && (!old || self.keep_alive)
    }
}

/// The elements of a list (RFC 9110, section 5.6.1), empty ones left out.
fn elements(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// A number as Content-Length has it: digits and nothing else.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, by looking each name up.
    struct ByName<'a>(&'a [Header<'a>]);

    impl<'a> ByName<'a> {
        fn all(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
            self.0
                .iter()
                .filter(move |field| field.name.eq_ignore_ascii_case(name))
                .map(|field| field.value)
        }

        fn has(&self, name: &'static str) -> bool {
            self.all(name).next().is_some()
        }

        fn length(&self) -> Result<Option<u64>, FetchFailure> {
            let mut length = None;
            for element in
                self.all("content-length").flat_map(|value| value.split(|byte| *byte == b','))
            {
                let here = digits(element.trim_ascii())
                    .ok_or_else(|| FetchFailure::protocol("the Content-Length is no number"))?;
                if length.replace(here).is_some_and(|before| before != here) {
                    return Err(FetchFailure::protocol("two lengths that differ"));
                }
            }
            Ok(length)
        }

        fn end(&self, method: Method, status: u16, old: bool) -> Result<BodyEnd, FetchFailure> {
            if method == Method::Head || matches!(status, 204 | 304) {
                return Ok(BodyEnd::Length(0));
            }
            if self.has("transfer-encoding") {
                if old {
                    return Err(FetchFailure::protocol("a transfer coding in HTTP/1.0"));
                }
                let is_chunked = self
                    .all("transfer-encoding")
                    .flat_map(elements)
                    .next_back()
                    .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
                return Ok(if is_chunked { BodyEnd::Chunks } else { BodyEnd::Close });
            }
            Ok(self.length()?.map_or(BodyEnd::Close, BodyEnd::Length))
        }

        fn persists(&self, status: u16, old: bool) -> bool {
            let has = |token: &[u8]| {
                self.all("connection")
                    .flat_map(elements)
                    .any(|element| element.eq_ignore_ascii_case(token))
            };
            let chunked = self.has("transfer-encoding");
            let ambiguous = match status {
                204 => chunked || self.all("content-length").any(|length| length != b"0"),
                _ => chunked && self.has("content-length"),
            };
            !ambiguous && !has(b"close") && (!old || has(b"keep-alive"))
        }
    }

    fn field() -> impl Strategy<Value = String> {
        prop_oneof![
            "[Cc]ontent-[Ll]ength: ?[0-9 ,+a-]{0,4}",
            "[Cc]ontent-[Ll]ength: ?[0-9]{1,3}",
            "[Cc]onnection: ?(close|keep-alive|Close|x|close, x|upgrade)?",
            "[Tt]ransfer-[Ee]ncoding: ?(chunked|gzip|chunked,|,)?",
            "[Cc]ontent-[Ee]ncoding: ?(gzip|br|zstd|x-gzip|deflate|gzip, br)",
            "[Ll]ocation: ?[a-z/]{0,5}",
            "[!-~]{1,12}:[ -~\t\u{e9}]{0,12}",
            "[a-z]{1,5} ?: x",
        ]
    }

    proptest! {
        #[test]
        fn one_pass_agrees_with_looking_each_name_up(
            old in any::<bool>(),
            status in prop_oneof![Just(200_u16), Just(204), 200..1000_u16],
            fields in prop::collection::vec(field(), 0..6),
            head_only in any::<bool>(),
        ) {
            let version = u8::from(!old);
            let text = format!("HTTP/1.{version} {status} x\r\n{}\r\n\r\nbody", fields.join("\r\n"));
            let mut fields = [httparse::EMPTY_HEADER; USUAL_FIELDS];
            let mut response = httparse::Response::new(&mut fields);
            let method = if head_only { Method::Head } else { Method::Get };
            let parsed = parse(method, text.as_bytes());
            if let Ok(Status::Complete(_)) = response.parse(text.as_bytes()) {
                let by_name = ByName(response.headers);
                let expected = by_name.end(method, status, old).map(|end| {
                    let coding = by_name.all("content-encoding").next_back();
                    (
                        end,
                        end != BodyEnd::Close && by_name.persists(status, old),
                        coding.and_then(ContentCoding::from_field),
                    )
                });
                let found = parsed.map(|parsed| match parsed {
                    ParsedHead::Final(_, head) => (head.end, head.persistent, head.coding),
                    _ => panic!("a final response: {text}"),
                });
                prop_assert_eq!(found, expected, "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_a_head_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(Method::Get, &bytes);
        }
    }

    #[test]
    fn as_many_fields_as_are_allowed_are_read() {
        for (count, fits) in [
            (USUAL_FIELDS, true),
            (USUAL_FIELDS + 1, true),
            (HEADERS_MAX, true),
            (HEADERS_MAX + 1, false),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
            assert_eq!(parse(Method::Get, text.as_bytes()).is_ok(), fits, "{count}");
        }
    }
}
