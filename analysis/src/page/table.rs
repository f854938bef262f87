//! The same in numbers.

use maud::{Markup, html};

use super::{
    elements::figures,
    svg::swatch,
    view::{ArmRow, StudyView},
};
use crate::{format, record::Metric, statistics::best};

/// Head, what it means below it, and the metric.
type PageColumn = (&'static str, &'static str, &'static str);

const COLUMNS: [PageColumn; 7] = [
    ("total time", "median run", "makespan_s"),
    ("URLs/s", "fetched", "requests_per_s"),
    ("usual URL", "1 in 2 slower", "latency_s.p50"),
    ("unlucky URL", "1 in 100 slower", "latency_s.p99"),
    ("memory", "peak", "pss_peak_bytes"),
    ("CPU", "per 1,000", "cpu_s"),
    ("switches", "per 1,000", "switches"),
];

pub(super) fn table(view: &StudyView<'_>) -> Markup {
    let metrics = COLUMNS.iter().filter_map(|(.., name)| Metric::named(name));
    let columns: Vec<(&Metric, Option<String>)> = metrics
        .map(|metric| (metric, best(view.rows.iter().map(|row| &row.summary), metric)))
        .collect();
    let mut heads = vec![("arm", "")];
    heads.extend(COLUMNS.iter().map(|(head, note, _)| (*head, *note)));
    heads.extend([("failed", "all runs"), ("runs", "kept")]);
    let rows = html! {
        @for row in &view.rows {
            tr class={ (row.class()) @if row.arm().control { " control" } } {
                th scope="row" { (swatch(row.identity)) (row.name()) }
                @for (metric, best) in &columns {
                    (cell(row, metric, best.as_deref()))
                }
                td { (format::count(row.summary.trials.iter().map(|trial| trial.failed + trial.abandoned).sum())) }
                td { (row.summary.trials.len()) "/" (row.summary.attempts) }
            }
        }
    };
    let shortened = view.rows.iter().filter_map(|row| Some((row, row.arm().shortened.as_ref()?)));
    let caption = html! { p.caption {
        "Medians over the runs that count, quickest arm first; memory is that of all processes together, CPU and switches are per 1,000 URLs. ★ is the best of its column; less is better everywhere but in URLs per second."
        @for (row, why) in shortened { " " b { (row.name()) } ": " (why) "." }
    } };
    html! { (figures("The same in numbers", &heads, &rows)) (caption) }
}

fn cell(row: &ArmRow<'_>, metric: &Metric, best: Option<&str>) -> Markup {
    let figure = row.summary.value(metric).map(|value| metric.say(Some(value)));
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
