//! The answer, in one to three sentences.

use crate::{
    format,
    map::Map,
    record::{Comparison, Metric, Study, TrialRecord, Verdict},
    statistics::{ArmSummary, Leaders, leaders},
    text::{
        counted,
        words::{listed, or_unknown},
    },
};

/// Arms within this many times the leader's makespan count as fast.
const FAST: f64 = 1.5;
/// What is larger by less than this share is not worth a word.
const NOTABLE: f64 = 0.1;

/// What the study found, in one to three sentences made from its figures: who
/// finished first and by how much, what that costs, and how far behind the
/// slowest is. A warning stands before them when the control found too much noise.
pub(crate) fn verdict(study: &Study) -> Vec<String> {
    if let Some(map) = Map::of(study) {
        return map.lessons();
    }
    let control = study.analysis.control.as_ref();
    let mut sentences: Vec<String> =
        control.and_then(|c| c.too_noisy.clone()).into_iter().collect();
    let Some(leaders) = leaders(study) else {
        sentences.push(nothing(study));
        return sentences;
    };
    sentences.push(first(study, &leaders));
    if leaders.ranked.len() > 1 {
        sentences.extend(cost(&leaders));
        sentences.extend(last(&leaders));
    }
    sentences
}

/// Why there is nothing to say.
fn nothing(study: &Study) -> String {
    let fetching = |trial: &&TrialRecord| {
        let arm = study.arms.iter().find(|arm| arm.name == trial.arm);
        arm.is_some_and(|arm| arm.fetches())
    };
    let mut trials = study.trials.iter().filter(fetching);
    match trials.find_map(|trial| trial.invalid_reasons.first()) {
        Some(reason) => {
            format!("No trial can be compared; the first was left out because {reason}.")
        }
        None => "Nothing was fetched, so there is nothing to compare.".to_owned(),
    }
}

fn took(arm: &ArmSummary<'_>) -> String {
    or_unknown(arm.makespan_s.map(|m| m.median), format::duration)
}

fn first(study: &Study, leaders: &Leaders<'_>) -> String {
    let level = &leaders.ranked[..leaders.tied];
    let leader = &level[0];
    let (name, time) = (&leader.arm.name, took(leader));
    let blocks = counted(leader.trials.len() as u64, "block");
    if leaders.ranked.len() == 1 {
        return format!("{name} took {time} (median of {blocks}).");
    }
    if level.len() > 1 {
        let arms = level.iter().map(|arm| format!("{} ({})", arm.arm.name, took(arm)));
        let arms = listed(&arms.collect::<Vec<_>>());
        let margin = format::percent(study.analysis.margin);
        return if leaders.equivalent {
            format!("{arms} finished first, equivalent within ±{margin}.")
        } else {
            format!("We cannot tell which is fastest: {arms} are too close for {blocks}.")
        };
    }
    let ratio = |comparison: &Comparison| format::ratio(comparison.ratio);
    let compared = if let Some(comparison) = leader.comparison {
        let (baseline, interval) = (&comparison.baseline, interval(comparison));
        format!(": {} the time of {baseline}{interval}", ratio(comparison))
    } else {
        // The baseline leads: the next one says by how much.
        let mut compared = leaders.ranked.iter().filter_map(|arm| Some((arm, arm.comparison?)));
        compared.next().map_or(String::new(), |(next, comparison)| {
            let (next, interval) = (&next.arm.name, interval(comparison));
            format!("; the next, {next}, took {} as long{interval}", ratio(comparison))
        })
    };
    format!("{name} finished first, in {time}{compared}.")
}

/// ` (95 % interval 0.90–0.92)`, and that there was no test where there was none.
fn interval(comparison: &Comparison) -> String {
    let blocks = counted(comparison.blocks.into(), "block");
    let Some((low, high)) = comparison.ci_low.zip(comparison.ci_high) else {
        return format!(" ({blocks}, no interval)");
    };
    let ends = format::ratio_interval(low, high);
    match comparison.verdict {
        Verdict::Estimate => format!(" (95 % interval {ends}, {blocks}, not tested)"),
        _ => format!(" (95 % interval {ends})"),
    }
}

