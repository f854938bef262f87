//! The query language: what a URL's query asks the origin to do.
//!
//! Parameters are separated by `&`; each is a name, or a name and a value.
//! Nothing is decoded but the value of `redirect-to`. docs/origin.md is the
//! reference.

use crate::{
    limits::{
        BUSY_MAX, HEADER_LINE_MAX_BYTES, REDIRECTS_MAX, REPEATS_MAX, RETRY_AFTER_MAX_S,
        SIZE_DEFAULT_BYTES, SLOW_MAX_BYTES_PER_S,
    },
    spec::{Delay, Size, SpecError, bytes, echo, whole},
};

/// What one URL asks for, checked.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// How the body's end is told.
    pub(crate) framing: Framing,
    /// The body's content coding.
    pub(crate) coding: Option<Coding>,
    /// What the body is made of.
    pub(crate) fill: Fill,
    /// Where the client is sent instead.
    pub(crate) redirect: Option<Redirect<'q>>,
    /// Extra header fields.
    pub(crate) headers: u32,
    /// Length of one more header field's value, in bytes.
    pub(crate) header_size: Option<u64>,
    /// Responses of status 102 before the final one.
    pub(crate) interim: u32,
    /// How fast bytes leave.
    pub(crate) pace: Option<Pace>,
    /// The connection is closed after the response, unannounced.
    pub(crate) idle_close: bool,
    /// What goes wrong.
    pub(crate) fault: Option<Fault>,
    /// It goes wrong only on a connection that has served a request before.
    pub(crate) if_reused: bool,
}

/// How a body's end is told (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection's end.
    Close,
}

/// A content coding (RFC 9110, section 8.4.1; RFC 7932; RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// `gzip`
    Gzip,
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
}

/// What a body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// A line of text, over and over.
    Text,
    /// Zeros, which every coding shrinks most.
    Zeros,
}

/// Where a redirect leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirect<'q> {
    /// To the same URL with one redirect less; at least 1.
    Chain(u32),
    /// To the same URL, forever.
    Loop,
    /// To any place: percent-encoded, and free of control characters once decoded.
    To(&'q str),
}

/// How fast bytes leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// So many bytes of the body a second; at least 1.
    SlowBody(u32),
    /// So many bytes of the whole response a second; at least 1.
    Slow(u32),
    /// Each byte of the response in a write of its own.
    Split,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The response ends early.
    Cut(Stage, Ending),
    /// `Content-Length` is not what is sent.
    LengthLie(Lie),
    /// The chunked coding is broken.
    BadChunk(BadChunk),
    /// The head is none, or a dangerous one.
    BadHead(BadHead),
    /// The body never ends.
    EndlessBody,
    /// The header section never ends.
    EndlessHead,
    /// A second response that nobody asked for follows the first.
    Extra,
}

/// How far a response gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No byte is sent.
    Before,
    /// Half of the head is sent.
    InHead,
    /// The whole head is sent, and no body.
    AfterHead,
    /// The head and half of the body are sent.
    InBody,
    /// The whole response is sent.
    After,
}

/// What happens where a response is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing more: the connection stays open, and silent.
    Stall,
    /// The connection is reset.
    Reset,
    /// The connection is closed, over TLS without a close alert.
    Close,
}

/// How a length lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// It is half of what is sent.
    Short,
    /// It is twice what is sent, and the connection stays open.
    Long,
}

/// How the chunked coding is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadChunk {
    /// The size is no hexadecimal number.
    Size,
    /// The size does not fit into 64 bits.
    Huge,
    /// No line end follows the data.
    NoCrlf,
    /// A size line that never ends.
    Endless,
    /// Trailers that never end.
    Trailers,
}

/// How the head is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// No HTTP at all.
    Garbage,
    /// HTTP/0.9: a body without a head.
    None,
    /// A NUL within a header value.
    Nul,
    /// Another control character within a header value.
    Control,
    /// A CR within a header value, without an LF.
    Cr,
    /// Two `Content-Length` fields that differ.
    TwoLengths,
    /// A field name with a space before the colon.
    SpaceInName,
    /// Another protocol, which nobody asked for.
    Switch,
}

