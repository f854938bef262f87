//! `coordinator fetch`: every URL once, a record for each.

use std::{io, time::Duration};

use fanout_proto::id::TrialId;

use crate::{
    drive::{self, DriveError, TrialRequest},
    exit::{Exit, Failure},
    ground::{Ground, Signals},
    progress::{Bar, WithBar},
    results::{Destination, Results, part_name},
    settings::FetchSettings,
    trial::{AbortReason, End},
    url_list::UrlList,
};

/// Fetches a list.
///
/// # Errors
///
/// [`Failure`] with the exit code it leads to.
pub async fn run(settings: FetchSettings) -> Result<Exit, Failure> {
    let common = &settings.common;
    let list = UrlList::open(&common.source, common.repeat, common.skip_invalid)
        .map_err(Failure::usage)?;
    let mut results = Results::open(&settings.destination, &list, settings.verbose)
        .map_err(|error| Failure::usage(cannot_write(&settings.destination, &error)))?;
    announce(&list);
    let signals = Signals::listen(true).map_err(Failure::incomplete)?;
    let slots = common.local_slots(&[settings.arm]);
    let mut ground = Ground::start(common, slots, None).await?;
    let placement = drive::place(
        &ground.fleet,
        settings.arm.processes.get(),
        settings.arm.workers,
    );
    let placement = match placement {
        Ok(placement) => placement,
        Err(error) => {
            ground.end().await;
            return Err(Failure::usage(error));
        }
    };
    let mut bar = if settings.verbose {
        Bar::hidden()
    } else {
        Bar::new(list.len(), settings.arm.to_string())
    };
    let request = TrialRequest {
        id: TrialId(1),
        list: &list,
        setup: &common.setup(&settings.arm, settings.verbose),
        pace: &|_| None,
        placement,
        cpus: &common.placed.fetchers,
        split: common.split,
        memory_interval: Some(drive::MEMORY_INTERVAL),
        limit: None,
    };
    let mut sink = WithBar {
        sink: &mut results,
        bar: &mut bar,
    };
    let outcome = drive::run(&mut ground.fleet, request, &signals.stop, &mut sink).await;
    bar.clear();
    ground.end().await;
    finish(&settings, &list, results, outcome)
}

fn finish(
    settings: &FetchSettings,
    list: &UrlList,
    results: Results<'_>,
    outcome: Result<drive::Outcome, DriveError>,
) -> Result<Exit, Failure> {
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
        summarise(list, &outcome, &examples);
    }
    if let (false, Destination::File(path, _)) = (complete, &settings.destination) {
        eprintln!("the records so far are in {}", part_name(path).display());
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
pub fn announce(list: &UrlList) {
    const SHOWN: usize = 10;
    let (hosts, others) = list.beyond_loopback();
    if list.skipped_lines() > 0 {
        eprintln!("left out {} lines that are no URLs", list.skipped_lines());
    }
    if hosts.is_empty() {
        return;
    }
    eprintln!("requests per host:");
    for host in hosts.iter().take(SHOWN) {
        eprintln!("  {:>9}  {}", host.urls, host.host);
    }
    let rest: u64 = hosts.iter().skip(SHOWN).map(|h| h.urls).sum::<u64>() + others;
    if rest > 0 {
        eprintln!("  {rest:>9}  on other hosts");
    }
}

/// The account, for people.
fn summarise(list: &UrlList, outcome: &drive::Outcome, examples: &[(String, String)]) {
    let (counts, trial) = (&outcome.counts, &outcome.trial);
    let elapsed = trial.makespan_s.map(Duration::from_secs_f64);
    let rate = trial
        .requests_per_s
        .map_or(String::new(), |rate| format!(", {rate:.0}/s"));
    let took = elapsed.map_or(String::new(), |e| {
        format!(" in {:.2} s{rate}", e.as_secs_f64())
    });
    let left = list.len() - counts.done();
    eprintln!(
        "{} URLs: {} ok, {} failed, {} abandoned, {left} not done{took}; {} bytes",
        list.len(),
        counts.completed,
        counts.failed,
        counts.abandoned,
        trial.bytes,
    );
    let statuses: Vec<_> = trial
        .statuses
        .iter()
        .map(|(status, count)| format!("{status}: {count}"))
        .collect();
    if !statuses.is_empty() {
        eprintln!("statuses  {}", statuses.join(", "));
    }
    for (kind, count) in trial.outcomes.iter().filter(|(kind, _)| *kind != "ok") {
        let example = examples
            .iter()
            .find(|(of, _)| of == kind)
            .map_or(String::new(), |(_, text)| format!("  for example: {text}"));
        eprintln!("{kind:>14}  {count}{example}");
    }
    if counts.requeued > 0 || counts.duplicates_ignored > 0 {
        eprintln!(
            "{} leases were lost and went out again, {} late or double completions were ignored",
            counts.requeued, counts.duplicates_ignored
        );
    }
}
