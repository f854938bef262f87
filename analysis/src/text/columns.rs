//! The table's figures, column by column, whoever draws it.

use crate::{
    format,
    record::{Study, Trial, Verdict},
    statistics::{ArmSummary, Metric, summaries},
    text::words::{or_unknown, range},
};

/// One figure, and what stands beside or below it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    /// What is read first.
    pub(crate) main: String,
    /// Range or interval; may be empty.
    pub(crate) aside: String,
}

impl Cell {
    fn new(main: impl Into<String>) -> Self {
        Self {
            main: main.into(),
            aside: String::new(),
        }
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
fn verdict_name(summary: &ArmSummary<'_>) -> String {
    if summary.baseline {
        return "baseline".to_owned();
    }
    let Some(comparison) = summary.comparison else {
        return format::UNKNOWN.to_owned();
    };
    match comparison.verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::Equivalent => "equivalent",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Estimate if !summary.fetches() => "fetches nothing",
        Verdict::Estimate => "interval only",
    }
    .to_owned()
}

fn against_baseline(summary: &ArmSummary<'_>) -> Cell {
    if summary.baseline {
        return Cell::new("1");
    }
    let Some(comparison) = summary.comparison else {
        return Cell::new(format::UNKNOWN);
    };
    Cell {
        main: format::ratio(comparison.ratio),
        aside: match (comparison.ci_low, comparison.ci_high) {
            (Some(low), Some(high)) => format::ratio_interval(low, high),
            _ => String::new(),
        },
    }
}

fn makespan(summary: &ArmSummary<'_>) -> Cell {
    match &summary.makespan_s {
        Some(spread) => Cell {
            main: format::duration(spread.median),
            aside: range(spread, format::duration),
        },
        None => Cell::new(format::UNKNOWN),
    }
}

fn failed(summary: &ArmSummary<'_>) -> String {
    format::count(summary.trials.iter().map(|trial| trial.failed).sum())
}

impl Columns {
    pub(crate) fn of(study: &Study) -> Self {
        let rows = summaries(study);
        let column =
            |header: &str, dispensable, cell: &dyn Fn(&ArmSummary<'_>) -> Cell| TextColumn {
                header: header.to_owned(),
                cells: rows.iter().map(cell).collect(),
                dispensable,
            };
        let median = |header: &str,
                      dispensable,
                      metric: fn(&Trial) -> Option<f64>,
                      figure: fn(f64) -> String| {
            column(header, dispensable, &|summary| {
                Cell::new(or_unknown(summary.median(metric), figure))
            })
        };
        let per_thousand = |header: &str, dispensable, name, figure: fn(f64) -> String| {
            let metric = Metric::named(name);
            column(header, dispensable, &|summary| {
                let value = metric.and_then(|metric| summary.per_thousand_urls(&metric));
                Cell::new(or_unknown(value, figure))
            })
        };
        let columns = vec![
            column("arm", 0, &|summary| Cell::new(&summary.arm.name)),
            column("makespan", 0, &makespan),
            column(
                &format!("vs {}", study.manifest.baseline),
                0,
                &against_baseline,
            ),
            column("verdict", 3, &|summary| Cell::new(verdict_name(summary))),
            median("requests/s", 6, |t| t.requests_per_s, format::rate),
            median("p50", 7, |t| Some(t.latency_s?.p50), format::duration),
            median("p99", 4, |t| t.latency_s?.p99, format::duration),
            median(
                "memory",
                1,
                |t| t.pss_peak_bytes.map(|bytes| bytes as f64),
                format::bytes,
            ),
            per_thousand("CPU", 2, "cpu_s", format::duration),
            per_thousand("switches", 5, "switches", format::rate),
            column("failed", 8, &|summary| Cell::new(failed(summary))),
            column("trials", 9, &|summary| {
                Cell::new(format!("{}/{}", summary.trials.len(), summary.attempts))
            }),
        ];
        Self {
            columns,
            best: rows.iter().position(ArmSummary::competes),
            verdicts: rows
                .iter()
                .map(|summary| summary.comparison.map(|c| c.verdict))
                .collect(),
        }
    }
}

/// What the columns mean, in one paragraph.
pub(crate) const LEGEND: &str = "makespan: median and range of the trials. vs: geometric mean of the per-block ratios, with its \
     95 % interval. p50, p99: half, and all but 1 in 100, of the URLs took no longer. memory: peak \
     of the fetchers' summed proportional set size (PSS). CPU and switches: per 1,000 URLs. \
     trials: used/run.";
