//! Trials that fetched something else than the others did: the majority is taken as right.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    format,
    record::{Study, TrialRecord},
    statistics::median,
    text::counted,
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

/// What speaks against each trial, given those that lost fewest URLs.
///
/// A failure is an outcome of an arm and no disagreement: what failed is missing among the statuses,
/// and as many may differ. A trial that lost clearly more URLs than others did less work than they,
/// so that its time cannot be compared.
fn disagreeing(study: &Study, fetched: &[(usize, &TrialRecord)]) -> Vec<(usize, String)> {
    let Some(least) = fetched.iter().map(|(_, trial)| trial.failed).min() else {
        return Vec::new();
    };
    let own_origin = study.manifest.origin.is_some();
    let whole = |trial: &TrialRecord| {
        let more = trial.failed - least;
        more == 0 || (!own_origin && more as f64 <= tolerance(trial))
    };
    let whole: Vec<&TrialRecord> =
        fetched.iter().map(|(_, trial)| *trial).filter(|trial| whole(trial)).collect();
    let usual = if own_origin { exactly(&whole) } else { about(&whole) };
    let against = |trial: &TrialRecord| {
        let more = trial.failed - least;
        if more as f64 > tolerance(trial) {
            return Some(match least {
                0 => format!("{} failed that other trials fetched", counted(more, "URL")),
                _ => format!("{} failed more than in other trials", counted(more, "URL")),
            });
        }
        usual.against(trial, more)
    };
    let fetched = fetched.iter();
    fetched.filter_map(|(at, trial)| Some((*at, against(trial)?))).collect()
}

/// So many URLs of a trial may end otherwise.
fn tolerance(trial: &TrialRecord) -> f64 {
    (FOREIGN_TOLERANCE * trial.urls() as f64).max(1.0)
}

/// What most trials fetched.
enum Usual<'a> {
    /// fanout's own origin answers every trial alike, to the byte; how far a failed body came is a
    /// matter of moments, and then the bytes are not known.
    Exactly(&'a BTreeMap<String, u64>, Option<u64>),
    /// Pages of a server that is not fanout's own may change a little.
    About(BTreeMap<&'a str, f64>, f64),
}

fn exactly<'a>(whole: &[&'a TrialRecord]) -> Usual<'a> {
    let mut votes: BTreeMap<(&BTreeMap<String, u64>, Option<u64>), usize> = BTreeMap::new();
    for trial in whole {
        let bytes = (trial.failed == 0).then_some(trial.bytes);
        *votes.entry((&trial.statuses, bytes)).or_default() += 1;
    }
    let most = votes.into_iter().max_by_key(|(_, count)| *count);
    let ((statuses, bytes), _) = most.expect("one lost fewest URLs");
    Usual::Exactly(statuses, bytes)
}

fn about<'a>(whole: &[&'a TrialRecord]) -> Usual<'a> {
    let names: BTreeSet<&str> =
        whole.iter().flat_map(|trial| trial.statuses.keys().map(String::as_str)).collect();
    let middle = |of: &dyn Fn(&TrialRecord) -> u64| {
        median(whole.iter().map(|trial| of(trial) as f64)).unwrap_or(0.0)
    };
    let statuses = names.into_iter().map(|name| (name, middle(&|trial| count_of(trial, name))));
    Usual::About(statuses.collect(), middle(&|trial| trial.bytes))
}

impl Usual<'_> {
    /// How a trial differs, of which `failed` more URLs failed, if it does.
    fn against(&self, trial: &TrialRecord, failed: u64) -> Option<String> {
        match self {
            Self::Exactly(usual, bytes) => {
                if differing(&trial.statuses, usual) > failed {
                    return Some(format!(
                        "its statuses ({}) differ from those of the other trials ({})",
                        statuses(&trial.statuses),
                        statuses(usual)
                    ));
                }
                let differs = |bytes: &u64| failed == 0 && trial.bytes != *bytes;
                bytes.filter(differs).map(|bytes| {
                    format!(
                        "its bodies have {} bytes, those of the other trials {}",
                        format::count(trial.bytes),
                        format::count(bytes)
                    )
                })
            }
            Self::About(usual, bytes) => {
                let names = usual.keys().copied().chain(trial.statuses.keys().map(String::as_str));
                let names: BTreeSet<&str> = names.collect();
                let middle = |name: &str| usual.get(name).copied().unwrap_or(0.0);
                let strays = |name: &&str| {
                    (count_of(trial, name) as f64 - middle(name)).abs() > tolerance(trial)
                };
                if let Some(name) = names.into_iter().find(strays) {
                    Some(format!(
                        "it met status {name} {} times, the other trials {}",
                        format::count(count_of(trial, name)),
                        format::significant(middle(name))
                    ))
                } else if failed == 0
                    && (trial.bytes as f64 - bytes).abs() > FOREIGN_TOLERANCE * bytes
                {
                    Some(format!(
                        "its bodies have {}, those of the other trials {}",
                        format::bytes(trial.bytes as f64),
                        format::bytes(*bytes)
                    ))
                } else {
                    None
                }
            }
        }
    }
}

/// So many URLs at least ended otherwise.
fn differing(own: &BTreeMap<String, u64>, usual: &BTreeMap<String, u64>) -> u64 {
    let more_in = |one: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>| -> u64 {
        let more = |(name, n): (&String, &u64)| n.saturating_sub(*other.get(name).unwrap_or(&0));
        one.iter().map(more).sum()
    };
    more_in(own, usual).max(more_in(usual, own))
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
            fail(trial, 1);
            trial.statuses.insert("200".into(), 1_000);
        }
        study.trials[5].statuses = [("200".into(), 999), ("503".into(), 1)].into();
        assert_eq!(disagreements(&study).len(), 1);
    }

    /// So many of a trial's URLs got no response.
    fn fail(trial: &mut TrialRecord, urls: u64) {
        trial.failed += urls;
        trial.completed -= urls;
        trial.bytes -= urls * 1_000;
        let ok = trial.statuses.get_mut("200").unwrap();
        *ok -= urls;
    }

    #[test]
    fn a_few_failures_are_the_arms_and_many_are_less_work() {
        for foreign in [false, true] {
            let mut study = study();
            study.trials.retain(|trial| trial.arm != "async:32@null");
            if foreign {
                study.manifest.origin = None;
            }
            // Most trials lose a few URLs: who loses none is still right.
            for trial in study.trials.iter_mut().skip(1) {
                fail(trial, 4);
            }
            assert_eq!(disagreements(&study), [], "foreign: {foreign}");
            fail(&mut study.trials[3], 20);
            let told = disagreements(&study);
            assert_eq!(told, [(3, "24 URLs failed that other trials fetched".to_owned())]);
            assert_eq!(outvoted(&study), told);
            // What fails in every trial, a dead host's URLs, keeps nothing from being compared.
            for trial in &mut study.trials {
                fail(trial, 300);
            }
            assert_eq!(
                disagreements(&study),
                [(3, "24 URLs failed more than in other trials".to_owned())]
            );
        }
    }

    #[test]
    fn arms_that_fail_are_no_majority() {
        let mut study = study();
        study.trials.retain(|trial| trial.arm != "async:32@null");
        for trial in &mut study.trials {
            if trial.arm != "async:32" {
                fail(trial, 1_000);
            }
        }
        let turned_away = disagreements(&study);
        assert!(turned_away.iter().all(|(at, _)| study.trials[*at].arm != "async:32"));
        assert!(turned_away.len() > study.trials.len() / 2);
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
