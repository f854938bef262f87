//! The query language: what a URL's query asks the origin to do.
//!
//! Parameters are separated by `&`; each is a name, or a name and a value. Nothing is decoded but
//! the value of `redirect-to`. docs/origin.md is the reference.

use std::{io::Write, ops::RangeInclusive, str::FromStr};

use crate::{
    behaviour::{
        BadChunk, BadHead, Behaviour, BodyCoding, CutKind, Fault, Fill, Framing, Lie, Redirect,
        SendPace, Stage,
    },
    limits::{
        HEADER_LINE_MAX_BYTES, REDIRECTS_MAX, REPEATS_MAX, RETRY_AFTER_MAX_S, SIZE_DEFAULT_BYTES,
        SLOW_MAX_BYTES_PER_S,
    },
    number::whole,
    spec::{Delay, Size, SpecError, bytes, echo},
};

/// A query that asks for nothing that the origin knows. Values are shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("there is no parameter '{0}'; there are {known}", known = NAMES.join(", "))]
    Unknown(String),
    #[error("{0}")]
    Parameter(String),
    #[error("{first} and {second} exclude each other: leave one out")]
    Conflict { first: String, second: String },
}

/// Every parameter, in the order of the reference.
#[rustfmt::skip]
const NAMES: [&str; 29] = [
    "delay", "size", "status", "retry-after", "busy", "chunked", "close", "gzip", "br", "zstd",
    "bomb", "redirect", "redirect-to", "idle-close", "slow", "slow-head", "split", "interim",
    "headers", "header-size", "stall", "reset", "truncate", "length-lie", "bad-chunk", "bad-head",
    "endless", "extra", "if-reused",
];

/// Reads a query, the part of a URL after the question mark; empty asks for nothing special.
pub(crate) fn parse(query: &str) -> Result<Behaviour<'_>, QueryError> {
    let mut slots = Slots::default();
    for parameter in parameters(query) {
        let given = parameter.split_once('=');
        slots.take(Parameter {
            name: given.map_or(parameter, |(name, _)| name),
            value: given.map(|(_, value)| value),
        })?;
    }
    slots.checked()
}

fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|part| !part.is_empty())
}

/// A value together with the parameter that set it.
type GivenBy<'q, T> = Option<(&'q str, T)>;

/// What has been read so far. Slots that several parameters share keep the
/// one that set them, so that a conflict can name both.
#[derive(Default)]
struct Slots<'q> {
    delay: GivenBy<'q, Delay>,
    size: GivenBy<'q, Size>,
    status: GivenBy<'q, u16>,
    retry_after_s: GivenBy<'q, u32>,
    busy: GivenBy<'q, u32>,
    framing: GivenBy<'q, Framing>,
    coding: GivenBy<'q, BodyCoding>,
    fill: GivenBy<'q, Fill>,
    redirect: GivenBy<'q, Redirect<'q>>,
    headers: GivenBy<'q, u32>,
    header_size: GivenBy<'q, u64>,
    interim: GivenBy<'q, u32>,
    pace: GivenBy<'q, SendPace>,
    idle_close: GivenBy<'q, ()>,
    fault: GivenBy<'q, Fault>,
    if_reused: GivenBy<'q, ()>,
}

