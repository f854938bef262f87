//! Who is faster, and how sure are we?

use maud::{Markup, html};

use super::{
    identity::description,
    svg::{
        Anchor, Path, Px, fitted, mark,
        plot::{Area, Drawing, Room, Tick, for_both, x_axis, x_title},
        scale::{Scale, cut, ratio_label, ratio_ticks, trimmed},
        text, text_width,
    },
    view::{ArmRow, Ratio, StudyView},
};
use crate::{format, record::Verdict, text::counted};

/// How many times further off than the next an arm must be to get a part of the axis of its own.
const FAR: f64 = 4.0;
/// Radius of the dot of a single run, in pixels.
const DOT: f64 = 2.4;
/// Radius of the mark of an estimate, in pixels.
const MARK: f64 = 6.5;
/// Half the height of an interval's ends.
const CAP: f64 = 5.0;

pub(super) fn forest(view: &StudyView<'_>) -> Markup {
    let Some(baseline) = view.baseline().filter(|row| row.ratio.is_some()) else {
        return html! { p.missing { "The baseline has no trial that may be compared, so nothing can be said about who is faster. The reasons stand with the trials, below." } };
    };
    let axis = Axis::new(view);
    let chart =
        for_both(&format!("Total time of every arm compared with {}", baseline.name()), |room| {
            draw(view, baseline, &axis, room)
        });
    let margin = view.study.analysis.margin;
    let caption = html! { p.caption {
        "A big mark is an arm's total time divided by that of " b { (baseline.name()) }
        ", the bar its 95 % interval, a dot one block. Further left is better; where a bar crosses the dashed line, we cannot tell."
        @if margin > 0.0 {
            " Within the shaded band (±" (trimmed(margin * 100.0)) " %) a difference is too small to matter."
        }
        @if axis.panels.len() > 1 {
            " The axis is cut at the gap, since what lies beyond is far off."
        }
    } };
    html! { (chart) (caption) }
}

/// The ratio axis in its panels, left to right: usually one; arms that are far
/// off have a small one of their own, so that they do not squash the others.
#[derive(Debug)]
struct Axis {
    /// (lowest, highest) ratio and the share of the width.
    panels: Vec<((f64, f64), f64)>,
    main: usize,
}

impl Axis {
    fn new(view: &StudyView<'_>) -> Self {
        let ratios = view.rows.iter().filter_map(|row| row.ratio);
        let values: Vec<f64> = ratios.map(|ratio| ratio.value).collect();
        let inverse: Vec<f64> = values.iter().map(|value| 1.0 / value).collect();
        // The reference line must stay in the main panel.
        let cut = |values: &[f64]| cut(values, FAR).filter(|top| *top >= 1.0);
        let top = cut(&values).unwrap_or(f64::INFINITY);
        let bottom = cut(&inverse).map_or(0.0, |top| 1.0 / top);
        let main_domain = |range: Option<(f64, f64)>| {
            let (low, high) = range.unwrap_or((1.0, 1.0));
            padded(low.min(0.93), high.max(1.08), 1.0)
        };
        let near = extent(view, |value| value >= bottom && value <= top);
        let mut panels = vec![(main_domain(near), 1.0)];
        let mut main = 0;
        if let Some((low, high)) = extent(view, |value| value > top) {
            panels.push((padded(low, high, 1.25), 0.16));
        }
        if let Some((low, high)) = extent(view, |value| value < bottom) {
            panels.insert(0, (padded(low, high, 1.25), 0.16));
            main = 1;
        }
        // Where wide intervals leave no gap, there is nothing to cut out.
        let no_gap = |pair: &[((f64, f64), f64)]| pair[1].0.0 < pair[0].0.1 * 1.5;
        if panels.windows(2).any(no_gap) {
            panels = vec![(main_domain(extent(view, |_| true)), 1.0)];
            main = 0;
        }
        Self { panels, main }
    }

