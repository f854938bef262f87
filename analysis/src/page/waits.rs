//! Who waits when?
//!
//! One trial of every arm: above, how many of its slots were busy, and with
//! what; below, every request in its slot. All arms share one time axis, so
//! that going from one to the next shows what the model changes.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{
    bars::legend,
    identity::description,
    phases::PHASES,
    svg::{
        Anchor, Path, Px, onward,
        plot::{Area, ChartRows, Drawing, Room, for_both, unit_ticks, x_axis, x_title},
        scale::{Scale, Unit, time_limit},
        swatch, text, text_width,
    },
    view::{ArmRow, StudyView},
};
use crate::{
    format,
    record::{Request, TrialRecord},
    text::counted,
};

/// Most lanes drawn of one arm.
const LANES_MAX: usize = 16;
/// Most requests drawn of all arms together; the time axis ends where more would begin.
const REQUESTS_MAX: usize = 6000;
/// A lane wants this many pixels for a usual request.
const REQUEST_PX: f64 = 24.0;

/// Air at both ends of the lanes, for the labels of the time axis.
const TRACK_AIR: f64 = 8.0;

/// A slot: its fetcher's number and its own.
type SlotOfFetcher = (u32, u32);

/// One arm's trial.
struct RecordedRun<'a> {
    row: &'a ArmRow<'a>,
    trial: &'a TrialRecord,
    lanes: BTreeMap<SlotOfFetcher, Vec<&'a Request>>,
    /// Up to here every request is on record.
    known_s: f64,
    /// Whether that is the whole run.
    whole: bool,
}

pub(super) fn waits(view: &StudyView<'_>) -> Markup {
    let runs = view.subjects().filter_map(|row| RecordedRun::of(view, row));
    let runs: Vec<RecordedRun<'_>> = runs.collect();
    if runs.is_empty() {
        return html! { p.missing { "No trial has its single URLs on record." } };
    }
    let end_s = shared_end(&runs);
    let first = runs.iter().position(|run| run.row.summary.baseline);
    let first = first.unwrap_or(0);
    let px_per_s = px_per_s(&runs, end_s);
    let names_px = runs.iter().map(RecordedRun::names_px).fold(0.0, f64::max);
    let body = html! {
        (legend(&PHASES, true))
        (for_both("How many of each arm's slots were busy", |room| strips(&runs, end_s, room)))
        div.waits {
            div.tabs role="radiogroup" aria-label="URLs of which arm" {
                @for (at, run) in runs.iter().enumerate() {
                    label.chip {
                        input type="radio" name="waits" id={ "w" (run.row.id) } checked[at == first];
                        (swatch(run.row.identity)) span { (run.row.name()) }
                    }
                }
            }
            @for run in &runs {
                div class={ "pane p" (run.row.id) } { (lanes(run, end_s, px_per_s, names_px)) }
            }
        }
    };
    let caption = html! { p.caption {
        "Above: how many slots (places for a URL in flight) were busy. Below: every URL in its slot; switch between arms, the time axis stays. Much “waiting for the server” means that the server sets the pace; “idle” is time in which a slot fetched nothing, so little of it is good."
        " Every picture shows the same time, up to " (format::duration(end_s)) "."
        @if runs.iter().any(|run| run.goes_on(end_s)) { " ▸ marks a trial that goes on." }
    } };
    html! { (body) (caption) }
}

impl<'a> RecordedRun<'a> {
    /// The run of an arm that is drawn: one that counts, if there is one.
    fn of(view: &'a StudyView<'a>, row: &'a ArmRow<'a>) -> Option<Self> {
        let recorded = |trial: &&TrialRecord| !trial.requests.is_empty();
        let mut trials = view.study.trials.iter();
        let counted = row.summary.trials.iter().copied().find(recorded);
        let trial = counted
            .or_else(|| trials.find(|trial| trial.arm == row.arm().name && recorded(trial)))?;
        let mut lanes: BTreeMap<SlotOfFetcher, Vec<&Request>> = BTreeMap::new();
        let sane = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        for request in &trial.requests {
            if sane(request.start_s) && sane(request.duration_s) {
                let slot = (request.fetcher, request.slot);
                lanes.entry(slot).or_default().push(request);
            }
        }
        let whole = trial.requests.len() as u64 >= trial.urls();
        let ends = lanes.values().map(|lane| end_of_lane(lane));
        let known_s = if whole {
            ends.fold(0.0, f64::max)
        } else {
            // A slot does one request after the other, so nothing is missing in
            // any before the first of them has its last one on record.
            ends.fold(f64::INFINITY, f64::min)
        };
        for lane in lanes.values_mut() {
            lane.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        }
        (known_s > 0.0 && known_s.is_finite()).then_some(Self { row, trial, lanes, known_s, whole })
    }

