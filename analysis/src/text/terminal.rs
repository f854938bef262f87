//! A study on a terminal.

use crate::{
    record::Study,
    text::{
        aligned_rows, answers_seen, aside, caveats, claim_lines,
        columns::{Cell, Depth, LEGEND, TextColumn, WANTED, columns},
        context, lines_below, noise, sureness, verdict,
        words::{NO_BREAK, aligned, chars, counted, listed, unbroken},
    },
};

/// Narrower than this nothing is laid out for.
const WIDTH_MIN: usize = 40;
/// What a second server changes is told in so many sentences behind a warning of noise.
const CHANGES_IF_NOISY: usize = 2;

/// A study as text for a terminal of `width` columns. The answer stands last, where a reader's eyes
/// are when the output has scrolled by; with `details` everything else is told before it.
#[must_use]
pub fn table(study: &Study, width: usize, color: bool, details: bool) -> String {
    let width = width.max(WIDTH_MIN);
    let style = TerminalStyle(color);
    let lines =
        |lines: &[String]| lines.iter().map(|line| wrapped(line, width, "")).collect::<String>();
    let items = |items: &[String]| {
        items.iter().map(|item| wrapped(&format!("• {item}"), width, "  ")).collect::<String>()
    };
    let mut blocks = vec![style.dim(&wrapped(&context(study), width, ""))];
    if !study.trials.is_empty() {
        blocks.push(drawn(study, width, style, details));
    }
    let sure: Vec<String> = [sureness(study), answers_seen(study)].into_iter().flatten().collect();
    blocks.push(lines(&sure));
    let aside = aside(study).unwrap_or_default();
    blocks.push(style.bold(&wrapped(&aside.head, width, "")));
    blocks.extend(aside.tables.iter().map(|rows| narrowed(rows, width)));
    // How a map is read stands below it; what a second server changes is part of the answer.
    let (reading, mut changes) = match study.is_map() {
        true => (aside.sentences, Vec::new()),
        false => (Vec::new(), aside.sentences),
    };
    if !details && noise(study).is_some() {
        changes.truncate(CHANGES_IF_NOISY);
    }
    blocks.push(lines(&reading));
    let notes: Vec<&str> = caveats(study).into_iter().chain(aside.caveats).collect();
    if details {
        if !study.trials.is_empty() {
            blocks.push(style.dim(&wrapped(LEGEND, width, "")));
        }
        let claims = claim_lines(study);
        if let Some((head, claims)) = claims.split_first() {
            blocks.push(style.bold(&wrapped(head, width, "")) + &items(claims));
        }
        if !study.is_map() {
            blocks.push(lines(&lines_below(study)));
        }
        if !notes.is_empty() {
            let notes: Vec<String> = notes.iter().map(|note| (*note).to_owned()).collect();
            blocks.push(style.bold("Keep in mind\n") + &items(&notes));
        }
    }
    if !details && !study.trials.is_empty() {
        blocks.push(style.dim(&wrapped(&more(notes.len()), width, "")));
    }
    let answer = [verdict(study).join(" "), changes.join(" ")];
    blocks.push(style.bold(&wrapped(answer.join("\n").trim_end(), width, "")));
    blocks.retain(|text| !text.is_empty());
    blocks.join("\n")
}

/// Where the rest is.
fn more(notes: usize) -> String {
    let rest = "what the columns mean, what coordination costs";
    match notes {
        0 => format!("--details: {rest}."),
        notes => format!("--details: {}, {rest}.", counted(notes as u64, "caveat")),
    }
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

/// Which columns fit.
struct TableLayout {
    kept: Vec<TextColumn>,
    left_out: Vec<String>,
}

/// The best of a column has its star.
fn main_line(column: &TextColumn, row: usize) -> String {
    let Cell { main, ratio, best, .. } = &column.cells[row];
    let star = if *best { "★ " } else { "" };
    format!("{star}{main} {ratio}").trim_end().to_owned()
}

fn cell_width(column: &TextColumn) -> usize {
    let heads = column.header.iter().map(|head| chars(head));
    let cells = (0..column.cells.len())
        .flat_map(|row| [chars(&main_line(column, row)), chars(&column.cells[row].second)]);
    heads.chain(cells).max().unwrap_or(0)
}

/// The width of columns with two spaces between them.
fn row_width(columns: &[TextColumn]) -> usize {
    let widths = columns.iter().map(cell_width);
    widths.sum::<usize>() + 2 * columns.len().saturating_sub(1)
}

fn layout(study: &Study, width: usize) -> TableLayout {
    let words = columns(study, Depth::Words);
    let wanted: Vec<TextColumn> =
        words.iter().filter(|column| column.dispensable <= WANTED).cloned().collect();
    let mut kept = if row_width(&wanted) <= width { words } else { columns(study, Depth::Short) };
    let mut left_out = Vec::new();
    while row_width(&kept) > width
        && let Some(most) =
            kept.iter().map(|column| column.dispensable).max().filter(|most| *most > 0)
    {
        let (gone, rest): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|column| column.dispensable == most);
        left_out.splice(0..0, gone.into_iter().flat_map(|column| column.header));
        kept = rest;
    }
    left_out.retain(|head| !head.is_empty());
    TableLayout { kept, left_out }
}

