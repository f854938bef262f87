//! `coordinator fetch`: every URL once, a record for each.

use std::{io, time::Duration};

use fanout_analysis::record;

use crate::{
    drive::{self, DriveError, Stop, TrialRequest},
    exit::{Exit, Failure},
    ground::{Ground, LocalGround, Signals},
    ledger::Counts,
    progress::{Bar, WithBar},
    results::{Destination, Results, part_name},
    settings::FetchSettings,
    trial::{AbortReason, End},
    url_list::UrlList,
    voice::{Terminal, Voice},
};

/// Fetches a list from this machine.
///
/// # Errors
///
/// [`Failure`] with the exit code it leads to.
pub async fn run(settings: FetchSettings) -> Result<Exit, Failure> {
    let voice = Terminal::default();
    let list = open(&settings)?;
    let fetch = Fetch::new(&settings, &list, &voice)?;
    let signals = Signals::listen(true).map_err(Failure::incomplete)?;
    let slots = settings.common.local_slots(&[settings.arm]);
    let mut local = LocalGround::start(&settings.common, slots, None).await?;
    let result = fetch.run(local.ground(), &signals.stop).await;
    local.end().await;
    result
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
    voice: &'a dyn Voice,
}

impl<'a> Fetch<'a> {
    /// Opens the results file, and says where the requests go.
    ///
    /// # Errors
    ///
    /// [`Failure`] with exit code 2.
    pub fn new(
        settings: &'a FetchSettings,
        list: &'a UrlList,
        voice: &'a dyn Voice,
    ) -> Result<Self, Failure> {
        let told = settings.verbose.then_some(voice);
        let results = Results::open(&settings.destination, list, told)
            .map_err(|error| Failure::usage(cannot_write(&settings.destination, &error)))?;
        announce(list, voice);
        if !list.beyond_loopback().0.is_empty() && !settings.common.hosts.any() {
            voice.say("no limit per host: --polite, --max-per-host and --rate-per-host spare them");
        }
        Ok(Self {
            settings,
            list,
            results,
            voice,
        })
    }

    /// Fetches.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the exit code it leads to.
    pub async fn run(mut self, ground: Ground<'_>, stop: &Stop) -> Result<Exit, Failure> {
        let (settings, list, voice) = (self.settings, self.list, self.voice);
        let (common, arm) = (&settings.common, &settings.arm);
        let placement = drive::place(ground.fleet, arm.processes.get(), arm.workers, |_| true)
            .map_err(Failure::usage)?;
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
            memory_interval: Some(drive::MEMORY_INTERVAL),
            limit: None,
            hosts: common.hosts,
        };
        let mut sink = WithBar {
            sink: &mut self.results,
            bar: &mut bar,
        };
        let outcome = drive::run(ground.fleet, request, stop, &mut sink).await;
        bar.clear();
        self.finish(outcome)
    }

    fn finish(self, outcome: Result<drive::Outcome, DriveError>) -> Result<Exit, Failure> {
        let Self {
            settings,
            list,
            results,
            voice,
        } = self;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(DriveError::Sink(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                // Whoever read the results has seen enough.
                return Ok(Exit::Incomplete);
            }
            Err(error) => {
                // What was written stays as the part; the first error counts.
                let _ = results.finish(false);
                return Err(Failure::incomplete(error));
            }
        };
        let complete = outcome.end == End::Done;
        let examples = results.examples();
        results
            .finish(complete)
            .map_err(|error| Failure::incomplete(cannot_write(&settings.destination, &error)))?;
        if !matches!(outcome.end, End::Aborted(AbortReason::Setup(_))) {
            summarise(list, &outcome, &examples, voice);
        }
        if let (false, Destination::File(path, _)) = (complete, &settings.destination) {
            voice.kept(&part_name(path));
        }
        Ok(match outcome.end {
            End::Done if outcome.counts.abandoned > 0 => Exit::Incomplete,
            End::Done => Exit::Done,
            End::Aborted(AbortReason::Cancelled) => Exit::Interrupted,
            End::Aborted(reason @ AbortReason::Setup(_)) => return Err(Failure::usage(reason)),
            End::Aborted(reason @ (AbortReason::AllLost(_) | AbortReason::NotReady { .. })) => {
                return Err(Failure::no_fleet(reason));
            }
        })
    }
}

fn cannot_write(destination: &Destination, error: &io::Error) -> String {
    match destination {
        Destination::Stdout => format!("cannot write to standard output: {error}"),
        Destination::File(path, _) => format!(
            "cannot write {}: {error}; name another file with --out",
            part_name(path).display()
        ),
    }
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
    outcome: &drive::Outcome,
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
    voice.say(&format!(
        "{} URLs: {} ok, {} failed, {} abandoned, {left} not done{took}; {} bytes",
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
