//! A response, rendered whole before its first byte leaves: a little text of
//! its own, and references to shared blocks for everything long. Pure: what
//! is sent, how fast and what happens afterwards is decided here, and only
//! carried out elsewhere.

use std::{io::IoSlice, sync::LazyLock, time::Duration};

use crate::{
    content::{Content, PATTERN_BYTES, Piece, pattern},
    limits::{INLINE_MAX_BYTES, SLOW_WRITES_PER_S, WRITE_MAX_BYTES},
    query::{
        BadChunk, BadHead, Behaviour, Coding, Ending, Fault, Fill, Framing, Lie, Pace, Redirect,
        Stage, decoded, next_hop,
    },
};

/// What happens to the connection when the response has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It serves the next request.
    KeepAlive,
    /// It is closed, in order.
    Close,
    /// It is closed in order, after what the client still sends has been read
    /// for a while: closing over unread bytes would reset the connection and
    /// could take the response with it.
    Refuse,
    /// It is closed without a TLS close alert.
    CutOff,
    /// It is reset.
    Reset,
    /// It stays open, and silent.
    Stall,
}

/// How a request wants to be answered, whatever its URL asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner {
    /// HEAD: the header section only.
    pub(crate) head_only: bool,
    /// HTTP/1.0: no chunked coding, and keep-alive must be announced.
    pub(crate) http10: bool,
    /// The connection may serve another request afterwards.
    pub(crate) keep_alive: bool,
    /// The connection has served a request before.
    pub(crate) reused: bool,
}

/// One rendered response. The buffers are reused from request to request.
#[derive(Debug)]
pub(crate) struct Response {
    text: Vec<u8>,
    segments: Vec<Segment>,
    length: u64,
    head_length: u64,
    /// The status that the client gets to see, if any.
    pub(crate) status: Option<u16>,
    /// Bytes of the body, after content coding, before transfer coding; 0 if
    /// something goes wrong with it.
    pub(crate) body_bytes: u64,
    /// How fast it leaves; at once without.
    pub(crate) pace: Option<Pace>,
    /// What comes then.
    pub(crate) after: After,
}

/// A run of a response's bytes.
#[derive(Debug, Clone, Copy)]
enum Segment {
    /// A range of the response's own text.
    Text { start: usize, end: usize },
    /// `length` bytes of `source`, repeated as needed.
    Cycle { source: &'static [u8], length: u64 },
}

impl Segment {
    fn length(&self) -> u64 {
        match *self {
            Self::Text { start, end } => bytes(end - start),
            Self::Cycle { length, .. } => length,
        }
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits into 64 bits")
}

impl Response {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            text: Vec::with_capacity(512),
            segments: Vec::with_capacity(4),
            length: 0,
            head_length: 0,
            status: None,
            body_bytes: 0,
            pace: None,
            after: After::KeepAlive,
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        self.segments.clear();
        self.length = 0;
        self.head_length = 0;
        self.status = None;
        self.body_bytes = 0;
        self.pace = None;
        self.after = After::KeepAlive;
    }

