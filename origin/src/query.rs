//! The query language: what a URL's query asks the origin to do.
//!
//! Parameters are separated by `&`; each is a name, or a name and a value. Nothing is decoded but
//! the value of `redirect-to`. docs/origin.md is the reference.

use std::{io::Write, ops::RangeInclusive, str::FromStr};

use clap::ValueEnum;

use crate::{
    behaviour::{
        BadChunk, BadHead, Behaviour, BodyCoding, CutKind, Fault, Fill, Framing, Lie, Redirect,
        SendPace, Stage,
    },
    limits::{
        HEADER_LINE_MAX_BYTES, REDIRECTS_MAX, REPEATS_MAX, RETRY_AFTER_MAX_S, SLOW_MAX_BYTES_PER_S,
    },
    number::whole,
    spec::{SpecError, bytes, echo},
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
    let mut asked = Behaviour { status: 200, ..Behaviour::default() };
    for (index, parameter) in parameters(query).map(Parameter::new).enumerate() {
        parameter.read(&mut asked)?;
        let mut earlier = parameters(query).take(index).map(Parameter::new);
        if let Some(first) = earlier.find(|earlier| earlier.sets() == parameter.sets()) {
            return Err(conflict(first.name, parameter.name));
        }
    }
    check(&asked, query)?;
    if asked.busy.is_some() && setter(query, "status").is_none() {
        asked.status = 503;
    }
    Ok(asked)
}

fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|part| !part.is_empty())
}

fn setter<'q>(query: &'q str, what: &str) -> Option<&'q str> {
    let mut given = parameters(query).map(Parameter::new);
    given.find(|parameter| parameter.sets() == what).map(|parameter| parameter.name)
}

/// Refuses what makes no sense together.
fn check(asked: &Behaviour<'_>, query: &str) -> Result<(), QueryError> {
    let exclude = |first, second| {
        let name = |what| setter(query, what).unwrap_or_default();
        Err(conflict(name(first), name(second)))
    };
    let framing_fits = match asked.fault {
        Some(Fault::LengthLie(_) | Fault::BadHead(BadHead::TwoLengths)) => {
            asked.framing == Framing::Length
        }
        Some(Fault::BadChunk(_)) => asked.framing != Framing::Close,
        _ => true,
    };
    let ends_plain = matches!(asked.fault, Some(Fault::BadChunk(_) | Fault::EndlessBody));
    if !framing_fits {
        exclude("framing", "fault")
    } else if asked.coding.is_some() && ends_plain {
        exclude("coding", "fault")
    } else if asked.fill == Fill::Zeros && asked.coding.is_none() {
        Err(QueryError::Parameter("bomb needs gzip, br or zstd beside it".to_owned()))
    } else if asked.idle_close && asked.framing == Framing::Close {
        exclude("idle-close", "framing")
    } else {
        Ok(())
    }
}

fn conflict(first: &str, second: &str) -> QueryError {
    if first == second {
        return QueryError::Parameter(format!("{first} is given twice"));
    }
    QueryError::Conflict { first: first.to_owned(), second: second.to_owned() }
}

#[derive(Clone, Copy)]
struct Parameter<'q> {
    name: &'q str,
    value: Option<&'q str>,
}

impl<'q> Parameter<'q> {
    fn new(text: &'q str) -> Self {
        let given = text.split_once('=');
        Self { name: given.map_or(text, |(name, _)| name), value: given.map(|(_, value)| value) }
    }

