//! Single lines below the table.

use crate::{
    format,
    record::{Outcome, Scaling, ScalingFactor, Study, TrialRecord},
    statistics::{ArmSummary, FalsePositives, summaries},
    text::{
        answers::{finding, named},
        counted,
        words::{ends_in_brackets, in_brackets, listed, or_unknown},
    },
};

/// How the baseline compared with itself, and what the study could have seen.
pub(crate) fn sureness(study: &Study) -> Option<String> {
    let analysis = &study.analysis;
    let mut parts = Vec::new();
    if let Some(control) = study.arms.iter().find(|arm| arm.control) {
        let each = Outcome::ALL.into_iter().filter_map(|outcome| {
            let (ratio, ends) = finding(study, &control.name, outcome)?.figures();
            let ends = in_brackets((!ends.is_empty()).then_some(ends));
            Some(format!("{} {ratio}{ends}", named(outcome)))
        });
        let each: Vec<String> = each.collect();
        if !each.is_empty() {
            parts.push(format!("the baseline against itself: {}", listed(&each)));
        }
    }
    if let Some(effect) = analysis.smallest_effect {
        parts.push(format!(
            "with {} tested, a difference of {} in the time of one of them is found in 4 such studies of 5",
            counted(analysis.tested.into(), "arm"),
            format::percent(effect - 1.0)
        ));
    }
    (!parts.is_empty()).then(|| format!("How sure: {}.", parts.join("; ")))
}

/// The caveats that [`verdict`](crate::text::verdict()) leaves out.
pub(crate) fn caveats(study: &Study) -> Vec<&str> {
    let control = study.analysis.control.as_ref();
    let told = control.and_then(|control| control.too_noisy.as_ref());
    let caveats = study.caveats.iter().filter(|caveat| Some(*caveat) != told);
    caveats.map(String::as_str).collect()
}

/// What spreading the work cost under the baseline, and what the machinery alone takes.
pub(crate) fn coordination(study: &Study) -> Option<String> {
    let all = summaries(study);
    let baseline = all.iter().find(|summary| summary.baseline)?;
    let makespan = baseline.makespan_s?.median;
    let span = format::duration;
    let mut parts = Vec::new();
    if let Some(overhead) = baseline.median(|trial| trial.coordination.overhead_s) {
        let share = format::percent(overhead / makespan);
        parts.push(format!("{} of the makespan ({share})", span(overhead)));
    }
    if let Some(spawn) = baseline.median(|trial| trial.spawn_s) {
        parts.push(format!("{} before it to start fetchers", span(spawn)));
    }
    if let Some(lag) = baseline.median(|trial| trial.coordination.lag_mean_s) {
        let lag = span(lag);
        parts.push(format!("{lag} on average from a URL's end to the ledger"));
    }
    let coordinator = baseline.median(|t| t.per_url(t.coordination.coordinator_cpu_s?));
    let worker = baseline.median(|t| t.per_url(t.coordination.worker_cpu_s?));
    if coordinator.is_some() || worker.is_some() {
        parts.push(format!(
            "CPU per URL {} in the coordinator and {} in the workers",
            or_unknown(coordinator, span),
            or_unknown(worker, span)
        ));
    }
    let pipes = baseline.median(|t| t.per_url(pipe_bytes(t)));
    let grpc = baseline.median(|t| t.per_url(grpc_bytes(t)));
    if let (Some(pipes), Some(grpc)) = (pipes.map(format::bytes), grpc.map(format::bytes)) {
        parts.push(format!("{pipes} per URL through pipes and {grpc} through gRPC"));
    }
    let alone = all.iter().filter(|summary| !summary.fetches());
    let alone: Vec<String> = alone.filter_map(machinery).collect();
    let alone = match listed(&alone) {
        none if none.is_empty() => none,
        alone => format!(" The machinery alone: {alone}."),
    };
    let each = coordination_by_arm(&all);
    let name = &baseline.arm.name;
    (!parts.is_empty())
        .then(|| format!("Coordination under {name}: {}.{each}{alone}", parts.join("; ")))
}

/// What coordinator and workers spend for a URL under every arm, the least first.
fn coordination_by_arm(all: &[ArmSummary<'_>]) -> String {
    let spent = |summary: &ArmSummary<'_>| {
        summary.median(|trial| {
            let coordination = &trial.coordination;
            trial.per_url(coordination.coordinator_cpu_s? + coordination.worker_cpu_s?)
        })
    };
    let arms = all.iter().filter(|summary| !summary.arm.control && summary.fetches());
    let mut arms: Vec<(f64, &str)> =
        arms.filter_map(|arm| Some((spent(arm)?, arm.arm.name.as_str()))).collect();
    arms.sort_by(|a, b| a.0.total_cmp(&b.0));
    if arms.len() < 2 {
        return String::new();
    }
    let each = arms.iter().map(|(spent, arm)| format!("{arm} {}", format::duration(*spent)));
    format!(
        " CPU of coordinator and workers per URL, by arm: {}.",
        listed(&each.collect::<Vec<_>>())
    )
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
    let per_url = summary.median(|trial| trial.per_url(trial.makespan_s?))?;
    let (took, per_url) = (format::duration(makespan), format::duration(per_url));
    Some(format!("{} took {took}, {per_url} per URL", summary.arm.name))
}

/// Each group of arms that differ in one thing: throughput and efficiency, and what the curves say.
pub(crate) fn scaling(study: &Study) -> Vec<String> {
    let groups = study.scaling.iter();
    // A study that was stopped early may have no trial to show of a group.
    let shown = groups.filter(|group| !group.points.is_empty());
    shown.map(one_scaling).collect()
}

