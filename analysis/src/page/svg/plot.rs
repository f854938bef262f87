//! The frame of a chart: its area, axes and the labels at the ends of lines.

use maud::{Markup, html};

use super::{Anchor, Path, Px, fitted, labels, mark, scale::Scale, text, text_width};
use crate::page::identity::Identity;

/// For which room a chart is drawn. Every chart is drawn for both, and the
/// style sheet shows one: so type is never shrunk on a phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// A window, or paper.
    Wide,
    /// A phone.
    Narrow,
}

impl Room {
    /// The chart's width in pixels of its own.
    #[must_use]
    pub fn width(self) -> f64 {
        match self {
            Self::Wide => 960.0,
            Self::Narrow => 360.0,
        }
    }

    /// The size of names and figures in a chart, in pixels.
    #[must_use]
    pub fn font_px(self) -> f64 {
        match self {
            Self::Wide => 13.0,
            Self::Narrow => 12.0,
        }
    }

    /// One of two.
    #[must_use]
    pub fn pick<T>(self, wide: T, narrow: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }

    fn class(self) -> &'static str {
        self.pick("wide", "narrow")
    }
}

/// A chart for both rooms. `label` tells a screen reader what it shows.
#[must_use]
pub fn for_both(label: &str, draw: impl Fn(Room) -> Drawing) -> Markup {
    html! {
        @for room in [Room::Wide, Room::Narrow] {
            @let drawing = draw(room);
            (figure(room.class(), room.width(), drawing.height, label, &drawing.content))
        }
    }
}

/// One drawing, as high as it says.
#[derive(Debug)]
pub struct Drawing {
    /// Its height in pixels.
    pub height: f64,
    /// What is in it.
    pub content: Markup,
}

/// A whole SVG that grows and shrinks with the room it gets.
#[must_use]
pub fn figure(class: &str, width: f64, height: f64, label: &str, content: &Markup) -> Markup {
    html! {
        svg.chart.(class) viewBox={ "0 0 " (Px(width)) " " (Px(height)) } role="img" aria-label=(label) {
            (content)
        }
    }
}

/// The area inside the axes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Left edge.
    pub left: f64,
    /// Right edge.
    pub right: f64,
    /// Upper edge.
    pub top: f64,
    /// Lower edge.
    pub bottom: f64,
}

/// A tick: where, and what is written there.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Its place.
    pub at: f64,
    /// What is written.
    pub label: String,
    /// What is written below, smaller.
    pub note: Option<String>,
}

impl Tick {
    /// A tick without a note.
    #[must_use]
    pub fn new(at: f64, label: impl Into<String>) -> Self {
        Self {
            at,
            label: label.into(),
            note: None,
        }
    }
}

