//! A response, rendered whole before its first byte leaves: a little text of its own, and
//! references to shared blocks for everything long. Pure: what is sent, how fast and what happens
//! afterwards is decided here, and only carried out elsewhere.

use std::{fmt, io::Write, mem::take, sync::LazyLock};

use http::StatusCode;

use crate::{
    behaviour::{
        BadChunk, BadHead, Behaviour, BodyCoding, CutKind, Fault, Fill, Framing, Lie, Redirect,
        SendPace, Stage,
    },
    content::{Content, PATTERN_BYTES, Piece, pattern},
    limits::INLINE_MAX_BYTES,
    number::{to_u64, to_usize},
    query::{decoded, next_hop},
    request::RequestMode,
};

/// What happens to the connection when the response has been sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum After {
    #[default]
    KeepAlive,
    Close,
    /// It is closed in order, after what the client still sends has been read for a while: closing
    /// over unread bytes would reset the connection and could take the response with it.
    Refuse,
    /// It is closed without a TLS close alert.
    CutOff,
    Reset,
    /// It stays open, and silent.
    Stall,
}

impl After {
    fn reuse(keep_alive: bool) -> Self {
        match keep_alive {
            true => Self::KeepAlive,
            false => Self::Close,
        }
    }
}

/// One rendered response. The buffers are reused from request to request.
#[derive(Debug, Default)]
pub(crate) struct RenderedResponse {
    pub(crate) text: Vec<u8>,
    pub(crate) segments: Vec<Segment>,
    length: u64,
    pub(crate) head_length: u64,
    /// The status that the client gets to see, if any.
    pub(crate) status: Option<u16>,
    /// Bytes of the body, after content coding, before transfer coding; 0 if
    /// something goes wrong with it.
    pub(crate) body_bytes: u64,
    /// How fast it leaves; at once without.
    pub(crate) pace: Option<SendPace>,
    pub(crate) after: After,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Segment {
    /// A range of the response's own text.
    Text {
        start: usize,
        end: usize,
    },
    Cycle {
        source: &'static [u8],
        length: u64,
    },
}

impl Segment {
    pub(crate) fn length(&self) -> u64 {
        match *self {
            Self::Text { start, end } => to_u64(end - start),
            Self::Cycle { length, .. } => length,
        }
    }
}

impl RenderedResponse {
    pub(crate) fn new() -> Self {
        Self { text: Vec::with_capacity(512), segments: Vec::with_capacity(4), ..Self::default() }
    }

    fn clear(&mut self) {
        let (mut text, mut segments) = (take(&mut self.text), take(&mut self.segments));
        text.clear();
        segments.clear();
        *self = Self { text, segments, ..Self::default() };
    }