/// A query that asks for nothing that the origin knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No parameter has this name.
    #[error("there is no parameter '{name}'; there are {known}", known = NAMES.join(", "))]
    Unknown {
        /// The name given, shortened.
        name: String,
    },
    /// A parameter's value is not one that it takes.
    #[error("{name}={value}: {name} takes {forms}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// The value given, shortened.
        value: String,
        /// What would do.
        forms: &'static str,
    },
    /// A delay or a size is not written as one.
    #[error("{name}: {source}")]
    Spec {
        /// The parameter.
        name: &'static str,
        /// Why not.
        source: SpecError,
    },
    /// A parameter that needs a value has none.
    #[error("{name} needs a value: {forms}")]
    NoValue {
        /// The parameter.
        name: &'static str,
        /// What would do.
        forms: &'static str,
    },
    /// A parameter stands there twice.
    #[error("{name} is given twice")]
    Twice {
        /// The parameter.
        name: &'static str,
    },
    /// A parameter means nothing without another.
    #[error("{name} needs {needs} beside it")]
    Alone {
        /// The parameter.
        name: &'static str,
        /// What would do.
        needs: &'static str,
    },
    /// Two parameters exclude each other.
    #[error("{first} and {second} exclude each other: leave one out")]
    Conflict {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

/// Every parameter, in the order of the reference.
const NAMES: [&str; 29] = [
    "delay",
    "size",
    "status",
    "retry-after",
    "busy",
    "chunked",
    "close",
    "gzip",
    "br",
    "zstd",
    "bomb",
    "redirect",
    "redirect-to",
    "idle-close",
    "slow",
    "slow-head",
    "split",
    "interim",
    "headers",
    "header-size",
    "stall",
    "reset",
    "truncate",
    "length-lie",
    "bad-chunk",
    "bad-head",
    "endless",
    "extra",
    "if-reused",
];

const STAGES: &str = "before, in-head, after-head, in-body or after";

/// Reads a query, the part of a URL after the question mark; empty asks for
/// nothing special.
pub(crate) fn parse(query: &str) -> Result<Behaviour<'_>, QueryError> {
    let mut read = Reading::default();
    for parameter in query.split('&').filter(|part| !part.is_empty()) {
        match parameter.split_once('=') {
            Some((name, value)) => read.parameter(name, Some(value))?,
            None => read.parameter(parameter, None)?,
        }
    }
    read.checked()
}

/// A value together with the parameter that set it.
type Set<T> = Option<(&'static str, T)>;

/// What has been read so far. Slots that several parameters share keep the
/// one that set them, so that a conflict can name both.
#[derive(Default)]
struct Reading<'q> {
    delay: Set<Delay>,
    size: Set<Size>,
    status: Set<u16>,
    retry_after_s: Set<u32>,
    busy: Set<u32>,
    framing: Set<Framing>,
    coding: Set<Coding>,
    bomb: Set<()>,
    redirect: Set<Redirect<'q>>,
    headers: Set<u32>,
    header_size: Set<u64>,
    interim: Set<u32>,
    pace: Set<Pace>,
    idle_close: Set<()>,
    fault: Set<Fault>,
    if_reused: Set<()>,
}

