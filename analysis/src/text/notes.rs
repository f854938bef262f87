//! Single lines below the table.

use crate::{
    format,
    record::{Scaling, ScalingFactor, Study, TrialRecord},
    statistics::{ArmSummary, FalsePositives, summaries},
    text::{
        counted,
        words::{ends_in_brackets, in_brackets, listed, or_unknown},
    },
};

/// How the baseline compared with itself, and what the study could have seen.
#[must_use]
pub fn sureness(study: &Study) -> Option<String> {
    let analysis = &study.analysis;
    let mut parts = Vec::new();
    if let Some(control) = &analysis.control {
        let interval = match (control.ratio.low, control.ratio.high) {
            (Some(low), Some(high)) => format!(" ({})", format::ratio_interval(low, high)),
            _ => String::new(),
        };
        parts.push(format!(
            "the baseline run twice took {}{interval} of its own time",
            format::ratio(control.ratio.value)
        ));
    }
    if analysis.tested > 0 {
        parts.push(match analysis.smallest_effect {
            Some(effect) => format!(
                "with {} tested, a difference of {} would have been found in 4 studies of 5",
                counted(analysis.tested.into(), "arm"),
                format::percent(effect - 1.0)
            ),
            None => format!(
                "with {} tested, {} are needed to call any difference",
                counted(analysis.tested.into(), "arm"),
                counted(analysis.blocks_needed.into(), "block")
            ),
        });
    }
    (!parts.is_empty()).then(|| format!("How sure: {}.", parts.join("; ")))
}

/// The caveats that [`verdict`](crate::text::verdict()) has not told already.
#[must_use]
pub fn caveats(study: &Study) -> Vec<&str> {
    let control = study.analysis.control.as_ref();
    let told = control.and_then(|control| control.too_noisy.as_ref());
    study
        .caveats
        .iter()
        .filter(|caveat| Some(*caveat) != told)
        .map(String::as_str)
        .collect()
}

/// What spreading the work cost under the baseline, and what the machinery
/// alone takes.
#[must_use]
pub fn coordination(study: &Study) -> Option<String> {
    let all = summaries(study);
    let baseline = all.iter().find(|summary| summary.baseline)?;
    let makespan = baseline.makespan_s?.median;
    let mut parts = Vec::new();
    if let Some(overhead) = baseline.median(|trial| trial.coordination.overhead_s) {
        parts.push(format!(
            "{} of the makespan ({})",
            format::duration(overhead),
            format::percent(overhead / makespan)
        ));
    }
    if let Some(spawn) = baseline.median(|trial| trial.spawn_s) {
        parts.push(format!(
            "{} before it to start fetchers",
            format::duration(spawn)
        ));
    }
    if let Some(lag) = baseline.median(|trial| trial.coordination.lag_mean_s) {
        parts.push(format!(
            "{} on average from a URL's end to the ledger",
            format::duration(lag)
        ));
    }
    let per_url = |metric: fn(&TrialRecord) -> Option<f64>| {
        let urls = baseline.median(|t| Some((t.completed + t.failed + t.abandoned) as f64))?;
        Some(baseline.median(metric)? / urls).filter(|value| value.is_finite())
    };
    let coordinator = per_url(|trial| trial.coordination.coordinator_cpu_s);
    let worker = per_url(|trial| trial.coordination.worker_cpu_s);
    if coordinator.is_some() || worker.is_some() {
        parts.push(format!(
            "CPU per URL {} in the coordinator and {} in the workers",
            or_unknown(coordinator, format::duration),
            or_unknown(worker, format::duration)
        ));
    }
    let pipes = per_url(|trial| Some(pipe_bytes(trial)));
    let grpc = per_url(|trial| Some(grpc_bytes(trial)));
    if let (Some(pipes), Some(grpc)) = (pipes, grpc) {
        parts.push(format!(
            "{} per URL through pipes and {} through gRPC",
            format::bytes(pipes),
            format::bytes(grpc)
        ));
    }
    let alone: Vec<String> = all
        .iter()
        .filter(|summary| !summary.fetches())
        .filter_map(machinery)
        .collect();
    let alone = if alone.is_empty() {
        String::new()
    } else {
        format!(" The machinery alone: {}.", listed(&alone))
    };
    (!parts.is_empty()).then(|| {
        format!(
            "Coordination under {}: {}.{alone}",
            baseline.arm.name,
            parts.join("; ")
        )
    })
}

