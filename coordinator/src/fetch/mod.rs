//! `coordinator fetch`: every URL once, a record for each.

use std::{io, time::Duration};

use fanout_analysis::record;
use fanout_engine::{
    id_set::IdSet,
    ledger::Counts,
    trial::{AbortReason, End},
};
use tokio::time::sleep;

use crate::{
    cli::exit::{Exit, Failure},
    local::environment::{Ground, LocalGround, Signals},
    results::{Before, Destination, Results, Taken, part_name},
    run::{self, DriveError, Stop, TrialRequest},
    settings::FetchSettings,
    terminal::{
        bar::{Bar, WithBar},
        reporter::{Terminal, Voice},
    },
    url_list::UrlList,
};

/// Fetches a list from this machine.
///
/// # Errors
///
/// [`Failure`] with the exit code it leads to.
pub async fn run(settings: FetchSettings) -> Result<Exit, Failure> {
    let voice = Terminal::default();
    // Before the list is read, which may take long and be possible only once.
    let taken = Taken::of(&settings.destination, settings.resume).map_err(Failure::usage)?;
    let Some(taken) = taken else {
        voice.say(&complete_already(&settings.destination));
        return Ok(Exit::Done);
    };
    if settings.resume && taken.list().is_none() {
        voice.say(NOTHING_BEFORE);
    }
    let list = match open(&settings) {
        Ok(list) => list,
        Err(failure) => {
            taken.discard();
            return Err(failure);
        }
    };
    let fetch = Fetch::new(&settings, &list, taken, None, &voice)?;
    let signals = Signals::listen(true).map_err(Failure::incomplete)?;
    if fetch.nothing_left() {
        return fetch.conclude(&signals.stop).await;
    }
    let slots = settings.common.local_slots(&[settings.arm]);
    let mut local = match LocalGround::start(&settings.common, slots, None).await {
        Ok(local) => local,
        Err(failure) => {
            fetch.give_up(&signals.stop).await;
            return Err(failure);
        }
    };
    let result = fetch.run(local.ground(), &signals.stop).await;
    local.end().await;
    result
}

/// What is said where `--resume` finds no part.
pub const NOTHING_BEFORE: &str = "there is nothing to go on from: starting from the beginning";

/// What is said where `--resume` finds the whole file.
#[must_use]
pub fn complete_already(destination: &Destination) -> String {
    match destination {
        Destination::Stdout => "it is complete already".to_owned(),
        Destination::File(path, _) => format!(
            "{} is complete already, and there is no {}: nothing to do",
            path.display(),
            part_name(path).display()
        ),
    }
}

/// Reads the list through once.
///
/// # Errors
///
/// [`Failure`] with exit code 2.
pub fn open(settings: &FetchSettings) -> Result<UrlList, Failure> {
    let common = &settings.common;
    UrlList::open(&common.source, common.repeat, common.skip_invalid).map_err(Failure::usage)
}

/// A fetch whose results can be written; nothing runs.
pub struct Fetch<'a> {
    settings: &'a FetchSettings,
    list: &'a UrlList,
    results: Results<'a>,
    before: Before,
    voice: &'a dyn Voice,
}

impl<'a> Fetch<'a> {
    /// Starts to write results, and says where the requests go. What is `done`
    /// elsewhere is not fetched, and not written either.
    ///
    /// # Errors
    ///
    /// [`Failure`] with exit code 2.
    pub fn new(
        settings: &'a FetchSettings,
        list: &'a UrlList,
        taken: Taken,
        done: Option<IdSet>,
        voice: &'a dyn Voice,
    ) -> Result<Self, Failure> {
        let told = settings.verbose.then_some(voice);
        let (writer, mut before) = taken.open(&list.identity()).map_err(Failure::usage)?;
        if let Some(done) = done {
            before.done = done;
        }
        announce(list, voice);
        if !list.beyond_loopback().0.is_empty() && !settings.common.hosts.any() {
            voice.say("no limit per host: --polite, --max-per-host and --rate-per-host spare them");
        }
        Ok(Self {
            settings,
            list,
            results: Results::new(writer, &settings.destination, list, told),
            before,
            voice,
        })
    }

    /// Whether every URL was done before.
    #[must_use]
    pub fn nothing_left(&self) -> bool {
        self.before.done.is_full()
    }

