//! `coordinator study`: blocks of trials, then comparisons.

mod block_workers;
mod manifest;
mod origin;
mod schedule;
pub mod store;

pub(crate) use origin::client as origin_client;

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use fanout_analysis::{
    Options, conclude,
    record::{self, SCHEMA_VERSION, Study},
    statistics, text, validity,
};
use fanout_engine::{
    ledger::Split,
    politeness::MODEST_MAX_PER_HOST,
    trial::{AbortReason, End},
};
use fanout_proto::arm::Arm;
use tokio::time::Instant;
use tracing::warn;

use crate::{
    cli::{
        Format,
        exit::{Exit, Failure},
    },
    fetch::announce,
    local::environment::{Ground, LocalGround, Signals},
    run::{self, Outcome, Stop, TrialRequest},
    settings::{Common, SLOPE_CONCURRENCIES, StudyKind, StudySettings},
    study::{
        block_workers::Crew,
        origin::OriginProbe,
        schedule::{Schedule, Turn},
        store::Store,
    },
    terminal::{
        bar::Bar,
        reporter::{Terminal, Voice},
    },
    url_list::{Source, UrlList},
};

/// An arm slower than this many times the baseline runs in few blocks only.
const SLOW_FACTOR: f64 = 5.0;
/// So many blocks, of those that are kept.
const SLOW_BLOCKS: u32 = 3;
/// An invalid trial is run again this many times.
const RETRIES: u32 = 2;
/// The name of the baseline's second run within every block.
const CONTROL_SUFFIX: &str = " (again)";

/// One arm with its place in the record.
#[derive(Debug, Clone)]
struct Entry {
    arm: Arm,
    name: String,
    control: bool,
    /// Work per response on top of the study's own.
    extra_work: Duration,
    /// Whether its memory is sampled while it runs.
    sampled: bool,
}

/// Runs a study on this machine.
///
/// # Errors
///
/// [`Failure`] with the exit code it leads to.
pub async fn run(settings: StudySettings, format: Format) -> Result<Exit, Failure> {
    let voice = Terminal { format };
    let prepared = Prepared::new(settings, manifest::own_command(), &voice)?;
    let signals = Signals::listen(false).map_err(Failure::incomplete)?;
    let common = &prepared.settings.common;
    let slots = common.local_slots(&prepared.settings.arms);
    let origin_seed = prepared.own.is_none().then_some(prepared.seed);
    let local = LocalGround::start(common, slots, origin_seed).await;
    let mut local = local.inspect_err(|_| prepared.store.discard())?;
    let result = prepared.run(local.ground(), &signals.stop, &voice).await;
    local.end().await;
    result
}

/// A study whose list was checked and whose directory is there; nothing runs.
#[derive(Debug)]
pub struct Prepared {
    settings: StudySettings,
    seed: u64,
    /// `None`: the origin's.
    own: Option<UrlList>,
    store: Store,
    command: Vec<String>,
}

impl Prepared {
    /// Checks the list and makes the directory; `command` is what was typed.
    ///
    /// # Errors
    ///
    /// [`Failure`] with exit code 2.
    pub fn new(
        mut settings: StudySettings,
        command: Vec<String>,
        voice: &dyn Voice,
    ) -> Result<Self, Failure> {
        let common = &settings.common;
        let own = match &common.source {
            Source::BuiltIn => None,
            source => Some(
                UrlList::open(source, common.repeat, common.skip_invalid)
                    .map_err(Failure::usage)?,
            ),
        };
        if let Some(list) = &own {
            ask_first(&settings, list, voice)?;
            spare_others(&mut settings.common, list, voice);
        }
        let store = Store::create(settings.out.as_deref()).map_err(Failure::usage)?;
        Ok(Self {
            seed: settings.seed.unwrap_or_else(manifest::fresh_seed),
            settings,
            own,
            store,
            command,
        })
    }

    /// Takes the directory away again, of a study that will not run.
    pub fn discard(&self) {
        self.store.discard();
    }

