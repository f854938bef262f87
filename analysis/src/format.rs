//! Figures as a person reads them: three significant digits and a unit.
//!
//! Every sentence, table and picture takes its figures from here, so that the
//! same figure never reads differently in two places.

/// What stands where a figure is unknown.
pub const UNKNOWN: &str = "–";

/// A time span, in the unit that keeps it readable: `812 µs`, `8.12 ms`,
/// `2.81 s`, `3 min 05 s`, `2 h 04 min`. Below a nanosecond it is `0 s`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return UNKNOWN.to_owned();
    }
    if seconds < 0.0 {
        return format!("−{}", duration(-seconds));
    }
    if seconds < 1e-9 {
        return "0 s".to_owned();
    }
    // A unit is left just before its figure would round up to four digits.
    if seconds < 999.5e-9 {
        return format!("{} ns", significant(seconds * 1e9));
    }
    if seconds < 999.5e-6 {
        return format!("{} µs", significant(seconds * 1e6));
    }
    if seconds < 0.9995 {
        return format!("{} ms", significant(seconds * 1e3));
    }
    let whole = seconds.round();
    if seconds < 119.95 {
        format!("{} s", significant(seconds))
    } else if whole < 7200.0 {
        format!("{:.0} min {:02.0} s", (whole / 60.0).floor(), whole % 60.0)
    } else {
        let minutes = (whole / 60.0).round();
        format!("{} h {:02.0} min", grouped((minutes / 60.0).floor()), minutes % 60.0)
    }
}

/// An amount of data in binary units: `512 B`, `4.50 KiB`, `36.0 MiB`.
pub fn bytes(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    if value < 0.0 {
        return format!("−{}", bytes(-value));
    }
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = value;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        return format!("{value:.0} B");
    }
    format!("{} {}", significant(value), UNITS[unit])
}

/// How many: `7`, `1,000`, `12,345,678`.
pub fn count(n: u64) -> String {
    group(&n.to_string())
}

/// A frequency without its unit: `0.512`, `39.8`, `3,210`.
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() {
        return UNKNOWN.to_owned();
    }
    significant(per_second)
}

/// A ratio to the baseline: `0.55×`, `1.00×`, `27.6×`.
pub fn ratio(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    format!("{}×", ratio_digits(value))
}

/// An interval of ratios: `0.52–0.59`. Both ends carry the same digits after
/// the point, enough that a narrow interval does not read as a single point.
pub fn ratio_interval(low: f64, high: f64) -> String {
    match interval_decimals(low, high) {
        _ if !low.is_finite() || !high.is_finite() => UNKNOWN.to_owned(),
        Some(decimals) => format!("{low:.decimals$}–{high:.decimals$}"),
        None => format!("{}–{}", ratio_digits(low), ratio_digits(high)),
    }
}

/// A ratio and its interval with the same digits after the point: `0.993×` and `0.990–0.996`; the
/// interval is empty where there is none.
pub fn ratio_and_interval(value: f64, ends: Option<(f64, f64)>) -> (String, String) {
    let Some((low, high)) = ends.filter(|(low, high)| low.is_finite() && high.is_finite()) else {
        return (ratio(value), String::new());
    };
    let value = match interval_decimals(low, high) {
        Some(decimals) if value.is_finite() => format!("{value:.decimals$}×"),
        _ => ratio(value),
    };
    (value, ratio_interval(low, high))
}

/// Digits after the point that suit both ends; `None` where they are too far apart.
fn interval_decimals(low: f64, high: f64) -> Option<usize> {
    if low > 0.0 && high / low > 20.0 {
        return None;
    }
    Some(match high.abs() {
        h if h >= 99.95 => 0,
        h if h >= 9.995 => 1,
        _ if (high - low).abs() < 0.01 => 3,
        _ => 2,
    })
}

/// A ratio in a sentence, in two digits: `1.6×`, `14×`, `1,230×`.
pub fn times(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => UNKNOWN.to_owned(),
        r if r >= 9.95 => format!("{}×", grouped(value)),
        r if r >= 0.995 => format!("{value:.1}×"),
        _ => ratio(value),
    }
}

/// A share of one as a percentage: `97.3 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if !percent.is_finite() {
        return UNKNOWN.to_owned();
    }
    if percent.abs() >= 9.95 || percent == 0.0 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// Three significant digits, never an exponent; four and more before the
