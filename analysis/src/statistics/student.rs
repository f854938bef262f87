//! Student's t distribution, and numbers from the normal one.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ChiSquared, ContinuousCDF as _, Normal, StudentsT};

/// Above this many degrees of freedom the normal distribution is used: the
/// quantiles differ by less than 1 in 10,000, and the library's t is no longer exact.
const DEGREES_MAX: f64 = 10_000.0;

/// The value that a t-distributed number with `degrees` of freedom stays below
/// with probability `p`; `None` without a degree of freedom.
pub(crate) fn quantile(p: f64, degrees: usize) -> Option<f64> {
    (degrees > 0).then(|| fractional_quantile(p, degrees as f64))
}

/// The same for degrees of freedom that are no whole number; they must be above 0.
pub(crate) fn fractional_quantile(p: f64, degrees: f64) -> f64 {
    if degrees > DEGREES_MAX {
        return Normal::new(0.0, 1.0)
            .expect("the parameters are constants that the library accepts")
            .inverse_cdf(p);
    }
    StudentsT::new(0.0, 1.0, degrees)
        .expect("location and scale are constants, and there is a degree of freedom")
        .inverse_cdf(p)
}

/// A standard normal number, by Box and Muller's transform.
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Evenly likely ratios of a true standard deviation to one that was found with so many degrees of
/// freedom: √(ν / χ²).
pub(crate) fn scales(degrees: f64) -> [f64; 20] {
    let chi_squared = ChiSquared::new(degrees).expect("there are degrees of freedom");
    std::array::from_fn(|at| (degrees / chi_squared.inverse_cdf((at as f64 + 0.5) / 20.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the t table of the NIST/SEMATECH e-Handbook, section 1.3.6.7.2.
    #[test]
    fn quantiles_agree_with_the_tables() {
        for (degrees, p, table) in [
            (1, 0.975, 12.706),
            (1, 0.95, 6.314),
            (2, 0.975, 4.303),
            (5, 0.975, 2.571),
            (7, 0.99, 2.998),
            (9, 0.975, 2.262),
            (9, 0.995, 3.250),
            (10, 0.9, 1.372),
            (30, 0.975, 2.042),
            (100, 0.975, 1.984),
            (20_000, 0.975, 1.960),
        ] {
            let t = quantile(p, degrees).unwrap();
            assert!((t - table).abs() < 6e-4, "{degrees} {p}: {t}, not {table}");
        }
        assert_eq!(quantile(0.975, 0), None);
    }
}
