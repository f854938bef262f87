//! A study on a terminal.

use crate::{
    record::{Study, Verdict},
    text::{
        aligned_rows, aside, caveats,
        columns::{Cell, Columns, LEGEND, TextColumn},
        context, lines_below, verdict,
        words::{aligned, chars, listed},
    },
};

/// Narrower than this nothing is laid out for.
const WIDTH_MIN: usize = 40;

/// A study as text for a terminal of `width` columns: context, verdict, table,
/// how sure this is, coordination, scaling, caveats.
#[must_use]
pub fn table(study: &Study, width: usize, color: bool) -> String {
    let width = width.max(WIDTH_MIN);
    let style = TerminalStyle(color);
    let mut blocks = vec![
        style.dim(&wrapped(&context(study), width, "")),
        style.bold(&wrapped(&verdict(study).join(" "), width, "")),
    ];
    if !study.trials.is_empty() {
        blocks.push(drawn(&Columns::of(study), width, style));
        blocks.push(style.dim(&wrapped(LEGEND, width, "")));
    }
    let aside = aside(study).unwrap_or_default();
    blocks.push(style.bold(&wrapped(&aside.head, width, "")));
    blocks.extend(aside.tables.iter().map(|rows| narrowed(rows, width)));
    blocks.push(aside.sentences.iter().map(|line| wrapped(line, width, "")).collect());
    let below = if study.is_map() { Vec::new() } else { lines_below(study) };
    blocks.push(below.iter().map(|line| wrapped(line, width, "")).collect());
    let caveats: Vec<&str> = caveats(study).into_iter().chain(aside.caveats).collect();
    if !caveats.is_empty() {
        let items = caveats.iter().map(|caveat| wrapped(&format!("• {caveat}"), width, "  "));
        let items: String = items.collect();
        blocks.push(style.bold("Keep in mind\n") + &items);
    }
    blocks.retain(|text| !text.is_empty());
    blocks.join("\n")
}

/// Rows of a table as lines, without the last columns where they do not fit.
fn narrowed(rows: &[Vec<String>], width: usize) -> String {
    let mut rows = rows.to_vec();
    loop {
        let lines = aligned_rows(&rows);
        let columns = rows.first().map_or(0, Vec::len);
        if columns <= 2 || lines.iter().all(|line| chars(line) <= width) {
            return lines.join("\n") + "\n";
        }
        rows.iter_mut().for_each(|row| row.truncate(columns - 1));
    }
}

/// Which columns fit, and how they are set.
struct TableLayout<'a> {
    kept: Vec<&'a TextColumn>,
    left_out: Vec<&'a str>,
    /// Details stand below their figures, not beside them.
    stacked: bool,
}

fn cell_width(column: &TextColumn, stacked: bool) -> usize {
    let cells = column.cells.iter().map(|cell| {
        let (main, detail) = (chars(&cell.main), chars(&cell.detail));
        match (detail, stacked) {
            (0, _) => main,
            (_, true) => main.max(detail),
            // Between brackets.
            (_, false) => main + detail + 3,
        }
    });
    cells.max().unwrap_or(0).max(chars(&column.header))
}

/// The width of columns with two spaces between them, and of the star and its
/// space before the first.
fn row_width(widths: &[usize]) -> usize {
    2 + widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)
}

fn layout(columns: &[TextColumn], width: usize) -> TableLayout<'_> {
    let needs = |kept: &[&TextColumn], stacked| {
        let widths: Vec<usize> = kept.iter().map(|c| cell_width(c, stacked)).collect();
        row_width(&widths)
    };
    let mut kept: Vec<&TextColumn> = columns.iter().collect();
    let stacked = needs(&kept, false) > width;
    while needs(&kept, stacked) > width
        && let Some(first) = kept.iter().map(|column| column.dispensable).max()
        && first > 0
    {
        kept.retain(|column| column.dispensable != first);
    }
    let left_out = columns
        .iter()
        .filter(|column| !kept.iter().any(|kept| std::ptr::eq(*kept, *column)))
        .map(|column| column.header.as_str())
        .collect();
    TableLayout { kept, left_out, stacked }
}

