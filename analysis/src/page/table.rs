//! The same in numbers.

use maud::{Markup, html};

use super::{
    elements::figures,
    svg::swatch,
    view::{ArmRow, StudyView},
};
use crate::{format, record::TrialRecord, statistics::Metric};

/// A column of figures.
struct PageColumn {
    head: &'static str,
    /// What the head means, below it.
    note: &'static str,
    figure: fn(&ArmRow<'_>) -> Option<f64>,
    say: fn(f64) -> String,
    /// Of two figures the better.
    better: fn(f64, f64) -> f64,
}

const fn column(
    head: &'static str,
    note: &'static str,
    figure: fn(&ArmRow<'_>) -> Option<f64>,
    say: fn(f64) -> String,
    better: fn(f64, f64) -> f64,
) -> PageColumn {
    PageColumn {
        head,
        note,
        figure,
        say,
        better,
    }
}

fn per_thousand_urls(row: &ArmRow<'_>, name: &str) -> Option<f64> {
    row.summary.per_thousand_urls(&Metric::named(name)?)
}

fn median(row: &ArmRow<'_>, figure: fn(&TrialRecord) -> Option<f64>) -> Option<f64> {
    row.summary.median(figure)
}

#[rustfmt::skip]
const COLUMNS: [PageColumn; 7] = [
    column("total time", "median run", |row| row.makespan_s(), format::duration, f64::min),
    column("URLs/s", "fetched", |row| median(row, |t| t.requests_per_s), format::rate, f64::max),
    column("usual URL", "1 in 2 slower", |row| median(row, |t| Some(t.latency_s?.p50)), format::duration, f64::min),
    column("unlucky URL", "1 in 100 slower", |row| median(row, |t| t.latency_s?.p99), format::duration, f64::min),
    column("memory", "peak", |row| median(row, |t| Some(t.pss_peak_bytes? as f64)), format::bytes, f64::min),
    column("CPU", "per 1,000", |row| per_thousand_urls(row, "cpu_s"), format::duration, f64::min),
    column("switches", "per 1,000", |row| per_thousand_urls(row, "switches"), format::rate, f64::min),
];

pub(super) fn table(view: &StudyView<'_>) -> Markup {
    let best: Vec<Option<String>> = COLUMNS.iter().map(|column| best(view, column)).collect();
    let mut heads = vec![("arm", "")];
    heads.extend(COLUMNS.iter().map(|column| (column.head, column.note)));
    heads.extend([("failed", "all runs"), ("runs", "kept")]);
    let rows = html! {
        @for row in &view.rows {
            tr class={ (row.class()) @if row.arm().control { " control" } } {
                th scope="row" { (swatch(row.identity)) (row.name()) }
                @for (column, best) in COLUMNS.iter().zip(&best) {
                    (cell(row, column, best.as_deref()))
                }
                td { (format::count(row.summary.trials.iter().map(|trial| trial.failed + trial.abandoned).sum())) }
                td { (row.summary.trials.len()) "/" (row.summary.attempts) }
            }
        }
    };
    let shortened = view
        .rows
        .iter()
        .filter_map(|row| Some((row, row.arm().shortened.as_ref()?)));
    let caption = html! { p.caption {
        "Medians over the runs that count, quickest arm first; memory is that of all processes together, CPU and switches are per 1,000 URLs. ★ is the best of its column; less is better everywhere but in URLs per second."
        @for (row, why) in shortened { " " b { (row.name()) } ": " (why) "." }
    } };
    html! { (figures("The same in numbers", &heads, &rows)) (caption) }
}

/// The best figure of a column, as it reads: arms that read alike share it.
fn best(view: &StudyView<'_>, column: &PageColumn) -> Option<String> {
    let competing = view.rows.iter().filter(|row| row.summary.competes());
    let figures: Vec<f64> = competing
        .filter_map(column.figure)
        .filter(|figure| figure.is_finite())
        .collect();
    let best = figures.iter().copied().reduce(column.better);
    best.filter(|_| figures.len() > 1).map(column.say)
}

fn cell(row: &ArmRow<'_>, column: &PageColumn, best: Option<&str>) -> Markup {
    let figure = (column.figure)(row).map(column.say);
    let is_best = row.summary.competes() && figure.is_some() && figure.as_deref() == best;
    html! {
        td.best[is_best] {
            @match figure {
                Some(figure) => { (figure) @if is_best { span.star title="best of its column" { "★" } } }
                None => { span title="not known" { (format::UNKNOWN) } }
            }
        }
    }
}
