//! Do more processes, more URLs in flight or more workers help?

use maud::{Markup, html};

use super::{
    identity::Identity,
    section,
    svg::{
        Anchor, Path, mark,
        plot::{
            Area, Drawing, LineEnd, Room, Tick, ends, for_both, margin, unit_ticks, x_axis,
            x_title, y_axis,
        },
        scale::{Scale, Unit, nice_ceiling},
        text,
    },
    view::{ArmRow, StudyView},
};
use crate::{
    format,
    record::{Interval, Scaling, ScalingFactor, ScalingModel, ScalingPoint},
    text::{ends as ends_of, listed, or_unknown},
};

/// One family of arms.
struct Family<'v, 'a> {
    scaling: &'a Scaling,
    /// The arm with the most of what varies: its identities are the family's.
    row: &'v ArmRow<'a>,
    identity: Identity,
}

/// The sections, one for each thing that varies; nothing where nothing does.
pub(super) fn scaling(view: &StudyView<'_>) -> Markup {
    html! {
        @for factor in [ScalingFactor::Processes, ScalingFactor::Concurrency, ScalingFactor::Workers] {
            @let families = families(view, factor);
            @if !families.is_empty() { (one(factor, &families)) }
        }
    }
}

fn families<'v, 'a>(view: &'v StudyView<'a>, factor: ScalingFactor) -> Vec<Family<'v, 'a>> {
    let mut kinds = Vec::new();
    view.study
        .scaling
        .iter()
        .filter(|scaling| scaling.factor == factor)
        .filter_map(|scaling| {
            let row = view.row(&scaling.points.last()?.arm)?;
            let dashes = kinds
                .iter()
                .filter(|kind| **kind == row.identity.kind)
                .count();
            kinds.push(row.identity.kind);
            Some(Family {
                scaling,
                row,
                identity: Identity {
                    dashes,
                    ..row.identity
                },
            })
        })
        .collect()
}

fn one(factor: ScalingFactor, families: &[Family<'_, '_>]) -> Markup {
    let (id, question, axis) = match factor {
        ScalingFactor::Processes => ("scaling-processes", "Do more processes help?", "processes"),
        ScalingFactor::Concurrency => (
            "scaling-concurrency",
            "Do more URLs in flight help?",
            "URLs in flight in each process",
        ),
        ScalingFactor::Workers => ("scaling-workers", "Do more workers help?", "workers"),
    };
    let fitted = families
        .iter()
        .any(|family| !family.scaling.fits.is_empty());
    let joined: Vec<&str> = families
        .iter()
        .filter(|family| family.scaling.fits.is_empty())
        .map(|family| family.scaling.family.as_str())
        .collect();
    let caption = html! { p.caption {
        "A mark is a run"
        @if fitted { ", the line the fitted curve with its 95 % band" }
        ", the dots perfect growth from the smallest arm. Near the dots is good; where the line goes flat, more brings nothing, and where it bends down, more makes it slower."
        @if !joined.is_empty() { " No curve was fitted to " (listed(&joined)) ": its line joins the means." }
    } };
    let body = html! {
        (for_both(&format!("Throughput by number of {axis}"), |room| draw(families, axis, room)))
        (caption)
        @for family in families { (words(family)) }
        (table(families))
    };
    section(id, question, &body)
}

