//! What does each cost, and how sure is that? A forest plot for each outcome.

use maud::{Markup, html};

use super::{
    identity::description,
    svg::{
        Anchor, Path, Px, fitted, mark,
        plot::{Area, Drawing, Room, Tick, for_both, x_axis, x_title},
        scale::{Scale, cut, ratio_label, ratio_ticks, trimmed},
        text, text_width,
    },
    view::{ArmRow, StudyView},
};
use crate::{
    format,
    record::{Metric, Outcome},
    statistics::by_block,
    text::{Finding, figure, finding, named},
};

/// How many times further off than the next an arm must be to get a part of the axis of its own.
const FAR: f64 = 4.0;
/// Radius of the dot of a single block, in pixels; half of what the style sheet strokes.
const DOT: f64 = 2.4;
/// Radius of the mark of an estimate, in pixels.
const MARK: f64 = 6.5;
/// Half the height of an interval's ends.
const CAP: f64 = 5.0;

/// One arm and one outcome.
struct ForestRow<'a> {
    row: &'a ArmRow<'a>,
    outcome: Outcome,
    /// The arm's figure over the baseline's, and the interval of the whole family.
    ratio: Option<f64>,
    ends: Option<(f64, f64)>,
    /// What the comparison says; `None` for the baseline and without one.
    found: Option<Finding>,
    /// The same for every block in which both ran.
    blocks: Vec<f64>,
}

/// The plots of all outcomes that are known.
pub(super) fn forest(view: &StudyView<'_>) -> Markup {
    let known = view.baseline().filter(|row| !row.summary.trials.is_empty());
    let Some(baseline) = known else {
        return html! { p.missing { "The baseline has no trial that may be compared, so nothing can be said about who is faster. The reasons stand with the trials, below." } };
    };
    let plots: Vec<(Outcome, Vec<ForestRow<'_>>, Axis)> = Outcome::ALL
        .into_iter()
        .filter_map(|outcome| {
            let rows = ForestRow::all(view, baseline, outcome);
            let axis = Axis::new(&rows);
            let compared = |row: &ForestRow<'_>| row.ratio.is_some() && !row.row.summary.baseline;
            rows.iter().any(compared).then_some((outcome, rows, axis))
        })
        .collect();
    let margin = view.study.analysis.margin;
    let cut = plots.iter().any(|(_, _, axis)| axis.panels.len() > 1);
    let caption = html! { p.caption {
        "A big mark is an arm's figure divided by that of " b { (baseline.name()) }
        ", the bar an interval that holds for all tested arms and outcomes together with 95 % confidence (where an arm was not tested, for that alone), a dot one block. Further left is less. Where a bar crosses the dashed line, the trials do not tell less from more."
        @if margin > 0.0 {
            " Within the shaded band (" (trimmed(margin * 100.0)) " %) a difference is negligible, beyond it relevant."
        }
        @if view.rows.iter().any(|row| row.arm().control) {
            " The arm that is there “again” is the baseline a second time: its bars show this machine's noise."
        }
        @if cut { " The axis is cut at the gap, since what lies beyond is far off." }
    } };
    html! {
        @for (outcome, rows, axis) in &plots {
            h3 { (heading(*outcome)) }
            (for_both(&format!("{} of every arm compared with {}", heading(*outcome), baseline.name()), |room| {
                draw(rows, baseline, axis, margin, room)
            }))
        }
        @if plots.is_empty() { p.missing { "There is no other arm to compare the baseline with." } } @else { (caption) }
    }
}

/// What an outcome is called above its plot.
fn heading(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Time => "Time: start and makespan",
        Outcome::Cpu => "CPU per URL, after the start",
        Outcome::Memory => "Memory at its peak",
        Outcome::Switches => "Context switches",
    }
}

impl<'a> ForestRow<'a> {
    fn all(view: &'a StudyView<'a>, baseline: &ArmRow<'_>, outcome: Outcome) -> Vec<Self> {
        let metric = Metric::named(outcome.metric()).expect("the list of metrics has it");
        let reference = by_block(view.study, baseline.name(), metric);
        let usable = |ratio: f64| ratio.is_finite() && ratio > 0.0;
        let row = |row: &'a ArmRow<'a>| {
            let found = finding(view.study, row.name(), outcome);
            let found = found.filter(|found| usable(found.ratio) && !row.summary.baseline);
            // Without a comparison there are still the medians.
            let medians = || Some(row.summary.value(metric)? / baseline.summary.value(metric)?);
            let ratio = found.map(|found| found.ratio).or_else(medians);
            let ends = found.and_then(|found| found.ends);
            let own = by_block(view.study, row.name(), metric).into_iter();
            let blocks = own.filter_map(|(block, figure)| {
                let ratio = figure / reference.get(&block)?;
                (usable(ratio) && !row.summary.baseline).then_some(ratio)
            });
            Self {
                row,
                outcome,
                ratio: ratio.filter(|ratio| usable(*ratio)),
                ends: ends.filter(|(l, h)| usable(*l) && usable(*h) && l <= h),
                found,
                blocks: blocks.collect(),
            }
        };
        view.rows.iter().map(row).collect()
    }

