//! How often a difference is called where there is none.

use statrs::distribution::{Beta, Binomial, ContinuousCDF as _, DiscreteCDF as _};

use crate::{
    record::Interval,
    statistics::{ALPHA, CONFIDENCE},
};

/// What a series of studies of an arm against itself shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FalsePositives {
    /// Studies that were tested.
    pub studies: u32,
    /// Studies that called a difference.
    pub called: u32,
    /// The rate, with the exact interval of Clopper and Pearson (1934).
    pub rate: Interval,
    /// The most calls that a true rate of 5 % explains in 95 % of such series.
    pub allowed: u32,
}

impl FalsePositives {
    /// Whether more differences were called than a true rate of 5 % explains.
    #[must_use]
    pub const fn too_many(&self) -> bool {
        self.called > self.allowed
    }
}

/// How often studies in which an arm ran against itself called a difference, from their adjusted
/// p-values. A study without a test is left out.
#[must_use]
pub fn false_positives(p_adjusted: impl IntoIterator<Item = Option<f64>>) -> FalsePositives {
    let (mut studies, mut called) = (0_u32, 0_u32);
    for p_adjusted in p_adjusted.into_iter().flatten() {
        studies += 1;
        called += u32::from(p_adjusted < ALPHA);
    }
    let (n, k) = (f64::from(studies), f64::from(called));
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let beta = |a: f64, b: f64, p: f64| Beta::new(a, b).ok().map(|beta| beta.inverse_cdf(p));
    let rate = Interval {
        value: if studies == 0 { 0.0 } else { k / n },
        low: if called == 0 { (studies > 0).then_some(0.0) } else { beta(k, n - k + 1.0, tail) },
        high: if called == studies {
            (studies > 0).then_some(1.0)
        } else {
            beta(k + 1.0, n - k, 1.0 - tail)
        },
    };
    FalsePositives { studies, called, rate, allowed: allowed(studies, ALPHA) }
}

/// The smallest number that a binomial count with that rate exceeds in at most 5 % of cases.
fn allowed(studies: u32, rate: f64) -> u32 {
    let binomial =
        Binomial::new(rate, studies.into()).expect("the rate is a constant between 0 and 1");
    (0..studies).find(|&count| binomial.cdf(count.into()) >= CONFIDENCE).unwrap_or(studies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_agrees_with_published_ones() {
        // 7 of 200, from the binomial sums by bisection, as R's binom.test does.
        let p_values = |called: usize, not: usize| {
            std::iter::repeat_n(Some(0.049), called).chain(std::iter::repeat_n(Some(0.05), not))
        };
        let found = false_positives(p_values(7, 193));
        assert!((found.rate.value - 0.035).abs() < 1e-12);
        assert!((found.rate.low.unwrap() - 0.014_185_5).abs() < 1e-6);
        assert!((found.rate.high.unwrap() - 0.070_781_0).abs() < 1e-6);
        // 0 of 30: the upper end is 1 − 0.025^(1/30).
        let none = false_positives(p_values(0, 30));
        assert_eq!(none.rate.low, Some(0.0));
        assert!((none.rate.high.unwrap() - (1.0 - 0.025f64.powf(1.0 / 30.0))).abs() < 1e-6);
    }

    #[test]
    fn a_few_calls_are_chance_and_many_are_not() {
        // qbinom(0.95, 200, 0.05) is 15, qbinom(0.95, 30, 0.05) is 4.
        assert_eq!(allowed(200, 0.05), 15);
        assert_eq!(allowed(30, 0.05), 4);
        let of =
            |called| false_positives((0..30).map(|i| Some(if i < called { 0.01 } else { 0.6 })));
        assert!(!of(4).too_many());
        assert!(of(5).too_many());
    }

    #[test]
    fn without_a_test_nothing_is_known() {
        let none = false_positives([None]);
        assert_eq!((none.studies, none.rate.low, none.rate.high), (0, None, None));
        assert!(!none.too_many());
    }
}