impl<'q> Reading<'q> {
    fn parameter(&mut self, name: &str, value: Option<&'q str>) -> Result<(), QueryError> {
        match name {
            "delay" => set(&mut self.delay, "delay", spec("delay", value)?),
            "size" => set(&mut self.size, "size", spec("size", value)?),
            "status" => {
                let status = number("status", value, 200, 599, "a status from 200 to 599")?;
                let status = u16::try_from(status).expect("at most 599");
                set(&mut self.status, "status", status)
            }
            "retry-after" => {
                const FORMS: &str = "seconds, at most 86400";
                let seconds = number("retry-after", value, 0, RETRY_AFTER_MAX_S, FORMS)?;
                set(&mut self.retry_after_s, "retry-after", seconds)
            }
            "busy" => {
                let count = number("busy", value, 1, BUSY_MAX, "a count up to 1000000")?;
                set(&mut self.busy, "busy", count)
            }
            "chunked" => self.framing("chunked", value, Framing::Chunked),
            "close" => self.framing("close", value, Framing::Close),
            "gzip" => self.coding("gzip", value, Coding::Gzip),
            "br" => self.coding("br", value, Coding::Brotli),
            "zstd" => self.coding("zstd", value, Coding::Zstd),
            "bomb" => {
                flag("bomb", value)?;
                set(&mut self.bomb, "bomb", ())
            }
            "redirect" => {
                let redirect = redirect(value)?;
                set(&mut self.redirect, "redirect", redirect)
            }
            "redirect-to" => {
                let place = redirect_to(value)?;
                set(&mut self.redirect, "redirect-to", place)
            }
            "idle-close" => {
                flag("idle-close", value)?;
                set(&mut self.idle_close, "idle-close", ())
            }
            "slow" => {
                let rate = rate("slow", value)?;
                set(&mut self.pace, "slow", Pace::SlowBody(rate))
            }
            "slow-head" => {
                let rate = rate("slow-head", value)?;
                set(&mut self.pace, "slow-head", Pace::Slow(rate))
            }
            "split" => {
                flag("split", value)?;
                set(&mut self.pace, "split", Pace::Split)
            }
            "interim" => {
                let count = number("interim", value, 1, REPEATS_MAX, "a count up to 1000000")?;
                set(&mut self.interim, "interim", count)
            }
            "headers" => {
                let count = number("headers", value, 1, REPEATS_MAX, "a count up to 1000000")?;
                set(&mut self.headers, "headers", count)
            }
            "header-size" => {
                const FORMS: &str = "bytes up to 16M, such as 1M";
                let text = needed("header-size", value, FORMS)?;
                let size = bytes(text)
                    .filter(|&size| size <= HEADER_LINE_MAX_BYTES)
                    .ok_or_else(|| bad("header-size", text, FORMS))?;
                set(&mut self.header_size, "header-size", size)
            }
            "stall" => self.cut("stall", value, Stage::AfterHead, Ending::Stall),
            "reset" => self.cut("reset", value, Stage::Before, Ending::Reset),
            "truncate" => self.cut("truncate", value, Stage::InBody, Ending::Close),
            "length-lie" => {
                let lie = one_of(
                    "length-lie",
                    value.unwrap_or("short"),
                    "short or long",
                    &[("short", Lie::Short), ("long", Lie::Long)],
                )?;
                set(&mut self.fault, "length-lie", Fault::LengthLie(lie))
            }
            "bad-chunk" => {
                let how = one_of(
                    "bad-chunk",
                    value.unwrap_or("size"),
                    "size, huge, no-crlf, endless or trailers",
                    &[
                        ("size", BadChunk::Size),
                        ("huge", BadChunk::Huge),
                        ("no-crlf", BadChunk::NoCrlf),
                        ("endless", BadChunk::Endless),
                        ("trailers", BadChunk::Trailers),
                    ],
                )?;
                set(&mut self.fault, "bad-chunk", Fault::BadChunk(how))
            }
            "bad-head" => {
                let how = one_of(
                    "bad-head",
                    value.unwrap_or("garbage"),
                    "garbage, none, nul, control, cr, two-lengths, space or switch",
                    &[
                        ("garbage", BadHead::Garbage),
                        ("none", BadHead::None),
                        ("nul", BadHead::Nul),
                        ("control", BadHead::Control),
                        ("cr", BadHead::Cr),
                        ("two-lengths", BadHead::TwoLengths),
                        ("space", BadHead::SpaceInName),
                        ("switch", BadHead::Switch),
                    ],
                )?;
                set(&mut self.fault, "bad-head", Fault::BadHead(how))
            }
            "endless" => {
                let part = one_of(
                    "endless",
                    value.unwrap_or("body"),
                    "body or head",
                    &[("body", Fault::EndlessBody), ("head", Fault::EndlessHead)],
                )?;
                set(&mut self.fault, "endless", part)
            }
            "extra" => {
                flag("extra", value)?;
                set(&mut self.fault, "extra", Fault::Extra)
            }
            "if-reused" => {
                flag("if-reused", value)?;
                set(&mut self.if_reused, "if-reused", ())
            }
            _ => Err(QueryError::Unknown { name: echo(name) }),
        }
    }

    fn framing(
        &mut self,
        name: &'static str,
        value: Option<&str>,
        framing: Framing,
    ) -> Result<(), QueryError> {
        flag(name, value)?;
        set(&mut self.framing, name, framing)
    }

    fn coding(
        &mut self,
        name: &'static str,
        value: Option<&str>,
        coding: Coding,
    ) -> Result<(), QueryError> {
        flag(name, value)?;
        set(&mut self.coding, name, coding)
    }

