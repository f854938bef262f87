//! The same in numbers.

use maud::{Markup, html};

use super::{
    section,
    svg::swatch,
    view::{ArmRow, StudyView},
};
use crate::{format, record::Trial, statistics::Metric};

/// A column of figures.
struct PageColumn {
    head: &'static str,
    /// What the head means, below it.
    note: &'static str,
    figure: fn(&ArmRow<'_>) -> Option<f64>,
    say: fn(f64) -> String,
    best: Best,
}

#[derive(PartialEq)]
enum Best {
    Low,
    High,
}

fn per_thousand_urls(row: &ArmRow<'_>, name: &str) -> Option<f64> {
    row.summary.per_thousand_urls(&Metric::named(name)?)
}

fn median(row: &ArmRow<'_>, figure: fn(&Trial) -> Option<f64>) -> Option<f64> {
    row.summary.median(figure)
}

const COLUMNS: [PageColumn; 7] = [
    PageColumn {
        head: "total time",
        note: "median run",
        figure: |row| row.makespan_s(),
        say: format::duration,
        best: Best::Low,
    },
    PageColumn {
        head: "URLs/s",
        note: "fetched",
        figure: |row| median(row, |trial| trial.requests_per_s),
        say: format::rate,
        best: Best::High,
    },
    PageColumn {
        head: "usual URL",
        note: "1 in 2 slower",
        figure: |row| median(row, |trial| Some(trial.latency_s?.p50)),
        say: format::duration,
        best: Best::Low,
    },
    PageColumn {
        head: "unlucky URL",
        note: "1 in 100 slower",
        figure: |row| median(row, |trial| trial.latency_s?.p99),
        say: format::duration,
        best: Best::Low,
    },
    PageColumn {
        head: "memory",
        note: "peak",
        figure: |row| median(row, |trial| Some(trial.pss_peak_bytes? as f64)),
        say: format::bytes,
        best: Best::Low,
    },
    PageColumn {
        head: "CPU",
        note: "per 1,000",
        figure: |row| per_thousand_urls(row, "cpu_s"),
        say: format::duration,
        best: Best::Low,
    },
    PageColumn {
        head: "switches",
        note: "per 1,000",
        figure: |row| per_thousand_urls(row, "switches"),
        say: format::rate,
        best: Best::Low,
    },
];

/// The section.
pub(super) fn table(view: &StudyView<'_>) -> Markup {
    let best: Vec<Option<String>> = COLUMNS.iter().map(|column| best(view, column)).collect();
    let body = html! {
        div.scroll tabindex="0" role="region" aria-label="The same in numbers" {
            table.figures {
                thead {
                    tr {
                        th scope="col" { "arm" }
                        @for column in &COLUMNS {
                            th scope="col" { (column.head) small { (column.note) } }
                        }
                        th scope="col" { "failed" small { "all runs" } }
                        th scope="col" { "runs" small { "kept" } }
                    }
                }
                tbody {
                    @for row in &view.rows {
                        tr class={ (row.class()) @if row.arm().control { " control" } } {
                            th scope="row" { (swatch(row.identity)) (row.name()) }
                            @for (column, best) in COLUMNS.iter().zip(&best) {
                                (cell(row, column, best.as_deref()))
                            }
                            td { (format::count(failed(row))) }
                            td { (row.summary.trials.len()) "/" (row.summary.attempts) }
                        }
                    }
                }
            }
        }
    };
    let caption = html! { p.caption {
        "Medians over the runs that count, quickest arm first; memory is that of all processes together, CPU and switches are per 1,000 URLs. ★ is the best of its column; less is better everywhere but in URLs per second."
        @if view.rows.iter().any(|row| row.arm().shortened.is_some()) {
            @for row in view.rows.iter().filter(|row| row.arm().shortened.is_some()) {
                " " b { (row.name()) } ": " (row.arm().shortened.as_deref().unwrap_or_default()) "."
            }
        }
    } };
    section(
        "numbers",
        "The same in numbers",
        &html! { (body) (caption) },
    )
}

fn failed(row: &ArmRow<'_>) -> u64 {
    row.summary
        .trials
        .iter()
        .map(|trial| trial.failed + trial.abandoned)
        .sum()
}

/// The best figure of a column, as it reads: arms that read alike share it.
fn best(view: &StudyView<'_>, column: &PageColumn) -> Option<String> {
    let competing = view.rows.iter().filter(|row| row.summary.competes());
    let figures: Vec<f64> = competing
        .filter_map(column.figure)
        .filter(|figure| figure.is_finite())
        .collect();
    if figures.len() < 2 {
        return None;
    }
    let best = match column.best {
        Best::Low => figures.into_iter().fold(f64::INFINITY, f64::min),
        Best::High => figures.into_iter().fold(f64::NEG_INFINITY, f64::max),
    };
    Some((column.say)(best))
}

fn cell(row: &ArmRow<'_>, column: &PageColumn, best: Option<&str>) -> Markup {
    let said = (column.figure)(row).map(column.say);
    let is_best = row.summary.competes() && said.is_some() && said.as_deref() == best;
    html! {
        td.best[is_best] {
            @match said {
                Some(said) => { (said) @if is_best { span.star title="best of its column" { "★" } } }
                None => { span title="not known" { (format::UNKNOWN) } }
            }
        }
    }
}
