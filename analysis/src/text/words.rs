//! Small pieces of sentences.

use crate::{format, record::Interval, statistics::Spread};

/// How many of something: `1 URL`, `1,000 URLs`.
pub(crate) fn counted(n: u64, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", format::count(n))
}

/// How many of something did something once: `1 URL was`, `3 URLs were`.
pub(crate) fn counted_were(n: u64, noun: &str) -> String {
    let verb = if n == 1 { "was" } else { "were" };
    format!("{} {verb}", counted(n, noun))
}

/// Several names in a row: `a`, `a and b`, `a, b and c`.
pub(crate) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [init @ .., last] => {
            let init: Vec<&str> = init.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", init.join(", "), last.as_ref())
        }
    }
}

/// Most things that a sentence names one by one.
pub(crate) const LISTED_MAX: usize = 3;

/// The same, of many only the first: `a and 4 others`.
pub(crate) fn few(names: &[&str]) -> String {
    match names {
        [first, others @ ..] if names.len() > LISTED_MAX => {
            format!("{first} and {} others", others.len())
        }
        names => listed(names),
    }
}

/// From the smallest to the largest, the unit told once where both have it: `238–251 ms`.
pub(crate) fn range(spread: &Spread, figure: fn(f64) -> String) -> String {
    let (low, high) = (figure(spread.min), figure(spread.max));
    match (low.rsplit_once(' '), high.rsplit_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number}–{high}"),
        _ => format!("{low}–{high}"),
    }
}

/// An interval's ends: `0.90–0.92`; nothing where there is none.
pub(crate) fn ends(interval: &Interval, figure: fn(f64) -> String) -> Option<String> {
    Some(range(&Spread { median: interval.value, min: interval.low?, max: interval.high? }, figure))
}

/// The same in brackets after a space; empty where there is none.
pub(crate) fn ends_in_brackets(interval: &Interval, figure: fn(f64) -> String) -> String {
    in_brackets(ends(interval, figure))
}

/// ` (text)`; empty where there is none.
pub(crate) fn in_brackets(text: Option<String>) -> String {
    text.map_or_else(String::new, |text| format!(" ({text})"))
}

/// A figure, or the sign that it is unknown.
pub(crate) fn or_unknown(value: Option<f64>, figure: fn(f64) -> String) -> String {
    value.map_or_else(|| format::UNKNOWN.to_owned(), figure)
}

/// A row of a table, two spaces between columns: names to the left, figures to the right.
pub(crate) fn aligned(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padding = " ".repeat(width - chars(cell));
        match at {
            0 => line += &format!("{cell}{padding}"),
            _ => line += &format!("  {padding}{cell}"),
        }
    }
    line
}

/// Rows of a table as lines, each column as wide as its widest cell.
pub(crate) fn aligned_rows(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| chars(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().map(|row| aligned(row, &widths).trim_end().to_owned()).collect()
}

/// A sentence with its first letter large, unless it begins with an arm's name, which is written as
/// it is typed.
pub(crate) fn capital(sentence: &str) -> String {
    const PLAIN: [&str; 11] = [
        "against", "at", "every", "in", "no", "nothing", "same", "there,", "waiting", "where",
        "whether",
    ];
    match sentence.chars().next() {
        Some(first) if sentence.split(' ').next().is_some_and(|word| PLAIN.contains(&word)) => {
            format!("{}{}", first.to_uppercase(), &sentence[first.len_utf8()..])
        }
        _ => sentence.to_owned(),
    }
}

/// A space at which no line is broken.
pub(crate) const NO_BREAK: &str = "\u{a0}";

/// The text with figures and their units held together.
pub(crate) fn unbroken(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(' ') {
        let figure = out.ends_with(|sign: char| sign.is_ascii_digit());
        if !out.is_empty() {
            out.push_str(if figure && is_unit(word) { NO_BREAK } else { " " });
        }
        out.push_str(word);
    }
    out
}

/// Whether a word is a unit, whatever sign follows it.
fn is_unit(word: &str) -> bool {
    let bare = word.trim_end_matches(|sign: char| ",.;:)".contains(sign));
    ["%", "ns", "µs", "ms", "s", "min", "h", "B", "KiB", "MiB", "GiB", "TiB"].contains(&bare)
}

/// How many columns of a terminal a text takes.
pub(crate) fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "URL"), "1 URL");
        assert_eq!(counted(0, "block"), "0 blocks");
        assert_eq!(counted_were(1, "trial"), "1 trial was");
        assert_eq!(counted_were(2, "trial"), "2 trials were");
        assert_eq!(counted(1_000, "URL"), "1,000 URLs");
    }

    #[test]
    fn names_in_a_row() {
        assert_eq!(listed::<&str>(&[]), "");
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b"]), "a and b");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }

    #[test]
    fn of_many_names_the_first_is_told() {
        assert_eq!(few(&["a", "b", "c"]), "a, b and c");
        assert_eq!(few(&["a", "b", "c", "d"]), "a and 3 others");
    }

    #[test]
    fn a_unit_is_told_once() {
        let spread = |min, max| Spread { median: min, min, max };
        assert_eq!(range(&spread(0.238, 0.251), format::duration), "238–251 ms");
        assert_eq!(range(&spread(0.938, 1.2), format::duration), "938 ms–1.20 s");
        assert_eq!(range(&spread(2.0, 3.0), format::significant), "2.00–3.00");
    }
}