    fn cut(
        &mut self,
        name: &'static str,
        value: Option<&str>,
        default: Stage,
        ending: Ending,
    ) -> Result<(), QueryError> {
        let stage = match value {
            None => default,
            Some(text) => one_of(
                name,
                text,
                STAGES,
                &[
                    ("before", Stage::Before),
                    ("in-head", Stage::InHead),
                    ("after-head", Stage::AfterHead),
                    ("in-body", Stage::InBody),
                    ("after", Stage::After),
                ],
            )?,
        };
        set(&mut self.fault, name, Fault::Cut(stage, ending))
    }

    /// Refuses what makes no sense together.
    fn checked(self) -> Result<Behaviour<'q>, QueryError> {
        let conflict = |first, second| Err(QueryError::Conflict { first, second });
        if let (Some((first, framing)), Some((second, fault))) = (self.framing, self.fault) {
            let sensible = match fault {
                Fault::LengthLie(_) | Fault::BadHead(BadHead::TwoLengths) => false,
                Fault::BadChunk(_) => framing == Framing::Chunked,
                _ => true,
            };
            if !sensible {
                return conflict(first, second);
            }
        }
        if let (Some((first, _)), Some((second, fault))) = (self.coding, self.fault)
            && matches!(fault, Fault::BadChunk(_) | Fault::EndlessBody)
        {
            return conflict(first, second);
        }
        if self.bomb.is_some() && self.coding.is_none() {
            return Err(QueryError::Alone {
                name: "bomb",
                needs: "gzip, br or zstd",
            });
        }
        if let (Some((first, ())), Some((second, Framing::Close))) = (self.idle_close, self.framing)
        {
            return conflict(first, second);
        }
        Ok(Behaviour {
            delay: value(self.delay),
            size: value(self.size).unwrap_or(Size::Fixed(SIZE_DEFAULT_BYTES)),
            status: value(self.status).unwrap_or(match self.busy {
                Some(_) => 503,
                None => 200,
            }),
            retry_after_s: value(self.retry_after_s),
            busy: value(self.busy),
            framing: value(self.framing).unwrap_or(Framing::Length),
            coding: value(self.coding),
            fill: match self.bomb {
                Some(_) => Fill::Zeros,
                None => Fill::Text,
            },
            redirect: value(self.redirect),
            headers: value(self.headers).unwrap_or(0),
            header_size: value(self.header_size),
            interim: value(self.interim).unwrap_or(0),
            pace: value(self.pace),
            idle_close: self.idle_close.is_some(),
            fault: value(self.fault),
            if_reused: self.if_reused.is_some(),
        })
    }
}

impl Behaviour<'_> {
    /// What remains to be asked for on this visit to the URL, from 1: after the
    /// busy ones a plain 200.
    pub(crate) fn on_visit(self, visit: Option<u32>) -> Self {
        match self.busy {
            Some(busy) if visit.is_none_or(|visit| visit > busy) => Self {
                status: 200,
                retry_after_s: None,
                ..self
            },
            _ => self,
        }
    }
}

fn value<T>(slot: Set<T>) -> Option<T> {
    slot.map(|(_, value)| value)
}

fn set<T>(slot: &mut Set<T>, name: &'static str, value: T) -> Result<(), QueryError> {
    match *slot {
        Some((other, _)) if other == name => Err(QueryError::Twice { name }),
        Some((first, _)) => Err(QueryError::Conflict {
            first,
            second: name,
        }),
        None => {
            *slot = Some((name, value));
            Ok(())
        }
    }
}

fn bad(name: &'static str, value: &str, forms: &'static str) -> QueryError {
    QueryError::Value {
        name,
        value: echo(value),
        forms,
    }
}

fn needed<'q>(
    name: &'static str,
    value: Option<&'q str>,
    forms: &'static str,
) -> Result<&'q str, QueryError> {
    value.ok_or(QueryError::NoValue { name, forms })
}

fn flag(name: &'static str, value: Option<&str>) -> Result<(), QueryError> {
    match value {
        None => Ok(()),
        Some(value) => Err(bad(name, value, "no value")),
    }
}

fn spec<T: std::str::FromStr<Err = SpecError>>(
    name: &'static str,
    value: Option<&str>,
) -> Result<T, QueryError> {
    value
        .unwrap_or_default()
        .parse()
        .map_err(|source| QueryError::Spec { name, source })
}

