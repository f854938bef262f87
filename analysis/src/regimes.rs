//! What changes between a server that takes its time and one that answers at once.

use crate::{
    contest::Contest,
    format,
    record::{Metric, Regime, Study, TrialRecord},
    statistics::{ArmSummary, summaries},
    text::few,
};

/// An arm's place changes from this factor on.
const NOTABLE: f64 = 1.25;
/// Changes that are told, at most.
const TOLD: usize = 2;

/// The part of a study at a second server, if there is one.
pub(crate) fn second(study: &Study) -> Option<&Regime> {
    let regime = study.regimes.first().filter(|_| !study.is_map())?;
    // One that was stopped while it warmed up has nothing to tell.
    regime.study.trials.iter().any(|trial| !trial.discarded).then_some(regime)
}

/// Where a part of a study ran, in words: `where the server answers at once`.
pub(crate) fn place(part: &Study) -> String {
    match part.manifest.delay_s {
        Some(0.0) => "where the server answers at once".to_owned(),
        Some(delay_s) => format!("where the server takes {}", format::duration(delay_s)),
        None => "at the servers of the list".to_owned(),
    }
}

/// The same as a condition: `without delays`.
fn under(part: &Study) -> String {
    match part.manifest.delay_s {
        Some(0.0) => "without delays".to_owned(),
        Some(delay_s) => format!("with delays of {}", format::duration(delay_s)),
        None => place(part),
    }
}

/// One arm at both servers: what it needs over what the least needs.
struct Shift<'a> {
    arm: &'a str,
    here: f64,
    there: f64,
}

impl Shift<'_> {
    /// By how much its place changes.
    fn factor(&self) -> f64 {
        (self.here / self.there).max(self.there / self.here)
    }
}

/// Both servers' answers to one question.
struct Both<'a> {
    here: Contest<'a>,
    there: Contest<'a>,
}

impl<'a> Both<'a> {
    fn of(study: &'a Study, other: &'a Study, metric: &str) -> Option<Self> {
        let metric = Metric::named(metric)?;
        Some(Self { here: Contest::on(study, metric)?, there: Contest::on(other, metric)? })
    }

    /// The arms whose place is known to change, the one that changes most first: where an arm needs
    /// more over the least it is known not to lead.
    fn shifts(&self) -> Vec<Shift<'a>> {
        let here = self.here.over_least();
        let mut shifts: Vec<Shift<'_>> = here
            .filter_map(|(arm, here)| {
                let arm = arm.name.as_str();
                let (_, there) = self.there.over_least().find(|(other, _)| other.name == arm)?;
                let worse = if here > there { &self.here } else { &self.there };
                worse.trails(arm).then_some(Shift { arm, here, there })
            })
            .filter(|shift| shift.factor() >= NOTABLE)
            .collect();
        shifts.sort_by(|a, b| b.factor().total_cmp(&a.factor()));
        shifts
    }
}

/// Who leads: `async:32`, or `async:32 and threads:32 (too close to tell apart)`.
fn best(contest: &Contest<'_>) -> String {
    let arms = contest.ranked.iter().take(contest.tied);
    let names: Vec<&str> = arms.map(|(arm, _)| arm.name.as_str()).collect();
    let unsure = if contest.equivalent { "level" } else { "too close to tell apart" };
    match &*names {
        [one] if contest.tested => (*one).to_owned(),
        [one] => format!("{one} (not tested)"),
        several => format!("{} ({unsure})", few(several)),
    }
}

/// What changes between the study's two servers, in sentences made from the figures of both; empty
/// where there is one server only.
pub(crate) fn changes(study: &Study) -> Vec<String> {
    let Some(other) = second(study).map(|regime| &regime.study) else { return Vec::new() };
    let (here, there) = (under(study), under(other));
    let time = Both::of(study, other, "total_s");
    let cpu = Both::of(study, other, "cpu_run_s");
    let mut sentences = Vec::new();
    for (both, word) in [(&time, "Fastest"), (&cpu, "Cheapest in CPU per URL")] {
        let Some(both) = both else { continue };
        let (a, b) = (best(&both.here), best(&both.there));
        sentences.push(if a == b {
            format!("{word} at both servers: {a}.")
        } else {
            format!("{word} {here}: {a}; {there}: {b}.")
        });
    }
    if let Some(time) = &time {
        let shifts = time.shifts().into_iter().take(TOLD).zip(0..);
        let shifts = shifts.map(|(Shift { arm, here: a, there: b }, at)| {
            let (a, b) = (format::ratio(a), format::ratio(b));
            match at {
                0 => format!("{arm} takes {a} the time of the fastest arm {here}, and {b} {there}"),
                _ => format!("{arm} {a} and {b}"),
            }
        });
        let shifts: Vec<String> = shifts.collect();
        sentences.extend((!shifts.is_empty()).then(|| format!("{}.", shifts.join("; "))));
    }
    sentences.extend(busy(study, other));
    sentences
}

