//! Log ratios of one arm to another, block by block.

use std::collections::BTreeMap;

use crate::{
    record::Interval,
    statistics::{BlockRatios, student},
};

/// Independent numbers of the same kind, on a log scale where ratios are meant.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample(Vec<f64>);

/// ln(a / b) of every block in which both have a value above 0.
pub(crate) fn log_ratios(a: &BTreeMap<u32, f64>, b: &BTreeMap<u32, f64>) -> BlockRatios {
    a.iter()
        .filter_map(|(block, a)| Some((*block, *a, *b.get(block)?)))
        .filter(|(_, a, b)| *a > 0.0 && *b > 0.0)
        .map(|(block, a, b)| (block, (a / b).ln()))
        .collect()
}

impl From<&BlockRatios> for Sample {
    fn from(ratios: &BlockRatios) -> Self {
        Self(ratios.values().copied().collect())
    }
}

impl Sample {
    pub(crate) fn new(numbers: Vec<f64>) -> Self {
        Self(numbers)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The arithmetic mean; 0 of nothing.
    pub(crate) fn mean(&self) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        self.0.iter().sum::<f64>() / self.len() as f64
    }

    /// The standard error of the mean, from the standard deviation with n − 1;
    /// `None` below two numbers.
    pub(crate) fn standard_error(&self) -> Option<f64> {
        let n = self.len();
        if n < 2 {
            return None;
        }
        let mean = self.mean();
        let squares: f64 = self.0.iter().map(|x| (x - mean).powi(2)).sum();
        Some((squares / (n - 1) as f64 / n as f64).sqrt())
    }

    /// Half of the t-interval's width (Student 1908); `None` below two numbers.
    pub(crate) fn half_width(&self, confidence: f64) -> Option<f64> {
        let t = student::quantile(0.5 + confidence / 2.0, self.len().checked_sub(1)?)?;
        Some(t * self.standard_error()?)
    }

    /// The mean with its t-interval.
    pub(crate) fn interval(&self, confidence: f64) -> Interval {
        let half = self.half_width(confidence);
        let value = self.mean();
        Interval { value, low: half.map(|half| value - half), high: half.map(|half| value + half) }
    }

    /// Geometric mean and interval of what these are the logarithms of.
    pub(crate) fn exp_interval(&self, confidence: f64) -> Interval {
        let log = self.interval(confidence);
        Interval {
            value: log.value.exp(),
            low: log.low.map(f64::exp),
            high: log.high.map(f64::exp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Student's own example (1908), the sleep data of R: the extra hours under
    /// two drugs; `t.test(..., paired = TRUE)` gives 1.58 in (0.70, 2.46).
    #[test]
    fn students_sleep() {
        let sleep = Sample::new(vec![1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]);
        let interval = sleep.interval(0.95);
        assert!((interval.value - 1.58).abs() < 1e-9);
        assert!((interval.low.unwrap() - 0.700_114_2).abs() < 1e-6);
        assert!((interval.high.unwrap() - 2.459_885_8).abs() < 1e-6);
    }

    #[test]
    fn one_number_has_no_interval() {
        let one = Sample::new(vec![0.3]).interval(0.95);
        assert_eq!((one.value, one.low, one.high), (0.3, None, None));
    }

    #[test]
    fn only_blocks_of_both_count() {
        let a = BTreeMap::from([(1, 2.0), (2, 3.0), (4, 0.0)]);
        let b = BTreeMap::from([(2, 6.0), (3, 1.0), (4, 1.0)]);
        assert_eq!(log_ratios(&a, &b), BlockRatios::from([(2, 0.5f64.ln())]));
    }
}
