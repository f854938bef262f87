//! What failed, and what came back.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    format,
    record::{ArmRecord, Study, TrialRecord},
    text::{counted, words::listed},
};

/// Most arms that the sentence lists one by one.
const LISTED_MAX: usize = 3;

/// Arms that fetch, the control not among them.
fn subjects(study: &Study) -> impl Iterator<Item = &ArmRecord> {
    study.arms.iter().filter(|arm| arm.fetches() && !arm.control)
}

/// An arm's trials but the discarded one: a trial that may not be compared has failed all the same.
fn attempts<'a>(study: &'a Study, arm: &'a ArmRecord) -> impl Iterator<Item = &'a TrialRecord> {
    study.trials.iter().filter(|trial| trial.arm == arm.name && !trial.discarded)
}

fn lost(trial: &TrialRecord) -> u64 {
    trial.failed.saturating_add(trial.abandoned)
}

/// URLs that an arm failed or gave up.
pub(crate) fn failed(study: &Study, arm: &ArmRecord) -> u64 {
    attempts(study, arm).map(lost).fold(0, u64::saturating_add)
}

/// Which arms failed URLs; one sentence where every trial failed the same number.
pub(crate) fn failures(study: &Study) -> Option<String> {
    let of_trials = subjects(study).flat_map(|arm| attempts(study, arm));
    let of_trials: BTreeSet<(u64, u64)> =
        of_trials.map(|trial| (lost(trial), trial.completed.saturating_add(lost(trial)))).collect();
    if let [(failed, urls)] = Vec::from_iter(&of_trials)[..] {
        let urls_text = counted(*urls, "URL");
        return match *failed {
            0 => None,
            _ if failed == urls => Some(format!("Every URL failed in every trial ({urls_text}).")),
            _ => Some(format!("In every trial {} of {urls_text} failed.", format::count(*failed))),
        };
    }
    let mut arms: Vec<(f64, String)> = Vec::new();
    let mut none = 0;
    for arm in subjects(study) {
        let trials: Vec<_> = attempts(study, arm).collect();
        let failed = failed(study, arm);
        let completed = trials.iter().map(|t| t.completed).fold(0, u64::saturating_add);
        if failed == 0 {
            none += usize::from(!trials.is_empty());
            continue;
        }
        let urls = counted(failed.saturating_add(completed), "URL");
        let hit = trials.iter().filter(|trial| lost(trial) > 0).count();
        let told = match completed {
            0 => format!("{} failed every URL and is not compared", arm.name),
            _ => format!(
                "{} failed {} of {urls}, in {hit} of {}",
                arm.name,
                format::count(failed),
                counted(trials.len() as u64, "trial")
            ),
        };
        arms.push((failed as f64 / (completed as f64 + failed as f64), told));
    }
    arms.sort_by(|a, b| b.0.total_cmp(&a.0));
    let more = arms.len().saturating_sub(LISTED_MAX);
    let mut told: Vec<String> = arms.into_iter().take(LISTED_MAX).map(|(_, told)| told).collect();
    if told.is_empty() {
        return None;
    }
    if more > 0 {
        told.push(format!("{} failed a smaller share", counted(more as u64, "other arm")));
    }
    match none {
        0 => {}
        1 => told.push("one arm failed none".to_owned()),
        none => told.push(format!("{none} arms failed none")),
    }
    Some(format!("{}.", told.join("; ")))
}

/// What came back for an arm, in all its attempts: how many URLs by status or kind of failure.
pub(crate) fn seen(study: &Study, arm: &ArmRecord) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (what, n) in attempts(study, arm).flat_map(seen_in) {
        let known = sum.entry(what).or_insert(0_u64);
        *known = known.saturating_add(n);
    }
    sum
}

/// The same for one trial.
fn seen_in(trial: &TrialRecord) -> BTreeMap<String, u64> {
    let failures = trial.outcomes.iter().filter(|(outcome, _)| *outcome != "ok");
    let failures = failures.map(|(outcome, n)| (outcome.replace('_', " "), *n));
    let statuses = trial.statuses.iter().map(|(status, n)| (status.clone(), *n));
    statuses.chain(failures).filter(|(_, n)| *n > 0).collect()
}

/// The statuses and failures that came back, where there was anything but 200: of every arm where
/// all got the same, else by arm.
pub(crate) fn answers_seen(study: &Study) -> Option<String> {
    let mut by_arm: Vec<(&str, BTreeMap<String, u64>)> = Vec::new();
    let mut alike: Option<BTreeMap<String, u64>> = None;
    let mut all_alike = true;
    for arm in subjects(study) {
        for trial in attempts(study, arm) {
            let seen = seen_in(trial);
            all_alike &= alike.get_or_insert_with(|| seen.clone()) == &seen;
        }
        let sum = seen(study, arm);
        if !sum.is_empty() {
            by_arm.push((&arm.name, sum));
        }
    }
    let told = |seen: &BTreeMap<String, u64>| {
        let each = seen.iter().map(|(what, n)| format!("{} × {what}", format::count(*n)));
        listed(&each.collect::<Vec<_>>())
    };
    let alike = alike?;
    let plain = |seen: &BTreeMap<String, u64>| seen.keys().all(|what| what == "200");
    if by_arm.iter().all(|(_, seen)| plain(seen)) {
        return None;
    }
    if all_alike {
        return Some(format!("Answers in every trial: {}.", told(&alike)));
    }
    let each = by_arm.iter().map(|(arm, seen)| format!("{arm} {}", told(seen)));
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
        insta::assert_snapshot!(answers_seen(&study).unwrap(), @"Answers: async:32 1,200 × 200; threads:32 1,140 × 200 and 60 × reset; 2xasync:16 1,200 × 200.");
    }

    #[test]
    fn what_every_trial_has_is_said_once() {
        let mut study = study(|trial| fail(trial, 25));
        insta::assert_snapshot!(failures(&study).unwrap(), @"In every trial 25 of 200 URLs failed.");
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