    /// What it sets: parameters that set the same exclude each other.
    fn sets(self) -> &'q str {
        match self.name {
            "chunked" | "close" => "framing",
            "gzip" | "br" | "zstd" => "coding",
            "redirect" | "redirect-to" => "redirect",
            "slow" | "slow-head" | "split" => "pace",
            "stall" | "reset" | "truncate" | "length-lie" | "bad-chunk" | "bad-head"
            | "endless" | "extra" => "fault",
            own => own,
        }
    }

    fn read(self, asked: &mut Behaviour<'q>) -> Result<(), QueryError> {
        const RATE: &str = "bytes a second, from 1 to 10000000";
        match self.name {
            "delay" => asked.delay = Some(self.spec()?),
            "size" => asked.size = self.spec()?,
            "status" => {
                let status = self.number(200..=599, "a status from 200 to 599")?;
                asked.status = u16::try_from(status).expect("at most 599");
            }
            "retry-after" => {
                let seconds = self.number(0..=RETRY_AFTER_MAX_S, "seconds, at most 86400")?;
                asked.retry_after_s = Some(seconds);
            }
            "busy" => asked.busy = Some(self.count()?),
            "chunked" => asked.framing = self.flag(Framing::Chunked)?,
            "close" => asked.framing = self.flag(Framing::Close)?,
            "gzip" => asked.coding = Some(self.flag(BodyCoding::Gzip)?),
            "br" => asked.coding = Some(self.flag(BodyCoding::Brotli)?),
            "zstd" => asked.coding = Some(self.flag(BodyCoding::Zstd)?),
            "bomb" => asked.fill = self.flag(Fill::Zeros)?,
            "redirect" => asked.redirect = Some(self.redirect()?),
            "redirect-to" => asked.redirect = Some(self.redirect_to()?),
            "idle-close" => asked.idle_close = self.flag(true)?,
            "slow" => {
                let rate = self.number(1..=SLOW_MAX_BYTES_PER_S, RATE)?;
                asked.pace = Some(SendPace::SlowBody(rate));
            }
            "slow-head" => {
                let rate = self.number(1..=SLOW_MAX_BYTES_PER_S, RATE)?;
                asked.pace = Some(SendPace::Slow(rate));
            }
            "split" => asked.pace = Some(self.flag(SendPace::Split)?),
            "interim" => asked.interim = self.count()?,
            "headers" => asked.headers = self.count()?,
            "header-size" => asked.header_size = Some(self.header_size()?),
            "if-reused" => asked.if_reused = self.flag(true)?,
            _ => asked.fault = Some(self.fault()?),
        }
        Ok(())
    }

    fn fault(self) -> Result<Fault, QueryError> {
        match self.name {
            "stall" => self.cut(Stage::AfterHead, CutKind::Stall),
            "reset" => self.cut(Stage::Before, CutKind::Reset),
            "truncate" => self.cut(Stage::InBody, CutKind::Close),
            "length-lie" => self.one_of(Lie::Short).map(Fault::LengthLie),
            "bad-chunk" => self.one_of(BadChunk::Size).map(Fault::BadChunk),
            "bad-head" => self.one_of(BadHead::Garbage).map(Fault::BadHead),
            "endless" => match self.value {
                None | Some("body") => Ok(Fault::EndlessBody),
                Some("head") => Ok(Fault::EndlessHead),
                Some(other) => Err(self.bad(other, "body or head")),
            },
            "extra" => self.flag(Fault::Extra),
            unknown => Err(QueryError::Unknown(echo(unknown))),
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
        self.value.map_or(Ok(meaning), |value| Err(self.bad(value, "no value")))
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

    fn count(self) -> Result<u32, QueryError> {
        self.number(1..=REPEATS_MAX, "a count up to 1000000")
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

    fn cut(self, default: Stage, kind: CutKind) -> Result<Fault, QueryError> {
        Ok(Fault::Cut(self.one_of(default)?, kind))
    }

    /// One of the variants by its name, or `default` without a value.
    fn one_of<T: ValueEnum>(self, default: T) -> Result<T, QueryError> {
        let Some(value) = self.value else {
            return Ok(default);
        };
        T::from_str(value, false).map_err(|_| {
            let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<_> = names.map(|name| name.get_name().to_owned()).collect();
            self.bad(value, &format!("one of {}", names.join(", ")))
        })
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
    use crate::spec::{Delay, Size};

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
