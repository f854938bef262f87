//! What a reader must know before believing a figure. A caveat leaves the trials in.

use std::collections::BTreeMap;

use crate::{
    format,
    record::{Study, TrialRecord},
    statistics::{ALPHA, ArmSummary, BLOCKS_NEEDED, median, summaries, usable},
    text::{
        counted, counted_were, in_brackets, kinds_of_failure, listed, or_unknown, trials_that_lost,
    },
};

/// From this share of busy threads on the origin may have been the limit.
const ORIGIN_BUSY: f64 = 0.85;

/// Fewer processors than this are shared by origin, coordinator and fetchers.
const CPUS_APART: usize = 4;

/// An arm whose slots had no URL for more than this share of their time was held back by fanout.
const STARVED: f64 = 0.03;

/// An arm that waited for hosts for more than this share of its time was held
/// back by the limits per host.
const HELD_BACK: f64 = 0.01;

/// From this share of a machine's CPU time on, others' load is told.
const FOREIGN: f64 = 0.1;

/// It is told, too, where so large a share of an arm's trials had such a load.
const TRIALS_DISTURBED: f64 = 0.25;

/// From this share of the slots' time on connecting is told.
const CONNECTING: f64 = 0.2;

/// With so many connections for every request none is kept.
const FRESH: f64 = 0.9;

/// A connection that a server drops is asked for again after a second; clocks and timers may take
/// this little off.
const ASKED_AGAIN_S: f64 = 0.95;

/// What a reader must know before believing a figure; the gravest first.
pub(crate) fn caveats(study: &Study) -> Vec<String> {
    if study.is_map() {
        // What its cells have in common; the rest is theirs.
        let all = [interrupted(study), turned_away_in_cells(study), shared_machine(study)];
        return all.into_iter().flatten().collect();
    }
    [
        noisy_control(study),
        uneven_control(study),
        interrupted(study),
        few_blocks(study),
        turned_away(study),
        failures(study),
        connecting(study),
        fixed_rate(study),
        held_back(study),
        starved(study),
        foreign_load(study),
        busy_origin(study),
        shared_machine(study),
        different_totals(study),
        fresh_connections(study),
        shortened(study),
        changed_fleet(study),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Who opened a connection for nearly every request, as the origin saw it, while others kept theirs.
fn fresh_connections(study: &Study) -> Option<String> {
    let arms = summaries(study);
    let (mut fresh, mut kept) = (Vec::new(), 0);
    for arm in arms.iter().filter(|arm| !arm.arm.control && arm.fetches()) {
        let share = arm.median(|trial| {
            let origin = trial.origin.filter(|origin| origin.requests > 2 * arm.arm.slots())?;
            Some(origin.connections as f64 / origin.requests as f64)
        });
        match share {
            Some(share) if share >= FRESH => fresh.push(arm.arm.name.as_str()),
            Some(_) => kept += 1,
            None => {}
        }
    }
    (kept > 0 && !fresh.is_empty()).then(|| {
        let names = listed(&fresh);
        format!(
            "{names} opened a connection for every request or nearly so, the others kept theirs: with \
             --no-keepalive all do the same work."
        )
    })
}

/// What is told of every arm but the control, the quickest first; `None` where there is nothing to tell.
fn of_arms(
    study: &Study,
    separator: &str,
    told: impl FnMut(&ArmSummary<'_>) -> Option<String>,
) -> Option<String> {
    let arms = summaries(study);
    let each = arms.iter().filter(|arm| !arm.arm.control).filter_map(told);
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| each.join(separator))
}

/// The arm with its share, where that is more than the limit.
fn share_above(limit: f64, arm: &ArmSummary<'_>, share: Option<f64>) -> Option<String> {
    let share = share.filter(|share| *share > limit)?;
    Some(format!("{} {}", arm.arm.name, format::percent(share)))
}

/// Arms that had slots free, and were not allowed to use them.
fn held_back(study: &Study) -> Option<String> {
    let manifest = &study.manifest;
    let limits = [
        manifest.max_per_host.map(|n| format!("--max-per-host {n}")),
        manifest.rate_per_host.map(|r| format!("--rate-per-host {r}")),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    if limits.is_empty() {
        return None;
    }
    let each = of_arms(study, ", ", |arm| {
        let share = arm.median(|t| Some(t.host_wait_s? / t.makespan_s.filter(|s| *s > 0.0)?));
        share_above(HELD_BACK, arm, share)
    })?;
    Some(format!(
        "{} held arms back: for this share of the makespan they had slots free and no host that they were \
         allowed to ask: {each}. So they are compared under that limit, not at their own pace.",
        limits.join(" and "),
    ))
}

/// Arms whose slots waited for URLs: that is fanout's time, not the arm's.
fn starved(study: &Study) -> Option<String> {
    let each = of_arms(study, ", ", |arm| {
        let share = arm.median(|trial| {
            let slot_time_s = trial.fetch_makespan_s? * arm.arm.slots() as f64;
            (slot_time_s > 0.0).then_some(trial.starved_s? / slot_time_s)
        });
        share_above(STARVED, arm, share)
    })?;
    Some(format!(
        "Slots waited for fanout: for this share of their time they had no URL, though the list had \
         some left: {each}. Where CPUs were idle meanwhile, the arm would be faster than it looks."
    ))
}

/// Arms whose trials shared the machines with others.
fn foreign_load(study: &Study) -> Option<String> {
    let each = of_arms(study, "; ", |arm| {
        let shares = arm.trials.iter().filter_map(|trial| {
            let machine = trial.machine_cpu_s.filter(|s| *s > 0.0)?;
            Some((trial.foreign_cpu_s? / machine, trial.steal_s? / machine))
        });
        let shares: Vec<(f64, f64)> = shares.collect();
        let both = || shares.iter().map(|(programs, stolen)| programs + stolen);
        let disturbed = both().filter(|share| *share > FOREIGN).count();
        let trials = shares.len();
        let share = median(both())?;
        let programs = median(shares.iter().map(|(programs, _)| *programs))?;
        let stolen = median(shares.iter().map(|(_, stolen)| *stolen))?;
        (share > FOREIGN || disturbed as f64 > TRIALS_DISTURBED * trials as f64).then(|| {
            format!(
                "{} {} (programs {}, virtual machines {}; more than {} in {disturbed} of {trials} trials)",
                arm.arm.name,
                format::percent(share),
                format::percent(programs),
                format::percent(stolen),
                format::percent(FOREIGN),
            )
        })
    })?;
    Some(format!(
        "Others used the machine: programs that are not part of this study, and other virtual \
         machines, took this share of its CPU time in the median trial: {each}. Repeat the study when \
         less else runs."
    ))
}

/// Arms whose slots spent their time on connecting.
fn connecting(study: &Study) -> Option<String> {
    let mut dropped = false;
    let each = of_arms(study, "; ", |arm| {
        let share = arm.median(|trial| {
            let phases = &trial.phases;
            let share = phases.connect_s / (phases.connect_s + phases.wait_s + phases.body_s);
            Some(share).filter(|share| share.is_finite())
        });
        let told = share_above(CONNECTING, arm, share)?;
        let slowest = arm.median(|trial| Some(trial.connect_s?.max));
        dropped |= slowest.is_some_and(|slowest| slowest >= ASKED_AGAIN_S);
        let slowest =
            slowest.map_or(String::new(), |s| format!(", up to {} each", format::duration(s)));
        Some(told + &slowest)
    })?;
    let why = if dropped {
        " A second or more means that the server dropped connections and was asked again: it takes fewer at a \
         time than came, and arms that open few look best."
    } else {
        ""
    };
    Some(format!(
        "Connecting took a large part of the slots' time: {each}.{why} Try fewer URLs in flight (--concurrency), \
         --max-per-host, or a server that takes more connections."
    ))
}

/// Workers that joined or left while the study ran.
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
        let trials: usize = study.parts().map(|part| part.trials.len()).sum();
        format!("The study was stopped early: {} ran.", counted(trials as u64, "trial"))
    })
}

