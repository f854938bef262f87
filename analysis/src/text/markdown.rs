//! A study as Markdown, to paste into an issue or a page.

use crate::{
    record::Study,
    text::{
        Aside, answers_seen, aside, caveats, claim_lines,
        columns::{Depth, LEGEND, columns},
        context, lines_below, sureness, verdict,
    },
};

/// A study as Markdown with one wide table; the best arm is in bold.
#[must_use]
pub fn markdown(study: &Study) -> String {
    let mut paragraphs =
        vec![escaped(&context(study)), format!("**{}**", escaped(&verdict(study).join(" ")))];
    if !study.trials.is_empty() {
        paragraphs.push(grid(study));
        paragraphs.push(escaped(LEGEND));
    }
    let Aside { head, tables, sentences, caveats: more } = aside(study).unwrap_or_default();
    if !tables.is_empty() {
        paragraphs.push(format!("**{}**", escaped(&head)));
        paragraphs.extend(tables.iter().map(|rows| plain_grid(rows)));
        paragraphs.extend(sentences.iter().map(|line| escaped(line)));
    }
    let items = |head: &str, items: &[&str]| {
        let items = items.iter().map(|item| format!("- {}", escaped(item)));
        format!("{head}:\n\n{}", items.collect::<Vec<_>>().join("\n"))
    };
    let seen = [answers_seen(study), sureness(study)].into_iter().flatten();
    paragraphs.extend(seen.map(|line| escaped(&line)));
    let claims = claim_lines(study);
    if let Some((head, claims)) = claims.split_first() {
        let claims: Vec<&str> = claims.iter().map(String::as_str).collect();
        paragraphs.push(items(head.trim_end_matches(':'), &claims));
    }
    if !study.is_map() {
        paragraphs.extend(lines_below(study).iter().map(|line| escaped(line)));
    }
    let caveats: Vec<&str> = caveats(study).into_iter().chain(more).collect();
    if !caveats.is_empty() {
        paragraphs.push(items("Keep in mind", &caveats));
    }
    paragraphs.retain(|text| !text.is_empty());
    format!("{}\n", paragraphs.join("\n\n").trim_end())
}

/// A table whose first row is its head: names to the left, figures to the right.
pub(crate) fn markdown_table(rows: &[Vec<String>]) -> String {
    let mut rows = rows.to_vec();
    let columns = rows.first().map_or(0, Vec::len);
    let rule = (0..columns).map(|at| if at == 0 { "---" } else { "---:" }.to_owned());
    rows.insert(1.min(rows.len()), rule.collect());
    let lines = rows.iter().map(|cells| format!("| {} |", cells.join(" | ")));
    lines.collect::<Vec<_>>().join("\n")
}

fn plain_grid(rows: &[Vec<String>]) -> String {
    let row = |row: &Vec<String>| row.iter().map(|cell| escaped(cell)).collect();
    markdown_table(&rows.iter().map(row).collect::<Vec<_>>())
}

fn grid(study: &Study) -> String {
    let columns = columns(study, Depth::Interval);
    let joined = |parts: [&str; 2], between: &str| {
        let parts = parts.iter().filter(|part| !part.is_empty()).map(|part| escaped(part));
        parts.collect::<Vec<_>>().join(between)
    };
    let heads = columns.iter().map(|c| joined([&c.header[0], &c.header[1]], "<br>"));
    let mut rows: Vec<Vec<String>> = vec![heads.collect()];
    for at in 0..columns.first().map_or(0, |column| column.cells.len()) {
        let cells = columns.iter().map(|column| {
            let cell = &column.cells[at];
            let text = joined([&cell.main, &cell.second], "<br>");
            if cell.best { format!("★ {text}") } else { text }
        });
        rows.push(cells.collect());
    }
    markdown_table(&rows)
}