    /// The scales of the panels between two edges.
    fn scales(&self, left: f64, right: f64) -> Vec<Scale> {
        const GAP: f64 = 26.0;
        let panels = self.panels.iter().enumerate();
        let others = panels.clone().filter(|(at, _)| *at != self.main);
        let others: f64 = others.map(|(_, panel)| panel.1).sum();
        let room = right - left - GAP * (self.panels.len() - 1) as f64;
        let mut from = left;
        let scales = panels.map(|(at, (domain, share))| {
            let share = if at == self.main { 1.0 - others } else { *share };
            let width = room * share;
            let scale = Scale::log(*domain, (from, from + width));
            from += width + GAP;
            scale
        });
        scales.collect()
    }
}

/// The lowest and the highest of all that is drawn of the arms within a range.
fn extent(view: &StudyView<'_>, within: impl Fn(f64) -> bool) -> Option<(f64, f64)> {
    let rows = view.rows.iter();
    let rows = rows.filter_map(|row| Some((row, row.ratio.filter(|r| within(r.value))?)));
    let figures = rows.flat_map(|(row, ratio)| {
        let ends = ratio.interval.into_iter().flat_map(|(l, h)| [l, h]);
        let runs = row.runs.iter().map(|run| run.ratio);
        [ratio.value].into_iter().chain(ends).chain(runs)
    });
    figures.map(|figure| (figure, figure)).reduce(|(low, high), (l, h)| (low.min(l), high.max(h)))
}

/// A range with air around it, at least `least` between its ends.
fn padded(low: f64, high: f64, least: f64) -> (f64, f64) {
    let widen = (least / (high / low)).max(1.0).sqrt();
    let air = (high / low * widen * widen).powf(0.06).max(1.01);
    (low / widen / air, high * widen * air)
}

/// The place of a ratio: in the panel that holds it, else in the nearest.
fn place(scales: &[Scale], main: usize, ratio: f64) -> f64 {
    scales
        .iter()
        .find(|scale| scale.holds(ratio))
        .or_else(|| scales.get(main))
        .map_or(0.0, |scale| scale.clamped(ratio))
}

/// Where things stand in a row of either room.
struct ForestLayout {
    area: Area,
    pitch: f64,
    /// Below the row's top: where the mark's middle is.
    mark: f64,
    figures_x: f64,
}

impl ForestLayout {
    fn new(view: &StudyView<'_>, room: Room) -> Self {
        let top = 34.0;
        let pitch = room.pick(54.0, 78.0);
        let names = view
            .rows
            .iter()
            .map(|row| text_width(row.name(), 14.0).max(text_width(&description(row.arm()), 12.0)));
        let left = names.fold(120.0, f64::max).min(250.0) + 22.0;
        Self {
            area: Area {
                left: room.pick(left, 8.0),
                right: room.width() - room.pick(214.0, 8.0),
                top,
                bottom: top + pitch * view.rows.len() as f64 + 4.0,
            },
            pitch,
            mark: room.pick(22.0, 52.0),
            figures_x: room.width() - room.pick(190.0, 0.0),
        }
    }
}

fn draw(view: &StudyView<'_>, baseline: &ArmRow<'_>, axis: &Axis, room: Room) -> Drawing {
    let layout = ForestLayout::new(view, room);
    let area = layout.area;
    let scales = axis.scales(area.left, area.right);
    let main = scales[axis.main];
    let one = main.at(1.0);
    let content = html! {
        (band(view.study.analysis.margin, &main, area))
        @for (at, scale) in scales.iter().enumerate() {
            @let (low, high) = scale.domain();
            @let most = if at == axis.main { room.pick(8, 5) } else { 1 };
            @let ticks = ratio_ticks(low, high, most);
            @let ticks: Vec<Tick> = ticks.into_iter().map(|ratio| Tick::new(scale.at(ratio), ratio_label(ratio))).collect();
            (x_axis(Area { left: scale.range().0, right: scale.range().1, ..area }, &ticks))
            @if at > 0 { (gap(scale.range().0 - 13.0, area)) }
        }
        path.reference d={ "M" (Px(one)) " " (Px(area.top - 6.0)) "V" (Px(area.bottom)) } {}
        (text("t", one - 8.0, area.top - 14.0, Anchor::End, "◀ faster"))
        (text("t", one + 8.0, area.top - 14.0, Anchor::Start, "slower ▶"))
        @for (row, at) in view.rows.iter().zip(0_u32..) {
            @let y = area.top + 4.0 + f64::from(at) * layout.pitch;
            g class=(row.class()) {
                (labels(row, &layout, room, y))
                (estimate(row, &scales, axis.main, y + layout.mark))
            }
        }
        (x_title(area, 42.0, &fitted(&format!("total time compared with {} (log scale)", baseline.name()), 12.0, room.width() - 20.0)))
    };
    (area.bottom + 50.0, content)
}

