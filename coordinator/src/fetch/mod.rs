//! `coordinator fetch`: every URL once, a record for each.

mod summary;

pub(crate) use summary::cannot_write;

use std::{io, time::Duration};

use fanout_engine::{
    id_set::IdSet,
    trial::{AbortReason, TrialEnd},
};
use tokio::time::sleep;

use crate::{
    exit::{CommandExit, Failure},
    fetch::summary::{summarise, unwritten},
    fleet::assign::assign,
    local::{
        environment::{Environment, LocalEnvironment},
        signals::RunSignals,
    },
    results::{ClaimedOutput, Destination, Narrator, Results, Resumed, part_name},
    run::{self, DriveError, Stop, TrialRequest},
    settings::FetchSettings,
    terminal::{
        Terminal,
        announce::announce,
        reporter::{Report, Reporter},
    },
    url_list::UrlList,
};

pub(crate) async fn run(settings: FetchSettings) -> Result<CommandExit, Failure> {
    let reporter = Terminal::default();
    // Before the list is read, which may take long and be possible only once.
    let Some(claimed) = claim(&settings.destination, settings.resume, &reporter)? else {
        return Ok(CommandExit::Done);
    };
    let list = match open(&settings) {
        Ok(list) => list,
        Err(failure) => {
            claimed.discard();
            return Err(failure);
        }
    };
    let fetch = PreparedFetch::new(&settings, &list, claimed, None, &reporter)?;
    let signals = RunSignals::listen(true).map_err(Failure::incomplete)?;
    if fetch.nothing_left() {
        return fetch.conclude(&signals.stop).await;
    }
    let slots = settings.common.local_slots(&[settings.arm]);
    let mut local = match LocalEnvironment::start(&settings.common, slots, None).await {
        Ok(local) => local,
        Err(failure) => {
            fetch.give_up(&signals.stop).await;
            return Err(failure);
        }
    };
    let result = fetch.run(local.environment(), &signals.stop).await;
    local.end().await;
    result
}

/// Where the records go; `None`, once that was said: a fetch that is to go on is complete.
pub(crate) fn claim(
    destination: &Destination,
    resume: bool,
    reporter: &dyn Reporter,
) -> Result<Option<ClaimedOutput>, Failure> {
    let claimed = ClaimedOutput::of(destination, resume).map_err(Failure::usage)?;
    match &claimed {
        None => reporter.say(&complete_already(destination)),
        Some(claimed) if resume && claimed.list().is_none() => {
            reporter.say("there is nothing to go on from: starting from the beginning");
        }
        Some(_) => {}
    }
    Ok(claimed)
}

pub(crate) fn complete_already(destination: &Destination) -> String {
    match destination {
        Destination::Stdout => "it is complete already".to_owned(),
        Destination::File(path, _) => format!(
            "{} is complete already, and there is no {}: nothing to do",
            path.display(),
            part_name(path).display()
        ),
    }
}

pub(crate) fn open(settings: &FetchSettings) -> Result<UrlList, Failure> {
    let common = &settings.common;
    UrlList::open(&common.source, common.repeat, common.skip_invalid).map_err(Failure::usage)
}

/// A fetch whose results can be written; nothing runs.
pub(crate) struct PreparedFetch<'a> {
    settings: &'a FetchSettings,
    list: &'a UrlList,
    results: Results<'a>,
    before: Resumed,
    reporter: &'a dyn Reporter,
}

impl<'a> PreparedFetch<'a> {
    /// Starts to write results, and says where the requests go. What is `done`
    /// elsewhere is not fetched, and not written either.
    pub(crate) fn new(
        settings: &'a FetchSettings,
        list: &'a UrlList,
        claimed: ClaimedOutput,
        done: Option<IdSet>,
        reporter: &'a dyn Reporter,
    ) -> Result<Self, Failure> {
        let narrator = settings
            .verbose
            .then(|| Narrator::new(|lines| reporter.say(lines), reporter.may_block()));
        let (writer, mut before) = claimed.open(&list.identity()).map_err(Failure::usage)?;
        if let Some(done) = done {
            before.done = done;
        }
        announce(list, reporter);
        if !list.beyond_loopback().0.is_empty() && !settings.common.hosts.any() {
            reporter
                .say("no limit per host: --polite, --max-per-host and --rate-per-host spare them");
        }
        Ok(Self {
            settings,
            list,
            results: Results::new(writer, &settings.destination, list, narrator),
            before,
            reporter,
        })
    }

    pub(crate) fn nothing_left(&self) -> bool {
        self.before.done.is_full()
    }