fn one_scaling(group: &Scaling) -> String {
    let (many, one) = match group.factor {
        ScalingFactor::Processes => ("processes", "process"),
        ScalingFactor::Concurrency => ("URLs in flight per process", "URL in flight per process"),
        ScalingFactor::Workers => ("workers", "worker"),
    };
    let points = group.points.iter().map(|point| {
        let rate = format::rate(point.requests_per_s.value);
        let efficiency = format::percent(point.efficiency.value);
        format!("{}: {rate}/s ({efficiency})", point.n)
    });
    let points = points.collect::<Vec<_>>().join(", ");
    let family = &group.family;
    let mut text = format!("Scaling of {family} over {many}, URLs/s and efficiency: {points}.");
    for part in [&group.choice, &group.peak.text] {
        if !part.is_empty() {
            text += &format!(" {part}");
        }
    }
    if let Some(memory) = &group.memory_per_step_bytes {
        let (bytes, ends) = (format::bytes(memory.value), ends_in_brackets(memory, format::bytes));
        text += &format!(" One more {one} costs {bytes}{ends} of memory.");
    }
    text
}

/// Memory per URL in flight, where arms differ in their concurrency only.
pub(crate) fn memory(study: &Study) -> Vec<String> {
    let slopes = study.memory_slopes.iter().map(|slope| {
        format!(
            "{} of {}: {}{} per URL in flight, from {} to {}.",
            memory_name(&slope.metric),
            slope.family,
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
    let held = |summary: &ArmSummary<'_>| {
        let held = summary.median(|trial| Some(trial.per_url(trial.pss_byte_s?)? * 1e3))?;
        Some(format!("{} {}·s", summary.arm.name, format::bytes(held)))
    };
    let arms = summaries(study);
    let arms: Vec<String> = arms.iter().filter(|arm| !arm.arm.control).filter_map(held).collect();
    let arms = (!arms.is_empty()).then(|| arms.join(", "))?;
    Some(format!("Memory times how long it is held (PSS), per 1,000 URLs: {arms}."))
}

/// A metric of memory in words.
pub(crate) fn memory_name(metric: &str) -> &str {
    match metric {
        "memory_peak_bytes" => "Memory",
        "pss_peak_bytes" => "Memory (PSS)",
        "uss_peak_bytes" => "Memory (USS)",
        "cgroup_sock_bytes" => "Socket buffers",
        "cgroup_kernel_stack_bytes" => "Kernel stacks",
        other => other,
    }
}

/// How often a difference was called where there was none.
#[must_use]
pub fn false_positives(found: &FalsePositives) -> String {
    let (called, studies) =
        (format::count(found.called.into()), format::count(found.studies.into()));
    let noun = if found.studies == 1 { "study" } else { "studies" };
    let rate = format::percent(found.rate.value);
    let ends = found.rate.low.zip(found.rate.high).map(|(low, high)| {
        format!("95 % interval {}–{}", format::percent(low), format::percent(high))
    });
    let ends = in_brackets(ends);
    let allowed = found.allowed;
    let judged = if found.studies == 0 {
        "No study came to a verdict.".to_owned()
    } else if found.too_many() {
        format!(
            "That is more than the {allowed} that a rate of 5 % explains: do not trust verdicts on this machine."
        )
    } else {
        format!("A rate of 5 % explains up to {allowed}.")
    };
    format!(
        "{called} of {studies} {noun} of an arm against itself called a difference where there is none: {rate}{ends}. {judged}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::{self, StudyBuilder},
        statistics,
    };

    #[test]
    fn the_machinery_alone_is_told() {
        let study = StudyBuilder::new().arms(&["async:32", "async:32@null"]).build();
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
        insta::assert_snapshot!(sureness(&fixture::study()).unwrap(), @"How sure: the baseline against itself: time 0.99× (0.98–1.00), CPU per URL 1.00× (0.99–1.00), memory 1.00× (1.00–1.01) and switches 0.99× (0.98–1.00); with 5 arms tested, a difference of 1.4 % in the time of one of them is found in 4 such studies of 5.");
        let six = StudyBuilder::new().blocks(6).build();
        insta::assert_snapshot!(sureness(&six).unwrap(), @"How sure: the baseline against itself: time 1.00× (0.97–1.02), CPU per URL 1.00× (0.97–1.02), memory 1.00× (0.98–1.03) and switches 1.00× (0.97–1.02); with 5 arms tested, a difference of 3.8 % in the time of one of them is found in 4 such studies of 5.");
        assert_eq!(sureness(&Study::default()), None);
    }

    #[test]
    fn false_calls() {
        let told = |called: u32, studies: u32| {
            false_positives(&statistics::false_positives(
                (0..studies).map(|i| Some(if i < called { 0.01 } else { 0.6 })),
            ))
        };
        insta::assert_snapshot!(told(1, 30), @"1 of 30 studies of an arm against itself called a difference where there is none: 3.3 % (95 % interval 0.1 %–17 %). A rate of 5 % explains up to 4.");
        insta::assert_snapshot!(told(9, 30), @"9 of 30 studies of an arm against itself called a difference where there is none: 30 % (95 % interval 15 %–49 %). That is more than the 4 that a rate of 5 % explains: do not trust verdicts on this machine.");
        insta::assert_snapshot!(told(0, 0), @"0 of 0 studies of an arm against itself called a difference where there is none: 0 %. No study came to a verdict.");
    }
}
