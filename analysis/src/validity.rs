//! Which trials may be compared.
//!
//! A gate turns a trial away for a reason with figures in it.

use std::collections::BTreeMap;

use crate::{
    format,
    record::{ArmRecord, Manifest, Study, TrialRecord},
    text::{counted, counted_were, listed},
    vote::{FOREIGN_TOLERANCE, disagreements},
};

/// Little's law and the independent gauge may differ by this share.
const LITTLE_TOLERANCE: f64 = 0.05;

/// What the manifest calls the list that fanout brings along.
pub(crate) const BUILT_IN: &str = "built-in";

/// A clock that lost more than this was suspended; less is rounding.
const SUSPENDED_S: f64 = 0.01;

/// Why a trial may not be compared, from what it shows alone: for the
/// coordinator to repeat it at once. Empty when nothing speaks against it.
#[must_use]
pub fn gates(trial: &TrialRecord, arm: &ArmRecord, manifest: &Manifest) -> Vec<String> {
    [
        lost(trial),
        abandoned(trial),
        suspended(trial),
        unfinished(trial, manifest),
        connections(trial, arm, manifest),
        concurrency(trial, arm, manifest),
        little(trial, arm),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn lost(trial: &TrialRecord) -> Option<String> {
    let workers: Vec<&str> = trial
        .workers
        .iter()
        .filter(|worker| worker.lost)
        .map(|worker| worker.name.as_str())
        .collect();
    // The coordinator says which fetcher was lost, if it knows.
    if !trial.degraded || (workers.is_empty() && !trial.invalid_reasons.is_empty()) {
        return None;
    }
    let who = match (workers.is_empty(), trial.fetchers_lost) {
        (false, _) => format!("{} was lost", listed(&workers)),
        (true, 0 | 1) => "a fetcher was lost".to_owned(),
        (true, lost) => format!("{lost} fetchers were lost"),
    };
    let again = counted_were(trial.requeued, "URL");
    let done = trial
        .recovery_s
        .map_or(String::new(), |took| format!(" and done within {}", format::duration(took)));
    Some(format!("{who}: {again} leased again{done}"))
}

fn abandoned(trial: &TrialRecord) -> Option<String> {
    (trial.abandoned > 0).then(|| {
        format!("{} abandoned after three lost leases", counted_were(trial.abandoned, "URL"))
    })
}

fn suspended(trial: &TrialRecord) -> Option<String> {
    let slept = trial.suspended_s.filter(|slept| *slept > SUSPENDED_S)?;
    Some(format!("the machine was suspended for {}", format::duration(slept)))
}

fn unfinished(trial: &TrialRecord, manifest: &Manifest) -> Option<String> {
    let done = trial.urls();
    (done != manifest.urls).then(|| {
        format!("{} of {} URLs were done", format::count(done), format::count(manifest.urls))
    })
}

/// Whether a connection for every request is what was asked for, or declared.
fn opens_for_each(arm: &ArmRecord, manifest: &Manifest) -> bool {
    manifest.http.settings.no_keepalive || arm.closes_connections
}

/// The origin saw more connections than slots and replacements explain.
fn connections(trial: &TrialRecord, arm: &ArmRecord, manifest: &Manifest) -> Option<String> {
    let origin = trial.origin?;
    // The core's slots own their connections. A client with a pool may dial
    // while a connection is on its way back to it; what it may not do is keep
    // more requests under way, which `concurrency` sees to.
    let dials_ahead = if arm.owns_connections() { 1 } else { 2 };
    let slots = arm.slots() * base_urls(manifest) * dials_ahead;
    if opens_for_each(arm, manifest) {
        let requests = trial.requests_sent.unwrap_or(origin.requests);
        return (origin.connections > requests).then(|| {
            format!(
                "the origin counted {}, more than the {} sent",
                counted(origin.connections, "connection"),
                counted(requests, "request")
            )
        });
    }
    // A failed exchange takes its connection with it; the origin may see the
    // next one before it sees that.
    let open = slots + trial.failed;
    if origin.connections_peak > open {
        return Some(format!(
            "the origin counted {} at a time, more than {} ({} and {})",
            counted(origin.connections_peak, "connection"),
            format::count(open),
            counted(slots, "slot"),
            counted(trial.failed, "failure")
        ));
    }
    // Whatever the origin closed must be replaced. It closes nothing of the
    // built-in list; of another, only its own count can tell.
    let closed = match origin.connections_closed {
        Some(closed) => closed,
        None if manifest.list == BUILT_IN => 0,
        None => return None,
    };
    let replaced = trial.stale_retries.unwrap_or(0) + closed + trial.failed;
    (origin.connections > slots + replaced).then(|| {
        format!(
            "the origin counted {}, more than {} ({} and {})",
            counted(origin.connections, "connection"),
            format::count(slots + replaced),
            counted(slots, "slot"),
            counted(replaced, "replacement")
        )
    })
}

/// The origin saw more requests at a time than the arm may have in flight.
fn concurrency(trial: &TrialRecord, arm: &ArmRecord, manifest: &Manifest) -> Option<String> {
    let seen = trial.origin?.concurrent_peak;
    let slots = arm.slots();
    if let Some(limit) = manifest.max_per_host {
        // A host is a name and a port, and so is each of the origin's addresses.
        let limit = u64::from(limit) * base_urls(manifest) + trial.failed;
        if seen > limit && slots > limit {
            return Some(format!(
                "the origin counted {} requests at a time, more than the {} that --max-per-host allows",
                format::count(seen),
                format::count(limit)
            ));
        }
    }
    // The origin goes on with a request that its client has given up. And where each request has a
    // connection of its own, the next may arrive before the origin has put the last one away.
    let overlap = if opens_for_each(arm, manifest) { slots } else { 0 };
    let allowed = slots + trial.failed + overlap;
    (seen > allowed).then(|| {
        format!(
            "the origin counted {} requests at a time, more than {} × {} = {}",
            format::count(seen),
            arm.processes,
            arm.concurrency,
            format::count(slots)
        )
    })
}

/// L = λW (Little 1961): URLs in flight, from a gauge of its own, against
/// completions per second times mean latency.
fn little(trial: &TrialRecord, arm: &ArmRecord) -> Option<String> {
    if !arm.fetches() {
        return None; // nothing is ever in flight
    }
    let gauge = trial.in_flight_mean?;
    let latency = trial.latency_s?;
    let span = trial.fetch_makespan_s.or(trial.makespan_s)?;
    let done = (trial.completed + trial.failed) as f64;
    if span <= 0.0 || gauge <= 0.0 || (latency.count as f64) < (1.0 - FOREIGN_TOLERANCE) * done {
        return None; // latencies that are not all there cannot be summed
    }
    let law = latency.count as f64 / span * latency.mean;
    let off = law / gauge - 1.0;
    (off.abs() > LITTLE_TOLERANCE).then(|| {
        format!(
            "Little's law is off by {}: {}/s × {} is {} in flight, but the gauge says {}",
            format::percent(off.abs()),
            format::rate(latency.count as f64 / span),
            format::duration(latency.mean),
            format::significant(law),
            format::significant(gauge)
        )
    })
}

/// A slot may keep a connection to each of the origin's addresses.
fn base_urls(manifest: &Manifest) -> u64 {
    let urls = manifest.origin.as_ref().map_or(1, |o| o.urls.len().max(1));
    urls as u64
}

/// Marks every trial that may not be compared, with the reasons. Trials that
/// were marked before keep their marks.
pub(crate) fn mark(study: &mut Study) {
    let arms: BTreeMap<&str, &ArmRecord> =
        study.arms.iter().map(|arm| (arm.name.as_str(), arm)).collect();
    for trial in &mut study.trials {
        if let Some(arm) = arms.get(trial.arm.as_str()) {
            for reason in gates(trial, arm, &study.manifest) {
                turn_away(trial, reason);
            }
        }
    }
    for (at, reason) in disagreements(study) {
        turn_away(&mut study.trials[at], reason);
    }
}

fn turn_away(trial: &mut TrialRecord, reason: String) {
    trial.valid = false;
    if !trial.invalid_reasons.contains(&reason) {
        trial.invalid_reasons.push(reason);
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::{
        conclude,
        fixture::{self, StudyBuilder},
        record::{OriginMetrics, PRIMARY, Verdict},
    };

    fn study() -> Study {
        StudyBuilder::new()
            .arms(&["async:32", "4xthreads:8", "async:32@null"])
            .blocks(8)
            .build_raw()
    }

    fn arm<'a>(study: &'a Study, name: &str) -> &'a ArmRecord {
        study.arms.iter().find(|arm| arm.name == name).unwrap()
    }

    /// The gates' reasons against a trial of `4xthreads:8` with a change.
    fn refused(change: impl FnOnce(&mut TrialRecord)) -> String {
        refused_with(|_| {}, change)
    }

    fn refused_with(
        manifest: impl FnOnce(&mut Manifest),
        change: impl FnOnce(&mut TrialRecord),
    ) -> String {
        let mut study = study();
        manifest(&mut study.manifest);
        let mut trial =
            study.trials.iter().find(|trial| trial.arm == "4xthreads:8").unwrap().clone();
        change(&mut trial);
        gates(&trial, arm(&study, "4xthreads:8"), &study.manifest).join("; ")
    }

    fn origin(trial: &mut TrialRecord) -> &mut OriginMetrics {
        trial.origin.as_mut().unwrap()
    }

    #[test]
    fn a_sound_trial_passes_every_gate() {
        let study = fixture::study();
        for trial in study.trials.iter().filter(|trial| !trial.degraded) {
            let reasons = gates(trial, arm(&study, &trial.arm), &study.manifest);
            assert_eq!(reasons, Vec::<String>::new(), "{}", trial.arm);
        }
        assert_eq!(disagreements(&study), []);
    }

    #[test]
    fn losses_are_told() {
        assert_snapshot!(refused(|t| { t.degraded = true; t.requeued = 12 }), @"a fetcher was lost: 12 URLs were leased again");
        assert_snapshot!(refused(|t| { t.degraded = true; t.requeued = 9; t.fetchers_lost = 2; t.recovery_s = Some(0.31) }), @"2 fetchers were lost: 9 URLs were leased again and done within 310 ms");
        assert_snapshot!(refused(|t| { t.degraded = true; t.workers[0].lost = true }), @"local-1 was lost: 0 URLs were leased again");
        assert_snapshot!(refused(|t| { t.abandoned = 1; t.completed -= 1 }), @"1 URL was abandoned after three lost leases");
        assert_snapshot!(refused(|t| t.completed -= 400), @"600 of 1,000 URLs were done");
        assert_snapshot!(refused(|t| t.suspended_s = Some(64.2)), @"the machine was suspended for 64.2 s");
        assert_eq!(refused(|t| t.suspended_s = Some(0.000_02)), "");
    }

    #[test]
    fn the_origin_counts_more_than_the_arm_has() {
        assert_snapshot!(refused(|t| origin(t).connections = 33), @"the origin counted 33 connections, more than 32 (32 slots and 0 replacements)");
        assert_snapshot!(refused(|t| origin(t).connections_peak = 33), @"the origin counted 33 connections at a time, more than 32 (32 slots and 0 failures)");
        assert_snapshot!(refused(|t| origin(t).concurrent_peak = 33), @"the origin counted 33 requests at a time, more than 4 × 8 = 32");
    }

    #[test]
    fn a_limit_per_host_is_held() {
        let limited = |m: &mut Manifest| m.max_per_host = Some(6);
        assert_eq!(refused_with(limited, |t| origin(t).concurrent_peak = 6), "");
        assert_snapshot!(refused_with(limited, |t| origin(t).concurrent_peak = 7), @"the origin counted 7 requests at a time, more than the 6 that --max-per-host allows");
    }

    #[test]
    fn a_pool_may_dial_ahead_and_a_slot_may_not() {
        let study = fixture::study();
        let refused = |client: &str, peak: u64| {
            let mut trial = study.trials[0].clone();
            let arm = study.arms.iter().find(|arm| arm.name == trial.arm);
            let mut arm = arm.expect("the trial is of an arm").clone();
            arm.client = client.to_owned();
            let slots = u64::from(arm.processes * arm.concurrency);
            let origin = trial.origin.as_mut().expect("the fixture has an origin");
            origin.connections_peak = slots + peak;
            origin.connections = slots + peak;
            connections(&trial, &arm, &study.manifest).is_some()
        };
        assert!(refused("core", 1));
        assert!(!refused("reqwest", 1) && !refused("ureq", 1));
        assert!(refused("reqwest", 1_000));
    }

    #[test]
    fn replaced_connections_are_allowed() {
        let twice = |t: &mut TrialRecord| origin(t).connections = 64;
        assert_ne!(refused(twice), "");
        assert_eq!(
            refused(|t| {
                twice(t);
                t.stale_retries = Some(32)
            }),
            ""
        );
        assert_eq!(
            refused(|t| {
                twice(t);
                origin(t).connections_closed = Some(32)
            }),
            ""
        );
        assert_eq!(
            refused(|t| {
                twice(t);
                t.failed = 32;
                t.completed -= 32
            }),
            ""
        );
        let unknown = |t: &mut TrialRecord| {
            twice(t);
            origin(t).connections_closed = None;
        };
        assert_ne!(refused(unknown), "");
        assert_eq!(refused_with(|m| m.list = "urls.txt".into(), unknown), "");
        let two = |m: &mut Manifest| m.origin.as_mut().unwrap().urls.push("https://x".into());
        assert_eq!(refused_with(two, twice), "");
        let no_keepalive = |m: &mut Manifest| m.http.settings.no_keepalive = true;
        assert_eq!(refused_with(no_keepalive, |t| origin(t).connections = 1_000), "");
        assert_snapshot!(refused_with(no_keepalive, |t| origin(t).connections = 1_001), @"the origin counted 1,001 connections, more than the 1,000 requests sent");
    }

    #[test]
    fn littles_law_catches_a_wrong_gauge() {
        assert_snapshot!(refused(|t| t.in_flight_mean = t.in_flight_mean.map(|n| n * 0.9)), @"Little's law is off by 11 %: 3,726/s × 8.33 ms is 31.0 in flight, but the gauge says 27.9");
        assert_eq!(refused(|t| t.in_flight_mean = t.in_flight_mean.map(|n| n * 0.97)), "");
        // Latencies of part of the URLs say nothing about all.
        assert_eq!(
            refused(|t| {
                t.in_flight_mean = Some(1.0);
                t.latency_s.as_mut().unwrap().count /= 2;
            }),
            ""
        );
    }

    #[test]
    fn a_trial_turned_away_is_not_compared_and_marking_twice_changes_nothing() {
        let mut study = study();
        let at = study
            .trials
            .iter()
            .position(|trial| trial.arm == "4xthreads:8" && trial.block == 3)
            .unwrap();
        study.trials[at].bytes += 1;
        study.trials[at].makespan_s = Some(1e6);
        conclude(&mut study, &crate::Options::default());
        let comparison = study
            .comparisons
            .iter()
            .find(|c| c.arm == "4xthreads:8" && c.metric == PRIMARY.name)
            .unwrap();
        assert_eq!(comparison.blocks, 7);
        assert!(comparison.ratio < 2.0 && comparison.verdict != Verdict::Estimate);
        let once = study.clone();
        conclude(&mut study, &crate::Options::default());
        assert_eq!(study, once);
    }
}
