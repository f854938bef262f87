//! From figures to places, and where the ticks of an axis stand.

use crate::format;

/// Maps a domain of figures onto a range of places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    logarithmic: bool,
    domain: (f64, f64),
    range: (f64, f64),
}

impl Scale {
    /// Equal differences are equal distances. An empty or unknown domain is
    /// taken as 0 to 1, so that a chart without data still has an axis.
    pub(crate) fn linear(domain: (f64, f64), range: (f64, f64)) -> Self {
        let usable = domain.0.is_finite() && domain.1.is_finite() && domain.1 > domain.0;
        Self { logarithmic: false, domain: if usable { domain } else { (0.0, 1.0) }, range }
    }

    /// Equal ratios are equal distances. Both ends must be above 0 and differ;
    /// otherwise the domain is taken as ½ to 2.
    pub(crate) fn log(domain: (f64, f64), range: (f64, f64)) -> Self {
        let usable = domain.0 > 0.0 && domain.1.is_finite() && domain.1 > domain.0;
        Self { logarithmic: true, domain: if usable { domain } else { (0.5, 2.0) }, range }
    }

    /// The place of a figure; outside of the domain it lies outside of the range.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let (low, high) = self.domain;
        let share = if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        self.range.0 + share * (self.range.1 - self.range.0)
    }

    /// The place of a figure, held within the range.
    pub(crate) fn clamped(&self, value: f64) -> f64 {
        let (low, high) = self.domain;
        self.at(value.clamp(low, high))
    }

    /// Whether a figure lies within the domain.
    pub(crate) fn holds(&self, value: f64) -> bool {
        value >= self.domain.0 && value <= self.domain.1
    }

    pub(crate) fn domain(&self) -> (f64, f64) {
        self.domain
    }

    pub(crate) fn range(&self) -> (f64, f64) {
        self.range
    }

    /// Round figures within the domain, at most `most` of them (but two where
    /// the domain allows): multiples of 1, 2 or 5 on a linear scale, and on a
    /// logarithmic one 1, 2, 5, 10 …, or only the tens.
    pub(crate) fn ticks(&self, most: usize) -> Vec<f64> {
        if self.logarithmic {
            return log_ticks(self.domain, most);
        }
        let step = nice_step(self.domain.1 - self.domain.0, most);
        multiples(self.domain, step)
    }
}

/// The smallest of 1, 2, 5 times a power of ten that divides `span` into at most `most` steps.
fn nice_step(span: f64, most: usize) -> f64 {
    let most = most.max(1) as f64;
    let rough = (span / most).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        // A hair of tolerance: 0.3 / 3 is a little more than 0.1.
        .find(|factor| factor * power >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0);
    factor * power
}

/// Rounds up to the next of 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten, so
/// that an axis from 0 ends soon after its largest figure.
pub(crate) fn nice_ceiling(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|nice| *nice >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// Ticks for ratios: powers of two where at least three lie in the domain, otherwise round steps.
pub(crate) fn ratio_ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
    if !(low > 0.0 && high > low && high.is_finite()) {
        return vec![1.0];
    }
    let (first, last) = (low.log2().ceil(), high.log2().floor());
    if last - first < 2.0 {
        return multiples((low, high), nice_step(high - low, most));
    }
    let every = (last - first + 1.0) / most.max(1) as f64;
    let every = every.ceil().max(1.0);
    let powers = steps((first / every).ceil() * every, last, every);
    powers.into_iter().map(f64::exp2).collect()
}

/// A ratio as an axis says it: `½×`, `0.9×`, `4×`.
pub(crate) fn ratio_label(value: f64) -> String {
    let whole = |n: f64| (n.round() - n).abs() < 1e-9;
    match value {
        v if (v - 0.5).abs() < 1e-9 => "½×".into(),
        v if (v - 0.25).abs() < 1e-9 => "¼×".into(),
        v if (v - 0.125).abs() < 1e-9 => "⅛×".into(),
        v if v < 0.125 && whole(1.0 / v) => format!("1/{:.0}×", 1.0 / v),
        v => format!("{}×", trimmed(v)),
    }
}

/// A unit for a whole axis: what a figure is divided by, and its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Unit {
    /// What one of it is, in the figure's own unit.
    pub(crate) size: f64,
    pub(crate) name: &'static str,
}