fn few_blocks(study: &Study) -> Option<String> {
    let others = study.arms.iter().filter(|arm| !arm.control).count();
    if others < 2 {
        return None;
    }
    (study.analysis.tested == 0).then(|| {
        format!(
            "Intervals only, no verdicts: below {BLOCKS_NEEDED} blocks an exact paired test cannot reach \
             p < {ALPHA}, whatever the difference. Run at least {BLOCKS_NEEDED} blocks."
        )
    })
}

/// The control came out different: this machine does that by itself.
fn uneven_control(study: &Study) -> Option<String> {
    let control = study.analysis.control.as_ref()?;
    let (low, high) = control.ratio.low.zip(control.ratio.high)?;
    (low > 1.0 || high < 1.0).then(|| {
        format!(
            "The baseline, run a second time in every block, took {} of its own time (95 % interval \
             {}). By chance alone an interval leaves out 1.00× in 1 study of 20.",
            format::ratio(control.ratio.value),
            format::ratio_interval(low, high),
        )
    })
}

fn fixed_rate(study: &Study) -> Option<String> {
    let rate = study.manifest.rate_per_s?;
    Some(format!(
        "URLs were taken up at a fixed rate of {}/s in all, so an arm that keeps up cannot be faster than \
         another: compare latencies, memory and CPU, not makespans.",
        format::rate(rate)
    ))
}