fn number(
    name: &'static str,
    value: Option<&str>,
    low: u32,
    high: u32,
    forms: &'static str,
) -> Result<u32, QueryError> {
    let text = needed(name, value, forms)?;
    whole(text)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| bad(name, text, forms))
}

fn rate(name: &'static str, value: Option<&str>) -> Result<u32, QueryError> {
    const FORMS: &str = "bytes a second, from 1 to 10000000";
    number(name, value, 1, SLOW_MAX_BYTES_PER_S, FORMS)
}

fn one_of<T: Copy>(
    name: &'static str,
    value: &str,
    forms: &'static str,
    choices: &[(&str, T)],
) -> Result<T, QueryError> {
    choices
        .iter()
        .find(|(choice, _)| *choice == value)
        .map(|&(_, meaning)| meaning)
        .ok_or_else(|| bad(name, value, forms))
}

fn redirect(value: Option<&str>) -> Result<Redirect<'static>, QueryError> {
    const FORMS: &str = "how many redirects there are, from 1 to 1000, or loop";
    if value == Some("loop") {
        return Ok(Redirect::Loop);
    }
    number("redirect", value, 1, REDIRECTS_MAX, FORMS).map(Redirect::Chain)
}

fn redirect_to(value: Option<&str>) -> Result<Redirect<'_>, QueryError> {
    const FORMS: &str = "a URL, percent-encoded where it holds & or #, without control characters";
    let text = needed("redirect-to", value, FORMS)?;
    let sound =
        !text.is_empty() && decoded(text).all(|byte| byte.is_some_and(|o| o >= 0x20 && o != 0x7f));
    if sound {
        Ok(Redirect::To(text))
    } else {
        Err(bad("redirect-to", text, FORMS))
    }
}

/// The bytes behind percent-encoded text; `None` for a broken escape.
pub(crate) fn decoded(text: &str) -> impl Iterator<Item = Option<u8>> {
    let mut bytes = text.bytes();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        if byte != b'%' {
            return Some(Some(byte));
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let pair = digit().zip(digit());
        Some(pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()))
    })
}

