//! Latencies as mergeable HDR histograms.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2DeflateSerializer},
};

use crate::record::Percentiles;

/// The longest latency that is told apart, in microseconds: one hour, which is
/// also the longest timeout.
const HIGHEST_US: u64 = 3_600_000_000;
/// Decimal digits kept: a value is off by at most 1 in 1,000.
const DIGITS: u8 = 3;
/// A percentile with fewer samples beyond it says more about luck than about the tail.
pub(crate) const TAIL_SAMPLES_MIN: u64 = 10;
/// Longest encoded histogram that is read, in bytes; a full one has under 200 KB.
const ENCODED_MAX_BYTES: usize = 1024 * 1024;

/// A distribution of latencies, in microseconds.
///
/// Recording allocates nothing; adding another one gives the same as recording
/// its samples here (Tene, HdrHistogram).
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    histogram: Histogram<u64>,
}

/// A histogram in a record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LatencyError {
    /// Not base64.
    #[error("a latency histogram in the record is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// Not a histogram.
    #[error("a latency histogram in the record cannot be read: {0}")]
    Histogram(#[from] hdrhistogram::serialization::DeserializeError),
    /// Values past one hour.
    #[error("a latency histogram in the record has values of more than an hour")]
    Range,
    /// Larger than any histogram of this kind.
    #[error(
        "a latency histogram in the record has {0} bytes; none has more than {ENCODED_MAX_BYTES}"
    )]
    TooLong(usize),
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// An empty distribution from 1 µs to 1 h with three digits; about 184 KB.
    #[must_use]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_US, DIGITS)
            .expect("the bounds are constants that the library accepts");
        Self { histogram }
    }

    /// Adds one sample; more than an hour counts as an hour.
    pub fn record(&mut self, us: u64) {
        self.histogram.saturating_record(us);
    }

    /// Adds all samples of another distribution.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
    }

    /// How many samples there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency, in seconds, that `fraction` of the samples do not exceed;
    /// `None` when there are no samples.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> Option<f64> {
        (self.count() > 0).then(|| seconds(self.histogram.value_at_quantile(fraction)))
    }

    /// What half of the samples do not exceed.
    #[must_use]
    pub fn p50(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// What 99 in 100 samples do not exceed; `None` where fewer than ten lie beyond it.
    #[must_use]
    pub fn p99(&self) -> Option<f64> {
        self.tail(100)
    }

    /// The distribution in a few numbers; `None` when there are no samples.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        let count = self.count();
        Some(Percentiles {
            p50: self.p50()?,
            p90: self.tail(10),
            p99: self.p99(),
            max: seconds(self.histogram.max()),
            mean: self.histogram.mean() / 1e6,
            count,
        })
    }

    /// What 1 in `one_in` exceeds, if enough samples lie beyond it.
    fn tail(&self, one_in: u32) -> Option<f64> {
        (self.count() / u64::from(one_in) >= TAIL_SAMPLES_MIN)
            .then(|| self.quantile(1.0 - 1.0 / f64::from(one_in)))
            .flatten()
    }

    /// The percentile curve as (fraction, seconds), evenly spaced on an axis of
    /// 1/(1 − fraction), ten points a decade, as far as ten samples lie beyond.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        (0..)
            .map(|step| 10f64.powf(f64::from(step) / 10.0))
            .take_while(|one_in| {
                // Exact for any count that a study reaches: below 2^53.
                let count = self.count() as f64;
                let least = TAIL_SAMPLES_MIN as f64;
                count / one_in >= least
            })
            .filter_map(|one_in| {
                let fraction = 1.0 - 1.0 / one_in;
                Some((fraction, self.quantile(fraction)?))
            })
            .collect()
    }

    /// The distribution as V2 + DEFLATE in base64, readable by every HDR histogram library.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.histogram, &mut bytes)
            .expect("writing into memory cannot fail");
        STANDARD.encode(bytes)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When the text is not such a histogram, or has values of more than an hour.
    pub fn decode(text: &str) -> Result<Self, LatencyError> {
        if text.len() > ENCODED_MAX_BYTES {
            return Err(LatencyError::TooLong(text.len()));
        }
        let bytes = STANDARD.decode(text)?;
        let foreign: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice())?;
        let mut latency = Self::new();
        latency.histogram.add(&foreign).map_err(|_| LatencyError::Range)?;
        Ok(latency)
    }
}

fn seconds(us: u64) -> f64 {
    // Exact: an hour in microseconds is far below 2^53.
    let us = us as f64;
    us / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(samples: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::new();
        for us in samples {
            latency.record(us);
        }
        latency
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let p = of(1..=100_000).percentiles().unwrap();
        let close = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 1e-3, "{got} {want}");
        close(p.p50, 0.05);
        close(p.p90.unwrap(), 0.09);
        close(p.p99.unwrap(), 0.099);
        close(p.max, 0.1);
        close(p.mean, 0.050_000_5);
        assert_eq!(p.count, 100_000);
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let p = |n| of(1..=n).percentiles().unwrap();
        assert_eq!(p(99).p90, None);
        assert!(p(100).p90.is_some());
        assert_eq!(p(999).p99, None);
        assert!(p(1_000).p99.is_some());
        assert_eq!(of([]).percentiles(), None);
    }

    #[test]
    fn more_than_an_hour_counts_as_an_hour() {
        let p = of([u64::MAX, 0]).percentiles().unwrap();
        assert!((p.max / 3600.0 - 1.0).abs() < 1e-3);
        assert!(p.p50 < 1e-6);
    }

    #[test]
    fn the_curve_rises_and_ends_ten_samples_before_the_last() {
        let curve = of(1..=10_000).curve();
        assert!(curve.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1));
        let (fraction, _) = *curve.last().unwrap();
        assert!((fraction - 0.999).abs() < 1e-9, "{fraction}");
        assert!(of([]).curve().is_empty());
    }

    #[test]
    fn what_is_not_a_histogram_is_refused() {
        let refused = |text: &str| Latency::decode(text).unwrap_err().to_string();
        insta::assert_snapshot!(refused("é"), @"a latency histogram in the record is not base64: Invalid symbol 195, offset 0.");
        insta::assert_snapshot!(refused("AAAAAAAA"), @"a latency histogram in the record cannot be read: The cookie (first 4 bytes) did not match that for any supported format");
        let mut long = Histogram::<u64>::new_with_bounds(1, HIGHEST_US * 4, 3).unwrap();
        long.record(HIGHEST_US * 3).unwrap();
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&long, &mut bytes).unwrap();
        insta::assert_snapshot!(refused(&STANDARD.encode(bytes)), @"a latency histogram in the record has values of more than an hour");
        insta::assert_snapshot!(refused(&"A".repeat(ENCODED_MAX_BYTES + 1)), @"a latency histogram in the record has 1048577 bytes; none has more than 1048576");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn merged_equals_pooled(
            parts in prop::collection::vec(prop::collection::vec(0..4_000_000_000u64, 0..50), 1..6)
        ) {
            let mut merged = Latency::new();
            for part in &parts {
                merged.merge(&of(part.iter().copied()));
            }
            let pooled = of(parts.into_iter().flatten());
            prop_assert_eq!(merged.percentiles(), pooled.percentiles());
            prop_assert_eq!(Latency::decode(&merged.encode()).unwrap(), pooled);
        }
    }
}