fn turned_away_in_cells(study: &Study) -> Option<String> {
    let in_cells = study.regimes.iter().filter_map(|regime| {
        let away = |trial: &&TrialRecord| !trial.discarded && !usable(trial);
        let trials = regime.study.trials.iter().filter(away).count() as u64;
        (trials > 0).then(|| format!("{} at {}", counted(trials, "trial"), regime.name))
    });
    let in_cells: Vec<String> = in_cells.collect();
    (!in_cells.is_empty()).then(|| {
        format!(
            "Some trials were left out, for reasons that trials.csv tells: {}.",
            in_cells.join("; ")
        )
    })
}

fn turned_away(study: &Study) -> Option<String> {
    let away: Vec<&TrialRecord> =
        study.trials.iter().filter(|trial| !trial.discarded && !usable(trial)).collect();
    let first = away.first()?;
    let reason = first.invalid_reasons.first().map_or("a fetcher was lost", String::as_str);
    let one = if away.len() == 1 { "" } else { "for one, " };
    Some(format!(
        "{} left out of every comparison: {one}{} in block {}, because {reason}.",
        counted_were(away.len() as u64, "trial"),
        first.arm,
        first.block
    ))
}

/// Failures of every attempt, also of those that were run again.
fn failures(study: &Study) -> Option<String> {
    let arms = summaries(study);
    let lossy = arms.iter().filter(|arm| arm.lost > 0);
    let each = lossy.map(|arm| {
        let kinds = kinds_of_failure([arm]);
        format!(
            "{} {} of {} ({}) in {}{}",
            arm.arm.name,
            format::count(arm.lost),
            format::count(arm.urls),
            format::percent(arm.lost as f64 / arm.urls as f64),
            trials_that_lost(arm),
            in_brackets((!kinds.is_empty()).then_some(kinds)),
        )
    });
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| {
        format!(
            "URLs failed: {}. Trials that are compared count the time of failures too.",
            each.join("; ")
        )
    })
}