    /// The origin that was named for the built-in list.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        self.settings.common.origin.clone()
    }

    /// Workers to wait for.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.settings.common.workers
    }

    /// Runs it. A study that never began leaves no directory behind.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the exit code it leads to.
    pub async fn run(
        &self,
        mut ground: Ground<'_>,
        stop: &Stop,
        voice: &dyn Voice,
    ) -> Result<Exit, Failure> {
        let made;
        let list = match &self.own {
            Some(list) => {
                // The list is what is fetched; the origin has no part in it.
                ground.origin = None;
                list
            }
            None => {
                made = built_in(&self.settings, &ground, self.seed)
                    .inspect_err(|_| self.store.discard())?;
                &made
            }
        };
        let mut bench = Bench {
            settings: &self.settings,
            command: &self.command,
            list,
            ground,
            stop,
            voice,
        };
        match self.settings.kind {
            StudyKind::Calibrate { studies, inject } => {
                bench
                    .calibrate(self.seed, studies, inject, &self.store)
                    .await
            }
            StudyKind::Compare | StudyKind::MemorySlope => {
                let (study, ended) = bench.study(self.seed, Duration::ZERO, &self.store).await;
                conclude_and_show(study, &self.store, ended, voice).await
            }
        }
    }
}

/// What studies run on.
struct Bench<'a> {
    settings: &'a StudySettings,
    command: &'a [String],
    list: &'a UrlList,
    ground: Ground<'a>,
    stop: &'a Stop,
    voice: &'a dyn Voice,
}

impl Bench<'_> {
    /// One study, as far as it came.
    async fn study(
        &mut self,
        seed: u64,
        inject: Duration,
        store: &Store,
    ) -> (Study, Result<Ended, Failure>) {
        let entries = entries(self.settings, inject);
        self.ground.fleet.catch_up();
        let origin = self.ground.origin.as_mut();
        let probe = OriginProbe::new(origin.as_ref().and_then(|o| o.urls.first()));
        if let Some(origin) = origin.filter(|origin| !origin.embedded) {
            origin.threads = probe.threads().await.unwrap_or_default();
        }
        let study = Study {
            schema_version: SCHEMA_VERSION,
            manifest: manifest::describe(
                self.settings,
                seed,
                self.list,
                &self.ground,
                self.command,
            ),
            arms: entries.iter().map(record_arm).collect(),
            ..Study::default()
        };
        let mut runner = Runner {
            settings: self.settings,
            list: self.list,
            schedule: Schedule::new(seed, entries.len(), self.settings.baseline),
            entries,
            crew: Crew::default(),
            ground: &mut self.ground,
            probe,
            study,
            store,
            began: Instant::now(),
            bar: self.voice.bar(self.list.len(), String::new()),
            voice: self.voice,
        };
        let ended = runner.blocks(self.stop).await;
        runner.bar.clear();
        runner.study.manifest.elapsed_s = runner.began.elapsed().as_secs_f64();
        (runner.study, ended)
    }

    /// The baseline against itself, again and again.
    async fn calibrate(
        &mut self,
        seed: u64,
        studies: u32,
        inject: Duration,
        store: &Store,
    ) -> Result<Exit, Failure> {
        let mut verdicts = Vec::new();
        let mut exit = Exit::Done;
        for number in 1..=studies {
            let own = store
                .within(&format!("{number:04}"))
                .map_err(Failure::usage)?;
            let seed = seed.wrapping_add(number.into());
            let (study, ended) = self.study(seed, inject, &own).await;
            if ended? == Ended::Interrupted {
                own.discard();
                exit = Exit::Interrupted;
                break;
            }
            let study = conclude_and_save(study, &own).await?;
            self.voice
                .study_of_series(&study)
                .map_err(Failure::incomplete)?;
            let control = study
                .comparisons
                .iter()
                .find(|c| c.metric == statistics::PRIMARY.name && c.arm.ends_with(CONTROL_SUFFIX));
            if let Some(control) = control {
                self.voice.say(&format!(
                    "study {number} of {studies}: {:.3}× {:?}",
                    control.ratio, control.verdict
                ));
                verdicts.push(control.verdict);
            }
        }
        if verdicts.is_empty() {
            return Ok(exit);
        }
        let found = statistics::false_positives(verdicts);
        let text = if inject.is_zero() {
            text::false_positives(&found)
        } else {
            format!(
                "{} of {} studies called the second run different, which spun {inject:?} longer per response.",
                found.called, found.studies
            )
        };
        self.voice.print(&text).map_err(Failure::incomplete)?;
        Ok(exit)
    }
}