/// Ticks of a scale whose figures are read in a unit; the unit's name stands at the last.
#[must_use]
pub fn unit_ticks(scale: &Scale, most: usize, unit: super::scale::Unit) -> Vec<Tick> {
    let in_units = Scale::linear(
        (scale.domain().0 / unit.size, scale.domain().1 / unit.size),
        scale.range(),
    );
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
#[must_use]
pub fn y_axis(area: Area, ticks: &[Tick]) -> Markup {
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
#[must_use]
pub fn x_axis(area: Area, ticks: &[Tick]) -> Markup {
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
#[must_use]
pub fn x_title(area: Area, below: f64, title: &str) -> Markup {
    text(
        "t",
        f64::midpoint(area.left, area.right),
        area.bottom + below,
        Anchor::Middle,
        title,
    )
}

fn rules(lines: impl Iterator<Item = ((f64, f64), (f64, f64))>) -> Markup {
    let mut path = Path::new();
    for ((x1, y1), (x2, y2)) in lines {
        path.move_to(x1, y1);
        path.line_to(x2, y2);
    }
    html! { path.rule d=(path.as_str()) {} }
}

/// A line's end, which gets a mark and a label in the right margin.
#[derive(Debug, Clone)]
pub struct LineEnd {
    /// Where the line ends.
    pub x: f64,
    /// Where the line ends.
    pub y: f64,
    /// How its mark identities.
    pub identity: Identity,
    /// The classes of its group: the arm's.
    pub class: String,
    /// The arm's name, in bold.
    pub name: String,
    /// What follows the name.
    pub value: String,
    /// What a pointer over the mark gets.
    pub title: String,
    /// Whether the line goes on past the edge of the chart.
    pub goes_on: bool,
}

/// Room that labels of such names and values need at the right.
#[must_use]
pub fn margin<'a>(room: Room, labels: impl Iterator<Item = (&'a str, &'a str)>) -> f64 {
    let font = room.font_px();
    let widest = labels
        .map(|(name, value)| {
            text_width(name, font * 1.06) + room.pick(text_width(value, font) + 8.0, 0.0)
        })
        .fold(0.0, f64::max);
    (widest + 30.0).min(room.pick(300.0, 132.0))
}

/// Marks at the ends of lines and labels in the right margin, with leaders
/// from one to the other. No label covers another.
#[must_use]
pub fn ends(room: Room, area: Area, ends: &[LineEnd]) -> Markup {
    let font = room.font_px();
    let wanted: Vec<f64> = ends.iter().map(|end| end.y).collect();
    let placed = labels::spread(&wanted, font + 5.0, area.top + 2.0, area.bottom + 2.0);
    let label_x = area.right + 24.0;
    let width = room.width() - label_x;
    html! {
        @for (end, y) in ends.iter().zip(&placed) {
            g class=(end.class) {
                @let mut leader = Path::new();
                @let _ = leader.move_to(end.x + if end.goes_on { 0.0 } else { 8.0 }, end.y).line_to(area.right + 4.0, end.y).line_to(label_x - 5.0, *y);
                path.leader d=(leader.as_str()) {}
                @if end.goes_on {
                    @let mut arrow = Path::new();
                    @let _ = arrow.move_to(end.x - 1.0, end.y - 5.0).line_to(end.x + 7.0, end.y).line_to(end.x - 1.0, end.y + 5.0).close();
                    path.mark d=(arrow.as_str()) { title { (end.title) } }
                } @else {
                    (mark(end.identity, end.x, end.y, 5.5, Some(&end.title)))
                }
                text.v x=(Px(label_x)) y=(Px(y + font * 0.35)) {
                    @match room {
                        Room::Wide => {
                            @let value_width = text_width(&end.value, font) + 8.0;
                            tspan.n { (fitted(&end.name, font * 1.06, width - value_width)) }
                            @if !end.value.is_empty() { tspan dx="7" { (end.value) } }
                        }
                        Room::Narrow => { tspan.n { (fitted(&end.name, font * 1.06, width)) } }
                    }
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
        let area = Area {
            left: 40.0,
            right: 100.0,
            top: 0.0,
            bottom: 50.0,
        };
        let drawn = y_axis(area, &[Tick::new(50.0, "0"), Tick::new(0.0, "5 ms")]).into_string();
        insta::assert_snapshot!(drawn, @r#"<g class="axis"><path class="rule" d="M40 50L100 50M40 0L100 0"></path><text class="t" x="32" y="54" text-anchor="end">0</text><text class="t" x="32" y="4" text-anchor="end">5 ms</text></g>"#);
    }

    #[test]
    fn equal_ends_get_labels_apart() {
        let end = |name: &str| LineEnd {
            x: 90.0,
            y: 20.0,
            identity: Identity::of(1, "async", "core"),
            class: "arm".into(),
            name: name.into(),
            value: String::new(),
            title: String::new(),
            goes_on: false,
        };
        let area = Area {
            left: 40.0,
            right: 200.0,
            top: 0.0,
            bottom: 50.0,
        };
        let drawn = ends(Room::Narrow, area, &[end("a"), end("b")]).into_string();
        let ys: Vec<f64> = drawn
            .split("<text")
            .skip(1)
            .map(|rest| {
                rest.split("y=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert!(ys[1] - ys[0] >= 12.0, "{drawn}");
    }
}
