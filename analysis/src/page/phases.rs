//! Where does a URL's time go?

use maud::{Markup, html};

use super::{
    elements::figures,
    svg::{
        Anchor, Px, onward,
        plot::{ChartRows, Drawing, Room, for_both, unit_ticks, x_axis, x_title},
        scale::{Scale, Unit, time_limit},
        swatch, text,
    },
    view::{ArmRow, StudyView, urls},
    waits::legend,
};
use crate::{
    format,
    record::TrialRecord,
    text::{grpc_bytes, or_unknown, pipe_bytes},
};

/// The parts of a bar, in the order in which they happen.
const PARTS: [&str; 5] = ["connect", "wait", "body", "idle", "own"];

/// One arm's bar: seconds of a slot's time per URL.
struct PhaseBar<'a> {
    row: &'a ArmRow<'a>,
    parts: [f64; 5],
}

impl PhaseBar<'_> {
    fn total(&self) -> f64 {
        self.parts.iter().sum()
    }
}

pub(super) fn phases(view: &StudyView<'_>) -> Markup {
    let bars: Vec<PhaseBar<'_>> = view.subjects().filter_map(bar).collect();
    let costs = costs(view);
    if bars.is_empty() {
        return html! {
            p.missing { "No trial that may be compared tells connecting, waiting and reading apart." }
            (costs)
        };
    }
    let totals: Vec<f64> = bars.iter().map(PhaseBar::total).collect();
    let limit = time_limit(&totals, 1.12);
    let chart = html! {
        (legend(&PARTS, false))
        (for_both("Time of a slot per URL, by what it was spent on", |room| draw(&bars, limit, room)))
    };
    let caption = html! { p.caption {
        "The time of one slot per URL, averaged over the median run. “Waiting for the server” is what no model can spare; the less of everything else, the better."
        @for bar in bars.iter().filter(|bar| bar.total() > limit) {
            " The bar of " b { (bar.row.name()) } " is cut: it goes on to " (format::duration(bar.total())) "."
        }
    } };
    html! { (chart) (caption) (costs) }
}

fn bar<'a>(row: &'a ArmRow<'a>) -> Option<PhaseBar<'a>> {
    let phases = |trial: &TrialRecord| {
        let p = trial.phases;
        [p.connect_s, p.wait_s, p.body_s, p.idle_s]
    };
    let trial = row.typical(|trial| {
        let spent: f64 = phases(trial).iter().sum();
        urls(trial).is_some() && spent > 0.0 && spent.is_finite()
    })?;
    let urls = urls(trial)?;
    let [connect, wait, body, idle] = phases(trial);
    // While the coordinator opens the barrier and hears of the end, every slot waits.
    let own = trial.coordination.overhead_s.unwrap_or(0.0).max(0.0) * row.slots() as f64;
    let parts = [connect, wait, body, idle, own].map(|sum| (sum / urls).max(0.0));
    Some(PhaseBar { row, parts })
}

fn draw(bars: &[PhaseBar<'_>], limit: f64, room: Room) -> Drawing {
    let names = bars.iter().map(|bar| bar.row.name());
    let (size, margins) = room.pick(((40.0, 24.0), (8.0, 200.0)), ((54.0, 22.0), (24.0, 10.0)));
    let rows = ChartRows::new(room, names, size, margins);
    let area = rows.area;
    let unit = Unit::of_seconds(limit);
    let is_cut = |bar: &PhaseBar<'_>| bar.total() > limit;
    let end = if bars.iter().any(is_cut) { limit } else { unit.axis_end(limit) };
    let x = Scale::linear((0.0, end), (area.left, area.right));
    let content = html! {
        (x_axis(area, &unit_ticks(&x, room.pick(7, 4), unit)))
        (x_title(area, 40.0, "time of one slot per URL"))
        @for (bar, at) in bars.iter().zip(0_u32..) {
            @let y = rows.y(at);
            @let total = format!("{} per URL", format::duration(bar.total()));
            g class=(bar.row.class()) {
                (stack(bar, &x, y, rows.height))
                (rows.name(room, y, bar.row.name(), None, 220.0))
                @match room {
                    Room::Wide => {
                        @let after = x.clamped(bar.total()) + if is_cut(bar) { 18.0 } else { 10.0 };
                        (text("v", after, y + rows.height / 2.0 + 5.0, Anchor::Start, &total))
                    }
                    Room::Narrow => { (text("v", area.right, y - 6.0, Anchor::End, &total)) }
                }
            }
        }
    };
    (area.bottom + 46.0, content)
}

fn stack(bar: &PhaseBar<'_>, x: &Scale, y: f64, height: f64) -> Markup {
    let mut from = 0.0;
    let parts = PARTS.iter().zip(bar.parts).map(|(name, seconds)| {
        let begins = from;
        from += seconds;
        (*name, begins, seconds)
    });
    html! {
        @for (name, begins, seconds) in parts {
            @let (left, right) = (x.clamped(begins), x.clamped(begins + seconds));
            @if right - left >= 0.05 {
                rect class={ "ph-" (name) } x=(Px(left)) y=(Px(y)) width=(Px(right - left)) height=(Px(height)) {
                    title { (bar.row.name()) ", " (title_of(name)) ": " (format::duration(seconds)) " per URL (" (format::percent(seconds / bar.total())) ")" }
                }
            }
        }
        @if bar.total() > x.domain().1 * (1.0 + 1e-9) {
            (onward(x.range().1, y + height / 2.0, &format!("goes on to {}", format::duration(bar.total()))))
        }
    }
}

fn title_of(part: &str) -> &'static str {
    match part {
        "connect" => "connecting",
        "wait" => "waiting for the server",
        "body" => "reading the body",
        "idle" => "idle between two URLs",
        _ => "coordination",
    }
}

/// What fanout itself costs: name, what is meant, the figure and its form.
type CostColumn = (&'static str, &'static str, fn(&TrialRecord) -> Option<f64>, fn(f64) -> String);

#[rustfmt::skip]
const COSTS: [CostColumn; 8] = [
    ("start", "to last ready", |t| t.spawn_s, format::duration),
    ("barrier", "opening it", |t| t.coordination.barrier_s, format::duration),
    ("coordination", "total less fetching", |t| t.coordination.overhead_s, format::duration),
    ("lag", "from end to ledger", |t| t.coordination.lag_mean_s, format::duration),
    ("coordinator", "CPU per URL", |t| per_url(t, t.coordination.coordinator_cpu_s?), format::duration),
    ("workers", "CPU per URL", |t| per_url(t, t.coordination.worker_cpu_s?), format::duration),
    ("pipes", "per URL", |t| per_url(t, pipe_bytes(t)), format::bytes),
    ("network", "per URL", |t| per_url(t, grpc_bytes(t)), format::bytes),
];

fn per_url(trial: &TrialRecord, sum: f64) -> Option<f64> {
    Some(sum / urls(trial)?)
}

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