fn drawn(columns: &Columns, width: usize, style: TerminalStyle) -> String {
    let layout = layout(&columns.columns, width);
    let kept = layout.kept.iter();
    let widths = kept.clone().map(|column| cell_width(column, layout.stacked));
    let widths: Vec<usize> = widths.collect();
    let line = |star: &str, cells: Vec<String>| {
        let line = format!("{star:2}{}", aligned(&cells, &widths));
        line.trim_end().to_owned()
    };
    let headers = kept.clone().map(|column| column.header.clone());
    let mut lines =
        vec![style.bold(&line("", headers.collect())), style.dim(&"─".repeat(row_width(&widths)))];
    for row in 0..columns.verdicts.len() {
        let star = if columns.best == Some(row) { "★" } else { "" };
        let cells = kept.clone().map(|column| &column.cells[row]);
        let first = cells.clone().map(|cell| match cell {
            Cell { main, detail } if detail.is_empty() || layout.stacked => main.clone(),
            Cell { main, detail } => format!("{main} ({detail})"),
        });
        lines.push(style.row(&line(star, first.collect()), columns, row));
        if layout.stacked {
            let second = cells.map(|cell| cell.detail.clone());
            lines.push(style.dim(&line("", second.collect())));
        }
    }
    let mut out = lines.join("\n") + "\n";
    if !layout.left_out.is_empty() {
        let note = format!(
            "Left out for want of width: {} (--format markdown or csv has them).",
            listed(&layout.left_out)
        );
        out += &style.dim(&wrapped(&note, width, ""));
    }
    out
}

/// Breaks text into lines of at most `width`, between words but never between a figure and its
/// unit; lines after the first begin with `indent`. Longer words stand alone.
fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let mut out = String::new();
    for paragraph in text.lines() {
        let mut length = 0;
        let mut words = paragraph.split(' ').peekable();
        while let Some(word) = words.next() {
            let mut word = word.to_owned();
            while let Some(unit) = words.next_if(|next| ends_in_digit(&word) && is_unit(next)) {
                word = format!("{word} {unit}");
            }
            if length > 0 && length + 1 + chars(&word) > width {
                out.push('\n');
                out.push_str(indent);
                length = chars(indent);
            } else if length > 0 {
                out.push(' ');
                length += 1;
            }
            out.push_str(&word);
            length += chars(&word);
        }
        out.push('\n');
    }
    out
}

fn ends_in_digit(word: &str) -> bool {
    word.ends_with(|sign: char| sign.is_ascii_digit())
}

/// Whether a word is a unit, whatever sign follows it.
fn is_unit(word: &str) -> bool {
    let bare = word.trim_end_matches(|sign: char| ",.;:)".contains(sign));
    ["%", "ns", "µs", "ms", "s", "min", "h", "B", "KiB", "MiB", "GiB", "TiB"].contains(&bare)
}

/// Colours on terminals that have them; they never carry anything alone.
#[derive(Clone, Copy)]
struct TerminalStyle(bool);