fn drawn(study: &Study, width: usize, style: TerminalStyle, details: bool) -> String {
    let TableLayout { kept, left_out } = layout(study, width);
    let widths: Vec<usize> = kept.iter().map(cell_width).collect();
    let line = |cells: Vec<String>| aligned(&cells, &widths).trim_end().to_owned();
    let head = |at: usize| line(kept.iter().map(|column| column.header[at].clone()).collect());
    let mut lines =
        vec![style.bold(&head(0)), style.dim(&head(1)), style.dim(&"─".repeat(row_width(&kept)))];
    for row in 0..kept.first().map_or(0, |column| column.cells.len()) {
        lines.push(line(kept.iter().map(|column| main_line(column, row)).collect()));
        let second = kept.iter().map(|column| column.cells[row].second.clone());
        lines.push(style.dim(&line(second.collect())));
    }
    let mut out = lines.join("\n") + "\n";
    if details && !left_out.is_empty() {
        let note = format!("Left out for want of width: {}.", listed(&left_out));
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
        for word in unbroken(paragraph).split(' ') {
            if length > 0 && length + 1 + chars(word) > width {
                out.push('\n');
                out.push_str(indent);
                length = chars(indent);
            } else if length > 0 {
                out.push(' ');
                length += 1;
            }
            out.push_str(&word.replace(NO_BREAK, " "));
            length += chars(word);
        }
        out.push('\n');
    }
    out
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{self, StudyBuilder};

    #[test]
    fn a_wide_terminal() {
        insta::assert_snapshot!(table(&fixture::study(), 160, false, true), @r#"
        1,000 URLs (built-in) · 10 blocks · embedded origin · 2 CPUs · 2026-11-22 · seed 7

        arm                            time              CPU            memory          switches     start  CPU to start      p50  failed  URLs/s
                                vs async:32   per 1,000 URLs              peak    per 1,000 URLs  makespan                    p99  trials
        ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
        2xasync:16           ★ 255 ms 0.92×  ★ 39.0 ms 0.92×    5.80 MiB 1.39×       ★ 621 0.92×   6.00 ms       4.00 ms  6.69 ms       0   4,012
        2 event loops        less, relevant   less, relevant    more, relevant    less, relevant    249 ms                20.5 ms   10/10
        async:32                     275 ms          42.0 ms          4.17 MiB               671   4.50 ms       2.00 ms  7.34 ms       0   3,697
        baseline                                                                                    270 ms                22.4 ms   10/10
        async:32@reqwest       280 ms 1.02×    71.5 ms 1.69×    5.17 MiB 1.24×         680 1.01×   4.50 ms       2.00 ms  7.47 ms       0   3,629
        one event loop     more, negligible   more, relevant    more, relevant  more, negligible    276 ms                22.8 ms   10/10
        threads:32             295 ms 1.07×    64.5 ms 1.52×    4.84 MiB 1.16×       3,609 5.37×   4.50 ms       2.00 ms  7.90 ms       0   3,438
        32 threads           more, relevant   more, relevant    more, relevant    more, relevant    291 ms                24.1 ms   10/10
        threads:32@ureq        320 ms 1.16×     110 ms 2.61×    15.7 MiB 3.77×       3,892 5.79×   4.50 ms       2.00 ms  8.57 ms       0   3,172
        32 threads           more, relevant   more, relevant    more, relevant    more, relevant    315 ms                26.1 ms   10/10
        32xsequential          384 ms 1.39×    77.5 ms 1.83×    53.9 MiB 12.9×       3,926 5.84×   51.0 ms       64.0 ms  8.89 ms       0   3,001
        32 processes         more, relevant   more, relevant    more, relevant    more, relevant    333 ms                27.1 ms   10/11
        sequential             8.33 s 30.2×    64.0 ms 1.51×  ★ 4.03 MiB 0.97×       3,268 4.85×   4.50 ms       2.00 ms  7.34 ms       0     120
        one URL at a time        not tested       not tested        not tested        not tested    8.33 s                22.4 ms     3/3

        How sure: the baseline against itself: time 0.99× (0.98–1.00), CPU per URL 1.00× (0.99–1.00), memory 1.00× (1.00–1.01) and switches 0.99× (0.98–1.00); with 5
        arms tested, a difference of 1.4 % in the time of one of them is found in 4 such studies of 5.

        time: start (from the first fork until all fetchers are ready) and makespan (until the last URL is done). CPU: after the start. Figures are medians of the
        trials; ★ is the best of its column. Ratios are geometric means of those in each block. less, more: proven; a ? where that is all; relevant: surely by more than
        the margin; negligible: surely by less. p50, p99: half and 99 in 100 of all URLs took no longer. trials: used/all.

        What the blog post claimed of Python's asyncio (here async), ThreadPoolExecutor (threads) and multiprocessing (Nxsequential):
        • One event loop needs no context switches: not borne out. async:32 switches 671 times per 1,000 URLs, 5.4× fewer switches than threads:32 (3,609), but not
          none.
        • One event loop is faster than many processes: borne out. 32xsequential (384 ms) takes 39 % longer than async:32 (275 ms).
        • One event loop needs less memory than threads or processes: borne out. async:32 needs 4.17 MiB, threads:32 4.84 MiB (1.16×, more, relevant), 32xsequential
          53.9 MiB (12.9×, more, relevant).
        • Threads are held back by a lock: not asked here. --cpu-work 1ms --cpu-lock asks it.

        Coordination under async:32: 3.49 ms of the makespan (1.3 %); 5.10 ms before it to start fetchers; 11.2 ms on average from a URL's end to the ledger; CPU per
        URL 2.90 µs in the coordinator and 5.00 µs in the workers; 69 B per URL through pipes and 72 B through gRPC. CPU of coordinator and workers per URL, by arm:
        async:32 7.90 µs, async:32@reqwest 7.90 µs, threads:32 7.90 µs, threads:32@ureq 7.90 µs, sequential 7.90 µs, 2xasync:16 8.90 µs and 32xsequential 38.9 µs.
        Scaling of Nxsequential over processes, URLs/s and efficiency: 1: 120/s (100 %), 32: 3,001/s (78 %). No curve was fitted, so no peak was looked for: that needs
        3 arms in 3 blocks. One more process costs 1.61 MiB (1.61–1.61 MiB) of memory.

        Keep in mind
        • 1 trial was left out of every comparison: 32xsequential in block 7, because a fetcher was lost: ended by signal 9.
        • Origin, coordinator and fetchers share 2 CPUs: an arm that needs less CPU also leaves the server more. With 4 or more they are kept apart.
        • The arms do not all have the same number of URLs in flight (processes × concurrency): 1 in sequential; 32 in threads:32, async:32, 32xsequential, 2xasync:16,
          threads:32@ureq, async:32@reqwest.
        • Fewer blocks for sequential: takes more than five times as long as the baseline: 3 blocks only.

        2xasync:16 is the fastest, with 255 ms: it takes 8.0 % less time than async:32 (275 ms); async:32@reqwest takes as long as async:32 (within 5 %); 4 others take
        1.07–30.2× as long as async:32, sequential the longest (not tested). Against async:32 (one event loop), 32xsequential (32 processes) needs 13× the memory and
        5.8× the switches; threads:32@ureq (32 threads with ureq) needs 2.6× the CPU per URL; threads:32 (32 threads) needs 1.2× the memory, 1.5× the CPU per URL and
        5.4× the switches. Waiting for the server alone takes 258 ms (8.27 s of delays, 32 URLs in flight); start and fetching add 16.8 ms (async:32) to 72.2 ms
        (32xsequential).
        "#);
    }

    #[test]
    fn a_usual_terminal() {
        insta::assert_snapshot!(table(&fixture::study(), 80, false, false), @r#"
        1,000 URLs (built-in) · 10 blocks · embedded origin · 2 CPUs · 2026-11-22 ·
        seed 7

        arm                       time             CPU      memory        switches
                           vs async:32  per 1,000 URLs        peak  per 1,000 URLs
        ──────────────────────────────────────────────────────────────────────────
        2xasync:16            ★ 255 ms       ★ 39.0 ms    5.80 MiB           ★ 621
        2 event loops       8.0 % less      8.5 % less   39 % more      8.1 % less
        async:32                275 ms         42.0 ms    4.17 MiB             671
        baseline
        async:32@reqwest        280 ms         71.5 ms    5.17 MiB             680
        one event loop      negligible       69 % more   24 % more      negligible
        threads:32              295 ms         64.5 ms    4.84 MiB           3,609
        32 threads          7.3 % more       52 % more   16 % more      5.37× more
        threads:32@ureq         320 ms          110 ms    15.7 MiB           3,892
        32 threads           16 % more      2.61× more  3.77× more      5.79× more
        32xsequential           384 ms         77.5 ms    53.9 MiB           3,926
        32 processes         39 % more       83 % more  12.9× more      5.84× more
        sequential              8.33 s         64.0 ms  ★ 4.03 MiB           3,268
        one URL at a time        30.2×           1.51×       0.97×           4.85×

        How sure: the baseline against itself: time 0.99× (0.98–1.00), CPU per URL 1.00×
        (0.99–1.00), memory 1.00× (1.00–1.01) and switches 0.99× (0.98–1.00); with 5
        arms tested, a difference of 1.4 % in the time of one of them is found in 4 such
        studies of 5.

        --details: 4 caveats, what the columns mean, what coordination costs.

        2xasync:16 is the fastest, with 255 ms: it takes 8.0 % less time than async:32
        (275 ms); async:32@reqwest takes as long as async:32 (within 5 %); 4 others take
        1.07–30.2× as long as async:32, sequential the longest (not tested). Against
        async:32 (one event loop), 32xsequential (32 processes) needs 13× the memory and
        5.8× the switches; threads:32@ureq (32 threads with ureq) needs 2.6× the CPU per
        URL; threads:32 (32 threads) needs 1.2× the memory, 1.5× the CPU per URL and
        5.4× the switches. Waiting for the server alone takes 258 ms (8.27 s of delays,
        32 URLs in flight); start and fetching add 16.8 ms (async:32) to 72.2 ms
        (32xsequential).
        "#);
    }

    /// What a terminal of 80 columns and 24 lines shows once the command has ended.
    fn last_screen(study: &Study) -> String {
        let text = table(study, 80, false, false);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(23)..].join("\n")
    }

    fn answer(study: &Study) -> usize {
        let text = table(study, 80, false, false);
        text.rsplit("\n\n").next().unwrap().lines().count()
    }

    #[test]
    fn the_answer_of_the_default_study_fits_one_screen() {
        let mut study = fixture::two_servers();
        insta::assert_snapshot!(last_screen(&study), @r#"

        The same arms where the server answers at once: 300 URLs, 6 blocks

        arm                  time  × fastest  at 8.00 ms  CPU/1,000  × least  at 8.00 ms
        2xasync:16        74.5 ms      1.00×       1.00×    29.0 ms    1.00×       1.00×
        async:32          98.6 ms      1.32×       1.08×    41.0 ms    1.41×       1.08×
        threads:32@ureq   99.8 ms      1.34×       1.25×    93.0 ms    3.21×       2.83×
        async:32@reqwest   100 ms      1.34×       1.10×    69.0 ms    2.38×       1.83×
        threads:32         171 ms      2.30×       1.16×     105 ms    3.60×       1.65×
        32xsequential      208 ms      2.80×       1.51×     101 ms    3.48×       1.99×
        sequential         2.51 s      33.7×       32.6×    62.0 ms    2.14×       1.64×

        --details: 4 caveats, what the columns mean, what coordination costs.

        Where the server takes 8.00 ms, 2xasync:16 is the fastest, with 255 ms: it takes
        8.0 % less time than async:32 (275 ms); async:32@reqwest takes as long as
        async:32 (within 5 %); 4 others take 1.07–30.2× as long as async:32, sequential
        the longest (not tested). There, against async:32, 32xsequential needs 13× the
        memory and 5.8× the switches; threads:32@ureq needs 2.6× the CPU per URL.
        Fastest at both servers: 2xasync:16. Cheapest in CPU per URL at both servers:
        2xasync:16. threads:32 takes 1.16× the time of the fastest arm with delays of
        8.00 ms, and 2.30× without delays; 32xsequential 1.51× and 2.80×. async:32 keeps
        16 % of one CPU busy with delays of 8.00 ms, and 13 % without delays.
        "#);
        assert!(answer(&study) <= 10);
        study.regimes.clear();
        assert!(answer(&study) <= 10);
    }

    #[test]
    fn a_noisy_study_says_so_first_and_little_more() {
        let noisy = StudyBuilder::new().noise(0.2).build();
        insta::assert_snapshot!(last_screen(&noisy), @r#"
        one event loop     cannot tell       72 % more   24 % more     cannot tell
        2xasync:16              289 ms         44.5 ms    5.80 MiB             700
        2 event loops      cannot tell     cannot tell   39 % more     cannot tell
        threads:32              290 ms         63.5 ms    4.84 MiB           3,540
        32 threads         cannot tell       49 % more   16 % more      5.27× more
        32xsequential           301 ms         57.5 ms    53.9 MiB           2,927
        32 processes       cannot tell       44 % more  12.9× more      4.59× more
        sequential              8.52 s         66.0 ms  ★ 4.03 MiB           3,342
        one URL at a time        29.3×           1.47×       0.97×           4.70×

        How sure: the baseline against itself: time 0.91× (0.76–1.08), CPU per URL 0.91×
        (0.75–1.09), memory 1.00× (1.00–1.01) and switches 0.91× (0.77–1.08); with 5
        arms tested, a difference of 35 % in the time of one of them is found in 4 such
        studies of 5.

        --details: 3 caveats, what the columns mean, what coordination costs.

        This machine was too noisy to tell whether a difference in time is within
        ±5.0 %: the baseline, run twice, is known to ±14 % only. No arm is proven faster
        than async:32 (275 ms); sequential takes 29× as long (3 blocks, not tested);
        whether threads:32@ureq and 4 others (0.98–1.15×) differ from async:32 cannot be
        told. Against async:32, 32xsequential needs 13× the memory; threads:32@ureq
        needs 2.2× the CPU per URL; threads:32 needs 5.3× the switches.
        "#);
        assert!(answer(&noisy) <= 8);
        let mut two = fixture::two_servers();
        two.analysis.control = noisy.analysis.control.clone();
        two.regimes[0].study.analysis.control = noisy.analysis.control;
        assert!(answer(&two) <= 8);
        insta::assert_snapshot!(last_screen(&two), @r#"
        studies of 5.

        The same arms where the server answers at once: 300 URLs, 6 blocks

        arm                  time  × fastest  at 8.00 ms  CPU/1,000  × least  at 8.00 ms
        2xasync:16        74.5 ms      1.00×       1.00×    29.0 ms    1.00×       1.00×
        async:32          98.6 ms      1.32×       1.08×    41.0 ms    1.41×       1.08×
        threads:32@ureq   99.8 ms      1.34×       1.25×    93.0 ms    3.21×       2.83×
        async:32@reqwest   100 ms      1.34×       1.10×    69.0 ms    2.38×       1.83×
        threads:32         171 ms      2.30×       1.16×     105 ms    3.60×       1.65×
        32xsequential      208 ms      2.80×       1.51×     101 ms    3.48×       1.99×
        sequential         2.51 s      33.7×       32.6×    62.0 ms    2.14×       1.64×

        --details: 4 caveats, what the columns mean, what coordination costs.

        Where the server takes 8.00 ms, this machine was too noisy to tell whether a
        difference in time is within ±5.0 %: the baseline, run twice, is known to ±14 %
        only. It was too noisy where the server answers at once, too. Where the server
        takes 8.00 ms, 2xasync:16 is the fastest, with 255 ms: it takes 8.0 % less time
        than async:32 (275 ms); async:32@reqwest takes as long as async:32 (within 5 %);
        4 others take 1.07–30.2× as long as async:32 (sequential not tested).
        Fastest at both servers: 2xasync:16. Cheapest in CPU per URL at both servers:
        2xasync:16.
        "#);
    }

    #[test]
    fn scaling_in_text() {
        insta::assert_snapshot!(table(&fixture::scaling(), 120, false, false), @r#"
        2,000 URLs (built-in) · 10 blocks · embedded origin · 2 CPUs · 2026-11-22 · seed 7

        arm                   time             CPU      memory        switches     start  CPU to start      p50  failed  URLs/s
                       vs async:16  per 1,000 URLs        peak  per 1,000 URLs  makespan                    p99  trials
        ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
        threads:128       ★ 152 ms         58.0 ms    7.33 MiB           3,241   4.50 ms       2.00 ms  7.21 ms       0  13,547
        128 threads     6.81× less       40 % more   78 % more      4.96× more    148 ms                22.2 ms   10/10
        8xasync:16          164 ms       ★ 41.0 ms    15.8 MiB             650   15.0 ms       16.0 ms  7.17 ms       0  13,432
        8 event loops   6.35× less      negligible  3.85× more      negligible    149 ms                22.1 ms   10/10
        4xasync:16          282 ms       ★ 41.0 ms    9.13 MiB           ★ 648   9.00 ms       8.00 ms  7.20 ms       0   7,339
        4 event loops   3.66× less      negligible  2.22× more      negligible    273 ms                22.2 ms   10/10
        threads:32          533 ms         58.0 ms    4.86 MiB           3,260   4.50 ms       2.00 ms  7.18 ms       0   3,785
        32 threads       49 % less       40 % more   18 % more      4.96× more    528 ms                22.0 ms   10/10
        2xasync:16          535 ms       ★ 41.0 ms    5.80 MiB             654   6.00 ms       4.00 ms  7.21 ms       0   3,777
        2 event loops    48 % less      negligible   41 % more      negligible    529 ms                22.2 ms   10/10
        async:16            1.04 s       ★ 41.0 ms  ★ 4.11 MiB             653   4.50 ms       2.00 ms  7.21 ms       0   1,937
        baseline                                                                  1.03 s                22.3 ms   10/10
        threads:8           2.03 s         58.0 ms    4.26 MiB           3,242   4.50 ms       2.00 ms  7.17 ms       0     985
        8 threads        96 % more       40 % more  negligible      4.96× more    2.03 s                22.1 ms   10/10

        How sure: the baseline against itself: time 0.99× (0.98–1.00), CPU per URL 0.98× (0.97–0.99), memory 1.00× (0.99–1.01)
        and switches 0.99× (0.98–1.00); with 6 arms tested, a difference of 2.2 % in the time of one of them is found in 4 such
        studies of 5.

        --details: 3 caveats, what the columns mean, what coordination costs.

        threads:128 is the fastest, with 152 ms: it is 6.8× faster than async:16 (1.04 s); 4 others take 0.16–0.52× as long as
        async:16; threads:8 takes 96 % longer. Against async:16 (one event loop), 8xasync:16 (8 event loops) needs 3.9× the
        memory; threads:128 (128 threads) needs 1.8× the memory, 1.4× the CPU per URL and 5.0× the switches. Waiting for the
        server alone takes 1.01 s (16.2 s of delays, 16 URLs in flight); async:16 takes 26.7 ms more.
        "#);
    }

    #[test]
    fn colour_changes_no_letter() {
        let study = StudyBuilder::new().arms(&["async:32", "threads:32"]).blocks(6).build();
        let colored = table(&study, 100, true, true);
        assert!(colored.contains("★ "));
        let mut plain = colored;
        for code in ["\x1b[1m", "\x1b[2m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, table(&study, 100, false, true));
    }

    #[test]
    fn an_empty_study_is_drawn_too() {
        insta::assert_snapshot!(table(&Study::default(), 80, true, false), @r#"
        [2m0 URLs () · 0 blocks · servers of the list · seed 0[0m

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
            for line in table(&study, width, false, true).lines() {
                prop_assert!(chars(line) <= width, "{line}");
            }
        }
    }
}