    /// Gives the file its name, where every URL was done before.
    ///
    /// # Errors
    ///
    /// [`Failure`] when it cannot be written.
    pub async fn conclude(self, stop: &Stop) -> Result<Exit, Failure> {
        let Self {
            settings,
            list,
            results,
            before,
            voice,
        } = self;
        results
            .finish(true, patience(stop))
            .await
            .map_err(|error| cannot_write(&settings.destination, &error))?;
        voice.say(&format!("{} URLs: all from before", list.len()));
        Ok(match before.counts.abandoned {
            0 => Exit::Done,
            _ => Exit::Incomplete,
        })
    }

    /// It will not run.
    async fn give_up(self, stop: &Stop) {
        // A part without a record goes away; one that stays does no harm.
        let _ = self.results.finish(false, patience(stop)).await;
    }

    /// Fetches.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the exit code it leads to.
    pub async fn run(mut self, ground: Ground<'_>, stop: &Stop) -> Result<Exit, Failure> {
        let (settings, list, voice) = (self.settings, self.list, self.voice);
        let (common, arm) = (&settings.common, &settings.arm);
        let placement = match run::place(ground.fleet, arm.processes.get(), arm.workers, |_| true) {
            Ok(placement) => placement,
            Err(error) => {
                self.give_up(stop).await;
                return Err(Failure::usage(error));
            }
        };
        let mut bar = if settings.verbose {
            Bar::hidden()
        } else {
            voice.bar(list.len(), arm.to_string())
        };
        let request = TrialRequest {
            id: ground.fleet.next_trial(),
            list,
            setup: &common.setup(arm, settings.verbose),
            pace: &|_| None,
            placement,
            cpus: &common.placed.fetchers,
            split: common.split,
            done: Some(std::mem::take(&mut self.before.done)),
            memory_interval: Some(run::MEMORY_INTERVAL),
            limit: None,
            hosts: common.hosts,
        };
        let mut sink = WithBar {
            sink: &mut self.results,
            bar: &mut bar,
        };
        let outcome = run::run(ground.fleet, request, stop, &mut sink).await;
        bar.clear();
        self.finish(outcome, stop).await
    }

    async fn finish(
        self,
        outcome: Result<run::Outcome, DriveError>,
        stop: &Stop,
    ) -> Result<Exit, Failure> {
        let Self {
            settings,
            list,
            results,
            before,
            voice,
        } = self;
        let kept = || {
            if let Destination::File(path, _) = &settings.destination {
                let part = part_name(path);
                // Without a record there is none.
                if part.exists() {
                    voice.kept(&part);
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
        let complete = outcome.end == End::Done;
        let examples = results.examples();
        let finished = results.finish(complete, patience(stop)).await;
        if !matches!(outcome.end, End::Aborted(AbortReason::Setup(_))) {
            summarise(list, &outcome, &examples, voice);
        }
        if !complete || finished.is_err() {
            kept();
        }
        match finished {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                voice.say("the last records were not taken in time, and are not written");
                return Ok(Exit::Interrupted);
            }
            Err(error) => return unwritten(&settings.destination, &error),
            Ok(()) => {}
        }
        Ok(match outcome.end {
            End::Done if outcome.counts.abandoned + before.counts.abandoned > 0 => Exit::Incomplete,
            End::Done => Exit::Done,
            End::Aborted(AbortReason::Cancelled) => Exit::Interrupted,
            End::Aborted(reason @ AbortReason::Setup(_)) => return Err(Failure::usage(reason)),
            End::Aborted(reason @ (AbortReason::AllLost(_) | AbortReason::NotReady { .. })) => {
                return Err(Failure::no_fleet(reason));
            }
        })
    }
}

/// How long the last records may take: as long as they need, but not long after
/// somebody asked for the end.
pub async fn patience(stop: &Stop) {
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

fn unwritten(destination: &Destination, error: &io::Error) -> Result<Exit, Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        // Whoever read the results has seen enough.
        return Ok(Exit::Incomplete);
    }
    Err(cannot_write(destination, error))
}

/// Results that cannot be written any more, and what to do about it.
pub fn cannot_write(destination: &Destination, error: &io::Error) -> Failure {
    let mend = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": make room",
        io::ErrorKind::FileTooLarge => ": raise the limit (ulimit -f)",
        _ => "",
    };
    Failure::incomplete(match destination {
        Destination::Stdout => format!("cannot write to standard output: {error}{mend}"),
        Destination::File(path, _) => format!(
            "cannot write {}: {error}{mend}; what was written so far is whole, and the same command with \
             --resume goes on from there",
            part_name(path).display()
        ),
    })
}