async fn conclude_and_show(
    study: Study,
    store: &Store,
    ended: Result<Ended, Failure>,
    voice: &dyn Voice,
) -> Result<Exit, Failure> {
    let interrupted = !matches!(ended, Ok(Ended::Complete | Ended::OutOfTime));
    if study.trials.is_empty() {
        store.discard();
        ended?;
        return Ok(Exit::Interrupted);
    }
    let study = Study {
        interrupted,
        ..study
    };
    let study = conclude_and_save(study, store).await?;
    voice.study(&study, store).map_err(Failure::incomplete)?;
    Ok(match ended? {
        Ended::Interrupted => Exit::Interrupted,
        Ended::Complete | Ended::OutOfTime if comparable(&study) => Exit::Done,
        Ended::Complete | Ended::OutOfTime => Exit::Incomplete,
    })
}

/// Away from the event loop: on a long study the statistics take a while, and
/// workers must not think that nobody listens.
async fn conclude_and_save(mut study: Study, store: &Store) -> Result<Study, Failure> {
    let store = store.clone();
    let task = tokio::task::spawn_blocking(move || {
        conclude(&mut study, &Options::default());
        store.save(&study).map(|()| study)
    });
    match task.await {
        Ok(saved) => saved.map_err(Failure::incomplete),
        Err(error) => Err(Failure::incomplete(error)),
    }
}

/// Whether every arm has a valid trial.
fn comparable(study: &Study) -> bool {
    let abandoned = study.trials.iter().any(|t| t.valid && t.abandoned > 0);
    let measured = |arm: &record::Arm| study.trials.iter().any(|t| t.valid && t.arm == arm.name);
    !abandoned && study.arms.iter().all(measured)
}

/// Where the requests will go, and whether that is wanted.
fn ask_first(settings: &StudySettings, list: &UrlList, voice: &dyn Voice) -> Result<(), Failure> {
    let (hosts, _) = list.beyond_loopback();
    if hosts.is_empty() {
        return Ok(());
    }
    announce(list, voice);
    let trials = settings.arms.len() as u64 * u64::from(settings.blocks + 1);
    let requests = list.len().saturating_mul(trials);
    if settings.yes {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "a study fetches the list again and again: {trials} trials, up to {requests} requests, to hosts \
         beyond this machine; pass --yes if they are yours to load, or lower --blocks"
    )))
}

/// Hosts beyond this machine are spared, unless somebody said how far.
fn spare_others(common: &mut Common, list: &UrlList, voice: &dyn Voice) {
    if list.beyond_loopback().0.is_empty() || common.hosts.max_per_host.is_some() {
        return;
    }
    if common.split == Split::Static {
        voice.say(
            "no limit per host: with --split static fetchers know nothing of one another's hosts",
        );
        return;
    }
    common.hosts.max_per_host = Some(MODEST_MAX_PER_HOST);
    voice.say(&format!(
        "at most {MODEST_MAX_PER_HOST} requests of a host at a time, which arms with more in flight may \
         feel; --max-per-host N sets another limit"
    ));
}