    /// Gives the file its name, where every URL was done before.
    pub(crate) async fn conclude(self, stop: &Stop) -> Result<CommandExit, Failure> {
        let finished = self.results.finish(true, patience(stop)).await;
        finished.map_err(|error| cannot_write(&self.settings.destination, &error))?;
        let all = self.list.len();
        self.reporter.say(&format!("{all} URLs: all from before"));
        Ok(match self.before.counts.abandoned {
            0 => CommandExit::Done,
            _ => CommandExit::Incomplete,
        })
    }

    async fn give_up(self, stop: &Stop) {
        // A part without a record goes away; one that stays does no harm.
        let _ = self.results.finish(false, patience(stop)).await;
    }

    pub(crate) async fn run(
        mut self,
        environment: Environment<'_>,
        stop: &Stop,
    ) -> Result<CommandExit, Failure> {
        let (settings, list, reporter) = (self.settings, self.list, self.reporter);
        let (common, arm) = (&settings.common, &settings.arm);
        let fleet = environment.fleet;
        let placement = match assign(fleet, arm.processes.get(), arm.workers, |_| true) {
            Ok(placement) => placement,
            Err(error) => {
                self.give_up(stop).await;
                return Err(Failure::usage(error));
            }
        };
        let shown = (!settings.verbose).then_some(reporter);
        if let Some(reporter) = shown {
            reporter.tell(Report::Trial(&arm.to_string(), list.len()));
        }
        let request = TrialRequest {
            id: fleet.next_trial(),
            list,
            setup: &common.setup(arm, settings.verbose),
            pace: &|_| None,
            placement,
            cpus: &common.cpus.fetchers,
            split: common.split,
            done: Some(std::mem::take(&mut self.before.done)),
            memory_interval: Some(run::MEMORY_INTERVAL),
            limit: None,
            hosts: common.hosts,
            observe: &|progress| {
                shown.map_or(Ok(()), |reporter| reporter.report(Report::Progress(progress)))
            },
        };
        let outcome = run::run(fleet, request, stop, &mut self.results).await;
        reporter.tell(Report::Idle);
        self.finish(outcome, stop).await
    }

    async fn finish(
        self,
        outcome: Result<run::Outcome, DriveError>,
        stop: &Stop,
    ) -> Result<CommandExit, Failure> {
        let (settings, results, reporter) = (self.settings, self.results, self.reporter);
        let kept = || {
            if let Destination::File(path, _) = &settings.destination {
                let part = part_name(path);
                // Without a record there is none.
                if part.exists() {
                    reporter.tell(Report::Kept(&part));
                }
            }
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // What was written stays as the part; the first error counts.
                let _ = results.finish(false, patience(stop)).await;
                kept();
                return match error {
                    DriveError::Sink(error) => unwritten(&settings.destination, &error),
                    DriveError::List(error) => Err(Failure::incomplete(error)),
                };
            }
        };
        let complete = outcome.end == TrialEnd::Done;
        let examples = results.examples();
        let finished = results.finish(complete, patience(stop)).await;
        if !matches!(outcome.end, TrialEnd::Aborted(AbortReason::Setup(_))) {
            summarise(self.list, &outcome, &examples, reporter);
        }
        if !complete || finished.is_err() {
            kept();
        }
        match finished {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                reporter.say("the last records were not taken in time, and are not written");
                return Ok(CommandExit::Interrupted);
            }
            Err(error) => return unwritten(&settings.destination, &error),
            Ok(()) => {}
        }
        Ok(match outcome.end {
            TrialEnd::Done if outcome.counts.abandoned + self.before.counts.abandoned > 0 => {
                CommandExit::Incomplete
            }
            TrialEnd::Done => CommandExit::Done,
            TrialEnd::Aborted(AbortReason::Cancelled) => CommandExit::Interrupted,
            TrialEnd::Aborted(reason @ AbortReason::Setup(_)) => {
                return Err(Failure::usage(reason));
            }
            TrialEnd::Aborted(
                reason @ (AbortReason::AllLost(_) | AbortReason::NotReady { .. }),
            ) => {
                return Err(Failure::no_fleet(reason));
            }
        })
    }
}

/// How long the last records may take: as long as they need, but not long after
/// the end was asked for.
pub(crate) async fn patience(stop: &Stop) {
    const AT_ONCE: Duration = Duration::from_secs(1);
    tokio::select! {
        biased;
        () = stop.cancel.cancelled() => {}
        () = async {
            stop.drain.cancelled().await;
            sleep(run::DRAIN_DEADLINE).await;
        } => {}
    }
    sleep(AT_ONCE).await;
}