    /// What `asked` asks for, with a body of `size` bytes. `path` and
    /// `query` are the request's own: a redirect leads back to them.
    pub(crate) fn render(
        &mut self,
        asked: &Behaviour<'_>,
        size: u64,
        mode: RequestMode,
        (path, query): (&str, &str),
    ) {
        self.clear();
        self.push_repeated(&INTERIM, INTERIM_ONE, asked.interim);
        if let Some(redirect) = asked.redirect {
            self.render_redirect(redirect, mode, (path, query));
            return;
        }
        let fault = asked.fault.filter(|_| mode.reused || !asked.if_reused);
        let framing = match asked.framing {
            Framing::Chunked if mode.http10 => Framing::Close,
            Framing::Length => match fault {
                Some(Fault::BadChunk(_)) => Framing::Chunked,
                Some(Fault::EndlessBody) => Framing::Close,
                _ => Framing::Length,
            },
            framing => framing,
        };
        let content = match asked.status {
            205 => Content::new(0, None, Fill::Text),
            _ => Content::new(size, asked.coding, asked.fill),
        };
        let keep_alive = mode.keep_alive && framing != Framing::Close;
        self.pace = asked.pace;
        if let Some(Fault::BadHead(how)) = fault
            && self.push_foreign(how, &content)
        {
            self.after = After::CutOff;
            return;
        }

        self.after = After::reuse(keep_alive && !asked.idle_close);
        self.status = Some(asked.status);
        let announced = RequestMode { keep_alive, ..mode };
        let bodiless = matches!(asked.status, 204 | 304);
        self.push_head(asked, fault, framing, &content, bodiless, announced);
        self.head_length = self.length;
        if !mode.head_only && !bodiless {
            self.push_body(&content, framing, fault);
        }
        match fault {
            Some(Fault::Extra) => {
                self.push_text(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nextra\n");
            }
            Some(Fault::Cut(stage, kind)) => self.cut(stage, kind),
            _ => {}
        }
    }

    /// A response of the origin's own, such as the counters or a refusal.
    pub(crate) fn render_own(
        &mut self,
        status: u16,
        content_type: &str,
        body: &[u8],
        mode: RequestMode,
    ) {
        self.clear();
        self.status = Some(status);
        self.after = After::reuse(mode.keep_alive);
        self.push_status_line(status);
        self.write_fmt(format_args!("Content-Type: {content_type}\r\n"));
        self.end_own_head(mode, body.len());
        if !mode.head_only {
            self.push_text(body);
            self.body_bytes = to_u64(body.len());
        }
    }

    fn render_redirect(
        &mut self,
        redirect: Redirect<'_>,
        mode: RequestMode,
        (path, query): (&str, &str),
    ) {
        self.status = Some(302);
        self.after = After::reuse(mode.keep_alive);
        self.push_status_line(302);
        self.push_text(b"Location: ");
        let start = self.text.len();
        match redirect {
            Redirect::Chain(count) => {
                self.text.extend_from_slice(path.as_bytes());
                next_hop(query, count - 1, &mut self.text);
            }
            Redirect::Loop => {
                for part in [path, "?", query] {
                    self.text.extend_from_slice(part.as_bytes());
                }
            }
            Redirect::To(url) => self.text.extend(decoded(url).flatten()),
        }
        self.claim_text(start);
        self.push_text(b"\r\n");
        self.end_own_head(mode, 0);
    }

    fn end_own_head(&mut self, mode: RequestMode, body_length: usize) {
        self.push_connection(mode);
        self.push_length(to_u64(body_length));
        self.push_text(b"\r\n");
        self.head_length = self.length;
    }

    /// Instead of a response what is none; `false` for a head that is only broken.
    fn push_foreign(&mut self, how: BadHead, content: &Content) -> bool {
        match how {
            BadHead::None => self.push_content(content),
            BadHead::Switch => self.push_text(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            ),
            BadHead::Garbage => self.push_text(b"SSH-2.0-origin this is no HTTP\r\n"),
            _ => return false,
        }
        true
    }

    fn push_head(
        &mut self,
        asked: &Behaviour<'_>,
        fault: Option<Fault>,
        framing: Framing,
        content: &Content,
        bodiless: bool,
        mode: RequestMode,
    ) {
        self.push_status_line(asked.status);
        if let Some(seconds) = asked.retry_after_s {
            self.write_fmt(format_args!("Retry-After: {seconds}\r\n"));
        }
        self.push_repeated(&FILLER, FILLER_LINE, asked.headers);
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
            Some(BodyCoding::Gzip) => self.push_text(b"Content-Encoding: gzip\r\n"),
            Some(BodyCoding::Brotli) => self.push_text(b"Content-Encoding: br\r\n"),
            Some(BodyCoding::Zstd) => self.push_text(b"Content-Encoding: zstd\r\n"),
        }
        self.push_connection(mode);
        let length = content.length();
        match (framing, fault) {
            _ if bodiless => {}
            (Framing::Close, _) => {}
            (Framing::Chunked, _) => self.push_text(b"Transfer-Encoding: chunked\r\n"),
            (_, Some(Fault::LengthLie(Lie::Short))) => self.push_length(length / 2),
            (_, Some(Fault::LengthLie(Lie::Long))) => self.push_length(length * 2),
            (_, Some(Fault::BadHead(BadHead::TwoLengths))) => {
                self.push_length(length);
                self.push_length(length + 1);
            }
            _ => self.push_length(length),
        }
        self.push_text(b"\r\n");
    }

