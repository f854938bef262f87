//! A study at a fixed rate: latencies from the take-up beside those from the intended start.

use crate::{
    format,
    record::Study,
    statistics::{ArmSummary, summaries},
    text::words::or_unknown,
};

/// One arm's latencies at a fixed rate, medians over its trials.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OpenLoop<'a> {
    pub(crate) arm: &'a str,
    /// From taking the URL up.
    pub(crate) raw_p50_s: Option<f64>,
    pub(crate) raw_p99_s: Option<f64>,
    /// From the intended start.
    pub(crate) corrected_p50_s: Option<f64>,
    pub(crate) corrected_p99_s: Option<f64>,
    /// Share of the starts that came late.
    pub(crate) late: Option<f64>,
}

/// Every arm's latencies at a fixed rate; empty in a closed loop.
pub(crate) fn open_loop(study: &Study) -> Vec<OpenLoop<'_>> {
    if study.manifest.rate_per_s.is_none() {
        return Vec::new();
    }
    summaries(study).iter().filter_map(of_arm).collect()
}

fn of_arm<'a>(summary: &ArmSummary<'a>) -> Option<OpenLoop<'a>> {
    Some(OpenLoop {
        arm: &summary.arm.name,
        raw_p50_s: summary.median(|trial| Some(trial.latency_s?.p50)),
        raw_p99_s: summary.median(|trial| trial.latency_s?.p99),
        corrected_p50_s: Some(summary.median(|trial| Some(trial.sojourn_s?.p50))?),
        corrected_p99_s: summary.median(|trial| trial.sojourn_s?.p99),
        late: summary.median(|trial| trial.per_url(trial.late_starts? as f64)),
    })
}

/// The same in a line an arm.
pub(crate) fn lines(study: &Study) -> Vec<String> {
    let Some(rate) = study.manifest.rate_per_s else {
        return Vec::new();
    };
    let rate = format::rate(rate);
    let span = |seconds| or_unknown(seconds, format::duration);
    let line = |arm: &OpenLoop<'_>| {
        format!(
            "{}: p50 {}, corrected {}; p99 {}, corrected {}; {} of the starts late.",
            arm.arm,
            span(arm.raw_p50_s),
            span(arm.corrected_p50_s),
            span(arm.raw_p99_s),
            span(arm.corrected_p99_s),
            or_unknown(arm.late, format::percent),
        )
    };
    let head = format!(
        "At {rate} URLs/s in all (open loop), latency from the take-up and, corrected for late starts, from the \
         intended start:"
    );
    let lines = open_loop(study);
    std::iter::once(head).chain(lines.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, record::Percentiles};

    #[test]
    fn raw_and_corrected_stand_side_by_side() {
        let mut study = fixture::study();
        assert_eq!(lines(&study), Vec::<String>::new());
        study.manifest.rate_per_s = Some(2_000.0);
        for trial in study.trials.iter_mut().filter(|t| t.arm == "async:32") {
            trial.latency_s =
                Some(Percentiles { p50: 0.008, p99: Some(0.020), ..Percentiles::default() });
            trial.sojourn_s =
                Some(Percentiles { p50: 0.009, p99: Some(0.120), ..Percentiles::default() });
            trial.late_starts = Some(250);
        }
        let lines = lines(&study);
        assert_eq!(lines.len(), 2, "arms without such figures have no line");
        insta::assert_snapshot!(lines[1], @"async:32: p50 8.00 ms, corrected 9.00 ms; p99 20.0 ms, corrected 120 ms; 25 % of the starts late.");
    }
}
