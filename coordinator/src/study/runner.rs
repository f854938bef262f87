//! One study: its blocks, and the trials in them.

use std::time::Duration;

use fanout_analysis::{
    record::{self, SCHEMA_VERSION, Study},
    validity, vote,
};
use fanout_engine::trial::{AbortReason, TrialEnd};
use fanout_proto::arm::Arm;
use tokio::time::Instant;
use tracing::warn;

use crate::{
    cli::exit::Failure,
    local::environment::Environment,
    run::{self, Outcome, Stop, TrialRequest},
    settings::StudySettings,
    study::{
        block_workers::BlockWorkers, manifest, origin::OriginProbe, schedule::block_order,
        store::Store,
    },
    terminal::reporter::{Report, Reporter},
    url_list::UrlList,
};

/// An arm slower than this many times the baseline runs in few blocks only.
const SLOW_FACTOR: f64 = 5.0;
/// So many blocks, of those that are kept.
const SLOW_BLOCKS: u32 = 3;
/// An invalid trial is run again this many times.
const RETRIES: u32 = 2;
/// The name of the baseline's second run within every block.
pub(super) const CONTROL_SUFFIX: &str = " (again)";

/// One arm with its place in the record.
#[derive(Debug, Clone)]
struct StudyArm {
    arm: Arm,
    name: String,
    control: bool,
    /// Work per response on top of the study's own.
    extra_work: Duration,
    /// Whether its memory is sampled while it runs.
    sampled: bool,
}

/// What studies run on.
pub(super) struct StudyContext<'a> {
    pub(super) settings: &'a StudySettings,
    pub(super) command: &'a [String],
    pub(super) list: &'a UrlList,
    pub(super) environment: Environment<'a>,
    pub(super) stop: &'a Stop,
    pub(super) reporter: &'a dyn Reporter,
}

/// Runs one study, as far as it comes.
pub(super) async fn run_study(
    on: &mut StudyContext<'_>,
    seed: u64,
    inject: Duration,
    store: &Store,
) -> (Study, Result<StudyEnd, Failure>) {
    let entries = entries(on.settings, inject);
    on.environment.fleet.catch_up();
    let origin = on.environment.origin.as_mut();
    let probe = OriginProbe::new(origin.as_ref().map(|origin| &*origin.url));
    if let Some(origin) = origin.filter(|origin| !origin.embedded) {
        origin.threads = probe.threads().await.unwrap_or_default();
    }
    let study = Study {
        schema_version: SCHEMA_VERSION,
        manifest: manifest::describe(on.settings, seed, on.list, &on.environment, on.command),
        arms: entries.iter().map(record_arm).collect(),
        ..Study::default()
    };
    let mut runner = Runner {
        seed,
        on,
        entries,
        workers: BlockWorkers::default(),
        probe,
        study,
        store,
        began: Instant::now(),
    };
    let ended = runner.blocks().await;
    runner.on.reporter.tell(Report::Idle);
    runner.study.manifest.elapsed_s = runner.began.elapsed().as_secs_f64();
    (runner.study, ended)
}

/// How the blocks came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StudyEnd {
    Complete,
    OutOfTime,
    Interrupted,
}

struct Runner<'a, 'c> {
    on: &'a mut StudyContext<'c>,
    entries: Vec<StudyArm>,
    seed: u64,
    workers: BlockWorkers,
    probe: OriginProbe,
    study: Study,
    store: &'a Store,
    began: Instant,
}

impl Runner<'_, '_> {
    async fn blocks(&mut self) -> Result<StudyEnd, Failure> {
        for block in 0..=self.on.settings.blocks {
            let budget = self.on.settings.time_budget;
            if budget.is_some_and(|budget| self.began.elapsed() > budget) {
                let text = format!("the time budget is used up after {block} blocks");
                self.on.reporter.say(&text);
                return Ok(StudyEnd::OutOfTime);
            }
            let fleet = &mut self.on.environment.fleet;
            self.workers.refresh(block, fleet, &mut self.study.manifest);
            let baseline = self.on.settings.baseline;
            let order = block_order(self.seed, self.entries.len(), baseline, block);
            let mut goes_on = self.turns(block, order).await?;
            if goes_on {
                let retries = self.retries(block);
                goes_on = self.turns(block, retries).await?;
            }
            if !goes_on {
                return Ok(StudyEnd::Interrupted);
            }
            self.shorten(block);
            if let Err(error) = self.store.keep_part(&self.study) {
                warn!(%error, "cannot keep the study so far");
            }
        }
        Ok(StudyEnd::Complete)
    }