    fn push_body(&mut self, content: &Content, framing: Framing, fault: Option<Fault>) {
        match fault {
            Some(Fault::EndlessBody) if framing == Framing::Chunked => {
                self.push_cycle(&CHUNK, u64::MAX);
            }
            Some(Fault::EndlessBody) => self.push_cycle(pattern(), u64::MAX),
            Some(Fault::EndlessHead) => {}
            Some(Fault::BadChunk(how)) if framing == Framing::Chunked => match how {
                BadChunk::Size => self.push_text(b"size\r\nbody\r\n0\r\n\r\n"),
                BadChunk::Huge => self.push_text(b"10000000000000004\r\nbody\r\n0\r\n\r\n"),
                BadChunk::NoCrlf => self.push_text(b"4\r\nbody0\r\n\r\n"),
                BadChunk::Endless => self.push_cycle(&DIGITS, u64::MAX),
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

    /// A plain body goes in chunks of 16 KiB; an encoded one in a chunk for each of its pieces.
    fn push_chunked(&mut self, content: &Content) {
        for piece in content.pieces() {
            let mut rest = *piece;
            if let Piece::Cycle { source, length } = piece
                && source.as_ptr() == pattern().as_ptr()
            {
                let whole = length / CHUNK_BYTES;
                self.push_cycle(&CHUNK, whole * to_u64(CHUNK.len()));
                rest = Piece::plain(Fill::Text, length % CHUNK_BYTES);
            }
            if rest.length() > 0 {
                self.write_fmt(format_args!("{:x}\r\n", rest.length()));
                self.push_piece(&rest);
                self.push_text(b"\r\n");
            }
        }
        self.push_text(b"0\r\n\r\n");
    }

    fn cut(&mut self, stage: Stage, kind: CutKind) {
        let end = match stage {
            Stage::Before => 0,
            Stage::InHead => self.head_length / 2,
            Stage::AfterHead => self.head_length,
            Stage::InBody => self.head_length + (self.length - self.head_length) / 2,
            Stage::After => self.length,
        };
        self.after = match kind {
            CutKind::Stall => After::Stall,
            CutKind::Reset => After::Reset,
            CutKind::Close => After::CutOff,
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
                Segment::Text { start, end } => *end = *start + to_usize(kept),
                Segment::Cycle { length, .. } => *length = kept,
            }
            kept > 0
        });
        self.length = end;
    }

    fn push_status_line(&mut self, status: u16) {
        match status {
            // Most responses.
            200 => self.push_text(b"HTTP/1.1 200 OK\r\n"),
            _ => self.write_fmt(format_args!("HTTP/1.1 {status} {}\r\n", reason(status))),
        }
    }

    fn push_connection(&mut self, mode: RequestMode) {
        match (mode.keep_alive, mode.http10) {
            (true, false) => {}
            (true, true) => self.push_text(b"Connection: keep-alive\r\n"),
            (false, _) => self.push_text(b"Connection: close\r\n"),
        }
    }

    fn push_length(&mut self, length: u64) {
        self.write_fmt(format_args!("Content-Length: {length}\r\n"));
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) {
        let start = self.text.len();
        self.text.write_fmt(text).expect("a Vec grows as needed");
        self.claim_text(start);
    }

    fn push_text(&mut self, text: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.claim_text(start);
    }

    /// Takes what was appended to `text` from `start` on into the response.
    fn claim_text(&mut self, start: usize) {
        let end = self.text.len();
        self.length += to_u64(end - start);
        match self.segments.last_mut() {
            Some(Segment::Text { end: last, .. }) => *last = end,
            _ if start < end => self.segments.push(Segment::Text { start, end }),
            _ => {}
        }
    }

    fn push_piece(&mut self, piece: &Piece) {
        match *piece {
            Piece::Cycle { source, length } => self.push_cycle(source, length),
            Piece::Short { bytes, length } => self.push_text(&bytes[..usize::from(length)]),
        }
    }

    /// `one`, `times` over; `many` is some of it.
    fn push_repeated(&mut self, many: &'static [u8], one: &[u8], times: u32) {
        self.push_cycle(many, to_u64(one.len()) * u64::from(times));
    }

    fn push_cycle(&mut self, source: &'static [u8], length: u64) {
        if length > INLINE_MAX_BYTES {
            self.length = self.length.saturating_add(length);
            self.segments.push(Segment::Cycle { source, length });
            return;
        }
        let start = self.text.len();
        let mut left = to_usize(length);
        while left > 0 {
            let part = left.min(source.len());
            self.text.extend_from_slice(&source[..part]);
            left -= part;
        }
        self.claim_text(start);
    }
}

const CHUNK_BYTES: u64 = 16 * 1024;

/// 16 KiB of the pattern as one chunk. The pattern's period divides a chunk, so that chunks repeat.
static CHUNK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const _: () = assert!(PATTERN_BYTES >= 16 * 1024);
    [b"4000\r\n", &pattern()[..to_usize(CHUNK_BYTES)], b"\r\n"].concat()
});

