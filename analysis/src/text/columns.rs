//! The figures of the table, column by column, for terminal and Markdown.

use crate::{
    format,
    record::{Study, Verdict},
    statistics::{ArmSummary, summaries},
    text::words::range,
};

/// One figure, and what stands beside or below it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    /// What is read first.
    pub(crate) main: String,
    /// Range or interval; may be empty.
    pub(crate) detail: String,
}

impl Cell {
    fn new(main: impl Into<String>) -> Self {
        Self::detailed(main, String::new())
    }

    fn detailed(main: impl Into<String>, detail: String) -> Self {
        Self { main: main.into(), detail }
    }
}

/// One column.
#[derive(Debug, Clone)]
pub(crate) struct TextColumn {
    pub(crate) header: String,
    pub(crate) cells: Vec<Cell>,
    /// The narrower the terminal, the fewer columns: those with the highest go
    /// first, 0 always stays.
    pub(crate) dispensable: u8,
}

/// The table of a study.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub(crate) columns: Vec<TextColumn>,
    /// The row that is starred.
    pub(crate) best: Option<usize>,
    /// What each row's comparison says.
    pub(crate) verdicts: Vec<Option<Verdict>>,
}

/// What a row's verdict is called.
fn verdict_name(summary: &ArmSummary<'_>) -> &'static str {
    match summary.comparison.map(|comparison| comparison.verdict) {
        _ if summary.baseline => "baseline",
        None => format::UNKNOWN,
        Some(Verdict::Faster) => "faster",
        Some(Verdict::Slower) => "slower",
        Some(Verdict::Equivalent) => "equivalent",
        Some(Verdict::Inconclusive) => "inconclusive",
        Some(Verdict::Estimate) if !summary.fetches() => "fetches nothing",
        Some(Verdict::Estimate) => "interval only",
    }
}

fn against_baseline(summary: &ArmSummary<'_>) -> Cell {
    match summary.comparison {
        _ if summary.baseline => Cell::new("1"),
        None => Cell::new(format::UNKNOWN),
        Some(comparison) => {
            let ends = comparison.ci_low.zip(comparison.ci_high);
            let ends = ends.map(|(low, high)| format::ratio_interval(low, high));
            Cell::detailed(format::ratio(comparison.ratio), ends.unwrap_or_default())
        }
    }
}

fn makespan(summary: &ArmSummary<'_>) -> Cell {
    let Some(spread) = &summary.makespan_s else {
        return Cell::new(format::UNKNOWN);
    };
    let range = range(spread, format::duration);
    Cell::detailed(format::duration(spread.median), range)
}

fn metric(summary: &ArmSummary<'_>, name: &str) -> Cell {
    Cell::new(summary.say(name))
}

impl Columns {
    #[rustfmt::skip]
    pub(crate) fn of(study: &Study) -> Self {
        let rows = summaries(study);
        let versus = format!("vs {}", study.manifest.baseline);
        type Draw = fn(&ArmSummary<'_>) -> Cell;
        let columns: [(&str, u8, Draw); 12] = [
            ("arm", 0, |s| Cell::new(&s.arm.name)),
            ("makespan", 0, makespan),
            (&versus, 0, against_baseline),
            ("verdict", 3, |s| Cell::new(verdict_name(s))),
            ("requests/s", 6, |s| metric(s, "requests_per_s")),
            ("p50", 7, |s| metric(s, "latency_s.p50")),
            ("p99", 4, |s| metric(s, "latency_s.p99")),
            ("memory", 1, |s| metric(s, "pss_peak_bytes")),
            ("CPU", 2, |s| metric(s, "cpu_s")),
            ("switches", 5, |s| metric(s, "switches")),
            ("failed", 8, |s| Cell::new(format::count(s.trials.iter().map(|trial| trial.failed).sum()))),
            ("trials", 9, |s| Cell::new(format!("{}/{}", s.trials.len(), s.attempts))),
        ];
        Self {
            columns: columns.map(|(header, dispensable, cell)| TextColumn {
                header: header.to_owned(),
                cells: rows.iter().map(cell).collect(),
                dispensable,
            }).into(),
            best: rows.iter().position(ArmSummary::competes),
            verdicts: rows.iter().map(|row| Some(row.comparison?.verdict)).collect(),
        }
    }
}

/// What the columns mean, in one paragraph.
pub(crate) const LEGEND: &str = "makespan: median and range of the trials. vs: geometric mean of the per-block ratios, with its \
     95 % interval. p50, p99: half, and all but 1 in 100, of the URLs took no longer. memory: peak \
     of the fetchers' summed proportional set size (PSS). CPU and switches: per 1,000 URLs. \
     trials: used/run.";