    /// What the row's figures come to, in a few words.
    fn verdict(&self) -> String {
        let row = self.row;
        match self.found {
            _ if row.summary.baseline => "the reference".to_owned(),
            _ if row.summary.trials.is_empty() => "no trial counts".to_owned(),
            _ if !row.summary.fetches() => "fetches nothing: not tested".to_owned(),
            Some(found) => found.words(),
            None => "not tested".to_owned(),
        }
    }

    /// The ratio and its interval in words.
    fn figures(&self) -> (String, String) {
        self.ratio.map_or(("no figure".to_owned(), String::new()), |ratio| {
            format::ratio_and_interval(ratio, self.ends)
        })
    }

    fn title(&self) -> String {
        let (ratio, ends) = self.figures();
        let mut title = format!("{}: {ratio}", self.row.name());
        if !ends.is_empty() {
            title += &format!(", 95 % interval {ends}");
        }
        let own = figure(&self.row.summary, self.outcome);
        format!("{title}, usually {own}; {}", self.verdict())
    }
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
    fn new(rows: &[ForestRow<'_>]) -> Self {
        let values: Vec<f64> = rows.iter().filter_map(|row| row.ratio).collect();
        let inverse: Vec<f64> = values.iter().map(|value| 1.0 / value).collect();
        // The reference line must stay in the main panel.
        let cut = |values: &[f64]| cut(values, FAR).filter(|top| *top >= 1.0);
        let top = cut(&values).unwrap_or(f64::INFINITY);
        let bottom = cut(&inverse).map_or(0.0, |top| 1.0 / top);
        let main_domain = |range: Option<(f64, f64)>| {
            let (low, high) = range.unwrap_or((1.0, 1.0));
            padded(low.min(0.93), high.max(1.08), 1.0)
        };
        let near = extent(rows, |value| value >= bottom && value <= top);
        let mut panels = vec![(main_domain(near), 1.0)];
        let mut main = 0;
        if let Some((low, high)) = extent(rows, |value| value > top) {
            panels.push((padded(low, high, 1.25), 0.16));
        }
        if let Some((low, high)) = extent(rows, |value| value < bottom) {
            panels.insert(0, (padded(low, high, 1.25), 0.16));
            main = 1;
        }
        // Where wide intervals leave no gap, there is nothing to cut out.
        let no_gap = |pair: &[((f64, f64), f64)]| pair[1].0.0 < pair[0].0.1 * 1.5;
        if panels.windows(2).any(no_gap) {
            panels = vec![(main_domain(extent(rows, |_| true)), 1.0)];
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
fn extent(rows: &[ForestRow<'_>], within: impl Fn(f64) -> bool) -> Option<(f64, f64)> {
    let rows = rows.iter().filter(|row| row.ratio.is_some_and(&within));
    let figures = rows.flat_map(|row| {
        let ends = row.ends.into_iter().flat_map(|(low, high)| [low, high]);
        row.ratio.into_iter().chain(ends).chain(row.blocks.iter().copied())
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
    fn new(rows: &[ForestRow<'_>], room: Room) -> Self {
        let top = 34.0;
        let pitch = room.pick(46.0, 78.0);
        let names = rows.iter().map(|ForestRow { row, .. }| {
            text_width(row.name(), 14.0).max(text_width(&description(row.arm()), 12.0))
        });
        let left = names.fold(120.0, f64::max).min(250.0) + 22.0;
        Self {
            area: Area {
                left: room.pick(left, 8.0),
                right: room.width() - room.pick(214.0, 8.0),
                top,
                bottom: top + pitch * rows.len() as f64 + 4.0,
            },
            pitch,
            mark: room.pick(19.0, 52.0),
            figures_x: room.width() - room.pick(190.0, 0.0),
        }
    }
}

fn draw(
    rows: &[ForestRow<'_>],
    baseline: &ArmRow<'_>,
    axis: &Axis,
    margin: f64,
    room: Room,
) -> Drawing {
    let layout = ForestLayout::new(rows, room);
    let area = layout.area;
    let scales = axis.scales(area.left, area.right);
    let main = scales[axis.main];
    let one = main.at(1.0);
    let outcome = rows.first().map_or("", |row| named(row.outcome));
    let title = format!("{outcome} against {} (log scale)", baseline.name());
    let content = html! {
        (band(margin, &main, area))
        @for (at, scale) in scales.iter().enumerate() {
            @let (low, high) = scale.domain();
            @let most = if at == axis.main { room.pick(8, 5) } else { 1 };
            @let ticks = ratio_ticks(low, high, most);
            @let ticks: Vec<Tick> = ticks.into_iter().map(|ratio| Tick::new(scale.at(ratio), ratio_label(ratio))).collect();
            (x_axis(Area { left: scale.range().0, right: scale.range().1, ..area }, &ticks))
            @if at > 0 { (gap(scale.range().0 - 13.0, area)) }
        }
        path.reference d={ "M" (Px(one)) " " (Px(area.top - 6.0)) "V" (Px(area.bottom)) } {}
        (text("t", one - 8.0, area.top - 14.0, Anchor::End, "◀ less"))
        (text("t", one + 8.0, area.top - 14.0, Anchor::Start, "more ▶"))
        @for (row, at) in rows.iter().zip(0_u32..) {
            @let y = area.top + 4.0 + f64::from(at) * layout.pitch;
            g class=(row.row.class()) {
                (labels(row, &layout, room, y))
                (estimate(row, &scales, axis.main, y + layout.mark))
            }
        }
        (x_title(area, 42.0, &fitted(&title, 12.0, room.width() - 20.0)))
    };
    (area.bottom + 50.0, content)
}

/// The differences that are negligible: the same factor both ways.
fn band(margin: f64, scale: &Scale, area: Area) -> Markup {
    let (low, high) = (scale.clamped(1.0 / (1.0 + margin)), scale.clamped(1.0 + margin));
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

fn labels(at: &ForestRow<'_>, layout: &ForestLayout, room: Room, y: f64) -> Markup {
    let row = at.row;
    let own = figure(&row.summary, at.outcome);
    let (ratio, ends) = at.figures();
    let beside = room.pick("8", "6");
    let figures = html! {
        @if row.summary.baseline { tspan.n { (own) } } @else {
            tspan.n { (ratio) }
            @if !ends.is_empty() { tspan dx=(beside) { "(" (ends) ")" } }
        }
    };
    let verdict = at.verdict();
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

/// The interval, the mark and the single blocks.
fn estimate(row: &ForestRow<'_>, scales: &[Scale], main: usize, y: f64) -> Markup {
    let at = |ratio: f64| place(scales, main, ratio);
    let mut dots = Path::default();
    for (x, down) in swarm(&row.blocks.iter().map(|ratio| at(*ratio)).collect::<Vec<_>>()) {
        dots.move_to(x, y + 12.5 + down).across(0.0);
    }
    html! {
        @if let Some(ratio) = row.ratio {
            @if let Some((low, high)) = row.ends {
                @let mut bar = Path::default();
                @let _ = bar.move_to(at(low), y).across_to(at(high));
                // Ends that the mark would cover in part are clutter.
                @if at(high) - at(low) > 2.0 * MARK + 6.0 {
                    @let _ = bar.move_to(at(low), y - CAP).down_to(y + CAP).move_to(at(high), y - CAP).down_to(y + CAP);
                }
                path.interval d=(bar.as_str()) {}
            }
            path.dots d=(dots.as_str()) {}
            (mark(row.row.identity, at(ratio), y, MARK, Some(&row.title())))
        }
    }
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
        let panels = |study: &Study| {
            let view = StudyView::new(study);
            Axis::new(&ForestRow::all(&view, view.baseline().unwrap(), Outcome::Time)).panels.len()
        };
        let mut study = crate::fixture::study();
        assert_eq!(panels(&study), 2);
        for comparison in study.comparisons.iter_mut().filter(|c| c.arm == "sequential") {
            (comparison.ci_low, comparison.family_low) = (Some(1.1), Some(1.1));
            comparison.family_high = comparison.ci_high;
        }
        assert_eq!(panels(&study), 1);
    }

    #[test]
    fn invalid_and_discarded_trials_enter_no_picture() {
        let mut study = crate::fixture::study();
        let spoilt =
            |trial: &&mut crate::record::TrialRecord| trial.arm == "threads:32" && trial.block > 2;
        for trial in study.trials.iter_mut().filter(spoilt) {
            trial.valid = false;
            trial.makespan_s = Some(1e3);
        }
        let view = StudyView::new(&study);
        let rows = ForestRow::all(&view, view.baseline().unwrap(), Outcome::Time);
        let row = rows.iter().find(|row| row.row.name() == "threads:32").unwrap();
        assert_eq!(row.blocks.len(), 2);
        assert!(row.blocks.iter().all(|ratio| *ratio < 2.0));
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
