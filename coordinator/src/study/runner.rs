//! One study: its blocks, and the trials in them. A study of several servers runs each block at
//! all of them before the next one begins, so that what drifts drifts for all.

use std::time::Duration;

use fanout_analysis::{
    record::{self, Analysis, Regime, SCHEMA_VERSION, Study},
    validity, vote,
};
use fanout_engine::trial::{AbortReason, TrialEnd};
use fanout_proto::arm::Arm;
use tokio::time::Instant;
use tracing::warn;

use crate::{
    exit::Failure,
    local::environment::Environment,
    run::{self, Outcome, Stop, TrialRequest},
    settings::{StudyKind, StudySettings},
    study::{
        block_workers::BlockWorkers,
        manifest,
        origin::OriginProbe,
        part::Part,
        schedule::{block_order, time_left},
        store::Store,
    },
    terminal::reporter::{Report, Reporter},
};

/// An arm slower than this many times the baseline runs in few blocks only.
const SLOW_FACTOR: f64 = 5.0;
/// So many blocks, of those that are kept.
const SLOW_BLOCKS: u32 = 3;
/// An invalid trial is run again this many times.
const RETRIES: u32 = 2;
/// The control is named after the baseline.
pub(super) const CONTROL_SUFFIX: &str = " (again)";

/// One arm with its place in the record.
#[derive(Debug, Clone)]
struct StudyArm {
    arm: Arm,
    name: String,
    control: bool,
    /// Work per response on top of the study's own.
    extra_work: Duration,
    sampled: bool,
    /// Blocks that it is to run in, beside the first.
    blocks: u32,
    /// Blocks in which it had its turn, the first among them.
    turns: u32,
    /// How long its last trial took in all, start and end included.
    took: Option<Duration>,
}

pub(super) struct StudyContext<'a> {
    pub(super) command: &'a [String],
    pub(super) environment: Environment<'a>,
    pub(super) probe: OriginProbe,
    pub(super) stop: &'a Stop,
    pub(super) reporter: &'a dyn Reporter,
}

/// Runs one study, as far as it comes: the parts in turn, block by block.
pub(super) async fn run_study(
    on: &mut StudyContext<'_>,
    parts: &[Part],
    seed: u64,
    inject: Duration,
    store: &Store,
) -> (Study, Result<StudyEnd, Failure>) {
    on.environment.fleet.catch_up();
    let began = Instant::now();
    let runners = parts.iter().zip(0..).map(|(part, number)| Runner {
        part,
        number,
        seed,
        entries: entries(&part.settings, inject),
        elsewhere: None,
        workers: BlockWorkers::default(),
        study: Study::default(),
    });
    let mut runners: Vec<_> = runners.collect();
    let mut study = not_yet_run(on, &runners, seed);
    let ended = blocks(on, &mut runners, &mut study, began, store).await;
    on.reporter.tell(Report::Idle);
    study.manifest.elapsed_s = began.elapsed().as_secs_f64();
    (study, ended)
}

fn not_yet_run(on: &StudyContext<'_>, runners: &[Runner<'_>], seed: u64) -> Study {
    let empty = |runner: &Runner<'_>| Study {
        schema_version: SCHEMA_VERSION,
        manifest: manifest::describe(runner.part, seed, &on.environment, on.command),
        arms: runner.entries.iter().map(record_arm).collect(),
        analysis: Analysis {
            margin: runner.part.settings.margin.unwrap_or_default(),
            ..Analysis::default()
        },
        ..Study::default()
    };
    let regime = |runner: &Runner<'_>| Regime {
        name: runner.part.name.clone(),
        delay_s: runner.part.delay.map(|delay| delay.as_secs_f64()),
        cpu_work_s: runner.part.settings.common.cpu_work.as_secs_f64(),
        cpu_lock: runner.part.settings.common.cpu_lock,
        study: empty(runner),
    };
    let Some((first, others)) = runners.split_first() else { return Study::default() };
    let mut study = empty(first);
    if first.part.settings.kind == StudyKind::Map {
        study.regimes = runners.iter().map(regime).collect();
        // Of all cells together; what differs between them stands with them.
        study.manifest.urls = runners.iter().map(|runner| runner.part.list.len()).sum();
        study.manifest.list_sha256 = String::new();
        study.manifest.delay_s = None;
    } else {
        study.regimes = others.iter().map(regime).collect();
    }
    study
}

