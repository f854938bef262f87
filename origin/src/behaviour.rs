//! What a URL can ask the origin to do. docs/origin.md is the reference.

use clap::ValueEnum;

use crate::spec::{Delay, Size};

/// What one URL asks for, checked.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Behaviour<'q> {
    /// The response is held back this long.
    pub(crate) delay: Option<Delay>,
    /// The body before content coding.
    pub(crate) size: Size,
    /// The final response's status, 200 to 599.
    pub(crate) status: u16,
    /// Seconds in a `Retry-After` field.
    pub(crate) retry_after_s: Option<u32>,
    /// So many first requests for the URL are turned away.
    pub(crate) busy: Option<u32>,
    pub(crate) framing: Framing,
    pub(crate) coding: Option<BodyCoding>,
    pub(crate) fill: Fill,
    /// Where the client is sent instead.
    pub(crate) redirect: Option<Redirect<'q>>,
    pub(crate) headers: u32,
    /// Length of one more header field's value, in bytes.
    pub(crate) header_size: Option<u64>,
    /// Responses of status 102 before the final one.
    pub(crate) interim: u32,
    pub(crate) pace: Option<SendPace>,
    /// The connection is closed after the response, unannounced.
    pub(crate) idle_close: bool,
    pub(crate) fault: Option<Fault>,
    /// It goes wrong only on a connection that has served a request before.
    pub(crate) if_reused: bool,
}

impl Behaviour<'_> {
    /// What remains to be asked for on this visit to the URL, from 1: after the
    /// busy ones a plain 200.
    pub(crate) fn on_visit(self, visit: Option<u32>) -> Self {
        match self.busy {
            Some(busy) if visit.is_none_or(|visit| visit > busy) => {
                Self { status: 200, retry_after_s: None, ..self }
            }
            _ => self,
        }
    }
}

/// How a body's end is told (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    #[default]
    Length,
    Chunked,
    Close,
}

/// A content coding (RFC 9110, section 8.4.1; RFC 7932; RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyCoding {
    Gzip,
    Brotli,
    Zstd,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fill {
    /// A line of text, over and over.
    #[default]
    Text,
    /// Zeros, which every coding shrinks most.
    Zeros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirect<'q> {
    /// To the same URL with one redirect less; at least 1.
    Chain(u32),
    /// To the same URL, forever.
    Loop,
    /// To any URL: percent-encoded, and free of control characters once decoded.
    To(&'q str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendPace {
    /// So many bytes of the body a second; at least 1.
    SlowBody(u32),
    /// So many bytes of the whole response a second; at least 1.
    Slow(u32),
    /// Each byte of the response in a write of its own.
    Split,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut(Stage, CutKind),
    /// `Content-Length` is not what is sent.
    LengthLie(Lie),
    BadChunk(BadChunk),
    /// The head is none, or a dangerous one.
    BadHead(BadHead),
    EndlessBody,
    /// The header section never ends.
    EndlessHead,
    /// An unrequested second response follows the first.
    Extra,
}

/// How far a response gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    Before,
    /// Half of the head is sent.
    InHead,
    /// The whole head is sent, and no body.
    AfterHead,
    /// The head and half of the body are sent.
    InBody,
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutKind {
    /// Nothing more: the connection stays open, and silent.
    Stall,
    Reset,
    /// The connection is closed, over TLS without a close alert.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lie {
    /// It is half of what is sent.
    Short,
    /// It is twice what is sent, and the connection stays open.
    Long,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BadChunk {
    /// The size is no hexadecimal number.
    Size,
    /// The size does not fit into 64 bits.
    Huge,
    NoCrlf,
    /// A size line that never ends.
    Endless,
    Trailers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BadHead {
    Garbage,
    /// HTTP/0.9: a body without a head.
    None,
    Nul,
    /// Another control character within a header value.
    Control,
    /// A CR within a header value, without an LF.
    Cr,
    /// Two `Content-Length` fields that differ.
    TwoLengths,
    /// A field name with a space before the colon.
    #[value(name = "space")]
    SpaceInName,
    /// Another protocol, unasked.
    Switch,
}
