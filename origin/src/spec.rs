//! Delays and sizes as a URL writes them: fixed, a range, or a distribution.

use std::{str::FromStr, time::Duration};

use crate::{
    limits::{DELAY_MAX, ECHO_MAX_CHARS, SIGMA_MAX, SIZE_DEFAULT_BYTES, SIZE_MAX_BYTES},
    number::{decimal, whole},
    seeded_rng::SeededRng,
};

/// How long a response is held back: `5ms`, `1ms..20ms` or `lognormal:20ms:0.5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Delay {
    Fixed(Duration),
    Uniform(Duration, Duration),
    /// Lognormal, given by its median and the standard deviation of its
    /// logarithm; the mean is median · exp(sigma² / 2).
    LogNormal {
        median: Duration,
        sigma: f64,
    },
}

impl Delay {
    /// This URL's delay; never above [`DELAY_MAX`].
    pub(crate) fn sample(self, rng: &mut SeededRng) -> Duration {
        match self {
            Self::Fixed(delay) => delay,
            Self::Uniform(low, high) => {
                Duration::from_nanos(rng.between(nanoseconds(low), nanoseconds(high)))
            }
            Self::LogNormal { median, sigma } => {
                let seconds = median.as_secs_f64() * (sigma * rng.normal()).exp();
                Duration::try_from_secs_f64(seconds).map_or(DELAY_MAX, |delay| delay.min(DELAY_MAX))
            }
        }
    }
}

fn nanoseconds(delay: Duration) -> u64 {
    u64::try_from(delay.as_nanos()).expect("a delay is at most a minute")
}

impl FromStr for Delay {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let read = || {
            if let Some(shape) = text.strip_prefix("lognormal:") {
                let (median, sigma) = shape.split_once(':')?;
                let sigma = decimal(sigma).filter(|&sigma| sigma <= SIGMA_MAX)?;
                let median = duration(median)?;
                return Some(Self::LogNormal { median, sigma });
            }
            match text.split_once("..") {
                Some((low, high)) => {
                    let (low, high) = (duration(low)?, duration(high)?);
                    (low <= high).then_some(Self::Uniform(low, high))
                }
                None => duration(text).map(Self::Fixed),
            }
        };
        read().ok_or_else(|| SpecError::new(text, DELAY_FORMS))
    }
}

/// A body's size in bytes: `64`, `4k` or `1k..64k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Fixed(u64),
    Uniform(u64, u64),
}

impl Default for Size {
    fn default() -> Self {
        Self::Fixed(SIZE_DEFAULT_BYTES)
    }
}

impl Size {
    pub(crate) fn sample(self, rng: &mut SeededRng) -> u64 {
        match self {
            Self::Fixed(size) => size,
            Self::Uniform(low, high) => rng.between(low, high),
        }
    }
}

