//! Stacked bars: a row an arm, a colour a part.

use maud::{Markup, html};

use super::{
    svg::{
        Anchor, Px, onward,
        plot::{ChartRows, Drawing, Room, for_both, unit_ticks, x_axis, x_title},
        scale::{Scale, Unit, time_limit},
        text,
    },
    view::ArmRow,
};
use crate::format;

/// One of the parts that bars are stacked of, in the order in which they happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Its colour: the name of that of a phase.
    pub(super) colour: &'static str,
    /// What it is.
    pub(super) name: &'static str,
}

/// One arm's bar: seconds by part.
pub(super) struct Bar<'a> {
    pub(super) row: &'a ArmRow<'a>,
    pub(super) parts: Vec<f64>,
}

impl Bar<'_> {
    fn total(&self) -> f64 {
        self.parts.iter().sum()
    }
}

/// A chart of bars on one axis.
pub(super) struct Bars<'a> {
    /// What a bar shows, below the axis.
    title: &'static str,
    parts: &'static [Part],
    bars: Vec<Bar<'a>>,
    /// Where the axis is cut, if it is.
    limit: f64,
}

/// The parts' colours and names.
pub(super) fn legend(parts: &[Part], failures: bool) -> Markup {
    html! {
        ul.phases {
            @for part in parts { li { i class={ "ph-" (part.colour) } {} (part.name) } }
            @if failures { li { i.ph-failed {} "red cap: failed" } }
        }
    }
}

impl<'a> Bars<'a> {
    /// `None` without a bar.
    pub(super) fn new(
        title: &'static str,
        parts: &'static [Part],
        bars: Vec<Bar<'a>>,
    ) -> Option<Self> {
        let totals: Vec<f64> = bars.iter().map(Bar::total).collect();
        let limit = time_limit(&totals, 1.12);
        (!bars.is_empty()).then_some(Self { title, parts, bars, limit })
    }

    pub(super) fn chart(&self) -> Markup {
        html! {
            (legend(self.parts, false))
            (for_both(self.title, |room| self.draw(room)))
        }
    }

    /// Which bars go on past the axis, in a sentence each.
    pub(super) fn cuts(&self) -> Markup {
        html! {
            @for bar in self.bars.iter().filter(|bar| bar.total() > self.limit) {
                " The bar of " b { (bar.row.name()) } " is cut: it goes on to " (format::duration(bar.total())) "."
            }
        }
    }

    fn draw(&self, room: Room) -> Drawing {
        let names = self.bars.iter().map(|bar| bar.row.name());
        let (size, margins) = room.pick(((36.0, 22.0), (8.0, 110.0)), ((54.0, 22.0), (24.0, 10.0)));
        let rows = ChartRows::new(room, names, size, margins);
        let area = rows.area;
        let unit = Unit::of_seconds(self.limit);
        let is_cut = |bar: &Bar<'_>| bar.total() > self.limit;
        let end = if self.bars.iter().any(is_cut) { self.limit } else { unit.axis_end(self.limit) };
        let x = Scale::linear((0.0, end), (area.left, area.right));
        let content = html! {
            (x_axis(area, &unit_ticks(&x, room.pick(7, 4), unit)))
            (x_title(area, 40.0, self.title))
            @for (bar, at) in self.bars.iter().zip(0_u32..) {
                @let y = rows.y(at);
                @let total = format::duration(bar.total());
                g class=(bar.row.class()) {
                    (self.stack(bar, &x, y, rows.height))
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

    fn stack(&self, bar: &Bar<'_>, x: &Scale, y: f64, height: f64) -> Markup {
        let mut from = 0.0;
        let parts = self.parts.iter().zip(&bar.parts).map(|(part, seconds)| {
            let begins = from;
            from += seconds;
            (part, begins, *seconds)
        });
        html! {
            @for (part, begins, seconds) in parts {
                @let (left, right) = (x.clamped(begins), x.clamped(begins + seconds));
                @if right - left >= 0.05 {
                    rect class={ "ph-" (part.colour) } x=(Px(left)) y=(Px(y)) width=(Px(right - left)) height=(Px(height)) {
                        title { (bar.row.name()) ", " (part.name) ": " (format::duration(seconds)) " (" (format::percent(seconds / bar.total())) ")" }
                    }
                }
            }
            @if bar.total() > x.domain().1 * (1.0 + 1e-9) {
                (onward(x.range().1, y + height / 2.0, &format!("goes on to {}", format::duration(bar.total()))))
            }
        }
    }
}
