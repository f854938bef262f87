//! Where does a URL's time go?

use maud::{Markup, html};

use super::{
    section,
    svg::{
        Anchor, Path, Px, fitted,
        plot::{Area, Drawing, Room, for_both, unit_ticks, x_axis, x_title},
        scale::{Scale, Unit, cut, nice_ceiling},
        swatch, text, text_width,
    },
    view::{ArmRow, StudyView, urls},
    waits::legend,
};
use crate::{format, record::Trial, text::or_unknown};

/// How many times longer than the next a bar must be to be cut.
const FAR: f64 = 2.5;
/// The parts of a bar, in the order in which they happen.
const PARTS: [&str; 5] = ["connect", "wait", "body", "idle", "own"];

/// One arm's bar: seconds of a slot's time per URL.
struct PhaseBar<'v, 'a> {
    row: &'v ArmRow<'a>,
    parts: [f64; 5],
}

impl PhaseBar<'_, '_> {
    fn total(&self) -> f64 {
        self.parts.iter().sum()
    }
}

/// The section.
pub(super) fn phases(view: &StudyView<'_>) -> Markup {
    let question = "Where does a URL's time go?";
    let bars: Vec<PhaseBar<'_, '_>> = view.subjects().filter_map(bar).collect();
    let costs = costs(view);
    if bars.is_empty() {
        let missing = html! {
            p.missing { "No trial that may be compared tells connecting, waiting and reading apart." }
            (costs)
        };
        return section("time", question, &missing);
    }
    let totals: Vec<f64> = bars.iter().map(PhaseBar::total).collect();
    let longest = totals.iter().copied().fold(0.0, f64::max);
    let limit = cut(&totals, FAR).map_or(longest, |kept| kept * 1.12);
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
    section("time", question, &html! { (chart) (caption) (costs) })
}

fn bar<'v, 'a>(row: &'v ArmRow<'a>) -> Option<PhaseBar<'v, 'a>> {
    let spent = |trial: &Trial| {
        trial.phases.connect_s + trial.phases.wait_s + trial.phases.body_s + trial.phases.idle_s
    };
    let trial = row
        .typical(|trial| urls(trial).is_some() && spent(trial) > 0.0 && spent(trial).is_finite())?;
    let urls = urls(trial)?;
    let phases = trial.phases;
    // While the coordinator opens the barrier and hears of the end, every slot waits.
    let own = trial.coordination.overhead_s.unwrap_or(0.0).max(0.0) * row.slots() as f64;
    let parts = [
        phases.connect_s,
        phases.wait_s,
        phases.body_s,
        phases.idle_s,
        own,
    ]
    .map(|sum| (sum / urls).max(0.0));
    Some(PhaseBar { row, parts })
}

fn draw(bars: &[PhaseBar<'_, '_>], limit: f64, room: Room) -> Drawing {
    let (pitch, height) = room.pick((40.0, 24.0), (54.0, 22.0));
    let top = room.pick(8.0, 24.0);
    let names = bars.iter().map(|bar| text_width(bar.row.name(), 14.0));
    let area = Area {
        left: room.pick(names.fold(100.0, f64::max).min(230.0) + 16.0, 0.0),
        right: room.width() - room.pick(200.0, 10.0),
        top: 0.0,
        bottom: top + pitch * bars.len() as f64 - 4.0,
    };
    let unit = Unit::of_seconds(limit);
    let end = if bars.iter().any(|bar| bar.total() > limit) {
        limit
    } else {
        nice_ceiling(limit / unit.size) * unit.size
    };
    let x = Scale::linear((0.0, end), (area.left, area.right));
    let content = html! {
        (x_axis(area, &unit_ticks(&x, room.pick(7, 4), unit)))
        (x_title(area, 40.0, "time of one slot per URL"))
        @for (bar, at) in bars.iter().zip(0_u32..) {
            @let y = top + f64::from(at) * pitch;
            @let said = format!("{} per URL", format::duration(bar.total()));
            g class=(bar.row.class()) {
                (stack(bar, &x, y, height))
                @match room {
                    Room::Wide => {
                        text.n.end x=(Px(area.left - 16.0)) y=(Px(y + height / 2.0 + 5.0)) { (fitted(bar.row.name(), 14.0, area.left - 16.0)) }
                        @let after = x.clamped(bar.total()) + if bar.total() > limit { 18.0 } else { 10.0 };
                        (text("v", after, y + height / 2.0 + 5.0, Anchor::Start, &said))
                    }
                    Room::Narrow => {
                        text.n x="0" y=(Px(y - 6.0)) { (fitted(bar.row.name(), 13.0, 220.0)) }
                        (text("v", area.right, y - 6.0, Anchor::End, &said))
                    }
                }
            }
        }
    };
    Drawing {
        height: area.bottom + 46.0,
        content,
    }
}

fn stack(bar: &PhaseBar<'_, '_>, x: &Scale, y: f64, height: f64) -> Markup {
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
            @let to = x.range().1;
            @let mut arrow = Path::new();
            @let _ = arrow.move_to(to + 2.0, y + height / 2.0 - 6.0).line_to(to + 10.0, y + height / 2.0).line_to(to + 2.0, y + height / 2.0 + 6.0).close();
            path.onward d=(arrow.as_str()) { title { "goes on to " (format::duration(bar.total())) } }
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

/// A column of what fanout itself costs.
type CostColumn = (
    &'static str,
    &'static str,
    fn(&Trial) -> Option<f64>,
    fn(f64) -> String,
);

const COSTS: [CostColumn; 8] = [
    ("start", "to last ready", |t| t.spawn_s, format::duration),
    (
        "barrier",
        "opening it",
        |t| t.coordination.barrier_s,
        format::duration,
    ),
    (
        "coordination",
        "total less fetching",
        |t| t.coordination.overhead_s,
        format::duration,
    ),
    (
        "lag",
        "from end to ledger",
        |t| t.coordination.lag_mean_s,
        format::duration,
    ),
    (
        "coordinator",
        "CPU per URL",
        |t| Some(t.coordination.coordinator_cpu_s? / urls(t)?),
        format::duration,
    ),
    (
        "workers",
        "CPU per URL",
        |t| Some(t.coordination.worker_cpu_s? / urls(t)?),
        format::duration,
    ),
    (
        "pipes",
        "per URL",
        |t| {
            Some(
                (t.coordination.pipe_bytes_sent + t.coordination.pipe_bytes_received) as f64
                    / urls(t)?,
            )
        },
        format::bytes,
    ),
    (
        "network",
        "per URL",
        |t| {
            Some(
                (t.coordination.grpc_bytes_sent + t.coordination.grpc_bytes_received) as f64
                    / urls(t)?,
            )
        },
        format::bytes,
    ),
];

/// What fanout itself costs, arm by arm.
fn costs(view: &StudyView<'_>) -> Markup {
    html! {
        h3 { "What fanout itself costs" }
        div.scroll tabindex="0" role="region" aria-label="What fanout itself costs" {
            table.figures {
                thead { tr {
                    th scope="col" { "arm" }
                    @for (head, note, _, _) in COSTS { th scope="col" { (head) small { (note) } } }
                } }
                tbody { @for row in view.subjects() {
                    tr class=(row.class()) {
                        th scope="row" { (swatch(row.identity)) (row.name()) }
                        @for (_, _, figure, say) in COSTS {
                            td { (or_unknown(row.summary.median(figure), say)) }
                        }
                    }
                } }
            }
        }
    }
}
