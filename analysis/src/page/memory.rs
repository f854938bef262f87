//! How much memory does each hold?

use maud::{Markup, html};

use super::{
    lines::{thinned, up_to},
    section,
    svg::{
        Path,
        plot::{
            Area, Drawing, LineEnd, Room, ends, for_both, margin, unit_ticks, x_axis, x_title,
            y_axis,
        },
        scale::{Scale, Unit, cut, nice_ceiling},
    },
    view::{ArmRow, StudyView},
};
use crate::{format, record::Interval, text::ends as ends_of};

/// How many times longer than the next an arm must take to be cut.
const FAR: f64 = 2.5;

/// One arm's line.
struct MemoryLine<'v, 'a> {
    row: &'v ArmRow<'a>,
    /// (seconds since Go, bytes)
    points: Vec<(f64, f64)>,
    end_s: f64,
    peak: f64,
}

/// The section.
pub(super) fn memory(view: &StudyView<'_>) -> Markup {
    let question = "How much memory does each hold?";
    let lines: Vec<MemoryLine<'_, '_>> = view.subjects().filter_map(line).collect();
    let slopes = slopes(view);
    if lines.is_empty() {
        let missing = html! {
            p.missing { "No trial that may be compared has its memory on record: it could not be read here, or none was sampled." }
            (slopes)
        };
        return section("memory", question, &missing);
    }
    let ends_s: Vec<f64> = lines.iter().map(|line| line.end_s).collect();
    let longest = ends_s.iter().copied().fold(0.0, f64::max);
    let limit = cut(&ends_s, FAR).map_or(longest, |kept| kept * 1.12);
    let chart = for_both("Memory of every arm over time", |room| {
        draw(&lines, limit, room)
    });
    let cut_off: Vec<&MemoryLine<'_, '_>> =
        lines.iter().filter(|line| line.end_s > limit).collect();
    let caption = html! { p.caption {
        "Memory of all processes of an arm together (PSS), in its median run. A line ends when the arm is done: short and low is good."
        @if !cut_off.is_empty() {
            " The time axis is cut: "
            @for (at, line) in cut_off.iter().enumerate() {
                @if at > 0 { ", " }
                b { (line.row.name()) } " goes on to " (format::duration(line.end_s))
            }
            "."
        }
    } };
    section("memory", question, &html! { (chart) (caption) (slopes) })
}

fn line<'v, 'a>(row: &'v ArmRow<'a>) -> Option<MemoryLine<'v, 'a>> {
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

fn draw(lines: &[MemoryLine<'_, '_>], limit: f64, room: Room) -> Drawing {
    let labels: Vec<String> = lines.iter().map(|line| format::bytes(line.peak)).collect();
    let names = lines.iter().map(|line| line.row.name());
    let area = Area {
        left: room.pick(66.0, 50.0),
        right: room.width() - margin(room, names.zip(labels.iter().map(String::as_str))),
        top: 14.0,
        bottom: room
            .pick(330.0_f64, 280.0)
            .max(20.0 + 19.0 * lines.len() as f64),
    };
    let x = Scale::linear((0.0, limit), (area.left, area.right));
    let top = lines.iter().map(|line| line.peak).fold(0.0, f64::max);
    let unit = Unit::of_bytes(top);
    let y = Scale::linear(
        (0.0, nice_ceiling(top / unit.size) * unit.size),
        (area.bottom, area.top),
    );
    let time = Unit::of_seconds(limit);
    let drawn: Vec<(Path, LineEnd)> = lines
        .iter()
        .zip(labels)
        .map(|(line, label)| {
            let step = limit / 240.0;
            let points = thinned(&up_to(&line.points, limit), step);
            let last = points.last().copied().unwrap_or_default();
            let path = Path::line(points.iter().map(|(s, bytes)| (x.at(*s), y.at(*bytes))));
            let title = format!(
                "{}: peak {}, done after {}",
                line.row.name(),
                format::bytes(line.peak),
                format::duration(line.end_s)
            );
            let end = LineEnd {
                x: x.at(last.0),
                y: y.at(last.1),
                identity: line.row.identity,
                class: line.row.class(),
                name: line.row.name().to_owned(),
                value: label,
                title,
                goes_on: line.end_s > limit,
            };
            (path, end)
        })
        .collect();
    let content = html! {
        (y_axis(area, &unit_ticks(&y, 4, unit)))
        (x_axis(area, &unit_ticks(&x, room.pick(7, 4), time)))
        (x_title(area, 40.0, "time since the start"))
        @for ((path, end), line) in drawn.iter().zip(lines) {
            g class=(end.class) {
                path.line d=(path.as_str()) stroke-dasharray=[line.row.identity.dash_array()] { title { (end.title) } }
            }
        }
        (ends(room, area, &drawn.iter().map(|(_, end)| end.clone()).collect::<Vec<_>>()))
    };
    Drawing {
        height: area.bottom + 48.0,
        content,
    }
}

/// What one more URL in flight costs, where the study can tell.
fn slopes(view: &StudyView<'_>) -> Markup {
    let figure = |interval: &Interval| {
        html! {
            b { (format::bytes(interval.value)) }
            @if let Some(ends) = ends_of(interval, format::bytes) { " (" (ends) ")" }
        }
    };
    html! {
        @if !view.study.memory_slopes.is_empty() {
            div.scroll tabindex="0" role="region" aria-label="Memory per URL in flight" {
                table.figures {
                    thead { tr {
                        th scope="col" { "arms" }
                        th scope="col" { "one more URL in flight" small { "with its 95 % interval" } }
                        th scope="col" { "with none in flight" small { "what is left" } }
                        th scope="col" { "fitted over" small { "URLs in flight" } }
                        th scope="col" { "measure" small { "peak of" } }
                    } }
                    tbody { @for slope in &view.study.memory_slopes {
                        tr {
                            th scope="row" { (slope.family) }
                            td { (figure(&slope.bytes_per_request)) }
                            td { (figure(&slope.base_bytes)) }
                            td { (slope.in_flight[0]) "–" (slope.in_flight[1]) }
                            td { (measure(&slope.metric)) }
                        }
                    } }
                }
            }
        }
    }
}

fn measure(metric: &str) -> &str {
    match metric {
        "pss_peak_bytes" => "PSS: shared pages count once",
        "uss_peak_bytes" => "USS: own pages only",
        other => other,
    }
}
