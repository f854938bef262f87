//! A study as Markdown, to paste into an issue or a page.

use crate::{
    record::Study,
    text::{
        Aside, aside, caveats,
        columns::{Columns, LEGEND},
        context, lines_below, verdict,
    },
};

/// A study as Markdown with one wide table; the best arm is in bold.
#[must_use]
pub fn markdown(study: &Study) -> String {
    let mut paragraphs =
        vec![escaped(&context(study)), format!("**{}**", escaped(&verdict(study).join(" ")))];
    if !study.trials.is_empty() {
        paragraphs.push(grid(&Columns::of(study)));
        paragraphs.push(escaped(LEGEND));
    }
    let Aside { head, tables, sentences, caveats: more } = aside(study).unwrap_or_default();
    if !tables.is_empty() {
        paragraphs.push(format!("**{}**", escaped(&head)));
        paragraphs.extend(tables.iter().map(|rows| plain_grid(rows)));
        paragraphs.extend(sentences.iter().map(|line| escaped(line)));
    }
    if !study.is_map() {
        paragraphs.extend(lines_below(study).iter().map(|line| escaped(line)));
    }
    let caveats: Vec<&str> = caveats(study).into_iter().chain(more).collect();
    if !caveats.is_empty() {
        let items = caveats.iter().map(|caveat| format!("- {}", escaped(caveat)));
        let items: Vec<String> = items.collect();
        paragraphs.push(format!("Keep in mind:\n\n{}", items.join("\n")));
    }
    paragraphs.retain(|text| !text.is_empty());
    format!("{}\n", paragraphs.join("\n\n").trim_end())
}

/// A table whose first row is its head.
fn plain_grid(rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut lines: Vec<String> =
        rows.iter().map(|row| line(row.iter().map(|cell| escaped(cell)).collect())).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let rule = (0..columns).map(|at| if at == 0 { "---" } else { "---:" }.to_owned());
    lines.insert(1.min(lines.len()), line(rule.collect()));
    lines.join("\n")
}

fn grid(columns: &Columns) -> String {
    let columns_in = columns.columns.iter();
    let row = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let rule = |at| if at == 0 { "---" } else { "---:" }.to_owned();
    let headers = columns_in.clone().map(|column| escaped(&column.header));
    let mut lines =
        vec![row(headers.collect()), row((0..columns.columns.len()).map(rule).collect())];
    for at in 0..columns.verdicts.len() {
        let cells = columns_in.clone().enumerate().map(|(place, column)| {
            let cell = &column.cells[at];
            let mut text = escaped(&cell.main);
            if columns.best == Some(at) && place == 0 {
                text = format!("★ **{text}**");
            }
            if !cell.detail.is_empty() {
                text += &format!(" ({})", escaped(&cell.detail));
            }
            text
        });
        lines.push(row(cells.collect()));
    }
    lines.join("\n")
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

        **2xasync:16 finished first, in 249 ms: 0.91× the time of async:32 (95 % interval 0.90–0.92). It needed 43.0 ms of CPU per 1,000 URLs, but 4.83 MiB of memory at its peak, 1.39× that of async:32. The slowest, sequential, took 8.33 s, 33.4× as long as the first.**

        | arm | makespan | vs async:32 | verdict | requests/s | p50 | p99 | memory | CPU | switches | failed | trials |
        | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
        | ★ **2xasync:16** | 249 ms (240–254 ms) | 0.91× (0.90–0.92) | faster | 4,012 | 6.76 ms | 20.5 ms | 4.83 MiB | 43.0 ms | 621 | 0 | 10/10 |
        | async:32 | 270 ms (267–276 ms) | 1 | baseline | 3,697 | 7.35 ms | 22.3 ms | 3.48 MiB | 44.0 ms | 671 | 0 | 10/10 |
        | async:32 (again) | 269 ms (263–275 ms) | 0.99× (0.99–1.00) | equivalent | 3,716 | 7.31 ms | 22.2 ms | 3.49 MiB | 44.0 ms | 668 | 0 | 10/10 |
        | async:32@reqwest | 276 ms (271–281 ms) | 1.02× (1.01–1.02) | equivalent | 3,629 | 7.47 ms | 22.6 ms | 4.31 MiB | 73.5 ms | 680 | 0 | 10/10 |
        | threads:32 | 291 ms (287–298 ms) | 1.07× (1.06–1.09) | slower | 3,438 | 7.92 ms | 24.0 ms | 4.04 MiB | 66.5 ms | 3,609 | 0 | 10/10 |
        | threads:32@ureq | 315 ms (310–323 ms) | 1.16× (1.16–1.17) | slower | 3,172 | 8.57 ms | 25.9 ms | 13.1 MiB | 112 ms | 3,892 | 0 | 10/10 |
        | 32xsequential | 333 ms (327–340 ms) | 1.23× (1.22–1.24) | slower | 3,001 | 8.89 ms | 27.0 ms | 44.9 MiB | 142 ms | 3,926 | 0 | 10/11 |
        | sequential | 8.33 s (8.19–8.39 s) | 30.6× (29.6–31.7) | interval only | 120 | 7.38 ms | 22.4 ms | 3.36 MiB | 66.0 ms | 3,268 | 0 | 3/3 |

        makespan: median and range of the trials. vs: geometric mean of the per-block ratios, with its 95 % interval. p50, p99: half, and all but 1 in 100, of the URLs took no longer. memory: peak of the fetchers' summed proportional set size (PSS). CPU and switches: per 1,000 URLs. trials: used/run.

        How sure: the baseline run twice took 0.99× (0.99–1.00) of its own time; with 5 arms tested, a difference of 1.5 % in the time of one of them is found in 4 such studies of 5.

        Coordination under async:32: 3.49 ms of the makespan (1.3 %); 5.10 ms before it to start fetchers; 11.2 ms on average from a URL's end to the ledger; CPU per URL 2.90 µs in the coordinator and 5.00 µs in the workers; 69 B per URL through pipes and 72 B through gRPC.

        Scaling of Nxsequential over processes, requests/s and efficiency: 1: 120/s (100 %), 32: 3,001/s (78 %). No curve was fitted, so no peak was looked for: that needs 3 arms in 3 blocks. One more process costs 1.34 MiB (1.34–1.34 MiB) of memory.

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