    /// These arms' turns in one block; says whether the study goes on.
    async fn turns(&mut self, block: u32, arms: Vec<usize>) -> Result<bool, Failure> {
        for arm in arms {
            if self.study.arms[arm].shortened.is_some() && block > SLOW_BLOCKS {
                continue;
            }
            // The first block only warms up; an arm that is slow there is known to be
            // slow, and the rest of that trial would tell nothing more.
            let baseline_s = (block == 0).then(|| self.baseline_makespan_s()).flatten();
            let limit = baseline_s.map(|s| Duration::from_secs_f64(s * SLOW_FACTOR));
            let limit = limit.map(|limit| limit.max(Duration::from_millis(200)));
            for retry in 0..=RETRIES {
                let (outcome, mut trial) = self.trial(block, arm, limit).await?;
                let cancelled = matches!(outcome.end, TrialEnd::Aborted(AbortReason::Cancelled));
                if cancelled && self.on.stop.cancel.is_cancelled() {
                    return Ok(false);
                }
                trial.invalid_reasons = self.check(&outcome.end, &trial, arm, retry < RETRIES)?;
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
            // On a fleet, workers come back.
            TrialEnd::Aborted(reason) if self.on.environment.patience.is_some() && may_retry => {
                Ok(vec![reason.to_string()])
            }
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

    async fn trial(
        &mut self,
        block: u32,
        arm: usize,
        limit: Option<Duration>,
    ) -> Result<(Outcome, record::TrialRecord), Failure> {
        let entry = &self.entries[arm];
        let environment = &mut self.on.environment;
        let assigned = self.workers.assign(
            block,
            &entry.arm,
            environment,
            self.on.stop,
            &mut self.study.manifest,
        );
        let placement = assigned.await?;
        let common = &self.on.settings.common;
        let blocks = self.on.settings.blocks;
        let what = match block {
            0 => format!("warm-up      {:<20}", entry.name),
            _ => format!("block {block:>2}/{blocks:<3} {:<20}", entry.name),
        };
        let begins = Report::Trial(&what, self.on.list.len());
        self.on.reporter.tell(begins);
        self.probe.begin().await;
        let boot = manifest::suspended();
        let mut setup = common.setup(&entry.arm, false);
        setup.cpu_work += entry.extra_work;
        let request = TrialRequest {
            id: environment.fleet.next_trial(),
            list: self.on.list,
            setup: &setup,
            pace: &|fetcher| common.pace(&entry.arm, fetcher.0),
            placement,
            cpus: &common.cpus.fetchers,
            split: common.split,
            done: None,
            memory_interval: entry.sampled.then_some(run::MEMORY_INTERVAL),
            limit,
            hosts: common.hosts,
            observe: &|progress| self.on.reporter.report(Report::Progress(progress)),
        };
        let mut outcome = run::run(environment.fleet, request, self.on.stop, &mut ())
            .await
            .map_err(Failure::incomplete)?;
        self.workers.note_losses(block, environment.fleet, &mut self.study.manifest);
        let mut trial = std::mem::take(&mut outcome.trial);
        trial.origin = self.probe.end(trial.makespan_s).await;
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
        let name = &self.entries.get(self.on.settings.baseline)?.name;
        self.study.trials.iter().find(|t| t.block == 0 && t.arm == *name)?.makespan_s
    }

    /// After the warm-up: which arms are so slow that few blocks must do?
    fn shorten(&mut self, block: u32) {
        if block != 0 || self.on.settings.blocks <= SLOW_BLOCKS {
            return;
        }
        for (arm, entry) in self.study.arms.iter_mut().zip(&self.entries) {
            let stopped = self.study.trials.iter().any(|trial| {
                trial.arm == entry.name && trial.completed + trial.failed < self.on.list.len()
            });
            if stopped {
                arm.shortened = Some(format!(
                    "it takes more than {SLOW_FACTOR}× the baseline's time, so it ran in {SLOW_BLOCKS} of {} blocks",
                    self.on.settings.blocks
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
    };
    let mut entries: Vec<_> = settings.arms.iter().map(|arm| entry(arm, false)).collect();
    if let Some(baseline) = settings.arms.get(settings.baseline) {
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
