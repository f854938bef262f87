//! Trials that fetched something else than the others did: the majority is taken as right.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    format,
    record::{Study, TrialRecord},
    statistics::median,
};

/// Where the server is not fanout's own, pages may change from trial to trial by this share.
pub(crate) const FOREIGN_TOLERANCE: f64 = 0.01;

/// Trials that fetched something else than the others did, by their position,
/// with the reason. What most trials agree on is taken as right.
#[must_use]
pub fn disagreements(study: &Study) -> Vec<(usize, String)> {
    disagreeing(study, &fetched(study))
}

/// Those disagreements that are settled while the study runs: fewer than half
/// of the trials disagree, so it is known which are to be repeated.
#[must_use]
pub fn outvoted(study: &Study) -> Vec<(usize, String)> {
    let fetched = fetched(study);
    let mut disagreeing = disagreeing(study, &fetched);
    if disagreeing.len() * 2 >= fetched.len() {
        disagreeing.clear();
    }
    disagreeing
}

/// Trials whose bodies and statuses can be compared, by their position.
fn fetched(study: &Study) -> Vec<(usize, &TrialRecord)> {
    let fetches = |trial: &TrialRecord| {
        let arm = study.arms.iter().find(|arm| arm.name == trial.arm);
        arm.is_some_and(|arm| arm.fetches())
    };
    let trials = study.trials.iter().enumerate();
    trials.filter(|(_, trial)| trial.valid && !trial.degraded && fetches(trial)).collect()
}

fn disagreeing(study: &Study, fetched: &[(usize, &TrialRecord)]) -> Vec<(usize, String)> {
    if study.manifest.origin.is_some() { differing(fetched) } else { straying(fetched) }
}

/// fanout's own origin answers every trial alike, to the byte.
fn differing(fetched: &[(usize, &TrialRecord)]) -> Vec<(usize, String)> {
    type Fetched = (BTreeMap<String, u64>, Option<u64>);
    // How far a failed body came is a matter of moments.
    let of = |trial: &TrialRecord| -> Fetched {
        (trial.statuses.clone(), (trial.failed == 0).then_some(trial.bytes))
    };
    let mut votes: BTreeMap<Fetched, usize> = BTreeMap::new();
    for (_, trial) in fetched {
        *votes.entry(of(trial)).or_default() += 1;
    }
    let Some((usual, _)) = votes.iter().max_by_key(|(_, count)| **count) else {
        return Vec::new();
    };
    fetched
        .iter()
        .filter_map(|(at, trial)| {
            let own = of(trial);
            let reason = if own.0 != usual.0 {
                format!(
                    "its statuses ({}) differ from those of the other trials ({})",
                    statuses(&own.0),
                    statuses(&usual.0)
                )
            } else if let (Some(own), Some(usual)) = (own.1, usual.1)
                && own != usual
            {
                format!(
                    "its bodies have {} bytes, those of the other trials {}",
                    format::count(own),
                    format::count(usual)
                )
            } else {
                return None;
            };
            Some((*at, reason))
        })
        .collect()
}

/// Pages of a server that is not fanout's own may change a little.
fn straying(fetched: &[(usize, &TrialRecord)]) -> Vec<(usize, String)> {
    let names: BTreeSet<&str> =
        fetched.iter().flat_map(|(_, trial)| trial.statuses.keys().map(String::as_str)).collect();
    let middle = |of: &dyn Fn(&TrialRecord) -> u64| {
        median(fetched.iter().map(|(_, trial)| of(trial) as f64)).unwrap_or(0.0)
    };
    let bytes = middle(&|trial| trial.bytes);
    let usual: BTreeMap<&str, f64> =
        names.into_iter().map(|name| (name, middle(&|trial| count_of(trial, name)))).collect();
    fetched
        .iter()
        .filter_map(|(at, trial)| {
            let urls = (trial.completed + trial.failed + trial.abandoned) as f64;
            let status = usual.iter().find(|(name, usual)| {
                (count_of(trial, name) as f64 - **usual).abs() > (FOREIGN_TOLERANCE * urls).max(1.0)
            });
            let reason = if let Some((name, usual)) = status {
                format!(
                    "it met status {name} {} times, the other trials {}",
                    format::count(count_of(trial, name)),
                    format::significant(*usual)
                )
            } else if (trial.bytes as f64 - bytes).abs() > FOREIGN_TOLERANCE * bytes {
                format!(
                    "its bodies have {}, those of the other trials {}",
                    format::bytes(trial.bytes as f64),
                    format::bytes(bytes)
                )
            } else {
                return None;
            };
            Some((*at, reason))
        })
        .collect()
}

fn count_of(trial: &TrialRecord, status: &str) -> u64 {
    trial.statuses.get(status).copied().unwrap_or(0)
}

fn statuses(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts
        .iter()
        .map(|(status, n)| format!("{} × {status}", format::count(*n)))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::fixture::StudyBuilder;

    fn study() -> Study {
        StudyBuilder::new()
            .arms(&["async:32", "4xthreads:8", "async:32@null"])
            .blocks(8)
            .build_raw()
    }

    #[test]
    fn what_differs_from_the_other_trials_is_turned_away() {
        let mut study = study();
        study.trials[4].bytes -= 1;
        study.trials[7].statuses = [("200".into(), 999), ("503".into(), 1)].into();
        study.trials.retain(|trial| trial.arm != "async:32@null");
        let told: Vec<String> = disagreements(&study)
            .into_iter()
            .map(|(at, reason)| format!("{at}: {reason}"))
            .collect();
        assert_snapshot!(told.join("\n"), @r#"
        3: its bodies have 33,279,999 bytes, those of the other trials 33,280,000
        5: its statuses (999 × 200, 1 × 503) differ from those of the other trials (1,000 × 200)
        "#);
        assert_eq!(outvoted(&study), disagreements(&study));
        // One against one, it is not known which is right.
        let mut undecided = study.clone();
        undecided.trials.drain(..3);
        undecided.trials.truncate(2);
        assert_ne!(disagreements(&undecided), []);
        assert_eq!(outvoted(&undecided), []);
        // With failures, how far bodies came is a matter of moments.
        for trial in &mut study.trials {
            trial.failed = 1;
            trial.completed -= 1;
        }
        assert_eq!(disagreements(&study).len(), 1);
    }

    #[test]
    fn foreign_pages_may_change_a_little() {
        let mut study = study();
        study.manifest.origin = None;
        study.trials.retain(|trial| trial.arm != "async:32@null");
        study.trials[2].bytes += 1_000;
        study.trials[3].statuses = [("200".into(), 995), ("503".into(), 5)].into();
        assert_eq!(disagreements(&study), []);
        study.trials[4].bytes *= 2;
        study.trials[5].statuses = [("200".into(), 900), ("503".into(), 100)].into();
        let told: Vec<String> = disagreements(&study)
            .into_iter()
            .map(|(at, reason)| format!("{at}: {reason}"))
            .collect();
        assert_snapshot!(told.join("\n"), @r#"
        4: its bodies have 63.5 MiB, those of the other trials 31.7 MiB
        5: it met status 200 900 times, the other trials 1,000
        "#);
    }
}
