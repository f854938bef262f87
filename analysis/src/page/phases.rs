//! Where does a URL's time go?

use maud::{Markup, html};

use super::{
    bars::{Bar, Bars, Part},
    elements::figures,
    svg::swatch,
    view::{ArmRow, StudyView},
};
use crate::{
    format,
    record::TrialRecord,
    text::{grpc_bytes, or_unknown, pipe_bytes},
};

/// What a slot does, in the order in which it happens.
pub(super) const PHASES: [Part; 4] = [
    Part { colour: "idle", name: "idle" },
    Part { colour: "connect", name: "connecting (name, connection, TLS)" },
    Part { colour: "wait", name: "waiting for the server" },
    Part { colour: "body", name: "reading the body" },
];
const PARTS: [Part; 5] =
    [PHASES[1], PHASES[2], PHASES[3], PHASES[0], Part { colour: "own", name: "coordination" }];

pub(super) fn phases(view: &StudyView<'_>) -> Markup {
    let bars = view.subjects().filter_map(bar).collect();
    let bars = Bars::new("time of one slot per URL", &PARTS, bars);
    html! {
        @if let Some(bars) = bars {
            (bars.chart())
            p.caption {
                "The time of one slot per URL, averaged over the median trial. “Waiting for the server” is what no model can spare; the less of everything else, the better."
                (bars.cuts())
            }
        } @else {
            p.missing { "No trial that may be compared tells connecting, waiting and reading apart." }
        }
        (costs(view))
    }
}

fn bar<'a>(row: &'a ArmRow<'a>) -> Option<Bar<'a>> {
    let phases = |trial: &TrialRecord| {
        let p = trial.phases;
        [p.connect_s, p.wait_s, p.body_s, p.idle_s]
    };
    let trial = row.typical(|trial| {
        let spent: f64 = phases(trial).iter().sum();
        trial.urls() > 0 && spent > 0.0 && spent.is_finite()
    })?;
    let [connect, wait, body, idle] = phases(trial);
    // While the coordinator opens the barrier and hears of the end, every slot waits.
    let own = trial.coordination.overhead_s.unwrap_or(0.0).max(0.0) * row.arm().slots() as f64;
    let parts = [connect, wait, body, idle, own].map(|sum| Some(trial.per_url(sum)?.max(0.0)));
    Some(Bar { row, parts: parts.into_iter().collect::<Option<_>>()? })
}

/// What fanout itself costs: name, what is meant, the figure and its form.
type CostColumn = (&'static str, &'static str, fn(&TrialRecord) -> Option<f64>, fn(f64) -> String);

#[rustfmt::skip]
const COSTS: [CostColumn; 8] = [
    ("start", "to last ready", |t| t.start_s, format::duration),
    ("barrier", "opening it", |t| t.coordination.barrier_s, format::duration),
    ("coordination", "total less fetching", |t| t.coordination.overhead_s, format::duration),
    ("lag", "from end to ledger", |t| t.coordination.lag_mean_s, format::duration),
    ("coordinator", "CPU per URL", |t| t.per_url(t.coordination.coordinator_cpu_s?), format::duration),
    ("workers", "CPU per URL", |t| t.per_url(t.coordination.worker_cpu_s?), format::duration),
    ("pipes", "per URL", |t| t.per_url(pipe_bytes(t)), format::bytes),
    ("network", "per URL", |t| t.per_url(grpc_bytes(t)), format::bytes),
];

/// What fanout itself costs, arm by arm.
fn costs(view: &StudyView<'_>) -> Markup {
    let title = "What fanout itself costs";
    let heads: Vec<(&str, &str)> =
        [("arm", "")].into_iter().chain(COSTS.map(|(head, note, ..)| (head, note))).collect();
    let rows = html! {
        @for row in view.subjects() {
            tr class=(row.class()) {
                th scope="row" { (swatch(row.identity)) (row.name()) }
                @for (_, _, figure, say) in COSTS {
                    td { (or_unknown(row.summary.median(figure), say)) }
                }
            }
        }
    };
    html! { h3 { (title) } (figures(title, &heads, &rows)) }
}
