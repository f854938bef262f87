//! What are time and CPU made of? Of starting the fetchers, and of fetching.

use maud::{Markup, html};

use super::{
    bars::{Bar, Bars, Part},
    view::{ArmRow, StudyView},
};
use crate::{
    record::{Metric, TrialRecord},
    text::left_out,
};

const TIME: [Part; 2] = [
    Part { colour: "connect", name: "start: from the first fork until all fetchers are ready" },
    Part { colour: "wait", name: "makespan: until the last URL is done" },
];
const CPU: [Part; 2] = [
    Part { colour: "connect", name: "CPU of the start" },
    Part { colour: "wait", name: "CPU of fetching" },
];

pub(super) fn parts(view: &StudyView<'_>) -> Markup {
    let cpu_run = Metric::named("cpu_run_s").expect("the list of metrics has it");
    let charts = [
        Bars::new("time of a trial", &TIME, bars(view, |t| t.start_s, |t| t.makespan_s)),
        Bars::new("CPU time of a trial", &CPU, bars(view, |t| t.cpu_start_s, cpu_run.of)),
    ];
    html! {
        @if charts.iter().all(Option::is_none) {
            p.missing { "No trial that may be compared has its start on record." }
        } @else {
            @for bars in charts.iter().flatten() { (bars.chart()) }
            @for sentence in left_out(view.study) { p { (sentence) } }
            p.caption {
                "Medians of the trials that count. What starting takes does not grow with the list, what fetching takes does: in a longer list the start weighs less."
                @for bars in charts.iter().flatten() { (bars.cuts()) }
            }
        }
    }
}

/// A bar for every arm that knows both parts.
fn bars<'a>(
    view: &'a StudyView<'a>,
    start: fn(&TrialRecord) -> Option<f64>,
    rest: fn(&TrialRecord) -> Option<f64>,
) -> Vec<Bar<'a>> {
    let bar = |row: &'a ArmRow<'a>| {
        let parts = vec![row.summary.median(start)?, row.summary.median(rest)?];
        let drawable = parts.iter().all(|part| part.is_finite() && *part >= 0.0);
        drawable.then_some(Bar { row, parts })
    };
    view.subjects().filter_map(bar).collect()
}
