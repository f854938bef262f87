//! The frame of a chart: its area, axes and the labels at the ends of lines.

use maud::{Markup, html};

use super::{
    Anchor, Path, Px, fitted, labels, mark,
    scale::{Scale, Unit},
    text, text_width,
};
use crate::page::identity::Identity;

/// For which room a chart is drawn. Every chart is drawn for both, and the
/// style sheet shows one: so type is never shrunk on a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// A window, or paper.
    Wide,
    /// A phone.
    Narrow,
}

impl Room {
    /// The chart's width in pixels of its own.
    pub(crate) fn width(self) -> f64 {
        self.pick(960.0, 360.0)
    }

    /// The size of names and figures in a chart, in pixels.
    fn font_px(self) -> f64 {
        self.pick(13.0, 12.0)
    }

    /// One of two.
    pub(crate) fn pick<T>(self, wide: T, narrow: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }
}

/// What is drawn, after its height in pixels.
pub(crate) type Drawing = (f64, Markup);

/// A chart for both rooms, each an SVG that grows and shrinks with the room it
/// gets. `label` tells a screen reader what it shows.
pub(crate) fn for_both(label: &str, draw: impl Fn(Room) -> Drawing) -> Markup {
    html! {
        @for room in [Room::Wide, Room::Narrow] {
            @let (height, content) = draw(room);
            svg.chart.(room.pick("wide", "narrow")) viewBox={ "0 0 " (Px(room.width())) " " (Px(height)) } role="img" aria-label=(label) {
                (content)
            }
        }
    }
}

/// The area inside the axes, by its edges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

/// A tick: where, and what is written there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub(crate) at: f64,
    pub(crate) label: String,
    /// What is written below, smaller.
    pub(crate) note: Option<String>,
}

impl Tick {
    /// A tick without a note.
    pub(crate) fn new(at: f64, label: impl Into<String>) -> Self {
        Self { at, label: label.into(), note: None }
    }
}

/// Ticks of a scale whose figures are read in a unit; the unit's name stands at the last.
pub(crate) fn unit_ticks(scale: &Scale, most: usize, unit: Unit) -> Vec<Tick> {
    let (low, high) = scale.domain();
    let in_units = Scale::linear((low / unit.size, high / unit.size), scale.range());
    let mut ticks: Vec<Tick> = in_units
        .ticks(most)
        .into_iter()
        .map(|value| Tick::new(in_units.at(value), unit.label(value * unit.size)))
        .collect();
    if let Some(last) = ticks.last_mut() {
        last.label = format!("{} {}", last.label, unit.name);
    }
    ticks
}

/// Lines across the area at every tick of the y axis, with what they stand for.
pub(crate) fn y_axis(area: Area, ticks: &[Tick]) -> Markup {
    html! {
        g.axis {
            (rules(ticks.iter().map(|tick| ((area.left, tick.at), (area.right, tick.at)))))
            @for tick in ticks {
                (text("t", area.left - 8.0, tick.at + 4.0, Anchor::End, &tick.label))
            }
        }
    }
}

/// Lines up the area at every tick of the x axis, with what they stand for.
pub(crate) fn x_axis(area: Area, ticks: &[Tick]) -> Markup {
    html! {
        g.axis {
            (rules(ticks.iter().map(|tick| ((tick.at, area.top), (tick.at, area.bottom)))))
            @for tick in ticks {
                (text("t", tick.at, area.bottom + 18.0, Anchor::Middle, &tick.label))
                @if let Some(note) = &tick.note {
                    (text("t small", tick.at, area.bottom + 33.0, Anchor::Middle, note))
                }
            }
        }
    }
}

/// What an axis shows, below it.
pub(crate) fn x_title(area: Area, below: f64, title: &str) -> Markup {
    let middle = f64::midpoint(area.left, area.right);
    text("t", middle, area.bottom + below, Anchor::Middle, title)
}

fn rules(lines: impl Iterator<Item = ((f64, f64), (f64, f64))>) -> Markup {
    let mut path = Path::default();
    for ((x1, y1), (x2, y2)) in lines {
        path.move_to(x1, y1).line_to(x2, y2);
    }
    html! { path.rule d=(path.as_str()) {} }
}

/// The area of a chart with a row per arm, one below the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChartRows {
    pub(crate) area: Area,
    /// From the area's top to that of the first row.
    top: f64,
    pitch: f64,
    pub(crate) height: f64,
}

impl ChartRows {
    /// `pitch` and `height` of a row, and what stands right of it, wide and narrow.
    pub(crate) fn new<'a>(
        room: Room,
        names: impl ExactSizeIterator<Item = &'a str>,
        (pitch, height): (f64, f64),
        (top, right): (f64, f64),
    ) -> Self {
        let count = names.len() as f64;
        let widest = names.map(|name| text_width(name, 14.0)).fold(100.0, f64::max);
        let area = Area {
            left: room.pick(widest.min(230.0) + 16.0, 0.0),
            right: room.width() - right,
            top: 0.0,
            bottom: top + pitch * count - 4.0,
        };
        Self { area, top, pitch, height }
    }

    /// The upper edge of a row.
    pub(crate) fn y(&self, row: u32) -> f64 {
        self.top + f64::from(row) * self.pitch
    }

    /// A row's name: left of it, or above it where room is narrow.
    /// `narrow_px` is what it may take up there.
    pub(crate) fn name(
        &self,
        room: Room,
        y: f64,
        name: &str,
        title: Option<&str>,
        narrow_px: f64,
    ) -> Markup {
        match room {
            Room::Wide => {
                let x = self.area.left - 16.0;
                html! {
                    text.n.end x=(Px(x)) y=(Px(y + self.height / 2.0 + 5.0)) {
                        (fitted(name, 14.0, x)) @if let Some(title) = title { title { (title) } }
                    }
                }
            }
            Room::Narrow => html! {
                text.n x="0" y=(Px(y - 6.0)) { (fitted(name, 13.0, narrow_px)) }
            },
        }
    }
}