    /// What `asked` asks for, with a body of `size` bytes. `path` and
    /// `query` are the request's own: a redirect leads back to them.
    pub(crate) fn render(
        &mut self,
        asked: &Behaviour<'_>,
        size: u64,
        manner: Manner,
        (path, query): (&str, &str),
    ) {
        self.clear();
        if asked.interim > 0 {
            self.push_cycle(
                &INTERIM,
                bytes(INTERIM_ONE.len()) * u64::from(asked.interim),
            );
        }
        if let Some(redirect) = asked.redirect {
            self.render_redirect(redirect, manner, (path, query));
            return;
        }
        let fault = asked.fault.filter(|_| manner.reused || !asked.if_reused);
        let framing = match asked.framing {
            Framing::Chunked if manner.http10 => Framing::Close,
            Framing::Length => match fault {
                Some(Fault::BadChunk(_)) => Framing::Chunked,
                Some(Fault::EndlessBody) => Framing::Close,
                _ => Framing::Length,
            },
            framing => framing,
        };
        let content = if asked.status == 205 {
            Content::new(0, None, Fill::Text)
        } else {
            Content::new(size, asked.coding, asked.fill)
        };
        let keep_alive = manner.keep_alive && framing != Framing::Close;
        let announced = Manner {
            keep_alive,
            ..manner
        };
        self.pace = asked.pace;
        self.after = match keep_alive && !asked.idle_close {
            true => After::KeepAlive,
            false => After::Close,
        };
        self.status = Some(asked.status);
        let bodiless = matches!(asked.status, 204 | 304);

        if let Some(Fault::BadHead(how @ (BadHead::Garbage | BadHead::None | BadHead::Switch))) =
            fault
        {
            self.status = None;
            self.after = After::CutOff;
            match how {
                BadHead::None => self.push_content(&content),
                BadHead::Switch => self.push_text(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
                ),
                _ => self.push_text(b"SSH-2.0-origin this is no HTTP\r\n"),
            }
            return;
        }

        self.push_head(asked, fault, framing, &content, bodiless, announced);
        self.head_length = self.length;
        if !manner.head_only && !bodiless {
            self.push_body(&content, framing, fault);
        }
        if fault == Some(Fault::Extra) {
            self.push_text(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nextra\n");
        }
        if let Some(Fault::Cut(stage, ending)) = fault {
            self.cut(stage, ending);
        }
    }

    /// A response of the origin's own, such as the counters or a refusal.
    pub(crate) fn render_own(
        &mut self,
        status: u16,
        content_type: &str,
        body: &[u8],
        manner: Manner,
    ) {
        self.clear();
        self.status = Some(status);
        self.after = match manner.keep_alive {
            true => After::KeepAlive,
            false => After::Close,
        };
        self.push_status_line(status);
        self.push_text(b"Content-Type: ");
        self.push_text(content_type.as_bytes());
        self.push_text(b"\r\n");
        self.push_connection(manner);
        self.push_length(bytes(body.len()));
        self.push_text(b"\r\n");
        self.head_length = self.length;
        if !manner.head_only {
            self.push_text(body);
            self.body_bytes = bytes(body.len());
        }
    }

    fn render_redirect(&mut self, redirect: Redirect<'_>, manner: Manner, url: (&str, &str)) {
        let (path, query) = url;
        self.status = Some(302);
        self.push_status_line(302);
        self.push_text(b"Location: ");
        let start = self.text.len();
        match redirect {
            Redirect::Chain(count) => {
                self.text.extend_from_slice(path.as_bytes());
                next_hop(query, count - 1, &mut self.text);
            }
            Redirect::Loop => {
                self.text.extend_from_slice(path.as_bytes());
                self.text.push(b'?');
                self.text.extend_from_slice(query.as_bytes());
            }
            Redirect::To(place) => self.text.extend(decoded(place).flatten()),
        }
        self.claim_text(start);
        self.push_text(b"\r\n");
        self.push_connection(manner);
        self.push_length(0);
        self.push_text(b"\r\n");
        self.head_length = self.length;
        self.after = match manner.keep_alive {
            true => After::KeepAlive,
            false => After::Close,
        };
    }

    fn push_head(
        &mut self,
        asked: &Behaviour<'_>,
        fault: Option<Fault>,
        framing: Framing,
        content: &Content,
        bodiless: bool,
        manner: Manner,
    ) {
        self.push_status_line(asked.status);
        if let Some(seconds) = asked.retry_after_s {
            self.push_text(b"Retry-After: ");
            self.push_number(u64::from(seconds));
            self.push_text(b"\r\n");
        }
        self.push_cycle(&FILLER, bytes(FILLER_LINE.len()) * u64::from(asked.headers));
        if let Some(size) = asked.header_size {
            self.push_text(b"X-Long: ");
            self.push_cycle(&LETTERS, size);
            self.push_text(b"\r\n");
        }
        match fault {
            Some(Fault::EndlessHead) => {
                self.push_cycle(&FILLER, u64::MAX);
                return;
            }
            Some(Fault::BadHead(BadHead::Nul)) => self.push_text(b"X-Bad: a\0b\r\n"),
            Some(Fault::BadHead(BadHead::Control)) => self.push_text(b"X-Bad: a\x01b\r\n"),
            Some(Fault::BadHead(BadHead::Cr)) => self.push_text(b"X-Bad: a\rb\r\n"),
            Some(Fault::BadHead(BadHead::SpaceInName)) => self.push_text(b"X-Bad : a\r\n"),
            _ => {}
        }
        self.push_text(b"Content-Type: text/plain\r\n");
        match asked.coding {
            None => {}
            Some(Coding::Gzip) => self.push_text(b"Content-Encoding: gzip\r\n"),
            Some(Coding::Brotli) => self.push_text(b"Content-Encoding: br\r\n"),
            Some(Coding::Zstd) => self.push_text(b"Content-Encoding: zstd\r\n"),
        }
        self.push_connection(manner);
        if !bodiless {
            match framing {
                Framing::Chunked => self.push_text(b"Transfer-Encoding: chunked\r\n"),
                Framing::Close => {}
                Framing::Length => {
                    let length = content.length();
                    match fault {
                        Some(Fault::LengthLie(Lie::Short)) => self.push_length(length / 2),
                        Some(Fault::LengthLie(Lie::Long)) => self.push_length(length * 2),
                        Some(Fault::BadHead(BadHead::TwoLengths)) => {
                            self.push_length(length);
                            self.push_length(length + 1);
                        }
                        _ => self.push_length(length),
                    }
                }
            }
        }
        self.push_text(b"\r\n");
    }

    fn push_body(&mut self, content: &Content, framing: Framing, fault: Option<Fault>) {
        match fault {
            Some(Fault::EndlessBody) if framing == Framing::Chunked => {
                self.push_cycle(&CHUNK, u64::MAX);
            }
            Some(Fault::EndlessBody) => self.push_piece(&Piece::pattern(u64::MAX)),
            Some(Fault::EndlessHead) => {}
            Some(Fault::BadChunk(how)) if framing == Framing::Chunked => match how {
                BadChunk::Size => self.push_text(b"size\r\nbody\r\n0\r\n\r\n"),
                BadChunk::Huge => {
                    self.push_text(b"10000000000000004\r\nbody\r\n0\r\n\r\n");
                }
                BadChunk::NoCrlf => self.push_text(b"4\r\nbody0\r\n\r\n"),
                BadChunk::Endless => self.push_cycle(&ZEROS, u64::MAX),
                BadChunk::Trailers => {
                    self.push_text(b"4\r\nbody\r\n0\r\n");
                    self.push_cycle(&FILLER, u64::MAX);
                }
            },
            _ => {
                self.body_bytes = content.length();
                match framing {
                    Framing::Chunked => self.push_chunked(content),
                    Framing::Length | Framing::Close => self.push_content(content),
                }
            }
        }
    }

    fn push_content(&mut self, content: &Content) {
        for piece in content.pieces() {
            self.push_piece(piece);
        }
    }

    /// A plain body goes in chunks of 16 KiB; an encoded one in a chunk for
    /// each of its pieces.
    fn push_chunked(&mut self, content: &Content) {
        for piece in content.pieces() {
            let mut rest = *piece;
            if let Piece::Cycle { source, length } = piece
                && source.as_ptr() == pattern().as_ptr()
            {
                let whole = length / CHUNK_BYTES;
                self.push_cycle(&CHUNK, whole * bytes(CHUNK.len()));
                rest = Piece::pattern(length % CHUNK_BYTES);
            }
            if rest.length() > 0 {
                let start = self.text.len();
                push_hexadecimal(&mut self.text, rest.length());
                self.claim_text(start);
                self.push_text(b"\r\n");
                self.push_piece(&rest);
                self.push_text(b"\r\n");
            }
        }
        self.push_text(b"0\r\n\r\n");
    }

    /// Ends the response early.
    fn cut(&mut self, stage: Stage, ending: Ending) {
        let end = match stage {
            Stage::Before => 0,
            Stage::InHead => self.head_length / 2,
            Stage::AfterHead => self.head_length,
            Stage::InBody => self.head_length + (self.length - self.head_length) / 2,
            Stage::After => self.length,
        };
        self.after = match ending {
            Ending::Stall => After::Stall,
            Ending::Reset => After::Reset,
            Ending::Close => After::CutOff,
        };
        if matches!(stage, Stage::Before | Stage::InHead) {
            self.status = None;
        }
        if stage != Stage::After {
            self.body_bytes = 0;
        }
        let mut left = end;
        self.segments.retain_mut(|segment| {
            let kept = segment.length().min(left);
            left -= kept;
            match segment {
                Segment::Text { start, end } => *end = *start + within(kept),
                Segment::Cycle { length, .. } => *length = kept,
            }
            kept > 0
        });
        self.length = end;
    }

    fn push_status_line(&mut self, status: u16) {
        if status == 200 {
            self.push_text(b"HTTP/1.1 200 OK\r\n");
            return;
        }
        self.push_text(b"HTTP/1.1 ");
        self.push_number(u64::from(status));
        self.push_text(b" ");
        self.push_text(reason(status).as_bytes());
        self.push_text(b"\r\n");
    }

    fn push_connection(&mut self, manner: Manner) {
        match (manner.keep_alive, manner.http10) {
            (true, false) => {}
            (true, true) => self.push_text(b"Connection: keep-alive\r\n"),
            (false, _) => self.push_text(b"Connection: close\r\n"),
        }
    }

    fn push_length(&mut self, length: u64) {
        self.push_text(b"Content-Length: ");
        self.push_number(length);
        self.push_text(b"\r\n");
    }

    fn push_number(&mut self, number: u64) {
        let start = self.text.len();
        push_decimal(&mut self.text, number);
        self.claim_text(start);
    }

    fn push_text(&mut self, text: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.claim_text(start);
    }

    /// Takes what was appended to `text` from `from` on into the response.
    fn claim_text(&mut self, from: usize) {
        let to = self.text.len();
        self.length += bytes(to - from);
        match self.segments.last_mut() {
            Some(Segment::Text { end, .. }) => *end = to,
            _ if from < to => self.segments.push(Segment::Text {
                start: from,
                end: to,
            }),
            _ => {}
        }
    }

    fn push_piece(&mut self, piece: &Piece) {
        match *piece {
            Piece::Cycle { source, length } => self.push_cycle(source, length),
            Piece::Short { bytes, length } => self.push_text(&bytes[..usize::from(length)]),
        }
    }

    fn push_cycle(&mut self, source: &'static [u8], length: u64) {
        if length == 0 {
            return;
        }
        if length <= INLINE_MAX_BYTES {
            let start = self.text.len();
            let mut left = within(length);
            while left > 0 {
                let part = left.min(source.len());
                self.text.extend_from_slice(&source[..part]);
                left -= part;
            }
            self.claim_text(start);
            return;
        }
        self.length = self.length.saturating_add(length);
        self.segments.push(Segment::Cycle { source, length });
    }
}

/// A length of own text, which is in memory.
fn within(length: u64) -> usize {
    usize::try_from(length).expect("a length in memory fits")
}

/// Most slices of one gathering write.
pub(crate) const SLICES_MAX: usize = 16;

/// How far a response has been sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    segment: usize,
    offset: u64,
    sent: u64,
}

impl Cursor {
    /// Whether all has been sent.
    pub(crate) fn at_end(&self, response: &Response) -> bool {
        self.segment == response.segments.len()
    }