/// point are kept and grouped.
pub fn significant(value: f64) -> String {
    let magnitude = value.abs();
    if !value.is_finite() {
        UNKNOWN.to_owned()
    } else if magnitude >= 999.5 {
        grouped(value)
    } else if magnitude >= 99.95 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else if magnitude >= 0.9995 {
        format!("{value:.2}")
    } else if magnitude < 5e-10 {
        "0".to_owned()
    } else {
        // Below one: zeros after the point do not count as digits.
        let mut decimals = 3;
        let mut scaled = magnitude * 10.0;
        while scaled < 0.9995 && decimals < 12 {
            scaled *= 10.0;
            decimals += 1;
        }
        format!("{value:.decimals$}")
    }
}

fn ratio_digits(value: f64) -> String {
    match value.abs() {
        r if r >= 999.5 => grouped(value),
        r if r >= 99.95 => format!("{value:.0}"),
        r if r >= 9.995 => format!("{value:.1}"),
        r if r >= 0.0995 => format!("{value:.2}"),
        _ => significant(value),
    }
}

fn grouped(value: f64) -> String {
    group(&format!("{value:.0}"))
}

/// Commas between groups of three digits, from the right.
fn group(digits: &str) -> String {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => ("−", rest),
        None => ("", digits),
    };
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + sign.len());
    out.push_str(sign);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_keeps_three_digits_in_a_fitting_unit() {
        let cases = [
            (0.0, "0 s"),
            (12e-9, "12.0 ns"),
            (812.4e-6, "812 µs"),
            (999.6e-6, "1.00 ms"),
            (8.123e-3, "8.12 ms"),
            (0.3124, "312 ms"),
            (0.9996, "1.00 s"),
            (2.814, "2.81 s"),
            (40.29, "40.3 s"),
            (119.96, "2 min 00 s"),
            (185.0, "3 min 05 s"),
            (7199.9, "2 h 00 min"),
            (-0.0021, "−2.10 ms"),
            (f64::NAN, "–"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn data_comes_in_binary_units() {
        let cases = [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.00 KiB"),
            (37_748_736.0, "36.0 MiB"),
            (1_073_741_823.0, "1.00 GiB"),
            (f64::INFINITY, "–"),
        ];
        for (value, text) in cases {
            assert_eq!(bytes(value), text, "{value}");
        }
    }

    #[test]
    fn ratios_and_intervals_read_alike() {
        assert_eq!(ratio(0.5512), "0.55×");
        assert_eq!(ratio(27.64), "27.6×");
        assert_eq!(ratio(0.0312), "0.0312×");
        assert_eq!(ratio_interval(0.521, 0.588), "0.52–0.59");
        assert_eq!(ratio_interval(0.998, 1.003), "0.998–1.003");
        assert_eq!(ratio_interval(26.9, 28.2), "26.9–28.2");
        assert_eq!(ratio_interval(0.0914, 11.72), "0.0914–11.7");
        assert_eq!(ratio_interval(f64::NAN, 1.0), "–");
        let both = |value, low, high| ratio_and_interval(value, Some((low, high)));
        assert_eq!(both(1.0034, 1.001, 1.006), ("1.003×".into(), "1.001–1.006".into()));
        assert_eq!(both(27.64, 26.9, 28.2), ("27.6×".into(), "26.9–28.2".into()));
        assert_eq!(ratio_and_interval(0.5512, None), ("0.55×".into(), String::new()));
        let told = [1.62, 9.94, 9.96, 13.7, 1234.5].map(times);
        assert_eq!(told, ["1.6×", "9.9×", "10×", "14×", "1,234×"]);
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(significant(-12_345.0), "−12,345");
        assert_eq!(significant(0.000_123_4), "0.000123");
        assert_eq!(rate(3210.4), "3,210");
        assert_eq!(percent(0.0312), "3.1 %");
        assert_eq!(percent(0.973), "97 %");
        assert_eq!(percent(f64::MAX), "–");
    }

    proptest! {
        #[test]
        fn no_figure_is_lost_or_written_with_an_exponent(value in prop::num::f64::ANY) {
            for text in [duration(value), bytes(value), ratio(value), significant(value), percent(value)] {
                prop_assert!(!text.is_empty());
                prop_assert!(!text.contains("NaN") && !text.contains("inf") && !text.contains('e'), "{text}");
            }
        }

        #[test]
        fn grouping_changes_no_digit(n in any::<u64>()) {
            prop_assert_eq!(count(n).replace(',', ""), n.to_string());
        }
    }
}
