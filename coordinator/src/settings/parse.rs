//! Values that several flags take.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use fanout_proto::limits::TIMEOUT_MAX;

use crate::exit::Failure;

/// A flag's value that cannot be used, and what to give instead.
pub(super) fn value(flag: &str, value: impl Display, hint: impl Display) -> Failure {
    Failure::usage(format!("{flag} {value}: {hint}"))
}

/// A number that must be in `range`; `what` says of what.
pub(super) fn within<T: PartialOrd + Display>(
    flag: &'static str,
    number: T,
    range: RangeInclusive<T>,
    what: &str,
) -> Result<T, Failure> {
    if range.contains(&number) {
        return Ok(number);
    }
    let hint = format!("{} to {} {what}", range.start(), range.end());
    Err(value(flag, number, hint))
}

/// A number of URLs a second: from one in twenty minutes to one in a microsecond.
pub(super) fn rate(flag: &'static str, rate: f64, what: &str) -> Result<f64, Failure> {
    within(flag, rate, 0.001..=1e6, what)
}

/// `--margin`, as a share.
pub(crate) fn margin(text: &str) -> Result<f64, Failure> {
    let number = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
    number
        .filter(|percent| (0.001..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| value("--margin", text, "write a share from 0.001% to 100%, such as 5%"))
}

pub(super) fn duration(flag: &'static str, text: &str) -> Result<Duration, Failure> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|parsed| Duration::try_from(parsed).ok())
        .filter(|parsed| !parsed.is_zero())
        .ok_or_else(|| value(flag, text, "write a duration as 500ms, 30s or 2m"))
}

/// As [`duration`] reads it.
pub(super) fn duration_text(duration: Duration) -> String {
    jiff::SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{}s", duration.as_secs()), |known| format!("{known:#}"))
}

pub(super) fn timeout(flag: &'static str, text: &str) -> Result<Duration, Failure> {
    let parsed = duration(flag, text)?;
    if parsed > TIMEOUT_MAX {
        return Err(value(flag, text, "at most 1h can be waited"));
    }
    Ok(parsed)
}

pub(super) fn size(flag: &'static str, text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1_u64 << 30),
        _ => None,
    };
    digits
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| value(flag, text, "write a size in bytes as 4096, 64k or 1M"))
}

/// As [`size`] reads it.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "k")];
    let fits = units.iter().find(|(factor, _)| bytes.is_multiple_of(*factor));
    fits.map_or_else(|| bytes.to_string(), |(factor, unit)| format!("{}{unit}", bytes / factor))
}