    /// The lanes that are drawn.
    fn shown(&self) -> impl Iterator<Item = (SlotOfFetcher, &[&'a Request])> {
        let lanes = self.lanes.iter().take(LANES_MAX);
        lanes.map(|(slot, lane)| (*slot, lane.as_slice()))
    }

    /// Slots that the picture is about: all there were, or those on record.
    fn slots(&self) -> u64 {
        let on_record = self.lanes.len() as u64;
        if self.whole { self.row.arm().slots().max(on_record) } else { on_record }
    }

    /// Whether the run goes on past what is drawn of it.
    fn goes_on(&self, end_s: f64) -> bool {
        !self.whole || self.known_s > end_s * 1.001
    }

    fn finished(&self) -> f64 {
        let makespan = self.trial.fetch_makespan_s.or(self.trial.makespan_s);
        makespan.unwrap_or(self.known_s)
    }

    /// Share of the slots' time, up to the end, in which they were busy.
    fn occupancy(&self, end_s: f64) -> f64 {
        let end = self.known_s.min(end_s);
        let requests = self.lanes.values().flatten();
        let busy = requests.map(|r| (end_of(r).min(end) - r.start_s).max(0.0));
        busy.sum::<f64>() / end / self.slots() as f64
    }

    /// How many slots were in each phase, averaged over equal spans of time.
    fn busy(&self, end_s: f64, bins: usize) -> Vec<[f64; 3]> {
        let width = end_s / bins as f64;
        let mut sums = vec![[0.0; 3]; bins];
        for request in self.lanes.values().flatten() {
            for (which, (_, from, to)) in phases(request).into_iter().enumerate() {
                for (bin, sum) in sums.iter_mut().enumerate() {
                    let low = bin as f64 * width;
                    let covered = to.min(low + width) - from.max(low);
                    if covered > 0.0 {
                        sum[which] += covered / width;
                    }
                }
            }
        }
        sums
    }

    /// What a lane is called.
    fn lane_name(&self, (fetcher, slot): SlotOfFetcher) -> String {
        let arm = self.row.arm();
        let (fetcher, slot) = (fetcher.saturating_add(1), slot.saturating_add(1));
        match (arm.processes, arm.concurrency) {
            (0 | 1, _) => format!("slot {slot}"),
            (_, 0 | 1) => format!("process {fetcher}"),
            _ => format!("{fetcher} · {slot}"),
        }
    }

    /// Room for the names of its lanes.
    fn names_px(&self) -> f64 {
        let names = self.shown().map(|(slot, _)| self.lane_name(slot));
        let widths = names.map(|name| text_width(&name, 11.5));
        widths.fold(40.0, f64::max) + 14.0
    }
}

fn end_of(request: &Request) -> f64 {
    request.start_s + request.duration_s
}

/// When the last request of a slot ended.
fn end_of_lane(lane: &[&Request]) -> f64 {
    lane.iter().map(|r| end_of(r)).fold(0.0, f64::max)
}

/// Where the axis that all share ends: with the longest run, sooner where that would squash the
/// others, and no later than every arm's record, so that what is not drawn did not happen.
fn shared_end(runs: &[RecordedRun<'_>]) -> f64 {
    let known: Vec<f64> = runs.iter().map(|run| run.known_s).collect();
    let cut_short = runs.iter().filter(|run| !run.whole).map(|run| run.known_s);
    let starts = sorted(runs, |request| request.start_s);
    let crowded = starts.get(REQUESTS_MAX).copied().filter(|start| *start > 0.0);
    cut_short.chain(crowded).fold(time_limit(&known, 1.05), f64::min)
}

fn px_per_s(runs: &[RecordedRun<'_>], end_s: f64) -> f64 {
    let mut durations = sorted(runs, |request| request.duration_s);
    durations.retain(|duration| *duration > 0.0);
    let usual = durations.get(durations.len() / 2).copied().unwrap_or(end_s);
    (REQUEST_PX / usual).clamp(870.0 / end_s, 2400.0 / end_s)
}

/// A figure of every request in the lanes that are drawn, by size.
fn sorted(runs: &[RecordedRun<'_>], figure: fn(&Request) -> f64) -> Vec<f64> {
    let lanes = runs.iter().flat_map(RecordedRun::shown);
    let figures = lanes.flat_map(|(_, lane)| lane.iter().map(|request| figure(request)));
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// A request's parts as (phase, from, to), in seconds since Go. A request
/// whose times contradict each other is drawn as far as they do not.
fn phases(request: &Request) -> [(&'static str, f64, f64); 3] {
    let start = request.start_s;
    let end = end_of(request);
    let connected = (start + request.connect_s.max(0.0)).min(end);
    let first_byte = request.first_byte_s;
    let first_byte = first_byte.map_or(end, |first| (start + first).clamp(connected, end));
    [("connect", start, connected), ("wait", connected, first_byte), ("body", first_byte, end)]
}

/// Every arm's strip, one below the other on one time axis.
fn strips(runs: &[RecordedRun<'_>], end_s: f64, room: Room) -> Drawing {
    let names = runs.iter().map(|run| run.row.name());
    let (size, margins) = room.pick(((46.0, 34.0), (6.0, 150.0)), ((60.0, 32.0), (22.0, 14.0)));
    let rows = ChartRows::new(room, names, size, margins);
    let area = rows.area;
    let x = Scale::linear((0.0, end_s), (area.left, area.right));
    let unit = Unit::of_seconds(end_s);
    let content = html! {
        @for (run, at) in runs.iter().zip(0_u32..) {
            @let y = rows.y(at);
            g class=(run.row.class()) {
                (strip(run, &x, y, rows.height, room))
                (rows.name(room, y, run.row.name(), Some(&description(run.row.arm())), 200.0))
                @let slots = counted(run.slots(), "slot");
                @let share = format!("{} busy", format::percent(run.occupancy(end_s)));
                @match room {
                    Room::Wide => {
                        (text("v", area.right + 16.0, y + 14.0, Anchor::Start, &share))
                        (text("t small", area.right + 16.0, y + 30.0, Anchor::Start, &format!("of {slots}")))
                    }
                    Room::Narrow => { (text("t small", room.width(), y - 6.0, Anchor::End, &format!("{share} of {slots}"))) }
                }
            }
        }
        (x_axis(Area { top: area.bottom, ..area }, &unit_ticks(&x, room.pick(8, 4), unit)))
        (x_title(area, 38.0, "time since the start"))
    };
    (area.bottom + 44.0, content)
}

fn strip(run: &RecordedRun<'_>, x: &Scale, y: f64, height: f64, room: Room) -> Markup {
    let (from, _) = x.range();
    let end_s = run.known_s.min(x.domain().1);
    let to = x.at(end_s);
    let bins = room.pick(180, 100);
    let slots = run.slots() as f64;
    let counts = run.busy(end_s, bins);
    let step = (to - from) / bins as f64;
    // Stacked: waiting below, then connecting, then the body; what is left is idle.
    let order = [(1, "ph-wait"), (0, "ph-connect"), (2, "ph-body")];
    let layer = |upto: usize| {
        let mut path = Path::default();
        path.move_to(from, y + height);
        let mut last = f64::NAN;
        for (bin, count) in counts.iter().enumerate() {
            let sum: f64 = order[..=upto].iter().map(|(which, _)| count[*which]).sum();
            let edge = ((y + height * (1.0 - (sum / slots).min(1.0))) * 10.0).round() / 10.0;
            // A level that stays needs no corner.
            if edge != last {
                if bin > 0 {
                    path.across_to(from + bin as f64 * step);
                }
                path.down_to(edge);
                last = edge;
            }
        }
        path.across_to(to).down_to(y + height).close();
        path
    };
    html! {
        rect.ph-idle x=(Px(from)) y=(Px(y)) width=(Px(to - from)) height=(Px(height)) {
            title { (run.row.name()) ": " (format::percent(run.occupancy(end_s))) " of its slots' time busy" }
        }
        @for upto in (0..order.len()).rev() {
            path class=(order[upto].1) d=(layer(upto).as_str()) {}
        }
        @if run.goes_on(x.domain().1) {
            (onward(to, y + height / 2.0, &format!("goes on to {}", format::duration(run.finished()))))
        }
    }
}

/// Every request of one arm in its slot.
fn lanes(run: &RecordedRun<'_>, end_s: f64, px_per_s: f64, names_px: f64) -> Markup {
    let shown: Vec<(SlotOfFetcher, &[&Request])> = run.shown().collect();
    let pitch: f64 = match shown.len() {
        0..=8 => 24.0,
        9..=16 => 17.0,
        _ => 11.0,
    };
    let bar = (pitch - 3.0).min(18.0);
    let top = 8.0;
    let label_every = if pitch < 14.0 { 4 } else { 1 };
    let label = |slot| run.lane_name(slot);
    let bottom = top + pitch * shown.len() as f64;
    let width = end_s * px_per_s;
    let x = Scale::linear((0.0, end_s), (TRACK_AIR, width - TRACK_AIR));
    let unit = Unit::of_seconds(end_s);
    let requests = shown.iter().flat_map(|(_, lane)| lane.iter());
    let count = requests.filter(|request| request.start_s < end_s).count();
    let named = format!("URLs of {} in their slots", run.row.name());
    let labels = html! {
        @for (at, (slot, _)) in shown.iter().enumerate().filter(|(at, _)| at % label_every == 0) {
            (text("t small", names_px - 8.0, top + pitch * at as f64 + bar / 2.0 + 4.0, Anchor::End, &label(*slot)))
        }
    };
    let mut ticks = unit_ticks(&x, 12, unit);
    // A label at the very edge would be cut in two.
    ticks.retain(|tick| tick.at + text_width(&tick.label, 13.0) / 2.0 < width);
    let track = html! {
        (x_axis(Area { left: 0.0, right: width, top: 0.0, bottom }, &ticks))
        @for (at, (slot, lane)) in shown.iter().enumerate() {
            @let until = run.known_s.min(end_s);
            (drawn_lane(lane, &label(*slot), &x, until, top + pitch * at as f64, bar))
        }
    };
    html! {
        p.lead {
            (swatch(run.row.identity)) b { (run.row.name()) } ": " (description(run.row.arm())) ". "
            @if run.row.arm().processes > 1 && run.row.arm().concurrency > 1 { "Rows are process · slot. " }
            "Block " (run.trial.block) ", " (format::count(count as u64)) " URLs"
            @if run.lanes.len() > shown.len() { ", " (shown.len()) " of " (run.lanes.len()) " slots" }
            @if run.goes_on(end_s) { " of a trial of " (format::duration(run.finished())) }
            "."
        }
        div.scroll.lanes tabindex="0" role="region" aria-label=(named) style={ "--fit:" (Px(100.0 * (650.0 / (width + names_px)).min(1.0))) "%" } {
            svg.lane-names width=(Px(names_px)) height=(Px(bottom + 26.0)) aria-hidden="true" { (labels) }
            svg.track width=(Px(width)) height=(Px(bottom + 26.0)) viewBox={ "0 0 " (Px(width)) " " (Px(bottom + 26.0)) } role="img" aria-label=(named) { (track) }
        }
    }
}

/// One slot: a path for each phase, whatever the number of requests.
fn drawn_lane(lane: &[&Request], label: &str, x: &Scale, until: f64, y: f64, bar: f64) -> Markup {
    let end_s = x.domain().1;
    let mut paths = ["connect", "wait", "body"].map(|phase| (phase, Path::default()));
    let (mut failed, mut seams) = (Path::default(), Path::default());
    let (mut count, mut failures) = (0_usize, 0_usize);
    for request in lane.iter().filter(|request| request.start_s < end_s) {
        count += 1;
        for ((_, path), (_, from, to)) in paths.iter_mut().zip(phases(request)) {
            let (left, right) = (x.clamped(from), x.clamped(to));
            if right - left >= 0.05 {
                path.move_to(left, 0.0).across(right - left);
            }
        }
        let (left, right) = (x.clamped(request.start_s), x.clamped(end_of(request)));
        if !request.ok {
            failures += 1;
            let top = -bar / 2.0 + 1.0;
            failed.move_to(left, top).across((right - left).max(2.0));
        }
        // A hair between two requests, in the background's colour.
        if request.start_s > 0.0 {
            seams.move_to(x.at(request.start_s), 0.0).across(0.8);
        }
    }
    html! {
        g transform={ "translate(0 " (Px(y + bar / 2.0)) ")" } stroke-width=(Px(bar)) {
            title { (label) ": " (counted(count as u64, "URL")) @if failures > 0 { ", " (failures) " failed" } }
            path.lane.st-idle d={ "M" (Px(x.range().0)) " 0H" (Px(x.clamped(until))) } {}
            @for (phase, path) in &paths {
                @if !path.is_empty() { path class={ "lane st-" (phase) } d=(path.as_str()) {} }
            }
            @if !seams.is_empty() { path.lane.seam d=(seams.as_str()) {} }
            @if !failed.is_empty() { path.lane.st-failed d=(failed.as_str()) {} }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(
        start_s: f64,
        connect_s: f64,
        first_byte_s: Option<f64>,
        duration_s: f64,
    ) -> Request {
        Request { start_s, connect_s, first_byte_s, duration_s, ok: true, ..Request::default() }
    }

    #[test]
    fn phases_follow_one_another_and_never_run_backwards() {
        let odd = [
            request(1.0, 0.1, Some(0.3), 0.5),
            request(1.0, 0.9, Some(0.3), 0.5),
            request(1.0, -0.1, None, 0.5),
            request(1.0, 0.1, Some(7.0), 0.5),
        ];
        for request in odd {
            let [connect, wait, body] = phases(&request);
            assert_eq!((connect.1, body.2), (1.0, 1.5));
            assert_eq!((connect.2, wait.2), (wait.1, body.1));
            assert!(connect.1 <= connect.2 && wait.1 <= wait.2 && body.1 <= body.2);
        }
    }

    /// Of one arm only the first requests are on record: no picture goes on past those.
    #[test]
    fn the_shared_time_ends_where_the_first_record_does() {
        let mut study = crate::fixture::StudyBuilder::new()
            .arms(&["async:4", "threads:4"])
            .urls(100)
            .blocks(2)
            .build();
        let end = |study: &crate::record::Study| {
            let view = StudyView::new(study);
            let runs: Vec<_> =
                view.subjects().filter_map(|row| RecordedRun::of(&view, row)).collect();
            (shared_end(&runs), runs.iter().map(|run| run.known_s).fold(0.0, f64::max))
        };
        let (shared, longest) = end(&study);
        assert_eq!(shared, longest);
        for trial in study.trials.iter_mut().filter(|trial| trial.arm == "threads:4") {
            trial.requests.truncate(40);
        }
        let known = study.trials.iter().find(|t| t.arm == "threads:4" && !t.requests.is_empty());
        let mut last = [0.0; 4];
        for request in &known.unwrap().requests {
            last[request.slot as usize] = end_of(request);
        }
        let first_to_end = last.into_iter().fold(f64::INFINITY, f64::min);
        assert_eq!(end(&study).0, first_to_end);
    }

    #[test]
    fn a_lane_is_one_path_for_each_phase() {
        let requests = [request(0.0, 0.1, Some(0.3), 0.4), request(0.5, 0.0, Some(0.1), 0.2)];
        let lane: Vec<&Request> = requests.iter().collect();
        let x = Scale::linear((0.0, 1.0), (0.0, 100.0));
        let drawn = drawn_lane(&lane, "slot <1>", &x, 0.7, 0.0, 10.0).into_string();
        insta::assert_snapshot!(drawn, @r#"<g transform="translate(0 5)" stroke-width="10"><title>slot &lt;1&gt;: 2 URLs</title><path class="lane st-idle" d="M0 0H70"></path><path class="lane st-connect" d="M0 0h10"></path><path class="lane st-wait" d="M10 0h20M50 0h10"></path><path class="lane st-body" d="M30 0h10M60 0h10"></path><path class="lane seam" d="M50 0h0.8"></path></g>"#);
    }
}
