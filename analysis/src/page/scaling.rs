//! Do more processes, more URLs in flight or more workers help?

use maud::{Markup, html};

use super::{
    elements::{figures, section},
    identity::Identity,
    svg::{
        Anchor, Path, mark,
        plot::{
            Area, Drawing, LineEnd, Room, Tick, ends, for_both, margin, x_axis, x_title, y_axis,
        },
        scale::Scale,
        text,
    },
    view::{ArmRow, StudyView},
};
use crate::{
    format,
    record::{CurvePoint, Interval, Scaling, ScalingFactor, ScalingFit},
    scaling::curve_name,
    text::{ends as ends_of, ends_in_brackets, listed, or_unknown},
};

/// One family of arms.
struct Family<'a> {
    scaling: &'a Scaling,
    /// The arm with the most of what varies: its style is the family's.
    row: &'a ArmRow<'a>,
    identity: Identity,
}

/// The sections, one for each thing that varies; nothing where nothing does.
pub(super) fn sections(view: &StudyView<'_>) -> Markup {
    html! {
        @for factor in [ScalingFactor::Processes, ScalingFactor::Concurrency, ScalingFactor::Workers] {
            @let families = families(view, factor);
            @if !families.is_empty() { (one(view, factor, &families)) }
        }
    }
}

impl<'a> Family<'a> {
    fn name(&self) -> &'a str {
        &self.scaling.family
    }

    fn fit(&self) -> Option<&'a ScalingFit> {
        self.scaling.fits.first()
    }

    fn curve(&self) -> impl DoubleEndedIterator<Item = &'a CurvePoint> + use<'a> {
        self.fit().into_iter().flat_map(|fit| &fit.curve)
    }
}

fn families<'a>(view: &'a StudyView<'a>, factor: ScalingFactor) -> Vec<Family<'a>> {
    let mut kinds = Vec::new();
    let scalings = view.study.scaling.iter();
    scalings
        .filter(|scaling| scaling.factor == factor)
        .filter_map(|scaling| {
            let row = view.row(&scaling.points.last()?.arm)?;
            let mut identity = row.identity;
            identity.dashes = kinds.iter().filter(|kind| **kind == identity.kind).count();
            kinds.push(identity.kind);
            Some(Family { scaling, row, identity })
        })
        .collect()
}

fn one(view: &StudyView<'_>, factor: ScalingFactor, families: &[Family<'_>]) -> Markup {
    let (id, question, axis) = match factor {
        ScalingFactor::Processes => ("scaling-processes", "Do more processes help?", "processes"),
        ScalingFactor::Concurrency => (
            "scaling-concurrency",
            "Do more URLs in flight help?",
            "URLs in flight in each process",
        ),
        ScalingFactor::Workers => ("scaling-workers", "Do more workers help?", "workers"),
    };
    let unfitted: Vec<&str> =
        families.iter().filter(|f| f.fit().is_none()).map(Family::name).collect();
    let caption = html! { p.caption {
        "A mark is a trial"
        @if unfitted.len() < families.len() { ", the line the fitted curve with its 95 % band" }
        ", the dots perfect growth from the smallest arm. Both axes are logarithmic: near the dots is good, and where a line goes flat, more brings nothing."
        @if !unfitted.is_empty() { " No curve was fitted to " (listed(&unfitted)) "." }
    } };
    let body = html! {
        // A chart of two points shows less than the table.
        @if families.iter().any(|family| family.scaling.points.len() > 2) {
            (for_both(&format!("Throughput by number of {axis}"), |room| draw(families, axis, room)))
            (caption)
        }
        @for family in families { (words(family)) }
        (table(view, families))
    };
    section(id, question, &body)
}