fn draw(families: &[Family<'_, '_>], axis: &str, room: Room) -> Drawing {
    let points = || families.iter().flat_map(|family| &family.scaling.points);
    let curves = || {
        families
            .iter()
            .filter_map(|family| family.scaling.fits.first())
            .flat_map(|fit| &fit.curve)
    };
    let numbers: Vec<f64> = points().map(|point| f64::from(point.n)).collect();
    let (least, most) = numbers
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), n| {
            (low.min(*n), high.max(*n))
        });
    let runs = points().flat_map(|point| {
        point
            .trials_per_s
            .iter()
            .copied()
            .chain([point.requests_per_s.value])
    });
    let bands = curves().map(|point| {
        point
            .requests_per_s
            .high
            .unwrap_or(point.requests_per_s.value)
    });
    let highest_run = runs.filter(|rate| rate.is_finite()).fold(0.0, f64::max);
    // A band may grow without bound where the fit is poor; it is cut at the edge.
    let top = bands
        .filter(|rate| rate.is_finite())
        .fold(highest_run, f64::max)
        .min(highest_run * 1.4);
    let names = families
        .iter()
        .map(|family| (family.scaling.family.as_str(), ""));
    let area = Area {
        left: room.pick(66.0, 58.0),
        right: room.width() - margin(room, names),
        top: 14.0,
        bottom: room.pick(340.0, 290.0),
    };
    let x = Scale::log(
        (least, if most > least { most } else { least * 2.0 }),
        (area.left + 8.0, area.right - 8.0),
    );
    let y = Scale::linear((0.0, nice_ceiling(top)), (area.bottom, area.top));
    let per_s = Unit {
        size: 1.0,
        name: "/s",
    };
    let mut counts: Vec<u32> = points().map(|point| point.n).collect();
    counts.sort_unstable();
    counts.dedup();
    // Labels need room: too many, and only every second or third stands.
    let every = counts.len().div_ceil(room.pick(14, 7)).max(1);
    let x_ticks: Vec<Tick> = counts
        .iter()
        .step_by(every)
        .map(|n| Tick::new(x.at(f64::from(*n)), n.to_string()))
        .collect();
    let finals: Vec<LineEnd> = families
        .iter()
        .filter_map(|family| end(family, &x, &y))
        .collect();
    let content = html! {
        (y_axis(area, &unit_ticks(&y, 5, per_s)))
        (x_axis(area, &x_ticks))
        (x_title(area, 40.0, &format!("{axis} (each step multiplies)")))
        @for family in families {
            g class=(family.row.class()) {
                (ideal(family, &x, &y))
                (curve(family, &x, &y, area))
                @for point in &family.scaling.points {
                    @for (at, rate) in point.trials_per_s.iter().enumerate() {
                        @let title = format!("{}: {}/s, run {} of {}", point.arm, format::rate(*rate), at + 1, point.trials_per_s.len());
                        (mark(family.identity, x.at(f64::from(point.n)), y.clamped(*rate), 3.4, Some(&title)))
                    }
                }
                (peak(family, &x, &y, area))
            }
        }
        (ends(room, area, &finals))
    };
    Drawing {
        height: area.bottom + 48.0,
        content,
    }
}

/// The means, joined where no curve could be fitted, which claims less. In
/// between, throughput grows by equal steps per one more, as the axis does not.
fn joined(points: &[ScalingPoint], x: &Scale, y: &Scale) -> Path {
    const STEPS: u32 = 16;
    Path::line(points.windows(2).flat_map(|pair| {
        let (from, to) = (&pair[0], &pair[1]);
        (0..=STEPS).map(move |step| {
            let share = f64::from(step) / f64::from(STEPS);
            let (low, high) = (f64::from(from.n), f64::from(to.n));
            let n = low * (high / low).powf(share);
            let gained = (n - low) / (high - low);
            let (lower, upper) = (from.requests_per_s.value, to.requests_per_s.value);
            (x.at(n), y.clamped(lower + gained * (upper - lower)))
        })
    }))
}

/// What each arm would reach if more of it lost nothing: straight growth from
/// the smallest arm, as far as it fits.
fn ideal(family: &Family<'_, '_>, x: &Scale, y: &Scale) -> Markup {
    const STEPS: u32 = 24;
    let points = &family.scaling.points;
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return html! {};
    };
    let (least, most) = (f64::from(first.n), f64::from(last.n));
    let per_one = first.requests_per_s.value / least;
    let highest = (y.domain().1 / per_one).min(most);
    let line = Path::line((0..=STEPS).map(|step| {
        let n = least * (highest / least).powf(f64::from(step) / f64::from(STEPS));
        (x.at(n), y.clamped(n * per_one))
    }));
    html! { path.ideal d=(line.as_str()) { title { (family.scaling.family) ": perfect growth from " (first.arm) } } }
}

fn curve(family: &Family<'_, '_>, x: &Scale, y: &Scale, area: Area) -> Markup {
    let Some(fit) = family.scaling.fits.first() else {
        return html! { path.line.faint d=(joined(&family.scaling.points, x, y).as_str()) {} };
    };
    let up = |rate: f64| y.clamped(rate).clamp(area.top, area.bottom);
    let upper = fit
        .curve
        .iter()
        .filter_map(|point| Some((x.at(point.n), up(point.requests_per_s.high?))));
    let lower = fit
        .curve
        .iter()
        .rev()
        .filter_map(|point| Some((x.at(point.n), up(point.requests_per_s.low?))));
    let mut band = Path::line(upper.chain(lower));
    if !band.is_empty() {
        band.close();
    }
    let line = Path::line(
        fit.curve
            .iter()
            .map(|point| (x.at(point.n), up(point.requests_per_s.value))),
    );
    html! {
        @if !band.is_empty() { path.uncertain d=(band.as_str()) {} }
        path.line d=(line.as_str()) stroke-dasharray=[family.identity.dash_array()] {
            title { (family.scaling.family) ": " (model_name(fit.model)) }
        }
    }
}

