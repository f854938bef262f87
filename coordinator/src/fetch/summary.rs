//! How a fetch ended, for people.

use std::io;

use fanout_analysis::record;
use fanout_engine::ledger::Counts;

use crate::{
    exit::{CommandExit, Failure},
    results::{Destination, part_name},
    run,
    terminal::reporter::Reporter,
    url_list::UrlList,
};

pub(super) fn unwritten(
    destination: &Destination,
    error: &io::Error,
) -> Result<CommandExit, Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        // The reader of the results has seen enough.
        return Ok(CommandExit::Incomplete);
    }
    Err(cannot_write(destination, error))
}

/// Results that cannot be written any more, and what to do about it.
pub(crate) fn cannot_write(destination: &Destination, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": make room",
        io::ErrorKind::FileTooLarge => ": raise the limit (ulimit -f)",
        _ => "",
    };
    Failure::incomplete(match destination {
        Destination::Stdout => format!("cannot write to standard output: {error}{hint}"),
        Destination::File(path, _) => format!(
            "cannot write {}: {error}{hint}; what was written so far is whole, and the same command with \
             --resume goes on from there",
            part_name(path).display()
        ),
    })
}

pub(super) fn summarise(
    list: &UrlList,
    outcome: &run::Outcome,
    examples: &[(String, String)],
    reporter: &dyn Reporter,
) {
    let (counts, trial) = (&outcome.counts, &outcome.trial);
    let rate = trial.requests_per_s.map(|rate| format!(", {rate:.0}/s"));
    let rate = rate.unwrap_or_default();
    let took = trial.makespan_s.map(|s| format!(" in {s:.3} s{rate}"));
    let before = match counts.before {
        0 => String::new(),
        before => format!("{before} from before, "),
    };
    reporter.say(&format!(
        "{} URLs: {before}{} ok, {} failed, {} abandoned, {} not done{}; {} bytes",
        list.len(),
        counts.completed,
        counts.failed,
        counts.abandoned,
        list.len() - counts.done(),
        took.unwrap_or_default(),
        trial.bytes,
    ));
    let statuses = trial.statuses.iter();
    let statuses: Vec<_> = statuses.map(|(s, count)| format!("{s}: {count}")).collect();
    if !statuses.is_empty() {
        reporter.say(&format!("statuses  {}", statuses.join(", ")));
    }
    for (kind, count) in trial.outcomes.iter().filter(|(kind, _)| *kind != "ok") {
        let example = examples.iter().find(|(of, _)| of == kind);
        let example = example.map(|(_, text)| format!("  for example: {text}"));
        let example = example.unwrap_or_default();
        reporter.say(&format!("{kind:>14}  {count}{example}"));
    }
    if counts.asked_again > 0 {
        reporter.say(&format!(
            "{} answers of 429 or 503 were heeded, and their URLs asked for again",
            counts.asked_again
        ));
    }
    if let Some(wait_s) = trial.host_wait_s.filter(|s| *s >= 0.001) {
        reporter.say(&format!(
            "for {wait_s:.3} s more could have been fetched, but for the limits per host"
        ));
    }
    for line in losses(counts, trial) {
        reporter.say(&line);
    }
}

/// What was lost on the way and made good, for people.
fn losses(counts: &Counts, trial: &record::TrialRecord) -> Vec<String> {
    let mut lines = Vec::new();
    if trial.fetchers_lost > 0 {
        let noticed = trial.notice_s.map_or(String::new(), |s| {
            format!(", noticed within {s:.3} s of their last sign of life")
        });
        lines.push(format!("fetchers lost: {}{noticed}", trial.fetchers_lost));
    }
    if counts.requeued > 0 || counts.duplicates_ignored > 0 {
        let recovered = trial
            .recovery_s
            .map_or(String::new(), |s| format!(" and were made good within {s:.3} s"));
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
        let told = |counts: Counts, trial: record::TrialRecord| losses(&counts, &trial).join("\n");
        assert_eq!(told(Counts::default(), record::TrialRecord::default()), "");
        let counts = Counts { requeued: 8, duplicates_ignored: 1, ..Counts::default() };
        let trial = record::TrialRecord {
            fetchers_lost: 2,
            notice_s: Some(0.0512),
            recovery_s: Some(0.25),
            ..record::TrialRecord::default()
        };
        insta::assert_snapshot!(told(counts, trial), @"
        fetchers lost: 2, noticed within 0.051 s of their last sign of life
        8 leases were lost and were made good within 0.250 s, 1 late or double completions were ignored
        ");
    }
}