impl TerminalStyle {
    /// Each line by itself, so that a pager that cuts lines does not bleed.
    fn with(self, code: &str, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        text.split_inclusive('\n')
            .map(|line| {
                let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
                if body.is_empty() {
                    line.to_owned()
                } else {
                    format!("\x1b[{code}m{body}\x1b[0m{end}")
                }
            })
            .collect()
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn row(self, text: &str, columns: &Columns, row: usize) -> String {
        match columns.verdicts[row] {
            _ if columns.best == Some(row) => self.bold(text),
            Some(Verdict::Inconclusive | Verdict::Estimate) => self.dim(text),
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{self, StudyBuilder};

    #[test]
    fn a_wide_terminal() {
        insta::assert_snapshot!(table(&fixture::study(), 160, false), @r#"
        1,000 URLs (built-in) · 10 blocks · embedded origin · 2 CPUs · 2026-11-22 · seed 7

        2xasync:16 finished first, in 249 ms: 0.91× the time of async:32 (95 % interval 0.90–0.92). It needed 43.0 ms of CPU per 1,000 URLs, but 4.83 MiB of memory at
        its peak, 1.39× that of async:32. The slowest, sequential, took 8.33 s, 33.4× as long as the first.

          arm                           makespan        vs async:32        verdict  requests/s      p50      p99    memory      CPU  switches  failed  trials
        ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
        ★ 2xasync:16         249 ms (240–254 ms)  0.91× (0.90–0.92)         faster       4,012  6.76 ms  20.5 ms  4.83 MiB  43.0 ms       621       0   10/10
          async:32           270 ms (267–276 ms)                  1       baseline       3,697  7.35 ms  22.3 ms  3.48 MiB  44.0 ms       671       0   10/10
          async:32 (again)   269 ms (263–275 ms)  0.99× (0.99–1.00)     equivalent       3,716  7.31 ms  22.2 ms  3.49 MiB  44.0 ms       668       0   10/10
          async:32@reqwest   276 ms (271–281 ms)  1.02× (1.01–1.02)     equivalent       3,629  7.47 ms  22.6 ms  4.31 MiB  73.5 ms       680       0   10/10
          threads:32         291 ms (287–298 ms)  1.07× (1.06–1.09)         slower       3,438  7.92 ms  24.0 ms  4.04 MiB  66.5 ms     3,609       0   10/10
          threads:32@ureq    315 ms (310–323 ms)  1.16× (1.16–1.17)         slower       3,172  8.57 ms  25.9 ms  13.1 MiB   112 ms     3,892       0   10/10
          32xsequential      333 ms (327–340 ms)  1.23× (1.22–1.24)         slower       3,001  8.89 ms  27.0 ms  44.9 MiB   142 ms     3,926       0   10/11
          sequential        8.33 s (8.19–8.39 s)  30.6× (29.6–31.7)  interval only         120  7.38 ms  22.4 ms  3.36 MiB  66.0 ms     3,268       0     3/3

        makespan: median and range of the trials. vs: geometric mean of the per-block ratios, with its 95 % interval. p50, p99: half, and all but 1 in 100, of the URLs
        took no longer. memory: peak of the fetchers' summed proportional set size (PSS). CPU and switches: per 1,000 URLs. trials: used/run.

        How sure: the baseline run twice took 0.99× (0.99–1.00) of its own time; with 5 arms tested, a difference of 1.5 % in the time of one of them is found in 4 such
        studies of 5.
        Coordination under async:32: 3.49 ms of the makespan (1.3 %); 5.10 ms before it to start fetchers; 11.2 ms on average from a URL's end to the ledger; CPU per
        URL 2.90 µs in the coordinator and 5.00 µs in the workers; 69 B per URL through pipes and 72 B through gRPC.
        Scaling of Nxsequential over processes, requests/s and efficiency: 1: 120/s (100 %), 32: 3,001/s (78 %). No curve was fitted, so no peak was looked for: that
        needs 3 arms in 3 blocks. One more process costs 1.34 MiB (1.34–1.34 MiB) of memory.

        Keep in mind
        • 1 trial was left out of every comparison: 32xsequential in block 7, because a fetcher was lost: ended by signal 9.
        • Origin, coordinator and fetchers share 2 CPUs: an arm that needs less CPU also leaves the server more. With 4 or more they are kept apart.
        • The arms do not all have the same number of URLs in flight (processes × concurrency): 1 in sequential; 32 in threads:32, async:32, 32xsequential, 2xasync:16,
          threads:32@ureq, async:32@reqwest.
        • Fewer blocks for sequential: takes more than five times as long as the baseline: 3 blocks only.
        "#);
    }

    #[test]
    fn a_usual_terminal() {
        insta::assert_snapshot!(table(&fixture::study(), 80, false), @r#"
        1,000 URLs (built-in) · 10 blocks · embedded origin · 2 CPUs · 2026-11-22 ·
        seed 7

        2xasync:16 finished first, in 249 ms: 0.91× the time of async:32 (95 % interval
        0.90–0.92). It needed 43.0 ms of CPU per 1,000 URLs, but 4.83 MiB of memory at
        its peak, 1.39× that of async:32. The slowest, sequential, took 8.33 s, 33.4× as
        long as the first.

          arm                  makespan  vs async:32        verdict    memory      CPU
        ──────────────────────────────────────────────────────────────────────────────
        ★ 2xasync:16             249 ms        0.91×         faster  4.83 MiB  43.0 ms
                             240–254 ms    0.90–0.92
          async:32               270 ms            1       baseline  3.48 MiB  44.0 ms
                             267–276 ms
          async:32 (again)       269 ms        0.99×     equivalent  3.49 MiB  44.0 ms
                             263–275 ms    0.99–1.00
          async:32@reqwest       276 ms        1.02×     equivalent  4.31 MiB  73.5 ms
                             271–281 ms    1.01–1.02
          threads:32             291 ms        1.07×         slower  4.04 MiB  66.5 ms
                             287–298 ms    1.06–1.09
          threads:32@ureq        315 ms        1.16×         slower  13.1 MiB   112 ms
                             310–323 ms    1.16–1.17
          32xsequential          333 ms        1.23×         slower  44.9 MiB   142 ms
                             327–340 ms    1.22–1.24
          sequential             8.33 s        30.6×  interval only  3.36 MiB  66.0 ms
                            8.19–8.39 s    29.6–31.7
        Left out for want of width: requests/s, p50, p99, switches, failed and trials
        (--format markdown or csv has them).

        makespan: median and range of the trials. vs: geometric mean of the per-block
        ratios, with its 95 % interval. p50, p99: half, and all but 1 in 100, of the
        URLs took no longer. memory: peak of the fetchers' summed proportional set size
        (PSS). CPU and switches: per 1,000 URLs. trials: used/run.

        How sure: the baseline run twice took 0.99× (0.99–1.00) of its own time; with 5
        arms tested, a difference of 1.5 % in the time of one of them is found in 4 such
        studies of 5.
        Coordination under async:32: 3.49 ms of the makespan (1.3 %); 5.10 ms before it
        to start fetchers; 11.2 ms on average from a URL's end to the ledger; CPU per
        URL 2.90 µs in the coordinator and 5.00 µs in the workers; 69 B per URL through
        pipes and 72 B through gRPC.
        Scaling of Nxsequential over processes, requests/s and efficiency: 1: 120/s
        (100 %), 32: 3,001/s (78 %). No curve was fitted, so no peak was looked for:
        that needs 3 arms in 3 blocks. One more process costs 1.34 MiB (1.34–1.34 MiB)
        of memory.

        Keep in mind
        • 1 trial was left out of every comparison: 32xsequential in block 7, because a
          fetcher was lost: ended by signal 9.
        • Origin, coordinator and fetchers share 2 CPUs: an arm that needs less CPU also
          leaves the server more. With 4 or more they are kept apart.
        • The arms do not all have the same number of URLs in flight (processes ×
          concurrency): 1 in sequential; 32 in threads:32, async:32, 32xsequential,
          2xasync:16, threads:32@ureq, async:32@reqwest.
        • Fewer blocks for sequential: takes more than five times as long as the
          baseline: 3 blocks only.
        "#);
    }

    #[test]
    fn scaling_in_text() {
        insta::assert_snapshot!(table(&fixture::scaling(), 120, false), @r"
        2,000 URLs (built-in) · 10 blocks · embedded origin · 2 CPUs · 2026-11-22 · seed 7

        threads:128 finished first, in 148 ms: 0.14× the time of async:16 (95 % interval 0.141–0.145). It needed 6.11 MiB of
        memory at its peak, but 59.0 ms of CPU per 1,000 URLs, 1.20× that of 8xasync:16. The slowest, threads:8, took 2.03 s,
        13.8× as long as the first.

          arm                    makespan  vs async:16     verdict  requests/s      p50      p99    memory      CPU  switches
        ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
        ★ threads:128              148 ms        0.14×      faster      13,547  7.19 ms  21.9 ms  6.11 MiB  59.0 ms     3,241
                               141–154 ms  0.141–0.145
          8xasync:16               149 ms        0.14×      faster      13,432  7.18 ms  22.0 ms  13.2 MiB  49.0 ms       650
                               144–154 ms  0.142–0.145
          4xasync:16               273 ms        0.27×      faster       7,339  7.15 ms  21.9 ms  7.60 MiB  45.0 ms       648
                               266–286 ms  0.262–0.269
          threads:32               528 ms        0.51×      faster       3,785  7.21 ms  22.1 ms  4.05 MiB  59.0 ms     3,260
                               507–536 ms  0.504–0.513
          2xasync:16               529 ms        0.51×      faster       3,777  7.23 ms  22.1 ms  4.84 MiB  43.0 ms       654
                               514–537 ms  0.507–0.516
          async:16                 1.03 s            1    baseline       1,937  7.21 ms  22.1 ms  3.43 MiB  42.0 ms       653
                            998 ms–1.07 s
          async:16 (again)         1.03 s        0.99×  equivalent       1,946  7.18 ms  22.0 ms  3.43 MiB  42.0 ms       650
                              1.00–1.05 s    0.98–1.00
          threads:8                2.03 s        1.96×      slower         985  7.17 ms  21.9 ms  3.55 MiB  59.0 ms     3,242
                              1.94–2.13 s    1.94–1.99
        Left out for want of width: failed and trials (--format markdown or csv has them).

        makespan: median and range of the trials. vs: geometric mean of the per-block ratios, with its 95 % interval. p50, p99:
        half, and all but 1 in 100, of the URLs took no longer. memory: peak of the fetchers' summed proportional set size
        (PSS). CPU and switches: per 1,000 URLs. trials: used/run.

        How sure: the baseline run twice took 0.99× (0.98–1.00) of its own time; with 6 arms tested, a difference of 2.5 % in
        the time of one of them is found in 4 such studies of 5.
        Coordination under async:16: 3.48 ms of the makespan (0.3 %); 5.10 ms before it to start fetchers; 11.2 ms on average
        from a URL's end to the ledger; CPU per URL 1.90 µs in the coordinator and 2.50 µs in the workers; 69 B per URL through
        pipes and 72 B through gRPC.
        Scaling of Nxasync:16 over processes, requests/s and efficiency: 1: 1,938/s (100 %), 2: 3,788/s (98 %), 4: 7,299/s
        (94 %), 8: 13,486/s (87 %). Best described by Amdahl's law: AIC 4.49, against 159 for min(γN, ceiling) and 6.35 for the
        Universal Scalability Law. Throughput still rises: 8 brings 1.85× what 4 does. One more process costs 1.40 MiB
        (1.39–1.40 MiB) of memory.
        Scaling of threads:N over URLs in flight per process, requests/s and efficiency: 8: 986/s (100 %), 32: 3,808/s (97 %),
        128: 13,544/s (86 %). Best described by Amdahl's law: AIC 4.40, against 51.7 for min(γN, ceiling). Throughput still
        rises: 128 brings 3.56× what 32 does. One more URL in flight per process costs 22.0 KiB (21.8–22.1 KiB) of memory.
        Memory of threads:N (pss_peak_bytes): 22.0 KiB (21.8–22.1 KiB) per URL in flight, from 8 to 128.
        Memory of threads:N (uss_peak_bytes): 19.2 KiB (19.1–19.3 KiB) per URL in flight, from 8 to 128.

        Keep in mind
        • The baseline, run a second time in every block, took 0.99× of its own time (95 % interval 0.98–1.00). By chance alone
          an interval leaves out 1.00× in 1 study of 20.
        • Origin, coordinator and fetchers share 2 CPUs: an arm that needs less CPU also leaves the server more. With 4 or more
          they are kept apart.
        • The arms do not all have the same number of URLs in flight (processes × concurrency): 8 in threads:8; 16 in async:16;
          32 in 2xasync:16, threads:32; 64 in 4xasync:16; 128 in 8xasync:16, threads:128.
        ");
    }

    #[test]
    fn colour_changes_no_letter() {
        let study = StudyBuilder::new().arms(&["async:32", "threads:32"]).blocks(6).build();
        let colored = table(&study, 100, true);
        assert!(colored.contains("\x1b[1m★ "));
        let mut plain = colored;
        for code in ["\x1b[1m", "\x1b[2m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, table(&study, 100, false));
    }

    #[test]
    fn an_empty_study_is_drawn_too() {
        insta::assert_snapshot!(table(&Study::default(), 80, true), @r#"
        [2m0 URLs () · 0 blocks · servers of the list · seed 0[0m

        [1mNothing was fetched, so there is nothing to compare.[0m
        "#);
    }

    #[test]
    fn a_figure_keeps_its_unit() {
        assert_eq!(wrapped("took 12 ms, or 9 %.", 9, ""), "took\n12 ms, or\n9 %.\n");
        assert_eq!(wrapped("took 12 minutes", 9, "  "), "took 12\n  minutes\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn nothing_is_wider_than_the_terminal(width in 60..200usize) {
            let study = fixture::study();
            for line in table(&study, width, false).lines() {
                prop_assert!(chars(line) <= width, "{line}");
            }
        }
    }
}
