//! The answer, in a few sentences.

use crate::{
    format,
    map::Map,
    record::{ArmRecord, Direction, Outcome, Study, TrialRecord},
    regimes::{place, second},
    statistics::{Leaders, Spread, leaders, median},
    text::{
        answers::{Answers, ArmAnswers, Finding, amount, figure, margin_text, named, takes},
        counted, ends_in_brackets,
        failures::{every_url_failed, failures},
        open_loop::{OpenLoop, open_loop},
        words::{LISTED_MAX, capital, few, in_brackets, listed},
    },
};

/// Who takes this many times as long as the first is no choice, whatever it costs.
const NO_CHOICE: f64 = 3.0;
/// Below this share of the time the server's delays are no floor worth a word.
const FLOOR_MIN: f64 = 0.05;
/// What arms are asked besides time, in the order in which it is told.
const PRICES: [Outcome; 3] = [Outcome::Memory, Outcome::Cpu, Outcome::Switches];

/// What the study found, in sentences made from its figures: who takes how long, what it costs in
/// memory, CPU and switches, what of the time is the server's, and who failed. A warning stands
/// before them where the machine was too noisy. Where there is a second server, each names the
/// server that it is about.
pub(crate) fn verdict(study: &Study) -> Vec<String> {
    if let Some(map) = Map::of(study) {
        return map.lessons();
    }
    let mut sentences: Vec<String> = noise(study).into_iter().collect();
    let answers = Answers::of(study);
    let told = Headline::of(study, &answers);
    sentences.extend(memory_slope(study));
    let time = match answers.arms.as_slice() {
        [] => nothing(study),
        [alone] => Some(only(alone)),
        _ if study.manifest.rate_per_s.is_some() => told.at_a_fixed_rate(),
        _ if told.tested() => Some(told.time()),
        _ => Some(told.order()),
    };
    sentences.extend(time.map(|time| at(study, study, &time)));
    sentences.extend(told.costs().0);
    let failures = study.parts().filter_map(|part| Some(at(study, part, &failures(part)?)));
    sentences.extend(failures);
    sentences
}

/// What the answer leaves out where it has to be short.
pub(crate) fn left_out(study: &Study) -> Vec<String> {
    Headline::of(study, &Answers::of(study)).costs().1
}

/// Why small differences cannot be told on this machine, if so.
pub(crate) fn noise(study: &Study) -> Option<String> {
    let of = |part: &Study| part.analysis.control.as_ref()?.too_noisy.clone();
    let Some(other) = second(study).map(|regime| &regime.study) else { return of(study) };
    let said = |part, noise: String| at(study, part, &noise.replacen("This", "this", 1));
    match (of(study), of(other)) {
        (Some(noise), None) => Some(said(study, noise)),
        (None, noise) => Some(said(other, noise?)),
        (Some(noise), Some(_)) => {
            Some(format!("{} It was too noisy {}, too.", said(study, noise), place(other)))
        }
    }
}

/// What is said of a part of a study, with its server where there are two.
fn at(study: &Study, part: &Study, said: &str) -> String {
    let server = second(study).map(|_| format!("{}, ", place(part)));
    capital(&(server.unwrap_or_default() + said))
}

/// Why there is nothing to say.
fn nothing(study: &Study) -> Option<String> {
    if every_url_failed(study) {
        return None;
    }
    let fetching = |trial: &&TrialRecord| {
        let arm = study.arms.iter().find(|arm| arm.name == trial.arm);
        arm.is_some_and(ArmRecord::fetches)
    };
    let mut trials = study.trials.iter().filter(fetching);
    Some(match trials.find_map(|trial| trial.invalid_reasons.first()) {
        Some(reason) => {
            format!("no trial can be compared; the first was left out because {reason}.")
        }
        None => "nothing was fetched, so there is nothing to compare.".to_owned(),
    })
}

/// One arm has nobody to be compared with.
fn only(arm: &ArmAnswers<'_>) -> String {
    let trials = counted(arm.summary.trials.len() as u64, "trial");
    let of = |outcome| figure(&arm.summary, outcome);
    format!(
        "{} takes {} (median of {trials}), {} of memory, and per 1,000 URLs {} of CPU and {} switches.",
        arm.explained(),
        arm.took(),
        of(Outcome::Memory),
        of(Outcome::Cpu),
        of(Outcome::Switches)
    )
}

/// What one more URL in flight costs, where the study was run to ask that.
fn memory_slope(study: &Study) -> Option<String> {
    study.manifest.command.iter().any(|word| word == "--memory-slope").then_some(())?;
    let slopes = study.memory_slopes.iter();
    let slopes = slopes.filter(|slope| slope.metric == Outcome::Memory.metric()).map(|slope| {
        let bytes = &slope.bytes_per_request;
        let ends = ends_in_brackets(bytes, format::bytes);
        format!("{}{ends} under {}", format::bytes(bytes.value), slope.family)
    });
    let slopes: Vec<String> = slopes.collect();
    (!slopes.is_empty())
        .then(|| format!("One more URL in flight costs memory: {}.", listed(&slopes)))
}