/// The query of the next hop of a redirect chain that has `left` redirects
/// to go after this one: the same parameters in the same order, `redirect`
/// counted down, and absent at the chain's end.
pub(crate) fn next_hop(query: &str, left: u32, out: &mut Vec<u8>) {
    let mut separator = b'?';
    for parameter in query.split('&').filter(|part| !part.is_empty()) {
        let counts = parameter.starts_with("redirect=");
        if counts && left == 0 {
            continue;
        }
        out.push(separator);
        separator = b'&';
        if counts {
            out.extend_from_slice(b"redirect=");
            crate::response::push_decimal(out, u64::from(left));
        } else {
            out.extend_from_slice(parameter.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn error(query: &str) -> String {
        parse(query).unwrap_err().to_string()
    }

    #[test]
    fn nothing_asks_for_a_small_plain_response() {
        let plain = parse("").unwrap();
        assert_eq!(plain.size, Size::Fixed(64));
        assert_eq!(plain.status, 200);
        assert_eq!(plain.framing, Framing::Length);
        assert_eq!((plain.delay, plain.fault), (None, None));
        assert_eq!(parse("&&").unwrap(), plain);
    }

    #[test]
    fn parameters_are_read_in_any_order() {
        let query = "gzip&size=1k..64k&chunked&delay=5ms&status=503&retry-after=2&idle-close";
        let asked = parse(query).unwrap();
        assert_eq!(asked.delay, Some(Delay::Fixed(Duration::from_millis(5))));
        assert_eq!(asked.size, Size::Uniform(1024, 65_536));
        assert_eq!(asked.status, 503);
        assert_eq!(asked.retry_after_s, Some(2));
        assert_eq!(asked.framing, Framing::Chunked);
        assert_eq!(asked.coding, Some(Coding::Gzip));
        assert!(asked.idle_close);
    }

    #[test]
    fn faults_have_defaults_and_stages() {
        let fault = |query| parse(query).unwrap().fault.unwrap();
        assert_eq!(fault("stall"), Fault::Cut(Stage::AfterHead, Ending::Stall));
        assert_eq!(
            fault("stall=before"),
            Fault::Cut(Stage::Before, Ending::Stall)
        );
        assert_eq!(fault("reset"), Fault::Cut(Stage::Before, Ending::Reset));
        assert_eq!(
            fault("reset=in-body"),
            Fault::Cut(Stage::InBody, Ending::Reset)
        );
        assert_eq!(fault("truncate"), Fault::Cut(Stage::InBody, Ending::Close));
        assert_eq!(fault("bad-chunk"), Fault::BadChunk(BadChunk::Size));
        assert_eq!(fault("bad-head=nul"), Fault::BadHead(BadHead::Nul));
        assert_eq!(fault("length-lie"), Fault::LengthLie(Lie::Short));
        assert_eq!(fault("length-lie=long"), Fault::LengthLie(Lie::Long));
        assert_eq!(fault("endless"), Fault::EndlessBody);
        assert_eq!(fault("endless=head"), Fault::EndlessHead);
    }

    #[test]
    fn every_name_is_known_and_an_unknown_one_is_named() {
        for name in NAMES {
            let unknown = matches!(parse(name), Err(QueryError::Unknown { .. }));
            assert!(!unknown, "{name}");
        }
        let message = error("size=64&colour=red");
        assert!(
            message.starts_with("there is no parameter 'colour'; there are delay, "),
            "{message}"
        );
        assert!(error("%00\u{7}=1").contains("'%00\\u{7}'"));
    }

    #[test]
    fn bad_values_are_named() {
        assert_eq!(
            error("status=99"),
            "status=99: status takes a status from 200 to 599"
        );
        assert_eq!(error("chunked=yes"), "chunked=yes: chunked takes no value");
        assert_eq!(
            error("slow"),
            "slow needs a value: bytes a second, from 1 to 10000000"
        );
        assert!(error("delay=soon").starts_with("delay: 'soon' does not fit"));
        assert!(error("delay").starts_with("delay: '' does not fit"));
        assert!(error("redirect=0").contains("from 1 to 1000"));
        assert!(error("redirect-to=/a%0d%0aSet-Cookie:x").contains("without control characters"));
        assert!(error("redirect-to=/%zz").contains("percent-encoded"));
    }

    #[test]
    fn a_bomb_needs_a_coding() {
        assert_eq!(parse("bomb&br").unwrap().fill, Fill::Zeros);
        assert_eq!(parse("br").unwrap().fill, Fill::Text);
        assert_eq!(error("bomb"), "bomb needs gzip, br or zstd beside it");
    }

    #[test]
    fn repetition_and_contradiction_are_refused() {
        assert_eq!(error("size=1&size=1"), "size is given twice");
        assert_eq!(
            error("chunked&close"),
            "chunked and close exclude each other: leave one out"
        );
        for query in [
            "stall&reset",
            "gzip&br",
            "redirect=1&redirect-to=/",
            "slow=1&split",
            "chunked&length-lie",
            "close&bad-chunk",
            "gzip&endless",
            "idle-close&close",
        ] {
            assert!(
                matches!(parse(query), Err(QueryError::Conflict { .. })),
                "{query}"
            );
        }
    }

    #[test]
    fn a_redirect_chain_counts_down_and_keeps_the_rest() {
        let hop = |query, left| {
            let mut out = Vec::new();
            next_hop(query, left, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(hop("redirect=3&size=9", 2), "?redirect=2&size=9");
        assert_eq!(hop("size=9&redirect=1&gzip", 0), "?size=9&gzip");
        assert_eq!(hop("redirect=1", 0), "");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_short_message(query in ".{0,200}") {
            if let Err(error) = parse(&query) {
                prop_assert!(error.to_string().len() < 1500);
            }
        }

        #[test]
        fn texts_close_to_the_language_too(
            query in proptest::collection::vec(
                (proptest::sample::select(NAMES.to_vec()),
                 proptest::option::of("[0-9]{0,20}|[0-9.]{1,5}(ms|us|s|k|M|G)?(\\.\\.[0-9]{1,4}(ms|k))?|lognormal:.{0,9}|[a-z-]{0,10}|%.{0,4}")),
                0..5,
            )
        ) {
            let text = query
                .iter()
                .map(|(name, value)| match value {
                    Some(value) => format!("{name}={value}"),
                    None => (*name).to_owned(),
                })
                .collect::<Vec<_>>()
                .join("&");
            if let Ok(asked) = parse(&text) {
                prop_assert!((200..600).contains(&asked.status));
            }
        }
    }
}