    /// Bytes sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// What comes next, at most `limit` bytes of it; returns how many of
    /// `slices` are used, at least one unless all is sent.
    pub(crate) fn gather<'r>(
        &self,
        response: &'r Response,
        limit: u64,
        slices: &mut [IoSlice<'r>; SLICES_MAX],
    ) -> usize {
        let mut left = limit;
        let mut used = 0;
        let mut skip = self.offset;
        for segment in &response.segments[self.segment..] {
            let mut at = skip;
            skip = 0;
            while at < segment.length() {
                if left == 0 || used == SLICES_MAX {
                    return used;
                }
                let run: &[u8] = match *segment {
                    Segment::Text { start, end } => &response.text[start + within(at)..end],
                    Segment::Cycle { source, length } => {
                        let phase = within(at % bytes(source.len()));
                        let run = &source[phase..];
                        let last = (length - at).min(bytes(run.len()));
                        &run[..within(last)]
                    }
                };
                let run = &run[..within(left.min(bytes(run.len())))];
                slices[used] = IoSlice::new(run);
                used += 1;
                at += bytes(run.len());
                left -= bytes(run.len());
            }
        }
        used
    }

    /// Takes note of `count` bytes that have been sent.
    pub(crate) fn advance(&mut self, response: &Response, count: usize) {
        let mut left = bytes(count);
        self.sent += left;
        while let Some(segment) = response.segments.get(self.segment) {
            let here = segment.length() - self.offset;
            if left < here {
                self.offset += left;
                return;
            }
            left -= here;
            self.segment += 1;
            self.offset = 0;
        }
    }
}

/// How much of a paced response may be written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stride {
    /// Bytes, at most.
    pub(crate) bytes: u64,
    /// Time from the stride before to this one; `None`: no wait.
    pub(crate) interval: Option<Duration>,
}

