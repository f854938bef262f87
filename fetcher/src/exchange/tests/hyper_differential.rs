//! The same bytes given to this exchange and to hyper's client must come to the
//! same verdict, or the difference is listed here with its reason. A difference
//! that is not listed fails, and so does one that is listed and gone.

use std::convert::Infallible;

use fanout_proto::setup::{HttpSettings, Method};
use http::Request;
use hyper::{
    body::{Body as _, Bytes, Frame, Incoming, SizeHint},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::exchange::fetch::{ExchangeProgress, FetchPlan, FetchState};
use fanout_proto::limits::HEADERS_MAX;

/// What became of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParserVerdict {
    /// A whole one: status, and bytes of the body.
    Whole(u16, u64),
    Failed,
}
use ParserVerdict::{Failed, Whole};

fn ours(method: Method, bytes: &[u8]) -> ParserVerdict {
    let plan = FetchPlan::new(&HttpSettings {
        method,
        redirects: 0,
        max_body_bytes: u64::MAX,
        ..HttpSettings::default()
    })
    .unwrap();
    let mut fetch = FetchState::new(&plan);
    fetch.start(b"http://h/").unwrap();
    fetch.request(&plan, &mut Vec::new());
    let result = match fetch.receive(&plan, bytes) {
        Ok(ExchangeProgress::Over { .. }) => Ok(()),
        Ok(ExchangeProgress::More) => fetch.end(&plan),
        Err(failure) => Err(failure),
    };
    match result {
        Ok(()) => Whole(fetch.status.unwrap(), fetch.body_bytes()),
        Err(_) => Failed,
    }
}

struct NoBody;

impl hyper::body::Body for NoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

fn hypers(method: Method, bytes: &[u8]) -> ParserVerdict {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (client, mut server) = duplex(bytes.len() + 64 * 1024);
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(client))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(match method {
                Method::Get => "GET",
                Method::Head => "HEAD",
            })
            .uri("/")
            .header("host", "h")
            .body(NoBody)
            .unwrap();
        let response = sender.send_request(request);
        let answer = async {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                server.read_buf(&mut request).await.unwrap();
            }
            server.write_all(bytes).await.unwrap();
            server.shutdown().await.unwrap();
            // Dropped only after the verdict: what is unread may be no error.
            server
        };
        let (response, _server) = tokio::join!(response, answer);
        let verdict = match response {
            Ok(response) => {
                let status = response.status().as_u16();
                match count(response.into_body()).await {
                    Ok(bytes) => Whole(status, bytes),
                    Err(_) => Failed,
                }
            }
            Err(_) => Failed,
        };
        connection.abort();
        verdict
    })
}