fn peak(family: &Family<'_, '_>, x: &Scale, y: &Scale, area: Area) -> Markup {
    let Some(n) = family
        .scaling
        .peak
        .n
        .map(|peak| peak.value)
        .filter(|n| x.holds(*n))
    else {
        return html! {};
    };
    let height = family
        .scaling
        .fits
        .first()
        .into_iter()
        .flat_map(|fit| &fit.curve)
        .min_by(|a, b| (a.n - n).abs().total_cmp(&(b.n - n).abs()))
        .map_or(area.top, |point| y.clamped(point.requests_per_s.value));
    text(
        "t small",
        x.at(n),
        (height - 16.0).max(area.top + 10.0),
        Anchor::Middle,
        &format!("most at ≈ {n:.0}"),
    )
}

fn end(family: &Family<'_, '_>, x: &Scale, y: &Scale) -> Option<LineEnd> {
    let last = family.scaling.points.last()?;
    let from_curve = family
        .scaling
        .fits
        .first()
        .and_then(|fit| fit.curve.last())
        .map(|point| point.requests_per_s.value);
    let rate = from_curve.unwrap_or(last.requests_per_s.value);
    Some(LineEnd {
        x: x.at(f64::from(last.n)),
        y: y.clamped(rate),
        identity: family.identity,
        class: family.row.class(),
        name: family.scaling.family.clone(),
        value: String::new(),
        title: format!(
            "{}: {}/s with the most",
            family.scaling.family,
            format::rate(rate)
        ),
        goes_on: false,
    })
}

fn model_name(model: ScalingModel) -> &'static str {
    match model {
        ScalingModel::LinearThenFlat => "grows evenly, then stays flat",
        ScalingModel::Amdahl => "Amdahl's law",
        ScalingModel::Usl => "Universal Scalability Law",
    }
}

fn words(family: &Family<'_, '_>) -> Markup {
    let scaling = family.scaling;
    html! {
        p.lead {
            b { (scaling.family) } ": " @if scaling.fits.is_empty() { (scaling.choice) } @else { (scaling.peak.text) }
            @if let Some(step) = &scaling.memory_per_step_bytes {
                " One more costs " b { (format::bytes(step.value)) } " of peak memory"
                @if let Some(ends) = ends_of(step, format::bytes) { " (" (ends) ")" }
                "."
            }
        }
        @if let Some(fit) = scaling.fits.first() {
            details {
                summary { "Which curve, and how well it fits" }
                p { (scaling.choice) }
                table.facts { tbody {
                    tr { th scope="row" { "curve" } td { (model_name(fit.model)) } }
                    tr { th scope="row" { "γ, URLs/s of one alone" } td { (interval(&fit.gamma)) } }
                    @if let Some(sigma) = &fit.sigma { tr { th scope="row" { "σ, share that cannot be spread" } td { (interval(sigma)) } } }
                    @if let Some(kappa) = &fit.kappa { tr { th scope="row" { "κ, cost of agreement per pair" } td { (interval(kappa)) } } }
                    @if let Some(ceiling) = &fit.ceiling { tr { th scope="row" { "ceiling, URLs/s" } td { (interval(ceiling)) } } }
                } }
            }
        }
    }
}

fn interval(interval: &Interval) -> String {
    let ends = ends_of(interval, format::significant).map(|ends| format!(" ({ends})"));
    format!(
        "{}{}",
        format::significant(interval.value),
        ends.unwrap_or_default()
    )
}

fn table(families: &[Family<'_, '_>]) -> Markup {
    let ratio = |interval: &Interval, say: fn(f64) -> String| {
        html! {
            (say(interval.value))
            @if let Some(ends) = ends_of(interval, say) { small.inline { (ends) } }
        }
    };
    let row = |point: &ScalingPoint| {
        html! {
            tr {
                th scope="row" { (point.arm) }
                td { (point.n) }
                td { (ratio(&point.requests_per_s, format::rate)) }
                td { (ratio(&point.speedup, format::ratio)) }
                td { (ratio(&point.efficiency, format::percent)) }
                td { (or_unknown(point.pss_peak_bytes.map(|bytes| bytes as f64), format::bytes)) }
                td { (or_unknown(point.spawn_s, format::duration)) }
                td { (or_unknown(point.overhead_s, format::duration)) }
            }
        }
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label="Scaling in numbers" {
            table.figures {
                thead { tr {
                    th scope="col" { "arm" }
                    th scope="col" { "how many" }
                    th scope="col" { "URLs/s" small { "95 % interval" } }
                    th scope="col" { "speedup" small { "over the smallest" } }
                    th scope="col" { "efficiency" small { "100 % is ideal" } }
                    th scope="col" { "memory" small { "peak" } }
                    th scope="col" { "start" small { "to last ready" } }
                    th scope="col" { "coordination" small { "total less fetching" } }
                } }
                tbody { @for family in families { @for point in &family.scaling.points { (row(point)) } } }
            }
        }
    }
}