impl Response {
    /// The next write when `sent` bytes are out.
    pub(crate) fn stride(&self, sent: u64) -> Stride {
        let free = |bytes| Stride {
            bytes,
            interval: None,
        };
        let slow = |rate: u32| {
            let bytes = rate.div_ceil(SLOW_WRITES_PER_S);
            Stride {
                bytes: u64::from(bytes),
                interval: Some(Duration::from_secs(bytes.into()) / rate),
            }
        };
        match self.pace {
            None => free(WRITE_MAX_BYTES),
            Some(Pace::Split) => free(1),
            Some(Pace::Slow(rate)) => slow(rate),
            Some(Pace::SlowBody(_)) if sent < self.head_length => free(self.head_length - sent),
            Some(Pace::SlowBody(rate)) => slow(rate),
        }
    }
}

/// Appends a number in decimal.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    push_digits(out, number, 10);
}

fn push_hexadecimal(out: &mut Vec<u8>, number: u64) {
    push_digits(out, number, 16);
}

fn push_digits(out: &mut Vec<u8>, mut number: u64, base: u8) {
    // 2⁶⁴ has twenty decimal digits.
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        let digit = usize::try_from(number % u64::from(base)).expect("below 16");
        digits[first] = b"0123456789abcdef"[digit];
        number /= u64::from(base);
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

const CHUNK_BYTES: u64 = 16 * 1024;

/// 16 KiB of the pattern as one chunk. The pattern's period divides a chunk,
/// so that chunks repeat.
static CHUNK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const _: () = assert!(PATTERN_BYTES >= 16 * 1024);
    let mut chunk = b"4000\r\n".to_vec();
    chunk.extend_from_slice(&pattern()[..within(CHUNK_BYTES)]);
    chunk.extend_from_slice(b"\r\n");
    chunk
});