/// What the leader needs, and the main 'but': where another fast arm makes do with clearly less.
fn cost(leaders: &Leaders<'_>) -> Option<String> {
    let leader = &leaders.ranked[0];
    let limit = FAST * leader.makespan_s?.median;
    let fast = leaders.ranked.iter();
    let fast = fast.filter(|arm| arm.makespan_s.is_some_and(|m| m.median <= limit));
    let fast: Vec<&ArmSummary<'_>> = fast.collect();
    let but = [Resource::Memory, Resource::Cpu, Resource::Tail]
        .into_iter()
        .filter_map(|resource| But::find(resource, leader, &fast))
        .max_by(|a, b| a.times.total_cmp(&b.times));
    let failed: u64 = leader.trials.iter().map(|trial| trial.failed).sum();
    let needs: Vec<String> = [Resource::Memory, Resource::Cpu]
        .into_iter()
        .filter(|needed| failed > 0 || but.as_ref().is_none_or(|but| but.resource != *needed))
        .filter_map(|needed| Some(needed.phrase(needed.of(leader)?)))
        .collect();
    if needs.is_empty() {
        return None;
    }
    let subject = if leaders.tied > 1 { leader.arm.name.as_str() } else { "It" };
    let end = match but {
        _ if failed > 0 => format!(", but {} of its URLs failed", format::count(failed)),
        Some(but) => {
            let (needed, times) = (but.resource.phrase(but.own), format::ratio(but.times));
            format!(", but {needed}, {times} that of {}", but.arm)
        }
        None if fast.len() > 1 => ", and no fast arm needed much less".to_owned(),
        None => String::new(),
    };
    Some(format!("{subject} needed {}{end}.", listed(&needs)))
}

/// What an arm needs besides time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resource {
    Memory,
    Cpu,
    Tail,
}

impl Resource {
    fn of(self, arm: &ArmSummary<'_>) -> Option<f64> {
        match self {
            Self::Memory => arm.median(|trial| Some(trial.pss_peak_bytes? as f64)),
            Self::Cpu => arm.value(Metric::named("cpu_s")?),
            Self::Tail => arm.median(|trial| trial.latency_s?.p99),
        }
    }

    fn phrase(self, value: f64) -> String {
        match self {
            Self::Memory => format!("{} of memory at its peak", format::bytes(value)),
            Self::Cpu => format!("{} of CPU per 1,000 URLs", format::duration(value)),
            Self::Tail => format!("{} for its slowest 1 URL in 100", format::duration(value)),
        }
    }
}

/// What the leader needs clearly more of than another.
struct But<'a> {
    resource: Resource,
    own: f64,
    times: f64,
    arm: &'a str,
}

impl<'a> But<'a> {
    fn find(
        resource: Resource,
        leader: &ArmSummary<'_>,
        fast: &[&'a ArmSummary<'a>],
    ) -> Option<Self> {
        let own = resource.of(leader)?;
        let needs = fast.iter().filter_map(|arm| Some((resource.of(arm)?, *arm)));
        let (least, arm) = needs.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let times = own / least;
        (times > 1.0 + NOTABLE && times.is_finite()).then_some(Self {
            resource,
            own,
            times,
            arm: &arm.arm.name,
        })
    }
}