/// Bytes through the pipes of fetchers, both ways.
pub(crate) fn pipe_bytes(trial: &TrialRecord) -> f64 {
    (trial.coordination.pipe_bytes_sent + trial.coordination.pipe_bytes_received) as f64
}

/// Bytes between coordinator and workers, both ways.
pub(crate) fn grpc_bytes(trial: &TrialRecord) -> f64 {
    (trial.coordination.grpc_bytes_sent + trial.coordination.grpc_bytes_received) as f64
}

fn machinery(summary: &ArmSummary<'_>) -> Option<String> {
    let makespan = summary.makespan_s?.median;
    let urls = summary.median(|trial| Some((trial.completed + trial.failed) as f64))?;
    Some(format!(
        "{} took {}, {} per URL",
        summary.arm.name,
        format::duration(makespan),
        format::duration(makespan / urls.max(1.0))
    ))
}

/// Each group of arms that differ in one thing: throughput and efficiency, and
/// what the curves say.
#[must_use]
pub fn scaling(study: &Study) -> Vec<String> {
    let groups = study.scaling.iter();
    // A study that was stopped early may have no trial to show of a group.
    let shown = groups.filter(|group| !group.points.is_empty());
    shown.map(one_scaling).collect()
}

fn one_scaling(group: &Scaling) -> String {
    let what = match group.factor {
        ScalingFactor::Processes => "processes",
        ScalingFactor::Concurrency => "URLs in flight per process",
        ScalingFactor::Workers => "workers",
    };
    let points: Vec<String> = group
        .points
        .iter()
        .map(|point| {
            format!(
                "{}: {}/s ({})",
                point.n,
                format::rate(point.requests_per_s.value),
                format::percent(point.efficiency.value)
            )
        })
        .collect();
    let mut text = format!(
        "Scaling of {} over {what}, requests/s and efficiency: {}.",
        group.family,
        points.join(", ")
    );
    for part in [&group.choice, &group.peak.text] {
        if !part.is_empty() {
            text.push(' ');
            text.push_str(part);
        }
    }
    if let Some(memory) = &group.memory_per_step_bytes {
        let one = match group.factor {
            ScalingFactor::Processes => "process",
            ScalingFactor::Concurrency => "URL in flight per process",
            ScalingFactor::Workers => "worker",
        };
        text.push_str(&format!(
            " One more {one} costs {}{} of memory.",
            format::bytes(memory.value),
            ends_in_brackets(memory, format::bytes)
        ));
    }
    text
}

/// Memory per URL in flight, where arms differ in their concurrency only.
#[must_use]
pub fn memory(study: &Study) -> Vec<String> {
    let slopes = study.memory_slopes.iter().map(|slope| {
        format!(
            "Memory of {} ({}): {}{} per URL in flight, from {} to {}.",
            slope.family,
            slope.metric,
            format::bytes(slope.bytes_per_request.value),
            ends_in_brackets(&slope.bytes_per_request, format::bytes),
            format::count(slope.in_flight[0].into()),
            format::count(slope.in_flight[1].into())
        )
    });
    held_over_time(study).into_iter().chain(slopes).collect()
}

