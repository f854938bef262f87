//! The figures of the table, column by column, for terminal and Markdown.

use crate::{
    format,
    latency::Latency,
    record::{Metric, Outcome, Study},
    statistics::{ArmSummary, best, summaries},
    text::{
        answers::{figure, finding, model_in_words},
        words::in_brackets,
    },
};

/// How much a cell says of the comparison with the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// A ratio and a word, where there is little room.
    Short,
    /// The ratio, and two words.
    Words,
    /// Those and the interval.
    Interval,
}

/// Two lines of a cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cell {
    /// What is read first.
    pub(crate) main: String,
    /// That figure over the baseline's; may be empty.
    pub(crate) ratio: String,
    /// What it is against the baseline, or a second figure; may be empty.
    pub(crate) second: String,
    /// Whether the figure is the best of its column.
    pub(crate) best: bool,
}

/// One column.
#[derive(Debug, Clone)]
pub(crate) struct TextColumn {
    /// What the first line is, and what the second.
    pub(crate) header: [String; 2],
    pub(crate) cells: Vec<Cell>,
    /// The narrower the terminal, the fewer columns: those with the highest go
    /// first, 0 always stays.
    pub(crate) dispensable: u8,
}

/// Columns up to this one are wanted with all their words rather than more columns.
pub(crate) const WANTED: u8 = 5;

/// The table of a study: a row an arm but the control, the quickest first.
pub(crate) fn columns(study: &Study, depth: Depth) -> Vec<TextColumn> {
    let mut rows = summaries(study);
    rows.retain(|row| !row.arm.control);
    let pooled: Vec<Option<Latency>> = rows.iter().map(ArmSummary::latency).collect();
    let against = format!("vs {}", study.manifest.baseline);
    let outcome = |outcome: Outcome, head: &str, second: &str, dispensable| {
        let metric = Metric::named(outcome.metric());
        let best = metric.and_then(|metric| best(&rows, metric));
        let cell = |row: &ArmSummary<'_>| {
            let figure = figure(row, outcome);
            let best = row.competes() && best.as_ref() == Some(&figure);
            judged(study, row, outcome, figure, depth, best)
        };
        column([head, second], dispensable, rows.iter().map(cell).collect())
    };
    let pair = |heads, dispensable, cell: &dyn Fn(usize, &ArmSummary<'_>) -> [String; 2]| {
        let cells = rows.iter().enumerate().map(|(at, row)| {
            let [main, second] = cell(at, row);
            Cell { main, second, ..Cell::default() }
        });
        column(heads, dispensable, cells.collect())
    };
    let percentile = |at: usize, of: fn(&Latency) -> Option<f64>| {
        let value = pooled[at].as_ref().and_then(of);
        value.map_or_else(|| format::UNKNOWN.to_owned(), format::duration)
    };
    let lost = u8::from(rows.iter().all(|row| row.lost == 0)) * 8;
    vec![
        pair(["arm", ""], 0, &|_, row| {
            let what = if row.baseline { "baseline".to_owned() } else { model_in_words(row.arm) };
            [row.arm.name.clone(), what]
        }),
        outcome(Outcome::Time, "time", &against, 0),
        outcome(Outcome::Cpu, "CPU", "per 1,000 URLs", 2),
        outcome(Outcome::Memory, "memory", "peak", 1),
        outcome(Outcome::Switches, "switches", "per 1,000 URLs", 3),
        pair(["start", "makespan"], 4, &|_, row| [row.say("start_s"), row.say("makespan_s")]),
        pair(["CPU to start", ""], 5, &|_, row| [row.say("cpu_start_s"), String::new()]),
        pair(["p50", "p99"], 6, &|at, _| {
            [percentile(at, Latency::p50), percentile(at, Latency::p99)]
        }),
        pair(["failed", "trials"], lost, &|_, row| {
            [format::count(row.lost), format!("{}/{}", row.trials.len(), row.attempts.len())]
        }),
        pair(["URLs/s", ""], 9, &|_, row| [row.say("requests_per_s"), String::new()]),
    ]
}

fn column(header: [&str; 2], dispensable: u8, cells: Vec<Cell>) -> TextColumn {
    TextColumn { header: header.map(str::to_owned), cells, dispensable }
}

/// A figure, and what it is against the baseline's.
fn judged(
    study: &Study,
    row: &ArmSummary<'_>,
    outcome: Outcome,
    main: String,
    depth: Depth,
    best: bool,
) -> Cell {
    let found = finding(study, &row.arm.name, outcome).filter(|_| !row.baseline);
    let Some(found) = found else {
        return Cell { main, best, ..Cell::default() };
    };
    let (ratio, second) = match depth {
        Depth::Short => (String::new(), found.short()),
        Depth::Words => (format::ratio(found.ratio), found.words()),
        Depth::Interval => {
            let (ratio, ends) = found.figures();
            let ends = in_brackets((!ends.is_empty()).then_some(ends));
            (String::new(), format!("{ratio}{ends}, {}", found.words()))
        }
    };
    Cell { main, ratio, second, best }
}

/// What the columns mean, in one paragraph.
pub(crate) const LEGEND: &str = "time: start (from the first fork until all fetchers are ready) and makespan (until the last \
     URL is done). CPU: after the start. Figures are medians of the trials; ★ is the best of its column. Ratios are \
     geometric means of those in each block. less, more: proven; a ? where that is all; relevant: surely by more than \
     the margin; negligible: surely by less. p50, p99: half and 99 in 100 of all URLs took no longer. trials: used/all.";