impl Unit {
    /// The unit for an axis of seconds that ends at `longest`.
    pub(crate) fn of_seconds(longest: f64) -> Self {
        let (size, name) = match longest {
            l if l < 2e-3 => (1e-6, "µs"),
            l if l < 2.0 => (1e-3, "ms"),
            l if l < 180.0 => (1.0, "s"),
            l if l < 3.0 * 3600.0 => (60.0, "min"),
            _ => (3600.0, "h"),
        };
        Self { size, name }
    }

    /// The unit for an axis of bytes that ends at `largest`.
    pub(crate) fn of_bytes(largest: f64) -> Self {
        let (size, name) = match largest {
            l if l < 2048.0 => (1.0, "B"),
            l if l < 2.0 * 1024f64.powi(2) => (1024.0, "KiB"),
            l if l < 4.0 * 1024f64.powi(3) => (1024f64.powi(2), "MiB"),
            _ => (1024f64.powi(3), "GiB"),
        };
        Self { size, name }
    }

    /// Where an axis from 0 ends that is to hold `highest`: soon after it, at a round figure.
    pub(crate) fn axis_end(&self, highest: f64) -> f64 {
        nice_ceiling(highest / self.size) * self.size
    }

    /// A figure in this unit, as an axis says it: `0`, `50`, `0.25`.
    pub(crate) fn label(&self, value: f64) -> String {
        trimmed(value / self.size)
    }
}

/// The largest of the amounts that belong together, when the rest are far off: the next is more
/// than `far` times as large. `None` when none is far off. More than half always belong together.
pub(crate) fn cut(amounts: &[f64], far: f64) -> Option<f64> {
    let mut sorted = amounts.to_vec();
    sorted.retain(|a| a.is_finite() && *a > 0.0);
    sorted.sort_by(f64::total_cmp);
    let mut pairs = sorted.windows(2).skip(sorted.len() / 2);
    pairs.find(|pair| pair[1] > far * pair[0]).map(|pair| pair[0])
}

/// Where an axis of times ends: behind the longest with some air, or behind
/// those that belong together when the rest take far longer.
pub(crate) fn time_limit(times: &[f64], air: f64) -> f64 {
    /// How many times longer than the next a time must be to be cut.
    const FAR: f64 = 2.5;
    let longest = times.iter().copied().fold(0.0, f64::max);
    cut(times, FAR).map_or(longest, |kept| kept * air)
}

fn log_ticks((low, high): (f64, f64), most: usize) -> Vec<f64> {
    let decades = steps(low.log10().floor(), high.log10().ceil(), 1.0);
    for factors in [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]] {
        let powers = decades.iter().map(|decade| 10f64.powf(*decade));
        let mut ticks: Vec<f64> =
            powers.flat_map(|power| factors.iter().map(move |factor| factor * power)).collect();
        ticks.retain(|tick| *tick >= low * (1.0 - 1e-9) && *tick <= high * (1.0 + 1e-9));
        if ticks.len() <= most {
            if ticks.len() >= 2 {
                return ticks;
            }
            break;
        }
    }
    let ticks = multiples((low, high), nice_step(high - low, most));
    if ticks.len() >= 2 { ticks } else { vec![low, high] }
}

fn multiples((low, high): (f64, f64), step: f64) -> Vec<f64> {
    let slack = step * 1e-6;
    let (first, last) = ((low - slack) / step, (high + slack) / step);
    let steps = steps(first.ceil(), last.floor(), 1.0);
    steps.into_iter().map(|n| n * step).collect()
}

/// `first`, `first + by` … up to `last`; never more than a thousand.
fn steps(first: f64, last: f64, by: f64) -> Vec<f64> {
    std::iter::successors(Some(first), |at| Some(at + by))
        .take_while(|at| *at <= last + by * 1e-9)
        .take(1000)
        .collect()
}

