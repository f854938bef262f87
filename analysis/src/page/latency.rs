//! How slow are the unlucky URLs?

use maud::{Markup, html};

use super::{
    elements::figures,
    svg::{
        Path, Px,
        plot::{
            Drawing, LineEnd, Room, Tick, ends, for_both, line_area, unit_ticks, x_axis, x_title,
            y_axis,
        },
        scale::{Scale, Unit, trimmed},
    },
    view::{ArmRow, StudyView},
};
use crate::{
    format,
    latency::TAIL_SAMPLES_MIN,
    text::{self, listed, or_unknown},
};

/// Where the curves begin: half of the URLs are slower.
const FROM: f64 = 2.0;
/// With the slowest this many times above the quickest median, an axis from 0
/// would show one line and a floor.
const LOG_FROM: f64 = 25.0;

/// One arm's curve.
struct LatencyCurve<'a> {
    row: &'a ArmRow<'a>,
    /// (1 in how many is slower, seconds), from [`FROM`] up.
    points: Vec<(f64, f64)>,
}

pub(super) fn latency(view: &StudyView<'_>) -> Markup {
    let fetching = || view.subjects().filter(|row| row.summary.fetches());
    let curves: Vec<LatencyCurve<'_>> = fetching().filter_map(curve).collect();
    let unread: Vec<&str> = fetching().filter(|row| unreadable(row)).map(ArmRow::name).collect();
    let unread = html! {
        @if !unread.is_empty() { " A histogram of " (listed(&unread)) " could not be read." }
    };
    if curves.is_empty() {
        return html! {
            p.missing { "No arm has at least ten URLs beyond the first percentile drawn: with so few, the tail would say more about luck than about the arm." (unread) }
        };
    }
    let extent = Extent::of(&curves);
    let chart = for_both("Latency of every arm by percentile", |room| draw(&curves, &extent, room));
    let caption = html! { p.caption {
        "All URLs of the trials that count, together. Read one height: at 99 %, 1 URL in 100 was slower than the line, from taking it up to its last byte. Low and flat is good; a line that bends up late has a long tail."
        @if extent.logarithmic { " The heights are on a log scale: the slowest are too far off for one from 0." }
        (unread)
    } };
    html! { (chart) (caption) (open_loop(view)) }
}

/// At a fixed rate: from the take-up beside from the intended start.
fn open_loop(view: &StudyView<'_>) -> Markup {
    const HEADS: [(&str, &str); 6] = [
        ("arm", ""),
        ("half within", ""),
        ("from the intended start", ""),
        ("99 in 100 within", ""),
        ("from the intended start", ""),
        ("late starts", ""),
    ];
    let arms = text::open_loop(view.study);
    let rows = html! {
        @for arm in &arms { tr {
            th scope="row" { (arm.arm) }
            @for seconds in [arm.raw_p50_s, arm.corrected_p50_s, arm.raw_p99_s, arm.corrected_p99_s] {
                td { (or_unknown(seconds, format::duration)) }
            }
            td { (or_unknown(arm.late, format::percent)) }
        } }
    };
    html! {
        @if !arms.is_empty() {
            (figures("Latency at a fixed rate", &HEADS, &rows))
            p.caption {
                "URLs were taken up at a fixed rate, whether or not the ones before were done. An arm that cannot keep up starts late; what a URL waited for its start counts in the corrected latency only. Equal columns are good."
            }
        }
    }
}

/// All URLs of an arm together, as far as enough lie beyond.
fn curve<'a>(row: &'a ArmRow<'a>) -> Option<LatencyCurve<'a>> {
    let together = row.summary.latency()?;
    let reach = together.count() as f64 / TAIL_SAMPLES_MIN as f64 * (1.0 + 1e-9);
    let points: Vec<(f64, f64)> = together
        .curve()
        .into_iter()
        .map(|(fraction, seconds)| (1.0 / (1.0 - fraction), seconds))
        // The curve's steps are rounded: 1.995 is the 2 that it begins with here.
        .filter(|(one_in, _)| *one_in >= FROM * 0.99 && *one_in <= reach)
        .collect();
    (points.len() >= 2).then_some(LatencyCurve { row, points })
}

fn unreadable(row: &ArmRow<'_>) -> bool {
    let known = row.summary.trials.iter().any(|trial| trial.latency_histogram.is_some());
    known && row.summary.latency().is_none()
}

/// The figures that the axes must hold.
struct Extent {
    quickest: f64,
    slowest: f64,
    /// Of 1 in how many the last point speaks.
    farthest: f64,
    logarithmic: bool,
}