/// The scales of a chart, and the ticks of the numbers that were tried.
fn scales(families: &[Family<'_>], area: Area, room: Room) -> (Scale, Scale, Vec<Tick>) {
    let points = || families.iter().flat_map(|family| &family.scaling.points);
    let mut counts: Vec<u32> = points().map(|point| point.n).collect();
    counts.sort_unstable();
    counts.dedup();
    let least = counts.first().map_or(f64::INFINITY, |n| f64::from(*n));
    let most = counts.last().map_or(0.0, |n| f64::from(*n));
    let rates = points().flat_map(|p| p.trials_per_s.iter().chain([&p.requests_per_s.value]));
    let (lowest, highest) = rates
        .filter(|rate| rate.is_finite() && **rate > 0.0)
        .fold((f64::INFINITY, 0.0_f64), |(low, high), rate| (low.min(*rate), high.max(*rate)));
    let x = Scale::log(
        (least, if most > least { most } else { least * 2.0 }),
        (area.left + 8.0, area.right - 8.0),
    );
    let y = Scale::log((lowest * 0.8, highest * 1.25), (area.bottom, area.top));
    // Labels need room: too many, and only every second or third stands.
    let every = counts.len().div_ceil(room.pick(14, 7)).max(1);
    let ticks = counts.iter().step_by(every);
    let ticks = ticks.map(|n| Tick::new(x.at(f64::from(*n)), n.to_string()));
    (x, y, ticks.collect())
}

fn rate_ticks(y: &Scale) -> Vec<Tick> {
    let ticks = y.ticks(8).into_iter();
    ticks.map(|rate| Tick::new(y.at(rate), format!("{}/s", format::rate(rate)))).collect()
}

fn draw(families: &[Family<'_>], axis: &str, room: Room) -> Drawing {
    let names = families.iter().map(|family| (family.name(), ""));
    let area = Area {
        left: room.pick(66.0, 58.0),
        right: room.width() - margin(room, names),
        top: 14.0,
        bottom: room.pick(340.0, 290.0),
    };
    let (x, y, x_ticks) = scales(families, area, room);
    let finals: Vec<LineEnd> = families.iter().filter_map(|family| end(family, &x, &y)).collect();
    let content = html! {
        (y_axis(area, &rate_ticks(&y)))
        (x_axis(area, &x_ticks))
        (x_title(area, 40.0, axis))
        @for family in families {
            g class=(family.row.class()) {
                (ideal(family, &x, &y))
                (curve(family, &x, &y, area))
                @for point in &family.scaling.points {
                    @for (at, rate) in point.trials_per_s.iter().enumerate() {
                        @let title = format!("{}: {}/s, trial {} of {}", point.arm, format::rate(*rate), at + 1, point.trials_per_s.len());
                        (mark(family.identity, x.at(f64::from(point.n)), y.clamped(*rate), 3.4, Some(&title)))
                    }
                }
                (peak(family, &x, &y, area))
            }
        }
        (ends(room, area, &finals))
    };
    (area.bottom + 48.0, content)
}

/// What each arm would reach if more of it lost nothing: straight growth from
/// the smallest arm, as far as it fits.
fn ideal(family: &Family<'_>, x: &Scale, y: &Scale) -> Markup {
    let points = &family.scaling.points;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return html! {};
    };
    let (least, most) = (f64::from(first.n), f64::from(last.n));
    let per_one = first.requests_per_s.value / least;
    let end = (y.domain().1 / per_one).clamp(least, most);
    let line = Path::line([least, end].map(|n| (x.at(n), y.clamped(n * per_one))));
    html! { path.ideal d=(line.as_str()) { title { (family.name()) ": perfect growth from " (first.arm) } } }
}

fn curve(family: &Family<'_>, x: &Scale, y: &Scale, area: Area) -> Markup {
    let Some(fit) = family.fit() else {
        return html! {};
    };
    let up = |rate: f64| y.clamped(rate).clamp(area.top, area.bottom);
    let along = |rate: fn(&Interval) -> Option<f64>| {
        move |point: &CurvePoint| Some((x.at(point.n), up(rate(&point.requests_per_s)?)))
    };
    let upper = family.curve().filter_map(along(|rate| rate.high));
    let lower = family.curve().rev().filter_map(along(|rate| rate.low));
    let band = Path::outline(upper.chain(lower));
    let line = Path::line(family.curve().filter_map(along(|rate| Some(rate.value))));
    html! {
        @if !band.is_empty() { path.uncertain d=(band.as_str()) {} }
        path.line d=(line.as_str()) stroke-dasharray=[family.identity.dash_array()] {
            title { (family.name()) ": " (curve_name(fit.model)) }
        }
    }
}

fn peak(family: &Family<'_>, x: &Scale, y: &Scale, area: Area) -> Markup {
    let peak = family.scaling.peak.n.map(|peak| peak.value);
    let Some(n) = peak.filter(|n| x.holds(*n)) else {
        return html! {};
    };
    let far = |point: &CurvePoint| (point.n - n).abs();
    let nearest = family.curve().min_by(|a, b| far(a).total_cmp(&far(b)));
    let height = nearest.map_or(area.top, |point| y.clamped(point.requests_per_s.value));
    let above = (height - 16.0).max(area.top + 10.0);
    let label = format!("most at ≈ {n:.0}");
    text("t small", x.at(n), above, Anchor::Middle, &label)
}

fn end(family: &Family<'_>, x: &Scale, y: &Scale) -> Option<LineEnd> {
    let last = family.scaling.points.last()?;
    let fitted = family.curve().last().map(|point| point.requests_per_s.value);
    let rate = fitted.unwrap_or(last.requests_per_s.value);
    let title = format!("{}: {}/s with the most", family.name(), format::rate(rate));
    let place = (x.at(f64::from(last.n)), y.clamped(rate));
    Some(LineEnd {
        identity: family.identity,
        name: family.name().to_owned(),
        ..family.row.end(place, String::new(), title)
    })
}

fn words(family: &Family<'_>) -> Markup {
    let scaling = family.scaling;
    let fact = |name: &str, interval: Option<&Interval>| {
        html! { @if let Some(interval) = interval {
            tr { th scope="row" { (name) } td { (format::significant(interval.value)) (ends_in_brackets(interval, format::significant)) } }
        } }
    };
    html! {
        p.lead {
            b { (scaling.family) } ": " @if scaling.fits.is_empty() { (scaling.choice) } @else { (scaling.peak.text) }
            @if let Some(step) = &scaling.memory_per_step_bytes {
                " One more costs " b { (format::bytes(step.value)) } " of memory" (ends_in_brackets(step, format::bytes)) "."
            }
        }
        @if let Some(fit) = family.fit() {
            details {
                summary { "Which curve, and how well it fits" }
                p { (scaling.choice) }
                table.facts { tbody {
                    tr { th scope="row" { "curve" } td { (curve_name(fit.model)) } }
                    (fact("γ, URLs/s of one alone", Some(&fit.gamma)))
                    (fact("σ, share that cannot be spread", fit.sigma.as_ref()))
                    (fact("κ, cost of agreement per pair", fit.kappa.as_ref()))
                    (fact("ceiling, URLs/s", fit.ceiling.as_ref()))
                } }
            }
        }
    }
}

fn table(view: &StudyView<'_>, families: &[Family<'_>]) -> Markup {
    const HEADS: [(&str, &str); 8] = [
        ("arm", ""),
        ("how many", ""),
        ("URLs/s", "95 % interval"),
        ("speedup", "over the smallest"),
        ("efficiency", "100 % is ideal"),
        ("memory", "peak"),
        ("start", "to last ready"),
        ("coordination", "total less fetching"),
    ];
    let ratio = |interval: &Interval, say: fn(f64) -> String| {
        html! {
            (say(interval.value))
            // The smallest is compared with itself.
            @if interval.low != interval.high {
                @if let Some(ends) = ends_of(interval, say) { small.inline { (ends) } }
            }
        }
    };
    let rows = html! {
        @for point in families.iter().flat_map(|family| &family.scaling.points) {
            tr {
                th scope="row" { (point.arm) }
                td { (point.n) }
                td { (ratio(&point.requests_per_s, format::rate)) }
                td { (ratio(&point.speedup, format::ratio)) }
                td { (ratio(&point.efficiency, format::percent)) }
                @for metric in ["memory_peak_bytes", "start_s"] {
                    td { (view.row(&point.arm).map_or_else(String::new, |row| row.summary.say(metric))) }
                }
                td { (or_unknown(point.overhead_s, format::duration)) }
            }
        }
    };
    figures("Scaling in numbers", &HEADS, &rows)
}