async fn count(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut bytes = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

const HEAD: &str = "HTTP/1.1 200 OK\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Tricky responses by hand: what each is about, and its bytes. `{H}` stands
/// for a status line, `{C}` for a whole head of a chunked response.
#[rustfmt::skip]
const CASES: &[(&str, &str)] = &[
    // Whole ones, and where they may end.
    ("plain", "{H}Content-Length: 5\r\n\r\nhello"),
    ("nothing", ""),
    ("length 0", "{H}Content-Length: 0\r\n\r\n"),
    ("length cut", "{H}Content-Length: 5\r\n\r\nhell"),
    ("length, no body", "{H}Content-Length: 5\r\n\r\n"),
    ("length exceeded", "{H}Content-Length: 5\r\n\r\nhello and more"),
    ("until close", "{H}\r\nhello"),
    ("until close, empty", "{H}\r\n"),
    ("no fields, cut", "{H}"),
    ("cut in the version", "HTTP/1"),
    ("cut in the status", "HTTP/1.1 2"),
    ("cut in the reason", "HTTP/1.1 200 O"),
    ("cut in a name", "{H}Content-Le"),
    ("cut before the colon", "{H}Content-Length"),
    ("cut in a value", "{H}Content-Length: 1"),
    ("cut at a line's end", "{H}Content-Length: 1\r"),
    ("cut at the head's end", "{H}Content-Length: 1\r\n\r"),
    // Status lines.
    ("no reason", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nab"),
    ("empty reason", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nab"),
    ("two spaces before the status", "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("tab before the status", "HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("two spaces before the reason", "HTTP/1.1 200  OK\r\nContent-Length: 2\r\n\r\nab"),
    ("tab in the reason", "HTTP/1.1 200 O\tK\r\nContent-Length: 2\r\n\r\nab"),
    ("reason in UTF-8", "HTTP/1.1 200 \u{e9}t\u{e9}\r\nContent-Length: 2\r\n\r\nab"),
    ("NUL in the reason", "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nab"),
    ("ESC in the reason", "HTTP/1.1 200 O\x1bK\r\nContent-Length: 2\r\n\r\nab"),
    ("CR in the reason", "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nab"),
    ("leading space", " HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("leading blank line", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("leading LF", "\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("many leading blank lines", "\r\n\r\n\r\n\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("only blank lines", "\r\n\r\n\r\n"),
    ("lower-case protocol", "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("no protocol", "200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("HTTP/0.9", "<html>hello</html>"),
    ("HTTP/0.9 named", "HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("HTTP/1.10", "HTTP/1.10 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("HTTP/2", "HTTP/2 200\r\nContent-Length: 2\r\n\r\nab"),
    ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("HTTP/2 settings frame", "\0\0\0\x04\0\0\0\0\0"),
    ("TLS alert", "\x15\x03\x01\0\x02\x02\x50"),
    ("ICY", "ICY 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("SSH", "SSH-2.0-OpenSSH_9.9\r\n"),
    ("SMTP", "220 mail.example ESMTP\r\n"),
    ("a request", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("status 000", "HTTP/1.1 000 x\r\nContent-Length: 2\r\n\r\nab"),
    ("status 099", "HTTP/1.1 099 x\r\nContent-Length: 2\r\n\r\nab"),
    ("status 600", "HTTP/1.1 600 x\r\nContent-Length: 2\r\n\r\nab"),
    ("status 999", "HTTP/1.1 999 x\r\nContent-Length: 2\r\n\r\nab"),
    ("status -20", "HTTP/1.1 -20 x\r\nContent-Length: 2\r\n\r\nab"),
    ("status 2x0", "HTTP/1.1 2x0 x\r\nContent-Length: 2\r\n\r\nab"),
    // Line ends and white space.
    ("bare LF everywhere", "HTTP/1.1 200 OK\nContent-Length: 2\n\nab"),
    ("bare LF after the status", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nab"),
    ("bare LF after a field", "{H}Content-Length: 2\nX: y\r\n\r\nab"),
    ("bare LF at the head's end", "{H}Content-Length: 2\r\n\nab"),
    ("bare CR after a field", "{H}Content-Length: 2\rX: y\r\n\r\nab"),
    ("bare CR in a value", "{H}X: a\rb\r\nContent-Length: 2\r\n\r\nab"),
    ("two CR", "{H}Content-Length: 2\r\r\n\r\nab"),
    ("obs-fold", "{H}X: a\r\n b\r\nContent-Length: 2\r\n\r\nab"),
    ("obs-fold with a tab", "{H}X: a\r\n\tb\r\nContent-Length: 2\r\n\r\nab"),
    ("obs-fold of the length", "{H}Content-Length:\r\n 2\r\n\r\nab"),
    ("white space before the first field", "{H} X: a\r\nContent-Length: 2\r\n\r\nab"),
    ("space before the colon", "{H}X : a\r\nContent-Length: 2\r\n\r\nab"),
    ("tab before the colon", "{H}X\t: a\r\nContent-Length: 2\r\n\r\nab"),
    ("space before the length's colon", "{H}Content-Length : 2\r\n\r\nab"),
    ("no space after the colon", "{H}Content-Length:2\r\n\r\nab"),
    ("tab after the colon", "{H}Content-Length:\t2\r\n\r\nab"),
    ("spaces around the length", "{H}Content-Length:   2 \t \r\n\r\nab"),
    // Fields.
    ("no colon", "{H}nonsense\r\nContent-Length: 2\r\n\r\nab"),
    ("no name", "{H}: a\r\nContent-Length: 2\r\n\r\nab"),
    ("no value", "{H}X:\r\nContent-Length: 2\r\n\r\nab"),
    ("space within a name", "{H}X Y: a\r\nContent-Length: 2\r\n\r\nab"),
    ("NUL in a name", "{H}X\0: a\r\nContent-Length: 2\r\n\r\nab"),
    ("name in UTF-8", "{H}\u{e9}: a\r\nContent-Length: 2\r\n\r\nab"),
    ("parenthesis in a name", "{H}X(: a\r\nContent-Length: 2\r\n\r\nab"),
    ("every sign in a name", "{H}!#$%&'*+-.^_`|~: a\r\nContent-Length: 2\r\n\r\nab"),
    ("NUL in a value", "{H}X: a\0b\r\nContent-Length: 2\r\n\r\nab"),
    ("ESC in a value", "{H}X: a\x1bb\r\nContent-Length: 2\r\n\r\nab"),
    ("DEL in a value", "{H}X: a\x7fb\r\nContent-Length: 2\r\n\r\nab"),
    ("tab in a value", "{H}X: a\tb\r\nContent-Length: 2\r\n\r\nab"),
    ("value in UTF-8", "{H}X: \u{e9}\r\nContent-Length: 2\r\n\r\nab"),
    // Lengths.
    ("the same length twice", "{H}Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"),
    ("two lengths", "{H}Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
    ("the same length as a list", "{H}Content-Length: 2, 2\r\n\r\nab"),
    ("lengths as a list", "{H}Content-Length: 2, 3\r\n\r\nabc"),
    ("the same length, written otherwise", "{H}Content-Length: 2\r\nContent-Length: 02\r\n\r\nab"),
    ("a list with a gap", "{H}Content-Length: 2,,2\r\n\r\nab"),
    ("a list with an end", "{H}Content-Length: 2,\r\n\r\nab"),
    ("empty length", "{H}Content-Length:\r\n\r\nab"),
    ("a length and an empty one", "{H}Content-Length: 2\r\nContent-Length:\r\n\r\nab"),
    ("negative length", "{H}Content-Length: -2\r\n\r\nab"),
    ("length with a sign", "{H}Content-Length: +2\r\n\r\nab"),
    ("length in hexadecimal", "{H}Content-Length: 0x2\r\n\r\nab"),
    ("length with a fraction", "{H}Content-Length: 2.0\r\n\r\nab"),
    ("length with a unit", "{H}Content-Length: 2 bytes\r\n\r\nab"),
    ("length with a space", "{H}Content-Length: 1 2\r\n\r\nab"),
    ("leading zeros", "{H}Content-Length: 0000000000000000000000002\r\n\r\nab"),
    ("length of 2^64 - 1", "{H}Content-Length: 18446744073709551615\r\n\r\nab"),
    ("length of 2^64", "{H}Content-Length: 18446744073709551616\r\n\r\nab"),
    ("length of 2^64 + 2", "{H}Content-Length: 18446744073709551618\r\n\r\nab"),
    ("length in Arabic digits", "{H}Content-Length: \u{662}\r\n\r\nab"),
    // Transfer codings.
    ("chunked", "{C}2\r\nab\r\n0\r\n\r\n"),
    ("chunked in capitals", "{H}Transfer-Encoding: CHUNKED\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked and length", "{H}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("length and chunked", "{H}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked and a bad length", "{H}Transfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked and two lengths",
        "{H}Transfer-Encoding: chunked\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked and length in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nab"),
    ("gzip, then chunked", "{H}Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("gzip, then chunked, in two fields",
        "{H}Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked, then gzip", "{H}Transfer-Encoding: chunked, gzip\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked, then gzip, in two fields",
        "{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked twice", "{H}Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked in two fields",
        "{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("gzip without chunked", "{H}Transfer-Encoding: gzip\r\n\r\nabcd"),
    ("gzip and length", "{H}Transfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nabcd"),
    ("identity", "{H}Transfer-Encoding: identity\r\n\r\nabcd"),
    ("identity and length", "{H}Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nabcd"),
    ("no transfer coding named", "{H}Transfer-Encoding:\r\n\r\nabcd"),
    ("unknown coding", "{H}Transfer-Encoding: xchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked with a parameter", "{H}Transfer-Encoding: chunked;q=1\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked in quotes", "{H}Transfer-Encoding: \"chunked\"\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked, then a comma", "{H}Transfer-Encoding: chunked,\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked, then an empty field",
        "{H}Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("a comma, then chunked", "{H}Transfer-Encoding: ,chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked after a tab", "{H}Transfer-Encoding:\tchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked after a vertical tab", "{H}Transfer-Encoding: \x0bchunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("chunked, obs-text", "{H}Transfer-Encoding: chunked\u{a0}\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    ("obs-text before chunked", "{H}Transfer-Encoding: \u{e9}, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    // Chunks.
    ("no chunk", "{C}"),
    ("empty chunked", "{C}0\r\n\r\n"),
    ("chunked, cut in a size", "{C}2"),
    ("chunked, cut after a size", "{C}2\r\n"),
    ("chunked, cut in the data", "{C}2\r\na"),
    ("chunked, cut after the data", "{C}2\r\nab"),
    ("chunked, cut after a chunk", "{C}2\r\nab\r\n"),
    ("chunked, cut after the last size", "{C}2\r\nab\r\n0\r\n"),
    ("chunked, cut within the last line end", "{C}2\r\nab\r\n0\r\n\r"),
    ("chunked, with more after it", "{C}2\r\nab\r\n0\r\n\r\nmore"),
    ("chunk with an extension", "{C}2;a=b\r\nab\r\n0\r\n\r\n"),
    ("chunk with a long extension", "{C}2;signature=0123456789abcdef0123456789abcdef\r\nab\r\n0\r\n\r\n"),
    ("chunk with a quoted extension", "{C}2;a=\"b;c\"\r\nab\r\n0\r\n\r\n"),
    ("extension with spaces", "{C}2 ; a = b\r\nab\r\n0;x\r\n\r\n"),
    ("empty extension", "{C}2;\r\nab\r\n0\r\n\r\n"),
    ("NUL in an extension", "{C}2;a\0b\r\nab\r\n0\r\n\r\n"),
    ("LF in an extension", "{C}2;a\nb\r\nab\r\n0\r\n\r\n"),
    ("CR in an extension", "{C}2;a\rb\r\nab\r\n0\r\n\r\n"),
    ("extension in obs-text", "{C}2;\u{e9}\r\nab\r\n0\r\n\r\n"),
    ("space after a size", "{C}2 \r\nab\r\n0\r\n\r\n"),
    ("tab after a size", "{C}2\t\r\nab\r\n0\r\n\r\n"),
    ("space before a size", "{C} 2\r\nab\r\n0\r\n\r\n"),
    ("form feed after a size", "{C}2\x0c\r\nab\r\n0\r\n\r\n"),
    ("digits after a space", "{C}2 2\r\nab\r\n0\r\n\r\n"),
    ("size with a sign", "{C}+2\r\nab\r\n0\r\n\r\n"),
    ("negative size", "{C}-2\r\nab\r\n0\r\n\r\n"),
    ("size with 0x", "{C}0x2\r\nab\r\n0\r\n\r\n"),
    ("size in capitals", "{C}A\r\n0123456789\r\n0\r\n\r\n"),
    ("size in small letters", "{C}a\r\n0123456789\r\n0\r\n\r\n"),
    ("size of leading zeros", "{C}0000000000000002\r\nab\r\n000\r\n\r\n"),
    ("size of many leading zeros", "{C}0000000000000000000000000000000002\r\nab\r\n0\r\n\r\n"),
    ("no size", "{C}\r\nab\r\n0\r\n\r\n"),
    ("no size but an extension", "{C};a\r\nab\r\n0\r\n\r\n"),
    ("size is no number", "{C}size\r\nab\r\n0\r\n\r\n"),
    ("size of 2^63", "{C}8000000000000000\r\nab"),
    ("size of 2^64 - 1", "{C}ffffffffffffffff\r\nab"),
    ("size of 2^64", "{C}10000000000000000\r\nab"),
    ("size of 2^64 + 2", "{C}10000000000000002\r\nab\r\n0\r\n\r\n"),
    ("size, bare LF", "{C}2\nab\r\n0\r\n\r\n"),
    ("data, bare LF", "{C}2\r\nab\n0\r\n\r\n"),
    ("end, bare LF", "{C}2\r\nab\r\n0\n\n"),
    ("last line, bare LF", "{C}2\r\nab\r\n0\r\n\n"),
    ("no line end after data", "{C}2\r\nab0\r\n\r\n"),
    ("data too long", "{C}2\r\nabc\r\n0\r\n\r\n"),
    ("data too short", "{C}2\r\na\r\n0\r\n\r\n"),
    ("two line ends after data", "{C}2\r\nab\r\n\r\n0\r\n\r\n"),
    ("body that is not chunked", "{C}hello"),
    // Trailers.
    ("trailer", "{C}2\r\nab\r\n0\r\nX: y\r\n\r\n"),
    ("trailers", "{C}2\r\nab\r\n0\r\nX: y\r\nZ:\r\n\r\n"),
    ("trailer, cut", "{C}2\r\nab\r\n0\r\nX: y\r\n"),
    ("trailer, cut in its name", "{C}2\r\nab\r\n0\r\nX"),
    ("trailer without a colon", "{C}2\r\nab\r\n0\r\nnonsense\r\n\r\n"),
    ("trailer without a name", "{C}2\r\nab\r\n0\r\n: x\r\n\r\n"),
    ("trailer with a space before the colon", "{C}2\r\nab\r\n0\r\nX : y\r\n\r\n"),
    ("trailer with white space first", "{C}2\r\nab\r\n0\r\n X: y\r\n\r\n"),
    ("trailer with NUL", "{C}2\r\nab\r\n0\r\nX: \0\r\n\r\n"),
    ("trailer with CR", "{C}2\r\nab\r\n0\r\nX: a\rb\r\n\r\n"),
    ("trailer with LF", "{C}2\r\nab\r\n0\r\nX: y\n\r\n"),
    ("trailer with LF, and an end", "{C}2\r\nab\r\n0\r\nX: y\n\r\n\r\n"),
    ("trailer in obs-text", "{C}2\r\nab\r\n0\r\nX: \u{e9}\r\n\r\n"),
    ("trailer folded", "{C}2\r\nab\r\n0\r\nX: a\r\n b\r\n\r\n"),
    ("trailer that is a length", "{C}2\r\nab\r\n0\r\nContent-Length: 9\r\n\r\n"),
    // Statuses without a body.
    ("204", "HTTP/1.1 204 No Content\r\n\r\n"),
    ("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nab"),
    ("204 with chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("204 with a bad length", "HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n"),
    ("205 with a body", "HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nab"),
    ("205 until close", "HTTP/1.1 205 Reset Content\r\n\r\nab"),
    ("304", "HTTP/1.1 304 Not Modified\r\n\r\n"),
    ("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    ("304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nab"),
    ("304 with two lengths", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n"),
    ("a bad length", "{H}Content-Length: x\r\n\r\nab"),
    // Interim responses.
    ("100", "HTTP/1.1 100 Continue\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("100 with a field", "HTTP/1.1 100 Continue\r\nDate: x\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("100 with a length", "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("102 with a bad length", "HTTP/1.1 102 x\r\nContent-Length: x\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("103", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("103 with chunks named", "HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("100 in HTTP/1.0", "HTTP/1.0 100 Continue\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("199", "HTTP/1.1 199 x\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("100, 102, 103",
        "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 103 x\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("100, then nothing", "HTTP/1.1 100 Continue\r\n\r\n"),
    ("100, then half a head", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"),
    ("100, then garbage", "HTTP/1.1 100 Continue\r\n\r\ngarbage\r\n\r\n"),
    ("100, then a blank line", "HTTP/1.1 100 Continue\r\n\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    ("101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ("101 without fields", "HTTP/1.1 101 x\r\n\r\n{H}Content-Length: 2\r\n\r\nab"),
    // HTTP/1.0 and connections.
    ("HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ("HTTP/1.0 until close", "HTTP/1.0 200 OK\r\n\r\nab"),
    ("HTTP/1.0 kept, until close", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nab"),
    ("HTTP/1.0 cut", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nab"),
    ("close", "{H}Connection: close\r\nContent-Length: 2\r\n\r\nab"),
    ("close, cut", "{H}Connection: close\r\nContent-Length: 3\r\n\r\nab"),
    ("upgrade", "{H}Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab"),
    ("connection in obs-text", "{H}Connection: \u{e9}\r\nContent-Length: 2\r\n\r\nab"),
    ("a redirect", "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 2\r\n\r\nab"),
    ("a redirect without a length", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\nab"),
    ("a redirect, cut in its head", "HTTP/1.1 302 Found\r\nLocation: /\r\n"),
    ("206", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab"),
    ("multipart/byteranges", "HTTP/1.1 206 x\r\nContent-Type: multipart/byteranges; boundary=x\r\n\r\n--x--\r\n"),
    ("second response", "{H}Content-Length: 2\r\n\r\nab{H}Content-Length: 2\r\n\r\ncd"),
];

/// Tricky responses that are too long to write down.
fn long_cases() -> Vec<(String, String)> {
    let fields = |count: usize| "X: y\r\n".repeat(count);
    let mut cases = vec![
        ("127 fields".into(), format!("{HEAD}{}Content-Length: 2\r\n\r\nab", fields(127))),
        ("128 fields".into(), format!("{HEAD}{}Content-Length: 2\r\n\r\nab", fields(128))),
        ("10,000 fields".into(), format!("{HEAD}{}Content-Length: 2\r\n\r\nab", fields(10_000))),
        (
            "a field of 60,000 bytes".into(),
            format!("{HEAD}X: {}\r\nContent-Length: 2\r\n\r\nab", "y".repeat(60_000)),
        ),
        (
            "a field of 66,000 bytes".into(),
            format!("{HEAD}X: {}\r\nContent-Length: 2\r\n\r\nab", "y".repeat(66_000)),
        ),
        (
            "a field of 1,000,000 bytes".into(),
            format!("{HEAD}X: {}\r\nContent-Length: 2\r\n\r\nab", "y".repeat(1_000_000)),
        ),
        (
            "a name of 60,000 bytes".into(),
            format!("{HEAD}{}: y\r\nContent-Length: 2\r\n\r\nab", "X".repeat(60_000)),
        ),
        (
            "a reason of 60,000 bytes".into(),
            format!("HTTP/1.1 200 {}\r\nContent-Length: 2\r\n\r\nab", "y".repeat(60_000)),
        ),
        (
            "70,000 blank lines".into(),
            format!("{}{HEAD}Content-Length: 2\r\n\r\nab", "\r\n".repeat(70_000)),
        ),
        (
            "an extension of 10,000 bytes".into(),
            format!("{CHUNKED}2;{}\r\nab\r\n0\r\n\r\n", "x".repeat(10_000)),
        ),
        (
            "an extension of 20,000 bytes".into(),
            format!("{CHUNKED}2;{}\r\nab\r\n0\r\n\r\n", "x".repeat(20_000)),
        ),
        (
            "an extension of 100,000 bytes".into(),
            format!("{CHUNKED}2;{}\r\nab\r\n0\r\n\r\n", "x".repeat(100_000)),
        ),
        (
            "100,000 bytes of a size".into(),
            format!("{CHUNKED}{}2\r\nab\r\n0\r\n\r\n", "0".repeat(100_000)),
        ),
        ("100 trailers".into(), format!("{CHUNKED}2\r\nab\r\n0\r\n{}\r\n", fields(100))),
        ("1,000 trailers".into(), format!("{CHUNKED}2\r\nab\r\n0\r\n{}\r\n", fields(1000))),
        ("20,000 trailers".into(), format!("{CHUNKED}2\r\nab\r\n0\r\n{}\r\n", fields(20_000))),
        (
            "a trailer of 10,000 bytes".into(),
            format!("{CHUNKED}2\r\nab\r\n0\r\nX: {}\r\n\r\n", "y".repeat(10_000)),
        ),
        (
            "10,000 chunks of a byte".into(),
            format!("{CHUNKED}{}0\r\n\r\n", "1\r\na\r\n".repeat(10_000)),
        ),
        (
            "10,000 chunks with extensions".into(),
            format!("{CHUNKED}{}0\r\n\r\n", "1;a=b\r\na\r\n".repeat(10_000)),
        ),
        ("10 lengths".into(), format!("{HEAD}{}\r\nab", "Content-Length: 2\r\n".repeat(10))),
        ("100,000 bytes until close".into(), format!("{HEAD}\r\n{}", "x".repeat(100_000))),
    ];
    for count in [16, 17, 1000] {
        cases.push((
            format!("{count} interim responses"),
            format!("{}{HEAD}Content-Length: 2\r\n\r\nab", "HTTP/1.1 102 x\r\n\r\n".repeat(count)),
        ));
    }
    cases
}

pub(super) fn cases() -> Vec<(String, Vec<u8>)> {
    CASES
        .iter()
        .map(|(name, text)| {
            let text = text.replace("{H}", HEAD).replace("{C}", CHUNKED);
            ((*name).to_owned(), text)
        })
        .chain(long_cases())
        .map(|(name, text)| (name, text.into_bytes()))
        .collect()
}

/// Where the two differ, and why.
#[rustfmt::skip]
const DIFFERENCES: &[(&str, Method, ParserVerdict, ParserVerdict, &str)] = &[
    // (response, method, ours, hyper's, reason)
    ("101", Method::Get, Failed, Whole(101, 0), UNASKED),
    ("101", Method::Head, Failed, Whole(101, 0), UNASKED),
    ("101 without fields", Method::Get, Failed, Whole(101, 0), UNASKED),
    ("101 without fields", Method::Head, Failed, Whole(101, 0), UNASKED),
    ("chunked, then a comma", Method::Get, Whole(200, 2), Whole(200, 12), EMPTY_ELEMENT),
    ("chunked, then an empty field", Method::Get, Whole(200, 2), Whole(200, 12), EMPTY_ELEMENT),
    ("obs-text before chunked", Method::Get, Whole(200, 2), Whole(200, 12), OBS_TEXT),
    ("a field of 66,000 bytes", Method::Get, Failed, Whole(200, 2), LONG_HEAD),
    ("a field of 66,000 bytes", Method::Head, Failed, Whole(200, 0), LONG_HEAD),
    ("70,000 blank lines", Method::Get, Failed, Whole(200, 2), LONG_HEAD),
    ("70,000 blank lines", Method::Head, Failed, Whole(200, 0), LONG_HEAD),
    ("17 interim responses", Method::Get, Failed, Whole(200, 2), FLOOD),
    ("17 interim responses", Method::Head, Failed, Whole(200, 0), FLOOD),
    ("1000 interim responses", Method::Get, Failed, Whole(200, 2), FLOOD),
    ("1000 interim responses", Method::Head, Failed, Whole(200, 0), FLOOD),
    ("100,000 bytes of a size", Method::Get, Failed, Whole(200, 2), FRAMING),
    ("trailer with LF, and an end", Method::Get, Failed, Whole(200, 2), TRAILER),
    ("an extension of 20,000 bytes", Method::Get, Whole(200, 2), Failed, EXTENSIONS),
    ("10,000 chunks with extensions", Method::Get, Whole(200, 10_000), Failed, EXTENSIONS),
];

const UNASKED: &str = "nobody asked to switch protocols (RFC 9110, section 15.2.2); \
    hyper leaves the refusal to its caller";
const EMPTY_ELEMENT: &str = "empty elements of a list are ignored (RFC 9110, section 5.6.1.2), \
    so chunked is the last coding; hyper takes it for none";
const OBS_TEXT: &str = "the last coding is chunked, whatever came before it (RFC 9112, section 6.3); \
    hyper reads no list that holds bytes beyond ASCII";
const LONG_HEAD: &str = "a head may have 64 KiB here, about 400 KiB in hyper";
const FLOOD: &str = "16 interim responses are enough; hyper takes any number";
const FRAMING: &str = "framing may have 64 KiB, and 32 bytes for each byte of data; \
    hyper takes any number of zeros";
const TRAILER: &str = "every line of a chunked body ends in CR LF (RFC 9112, section 7.1); \
    hyper splits trailers at LF, too";
const EXTENSIONS: &str = "hyper takes 16 KiB of extensions in a whole body";

#[test]
fn both_come_to_the_same_verdict_or_the_reason_is_known() {
    let mut compared = 0;
    let mut found = Vec::new();
    for (name, bytes) in cases() {
        for method in [Method::Get, Method::Head] {
            compared += 1;
            let (ours, hypers) = (ours(method, &bytes), hypers(method, &bytes));
            if ours != hypers {
                found.push((name.clone(), method, ours, hypers));
            }
        }
    }
    for (name, method, ours, hypers) in &found {
        assert!(
            DIFFERENCES.iter().any(
                |known| (known.0, known.1, known.2, known.3) == (name, *method, *ours, *hypers)
            ),
            "a difference that is not listed: {name:?}, {method:?}: {ours:?}, hyper {hypers:?}"
        );
    }
    assert_eq!(
        found.len(),
        DIFFERENCES.len(),
        "a difference is listed that there is no more; there are {found:#?}"
    );
    assert!(compared >= 500, "{compared}");
}

/// Whether a difference between verdicts on altered bytes is one of those above.
fn is_known(bytes: &[u8], ours: ParserVerdict, hypers: ParserVerdict) -> bool {
    if (ours, hypers) == (Failed, Whole(101, 0)) {
        return true;
    }
    // A bare LF among trailers: after a line that begins with the last size.
    let end = bytes.windows(2).position(|two| two == b"\n0");
    if let (Failed, Some(end)) = (ours, end)
        && bytes[end + 1..].windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r')
    {
        return true;
    }
    // A list of codings whose last elements are empty, or that is not ASCII.
    bytes.to_ascii_lowercase().split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii_end();
        line.starts_with(b"transfer-encoding")
            && (line.ends_with(b",") || line.ends_with(b":") || !line.is_ascii())
    })
}

/// What is put into a response to alter it.
#[rustfmt::skip]
const PIECES: &[&[u8]] = &[
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b",", b";", b"=", b"+", b"-", b"\"", b"\0", b"\x0b",
    b"\x7f", b"\xe9", b"0", b"1", b"2", b"a", b"F", b"ffffffffffffffff", b"0\r\n\r\n", b"chunked", b"gzip",
    b"identity", b"close", b"HTTP/1.0 ", b"HTTP/1.1 ", b"100", b"204", b"304", b"Content-Length: 2\r\n",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n", b"HTTP/1.1 100 x\r\n\r\n", b"HTTP/1.1 103 x\r\nLink: x\r\n\r\n", b"\r\n X: y",
];

#[derive(Debug, Clone)]
enum Change {
    Insert(prop::sample::Index, &'static [u8]),
    Replace(prop::sample::Index, usize, &'static [u8]),
    Repeat(prop::sample::Index, usize),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<prop::sample::Index>;
        let piece = || prop::sample::select(PIECES);
        prop_oneof![
            4 => (at(), piece()).prop_map(|(at, piece)| Self::Insert(at, piece)),
            4 => (at(), 1_usize..12, piece()).prop_map(|(at, count, piece)| Self::Replace(at, count, piece)),
            2 => (at(), 1_usize..40).prop_map(|(at, count)| Self::Repeat(at, count)),
            2 => (at(), any::<u8>()).prop_map(|(at, bits)| Self::Flip(at, bits)),
            1 => at().prop_map(Self::Cut),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: &prop::sample::Index, bytes: &Vec<u8>| at.index(bytes.len() + 1);
        match self {
            Self::Insert(at, piece) => {
                let at = place(at, bytes);
                bytes.splice(at..at, piece.iter().copied());
            }
            Self::Replace(at, count, piece) => {
                let at = place(at, bytes);
                let end = bytes.len().min(at + count);
                bytes.splice(at..end, piece.iter().copied());
            }
            Self::Repeat(at, count) => {
                let at = place(at, bytes);
                let end = bytes.len().min(at + count);
                let run = bytes[at..end].to_vec();
                bytes.splice(at..at, run);
            }
            Self::Flip(at, bits) => {
                let at = place(at, bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bits;
                }
            }
            Self::Cut(at) => bytes.truncate(place(at, bytes)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases_of_a_run(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn altered_responses_get_the_same_verdict(
        case in 0..CASES.len(),
        changes in prop::collection::vec(Change::any(), 1..5),
        head_only in prop::bool::weighted(0.2),
    ) {
        let (_, text) = CASES[case];
        let mut bytes = text.replace("{H}", HEAD).replace("{C}", CHUNKED).into_bytes();
        for change in &changes {
            change.apply(&mut bytes);
        }
        let method = if head_only { Method::Head } else { Method::Get };
        let (ours, hypers) = (ours(method, &bytes), hypers(method, &bytes));
        prop_assert!(
            ours == hypers || is_known(&bytes, ours, hypers),
            "ours {:?}, hyper {:?}: {:?}", ours, hypers, String::from_utf8_lossy(&bytes)
        );
    }
}

fn cases_of_a_run() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(2000)
}