impl Extent {
    fn of(curves: &[LatencyCurve<'_>]) -> Self {
        let firsts = curves.iter().filter_map(|curve| curve.points.first());
        let lasts = || curves.iter().filter_map(|curve| curve.points.last());
        let quickest = firsts.map(|point| point.1).fold(f64::INFINITY, f64::min);
        let slowest = lasts().map(|point| point.1).fold(0.0, f64::max);
        Self {
            quickest,
            slowest,
            farthest: lasts().map(|point| point.0).fold(FROM, f64::max),
            logarithmic: quickest > 0.0 && slowest > LOG_FROM * quickest,
        }
    }
}

fn draw(curves: &[LatencyCurve<'_>], extent: &Extent, room: Room) -> Drawing {
    let label = |curve: &LatencyCurve<'_>| {
        let last = curve.points.last();
        last.map_or_else(String::new, |last| format::duration(last.1))
    };
    let labels: Vec<(&str, String)> =
        curves.iter().map(|curve| (curve.row.name(), label(curve))).collect();
    let area = line_area(room, &labels);
    let unit = Unit::of_seconds(extent.slowest);
    let x = Scale::log((FROM * 0.99, extent.farthest.max(FROM * 1.5)), (area.left, area.right));
    let up = (area.bottom, area.top);
    let y = if extent.logarithmic {
        Scale::log((extent.quickest * 0.85, extent.slowest * 1.1), up)
    } else {
        Scale::linear((0.0, unit.axis_end(extent.slowest)), up)
    };
    let y_ticks = if extent.logarithmic {
        let ticks = y.ticks(8);
        ticks
            .into_iter()
            .map(|seconds| Tick::new(y.at(seconds), format::duration(seconds)))
            .collect()
    } else {
        unit_ticks(&y, 5, unit)
    };
    let x_ticks: Vec<Tick> = decades(extent.farthest)
        .into_iter()
        .map(|one_in| Tick {
            at: x.at(one_in),
            label: percentile(one_in),
            note: Some(format!("1 in {}", trimmed(one_in))),
        })
        .collect();
    let lines: Vec<LineEnd> = curves
        .iter()
        .filter_map(|curve| {
            let (one_in, seconds) = *curve.points.last()?;
            let place = (x.at(one_in), y.at(seconds));
            let title = point_title(curve, one_in, seconds);
            Some(curve.row.end(place, label(curve), title))
        })
        .collect();
    let content = html! {
        (y_axis(area, &y_ticks))
        (x_axis(area, &x_ticks))
        (x_title(area, 56.0, room.pick("share of URLs at least this quick, and how many are slower (one step: ten times rarer)", "share of URLs at least this quick")))
        @for curve in curves {
            @let line = Path::line(curve.points.iter().map(|(one_in, s)| (x.at(*one_in), y.at(*s))));
            g class=(curve.row.class()) {
                path.line d=(line.as_str()) stroke-dasharray=[curve.row.identity.dash_array()] { title { (curve.row.name()) } }
                @for (one_in, seconds) in at_decades(&curve.points) {
                    circle.stop cx=(Px(x.at(one_in))) cy=(Px(y.at(seconds))) r="3" { title { (point_title(curve, one_in, seconds)) } }
                }
            }
        }
        (ends(room, area, &lines))
    };
    (area.bottom + 64.0, content)
}

fn point_title(curve: &LatencyCurve<'_>, one_in: f64, seconds: f64) -> String {
    format!(
        "{}: {} of URLs took at most {}, 1 in {:.0} took longer",
        curve.row.name(),
        percentile(one_in),
        format::duration(seconds),
        one_in
    )
}

/// 2, then the powers of ten, as far as the curves reach.
fn decades(farthest: f64) -> Vec<f64> {
    std::iter::once(FROM)
        .chain((1..=9).map(|power| 10f64.powi(power)))
        .take_while(|one_in| *one_in <= farthest * 1.001)
        .collect()
}

/// The points of a curve at those, its end left out: that has its mark.
fn at_decades(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let farthest = points.last().map_or(0.0, |last| last.0);
    decades(farthest)
        .into_iter()
        .filter(|one_in| *one_in < farthest * 0.97)
        .filter_map(|one_in| {
            let far = |point: &(f64, f64)| (point.0 / one_in).ln().abs();
            let points = points.iter().copied();
            points.min_by(|a, b| far(a).total_cmp(&far(b)))
        })
        .collect()
}

/// `50 %`, `90 %`, `99.9 %`.
fn percentile(one_in: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / one_in);
    let decimals = match one_in {
        n if n < 101.0 => 0,
        n if n < 1001.0 => 1,
        n if n < 10_001.0 => 2,
        _ => 4,
    };
    format!("{percent:.decimals$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_said_in_nines() {
        let said: Vec<String> =
            [2.0, 10.0, 100.0, 1_000.0, 10_000.0].into_iter().map(percentile).collect();
        assert_eq!(said.join(", "), "50 %, 90 %, 99 %, 99.9 %, 99.99 %");
    }

    #[test]
    fn ticks_end_where_the_curves_end() {
        assert_eq!(decades(99.99), [2.0, 10.0, 100.0]);
        assert_eq!(decades(80.0), [2.0, 10.0]);
    }

    #[test]
    fn the_curve_at_99_in_100_is_the_tables_p99() {
        let study = crate::fixture::study();
        let view = StudyView::new(&study);
        for row in view.subjects() {
            let curve = curve(row).unwrap();
            let beyond = curve.points.iter().find(|(one_in, _)| *one_in >= 99.9).unwrap();
            let p99 = row.summary.latency().unwrap().p99().unwrap();
            assert!((beyond.1 / p99 - 1.0).abs() < 0.002, "{}: {beyond:?} {p99}", row.name());
        }
    }
}