const INTERIM_ONE: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";
const FILLER_LINE: &[u8] = b"X-Filler: 0123456789abcdefghij\r\n";
static INTERIM: LazyLock<Vec<u8>> = LazyLock::new(|| INTERIM_ONE.repeat(128));
static FILLER: LazyLock<Vec<u8>> = LazyLock::new(|| FILLER_LINE.repeat(128));
static LETTERS: [u8; 4096] = [b'a'; 4096];
static DIGITS: [u8; 4096] = [b'0'; 4096];

/// The phrase of a status (RFC 9110, section 15); empty for a rare one, which
/// RFC 9112, section 4 allows.
fn reason(status: u16) -> &'static str {
    let known = StatusCode::from_u16(status).ok();
    known.and_then(|status| status.canonical_reason()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::{io::IoSlice, time::Duration};

    use super::*;
    use crate::{
        cursor::{SLICES_MAX, SendCursor, Stride},
        limits::WRITE_MAX_BYTES,
        query,
    };

    const PLAIN: RequestMode =
        RequestMode { head_only: false, http10: false, keep_alive: true, reused: false };

    fn rendered(query: &str, mode: RequestMode) -> RenderedResponse {
        let asked = query::parse(query).unwrap();
        let mut rng = crate::seeded_rng::SeededRng::new(0);
        let mut response = RenderedResponse::new();
        response.render(&asked, asked.size.sample(&mut rng), mode, ("/p", query));
        response
    }

    /// At most `limit` bytes, taken in strides of `step`.
    fn flat(response: &RenderedResponse, step: u64, limit: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut cursor = SendCursor::default();
        while !cursor.at_end(response) && out.len() < limit {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = cursor.gather(response, step, &mut slices);
            assert!(used > 0);
            let before = out.len();
            for slice in &slices[..used] {
                assert!(!slice.is_empty());
                out.extend_from_slice(slice);
            }
            assert!(to_u64(out.len() - before) <= step);
            cursor.advance(response, out.len() - before);
            assert_eq!(cursor.sent(), to_u64(out.len()));
        }
        out
    }

    fn text(query: &str) -> String {
        let response = rendered(query, PLAIN);
        let all = flat(&response, WRITE_MAX_BYTES, usize::MAX);
        assert_eq!(to_u64(all.len()), response.length);
        String::from_utf8_lossy(&all).into_owned()
    }

    #[test]
    fn a_small_response_is_one_run_of_bytes() {
        let response = rendered("size=64", PLAIN);
        assert_eq!(response.segments.len(), 1);
        assert_eq!(
            text("size=64"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n\
             fanout origin: a line of 64 bytes, all text, with a newline....\n"
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
        let old = RequestMode { http10: true, ..PLAIN };
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
            let head_only = RequestMode { head_only: true, ..PLAIN };
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
        let reused = RequestMode { reused: true, ..PLAIN };
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
        assert_eq!(text("interim=300").matches("HTTP/1.1 102 Processing\r\n\r\n").count(), 300);
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
        let one = Stride { bytes: 1, interval: Some(Duration::from_millis(100)) };
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
            prop_assert_eq!(to_u64(whole.len()), response.length);
            prop_assert!(flat(&response, step, usize::MAX) == whole);
        }
    }
}