/// The record of one part within that of the whole.
fn record_of(study: &mut Study, part: usize, parts: usize) -> &mut Study {
    let beside = parts - study.regimes.len();
    match part.checked_sub(beside) {
        None => study,
        Some(regime) => &mut study.regimes[regime].study,
    }
}

async fn blocks(
    on: &mut StudyContext<'_>,
    runners: &mut [Runner<'_>],
    study: &mut Study,
    began: Instant,
    store: &Store,
) -> Result<StudyEnd, Failure> {
    let Some(settings) = runners.first().map(|runner| &runner.part.settings) else {
        return Ok(StudyEnd::Complete);
    };
    let parts = runners.len();
    for block in 0..=settings.blocks {
        if settings.time_budget.is_some_and(|budget| began.elapsed() > budget) {
            on.reporter.say(&format!("the time budget is used up after {block} blocks"));
            return Ok(StudyEnd::OutOfTime);
        }
        for at in 0..parts {
            let others = (0..parts).filter(|other| *other != at);
            let elsewhere = others.map(|other| runners[other].time_left()).sum();
            let runner = &mut runners[at];
            runner.elsewhere = elsewhere;
            let record = record_of(study, at, parts);
            std::mem::swap(&mut runner.study, record);
            let part_began = Instant::now();
            let goes_on = runner.block(on, block).await;
            runner.study.manifest.elapsed_s += part_began.elapsed().as_secs_f64();
            std::mem::swap(&mut runner.study, record);
            if !goes_on? {
                return Ok(StudyEnd::Interrupted);
            }
        }
        if let Err(error) = store.keep_part(study) {
            warn!(%error, "cannot keep the study so far");
        }
    }
    Ok(StudyEnd::Complete)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StudyEnd {
    Complete,
    OutOfTime,
    Interrupted,
}

struct Runner<'a> {
    part: &'a Part,
    number: u32,
    entries: Vec<StudyArm>,
    elsewhere: Option<Duration>,
    seed: u64,
    workers: BlockWorkers,
    study: Study,
}

impl Runner<'_> {
    /// Runs a block; says whether the study goes on.
    async fn block(&mut self, on: &mut StudyContext<'_>, block: u32) -> Result<bool, Failure> {
        self.workers.refresh(block, on.environment.fleet, &mut self.study.manifest);
        let baseline = self.part.settings.baseline;
        let order = block_order(self.seed, self.number, self.entries.len(), baseline, block);
        let mut goes_on = self.turns(on, block, order).await?;
        if goes_on {
            let retries = self.retries(block);
            goes_on = self.turns(on, block, retries).await?;
        }
        if goes_on {
            self.shorten(block);
        }
        Ok(goes_on)
    }

    /// These arms' turns in one block; says whether the study goes on.
    async fn turns(
        &mut self,
        on: &mut StudyContext<'_>,
        block: u32,
        arms: Vec<usize>,
    ) -> Result<bool, Failure> {
        for arm in arms {
            if block > self.entries[arm].blocks {
                continue;
            }
            // The first block only warms up; an arm that is slow there is known to be
            // slow, and the rest of that trial would tell nothing more.
            let baseline_s = (block == 0).then(|| self.baseline_makespan_s()).flatten();
            let limit = baseline_s.map(|s| Duration::from_secs_f64(s * SLOW_FACTOR));
            let limit = limit.map(|limit| limit.max(Duration::from_millis(200)));
            for retry in 0..=RETRIES {
                let began = Instant::now();
                let (outcome, mut trial) = self.trial(on, block, arm, limit).await?;
                self.entries[arm].took = Some(began.elapsed());
                self.entries[arm].turns = block + 1;
                let cancelled = matches!(outcome.end, TrialEnd::Aborted(AbortReason::Cancelled));
                if cancelled && on.stop.cancel.is_cancelled() {
                    return Ok(false);
                }
                // On a fleet, workers come back.
                let may_retry = retry < RETRIES && on.environment.patience.is_some();
                trial.invalid_reasons = self.check(&outcome.end, &trial, arm, may_retry)?;
                trial.valid = trial.invalid_reasons.is_empty() && !trial.discarded;
                self.study.trials.push(trial);
                let latest = self.study.trials.len() - 1;
                self.turn_away_outvoted(|at, _| at == latest);
                let lost = !cancelled && outcome.end != TrialEnd::Done;
                if self.study.trials[latest].valid || (block == 0 && !lost) {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// What speaks against a trial that ended like this.
    fn check(
        &self,
        end: &TrialEnd,
        trial: &record::TrialRecord,
        arm: usize,
        may_retry: bool,
    ) -> Result<Vec<String>, Failure> {
        let failed = |reason| format!("{}: {reason}", trial.arm);
        match end {
            TrialEnd::Done => {
                let arm = &self.study.arms[arm];
                Ok(validity::gates(trial, arm, &self.study.manifest))
            }
            TrialEnd::Aborted(AbortReason::Cancelled) => {
                Ok(vec![format!("stopped: it took more than {SLOW_FACTOR}× the baseline")])
            }
            TrialEnd::Aborted(reason @ AbortReason::Setup(_)) => {
                Err(Failure::usage(failed(reason)))
            }
            TrialEnd::Aborted(reason) if may_retry => Ok(vec![reason.to_string()]),
            TrialEnd::Aborted(reason) => Err(Failure::no_fleet(failed(reason))),
        }
    }

    /// Turns away those of the chosen trials that fetched something else than most did.
    fn turn_away_outvoted(&mut self, chosen: impl Fn(usize, &record::TrialRecord) -> bool) {
        for (at, reason) in vote::outvoted(&self.study) {
            let trial = &mut self.study.trials[at];
            if chosen(at, trial) {
                trial.valid = false;
                trial.invalid_reasons.push(reason);
            }
        }
    }

    /// Arms whose trial in this block was believed until later ones showed
    /// that most fetch something else; they get another turn.
    fn retries(&mut self, block: u32) -> Vec<usize> {
        let before = self.has_valid(block);
        self.turn_away_outvoted(|_, trial| trial.block == block);
        let after = self.has_valid(block);
        let lost = before.iter().zip(after).enumerate();
        lost.filter(|(_, (before, after))| **before && !after).map(|(arm, _)| arm).collect()
    }

    /// For every arm, whether it has a trial in this block that may be compared.
    fn has_valid(&self, block: u32) -> Vec<bool> {
        let has = |entry: &StudyArm| {
            let mut trials = self.study.trials.iter();
            trials.any(|trial| trial.block == block && trial.valid && trial.arm == entry.name)
        };
        self.entries.iter().map(has).collect()
    }

    /// How long this part still takes, with the trial that runs.
    fn time_left(&self) -> Option<Duration> {
        let arms = self.entries.iter();
        time_left(arms.map(|arm| ((arm.blocks + 1).saturating_sub(arm.turns), arm.took)))
    }

    async fn trial(
        &mut self,
        on: &mut StudyContext<'_>,
        block: u32,
        arm: usize,
        limit: Option<Duration>,
    ) -> Result<(Outcome, record::TrialRecord), Failure> {
        let entry = &self.entries[arm];
        let Part { name, settings, list, .. } = self.part;
        let manifest = &mut self.study.manifest;
        let environment = &mut on.environment;
        let assigned = self.workers.assign(block, &entry.arm, environment, on.stop, manifest);
        let placement = assigned.await?;
        let common = &settings.common;
        let when = match block {
            0 => "warm-up".to_owned(),
            _ => format!("block {block:>2}/{}", settings.blocks),
        };
        let left = self.time_left().zip(self.elsewhere).map(|(here, elsewhere)| here + elsewhere);
        let left = left.map_or(String::new(), |left| match left.as_secs() {
            seconds @ ..120 => format!("(about {seconds} s of the study left)"),
            seconds => format!("(about {} min of the study left)", seconds.div_ceil(60)),
        });
        let what = [when.as_str(), name, &format!("{:<20}", entry.name), &left];
        let what = what.into_iter().filter(|word| !word.is_empty());
        on.reporter.tell(Report::Trial(&what.collect::<Vec<_>>().join("  "), list.len()));
        on.probe.begin().await;
        let boot = manifest::suspended();
        let mut setup = common.setup(&entry.arm, false);
        setup.cpu_work += entry.extra_work;
        let request = TrialRequest {
            id: environment.fleet.next_trial(),
            list,
            setup: &setup,
            pace: &|fetcher| common.pace(&entry.arm, fetcher.0),
            placement,
            cpus: &common.cpus.fetchers,
            split: common.split,
            done: None,
            memory_interval: entry.sampled.then_some(run::MEMORY_INTERVAL),
            limit,
            hosts: common.hosts,
            observe: &|progress| on.reporter.report(Report::Progress(progress)),
        };
        let mut outcome = run::run(environment.fleet, request, on.stop, &mut ())
            .await
            .map_err(Failure::incomplete)?;
        self.workers.note_losses(block, environment.fleet, &mut self.study.manifest);
        let mut trial = std::mem::take(&mut outcome.trial);
        trial.origin = on.probe.end(trial.makespan_s).await;
        if let Some(cpu_s) = trial.origin.and_then(|origin| origin.cpu_s) {
            let cpu = Duration::try_from_secs_f64(cpu_s).unwrap_or_default();
            outcome.machines.process(on.probe.machine(), cpu);
        }
        outcome.machines.fill_in(&mut trial);
        trial.suspended_s = boot
            .zip(manifest::suspended())
            .map(|(before, after)| after.saturating_sub(before).as_secs_f64());
        trial.arm.clone_from(&entry.name);
        trial.block = block;
        trial.order = u32::try_from(self.study.trials.len()).unwrap_or(u32::MAX);
        trial.discarded = block == 0;
        if block != 1 {
            // One trial of each arm is enough for the picture.
            trial.requests = Vec::new();
        }
        Ok((outcome, trial))
    }

    fn baseline_makespan_s(&self) -> Option<f64> {
        let name = &self.entries.get(self.part.settings.baseline)?.name;
        self.study.trials.iter().find(|t| t.block == 0 && t.arm == *name)?.makespan_s
    }

    /// After the warm-up: which arms are so slow that few blocks must do?
    fn shorten(&mut self, block: u32) {
        if block != 0 || self.part.settings.blocks <= SLOW_BLOCKS {
            return;
        }
        for (arm, entry) in self.study.arms.iter_mut().zip(&mut self.entries) {
            let stopped = self.study.trials.iter().any(|trial| {
                trial.arm == entry.name && trial.completed + trial.failed < self.part.list.len()
            });
            if stopped {
                entry.blocks = SLOW_BLOCKS;
                arm.shortened = Some(format!(
                    "it takes more than {SLOW_FACTOR}× the baseline's time, so it ran in {SLOW_BLOCKS} of {} blocks",
                    self.part.settings.blocks
                ));
            }
        }
    }
}

fn entries(settings: &StudySettings, inject: Duration) -> Vec<StudyArm> {
    let entry = |arm: &Arm, control| StudyArm {
        arm: *arm,
        name: format!("{arm}{}", if control { CONTROL_SUFFIX } else { "" }),
        control,
        extra_work: if control { inject } else { Duration::ZERO },
        sampled: !(control && settings.control_unsampled),
        blocks: settings.blocks,
        turns: 0,
        took: None,
    };
    let mut entries: Vec<_> = settings.arms.iter().map(|arm| entry(arm, false)).collect();
    // In a map there are too many cells for one in each.
    if settings.kind != StudyKind::Map
        && let Some(baseline) = settings.arms.get(settings.baseline)
    {
        entries.push(entry(baseline, true));
    }
    entries
}

fn record_arm(entry: &StudyArm) -> record::ArmRecord {
    record::ArmRecord {
        control: entry.control,
        ..record::ArmRecord::new(&entry.arm, entry.name.clone())
    }
}