/// How busy the baseline's fetchers are at both servers.
fn busy(study: &Study, other: &Study) -> Option<String> {
    let share = |part: &Study| {
        let all = summaries(part);
        let baseline = all.into_iter().find(|row: &ArmSummary<'_>| row.baseline)?;
        baseline.median(|trial: &TrialRecord| {
            let after_go = (Metric::named("cpu_run_s")?.of)(trial)?;
            Some(after_go / trial.makespan_s.filter(|s| *s > 0.0)?)
        })
    };
    let (here, there) = (share(study)?, share(other)?);
    Some(format!(
        "{} keeps {} of one CPU busy {}, and {} {}.",
        study.manifest.baseline,
        format::percent(here),
        under(study),
        format::percent(there),
        under(other)
    ))
}

/// The arms at the second server beside the first: a row an arm, heads first, the fastest there
/// first; empty where there is one server only.
pub(crate) fn table(study: &Study) -> Vec<Vec<String>> {
    let Some(other) = second(study).map(|regime| &regime.study) else { return Vec::new() };
    let rows = summaries(other);
    let first = summaries(study);
    let relative = |rows: &[ArmSummary<'_>], arm: &str, name: &str| {
        let metric = Metric::named(name)?;
        let competing = rows.iter().filter(|row| row.competes());
        let least = competing.filter_map(|row| row.value(metric)).reduce(f64::min)?;
        let row = rows.iter().find(|row| row.arm.name == arm)?;
        Some(format::ratio(row.value(metric)? / least))
    };
    let unknown = || format::UNKNOWN.to_owned();
    let delay = study.manifest.delay_s.map_or_else(|| "before".to_owned(), format::duration);
    let mut table = vec![vec![
        "arm".to_owned(),
        "time".to_owned(),
        "× fastest".to_owned(),
        format!("at {delay}"),
        "CPU/1,000".to_owned(),
        "× least".to_owned(),
        format!("at {delay}"),
    ]];
    for row in rows.iter().filter(|row| !row.arm.control) {
        let name = &*row.arm.name;
        let times =
            |rows: &[ArmSummary<'_>], metric| relative(rows, name, metric).unwrap_or_else(unknown);
        table.push(vec![
            name.to_owned(),
            row.say("total_s"),
            times(&rows, "total_s"),
            times(&first, "total_s"),
            row.say("cpu_run_s"),
            times(&rows, "cpu_run_s"),
            times(&first, "cpu_run_s"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{self, with_truth};

    #[test]
    fn a_server_that_was_only_warmed_up_is_not_told_of() {
        let mut study = fixture::two_servers();
        assert!(second(&study).is_some());
        study.regimes[0].study.trials.retain(|trial| trial.block == 1);
        for trial in &mut study.regimes[0].study.trials {
            trial.discarded = true;
        }
        assert!(second(&study).is_none());
        assert!(changes(&study).is_empty());
    }

    const ARMS: [&str; 4] = ["async:32", "threads:32", "2xasync:16", "32xsequential"];

    fn at_both(here: [(f64, f64); 4], there: [(f64, f64); 4], seed: u64) -> Study {
        let truth = |times: [(f64, f64); 4]| {
            std::array::from_fn::<_, 4, _>(|at| (ARMS[at], times[at].0, times[at].1))
        };
        let mut study = with_truth(&truth(here), 0.01, seed);
        study.manifest.delay_s = Some(0.008);
        let mut other = with_truth(&truth(there), 0.01, seed ^ 1);
        other.manifest.delay_s = Some(0.0);
        study.regimes = vec![Regime { study: other, ..Regime::default() }];
        study
    }

    #[test]
    fn what_changes_is_told_of_both_servers() {
        let study = at_both(
            [(0.27, 0.05), (0.27, 0.07), (0.27, 0.05), (0.27, 0.1)],
            [(0.2, 0.2), (0.5, 0.4), (0.11, 0.2), (0.4, 0.5)],
            3,
        );
        insta::assert_snapshot!(changes(&study).join("\n"), @r#"
        Fastest with delays of 8.00 ms: async:32 and 3 others (level); without delays: 2xasync:16.
        Cheapest in CPU per URL with delays of 8.00 ms: async:32; without delays: 2xasync:16 and async:32 (level).
        threads:32 takes 1.01× the time of the fastest arm with delays of 8.00 ms, and 4.53× without delays; 32xsequential 1.01× and 3.63×.
        async:32 keeps 18 % of one CPU busy with delays of 8.00 ms, and 100 % without delays.
        "#);
    }

    #[test]
    fn one_server_changes_nothing() {
        assert_eq!(changes(&fixture::study()), Vec::<String>::new());
        assert_eq!(changes(&fixture::map()), Vec::<String>::new());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        /// Whatever the truth is, an arm that is said to change its place does so in truth, by about
        /// what the sentence says.
        #[test]
        fn every_change_is_true(
            here in prop::array::uniform4((0.1..1.0f64, 0.1..1.0f64)),
            there in prop::array::uniform4((0.1..1.0f64, 0.1..1.0f64)),
            seed in any::<u64>(),
        ) {
            let study = at_both(here, there, seed);
            let both = Both::of(&study, &study.regimes[0].study, "total_s").unwrap();
            let least = |times: [(f64, f64); 4]| times.iter().map(|t| t.0).fold(f64::MAX, f64::min);
            for Shift { arm, here: a, there: b } in both.shifts() {
                let at = ARMS.iter().position(|name| *name == arm).unwrap();
                let truth = (here[at].0 / least(here), there[at].0 / least(there));
                prop_assert!((a / truth.0 - 1.0).abs() < 0.05, "{arm} {a} {truth:?}");
                prop_assert!((b / truth.1 - 1.0).abs() < 0.05, "{arm} {b} {truth:?}");
                prop_assert_eq!(a > b, truth.0 > truth.1);
            }
            let text = changes(&study).join(" ");
            prop_assert!(!text.contains("NaN") && !text.contains("inf"), "{}", text);
        }
    }
}
