//! What failed, and what came back.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    format,
    record::{Study, TrialRecord},
    statistics::{ArmSummary, summaries},
    text::{
        counted,
        words::{LISTED_MAX, listed},
    },
};

/// Arms that fetch, the control not among them.
fn subjects(study: &Study) -> Vec<ArmSummary<'_>> {
    let mut arms = summaries(study);
    arms.retain(|arm| arm.fetches() && !arm.arm.control);
    arms
}

/// Whether URLs were fetched and every one failed.
pub(crate) fn every_url_failed(study: &Study) -> bool {
    let arms = subjects(study);
    arms.iter().all(|arm| arm.lost == arm.urls) && arms.iter().any(|arm| arm.urls > 0)
}

/// Which arms failed URLs; one sentence where every trial failed the same number.
pub(crate) fn failures(study: &Study) -> Option<String> {
    let subjects = subjects(study);
    if every_url_failed(study) {
        let kinds = kinds_of_failure(&subjects);
        let how = if kinds.is_empty() { kinds } else { format!(": {kinds}") };
        return Some(format!("every URL failed{how}."));
    }
    let trials = subjects.iter().flat_map(|arm| &arm.attempts);
    let alike: BTreeSet<(u64, u64)> = trials.map(|trial| (trial.lost(), trial.urls())).collect();
    if let [(lost, urls)] = Vec::from_iter(alike)[..] {
        let lost = (lost > 0).then(|| format::count(lost))?;
        return Some(format!("in every trial {lost} of {} failed.", counted(urls, "URL")));
    }
    let (mut lossy, others): (Vec<_>, Vec<_>) =
        subjects.iter().filter(|arm| arm.urls > 0).partition(|arm| arm.lost > 0);
    let share = |arm: &ArmSummary<'_>| arm.lost as f64 / arm.urls as f64;
    lossy.sort_by(|a, b| share(b).total_cmp(&share(a)));
    let mut told: Vec<String> = lossy.iter().take(LISTED_MAX).map(|arm| of_arm(arm)).collect();
    if told.is_empty() {
        return None;
    }
    if let more @ 1.. = lossy.len() - told.len() {
        told.push(format!("{} failed a smaller share", counted(more as u64, "other arm")));
    }
    match others.len() {
        0 => {}
        1 => told.push("one arm failed none".to_owned()),
        none => told.push(format!("{none} arms failed none")),
    }
    Some(format!("{}.", told.join("; ")))
}

fn of_arm(arm: &ArmSummary<'_>) -> String {
    let name = &arm.arm.name;
    if arm.lost == arm.urls {
        return format!("{name} failed every URL and is not compared");
    }
    let (lost, urls) = (format::count(arm.lost), counted(arm.urls, "URL"));
    format!("{name} failed {lost} of {urls}, in {}", trials_that_lost(arm))
}

/// In how many of an arm's trials a URL failed: `3 of 10 trials`.
pub(crate) fn trials_that_lost(arm: &ArmSummary<'_>) -> String {
    let hit = arm.attempts.iter().filter(|trial| trial.lost() > 0).count();
    format!("{hit} of {}", counted(arm.attempts.len() as u64, "trial"))
}

/// How URLs failed in all trials of some arms, the most frequent kinds first.
pub(crate) fn kinds_of_failure<'a>(arms: impl IntoIterator<Item = &'a ArmSummary<'a>>) -> String {
    let trials = arms.into_iter().flat_map(|arm| &arm.attempts);
    let mut kinds = Vec::from_iter(added_up(trials.flat_map(|trial| kinds_in(trial))));
    kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let mut told: Vec<String> = kinds.iter().take(LISTED_MAX).map(times).collect();
    if let more @ 1.. = kinds.len() - told.len() {
        told.push(counted(more as u64, "other kind"));
    }
    listed(&told)
}

fn kinds_in(trial: &TrialRecord) -> impl Iterator<Item = (String, u64)> {
    let failures = trial.outcomes.iter().filter(|(outcome, n)| *outcome != "ok" && **n > 0);
    failures.map(|(outcome, n)| (outcome.replace('_', " "), *n))
}

/// `60 × reset`.
fn times((what, n): &(String, u64)) -> String {
    format!("{} × {what}", format::count(*n))
}

fn added_up(counts: impl Iterator<Item = (String, u64)>) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (what, n) in counts {
        let known = sum.entry(what).or_insert(0_u64);
        *known = known.saturating_add(n);
    }
    sum
}

/// What came back for an arm, in all its attempts: how many URLs by status or kind of failure.
pub(crate) fn seen(arm: &ArmSummary<'_>) -> BTreeMap<String, u64> {
    added_up(arm.attempts.iter().flat_map(|trial| seen_in(trial)))
}