/// Three significant digits without zeros at the end.
pub(crate) fn trimmed(value: f64) -> String {
    match format::significant(value) {
        text if text.contains('.') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_linear_scale_maps_its_ends() {
        let scale = Scale::linear((0.0, 50.0), (100.0, 0.0));
        assert_eq!((scale.at(0.0), scale.at(25.0), scale.at(50.0)), (100.0, 50.0, 0.0));
        assert_eq!(scale.clamped(80.0), 0.0);
    }

    #[test]
    fn a_log_scale_gives_equal_ratios_equal_room() {
        let scale = Scale::log((0.5, 8.0), (0.0, 400.0));
        for (value, place) in [(0.5, 0.0), (1.0, 100.0), (2.0, 200.0), (8.0, 400.0)] {
            assert!((scale.at(value) - place).abs() < 1e-9);
        }
    }

    #[test]
    fn a_domain_without_extent_still_makes_a_scale() {
        for domain in [(0.0, 0.0), (f64::NAN, 1.0), (3.0, 1.0)] {
            assert!(Scale::linear(domain, (0.0, 10.0)).at(0.5).is_finite());
            assert!(Scale::log(domain, (0.0, 10.0)).at(1.0).is_finite());
        }
    }

    #[test]
    fn ticks_are_round() {
        let linear = |high, most| Scale::linear((0.0, high), (0.0, 1.0)).ticks(most);
        assert_eq!(linear(150.0, 4), [0.0, 50.0, 100.0, 150.0]);
        assert_eq!(linear(9.3, 5), [0.0, 2.0, 4.0, 6.0, 8.0]);
        let log = |low, high, most| Scale::log((low, high), (0.0, 1.0)).ticks(most);
        assert_eq!(log(18.0, 520.0, 6), [20.0, 50.0, 100.0, 200.0, 500.0]);
        assert_eq!(log(1.0, 1e6, 8).len(), 7);
        assert!(log(11.0, 12.0, 5).len() >= 2);
    }

    #[test]
    fn ratio_ticks_double_over_a_wide_range_and_step_over_a_narrow_one() {
        assert_eq!(ratio_ticks(0.45, 9.0, 8), [0.5, 1.0, 2.0, 4.0, 8.0]);
        assert_eq!(ratio_ticks(0.3, 300.0, 5), [1.0, 4.0, 16.0, 64.0, 256.0]);
        let narrow: Vec<String> = ratio_ticks(0.91, 1.12, 5).into_iter().map(ratio_label).collect();
        assert_eq!(narrow, ["0.95×", "1×", "1.05×", "1.1×"]);
        assert_eq!(ratio_ticks(f64::NAN, 2.0, 5), [1.0]);
    }

    #[test]
    fn ratios_are_labelled_as_people_say_them() {
        let labels: Vec<String> = [0.0625, 0.125, 0.25, 0.5, 1.0, 1.5, 2.0, 32.0, 128.0, 1024.0]
            .into_iter()
            .map(ratio_label)
            .collect();
        assert_eq!(labels.join(" "), "1/16× ⅛× ¼× ½× 1× 1.5× 2× 32× 128× 1,024×");
    }

    #[test]
    fn units_fit_the_whole_axis() {
        assert_eq!(Unit::of_seconds(0.31).label(0.25), "250");
        assert_eq!(Unit::of_seconds(9.1).label(2.5), "2.5");
        assert_eq!(Unit::of_bytes(133.0 * 1024.0 * 1024.0).label(52_428_800.0), "50");
    }

    #[test]
    fn an_axis_is_cut_only_where_a_few_are_far_off() {
        assert_eq!(cut(&[1.0, 1.1, 1.3, 2.0], 2.5), None);
        assert_eq!(cut(&[0.3, 0.31, 0.35, 9.0], 2.5), Some(0.35));
        assert_eq!(cut(&[0.3, 9.0], 2.5), None);
        assert_eq!(cut(&[0.3, 9.0, 9.1], 2.5), None);
        assert_eq!(cut(&[], 2.5), None);
        assert_eq!(cut(&[f64::NAN, 0.0], 2.5), None);
    }

    proptest! {
        #[test]
        fn ticks_lie_in_the_domain_rise_and_are_few(low in 1e-6..1e6f64, span in 1e-3..1e6f64, most in 2usize..12) {
            for scale in [Scale::linear((low, low + span), (0.0, 1.0)), Scale::log((low, low + span), (0.0, 1.0))] {
                let ticks = scale.ticks(most);
                prop_assert!(ticks.len() <= most + 1, "{ticks:?}");
                prop_assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]));
                for tick in ticks {
                    prop_assert!(tick >= low * (1.0 - 1e-6) - span * 1e-6 && tick <= (low + span) * (1.0 + 1e-6));
                }
            }
        }

        #[test]
        fn a_nice_ceiling_is_above_and_near(value in 1e-9..1e12f64) {
            let nice = nice_ceiling(value);
            prop_assert!(nice >= value * (1.0 - 1e-9) && nice <= value * 1.5 + 1e-9);
        }

        #[test]
        fn a_cut_keeps_more_than_half(amounts in prop::collection::vec(0.001..1e6f64, 1..20)) {
            if let Some(limit) = cut(&amounts, 2.5) {
                let kept = amounts.iter().filter(|a| **a <= limit).count();
                prop_assert!(kept * 2 > amounts.len() && kept < amounts.len());
            }
        }
    }
}