/// The embedded origin's list: what the kind of study asks for.
fn built_in(settings: &StudySettings, ground: &Ground<'_>, seed: u64) -> Result<UrlList, Failure> {
    let origin = ground.origin.as_ref();
    let base = origin
        .and_then(|origin| origin.urls.first())
        .ok_or_else(|| Failure::no_fleet("the origin has no address"))?;
    let repeat = settings.common.repeat;
    let made = match settings.kind {
        StudyKind::MemorySlope => {
            let most = SLOPE_CONCURRENCIES.into_iter().max().unwrap_or(1);
            let base = base.trim_end_matches('/');
            // As many URLs as the largest arm has slots, so that all are in use at
            // once, for long enough to be sampled.
            let lines = (0..most).map(|i| format!("{base}/{i}?delay=300ms&size=64"));
            UrlList::from_lines(Source::BuiltIn, lines, repeat)
        }
        StudyKind::Compare | StudyKind::Calibrate { .. } => {
            UrlList::from_lines(Source::BuiltIn, fanout_origin::builtin(base, seed), repeat)
        }
    };
    made.map_err(Failure::usage)
}

fn entries(settings: &StudySettings, inject: Duration) -> Vec<Entry> {
    let entry = |arm: &Arm, control| Entry {
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

fn record_arm(entry: &Entry) -> record::Arm {
    let arm = &entry.arm;
    record::Arm {
        name: entry.name.clone(),
        processes: arm.processes.get(),
        model: arm.model.name().to_owned(),
        concurrency: arm.concurrency.get(),
        client: arm.client.name().to_owned(),
        workers: arm.workers.map(std::num::NonZeroU32::get),
        control: entry.control,
        shortened: None,
    }
}

/// How the blocks came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Complete,
    OutOfTime,
    Interrupted,
}

struct Runner<'a, 'g> {
    settings: &'a StudySettings,
    list: &'a UrlList,
    entries: Vec<Entry>,
    schedule: Schedule,
    crew: Crew,
    ground: &'a mut Ground<'g>,
    probe: OriginProbe,
    study: Study,
    store: &'a Store,
    began: Instant,
    bar: Bar,
    voice: &'a dyn Voice,
}

impl Runner<'_, '_> {
    async fn blocks(&mut self, stop: &Stop) -> Result<Ended, Failure> {
        for block in 0..=self.settings.blocks {
            let budget = self.settings.time_budget;
            if budget.is_some_and(|budget| self.began.elapsed() > budget) {
                self.voice
                    .say(&format!("the time budget is used up after {block} blocks"));
                return Ok(Ended::OutOfTime);
            }
            self.crew
                .muster(block, self.ground.fleet, &mut self.study.manifest);
            for turn in self.schedule.block(block) {
                if self.turn(block, turn, stop).await? == Ended::Interrupted {
                    return Ok(Ended::Interrupted);
                }
            }
            for turn in self.turns_again(block) {
                if self.turn(block, turn, stop).await? == Ended::Interrupted {
                    return Ok(Ended::Interrupted);
                }
            }
            self.shorten(block);
            if let Err(error) = self.store.keep_part(&self.study) {
                warn!(%error, "cannot keep the study so far");
            }
        }
        Ok(Ended::Complete)
    }

    /// One arm's trial in one block, repeated while it is invalid.
    async fn turn(&mut self, block: u32, turn: Turn, stop: &Stop) -> Result<Ended, Failure> {
        if self.is_shortened(turn.arm) && block > SLOW_BLOCKS {
            return Ok(Ended::Complete);
        }
        // The first block only warms up; whoever is slow there is known to be
        // slow, and the rest of that trial would tell nothing more.
        let limit = (block == 0)
            .then(|| self.baseline_makespan_s())
            .flatten()
            .map(|s| Duration::from_secs_f64(s * SLOW_FACTOR).max(Duration::from_millis(200)));
        for retry in 0..=RETRIES {
            let (outcome, mut trial) = self.trial(block, turn, limit, stop).await?;
            match &outcome.end {
                End::Aborted(AbortReason::Cancelled) if stop.cancel.is_cancelled() => {
                    return Ok(Ended::Interrupted);
                }
                End::Aborted(AbortReason::Cancelled) => {
                    let reason = format!("stopped: it took more than {SLOW_FACTOR}× the baseline");
                    trial.invalid_reasons.push(reason);
                }
                End::Aborted(reason @ AbortReason::Setup(_)) => {
                    return Err(Failure::usage(format!("{}: {reason}", trial.arm)));
                }
                // On a fleet, workers come back.
                End::Aborted(reason) if self.ground.patience.is_some() && retry < RETRIES => {
                    trial.invalid_reasons.push(reason.to_string());
                }
                End::Aborted(reason) => {
                    return Err(Failure::no_fleet(format!("{}: {reason}", trial.arm)));
                }
                End::Done => {
                    let arm = &self.study.arms[turn.arm];
                    let reasons = validity::gates(&trial, arm, &self.study.manifest);
                    trial.invalid_reasons.extend(reasons);
                }
            }
            trial.valid = trial.invalid_reasons.is_empty() && !trial.discarded;
            let lost = matches!(
                outcome.end,
                End::Aborted(AbortReason::AllLost(_) | AbortReason::NotReady { .. })
            );
            self.study.trials.push(trial);
            let latest = self.study.trials.len() - 1;
            self.turn_away_outvoted(|at, _| at == latest);
            let again = !self.study.trials[latest].valid && (block > 0 || lost) && retry < RETRIES;
            if !again {
                break;
            }
        }
        Ok(Ended::Complete)
    }

    /// Turns away those of the chosen trials that fetched something else than
    /// most did.
    fn turn_away_outvoted(&mut self, chosen: impl Fn(usize, &record::Trial) -> bool) {
        for (at, reason) in validity::outvoted(&self.study) {
            let trial = &mut self.study.trials[at];
            if chosen(at, trial) {
                trial.valid = false;
                trial.invalid_reasons.push(reason);
            }
        }
    }

    /// Arms whose trial in this block was believed until later ones showed
    /// that most fetch something else; they get another turn.
    fn turns_again(&mut self, block: u32) -> Vec<Turn> {
        let before = self.has_valid(block);
        self.turn_away_outvoted(|_, trial| trial.block == block);
        let after = self.has_valid(block);
        let lost = before.iter().zip(after).enumerate();
        lost.filter(|(_, (before, after))| **before && !after)
            .map(|(arm, _)| Turn { arm })
            .collect()
    }

    /// For every arm, whether it has a trial in this block that may be compared.
    fn has_valid(&self, block: u32) -> Vec<bool> {
        let trials = &self.study.trials;
        let has = |name: &str| {
            trials
                .iter()
                .any(|trial| trial.block == block && trial.valid && trial.arm == name)
        };
        self.entries.iter().map(|entry| has(&entry.name)).collect()
    }

    async fn trial(
        &mut self,
        block: u32,
        turn: Turn,
        limit: Option<Duration>,
        stop: &Stop,
    ) -> Result<(Outcome, record::Trial), Failure> {
        let arm = self.entries[turn.arm].arm;
        let placement = self
            .crew
            .place(block, &arm, self.ground, stop, &mut self.study.manifest)
            .await?;
        let entry = &self.entries[turn.arm];
        let common = &self.settings.common;
        let blocks = self.settings.blocks;
        self.bar.restart(match block {
            0 => format!("warm-up      {:<20}", entry.name),
            _ => format!("block {block:>2}/{blocks:<3} {:<20}", entry.name),
        });
        self.probe.begin().await;
        let boot = manifest::suspended();
        let mut setup = common.setup(&arm, false);
        setup.cpu_work += entry.extra_work;
        let request = TrialRequest {
            id: self.ground.fleet.next_trial(),
            list: self.list,
            setup: &setup,
            pace: &|fetcher| common.pace(&arm, fetcher.0),
            placement,
            cpus: &common.placed.fetchers,
            split: common.split,
            done: None,
            memory_interval: entry.sampled.then_some(run::MEMORY_INTERVAL),
            limit,
            hosts: common.hosts,
        };
        let mut outcome = run::run(self.ground.fleet, request, stop, &mut self.bar)
            .await
            .map_err(Failure::incomplete)?;
        self.crew
            .note_losses(block, self.ground.fleet, &mut self.study.manifest);
        let mut trial = std::mem::take(&mut outcome.trial);
        trial.origin = self.probe.end(trial.makespan_s).await;
        trial.suspended_s = boot
            .zip(manifest::suspended())
            .map(|(before, after)| after.saturating_sub(before).as_secs_f64());
        trial.arm.clone_from(&self.entries[turn.arm].name);
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
        let name = &self.entries.get(self.settings.baseline)?.name;
        self.study
            .trials
            .iter()
            .find(|t| t.block == 0 && t.arm == *name)?
            .makespan_s
    }

    fn is_shortened(&self, arm: usize) -> bool {
        self.study.arms[arm].shortened.is_some()
    }

    /// After the warm-up: who is so slow that few blocks must do?
    fn shorten(&mut self, block: u32) {
        if block != 0 || self.settings.blocks <= SLOW_BLOCKS {
            return;
        }
        for (arm, entry) in self.study.arms.iter_mut().zip(&self.entries) {
            let stopped = self.study.trials.iter().any(|trial| {
                trial.arm == entry.name && trial.completed + trial.failed < self.list.len()
            });
            if stopped {
                arm.shortened = Some(format!(
                    "it takes more than {SLOW_FACTOR}× the baseline's time, so it ran in {SLOW_BLOCKS} of {} blocks",
                    self.settings.blocks
                ));
            }
        }
    }
}

/// Where a study is kept when nobody says.
#[must_use]
pub fn default_directory(now: jiff::Timestamp) -> PathBuf {
    PathBuf::from("studies").join(now.strftime("%Y-%m-%dT%H%M%SZ").to_string())
}

/// Whether standard output is a terminal that shows colours.
#[must_use]
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, io, path::Path};

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    /// Keeps what is said.
    #[derive(Default)]
    struct Listener(RefCell<String>);

    impl Voice for Listener {
        fn say(&self, text: &str) {
            self.0.borrow_mut().push_str(text);
        }
        fn bar(&self, _: u64, _: String) -> Bar {
            Bar::hidden()
        }
        fn print(&self, _: &str) -> io::Result<()> {
            Ok(())
        }
        fn study(&self, _: &Study, _: &Store) -> io::Result<()> {
            Ok(())
        }
        fn kept(&self, _: &Path) {}
        fn study_of_series(&self, _: &Study) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn hosts_beyond_this_machine_are_spared_unless_somebody_said_how_far() {
        let spared = |url: &str, args: &[&str]| {
            let line = [&["coordinator", "study"], args].concat();
            let Command::Study(args) = Cli::parse_from(line).command else {
                unreachable!("study was typed");
            };
            let mut common = StudySettings::new(&args).unwrap().common;
            let lines = std::iter::once(url.to_owned());
            let list = UrlList::from_lines(Source::Stdin, lines, 1).unwrap();
            let listener = Listener::default();
            spare_others(&mut common, &list, &listener);
            let limit = common.hosts.max_per_host.map(std::num::NonZeroU32::get);
            (limit, listener.0.take())
        };
        let (limit, said) = spared("http://example.org/", &[]);
        assert_eq!(limit, Some(6));
        assert!(
            said.contains("at most 6 requests of a host at a time"),
            "{said}"
        );
        let (limit, said) = spared("http://example.org/", &["--max-per-host", "40"]);
        assert_eq!((limit, said.as_str()), (Some(40), ""));
        let (limit, said) = spared("http://127.0.0.1:8080/", &[]);
        assert_eq!((limit, said.as_str()), (None, ""));
        let (limit, said) = spared("http://example.org/", &["--split", "static"]);
        assert_eq!(limit, None);
        assert!(said.contains("no limit per host"), "{said}");
    }
}