/// How much memory each arm holds for how long.
fn held_over_time(study: &Study) -> Option<String> {
    let arms: Vec<String> = summaries(study)
        .iter()
        .filter_map(|summary| {
            let held = summary.median(|trial| {
                let urls = trial.completed + trial.failed;
                (urls > 0).then_some(())?;
                Some(trial.pss_byte_s? / 1e6 / urls as f64 * 1e3)
            })?;
            Some(format!(
                "{} {}",
                summary.arm.name,
                format::significant(held)
            ))
        })
        .collect();
    (!arms.is_empty()).then(|| {
        format!(
            "Memory held over time, in MB·s per 1,000 URLs: {}.",
            arms.join(", ")
        )
    })
}

/// How often a difference was called where there was none.
#[must_use]
pub fn false_positives(found: &FalsePositives) -> String {
    let told = format!(
        "{} of {} called a difference where there is none: {}{}.",
        format::count(found.called.into()),
        counted(found.studies.into(), "study of an arm against itself").replace(
            "study of an arm against itselfs",
            "studies of an arm against itself"
        ),
        format::percent(found.rate.value),
        in_brackets(
            found
                .rate
                .low
                .zip(found.rate.high)
                .map(|(low, high)| format!(
                    "95 % interval {}–{}",
                    format::percent(low),
                    format::percent(high)
                ))
        )
    );
    let judged = if found.studies == 0 {
        "No study came to a verdict.".to_owned()
    } else if found.too_many() {
        format!(
            "That is more than the {} that a rate of 5 % explains: do not trust verdicts on this machine.",
            found.allowed
        )
    } else {
        format!("A rate of 5 % explains up to {}.", found.allowed)
    };
    format!("{told} {judged}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::{self, StudyBuilder},
        record::Verdict,
        statistics,
    };

    #[test]
    fn the_machinery_alone_is_told() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "async:32@null"])
            .build();
        insta::assert_snapshot!(coordination(&study).unwrap(), @"Coordination under async:32: 3.45 ms of the makespan (1.3 %); 5.10 ms before it to start fetchers; 11.2 ms on average from a URL's end to the ledger; CPU per URL 2.90 µs in the coordinator and 5.00 µs in the workers; 69 B per URL through pipes and 72 B through gRPC. The machinery alone: async:32@null took 4.49 ms, 4.49 µs per URL.");
        assert_eq!(coordination(&Study::default()), None);
    }

    #[test]
    fn a_group_of_which_nothing_ran_is_not_told() {
        let mut study = fixture::study();
        assert!(!scaling(&study).is_empty());
        for group in &mut study.scaling {
            group.points.clear();
        }
        assert!(scaling(&study).is_empty());
    }

    #[test]
    fn how_sure() {
        insta::assert_snapshot!(sureness(&fixture::study()).unwrap(), @"How sure: the baseline run twice took 0.99× (0.99–1.00) of its own time; with 5 arms tested, a difference of 1.7 % would have been found in 4 studies of 5.");
        let six = StudyBuilder::new().blocks(6).build();
        insta::assert_snapshot!(sureness(&six).unwrap(), @"How sure: the baseline run twice took 1.00× (0.99–1.01) of its own time; with 5 arms tested, 8 blocks are needed to call any difference.");
        assert_eq!(sureness(&Study::default()), None);
    }

    #[test]
    fn false_calls() {
        let told = |called: u32, studies: u32| {
            false_positives(&statistics::false_positives((0..studies).map(|i| {
                if i < called {
                    Verdict::Faster
                } else {
                    Verdict::Inconclusive
                }
            })))
        };
        insta::assert_snapshot!(told(1, 30), @"1 of 30 studies of an arm against itself called a difference where there is none: 3.3 % (95 % interval 0.1 %–17 %). A rate of 5 % explains up to 4.");
        insta::assert_snapshot!(told(9, 30), @"9 of 30 studies of an arm against itself called a difference where there is none: 30 % (95 % interval 15 %–49 %). That is more than the 4 that a rate of 5 % explains: do not trust verdicts on this machine.");
        insta::assert_snapshot!(told(0, 0), @"0 of 0 studies of an arm against itself called a difference where there is none: 0 %. No study came to a verdict.");
    }
}