/// How far behind the slowest is, where that is far.
fn last(leaders: &Leaders<'_>) -> Option<String> {
    let (first, last) = (leaders.ranked.first()?, leaders.ranked.last()?);
    let times = last.makespan_s?.median / first.makespan_s?.median;
    if times < FAST || leaders.ranked.len() < 3 {
        return None;
    }
    let (name, time, times) = (&last.arm.name, took(last), format::ratio(times));
    Some(format!("The slowest, {name}, took {time}, {times} as long as the first."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Options, conclude,
        fixture::{self, StudyBuilder},
    };

    fn said(study: &Study) -> String {
        verdict(study).join("\n")
    }

    #[test]
    fn a_winner_that_is_not_the_baseline() {
        insta::assert_snapshot!(said(&fixture::study()), @r#"
        2xasync:16 finished first, in 249 ms: 0.91× the time of async:32 (95 % interval 0.90–0.92).
        It needed 43.0 ms of CPU per 1,000 URLs, but 4.83 MiB of memory at its peak, 1.39× that of async:32.
        The slowest, sequential, took 8.33 s, 33.4× as long as the first.
        "#);
    }

    #[test]
    fn the_baseline_wins() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "threads:32", "32xsequential"])
            .slower("threads:32", 1.12)
            .slower("32xsequential", 2.0)
            .build();
        insta::assert_snapshot!(said(&study), @r#"
        async:32 finished first, in 265 ms; the next, threads:32, took 1.11× as long (95 % interval 1.10–1.12).
        It needed 3.49 MiB of memory at its peak and 44.0 ms of CPU per 1,000 URLs, and no fast arm needed much less.
        The slowest, 32xsequential, took 529 ms, 1.99× as long as the first.
        "#);
    }

    #[test]
    fn a_tie() {
        let builder = StudyBuilder::new()
            .arms(&["async:32", "threads:32", "threads:32@ureq"])
            .slower("threads:32@ureq", 1.3);
        insta::assert_snapshot!(said(&builder.clone().noise(0.003).build()), @r#"
        async:32 (264 ms) and threads:32 (264 ms) finished first, equivalent within ±5.0 %.
        async:32 needed 3.49 MiB of memory at its peak and 43.0 ms of CPU per 1,000 URLs, and no fast arm needed much less.
        "#);
        insta::assert_snapshot!(said(&builder.noise(0.1).build()), @r#"
        This machine was too noisy to tell whether a difference in time is within ±5.0 %: the baseline, run twice, is known to ±8.4 % only.
        We cannot tell which is fastest: threads:32 (260 ms) and async:32 (276 ms) are too close for 10 blocks.
        threads:32 needed 4.05 MiB of memory at its peak, but 59.5 ms of CPU per 1,000 URLs, 1.31× that of async:32.
        "#);
    }

    #[test]
    fn few_blocks_are_told() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "2xasync:16"])
            .slower("2xasync:16", 0.8)
            .blocks(4)
            .build();
        insta::assert_snapshot!(said(&study), @r#"
        2xasync:16 finished first, in 213 ms: 0.81× the time of async:32 (95 % interval 0.80–0.82, 4 blocks, not tested).
        It needed 37.0 ms of CPU per 1,000 URLs, but 4.84 MiB of memory at its peak, 1.39× that of async:32.
        "#);
    }

    #[test]
    fn a_winner_that_fails_is_no_clear_winner() {
        let mut study = StudyBuilder::new()
            .arms(&["async:32", "2xasync:16"])
            .slower("2xasync:16", 0.8)
            .build_raw();
        for trial in &mut study.trials {
            if trial.arm == "2xasync:16" {
                trial.failed = 5;
                trial.completed -= 5;
            }
        }
        conclude(&mut study, &Options::default());
        insta::assert_snapshot!(said(&study), @r#"
        2xasync:16 finished first, in 210 ms: 0.80× the time of async:32 (95 % interval 0.79–0.81).
        It needed 4.83 MiB of memory at its peak and 37.0 ms of CPU per 1,000 URLs, but 50 of its URLs failed.
        "#);
    }

    #[test]
    fn noise_comes_first() {
        let mut study = StudyBuilder::new().arms(&["async:32", "2xasync:16"]).build_raw();
        for trial in &mut study.trials {
            if trial.arm == "async:32 (again)" && trial.block % 2 == 0 {
                trial.makespan_s = trial.makespan_s.map(|s| s * 1.2);
            }
        }
        conclude(&mut study, &Options::default());
        insta::assert_snapshot!(verdict(&study)[0], @"This machine was too noisy to tell whether a difference in time is within ±5.0 %: the baseline, run twice, is known to ±6.8 % only.");
    }

    #[test]
    fn nothing_to_compare() {
        let alone = StudyBuilder::new().arms(&["async:32"]).build();
        insta::assert_snapshot!(said(&alone), @"async:32 took 263 ms (median of 10 blocks).");
        let mut none = alone.clone();
        for trial in &mut none.trials {
            trial.abandoned = 1;
            trial.completed -= 1;
        }
        conclude(&mut none, &Options::default());
        insta::assert_snapshot!(said(&none), @"No trial can be compared; the first was left out because 1 URL was abandoned after three lost leases.");
        insta::assert_snapshot!(said(&Study::default()), @"Nothing was fetched, so there is nothing to compare.");
        let null = StudyBuilder::new().arms(&["async:32@null"]).build();
        insta::assert_snapshot!(said(&null), @"Nothing was fetched, so there is nothing to compare.");
    }
}