fn busy_origin(study: &Study) -> Option<String> {
    let threads = study.manifest.origin.as_ref()?.threads;
    let each = of_arms(study, "; ", |arm| {
        let busy = arm.median(|trial| trial.origin?.busy).filter(|busy| *busy >= ORIGIN_BUSY)?;
        Some(format!(
            "{} ({} of {} busy, {} of CPU)",
            arm.arm.name,
            format::percent(busy),
            counted(threads.into(), "thread"),
            or_unknown(arm.median(|trial| trial.origin?.cpu_s), format::duration)
        ))
    })?;
    Some(format!(
        "The origin was near its limit under {each}: there the server may be what was measured."
    ))
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
        totals.entry(arm.slots()).or_default().push(&arm.name);
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
        record::{ArmRecord, OriginMetrics},
    };

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
    fn a_server_that_drops_connections_is_told() {
        let mut study = StudyBuilder::new().arms(&["async:32", "sequential"]).blocks(6).build_raw();
        assert_eq!(connecting(&study), None);
        for trial in study.trials.iter_mut().filter(|trial| trial.arm == "async:32") {
            trial.phases.connect_s = trial.phases.wait_s;
            trial.connect_s.as_mut().unwrap().max = 0.3;
        }
        assert_snapshot!(connecting(&study).unwrap(), @"Connecting took a large part of the slots' time: async:32 50 %, up to 300 ms each. Try fewer URLs in flight (--concurrency), --max-per-host, or a server that takes more connections.");
        for trial in &mut study.trials {
            trial.connect_s.as_mut().unwrap().max = 1.01;
        }
        let told = connecting(&study).unwrap();
        assert!(told.contains("the server dropped connections"), "{told}");
        assert!(!told.contains("sequential"), "{told}");
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
    fn arms_held_back_by_a_limit_per_host_are_told() {
        let mut study = StudyBuilder::new()
            .arms(&["async:32", "4xthreads:8", "async:32@null"])
            .blocks(8)
            .build_raw();
        study.manifest.max_per_host = Some(6);
        study.manifest.rate_per_host = Some(0.5);
        assert_eq!(held_back(&study), None);
        for trial in &mut study.trials {
            let share = if trial.arm == "4xthreads:8" { 0.5 } else { 0.001 };
            trial.host_wait_s = trial.makespan_s.map(|makespan| makespan * share);
        }
        assert_snapshot!(held_back(&study).unwrap(), @"--max-per-host 6 and --rate-per-host 0.5 held arms back: for this share of the makespan they had slots free and no host that they were allowed to ask: 4xthreads:8 50 %. So they are compared under that limit, not at their own pace.");
    }

    #[test]
    fn who_keeps_no_connection_is_told_where_others_do() {
        let arms = ["async:32", "threads:32@urllib", "threads:32"];
        let mut study = StudyBuilder::new().arms(&arms[..1]).blocks(2).build_raw();
        let first = study.arms[0].clone();
        study.arms = arms.map(|name| ArmRecord { name: name.into(), ..first.clone() }).into();
        study.trials = arms
            .into_iter()
            .flat_map(|arm| {
                study.trials.iter().filter(|t| t.arm == first.name).map(move |trial| {
                    let connections = if arm.ends_with("urllib") { 1_000 } else { 32 };
                    let origin =
                        OriginMetrics { requests: 1_000, connections, ..Default::default() };
                    TrialRecord { arm: arm.into(), origin: Some(origin), ..trial.clone() }
                })
            })
            .collect();
        assert_snapshot!(fresh_connections(&study).unwrap(), @"threads:32@urllib opened a connection for every request or nearly so, the others kept theirs: with --no-keepalive all do the same work.");
        study.trials.retain(|trial| trial.arm == "threads:32@urllib");
        assert_eq!(fresh_connections(&study), None, "there are no others");
    }

    #[test]
    fn arms_whose_slots_waited_for_urls_are_told() {
        let mut study =
            StudyBuilder::new().arms(&["async:32", "4xthreads:8"]).blocks(8).build_raw();
        for trial in &mut study.trials {
            let share = if trial.arm == "4xthreads:8" { 0.2 } else { 0.01 };
            trial.starved_s = trial.fetch_makespan_s.map(|makespan| 32.0 * makespan * share);
        }
        assert_snapshot!(starved(&study).unwrap(), @"Slots waited for fanout: for this share of their time they had no URL, though the list had some left: 4xthreads:8 20 %. Where CPUs were idle meanwhile, the arm would be faster than it looks.");
        for trial in &mut study.trials {
            trial.starved_s = None;
        }
        assert_eq!(starved(&study), None);
    }

    #[test]
    fn load_of_others_is_told_for_the_arms_that_had_it() {
        let mut study = StudyBuilder::new()
            .arms(&["async:32", "threads:32", "4xthreads:8"])
            .blocks(8)
            .build_raw();
        let of_load = |study: &mut Study, share: fn(&TrialRecord) -> f64| {
            for trial in &mut study.trials {
                let share = share(trial);
                trial.machine_cpu_s = Some(0.5);
                trial.foreign_cpu_s = Some(0.5 * share * 0.75);
                trial.steal_s = Some(0.5 * share * 0.25);
            }
            foreign_load(study)
        };
        assert_eq!(of_load(&mut study, |_| 0.099), None);
        // Two trials of eight are a quarter, and not more.
        let told = of_load(&mut study, |trial| match (&*trial.arm, trial.block) {
            ("async:32", 1..=2) => 0.9,
            _ => 0.02,
        });
        assert_eq!(told, None);
        let told = of_load(&mut study, |trial| match (&*trial.arm, trial.block) {
            ("threads:32", _) => 0.43,
            ("async:32", 1..=3) => 0.9,
            _ => 0.02,
        });
        assert_snapshot!(told.unwrap(), @"Others used the machine: programs that are not part of this study, and other virtual machines, took this share of its CPU time in the median trial: threads:32 43 % (programs 32 %, virtual machines 11 %; more than 10 % in 8 of 8 trials); async:32 2.0 % (programs 1.5 %, virtual machines 0.5 %; more than 10 % in 3 of 8 trials). Repeat the study when less else runs.");
        for trial in &mut study.trials {
            trial.machine_cpu_s = None;
        }
        assert_eq!(foreign_load(&study), None);
    }

    #[test]
    fn caveats_of_a_study_with_everything_wrong() {
        let mut study =
            StudyBuilder::new().arms(&["async:32", "threads:32"]).blocks(4).cores(1).build_raw();
        study.interrupted = true;
        for trial in &mut study.trials {
            let busy = if trial.arm == "threads:32" { 0.6 } else { 0.93 };
            trial.origin.as_mut().unwrap().busy = Some(busy);
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
        The baseline, run a second time in every block, took 1.41× of its own time (95 % interval 1.37–1.45). By chance alone an interval leaves out 1.00× in 1 study of 20.
        The study was stopped early: 15 trials ran.
        Intervals only, no verdicts: below 6 blocks an exact paired test cannot reach p < 0.05, whatever the difference. Run at least 6 blocks.
        2 trials were left out of every comparison: for one, threads:32 in block 3, because 2 URLs were abandoned after three lost leases.
        URLs failed: async:32 12 of 4,000 (0.3 %) in 4 of 4 trials; async:32 (again) 12 of 4,000 (0.3 %) in 4 of 4 trials; threads:32 10 of 4,000 (0.2 %) in 4 of 4 trials. Trials that are compared count the time of failures too.
        The origin was near its limit under async:32 (93 % of 1 thread busy, 40.0 ms of CPU): there the server may be what was measured.
        Origin, coordinator and fetchers share 1 CPU: an arm that needs less CPU also leaves the server more. With 4 or more they are kept apart.
        "#);
    }
}
