//! How much memory does each hold?

use maud::{Markup, html};

use super::{
    elements::figures,
    lines::{thinned, up_to},
    svg::{
        Path,
        plot::{
            Drawing, LineEnd, Room, ends, for_both, line_area, unit_ticks, x_axis, x_title, y_axis,
        },
        scale::{Scale, Unit, time_limit},
    },
    view::{ArmRow, StudyView},
};
use crate::{
    format,
    record::Interval,
    text::{ends_in_brackets, memory_name},
};

/// One arm's line.
struct MemoryLine<'a> {
    row: &'a ArmRow<'a>,
    /// (seconds since Go, bytes)
    points: Vec<(f64, f64)>,
    end_s: f64,
    peak: f64,
}

pub(super) fn memory(view: &StudyView<'_>) -> Markup {
    let lines: Vec<MemoryLine<'_>> = view.subjects().filter_map(line).collect();
    let slopes = slopes(view);
    if lines.is_empty() {
        return html! {
            p.missing { "No trial that may be compared has its memory on record: it could not be read here, or none was sampled." }
            (slopes)
        };
    }
    let ends_s: Vec<f64> = lines.iter().map(|line| line.end_s).collect();
    let limit = time_limit(&ends_s, 1.12);
    let chart = for_both("Memory of every arm over time", |room| draw(&lines, limit, room));
    let cut_off: Vec<&MemoryLine<'_>> = lines.iter().filter(|line| line.end_s > limit).collect();
    let caption = html! { p.caption {
        "Memory of all processes of an arm together over its median trial. A line ends when the arm is done: short and low is good. This is the proportional set size (PSS), in which a page that fanout's own programs share counts in part: the table's memory counts it whole."
        @if !cut_off.is_empty() {
            " The time axis is cut: "
            @for (at, line) in cut_off.iter().enumerate() {
                @if at > 0 { ", " }
                b { (line.row.name()) } " goes on to " (format::duration(line.end_s))
            }
            "."
        }
    } };
    html! { (chart) (caption) (slopes) }
}

fn line<'a>(row: &'a ArmRow<'a>) -> Option<MemoryLine<'a>> {
    let trial = row.typical(|trial| trial.memory.iter().any(|point| point.pss_bytes.is_some()))?;
    let points: Vec<(f64, f64)> = trial
        .memory
        .iter()
        .filter(|point| point.elapsed_s.is_finite() && point.elapsed_s >= 0.0)
        .filter_map(|point| Some((point.elapsed_s, point.pss_bytes? as f64)))
        .collect();
    Some(MemoryLine {
        row,
        end_s: points.last()?.0,
        peak: points.iter().map(|point| point.1).fold(0.0, f64::max),
        points,
    })
}

fn draw(lines: &[MemoryLine<'_>], limit: f64, room: Room) -> Drawing {
    let label = |line: &MemoryLine<'_>| format::bytes(line.peak);
    let labels: Vec<(&str, String)> =
        lines.iter().map(|line| (line.row.name(), label(line))).collect();
    let area = line_area(room, &labels);
    let x = Scale::linear((0.0, limit), (area.left, area.right));
    let top = lines.iter().map(|line| line.peak).fold(0.0, f64::max);
    let unit = Unit::of_bytes(top);
    let y = Scale::linear((0.0, unit.axis_end(top)), (area.bottom, area.top));
    let drawn = lines.iter().map(|line| {
        let points = thinned(&up_to(&line.points, limit), limit / 240.0);
        let last = points.last().copied().unwrap_or_default();
        let path = Path::line(points.iter().map(|(s, bytes)| (x.at(*s), y.at(*bytes))));
        let title = format!(
            "{}: peak {}, done after {}",
            line.row.name(),
            label(line),
            format::duration(line.end_s)
        );
        let place = (x.at(last.0), y.at(last.1));
        let end =
            LineEnd { goes_on: line.end_s > limit, ..line.row.end(place, label(line), title) };
        (path, end)
    });
    let (paths, line_ends): (Vec<Path>, Vec<LineEnd>) = drawn.unzip();
    let content = html! {
        (y_axis(area, &unit_ticks(&y, 4, unit)))
        (x_axis(area, &unit_ticks(&x, room.pick(7, 4), Unit::of_seconds(limit))))
        (x_title(area, 40.0, "time since the start"))
        @for (path, end) in paths.iter().zip(&line_ends) {
            g class=(end.class) {
                path.line d=(path.as_str()) stroke-dasharray=[end.identity.dash_array()] { title { (end.title) } }
            }
        }
        (ends(room, area, &line_ends))
    };
    (area.bottom + 48.0, content)
}

/// What one more URL in flight costs, where the study can tell.
fn slopes(view: &StudyView<'_>) -> Markup {
    const HEADS: [(&str, &str); 5] = [
        ("arms", ""),
        ("one more URL in flight", "with its 95 % interval"),
        ("with none in flight", "what is left"),
        ("fitted over", "URLs in flight"),
        ("measure", "peak of"),
    ];
    let figure = |interval: &Interval| {
        html! { b { (format::bytes(interval.value)) } (ends_in_brackets(interval, format::bytes)) }
    };
    let rows = html! {
        @for slope in &view.study.memory_slopes {
            tr {
                th scope="row" { (slope.family) }
                td { (figure(&slope.bytes_per_request)) }
                td { (figure(&slope.base_bytes)) }
                td { (slope.in_flight[0]) "–" (slope.in_flight[1]) }
                td { (memory_name(&slope.metric)) }
            }
        }
    };
    html! {
        @if !view.study.memory_slopes.is_empty() {
            (figures("Memory per URL in flight", &HEADS, &rows))
        }
    }
}