/// Sentences about arms that compete.
struct Headline<'a> {
    study: &'a Study,
    answers: &'a Answers<'a>,
    margin: f64,
    /// Whether there is a second server to tell of.
    two: bool,
    /// Whether a warning stands before the answer.
    noisy: bool,
}

/// The arms other than the baseline, by what their time is against it.
#[derive(Default)]
struct Standing<'a> {
    faster: Vec<&'a ArmAnswers<'a>>,
    level: Vec<&'a ArmAnswers<'a>>,
    slower: Vec<&'a ArmAnswers<'a>>,
    open: Vec<&'a ArmAnswers<'a>>,
    untested: Vec<&'a ArmAnswers<'a>>,
}

impl<'a> Headline<'a> {
    fn of(study: &'a Study, answers: &'a Answers<'a>) -> Self {
        let (two, noisy) = (second(study).is_some(), noise(study).is_some());
        Self { study, answers, margin: study.analysis.margin, two, noisy }
    }

    /// Whether the table must do for what would be too long.
    fn is_brief(&self) -> bool {
        self.two || self.noisy
    }

    /// What the arms cost and what is the server's: what belongs to the answer, and what it has no
    /// room for.
    fn costs(&self) -> (Vec<String>, Vec<String>) {
        let room = 2 - usize::from(self.two) - usize::from(self.noisy);
        let both = [self.price(), self.floor()];
        let (told, left_out) = both.split_at(room);
        let there = if self.two { "there, " } else { "" };
        let told = told.iter().flatten().map(|cost| capital(&format!("{there}{cost}")));
        let left_out = left_out.iter().flatten().map(|cost| at(self.study, self.study, cost));
        (told.collect(), left_out.collect())
    }

    /// Whether the time of any arm was tested.
    fn tested(&self) -> bool {
        let time = |arm: &ArmAnswers<'_>| arm.on(Outcome::Time).and_then(|found| found.judged);
        self.answers.baseline().is_some() && self.answers.others().any(|arm| time(arm).is_some())
    }