/// Says where the requests go, when they leave this machine.
pub fn announce(list: &UrlList, voice: &dyn Voice) {
    const SHOWN: usize = 10;
    let (hosts, others) = list.beyond_loopback();
    if list.skipped_lines() > 0 {
        voice.say(&format!(
            "left out {} lines that are no URLs",
            list.skipped_lines()
        ));
    }
    if hosts.is_empty() {
        return;
    }
    voice.say("requests per host:");
    for host in hosts.iter().take(SHOWN) {
        voice.say(&format!("  {:>9}  {}", host.urls, host.host));
    }
    let rest: u64 = hosts.iter().skip(SHOWN).map(|h| h.urls).sum::<u64>() + others;
    if rest > 0 {
        voice.say(&format!("  {rest:>9}  on other hosts"));
    }
}

/// The account, for people.
fn summarise(
    list: &UrlList,
    outcome: &run::Outcome,
    examples: &[(String, String)],
    voice: &dyn Voice,
) {
    let (counts, trial) = (&outcome.counts, &outcome.trial);
    let elapsed = trial.makespan_s.map(Duration::from_secs_f64);
    let rate = trial
        .requests_per_s
        .map_or(String::new(), |rate| format!(", {rate:.0}/s"));
    let took = elapsed.map_or(String::new(), |e| {
        format!(" in {:.3} s{rate}", e.as_secs_f64())
    });
    let left = list.len() - counts.done();
    let before = match counts.before {
        0 => String::new(),
        before => format!("{before} from before, "),
    };
    voice.say(&format!(
        "{} URLs: {before}{} ok, {} failed, {} abandoned, {left} not done{took}; {} bytes",
        list.len(),
        counts.completed,
        counts.failed,
        counts.abandoned,
        trial.bytes,
    ));
    let statuses: Vec<_> = trial
        .statuses
        .iter()
        .map(|(status, count)| format!("{status}: {count}"))
        .collect();
    if !statuses.is_empty() {
        voice.say(&format!("statuses  {}", statuses.join(", ")));
    }
    for (kind, count) in trial.outcomes.iter().filter(|(kind, _)| *kind != "ok") {
        let example = examples
            .iter()
            .find(|(of, _)| of == kind)
            .map_or(String::new(), |(_, text)| format!("  for example: {text}"));
        voice.say(&format!("{kind:>14}  {count}{example}"));
    }
    if counts.asked_again > 0 {
        voice.say(&format!(
            "{} answers of 429 or 503 were heeded, and their URLs asked for again",
            counts.asked_again
        ));
    }
    if let Some(wait_s) = trial.host_wait_s.filter(|s| *s >= 0.001) {
        voice.say(&format!(
            "for {wait_s:.3} s more could have been fetched, but for the limits per host"
        ));
    }
    for line in losses(counts, trial) {
        voice.say(&line);
    }
}

/// What was lost on the way and made good, for people.
fn losses(counts: &Counts, trial: &record::Trial) -> Vec<String> {
    let mut lines = Vec::new();
    if trial.fetchers_lost > 0 {
        let noticed = trial.notice_s.map_or(String::new(), |s| {
            format!(", noticed within {s:.3} s of their last sign of life")
        });
        lines.push(format!("fetchers lost: {}{noticed}", trial.fetchers_lost));
    }
    if counts.requeued > 0 || counts.duplicates_ignored > 0 {
        let recovered = trial.recovery_s.map_or(String::new(), |s| {
            format!(" and were made good within {s:.3} s")
        });
        lines.push(format!(
            "{} leases were lost{recovered}, {} late or double completions were ignored",
            counts.requeued, counts.duplicates_ignored
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_with_the_time_to_recover() {
        let told = |counts: Counts, trial: record::Trial| losses(&counts, &trial).join("\n");
        assert_eq!(told(Counts::default(), record::Trial::default()), "");
        let counts = Counts {
            requeued: 8,
            duplicates_ignored: 1,
            ..Counts::default()
        };
        let trial = record::Trial {
            fetchers_lost: 2,
            notice_s: Some(0.0512),
            recovery_s: Some(0.25),
            ..record::Trial::default()
        };
        insta::assert_snapshot!(told(counts, trial), @"
        fetchers lost: 2, noticed within 0.051 s of their last sign of life
        8 leases were lost and were made good within 0.250 s, 1 late or double completions were ignored
        ");
    }
}