/// The differences that count as none.
fn band(margin: f64, scale: &Scale, area: Area) -> Markup {
    let (low, high) = (scale.clamped(1.0 - margin), scale.clamped(1.0 + margin));
    html! {
        @if margin > 0.0 {
            rect.band x=(Px(low)) y=(Px(area.top)) width=(Px(high - low)) height=(Px(area.bottom - area.top)) {}
        }
    }
}

/// Two strokes where the axis is cut.
fn gap(x: f64, area: Area) -> Markup {
    let mut path = Path::default();
    for y in [area.top, area.bottom] {
        for dx in [-4.0, 3.0] {
            path.move_to(x + dx - 3.0, y + 6.0).line_to(x + dx + 4.0, y - 6.0);
        }
    }
    html! { path.gap d=(path.as_str()) { title { "The axis is cut here." } } }
}

fn labels(row: &ArmRow<'_>, layout: &ForestLayout, room: Room, y: f64) -> Markup {
    let figure = match row.ratio {
        _ if row.summary.baseline => "1×".to_owned(),
        None => "no figure".to_owned(),
        Some(ratio) => format::ratio(ratio.value),
    };
    let beside = room.pick("8", "6");
    let figures = html! {
        tspan.n { (figure) }
        @if let Some((low, high)) = row.ratio.and_then(|ratio| ratio.interval) {
            tspan dx=(beside) { "(" (format::ratio_interval(low, high)) ")" }
        }
        @if row.summary.baseline { tspan dx=(beside) { (format::duration(row.makespan_s().unwrap_or(f64::NAN))) } }
    };
    let verdict = verdict_words(row);
    let x = layout.figures_x;
    match room {
        Room::Wide => {
            let (left, y) = (layout.area.left - 22.0, y + layout.mark);
            html! {
                text.n.end x=(Px(left)) y=(Px(y - 1.0)) { (fitted(row.name(), 14.0, left)) title { (row.name()) } }
                (text("t small", left, y + 15.0, Anchor::End, &fitted(&description(row.arm()), 12.0, left)))
                text.v x=(Px(x)) y=(Px(y - 1.0)) { (figures) }
                (text("t small", x, y + 15.0, Anchor::Start, &verdict))
            }
        }
        Room::Narrow => {
            let free = x - text_width(&verdict, 11.5) - 8.0;
            html! {
                text.n x="0" y=(Px(y + 16.0)) { (fitted(row.name(), 13.0, 190.0)) title { (row.name()) } }
                text.v.end x=(Px(x)) y=(Px(y + 16.0)) { (figures) }
                (text("t small", 0.0, y + 32.0, Anchor::Start, &fitted(&description(row.arm()), 11.5, free)))
                (text("t small", x, y + 32.0, Anchor::End, &verdict))
            }
        }
    }
}