const INTERIM_ONE: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";
const FILLER_LINE: &[u8] = b"X-Filler: 0123456789abcdefghij\r\n";
static INTERIM: LazyLock<Vec<u8>> = LazyLock::new(|| INTERIM_ONE.repeat(128));
static FILLER: LazyLock<Vec<u8>> = LazyLock::new(|| FILLER_LINE.repeat(128));
static LETTERS: LazyLock<Vec<u8>> = LazyLock::new(|| b"a".repeat(4096));
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| b"0".repeat(4096));

/// The phrase of a status (RFC 9110, section 15); empty for a rare one, which
/// RFC 9112, section 4 allows.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        418 => "I'm a Teapot",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query;

    const PLAIN: Manner = Manner {
        head_only: false,
        http10: false,
        keep_alive: true,
        reused: false,
    };

    fn rendered(query: &str, manner: Manner) -> Response {
        let asked = query::parse(query).unwrap();
        let mut draw = crate::draw::Draw::new(0);
        let mut response = Response::new();
        response.render(&asked, asked.size.sample(&mut draw), manner, ("/p", query));
        response
    }

    /// At most `limit` bytes, taken in strides of `step`.
    fn flat(response: &Response, step: u64, limit: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut cursor = Cursor::default();
        while !cursor.at_end(response) && out.len() < limit {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = cursor.gather(response, step, &mut slices);
            assert!(used > 0);
            let before = out.len();
            for slice in &slices[..used] {
                assert!(!slice.is_empty());
                out.extend_from_slice(slice);
            }
            assert!(bytes(out.len() - before) <= step);
            cursor.advance(response, out.len() - before);
            assert_eq!(cursor.sent(), bytes(out.len()));
        }
        out
    }

    fn text(query: &str) -> String {
        let response = rendered(query, PLAIN);
        let all = flat(&response, WRITE_MAX_BYTES, usize::MAX);
        assert_eq!(bytes(all.len()), response.length);
        String::from_utf8_lossy(&all).into_owned()
    }

    #[test]
    fn a_small_response_is_one_run_of_bytes() {
        let response = rendered("size=64", PLAIN);
        assert_eq!(response.segments.len(), 1);
        assert_eq!(
            text("size=64"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n\
             fanout origin: a line of 64 bytes, all text, with a newline...\n"
        );
        assert_eq!(response.status, Some(200));
        assert_eq!(response.body_bytes, 64);
        assert_eq!(response.after, After::KeepAlive);
    }

    #[test]
    fn statuses_without_a_body_have_none() {
        assert_eq!(
            text("status=204&size=9"),
            "HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n\r\n"
        );
        assert!(text("status=304&chunked").ends_with("text/plain\r\n\r\n"));
        assert!(text("status=205&size=9").ends_with("Content-Length: 0\r\n\r\n"));
        assert!(text("status=299").starts_with("HTTP/1.1 299 \r\n"));
        assert!(text("status=503&retry-after=7").contains("\r\nRetry-After: 7\r\n"));
    }

    #[test]
    fn chunks_carry_the_body() {
        assert!(text("chunked&size=4").ends_with("\r\n\r\n4\r\nfano\r\n0\r\n\r\n"));
        assert!(text("chunked&size=0").ends_with("\r\n\r\n0\r\n\r\n"));
        let long = text("chunked&size=40000");
        let (_, body) = long.split_once("\r\n\r\n").unwrap();
        let mut rest = body;
        let mut sizes = Vec::new();
        let mut decoded = String::new();
        loop {
            let (size, data) = rest.split_once("\r\n").unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                assert_eq!(data, "\r\n");
                break;
            }
            sizes.push(size);
            decoded.push_str(&data[..size]);
            rest = data[size..].strip_prefix("\r\n").unwrap();
        }
        assert_eq!(sizes, [16_384, 16_384, 7232]);
        let (_, plain) = text("size=40000")
            .split_once("\r\n\r\n")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        assert_eq!(decoded, plain);
    }

    #[test]
    fn http_1_0_gets_no_chunks_and_keep_alive_is_announced() {
        let old = Manner {
            http10: true,
            ..PLAIN
        };
        let response = rendered("chunked&size=4", old);
        let all = String::from_utf8(flat(&response, 100, usize::MAX)).unwrap();
        assert!(all.contains("Connection: close\r\n"), "{all}");
        assert!(all.ends_with("\r\n\r\nfano"), "{all}");
        assert_eq!(response.after, After::Close);
        let kept = flat(&rendered("size=4", old), 100, usize::MAX);
        let kept = String::from_utf8(kept).unwrap();
        assert!(kept.contains("Connection: keep-alive\r\n"), "{kept}");
    }

    #[test]
    fn head_is_the_same_head_alone() {
        for query in ["size=100000", "chunked", "gzip&size=9", "status=404"] {
            let head_only = Manner {
                head_only: true,
                ..PLAIN
            };
            let response = rendered(query, head_only);
            let head = flat(&response, 100, usize::MAX);
            let whole = text(query);
            let (expected, _) = whole.split_at(whole.find("\r\n\r\n").unwrap() + 4);
            assert_eq!(String::from_utf8(head).unwrap(), expected);
            assert_eq!(response.body_bytes, 0);
        }
    }

    #[test]
    fn redirects_lead_back_or_anywhere() {
        assert_eq!(
            text("redirect=2&size=9"),
            "HTTP/1.1 302 Found\r\nLocation: /p?redirect=1&size=9\r\nContent-Length: 0\r\n\r\n"
        );
        assert!(text("redirect=1").contains("\r\nLocation: /p\r\n"));
        assert!(text("redirect=loop").contains("\r\nLocation: /p?redirect=loop\r\n"));
        assert!(text("redirect-to=file:///%65tc").contains("\r\nLocation: file:///etc\r\n"));
    }

    #[test]
    fn faults_cut_where_they_say() {
        let whole = text("size=100");
        let head = whole.find("\r\n\r\n").unwrap() + 4;
        for (query, length, after, status) in [
            ("stall", head, After::Stall, Some(200)),
            ("stall=before", 0, After::Stall, None),
            ("stall=in-head", head / 2, After::Stall, None),
            ("reset", 0, After::Reset, None),
            ("reset=in-body", head + 50, After::Reset, Some(200)),
            ("truncate", head + 50, After::CutOff, Some(200)),
            ("truncate=before", 0, After::CutOff, None),
            ("truncate=after", head + 100, After::CutOff, Some(200)),
        ] {
            let query = format!("size=100&{query}");
            let response = rendered(&query, PLAIN);
            let all = flat(&response, 7, usize::MAX);
            assert_eq!(String::from_utf8(all).unwrap(), whole[..length], "{query}");
            assert_eq!(response.after, after, "{query}");
            assert_eq!(response.status, status, "{query}");
        }
    }

    #[test]
    fn a_fault_can_wait_for_a_reused_connection() {
        let fresh = rendered("reset&if-reused", PLAIN);
        assert_eq!(fresh.after, After::KeepAlive);
        let reused = Manner {
            reused: true,
            ..PLAIN
        };
        assert_eq!(rendered("reset&if-reused", reused).after, After::Reset);
    }

    #[test]
    fn broken_heads_and_bodies_are_broken_as_named() {
        assert!(text("size=10&length-lie").contains("Content-Length: 5\r\n\r\nfanout ori"));
        assert!(text("size=10&length-lie=long").contains("Content-Length: 20\r\n\r\nfanout ori"));
        assert!(text("bad-chunk").ends_with("chunked\r\n\r\nsize\r\nbody\r\n0\r\n\r\n"));
        assert!(text("bad-chunk=huge").contains("\r\n10000000000000004\r\n"));
        assert!(text("bad-chunk=no-crlf").ends_with("4\r\nbody0\r\n\r\n"));
        assert!(text("bad-head").starts_with("SSH-2.0"));
        assert_eq!(text("bad-head=none&size=6"), "fanout");
        assert!(text("bad-head=nul").contains("X-Bad: a\0b\r\n"));
        assert!(text("bad-head=control").contains("X-Bad: a\u{1}b\r\n"));
        assert!(text("bad-head=cr").contains("X-Bad: a\rb\r\n"));
        assert!(text("bad-head=switch").starts_with("HTTP/1.1 101 "));
        assert!(text("bad-head=space").contains("X-Bad : a\r\n"));
        let two = text("bad-head=two-lengths&size=3");
        assert!(two.contains("Content-Length: 3\r\nContent-Length: 4\r\n"));
        assert!(
            text("size=1&extra").ends_with("fHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nextra\n")
        );
        assert_eq!(text("headers=10000").matches("X-Filler: ").count(), 10_000);
        assert!(text("header-size=100000").contains(&"a".repeat(100_000)));
        assert_eq!(
            text("interim=300")
                .matches("HTTP/1.1 102 Processing\r\n\r\n")
                .count(),
            300
        );
    }

    #[test]
    fn what_is_endless_does_not_end() {
        for query in [
            "endless",
            "endless&chunked",
            "endless=head",
            "bad-chunk=endless",
            "bad-chunk=trailers",
        ] {
            let response = rendered(query, PLAIN);
            let some = flat(&response, WRITE_MAX_BYTES, 3 << 20);
            assert!(some.len() >= 3 << 20, "{query}");
            assert_eq!(response.body_bytes, 0);
        }
    }

    #[test]
    fn strides_pace_the_response() {
        let slow = rendered("slow=10", PLAIN);
        assert_eq!(slow.stride(0).bytes, slow.head_length);
        let one = Stride {
            bytes: 1,
            interval: Some(Duration::from_millis(100)),
        };
        assert_eq!(slow.stride(slow.head_length), one);
        assert_eq!(rendered("slow-head=10", PLAIN).stride(0), one);
        assert_eq!(rendered("slow-head=1000", PLAIN).stride(0).bytes, 10);
        let split = rendered("split", PLAIN).stride(0);
        assert_eq!((split.bytes, split.interval), (1, None));
    }

    proptest! {
        #[test]
        fn a_response_is_the_same_in_any_strides(
            query in proptest::sample::select(vec![
                "size=5000", "size=200000", "chunked&size=70000", "gzip&size=300000",
                "br&chunked&size=150000", "zstd&size=70000", "interim=200&headers=300&size=2000",
                "truncate&size=70001",
            ]),
            step in 1u64..100_000,
        ) {
            let response = rendered(query, PLAIN);
            let whole = flat(&response, u64::MAX, usize::MAX);
            prop_assert_eq!(bytes(whole.len()), response.length);
            prop_assert!(flat(&response, step, usize::MAX) == whole);
        }
    }
}