/// The same for one trial.
fn seen_in(trial: &TrialRecord) -> BTreeMap<String, u64> {
    let statuses = trial.statuses.iter().filter(|(_, n)| **n > 0);
    let statuses = statuses.map(|(status, n)| (status.clone(), *n));
    statuses.chain(kinds_in(trial)).collect()
}

/// The statuses and failures that came back, where there was anything but 200: of every arm where
/// all got the same, else by arm.
pub(crate) fn answers_seen(study: &Study) -> Option<String> {
    let told = |seen: BTreeMap<String, u64>| {
        listed(&seen.into_iter().map(|each| times(&each)).collect::<Vec<_>>())
    };
    let arms = subjects(study);
    let trials = arms.iter().flat_map(|arm| &arm.attempts);
    let of_trials: BTreeSet<BTreeMap<String, u64>> = trials.map(|trial| seen_in(trial)).collect();
    if of_trials.iter().all(|seen| seen.keys().all(|what| what == "200")) {
        return None;
    }
    if of_trials.len() == 1 {
        return of_trials
            .into_iter()
            .next()
            .map(|alike| format!("Answers in every trial: {}.", told(alike)));
    }
    let each = arms.iter().map(|arm| (arm, seen(arm))).filter(|(_, seen)| !seen.is_empty());
    let each = each.map(|(arm, seen)| format!("{} {}", arm.arm.name, told(seen)));
    Some(format!("Answers: {}.", each.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::StudyBuilder;

    fn study(spoil: impl Fn(&mut TrialRecord)) -> Study {
        let arms = ["async:32", "threads:32", "2xasync:16"];
        let mut study = StudyBuilder::new().arms(&arms).blocks(6).urls(200).build_raw();
        study.trials.iter_mut().for_each(spoil);
        study
    }

    fn fail(trial: &mut TrialRecord, n: u64) {
        trial.failed = n;
        trial.completed -= n;
        trial.outcomes = [("ok".to_owned(), trial.completed), ("reset".to_owned(), n)].into();
        trial.statuses = [("200".to_owned(), trial.completed)].into();
    }

    #[test]
    fn where_nothing_failed_nothing_is_said() {
        let study = study(|_| {});
        assert_eq!((failures(&study), answers_seen(&study)), (None, None));
    }

    #[test]
    fn failures_of_one_arm_count_in_every_attempt() {
        let study = study(|trial| {
            if trial.arm == "threads:32" && trial.block % 2 == 1 {
                fail(trial, 20);
                trial.valid = false;
            }
        });
        insta::assert_snapshot!(failures(&study).unwrap(), @"threads:32 failed 60 of 1,200 URLs, in 3 of 6 trials; 2 arms failed none.");
        insta::assert_snapshot!(answers_seen(&study).unwrap(), @"Answers: threads:32 1,140 × 200 and 60 × reset; async:32 1,200 × 200; 2xasync:16 1,200 × 200.");
    }

    #[test]
    fn what_every_trial_has_is_said_once() {
        let mut study = study(|trial| fail(trial, 25));
        insta::assert_snapshot!(failures(&study).unwrap(), @"in every trial 25 of 200 URLs failed.");
        insta::assert_snapshot!(answers_seen(&study).unwrap(), @"Answers in every trial: 175 × 200 and 25 × reset.");
        // A status is an answer, not a failure.
        for trial in &mut study.trials {
            fail(trial, 0);
            trial.completed = 200;
            trial.statuses = [("200".to_owned(), 175), ("404".to_owned(), 25)].into();
        }
        assert_eq!(failures(&study), None);
        insta::assert_snapshot!(answers_seen(&study).unwrap(), @"Answers in every trial: 175 × 200 and 25 × 404.");
    }

    #[test]
    fn where_every_url_failed_the_most_frequent_kinds_are_told() {
        let mut study = study(|trial| {
            fail(trial, 200);
            let kinds = [("reset", 150), ("connect_timeout", 30), ("truncated", 15), ("dns", 5)];
            trial.outcomes = kinds.map(|(kind, n)| (kind.to_owned(), n)).into();
        });
        crate::conclude(&mut study, &crate::Options::default());
        let told = crate::text::verdict(&study);
        insta::assert_snapshot!(told.join("\n"), @"Every URL failed: 2,700 × reset, 540 × connect timeout, 270 × truncated and 1 other kind.");
    }

    #[test]
    fn an_arm_that_failed_everything_is_not_compared() {
        let mut study = study(|trial| {
            if trial.arm == "2xasync:16" {
                fail(trial, 200);
            }
        });
        crate::conclude(&mut study, &crate::Options::default());
        insta::assert_snapshot!(failures(&study).unwrap(), @"2xasync:16 failed every URL and is not compared; 2 arms failed none.");
        let table = crate::text::table(&study, 120, false, false);
        let row = table.lines().find(|line| line.starts_with("2xasync:16")).unwrap();
        assert!(!row.contains('★'), "{table}");
    }
}