    fn standing(&self) -> Standing<'a> {
        let mut standing = Standing::default();
        for arm in self.answers.others() {
            let found = arm.on(Outcome::Time);
            let group = match found.and_then(|found| found.judged) {
                None => &mut standing.untested,
                Some(_) if found.is_some_and(|found| found.is_negligible()) => &mut standing.level,
                Some((Direction::Less, _)) => &mut standing.faster,
                Some((Direction::More, _)) => &mut standing.slower,
                Some((Direction::CannotTell, _)) => &mut standing.open,
            };
            group.push(arm);
        }
        let ratio =
            |arm: &&ArmAnswers<'_>| arm.on(Outcome::Time).map_or(f64::NAN, |found| found.ratio);
        for group in [&mut standing.faster, &mut standing.slower, &mut standing.untested] {
            group.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        }
        standing
    }

    /// Who takes how long, as far as it is proven.
    fn time(&self) -> String {
        let Some(baseline) = self.answers.baseline() else {
            return self.order();
        };
        let standing = self.standing();
        let leaders = leaders(self.study);
        let first: Vec<&str> = leaders
            .iter()
            .flat_map(|l| &l.ranked[..l.tied])
            .map(|arm| arm.arm.name.as_str())
            .collect();
        let (name, time) = (baseline.name(), baseline.took());
        let mut clauses = Vec::new();
        if let Some(quickest) = standing.faster.first() {
            let alone = first.iter().copied().eq([quickest.name()]);
            let of_the_faster =
                |first: &&str| standing.faster.iter().any(|arm| arm.name() == *first);
            let lead = if alone {
                format!("{} is the fastest, with {}: it", quickest.name(), quickest.took())
            } else if first.len() > 1 && first.iter().all(of_the_faster) {
                let first = few(&first);
                format!("{first} are the fastest and cannot be told apart: {}", quickest.name())
            } else {
                quickest.name().to_owned()
            };
            clauses.push(format!("{lead} {} than {name} ({time})", ratio_of(quickest)));
            clauses.extend(enumerated(&standing.faster[1..], name, None));
            if !standing.level.is_empty() {
                clauses.push(self.level(&standing, baseline));
            }
        } else if !standing.level.is_empty() {
            let differ =
                |arm: &&ArmAnswers<'_>| PRICES.iter().any(|o| self.relevant(arm, *o).is_some());
            let priced = standing.level.iter().any(differ);
            let prefix = if priced { "same time, different price: " } else { "" };
            clauses.push(format!("{prefix}{}", self.level(&standing, baseline)));
        } else if first == [name] && standing.open.is_empty() {
            clauses.push(format!("{name} is the fastest, with {time}"));
        } else {
            clauses.push(format!("no arm is proven faster than {name} ({time})"));
        }
        let slowest = leaders.as_ref().filter(|_| !self.noisy).and_then(Leaders::slowest);
        let slowest = slowest.map(|arm| &*arm.arm.name);
        clauses.extend(behind(&standing, name, slowest));
        clauses.extend(open(&standing.open, name));
        format!("{}.", clauses.join("; "))
    }

    /// Who takes as long as the baseline.
    fn level(&self, standing: &Standing<'_>, baseline: &ArmAnswers<'_>) -> String {
        let slots = baseline.arm().slots();
        let alike = |arm: &&ArmAnswers<'_>| arm.arm().slots() == slots;
        let all_alike = self.answers.others().filter(|arm| alike(arm)).count();
        let level = &standing.level;
        let margin = margin_text(self.margin);
        // Beside a faster arm the baseline's time is told already.
        let took = if standing.faster.is_empty() {
            format!(", {}", baseline.took())
        } else {
            String::new()
        };
        let like = format!("as long as {}{took}", baseline.name());
        if level.len() == self.answers.arms.len() - 1 && level.len() > 1 {
            format!("every arm takes {like} (all within {margin})")
        } else if level.len() == all_alike && level.iter().all(alike) && level.len() > 1 {
            let flight = counted(slots, "URL");
            format!("every way of keeping {flight} in flight takes {like} (all within {margin})")
        } else {
            let verb = if level.len() == 1 { "takes" } else { "take" };
            format!("{} {verb} {like} (within {margin})", few(&names_of(level)))
        }
    }

    /// At a fixed rate an arm that keeps up takes as long as the rate lets it: what differs is how
    /// soon after its intended start a URL ends.
    fn at_a_fixed_rate(&self) -> Option<String> {
        let rate = format::rate(self.study.manifest.rate_per_s?);
        let arms = open_loop(self.study);
        let of = |arm: &OpenLoop<'_>| arm.corrected_p99_s;
        let mut known: Vec<(f64, &str)> = arms
            .iter()
            .filter(|arm| self.answers.arms.iter().any(|one| one.name() == arm.arm))
            .filter_map(|arm| Some((of(arm)?, arm.arm)))
            .collect();
        known.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ((least, quick), (most, slow)) = (known.first()?, known.last()?);
        let (least, most) = (format::duration(*least), format::duration(*most));
        Some(format!(
            "at {rate} URLs/s in all, 99 in 100 URLs ended within {least} of their intended start under {quick}, \
             and within {most} under {slow}."
        ))
    }

    /// The order of the medians, where there were too few blocks for a test.
    fn order(&self) -> String {
        let arms = &self.answers.arms;
        let blocks = arms.iter().map(|arm| arm.summary.trials.len()).max().unwrap_or(0);
        let these = match blocks {
            1 => "this block".to_owned(),
            _ => format!("these {}", counted(blocks as u64, "block")),
        };
        let mut each: Vec<String> =
            arms.iter().map(|arm| format!("{} ({})", arm.name(), arm.took())).collect();
        if let (Some(last), [first, .., slowest]) = (each.last_mut(), arms.as_slice())
            && let (Some(first), Some(slow)) = (first.summary.time_s, slowest.summary.time_s)
            && slow.median >= 2.0 * first.median
        {
            let times = format::times(slow.median / first.median);
            *last =
                format!("{} ({}, {times} as long as the first)", slowest.name(), slowest.took());
        }
        let (first, rest) = (each.remove(0), each);
        let order = match &*rest {
            [.., last] if rest.len() > LISTED_MAX => format!(" and {last} the most"),
            rest => format!(", then {}", listed(rest)),
        };
        format!("in {these} {first} took the least time{order}; nothing is proven.")
    }

    /// Arms that somebody might choose for their time.
    fn choices(&self) -> Vec<&'a ArmAnswers<'a>> {
        let time = |arm: &ArmAnswers<'_>| arm.summary.time_s.map_or(f64::INFINITY, |s| s.median);
        let least = self.answers.arms.iter().map(time).fold(f64::INFINITY, f64::min);
        let (choices, others): (Vec<_>, Vec<_>) =
            self.answers.others().partition(|arm| time(arm) <= NO_CHOICE * least);
        if choices.is_empty() { others } else { choices }
    }

    /// An arm's figure over the baseline's, where the difference matters.
    fn relevant(&self, arm: &ArmAnswers<'_>, outcome: Outcome) -> Option<f64> {
        arm.on(outcome).filter(|found| found.is_relevant(self.margin)).map(|found| found.ratio)
    }

    /// What the arms cost against the baseline: for each outcome the one that differs most.
    fn price(&self) -> Option<String> {
        let baseline = self.answers.baseline()?;
        let choices = self.choices();
        let relevant = |arm: &ArmAnswers<'_>, outcome| self.relevant(arm, outcome);
        let mut told: Vec<(&ArmAnswers<'_>, Vec<Outcome>)> = Vec::new();
        for outcome in PRICES {
            let found =
                choices.iter().filter_map(|arm| Some((relevant(arm, outcome)?.ln().abs(), *arm)));
            let Some((_, most)) = found.max_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
            match told.iter_mut().find(|(arm, _)| arm.name() == most.name()) {
                Some((_, outcomes)) => outcomes.push(outcome),
                None => told.push((most, vec![outcome])),
            }
        }
        // Threads are what most people would take instead of a loop.
        let threads = choices.iter().find(|arm| {
            arm.arm().model == "threads"
                && arm.arm().processes == 1
                && arm.arm().has_default_client()
        });
        if let Some(threads) = threads.filter(|_| !self.is_brief()) {
            told.retain(|(arm, _)| arm.name() != threads.name());
            let outcomes =
                PRICES.into_iter().filter(|outcome| relevant(threads, *outcome).is_some());
            told.push((threads, outcomes.collect()));
        }
        let (lead, needs) = if self.tested() {
            ("against", "needs")
        } else {
            ("in these trials, against", "needed")
        };
        let clauses = told.iter().filter(|(_, outcomes)| !outcomes.is_empty());
        let mut clauses: Vec<String> = clauses
            .map(|(arm, outcomes)| {
                let amounts = outcomes.iter();
                let amounts =
                    amounts.filter_map(|outcome| Some(amount(relevant(arm, *outcome)?, *outcome)));
                format!("{} {needs} {}", self.called(arm), listed(&amounts.collect::<Vec<_>>()))
            })
            .collect();
        if self.tested() {
            clauses.extend(self.no_difference());
        }
        (!clauses.is_empty())
            .then(|| format!("{lead} {}, {}.", self.called(baseline), clauses.join("; ")))
    }

    /// An arm's name, explained where there is room.
    fn called(&self, arm: &ArmAnswers<'_>) -> String {
        if self.is_brief() { arm.name().to_owned() } else { arm.explained() }
    }

    /// Outcomes in which no arm is proven to differ by more than the margin.
    fn no_difference(&self) -> Vec<String> {
        let margin = margin_text(self.margin);
        let (mut same, mut open) = (Vec::new(), Vec::new());
        for outcome in PRICES {
            let found: Vec<_> = self.answers.others().map(|arm| arm.on(outcome)).collect();
            let known: Vec<_> = found.iter().copied().flatten().collect();
            if known.is_empty() || known.iter().any(|found| found.is_relevant(self.margin)) {
                continue;
            }
            let all = known.len() == found.len();
            let negligible = all && known.iter().all(Finding::is_negligible);
            if negligible { &mut same } else { &mut open }.push(named(outcome));
        }
        let same = (!same.is_empty()).then(|| {
            let verb = if same == ["switches"] || same.len() > 1 { "are" } else { "is" };
            format!("{} {verb} the same within {margin}", listed(&same))
        });
        let open = (!open.is_empty())
            .then(|| format!("no difference of more than {margin} is proven in {}", listed(&open)));
        same.into_iter().chain(open).collect()
    }

    /// What of the time is the server's alone, and what the arms take above it.
    fn floor(&self) -> Option<String> {
        if self.study.manifest.rate_per_s.is_some() {
            return None;
        }
        let baseline = self.answers.baseline()?;
        let slots = baseline.arm().slots();
        let delays_s = baseline.summary.median(|trial| trial.origin?.delays_served_s)?;
        let floor_s = median(baseline.summary.trials.iter().filter_map(|t| floor_s_of(t, slots)))?;
        if floor_s < FLOOR_MIN * baseline.summary.time_s?.median {
            return None;
        }
        let above = |arm: &ArmAnswers<'_>| {
            let trials = arm.summary.trials.iter();
            let above = trials.filter_map(|trial| {
                Some(
                    trial.start_s.unwrap_or_default() + trial.makespan_s?
                        - floor_s_of(trial, slots)?,
                )
            });
            median(above).filter(|seconds| *seconds >= 0.0)
        };
        let arms = self.answers.arms.iter().filter(|arm| arm.arm().slots() == slots);
        let mut above: Vec<(f64, &str)> =
            arms.filter_map(|arm| Some((above(arm)?, arm.name()))).collect();
        above.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ((least, quick), (most, slow)) = (above.first()?, above.last()?);
        let (least, most) = (format::duration(*least), format::duration(*most));
        let range = if quick == slow {
            format!("{quick} takes {least} more")
        } else {
            format!("start and fetching add {least} ({quick}) to {most} ({slow})")
        };
        Some(format!(
            "waiting for the server alone takes {} ({} of delays, {} in flight); {range}.",
            format::duration(floor_s),
            format::duration(delays_s),
            counted(slots, "URL"),
        ))
    }
}