impl<'q> Slots<'q> {
    fn take(&mut self, p: Parameter<'q>) -> Result<(), QueryError> {
        match p.name {
            "delay" => p.set(&mut self.delay, p.spec()?),
            "size" => p.set(&mut self.size, p.spec()?),
            "status" => p.set(&mut self.status, p.status()?),
            "retry-after" => p.set(&mut self.retry_after_s, p.retry_after()?),
            "busy" => p.set(&mut self.busy, p.count()?),
            "chunked" => p.set(&mut self.framing, p.flag(Framing::Chunked)?),
            "close" => p.set(&mut self.framing, p.flag(Framing::Close)?),
            "gzip" => p.set(&mut self.coding, p.flag(BodyCoding::Gzip)?),
            "br" => p.set(&mut self.coding, p.flag(BodyCoding::Brotli)?),
            "zstd" => p.set(&mut self.coding, p.flag(BodyCoding::Zstd)?),
            "bomb" => p.set(&mut self.fill, p.flag(Fill::Zeros)?),
            "redirect" => p.set(&mut self.redirect, p.redirect()?),
            "redirect-to" => p.set(&mut self.redirect, p.redirect_to()?),
            "idle-close" => p.set(&mut self.idle_close, p.flag(())?),
            "slow" => p.set(&mut self.pace, SendPace::SlowBody(p.rate()?)),
            "slow-head" => p.set(&mut self.pace, SendPace::Slow(p.rate()?)),
            "split" => p.set(&mut self.pace, p.flag(SendPace::Split)?),
            "interim" => p.set(&mut self.interim, p.count()?),
            "headers" => p.set(&mut self.headers, p.count()?),
            "header-size" => p.set(&mut self.header_size, p.header_size()?),
            "stall" => p.set(&mut self.fault, p.cut(Stage::AfterHead, CutKind::Stall)?),
            "reset" => p.set(&mut self.fault, p.cut(Stage::Before, CutKind::Reset)?),
            "truncate" => p.set(&mut self.fault, p.cut(Stage::InBody, CutKind::Close)?),
            "length-lie" => p.set(&mut self.fault, p.length_lie()?),
            "bad-chunk" => p.set(&mut self.fault, p.bad_chunk()?),
            "bad-head" => p.set(&mut self.fault, p.bad_head()?),
            "endless" => p.set(&mut self.fault, p.endless()?),
            "extra" => p.set(&mut self.fault, p.flag(Fault::Extra)?),
            "if-reused" => p.set(&mut self.if_reused, p.flag(())?),
            unknown => Err(QueryError::Unknown(echo(unknown))),
        }
    }

    /// Refuses what makes no sense together.
    fn checked(self) -> Result<Behaviour<'q>, QueryError> {
        if let (Some((first, framing)), Some((second, fault))) = (self.framing, self.fault) {
            let sensible = match fault {
                Fault::LengthLie(_) | Fault::BadHead(BadHead::TwoLengths) => false,
                Fault::BadChunk(_) => framing == Framing::Chunked,
                _ => true,
            };
            if !sensible {
                return Err(conflict(first, second));
            }
        }
        if let (Some((first, _)), Some((second, fault))) = (self.coding, self.fault)
            && matches!(fault, Fault::BadChunk(_) | Fault::EndlessBody)
        {
            return Err(conflict(first, second));
        }
        if self.fill.is_some() && self.coding.is_none() {
            let flaw = "bomb needs gzip, br or zstd beside it".to_owned();
            return Err(QueryError::Parameter(flaw));
        }
        if let (Some((first, ())), Some((second, Framing::Close))) = (self.idle_close, self.framing)
        {
            return Err(conflict(first, second));
        }
        let usual_status = if self.busy.is_some() { 503 } else { 200 };
        Ok(Behaviour {
            delay: value(self.delay),
            size: value(self.size).unwrap_or(Size::Fixed(SIZE_DEFAULT_BYTES)),
            status: value(self.status).unwrap_or(usual_status),
            retry_after_s: value(self.retry_after_s),
            busy: value(self.busy),
            framing: value(self.framing).unwrap_or(Framing::Length),
            coding: value(self.coding),
            fill: value(self.fill).unwrap_or(Fill::Text),
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

fn value<T>(slot: GivenBy<'_, T>) -> Option<T> {
    slot.map(|(_, value)| value)
}

fn conflict(first: &str, second: &str) -> QueryError {
    QueryError::Conflict { first: first.to_owned(), second: second.to_owned() }
}

/// One parameter, as the query has it.
#[derive(Clone, Copy)]
struct Parameter<'q> {
    name: &'q str,
    value: Option<&'q str>,
}

impl<'q> Parameter<'q> {
    fn set<T>(self, slot: &mut GivenBy<'q, T>, value: T) -> Result<(), QueryError> {
        match *slot {
            Some((first, _)) if first == self.name => {
                Err(QueryError::Parameter(format!("{first} is given twice")))
            }
            Some((first, _)) => Err(conflict(first, self.name)),
            None => {
                *slot = Some((self.name, value));
                Ok(())
            }
        }
    }

    fn bad(self, value: &str, forms: &str) -> QueryError {
        let (name, value) = (self.name, echo(value));
        QueryError::Parameter(format!("{name}={value}: {name} takes {forms}"))
    }

    fn needed(self, forms: &str) -> Result<&'q str, QueryError> {
        let missing = || format!("{} needs a value: {forms}", self.name);
        self.value.ok_or_else(|| QueryError::Parameter(missing()))
    }

    fn flag<T>(self, meaning: T) -> Result<T, QueryError> {
        match self.value {
            None => Ok(meaning),
            Some(value) => Err(self.bad(value, "no value")),
        }
    }

    fn spec<T: FromStr<Err = SpecError>>(self) -> Result<T, QueryError> {
        let parsed = self.value.unwrap_or_default().parse();
        parsed.map_err(|error| QueryError::Parameter(format!("{}: {error}", self.name)))
    }

    fn number(self, range: RangeInclusive<u32>, forms: &str) -> Result<u32, QueryError> {
        let text = self.needed(forms)?;
        whole(text)
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.bad(text, forms))
    }