/// What a row's figures come to, in a few words.
fn verdict_words(row: &ArmRow<'_>) -> String {
    let words = match row.ratio.and_then(|ratio| ratio.verdict) {
        _ if row.summary.baseline => "the reference",
        _ if row.summary.trials.is_empty() => "no valid trial",
        _ if row.arm().control => "control: the same again",
        Some(Verdict::Faster) => "faster",
        Some(Verdict::Slower) => "slower",
        Some(Verdict::Equivalent) => "alike, within the margin",
        Some(Verdict::Inconclusive) => "we cannot tell",
        Some(Verdict::Estimate) | None if !row.summary.fetches() => "fetches nothing: not tested",
        Some(Verdict::Estimate) | None => {
            let blocks = counted(row.summary.trials.len() as u64, "block");
            return format!("not tested: {blocks}");
        }
    };
    words.to_owned()
}

/// The interval, the mark and the single runs.
fn estimate(row: &ArmRow<'_>, scales: &[Scale], main: usize, y: f64) -> Markup {
    let at = |ratio: f64| place(scales, main, ratio);
    html! {
        @if let Some(ratio) = row.ratio {
            @if let Some((low, high)) = ratio.interval {
                @let mut bar = Path::default();
                @let _ = bar.move_to(at(low), y).across_to(at(high));
                // Ends that the mark would cover in part are clutter.
                @if at(high) - at(low) > 2.0 * MARK + 6.0 {
                    @let _ = bar.move_to(at(low), y - CAP).down_to(y + CAP).move_to(at(high), y - CAP).down_to(y + CAP);
                }
                path.interval d=(bar.as_str()) {}
            }
            @if !row.summary.baseline {
                @for (run, (x, down)) in row.runs.iter().zip(swarm(&row.runs.iter().map(|run| at(run.ratio)).collect::<Vec<_>>())) {
                    circle.dot cx=(Px(x)) cy=(Px(y + 12.5 + down)) r=(DOT) {
                        title { (row.name()) ", block " (run.block) ": " (format::ratio(run.ratio)) " (" (format::duration(run.makespan_s)) ")" }
                    }
                }
            }
            (mark(row.identity, at(ratio.value), y, MARK, Some(&mark_title(row, ratio))))
        }
    }
}

fn mark_title(row: &ArmRow<'_>, ratio: Ratio) -> String {
    let mut title = format!("{}: {}", row.name(), format::ratio(ratio.value));
    if let Some((low, high)) = ratio.interval {
        title += &format!(", 95 % interval {}", format::ratio_interval(low, high));
    }
    if let Some(seconds) = row.makespan_s() {
        title += &format!(", typically {}", format::duration(seconds));
    }
    format!("{title}; {}", verdict_words(row))
}

/// Dots side by side: each in the first of three lines where it covers none.
fn swarm(places: &[f64]) -> Vec<(f64, f64)> {
    let mut lines: [Vec<f64>; 3] = Default::default();
    let placed = places.iter().map(|x| {
        let apart = |other: &f64| (other - x).abs() >= 2.0 * DOT + 0.4;
        let free = lines.iter().position(|line| line.iter().all(apart));
        let free = free.unwrap_or(0);
        lines[free].push(*x);
        (*x, free as f64 * (2.0 * DOT + 0.2))
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Study;
    use proptest::prelude::*;

    #[test]
    fn far_arms_get_a_panel_of_their_own_unless_intervals_leave_no_gap() {
        let panels = |study: &Study| Axis::new(&StudyView::new(study)).panels.len();
        let mut study = crate::fixture::study();
        assert_eq!(panels(&study), 2);
        for comparison in &mut study.comparisons {
            if comparison.arm == "sequential" {
                comparison.ci_low = Some(1.1);
            }
        }
        assert_eq!(panels(&study), 1);
    }

    #[test]
    fn dots_that_would_cover_one_another_move_down() {
        let places = swarm(&[10.0, 11.0, 30.0, 10.5]);
        let down: Vec<f64> = places.iter().map(|(_, down)| *down).collect();
        assert_eq!(down, [0.0, 5.0, 0.0, 10.0]);
    }

    proptest! {
        #[test]
        fn air_is_added_on_both_sides(low in 0.01..10.0f64, span in 1.0..50.0f64) {
            let (from, to) = padded(low, low * span, 1.25);
            prop_assert!(from < low && to > low * span && to / from >= 1.25);
        }
    }
}
