//! Heads of plain responses, read in one pass.
//!
//! Nearly every response has a length, a status that allows a body, and
//! nothing that needs judgement. Those are recognised here, at a fraction of
//! what looking for every name costs; a study of a hundred thousand requests per second
//! would otherwise measure that. Whatever is not plain is left to
//! [`response`](super::response), and a test holds this to the same verdicts.

use std::mem::MaybeUninit;

use fanout_proto::setup::Method;
use httparse::{ParserConfig, Response, Status};

use super::{body::Coding, course::is_redirect, response::Head, retry_after::is_busy};

/// Header fields of a plain response at most.
const FIELDS_MAX: usize = 32;

/// The head that `bytes` begin with and its length, if it is plain and whole.
pub(crate) fn read(method: Method, bytes: &[u8]) -> Option<(usize, Head)> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = Response::new(&mut []);
    let Ok(Status::Complete(used)) = ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    ) else {
        return None;
    };
    let status = response.code.filter(|status| is_plain(*status))?;
    if response.version != Some(1) {
        return None;
    }
    let mut length = None;
    let mut persistent = true;
    let mut coding = None;
    for field in response.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // By the length of their names, the fewest are compared.
        match field.name.len() {
            14 if is("content-length") => {
                let before = length.replace(digits(field.value)?);
                if before.is_some() {
                    return None;
                }
            }
            17 if is("transfer-encoding") => return None,
            10 if is("connection") => {
                if field.value.eq_ignore_ascii_case(b"close") {
                    persistent = false;
                } else if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            }
            16 if is("content-encoding") => coding = Coding::from_field(field.value),
            _ => {}
        }
    }
    let length = length?;
    let head = Head {
        status,
        persistent,
        location: None,
        coding,
        retry_after_s: None,
        length: Some(match method {
            Method::Get => length,
            Method::Head => 0,
        }),
    };
    Some((used, head))
}

/// Whether a status means nothing special for the body or for what comes next.
fn is_plain(status: u16) -> bool {
    (200..1000).contains(&status)
        && !matches!(status, 204 | 304)
        && !is_redirect(status)
        && !is_busy(status)
}

/// A number as Content-Length has it: digits and nothing else.
pub(super) fn digits(value: &[u8]) -> Option<u64> {
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
    use crate::exchange::response::judge;
    use proptest::prelude::*;

    #[test]
    fn what_is_plain_is_recognised() {
        let plain = |text: &str| read(Method::Get, text.as_bytes()).is_some();
        assert!(plain(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello"
        ));
        assert!(plain(
            "HTTP/1.1 404 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ));
        assert!(!plain("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"));
        assert!(!plain("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!plain("HTTP/1.1 204 x\r\ncontent-length: 5\r\n\r\n"));
        assert!(!plain(
            "HTTP/1.1 302 x\r\ncontent-length: 5\r\nlocation: /\r\n\r\n"
        ));
        assert!(!plain("HTTP/1.1 503 x\r\ncontent-length: 5\r\n\r\n"));
        assert!(!plain("HTTP/1.0 200 x\r\ncontent-length: 5\r\n\r\n"));
        assert!(!plain(
            "HTTP/1.1 200 x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
        ));
        assert!(!plain("HTTP/1.1 200 x\r\ncontent-length: 5, 5\r\n\r\n"));
        assert!(!plain("HTTP/1.1 200 x\r\ncontent-length: +5\r\n\r\n"));
        assert!(!plain(
            "HTTP/1.1 200 x\r\ncontent-length: 99999999999999999999\r\n\r\n"
        ));
        assert!(!plain(
            "HTTP/1.1 200 x\r\ncontent-length: 5\r\nconnection: upgrade\r\n\r\n"
        ));
    }

    fn field() -> impl Strategy<Value = String> {
        prop_oneof![
            "[Cc]ontent-[Ll]ength: ?[0-9 ,+a-]{0,4}",
            "[Cc]ontent-[Ll]ength: ?[0-9]{1,3}",
            "[Cc]onnection: ?(close|keep-alive|Close|x|close, x|upgrade)?",
            "[Tt]ransfer-[Ee]ncoding: ?(chunked|gzip)",
            "[Cc]ontent-[Ee]ncoding: ?(gzip|br|zstd|x-gzip|deflate|gzip, br)",
            "[Ll]ocation: ?[a-z/]{0,5}",
            "[!-~]{1,12}:[ -~\t\u{e9}]{0,12}",
            "[a-z]{1,5} ?: x",
        ]
    }

    proptest! {
        #[test]
        fn the_fast_way_agrees_with_the_long_one(
            version in "HTTP/1\\.[01]",
            status in prop_oneof![Just(200_u16), 100..1000_u16],
            fields in prop::collection::vec(field(), 0..6),
            head_only in any::<bool>(),
        ) {
            let text = format!("{version} {status} x\r\n{}\r\n\r\nbody", fields.join("\r\n"));
            let method = if head_only { Method::Head } else { Method::Get };
            if let Some((used, head)) = read(method, text.as_bytes()) {
                let judged = judge(method, text.as_bytes());
                prop_assert_eq!(judged.map_err(|failure| failure.detail), Ok(Some((used, head))), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_plain_or_not(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(Method::Get, &bytes);
        }
    }
}