impl FromStr for Size {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let read = || match text.split_once("..") {
            Some((low, high)) => {
                let (low, high) = (bytes(low)?, bytes(high)?);
                (low <= high).then_some(Self::Uniform(low, high))
            }
            None => bytes(text).map(Self::Fixed),
        };
        read().ok_or_else(|| SpecError::new(text, SIZE_FORMS))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' does not fit: give {forms}")]
pub(crate) struct SpecError {
    text: String,
    forms: &'static str,
}

const DELAY_FORMS: &str = "a time with its unit (5ms, 800us, 1.5s; at most 60s), a range \
     (1ms..20ms), or lognormal:MEDIAN:SIGMA (lognormal:20ms:0.5; sigma at most 4)";
const SIZE_FORMS: &str =
    "bytes (64), KiB, MiB or GiB (4k, 1M, 1G; at most 1G), or a range (1k..64k)";

impl SpecError {
    fn new(text: &str, forms: &'static str) -> Self {
        let text = echo(text);
        Self { text, forms }
    }
}

/// `text` as an error message can repeat it: short, and printable.
pub(crate) fn echo(text: &str) -> String {
    let mut shown: String =
        text.chars().take(ECHO_MAX_CHARS).flat_map(char::escape_default).collect();
    if text.chars().nth(ECHO_MAX_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (value, unit) = text.split_at(digits);
    let per_second = match unit {
        "us" => 1e6,
        "ms" => 1e3,
        "s" => 1.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(decimal(value)? / per_second)
        .ok()
        .filter(|&delay| delay <= DELAY_MAX)
}

/// Bytes with an optional binary suffix, at most [`SIZE_MAX_BYTES`].
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    whole(digits)?.checked_mul(unit).filter(|&size| size <= SIZE_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay(text: &str) -> Delay {
        text.parse().unwrap()
    }

    fn size(text: &str) -> Size {
        text.parse().unwrap()
    }

    #[test]
    fn delays_are_read() {
        assert_eq!(delay("5ms"), Delay::Fixed(Duration::from_millis(5)));
        assert_eq!(delay("800us"), Delay::Fixed(Duration::from_micros(800)));
        assert_eq!(delay("1.5s"), Delay::Fixed(Duration::from_millis(1500)));
        assert_eq!(delay("0us"), Delay::Fixed(Duration::ZERO));
        assert_eq!(delay("60s"), Delay::Fixed(DELAY_MAX));
        assert_eq!(
            delay("1ms..20ms"),
            Delay::Uniform(Duration::from_millis(1), Duration::from_millis(20))
        );
        assert_eq!(
            delay("lognormal:20ms:0.5"),
            Delay::LogNormal { median: Duration::from_millis(20), sigma: 0.5 }
        );
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("64"), Size::Fixed(64));
        assert_eq!(size("0"), Size::Fixed(0));
        assert_eq!(size("1k..64k"), Size::Uniform(1024, 65_536));
        assert_eq!(size("2M"), Size::Fixed(2 << 20));
        assert_eq!(size("1G"), Size::Fixed(SIZE_MAX_BYTES));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "5",
            "ms",
            "5m",
            "-5ms",
            "+5ms",
            "1e3ms",
            "infs",
            "61s",
            "20ms..1ms",
            "1ms..",
            "..1ms",
            "lognormal:20ms",
            "lognormal:20ms:",
            "lognormal:20ms:5",
            "lognormal::1",
            "1.2.3ms",
            "5 ms",
            "99999999999999999999s",
            ".s",
        ] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "+1",
            "1.5k",
            "2G",
            "64k..1k",
            "1..",
            "..",
            "1KiB",
            " 1",
            "99999999999999999999",
            "18446744073709551615k",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_names_the_value_and_the_forms() {
        let message = "soon".parse::<Delay>().unwrap_err().to_string();
        assert!(message.starts_with("'soon' does not fit: give a time"), "{message}");
        let long = "9".repeat(500).parse::<Size>().unwrap_err().to_string();
        assert!(long.len() < 250, "{long}");
    }

    #[test]
    fn samples_stay_inside_and_have_the_stated_mean() {
        let mut rng = SeededRng::new(3);
        for _ in 0..1000 {
            let sample = delay("1ms..2ms").sample(&mut rng);
            assert!((1_000..=2_000).contains(&sample.as_micros()));
            assert!((10..=12).contains(&size("10..12").sample(&mut rng)));
            assert!(delay("lognormal:60s:4").sample(&mut rng) <= DELAY_MAX);
        }
        let n = 100_000;
        let lognormal = delay("lognormal:20ms:0.5");
        let mean: f64 =
            (0..n).map(|_| lognormal.sample(&mut rng).as_secs_f64()).sum::<f64>() / f64::from(n);
        let expected = 0.020 * 0.125f64.exp();
        // The standard deviation is 0.533 of the mean: five standard errors.
        assert!((mean / expected - 1.0).abs() < 0.0085, "{mean}");
    }
}