/// Takes their meaning from the signs that Markdown knows.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for sign in text.chars() {
        if matches!(sign, '|' | '*' | '_' | '`' | '<' | '[' | '\\') {
            out.push('\\');
        }
        out.push(if sign.is_control() { ' ' } else { sign });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_default_study() {
        insta::assert_snapshot!(markdown(&fixture::study()), @r#"
        1,000 URLs (built-in) · 10 blocks · embedded origin · 2 CPUs · 2026-11-22 · seed 7

        **2xasync:16 is the fastest, with 255 ms: it takes 8.0 % less time than async:32 (275 ms); async:32@reqwest takes as long as async:32 (within 5 %); 4 others take 1.07–30.2× as long as async:32, sequential the longest (not tested). Against async:32 (one event loop), 32xsequential (32 processes) needs 13× the memory and 5.8× the switches; threads:32@ureq (32 threads with ureq) needs 2.6× the CPU per URL; threads:32 (32 threads) needs 1.2× the memory, 1.5× the CPU per URL and 5.4× the switches. Waiting for the server alone takes 258 ms (8.27 s of delays, 32 URLs in flight); start and fetching add 16.8 ms (async:32) to 72.2 ms (32xsequential).**

        | arm | time<br>vs async:32 | CPU<br>per 1,000 URLs | memory<br>peak | switches<br>per 1,000 URLs | start<br>makespan | CPU to start | p50<br>p99 | failed<br>trials | URLs/s |
        | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
        | 2xasync:16<br>2 event loops | ★ 255 ms<br>0.92× (0.90–0.94), less, relevant | ★ 39.0 ms<br>0.92× (0.90–0.93), less, relevant | 5.80 MiB<br>1.39× (1.37–1.40), more, relevant | ★ 621<br>0.92× (0.90–0.94), less, relevant | 6.00 ms<br>249 ms | 4.00 ms | 6.69 ms<br>20.5 ms | 0<br>10/10 | 4,012 |
        | async:32<br>baseline | 275 ms | 42.0 ms | 4.17 MiB | 671 | 4.50 ms<br>270 ms | 2.00 ms | 7.34 ms<br>22.4 ms | 0<br>10/10 | 3,697 |
        | async:32@reqwest<br>one event loop | 280 ms<br>1.02× (1.00–1.03), more, negligible | 71.5 ms<br>1.69× (1.67–1.71), more, relevant | 5.17 MiB<br>1.24× (1.23–1.24), more, relevant | 680<br>1.01× (1.00–1.02), more, negligible | 4.50 ms<br>276 ms | 2.00 ms | 7.47 ms<br>22.8 ms | 0<br>10/10 | 3,629 |
        | threads:32<br>32 threads | 295 ms<br>1.07× (1.05–1.09), more, relevant | 64.5 ms<br>1.52× (1.50–1.55), more, relevant | 4.84 MiB<br>1.16× (1.15–1.17), more, relevant | 3,609<br>5.37× (5.28–5.47), more, relevant | 4.50 ms<br>291 ms | 2.00 ms | 7.90 ms<br>24.1 ms | 0<br>10/10 | 3,438 |
        | threads:32@ureq<br>32 threads | 320 ms<br>1.16× (1.15–1.18), more, relevant | 110 ms<br>2.61× (2.58–2.64), more, relevant | 15.7 MiB<br>3.77× (3.75–3.79), more, relevant | 3,892<br>5.79× (5.72–5.86), more, relevant | 4.50 ms<br>315 ms | 2.00 ms | 8.57 ms<br>26.1 ms | 0<br>10/10 | 3,172 |
        | 32xsequential<br>32 processes | 384 ms<br>1.39× (1.37–1.41), more, relevant | 77.5 ms<br>1.83× (1.80–1.85), more, relevant | 53.9 MiB<br>12.9× (12.8–13.0), more, relevant | 3,926<br>5.84× (5.76–5.93), more, relevant | 51.0 ms<br>333 ms | 64.0 ms | 8.89 ms<br>27.1 ms | 0<br>10/11 | 3,001 |
        | sequential<br>one URL at a time | 8.33 s<br>30.2× (29.1–31.2), not tested | 64.0 ms<br>1.51× (1.48–1.54), not tested | ★ 4.03 MiB<br>0.97× (0.95–0.98), not tested | 3,268<br>4.85× (4.69–5.02), not tested | 4.50 ms<br>8.33 s | 2.00 ms | 7.34 ms<br>22.4 ms | 0<br>3/3 | 120 |

        time: start (from the first fork until all fetchers are ready) and makespan (until the last URL is done). CPU: after the start. Figures are medians of the trials; ★ is the best of its column. Ratios are geometric means of those in each block. less, more: proven; a ? where that is all; relevant: surely by more than the margin; negligible: surely by less. p50, p99: half and 99 in 100 of all URLs took no longer. trials: used/all.

        How sure: the baseline against itself: time 0.99× (0.98–1.00), CPU per URL 1.00× (0.99–1.00), memory 1.00× (1.00–1.01) and switches 0.99× (0.98–1.00); with 5 arms tested, a difference of 1.4 % in the time of one of them is found in 4 such studies of 5.

        What the blog post claimed of Python's asyncio (here async), ThreadPoolExecutor (threads) and multiprocessing (Nxsequential):

        - One event loop needs no context switches: not borne out. async:32 switches 671 times per 1,000 URLs, 5.4× fewer switches than threads:32 (3,609), but not none.
        - One event loop is faster than many processes: borne out. 32xsequential (384 ms) takes 39 % longer than async:32 (275 ms).
        - One event loop needs less memory than threads or processes: borne out. async:32 needs 4.17 MiB, threads:32 4.84 MiB (1.16×, more, relevant), 32xsequential 53.9 MiB (12.9×, more, relevant).
        - Threads are held back by a lock: not asked here. --cpu-work 1ms --cpu-lock asks it.

        Coordination under async:32: 3.49 ms of the makespan (1.3 %); 5.10 ms before it to start fetchers; 11.2 ms on average from a URL's end to the ledger; CPU per URL 2.90 µs in the coordinator and 5.00 µs in the workers; 69 B per URL through pipes and 72 B through gRPC. CPU of coordinator and workers per URL, by arm: async:32 7.90 µs, async:32@reqwest 7.90 µs, threads:32 7.90 µs, threads:32@ureq 7.90 µs, sequential 7.90 µs, 2xasync:16 8.90 µs and 32xsequential 38.9 µs.

        Scaling of Nxsequential over processes, URLs/s and efficiency: 1: 120/s (100 %), 32: 3,001/s (78 %). No curve was fitted, so no peak was looked for: that needs 3 arms in 3 blocks. One more process costs 1.61 MiB (1.61–1.61 MiB) of memory.

        Keep in mind:

        - 1 trial was left out of every comparison: 32xsequential in block 7, because a fetcher was lost: ended by signal 9.
        - Origin, coordinator and fetchers share 2 CPUs: an arm that needs less CPU also leaves the server more. With 4 or more they are kept apart.
        - The arms do not all have the same number of URLs in flight (processes × concurrency): 1 in sequential; 32 in threads:32, async:32, 32xsequential, 2xasync:16, threads:32@ureq, async:32@reqwest.
        - Fewer blocks for sequential: takes more than five times as long as the baseline: 3 blocks only.
        "#);
    }

    #[test]
    fn no_name_breaks_the_table() {
        assert_eq!(escaped("a|b\n*c*"), "a\\|b \\*c\\*");
    }
}