    fn status(self) -> Result<u16, QueryError> {
        let status = self.number(200..=599, "a status from 200 to 599")?;
        Ok(u16::try_from(status).expect("at most 599"))
    }

    fn retry_after(self) -> Result<u32, QueryError> {
        self.number(0..=RETRY_AFTER_MAX_S, "seconds, at most 86400")
    }

    fn count(self) -> Result<u32, QueryError> {
        self.number(1..=REPEATS_MAX, "a count up to 1000000")
    }

    fn rate(self) -> Result<u32, QueryError> {
        const FORMS: &str = "bytes a second, from 1 to 10000000";
        self.number(1..=SLOW_MAX_BYTES_PER_S, FORMS)
    }

    fn header_size(self) -> Result<u64, QueryError> {
        const FORMS: &str = "bytes up to 16M, such as 1M";
        let text = self.needed(FORMS)?;
        bytes(text)
            .filter(|&size| size <= HEADER_LINE_MAX_BYTES)
            .ok_or_else(|| self.bad(text, FORMS))
    }

    fn redirect(self) -> Result<Redirect<'static>, QueryError> {
        const FORMS: &str = "how many redirects there are, from 1 to 1000, or loop";
        match self.value {
            Some("loop") => Ok(Redirect::Loop),
            _ => self.number(1..=REDIRECTS_MAX, FORMS).map(Redirect::Chain),
        }
    }

    fn redirect_to(self) -> Result<Redirect<'q>, QueryError> {
        const FORMS: &str =
            "a URL, percent-encoded where it holds & or #, without control characters";
        let text = self.needed(FORMS)?;
        let mut bytes = decoded(text);
        match !text.is_empty() && bytes.all(|byte| byte.is_some_and(|b| !b.is_ascii_control())) {
            true => Ok(Redirect::To(text)),
            false => Err(self.bad(text, FORMS)),
        }
    }

    /// One of the `choices`, or `default` without a value.
    fn one_of<T: Copy>(
        self,
        default: T,
        forms: &str,
        choices: &[(&str, T)],
    ) -> Result<T, QueryError> {
        let Some(value) = self.value else {
            return Ok(default);
        };
        match choices.iter().find(|(choice, _)| *choice == value) {
            Some(&(_, meaning)) => Ok(meaning),
            None => Err(self.bad(value, forms)),
        }
    }

    fn cut(self, default: Stage, kind: CutKind) -> Result<Fault, QueryError> {
        const STAGES: &[(&str, Stage)] = &[
            ("before", Stage::Before),
            ("in-head", Stage::InHead),
            ("after-head", Stage::AfterHead),
            ("in-body", Stage::InBody),
            ("after", Stage::After),
        ];
        const FORMS: &str = "before, in-head, after-head, in-body or after";
        Ok(Fault::Cut(self.one_of(default, FORMS, STAGES)?, kind))
    }

    fn length_lie(self) -> Result<Fault, QueryError> {
        const LIES: &[(&str, Lie)] = &[("short", Lie::Short), ("long", Lie::Long)];
        let lie = self.one_of(Lie::Short, "short or long", LIES)?;
        Ok(Fault::LengthLie(lie))
    }

    fn bad_chunk(self) -> Result<Fault, QueryError> {
        const CHUNKS: &[(&str, BadChunk)] = &[
            ("size", BadChunk::Size),
            ("huge", BadChunk::Huge),
            ("no-crlf", BadChunk::NoCrlf),
            ("endless", BadChunk::Endless),
            ("trailers", BadChunk::Trailers),
        ];
        const FORMS: &str = "size, huge, no-crlf, endless or trailers";
        self.one_of(BadChunk::Size, FORMS, CHUNKS).map(Fault::BadChunk)
    }

    fn bad_head(self) -> Result<Fault, QueryError> {
        const HEADS: &[(&str, BadHead)] = &[
            ("garbage", BadHead::Garbage),
            ("none", BadHead::None),
            ("nul", BadHead::Nul),
            ("control", BadHead::Control),
            ("cr", BadHead::Cr),
            ("two-lengths", BadHead::TwoLengths),
            ("space", BadHead::SpaceInName),
            ("switch", BadHead::Switch),
        ];
        const FORMS: &str = "garbage, none, nul, control, cr, two-lengths, space or switch";
        self.one_of(BadHead::Garbage, FORMS, HEADS).map(Fault::BadHead)
    }

    fn endless(self) -> Result<Fault, QueryError> {
        const PARTS: &[(&str, Fault)] =
            &[("body", Fault::EndlessBody), ("head", Fault::EndlessHead)];
        self.one_of(Fault::EndlessBody, "body or head", PARTS)
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

/// The query of the next hop of a redirect chain that has `left` redirects to go after this one:
/// the same parameters in the same order, `redirect` counted down, and absent at the chain's end.
pub(crate) fn next_hop(query: &str, left: u32, out: &mut Vec<u8>) {
    let mut separator = b'?';
    for parameter in parameters(query) {
        let counts = parameter.starts_with("redirect=");
        if counts && left == 0 {
            continue;
        }
        out.push(separator);
        separator = b'&';
        if counts {
            write!(out, "redirect={left}").expect("a Vec grows as needed");
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
        assert_eq!(asked.coding, Some(BodyCoding::Gzip));
        assert!(asked.idle_close);
    }

    #[test]
    fn faults_have_defaults_and_stages() {
        let fault = |query| parse(query).unwrap().fault.unwrap();
        assert_eq!(fault("stall"), Fault::Cut(Stage::AfterHead, CutKind::Stall));
        assert_eq!(fault("stall=before"), Fault::Cut(Stage::Before, CutKind::Stall));
        assert_eq!(fault("reset"), Fault::Cut(Stage::Before, CutKind::Reset));
        assert_eq!(fault("reset=in-body"), Fault::Cut(Stage::InBody, CutKind::Reset));
        assert_eq!(fault("truncate"), Fault::Cut(Stage::InBody, CutKind::Close));
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
        assert_eq!(error("status=99"), "status=99: status takes a status from 200 to 599");
        assert_eq!(error("chunked=yes"), "chunked=yes: chunked takes no value");
        assert_eq!(error("slow"), "slow needs a value: bytes a second, from 1 to 10000000");
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
        assert_eq!(error("chunked&close"), "chunked and close exclude each other: leave one out");
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
            assert!(matches!(parse(query), Err(QueryError::Conflict { .. })), "{query}");
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