/// A line's end, which gets a mark and a label in the right margin.
#[derive(Debug, Clone)]
pub(crate) struct LineEnd {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) identity: Identity,
    /// The classes of its group: the arm's.
    pub(crate) class: String,
    /// The arm's name, in bold.
    pub(crate) name: String,
    /// What follows the name.
    pub(crate) value: String,
    /// What a pointer over the mark gets.
    pub(crate) title: String,
    /// Whether the line goes on past the edge of the chart.
    pub(crate) goes_on: bool,
}

/// Room that labels of such names and values need at the right.
pub(crate) fn margin<'a>(room: Room, labels: impl Iterator<Item = (&'a str, &'a str)>) -> f64 {
    let font = room.font_px();
    let widest = labels
        .map(|(name, value)| {
            text_width(name, font * 1.06) + room.pick(text_width(value, font) + 8.0, 0.0)
        })
        .fold(0.0, f64::max);
    (widest + 30.0).min(room.pick(300.0, 160.0))
}

/// The area of a chart of lines, high enough for a label per line, which stand in its right margin.
pub(crate) fn line_area(room: Room, labels: &[(&str, String)]) -> Area {
    let margin = margin(room, labels.iter().map(|(name, value)| (*name, value.as_str())));
    let height = room.pick(330.0_f64, 280.0);
    Area {
        left: room.pick(66.0, 50.0),
        right: room.width() - margin,
        top: 14.0,
        bottom: height.max(20.0 + 19.0 * labels.len() as f64),
    }
}

/// Marks at the ends of lines and labels in the right margin, with leaders
/// from one to the other. No label covers another.
pub(crate) fn ends(room: Room, area: Area, ends: &[LineEnd]) -> Markup {
    let font = room.font_px();
    let wanted: Vec<f64> = ends.iter().map(|end| end.y).collect();
    let placed = labels::spread(&wanted, font + 5.0, area.top + 2.0, area.bottom + 2.0);
    let label_x = area.right + 24.0;
    let width = room.width() - label_x;
    html! {
        @for (end, y) in ends.iter().zip(&placed) {
            g class=(end.class) {
                @let from = end.x + if end.goes_on { 0.0 } else { 8.0 };
                @let leader = Path::line([(from, end.y), (area.right + 4.0, end.y), (label_x - 5.0, *y)]);
                path.leader d=(leader.as_str()) {}
                @if end.goes_on {
                    @let tip = Path::outline([(end.x - 1.0, end.y - 5.0), (end.x + 7.0, end.y), (end.x - 1.0, end.y + 5.0)]);
                    path.mark d=(tip.as_str()) { title { (end.title) } }
                } @else {
                    (mark(end.identity, end.x, end.y, 5.5, Some(&end.title)))
                }
                text.v x=(Px(label_x)) y=(Px(y + font * 0.35)) {
                    @let value = if room == Room::Wide { end.value.as_str() } else { "" };
                    @let taken = room.pick(text_width(value, font) + 8.0, 0.0);
                    tspan.n { (fitted(&end.name, font * 1.06, width - taken)) }
                    @if !value.is_empty() { tspan dx="7" { (value) } }
                    title { (end.title) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::svg::scale::Unit;

    #[test]
    fn the_unit_stands_at_the_last_tick() {
        let scale = Scale::linear((0.0, 0.32), (0.0, 320.0));
        let ticks = unit_ticks(&scale, 4, Unit::of_seconds(0.32));
        let labels: Vec<_> = ticks.iter().map(|tick| tick.label.as_str()).collect();
        assert_eq!(labels, ["0", "100", "200", "300 ms"]);
        assert!((ticks[1].at - 100.0).abs() < 1e-9);
    }

    #[test]
    fn an_axis_is_one_path_of_rules_and_its_labels() {
        let area = Area { left: 40.0, right: 100.0, top: 0.0, bottom: 50.0 };
        let drawn = y_axis(area, &[Tick::new(50.0, "0"), Tick::new(0.0, "5 ms")]).into_string();
        insta::assert_snapshot!(drawn, @r#"<g class="axis"><path class="rule" d="M40 50L100 50M40 0L100 0"></path><text class="t" x="32" y="54" text-anchor="end">0</text><text class="t" x="32" y="4" text-anchor="end">5 ms</text></g>"#);
    }

    #[test]
    fn equal_ends_get_labels_apart() {
        let end = |name: &str| LineEnd {
            x: 90.0,
            y: 20.0,
            identity: Identity::of(&crate::fixture::arm("async:32")),
            class: "arm".into(),
            name: name.into(),
            value: String::new(),
            title: String::new(),
            goes_on: false,
        };
        let area = Area { left: 40.0, right: 200.0, top: 0.0, bottom: 50.0 };
        let drawn = ends(Room::Narrow, area, &[end("a"), end("b")]).into_string();
        let ys: Vec<f64> = drawn
            .split("<text")
            .skip(1)
            .map(|rest| {
                rest.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
            })
            .collect();
        assert!(ys[1] - ys[0] >= 12.0, "{drawn}");
    }
}