/// What a trial takes at least: the delays that the server served, spread over its slots.
fn floor_s_of(trial: &TrialRecord, slots: u64) -> Option<f64> {
    let urls = trial.urls();
    let whole = trial.lost() == 0 && urls > 0;
    Some(trial.origin?.delays_served_s? / slots.min(urls) as f64).filter(|_| whole)
}

/// The arm's ratio with its verb.
fn ratio_of(arm: &ArmAnswers<'_>) -> String {
    arm.on(Outcome::Time).map_or_else(String::new, |found| takes(found.ratio))
}

fn names_of<'a>(arms: &[&ArmAnswers<'a>]) -> Vec<&'a str> {
    arms.iter().map(|arm| arm.name()).collect()
}

/// `b takes 7.0 % longer and c takes 2.0× as long`; of many how far they reach.
fn enumerated(arms: &[&ArmAnswers<'_>], baseline: &str, slowest: Option<&str>) -> Option<String> {
    if arms.len() > LISTED_MAX {
        return ranged(arms, baseline, slowest);
    }
    let told = arms.iter().map(|arm| format!("{} {}", arm.name(), ratio_of(arm)));
    (!arms.is_empty()).then(|| listed(&told.collect::<Vec<_>>()))
}

/// `4 others take 1.20–3.40× as long as async:32, sequential the longest`; the last where it is known.
fn ranged(arms: &[&ArmAnswers<'_>], baseline: &str, slowest: Option<&str>) -> Option<String> {
    let reach = reach(arms)?;
    let slowest = slowest.filter(|name| arms.iter().any(|arm| arm.name() == *name));
    let longest = slowest.map_or_else(String::new, |name| format!(", {name} the longest"));
    Some(format!("{} others take {reach}× as long as {baseline}{longest}", arms.len()))
}

/// From the lowest of the arms' ratios to the highest; `None` where one has none.
fn reach(arms: &[&ArmAnswers<'_>]) -> Option<String> {
    let ratios: Option<Vec<f64>> =
        arms.iter().map(|arm| Some(arm.on(Outcome::Time)?.ratio)).collect();
    let reach = Spread::of(ratios?)?;
    Some(format::ratio_interval(reach.min, reach.max))
}

/// Who takes longer, and arms that ran in too few blocks for a test.
fn behind(standing: &Standing<'_>, baseline: &str, slowest: Option<&str>) -> Vec<String> {
    let (slower, untested) = (&standing.slower, &standing.untested);
    let all = [&slower[..], untested].concat();
    let longer =
        |arm: &&ArmAnswers<'_>| arm.on(Outcome::Time).is_some_and(|found| found.ratio > 1.0);
    if all.len() > LISTED_MAX
        && untested.iter().all(longer)
        && let Some(range) = ranged(&all, baseline, slowest)
    {
        let untested = match names_of(untested).as_slice() {
            [] => None,
            [alone] if slowest == Some(alone) => Some("not tested".to_owned()),
            names => Some(format!("{} not tested", few(names))),
        };
        return vec![range + &in_brackets(untested)];
    }
    let told = untested.iter().map(|arm| match arm.on(Outcome::Time) {
        Some(found) => {
            let blocks = counted(found.blocks.into(), "block");
            format!("{} {} ({blocks}, not tested)", arm.name(), takes(found.ratio))
        }
        None => format!("{} took {}, not tested", arm.name(), arm.took()),
    });
    let untested = (!untested.is_empty()).then(|| listed(&told.collect::<Vec<_>>()));
    enumerated(slower, baseline, slowest).into_iter().chain(untested).collect()
}

/// Arms of which the trials tell neither that they differ from the baseline nor that they do not.
fn open(arms: &[&ArmAnswers<'_>], baseline: &str) -> Option<String> {
    let verb = if arms.len() == 1 { "differs" } else { "differ" };
    let names = if arms.len() > LISTED_MAX {
        format!("{} ({}×)", few(&names_of(arms)), reach(arms)?)
    } else {
        let each = arms.iter().map(|arm| {
            let found = arm.on(Outcome::Time).map(|found| found.figures());
            let (ratio, ends) = found.unwrap_or_default();
            format!("{} ({ratio}, {ends})", arm.name())
        });
        listed(&each.collect::<Vec<_>>())
    };
    (!arms.is_empty()).then(|| format!("whether {names} {verb} from {baseline} cannot be told"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Options, conclude,
        fixture::{self, StudyBuilder},
        record::Size,
    };

    fn said(study: &Study) -> String {
        verdict(study).join("\n")
    }

    #[test]
    fn a_winner_that_is_not_the_baseline() {
        insta::assert_snapshot!(said(&fixture::study()), @r#"
        2xasync:16 is the fastest, with 255 ms: it takes 8.0 % less time than async:32 (275 ms); async:32@reqwest takes as long as async:32 (within 5 %); 4 others take 1.07–30.2× as long as async:32, sequential the longest (not tested).
        Against async:32 (one event loop), 32xsequential (32 processes) needs 13× the memory and 5.8× the switches; threads:32@ureq (32 threads with ureq) needs 2.6× the CPU per URL; threads:32 (32 threads) needs 1.2× the memory, 1.5× the CPU per URL and 5.4× the switches.
        Waiting for the server alone takes 258 ms (8.27 s of delays, 32 URLs in flight); start and fetching add 16.8 ms (async:32) to 72.2 ms (32xsequential).
        "#);
    }

    #[test]
    fn the_baseline_wins() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "threads:32", "32xsequential"])
            .slower("threads:32", 1.12)
            .slower("32xsequential", 2.0)
            .build();
        insta::assert_snapshot!(said(&study), @r#"
        async:32 is the fastest, with 270 ms; threads:32 takes 11 % longer and 32xsequential takes 2.1× as long.
        Against async:32 (one event loop), 32xsequential (32 processes) needs 13× the memory, 3.0× the CPU per URL and 9.5× the switches; threads:32 (32 threads) needs 1.2× the memory, 1.6× the CPU per URL and 5.6× the switches.
        Waiting for the server alone takes 254 ms (8.11 s of delays, 32 URLs in flight); start and fetching add 16.5 ms (async:32) to 79.8 ms (32xsequential).
        "#);
    }

    #[test]
    fn a_tie() {
        let builder = StudyBuilder::new()
            .arms(&["async:32", "threads:32", "threads:32@ureq"])
            .slower("threads:32@ureq", 1.3);
        insta::assert_snapshot!(said(&builder.clone().noise(0.003).build()), @r#"
        Same time, different price: threads:32 takes as long as async:32, 268 ms (within 5 %); threads:32@ureq takes 30 % longer.
        Against async:32 (one event loop), threads:32@ureq (32 threads with ureq) needs 3.8× the memory, 2.9× the CPU per URL and 6.5× the switches; threads:32 (32 threads) needs 1.2× the memory, 1.4× the CPU per URL and 5.0× the switches.
        Waiting for the server alone takes 252 ms (8.06 s of delays, 32 URLs in flight); start and fetching add 16.5 ms (async:32) to 21.8 ms (threads:32@ureq).
        "#);
        insta::assert_snapshot!(said(&builder.noise(0.1).build()), @r#"
        This machine was too noisy to tell whether a difference in time is within ±5.0 %: the baseline, run twice, is known to ±8.4 % only.
        No arm is proven faster than async:32 (280 ms); threads:32@ureq takes 19 % longer; whether threads:32 (0.94×, 0.83–1.07) differs from async:32 cannot be told.
        Against async:32, threads:32@ureq needs 3.8× the memory, 2.7× the CPU per URL and 5.9× the switches.
        "#);
    }

    #[test]
    fn few_blocks_are_told() {
        let study = StudyBuilder::new()
            .arms(&["async:32", "2xasync:16"])
            .slower("2xasync:16", 0.8)
            .blocks(4)
            .build();
        let many = StudyBuilder::new().blocks(4).build();
        insta::assert_snapshot!(verdict(&many)[0], @"In these 4 blocks 2xasync:16 (273 ms) took the least time and sequential (8.33 s, 30× as long as the first) the most; nothing is proven.");
        insta::assert_snapshot!(said(&study), @r#"
        In these 4 blocks 2xasync:16 (219 ms) took the least time, then async:32 (268 ms); nothing is proven.
        In these trials, against async:32 (one event loop), 2xasync:16 (2 event loops) needed 1.4× the memory, 19 % less CPU per URL and 18 % fewer switches.
        Waiting for the server alone takes 252 ms (8.05 s of delays, 32 URLs in flight); start and fetching add 16.3 ms (2xasync:16) to 16.3 ms (async:32).
        "#);
    }

    #[test]
    fn a_winner_that_fails_is_no_clear_winner() {
        let mut study = StudyBuilder::new()
            .arms(&["async:32", "2xasync:16"])
            .slower("2xasync:16", 0.8)
            .build_raw();
        for trial in &mut study.trials {
            if trial.arm == "2xasync:16" {
                trial.failed = 5;
                trial.completed -= 5;
            }
        }
        conclude(&mut study, &Options::default());
        insta::assert_snapshot!(said(&study), @r#"
        2xasync:16 is the fastest, with 216 ms: it takes 19 % less time than async:32 (264 ms).
        Against async:32 (one event loop), 2xasync:16 (2 event loops) needs 1.4× the memory, 20 % less CPU per URL and 19 % fewer switches.
        Waiting for the server alone takes 248 ms (7.94 s of delays, 32 URLs in flight); async:32 takes 16.3 ms more.
        2xasync:16 failed 50 of 10,000 URLs, in 10 of 10 trials; one arm failed none.
        "#);
    }

    #[test]
    fn noise_comes_first() {
        let mut study = StudyBuilder::new().arms(&["async:32", "2xasync:16"]).build();
        let noise = "This machine was too noisy.".to_owned();
        study.analysis.control.as_mut().unwrap().too_noisy = Some(noise.clone());
        assert_eq!(verdict(&study)[0], noise);
    }

    #[test]
    fn at_a_fixed_rate_latencies_are_told_not_times() {
        let mut study = StudyBuilder::new().arms(&["async:32", "threads:32"]).blocks(6).build();
        study.manifest.rate_per_s = Some(2_000.0);
        for trial in &mut study.trials {
            let p99 = if trial.arm == "threads:32" { 0.12 } else { 0.02 };
            trial.sojourn_s =
                Some(crate::record::Percentiles { p99: Some(p99), ..Default::default() });
        }
        insta::assert_snapshot!(verdict(&study)[0], @"At 2,000 URLs/s in all, 99 in 100 URLs ended within 20.0 ms of their intended start under async:32, and within 120 ms under threads:32.");
        assert!(!said(&study).contains("Waiting for the server"));
    }

    #[test]
    fn nothing_to_compare() {
        let alone = StudyBuilder::new().arms(&["async:32"]).build();
        insta::assert_snapshot!(said(&alone), @r#"
        async:32 (one event loop) takes 267 ms (median of 10 trials), 4.19 MiB of memory, and per 1,000 URLs 41.0 ms of CPU and 653 switches.
        Waiting for the server alone takes 251 ms (8.02 s of delays, 32 URLs in flight); async:32 takes 16.4 ms more.
        "#);
        let mut none = alone.clone();
        for trial in &mut none.trials {
            trial.abandoned = 1;
            trial.completed -= 1;
        }
        conclude(&mut none, &Options::default());
        insta::assert_snapshot!(said(&none), @r#"
        No trial can be compared; the first was left out because 1 URL was abandoned after three lost leases.
        In every trial 1 of 1,000 URLs failed.
        "#);
        insta::assert_snapshot!(said(&Study::default()), @"Nothing was fetched, so there is nothing to compare.");
        let null = StudyBuilder::new().arms(&["async:32@null"]).build();
        insta::assert_snapshot!(said(&null), @"Nothing was fetched, so there is nothing to compare.");
    }

    /// What follows a text, each time that it comes.
    fn after<'a>(told: &'a str, text: &str) -> Vec<&'a str> {
        told.match_indices(text).map(|(at, text)| &told[at + text.len()..]).collect()
    }

    /// What is said of an arm's time agrees with the figures: the number, and that it is proven.
    fn time_is_borne_out(told: &str, arm: &ArmAnswers<'_>, baseline: &str) {
        let name = arm.name();
        let found = arm.on(Outcome::Time).unwrap();
        let direction = found.judged.map(|(direction, _)| direction);
        for verb in ["takes", "take", "is"] {
            for rest in after(told, &format!("{name} {verb} ")) {
                let said = format!("{verb} {rest}");
                if rest.starts_with("the fastest") {
                    assert_ne!(direction, Some(Direction::More), "{told}");
                } else if rest.starts_with(&format!("as long as {baseline}")) {
                    assert!(found.is_negligible(), "{told}");
                } else if said.starts_with(&takes(found.ratio)) {
                    let untested = said[takes(found.ratio).len()..].starts_with(" (");
                    let right = match direction {
                        None => untested,
                        Some(Direction::Less) => found.ratio < 1.0,
                        Some(Direction::More) => found.ratio > 1.0,
                        Some(Direction::CannotTell) => false,
                    };
                    assert!(right, "{name}: {told}");
                } else {
                    panic!("{name} {verb}: {told}");
                }
            }
        }
    }

    /// Each sentence about costs names differences that are relevant, and the largest of them.
    fn price_is_borne_out(told: &str, headline: &Headline<'_>) {
        let relevant = |arm: &ArmAnswers<'_>, outcome| {
            Some((headline.relevant(arm, outcome)?, arm.name().to_owned()))
        };
        let far = |ratio: f64| ratio.ln().abs();
        for arm in headline.answers.others() {
            for rest in after(told, &format!("{} needs ", headline.called(arm))) {
                // A decimal point ends no clause.
                let said = rest.split("; ").next().unwrap();
                let amounts: Vec<String> = PRICES
                    .iter()
                    .filter_map(|o| Some(amount(headline.relevant(arm, *o)?, *o)))
                    .collect();
                let figures = said.split(". ").next().unwrap().matches(['×', '%']).count();
                let borne_out = amounts.iter().filter(|amount| said.contains(*amount)).count();
                assert_eq!(figures, borne_out, "{}: {said} in {told}", arm.name());
            }
        }
        for outcome in PRICES {
            let others = headline.answers.others();
            let name = named(outcome);
            let without = [format!("{name} is the same"), format!("is proven in {name}")];
            if without.iter().any(|text| told.contains(text)) {
                assert!(others.into_iter().all(|arm| relevant(arm, outcome).is_none()), "{told}");
            }
            let choices = headline.choices();
            let of_choices = choices.iter().filter_map(|arm| relevant(arm, outcome));
            let most = of_choices.max_by(|a, b| far(a.0).total_cmp(&far(b.0)));
            if let Some((ratio, _)) = most {
                assert!(told.contains(&amount(ratio, outcome)), "{outcome:?}: {told}");
            }
        }
    }

    #[test]
    fn of_five_arms_that_all_differ_the_reach_is_told() {
        let arms = ["async:32", "threads:32", "2xasync:16", "32xsequential", "threads:32@ureq"];
        let mut builder = StudyBuilder::new().arms(&arms);
        for (arm, factor) in arms[1..].iter().zip([1.2, 1.5, 2.0, 2.6]) {
            builder = builder.slower(arm, factor);
        }
        let study = builder.build();
        insta::assert_snapshot!(said(&study), @r#"
        async:32 is the fastest, with 268 ms; 4 others take 1.20–2.57× as long as async:32, threads:32@ureq the longest.
        Against async:32 (one event loop), 32xsequential (32 processes) needs 13× the memory; threads:32@ureq (32 threads with ureq) needs 5.9× the CPU per URL and 13× the switches; threads:32 (32 threads) needs 1.2× the memory, 1.7× the CPU per URL and 6.0× the switches.
        Waiting for the server alone takes 251 ms (8.05 s of delays, 32 URLs in flight); start and fetching add 16.3 ms (async:32) to 79.5 ms (32xsequential).
        "#);
        let answers = Answers::of(&study);
        let mut ratios: Vec<f64> =
            answers.others().map(|arm| arm.on(Outcome::Time).unwrap().ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let reach = format::ratio_interval(ratios[0], ratios[3]);
        assert!(said(&study).contains(&format!("4 others take {reach}× as long as async:32")));
    }

    #[test]
    fn with_two_servers_each_sentence_names_its_own() {
        let mut study = fixture::two_servers();
        insta::assert_snapshot!(said(&study), @r#"
        Where the server takes 8.00 ms, 2xasync:16 is the fastest, with 255 ms: it takes 8.0 % less time than async:32 (275 ms); async:32@reqwest takes as long as async:32 (within 5 %); 4 others take 1.07–30.2× as long as async:32, sequential the longest (not tested).
        There, against async:32, 32xsequential needs 13× the memory and 5.8× the switches; threads:32@ureq needs 2.6× the CPU per URL.
        "#);
        for trial in &mut study.regimes[0].study.trials {
            (trial.completed, trial.failed) = (0, trial.completed);
            trial.outcomes = [("reset".to_owned(), trial.failed)].into();
        }
        insta::assert_snapshot!(verdict(&study).last().unwrap(), @"Where the server answers at once, every URL failed: 11,700 × reset.");
        let noise = "This machine was too noisy.".to_owned();
        let control = |study: &mut Study| {
            study.analysis.control.as_mut().unwrap().too_noisy = Some(noise.clone())
        };
        control(&mut study.regimes[0].study);
        insta::assert_snapshot!(verdict(&study)[0], @"Where the server answers at once, this machine was too noisy.");
        control(&mut study);
        insta::assert_snapshot!(left_out(&study).join("\n"), @r#"
        Where the server takes 8.00 ms, against async:32, 32xsequential needs 13× the memory and 5.8× the switches; threads:32@ureq needs 2.6× the CPU per URL.
        Where the server takes 8.00 ms, waiting for the server alone takes 258 ms (8.27 s of delays, 32 URLs in flight); start and fetching add 16.8 ms (async:32) to 72.2 ms (32xsequential).
        "#);
        insta::assert_snapshot!(verdict(&study)[0], @"Where the server takes 8.00 ms, this machine was too noisy. It was too noisy where the server answers at once, too.");
    }

    #[test]
    fn every_way_is_level_only_where_every_interval_lies_inside() {
        let mut study = StudyBuilder::new()
            .arms(&["async:8", "threads:8", "2xasync:4", "sequential"])
            .urls(40)
            .blocks(6)
            .build();
        let level = |study: &mut Study, arm: &str, size| {
            let mut comparisons = study.comparisons.iter_mut();
            let found =
                comparisons.find(|c| c.arm == arm && c.outcome == Some(Outcome::Time)).unwrap();
            (found.size, found.direction) = (Some(size), Some(Direction::CannotTell));
        };
        for arm in ["threads:8", "2xasync:4"] {
            level(&mut study, arm, Size::Negligible);
        }
        let told = said(&study);
        assert!(
            told.contains("every way of keeping 8 URLs in flight takes as long as async:8"),
            "{told}"
        );
        assert!(told.contains("(all within 5 %)"), "{told}");
        level(&mut study, "2xasync:4", Size::Unsure);
        let told = said(&study);
        assert!(!told.contains("every way") && told.contains("cannot be told"), "{told}");
    }

    fn time(study: &Study, arm: &str) -> f64 {
        let trials = study.trials.iter().filter(|trial| trial.arm == arm);
        trials.map(|trial| trial.start_s.unwrap() + trial.makespan_s.unwrap()).sum()
    }

    /// Studies whose truths are known: every sentence is borne out by the figures, and no proven
    /// difference has the wrong sign.
    #[test]
    fn every_sentence_is_borne_out() {
        const ARMS: [&str; 4] = ["async:8", "threads:8", "8xsequential", "2xasync:4"];
        const FACTORS: [f64; 7] = [1.0, 1.0, 1.0, 0.8, 1.03, 1.3, 4.0];
        let mut kinds = [0; 4];
        for seed in 0..8 {
            let pick = |shift: usize| seed * 31 + shift * 17 + seed / 7 * shift;
            let mut builder = StudyBuilder::new()
                .arms(&ARMS)
                .urls(120)
                .seed(seed as u64)
                .noise([0.002, 0.02, 0.15][pick(5) % 3])
                .blocks([6, 8, 10][pick(6) % 3]);
            for (arm, shift) in ARMS.iter().zip(1..) {
                builder = builder.slower(arm, FACTORS[pick(shift) % FACTORS.len()]);
            }
            let (study, truth) = (builder.build(), builder.clone().noise(0.0).build_raw());
            let told = said(&study).replace('\n', " ");
            let answers = Answers::of(&study);
            let baseline = study.manifest.baseline.as_str();
            for arm in answers.others() {
                time_is_borne_out(&told, arm, baseline);
                let found = arm.on(Outcome::Time).unwrap();
                let true_ratio = time(&truth, arm.name()) / time(&truth, baseline);
                match found.judged.map(|(direction, _)| direction) {
                    Some(Direction::Less) => assert!(true_ratio < 1.0, "{true_ratio} {told}"),
                    Some(Direction::More) => assert!(true_ratio > 1.0, "{true_ratio} {told}"),
                    _ => {}
                }
            }
            let headline = Headline::of(&study, &answers);
            price_is_borne_out(&told, &headline);
            if told.contains("all within") {
                assert!(answers.others().all(|arm| arm.on(Outcome::Time).unwrap().is_negligible()));
            }
            for (kind, text) in
                ["is the fastest", "takes", "cannot be told", "(within 5 %)"].iter().enumerate()
            {
                kinds[kind] += u32::from(told.contains(text));
            }
        }
        assert!(kinds.iter().all(|kind| *kind > 0), "some sentence was never said: {kinds:?}");
    }
}
