//! Which trials may be compared, and what a reader must know of the rest.
//!
//! A gate turns a trial away for a reason with figures in it. A caveat leaves
//! the trials in and tells the reader.

use std::collections::BTreeMap;

use crate::{
    format,
    record::{Arm, Manifest, Study, Trial},
    statistics::{ALPHA, blocks_needed, median, usable},
    text::{counted, counted_were, listed},
};

/// Little's law and the independent gauge may differ by this share.
const LITTLE_TOLERANCE: f64 = 0.05;
/// Where the server is not fanout's own, pages may change from trial to trial
/// by this share.
const FOREIGN_TOLERANCE: f64 = 0.01;
/// From this share of busy threads on the origin may have been the limit.
const ORIGIN_BUSY: f64 = 0.85;
/// Fewer processors than this are shared by origin, coordinator and fetchers.
const CPUS_APART: usize = 4;
/// What the manifest calls the list that fanout brings along.
const BUILT_IN: &str = "built-in";
/// An arm that waited for hosts for more than this share of its time was held
/// back by the limits per host.
const HELD_BACK: f64 = 0.01;
/// A clock that lost more than this was suspended; less is rounding.
const SUSPENDED_S: f64 = 0.01;

/// Why a trial may not be compared, from what it shows alone: for the
/// coordinator to repeat it at once. Empty when nothing speaks against it.
#[must_use]
pub fn gates(trial: &Trial, arm: &Arm, manifest: &Manifest) -> Vec<String> {
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

fn lost(trial: &Trial) -> Option<String> {
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
    let done = trial.recovery_s.map_or(String::new(), |took| {
        format!(" and done within {}", format::duration(took))
    });
    Some(format!("{who}: {again} leased again{done}"))
}

fn abandoned(trial: &Trial) -> Option<String> {
    (trial.abandoned > 0).then(|| {
        format!(
            "{} abandoned after three lost leases",
            counted_were(trial.abandoned, "URL")
        )
    })
}

fn suspended(trial: &Trial) -> Option<String> {
    let slept = trial.suspended_s.filter(|slept| *slept > SUSPENDED_S)?;
    Some(format!(
        "the machine was suspended for {}",
        format::duration(slept)
    ))
}

fn unfinished(trial: &Trial, manifest: &Manifest) -> Option<String> {
    let done = trial.completed + trial.failed + trial.abandoned;
    (done != manifest.urls).then(|| {
        format!(
            "{} of {} URLs were done",
            format::count(done),
            format::count(manifest.urls)
        )
    })
}

/// The origin saw more connections than slots and replacements explain.
fn connections(trial: &Trial, arm: &Arm, manifest: &Manifest) -> Option<String> {
    let origin = trial.origin?;
    // The core's slots own their connections. A client with a pool may dial
    // while a connection is on its way back to it; what it may not do is keep
    // more requests under way, which `concurrency` sees to.
    let dials_ahead = if arm.client == "core" { 1 } else { 2 };
    let slots = slots(arm) * base_urls(manifest) * dials_ahead;
    if manifest.http.no_keepalive {
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
fn concurrency(trial: &Trial, arm: &Arm, manifest: &Manifest) -> Option<String> {
    let seen = trial.origin?.concurrent_peak;
    let slots = slots(arm);
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
    // The origin goes on with a request that its client has given up. And
    // where each request has a connection of its own, the next may arrive
    // before the origin has put the last one away.
    let overlap = if manifest.http.no_keepalive { slots } else { 0 };
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
fn little(trial: &Trial, arm: &Arm) -> Option<String> {
    if arm.client == "null" {
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

fn slots(arm: &Arm) -> u64 {
    u64::from(arm.processes) * u64::from(arm.concurrency)
}

/// A slot may keep a connection to each of the origin's addresses.
fn base_urls(manifest: &Manifest) -> u64 {
    let urls = manifest.origin.as_ref().map_or(1, |o| o.urls.len().max(1));
    urls as u64
}

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
fn fetched(study: &Study) -> Vec<(usize, &Trial)> {
    let fetches = |trial: &Trial| {
        let arm = study.arms.iter().find(|arm| arm.name == trial.arm);
        arm.is_some_and(|arm| arm.client != "null")
    };
    let trials = study.trials.iter().enumerate();
    trials
        .filter(|(_, trial)| trial.valid && !trial.degraded && fetches(trial))
        .collect()
}

fn disagreeing(study: &Study, fetched: &[(usize, &Trial)]) -> Vec<(usize, String)> {
    if study.manifest.origin.is_some() {
        differing(fetched)
    } else {
        straying(fetched)
    }
}

/// fanout's own origin answers every trial alike, to the byte.
fn differing(fetched: &[(usize, &Trial)]) -> Vec<(usize, String)> {
    type Fetched = (BTreeMap<String, u64>, Option<u64>);
    // How far a failed body came is a matter of moments.
    let of = |trial: &Trial| -> Fetched {
        (
            trial.statuses.clone(),
            (trial.failed == 0).then_some(trial.bytes),
        )
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
fn straying(fetched: &[(usize, &Trial)]) -> Vec<(usize, String)> {
    let names: std::collections::BTreeSet<&str> = fetched
        .iter()
        .flat_map(|(_, trial)| trial.statuses.keys().map(String::as_str))
        .collect();
    let middle = |of: &dyn Fn(&Trial) -> u64| {
        median(fetched.iter().map(|(_, trial)| of(trial) as f64)).unwrap_or(0.0)
    };
    let bytes = middle(&|trial| trial.bytes);
    let usual: BTreeMap<&str, f64> = names
        .into_iter()
        .map(|name| (name, middle(&|trial| count_of(trial, name))))
        .collect();
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

fn count_of(trial: &Trial, status: &str) -> u64 {
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

/// Marks every trial that may not be compared, with the reasons. Trials that
/// were marked before keep their marks.
pub(crate) fn mark(study: &mut Study) {
    let arms: BTreeMap<&str, &Arm> = study
        .arms
        .iter()
        .map(|arm| (arm.name.as_str(), arm))
        .collect();
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

fn turn_away(trial: &mut Trial, reason: String) {
    trial.valid = false;
    if !trial.invalid_reasons.contains(&reason) {
        trial.invalid_reasons.push(reason);
    }
}

/// What a reader must know before believing a figure; the gravest first.
pub(crate) fn caveats(study: &Study) -> Vec<String> {
    [
        noisy_control(study),
        interrupted(study),
        few_blocks(study),
        turned_away(study),
        failures(study),
        fixed_rate(study),
        held_back(study),
        busy_origin(study),
        shared_machine(study),
        different_totals(study),
        shortened(study),
        changed_fleet(study),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Arms that had slots free, and were not allowed to use them.
fn held_back(study: &Study) -> Option<String> {
    let manifest = &study.manifest;
    let limits = [
        manifest.max_per_host.map(|n| format!("--max-per-host {n}")),
        manifest
            .rate_per_host
            .map(|r| format!("--rate-per-host {r}")),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    let share = |trial: &Trial| Some(trial.host_wait_s? / trial.makespan_s.filter(|s| *s > 0.0)?);
    let arms = study.arms.iter().filter(|arm| !arm.control);
    let each: Vec<_> = arms
        .filter_map(|arm| {
            let trials = study
                .trials
                .iter()
                .filter(|trial| trial.arm == arm.name && usable(trial));
            let share = median(trials.filter_map(share))?;
            (share > HELD_BACK).then(|| format!("{} {}", arm.name, format::percent(share)))
        })
        .collect();
    (!limits.is_empty() && !each.is_empty()).then(|| {
        format!(
            "{} held arms back: for this share of the makespan they had slots free and no host that they were \
             allowed to ask: {}. So they are compared under that limit, not at their own pace.",
            limits.join(" and "),
            each.join(", ")
        )
    })
}

/// Whoever joined or left while the study ran.
fn changed_fleet(study: &Study) -> Option<String> {
    let each = study.manifest.workers.iter().filter_map(|worker| {
        let span = match (worker.joined_block, worker.left_block) {
            (None, None) => return None,
            (Some(from), None) => format!("from block {from} on"),
            (None, Some(until)) => format!("until block {until}"),
            (Some(from), Some(until)) => format!("from block {from} until block {until}"),
        };
        Some(format!("{} {span}", worker.name))
    });
    let each: Vec<_> = each.collect();
    (!each.is_empty()).then(|| {
        format!(
            "The fleet changed: {}. Newcomers are used from the next block on.",
            each.join("; ")
        )
    })
}

fn noisy_control(study: &Study) -> Option<String> {
    study.analysis.control.as_ref()?.too_noisy.clone()
}

fn interrupted(study: &Study) -> Option<String> {
    study.interrupted.then(|| {
        format!(
            "The study was stopped early: {} ran.",
            counted(study.trials.len() as u64, "trial")
        )
    })
}

fn few_blocks(study: &Study) -> Option<String> {
    let others = study.arms.iter().filter(|arm| !arm.control).count();
    if others < 2 {
        return None;
    }
    let least = blocks_needed(1, ALPHA);
    let analysis = &study.analysis;
    if analysis.tested == 0 {
        Some(format!(
            "Intervals only, no verdicts: below {least} blocks an exact paired test cannot reach \
             p < {ALPHA}, whatever the difference. Run at least {least} blocks."
        ))
    } else if analysis.blocks < analysis.blocks_needed {
        Some(format!(
            "With {} comparisons at once the exact test needs {} blocks to call a difference; \
             an arm has only {}.",
            analysis.tested, analysis.blocks_needed, analysis.blocks
        ))
    } else {
        None
    }
}

fn fixed_rate(study: &Study) -> Option<String> {
    let rate = study.manifest.rate_per_s?;
    Some(format!(
        "URLs were taken up at a fixed rate of {}/s in all, so an arm that keeps up cannot be faster than \
         another: compare latencies, memory and CPU, not makespans.",
        format::rate(rate)
    ))
}

fn turned_away(study: &Study) -> Option<String> {
    let away: Vec<&Trial> = study
        .trials
        .iter()
        .filter(|trial| !trial.discarded && !usable(trial))
        .collect();
    let first = away.first()?;
    let reason = first
        .invalid_reasons
        .first()
        .map_or("a fetcher was lost", String::as_str);
    let one = if away.len() == 1 { "" } else { "for one, " };
    Some(format!(
        "{} left out of every comparison: {one}{} in block {}, because {reason}.",
        counted_were(away.len() as u64, "trial"),
        first.arm,
        first.block
    ))
}

fn failures(study: &Study) -> Option<String> {
    let mut worst: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for trial in study.trials.iter().filter(|trial| usable(trial)) {
        let urls = trial.completed + trial.failed + trial.abandoned;
        let seen = worst.entry(&trial.arm).or_default();
        *seen = (seen.0 + trial.failed, seen.1 + urls);
    }
    let failed: Vec<String> = worst
        .iter()
        .filter(|(_, (failed, _))| *failed > 0)
        .map(|(arm, (failed, urls))| {
            format!(
                "{arm} {} of {} ({})",
                format::count(*failed),
                format::count(*urls),
                format::percent(*failed as f64 / *urls as f64)
            )
        })
        .collect();
    (!failed.is_empty()).then(|| {
        format!(
            "URLs failed, and their time counts too: {}.",
            failed.join("; ")
        )
    })
}

fn busy_origin(study: &Study) -> Option<String> {
    let threads = study.manifest.origin.as_ref()?.threads;
    let mut arms = Vec::new();
    for arm in study.arms.iter().filter(|arm| !arm.control) {
        let figures = || {
            study
                .trials
                .iter()
                .filter(|trial| trial.arm == arm.name && usable(trial))
                .filter_map(|trial| trial.origin)
        };
        let Some(busy) = median(figures().filter_map(|origin| origin.busy)) else {
            continue;
        };
        if busy >= ORIGIN_BUSY {
            let cpu = median(figures().filter_map(|origin| origin.cpu_s));
            arms.push(format!(
                "{} ({} of {} busy, {} of CPU)",
                arm.name,
                format::percent(busy),
                counted(threads.into(), "thread"),
                cpu.map_or(format::UNKNOWN.to_owned(), format::duration)
            ));
        }
    }
    (!arms.is_empty()).then(|| {
        format!(
            "The origin was near its limit under {}: there the server may be what was measured.",
            arms.join("; ")
        )
    })
}

fn shared_machine(study: &Study) -> Option<String> {
    let cpus = study.manifest.coordinator.cpus.len();
    let embedded = study.manifest.origin.as_ref()?.embedded;
    (embedded && cpus > 0 && cpus < CPUS_APART).then(|| {
        format!(
            "Origin, coordinator and fetchers share {}: an arm that needs less CPU also leaves the \
             server more. With {CPUS_APART} or more they are kept apart.",
            counted(cpus as u64, "CPU")
        )
    })
}

fn different_totals(study: &Study) -> Option<String> {
    let mut totals: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for arm in study.arms.iter().filter(|arm| !arm.control) {
        totals.entry(slots(arm)).or_default().push(&arm.name);
    }
    (totals.len() > 1).then(|| {
        let listed: Vec<String> = totals
            .iter()
            .map(|(total, arms)| format!("{} in {}", format::count(*total), arms.join(", ")))
            .collect();
        format!(
            "The arms do not all have the same number of URLs in flight (processes × \
             concurrency): {}.",
            listed.join("; ")
        )
    })
}

fn shortened(study: &Study) -> Option<String> {
    let arms: Vec<String> = study
        .arms
        .iter()
        .filter_map(|arm| Some(format!("{}: {}", arm.name, arm.shortened.as_ref()?)))
        .collect();
    (!arms.is_empty()).then(|| format!("Fewer blocks for {}.", arms.join("; ")))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::{
        conclude,
        fixture::{self, StudyBuilder},
        record::Verdict,
        statistics::PRIMARY,
    };

    fn study() -> Study {
        StudyBuilder::new()
            .arms(&["async:32", "4xthreads:8", "async:32@null"])
            .blocks(8)
            .build_raw()
    }

    fn arm<'a>(study: &'a Study, name: &str) -> &'a Arm {
        study.arms.iter().find(|arm| arm.name == name).unwrap()
    }

    /// The gates' reasons against a trial of `4xthreads:8` with a change.
    fn refused(change: impl FnOnce(&mut Trial)) -> String {
        refused_with(|_| {}, change)
    }

    fn refused_with(
        manifest: impl FnOnce(&mut Manifest),
        change: impl FnOnce(&mut Trial),
    ) -> String {
        let mut study = study();
        manifest(&mut study.manifest);
        let mut trial = study
            .trials
            .iter()
            .find(|trial| trial.arm == "4xthreads:8")
            .unwrap()
            .clone();
        change(&mut trial);
        gates(&trial, arm(&study, "4xthreads:8"), &study.manifest).join("; ")
    }

    fn origin(trial: &mut Trial) -> &mut crate::record::OriginFigures {
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
    fn a_limit_per_host_is_held_and_told() {
        let limited = |m: &mut Manifest| m.max_per_host = Some(6);
        assert_eq!(refused_with(limited, |t| origin(t).concurrent_peak = 6), "");
        assert_snapshot!(refused_with(limited, |t| origin(t).concurrent_peak = 7), @"the origin counted 7 requests at a time, more than the 6 that --max-per-host allows");
        let mut study = study();
        study.manifest.max_per_host = Some(6);
        study.manifest.rate_per_host = Some(0.5);
        assert_eq!(held_back(&study), None);
        for trial in &mut study.trials {
            let share = if trial.arm == "4xthreads:8" {
                0.5
            } else {
                0.001
            };
            trial.host_wait_s = trial.makespan_s.map(|makespan| makespan * share);
        }
        assert_snapshot!(held_back(&study).unwrap(), @"--max-per-host 6 and --rate-per-host 0.5 held arms back: for this share of the makespan they had slots free and no host that they were allowed to ask: 4xthreads:8 50 %. So they are compared under that limit, not at their own pace.");
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
        let twice = |t: &mut Trial| origin(t).connections = 64;
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
        let unknown = |t: &mut Trial| {
            twice(t);
            origin(t).connections_closed = None;
        };
        assert_ne!(refused(unknown), "");
        assert_eq!(refused_with(|m| m.list = "urls.txt".into(), unknown), "");
        let two = |m: &mut Manifest| m.origin.as_mut().unwrap().urls.push("https://x".into());
        assert_eq!(refused_with(two, twice), "");
        let no_keepalive = |m: &mut Manifest| m.http.no_keepalive = true;
        assert_eq!(
            refused_with(no_keepalive, |t| origin(t).connections = 1_000),
            ""
        );
        assert_snapshot!(refused_with(no_keepalive, |t| origin(t).connections = 1_001), @"the origin counted 1,001 connections, more than the 1,000 requests sent");
    }

    #[test]
    fn littles_law_catches_a_wrong_gauge() {
        assert_snapshot!(refused(|t| t.in_flight_mean = t.in_flight_mean.map(|n| n * 0.9)), @"Little's law is off by 11 %: 3,726/s × 8.33 ms is 31.0 in flight, but the gauge says 27.9");
        assert_eq!(
            refused(|t| t.in_flight_mean = t.in_flight_mean.map(|n| n * 0.97)),
            ""
        );
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
        // One against one, nobody knows which is right.
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

    #[test]
    fn caveats_of_the_default_study() {
        assert_snapshot!(fixture::study().caveats.join("\n"), @r#"
        1 trial was left out of every comparison: 32xsequential in block 7, because a fetcher was lost: ended by signal 9.
        Origin, coordinator and fetchers share 2 CPUs: an arm that needs less CPU also leaves the server more. With 4 or more they are kept apart.
        The arms do not all have the same number of URLs in flight (processes × concurrency): 1 in sequential; 32 in threads:32, async:32, 32xsequential, 2xasync:16, threads:32@ureq, async:32@reqwest.
        Fewer blocks for sequential: takes more than five times as long as the baseline: 3 blocks only.
        "#);
    }

    #[test]
    fn a_fleet_that_changed_is_told() {
        let mut study = fixture::study();
        assert_eq!(changed_fleet(&study), None);
        let worker = |name: &str, joined_block, left_block| crate::record::Worker {
            name: name.to_owned(),
            joined_block,
            left_block,
            ..Default::default()
        };
        study.manifest.workers = vec![
            worker("a", None, None),
            worker("b", None, Some(2)),
            worker("c", Some(3), None),
            worker("d", Some(3), Some(5)),
        ];
        assert_snapshot!(changed_fleet(&study).unwrap(), @"The fleet changed: b until block 2; c from block 3 on; d from block 3 until block 5. Newcomers are used from the next block on.");
    }

    #[test]
    fn caveats_of_a_study_with_everything_wrong() {
        let mut study = StudyBuilder::new()
            .arms(&["async:32", "threads:32"])
            .blocks(4)
            .cores(1)
            .build_raw();
        study.interrupted = true;
        for trial in &mut study.trials {
            let busy = if trial.arm == "threads:32" { 0.6 } else { 0.93 };
            origin(trial).busy = Some(busy);
            if trial.arm == "async:32 (again)" {
                trial.makespan_s = trial.makespan_s.map(|s| s * 1.4);
            }
            if trial.arm == "threads:32" && trial.block > 2 {
                trial.abandoned = 2;
                trial.completed -= 2;
            } else {
                trial.failed = 3;
                trial.completed -= 3;
            }
        }
        conclude(&mut study, &crate::Options::default());
        assert_snapshot!(study.caveats.join("\n"), @r#"
        This machine was too noisy for claims of differences below 45 %: the baseline, run twice, took 1.41× of its own time (95 % interval 1.37–1.45). By chance alone this happens in 1 study of 20.
        The study was stopped early: 15 trials ran.
        Intervals only, no verdicts: below 6 blocks an exact paired test cannot reach p < 0.05, whatever the difference. Run at least 6 blocks.
        2 trials were left out of every comparison: for one, threads:32 in block 3, because 2 URLs were abandoned after three lost leases.
        URLs failed, and their time counts too: async:32 12 of 4,000 (0.3 %); async:32 (again) 12 of 4,000 (0.3 %); threads:32 6 of 2,000 (0.3 %).
        The origin was near its limit under async:32 (93 % of 1 thread busy, 40.0 ms of CPU): there the server may be what was measured.
        Origin, coordinator and fetchers share 1 CPU: an arm that needs less CPU also leaves the server more. With 4 or more they are kept apart.
        "#);
    }

    #[test]
    fn fewer_blocks_than_the_number_of_comparisons_needs_is_told() {
        let caveats = StudyBuilder::new().blocks(6).build().caveats;
        assert_snapshot!(caveats[0], @"With 5 comparisons at once the exact test needs 8 blocks to call a difference; an arm has only 6.");
    }
}
