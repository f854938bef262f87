//! The four claims of the blog post that fanout began from, each against the figures.

use crate::{
    format,
    record::{Direction, Metric, Outcome, Size, Study},
    statistics::compare_pair,
    text::answers::{Answers, ArmAnswers, Finding, amount, figure, finding, margin_text, takes},
};

/// From so many switches per 1,000 URLs on nobody would say that there were none.
const SOME_SWITCHES: f64 = 10.0;

/// What the arms of the claims are in Python, where the claims come from.
pub(crate) const COUNTERPARTS: &str = "What the blog post claimed of Python's asyncio (here async), \
     ThreadPoolExecutor (threads) and multiprocessing (Nxsequential)";

/// A claim, and what this study says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// What was claimed, as a clause without an end.
    pub(crate) claim: &'static str,
    /// What the figures say of it, in a word or two.
    pub(crate) verdict: ClaimVerdict,
    /// The figures, in a sentence; or how to ask.
    pub(crate) finding: String,
}

/// What a study says of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimVerdict {
    /// The figures show it.
    BorneOut,
    /// The figures show something else.
    NotBorneOut,
    /// The trials do not tell.
    CannotTell,
    /// The study has no arms for it.
    NotAsked,
}

impl ClaimVerdict {
    /// The verdict in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::BorneOut => "borne out",
            Self::NotBorneOut => "not borne out",
            Self::CannotTell => "cannot tell",
            Self::NotAsked => "not asked here",
        }
    }
}

impl Claim {
    /// The claim, the verdict and the figures in one line.
    pub(crate) fn line(&self) -> String {
        format!("{}: {}. {}", self.claim, self.verdict.words(), self.finding)
    }
}

/// The four claims; empty where the study has the arms for none of them.
pub(crate) fn claims(study: &Study) -> Vec<Claim> {
    let arms = ClaimArms::of(study);
    let claims = vec![arms.switches(), arms.faster(), arms.memory(), arms.lock()];
    let asked = claims.iter().any(|claim| claim.verdict != ClaimVerdict::NotAsked);
    if asked { claims } else { Vec::new() }
}

/// The arms that the claims are about, all with the same number of URLs in flight.
struct ClaimArms<'a> {
    study: &'a Study,
    event_loop: Option<ArmAnswers<'a>>,
    threads: Option<ArmAnswers<'a>>,
    processes: Option<ArmAnswers<'a>>,
}

impl<'a> ClaimArms<'a> {
    fn of(study: &'a Study) -> Self {
        let mut arms = Answers::of(study).arms;
        arms.retain(|arm| arm.arm().has_default_client());
        let is = |arm: &ArmAnswers<'_>, model: &str, many: bool| {
            arm.arm().model == model && (arm.arm().processes > 1) == many
        };
        // Of several loops the one that has somebody to be compared with, else the baseline.
        let peers = |slots: u64| {
            let peers = arms.iter().filter(|arm| arm.arm().slots() == slots);
            peers.filter(|arm| is(arm, "threads", false) || is(arm, "sequential", true)).count()
        };
        let loops = arms.iter().filter(|arm| is(arm, "async", false));
        let slots = loops
            .max_by_key(|arm| (peers(arm.arm().slots()), arm.summary.baseline))
            .map(|arm| arm.arm().slots());
        let slots = slots.or_else(|| {
            let threads = arms.iter().find(|arm| is(arm, "threads", false));
            threads.map(|arm| arm.arm().slots())
        });
        let mut take = |model: &str, many: bool| {
            let alike = |arm: &ArmAnswers<'_>| Some(arm.arm().slots()) == slots;
            let at = arms.iter().position(|arm| is(arm, model, many) && alike(arm))?;
            Some(arms.swap_remove(at))
        };
        Self {
            study,
            event_loop: take("async", false),
            threads: take("threads", false),
            processes: take("sequential", true),
        }
    }

    fn switches(&self) -> Claim {
        let claim = "One event loop needs no context switches";
        let Some(event_loop) = &self.event_loop else {
            return not_asked(claim, "async:C is needed.");
        };
        let switches =
            Metric::named(Outcome::Switches.metric()).and_then(|m| event_loop.summary.value(m));
        let Some(switches) = switches else {
            return not_asked(claim, "context switches could not be read.");
        };
        let name = event_loop.name();
        let mut text = format!("{name} switches {} times per 1,000 URLs", format::rate(switches));
        if let Some(threads) = &self.threads {
            let (other, many) = (threads.name(), figure(&threads.summary, Outcome::Switches));
            text += &match self.pair(event_loop, threads, Outcome::Switches) {
                Some(found) if proven(&found) == Some(Direction::Less) => {
                    format!(", {} than {other} ({many})", amount(found.ratio, Outcome::Switches))
                }
                _ => format!(", {other} {many} times"),
            };
        }
        let verdict = if switches < SOME_SWITCHES {
            ClaimVerdict::BorneOut
        } else {
            text += ", but not none";
            ClaimVerdict::NotBorneOut
        };
        Claim { claim, verdict, finding: text + "." }
    }

    fn faster(&self) -> Claim {
        let claim = "One event loop is faster than many processes";
        let (Some(event_loop), Some(processes)) = (&self.event_loop, &self.processes) else {
            return not_asked(claim, "async:C and Cxsequential are needed.");
        };
        self.slower(claim, processes, event_loop)
    }

    fn lock(&self) -> Claim {
        let claim = "Threads are held back by a lock";
        if !self.study.manifest.http.cpu_lock {
            return not_asked(claim, "--cpu-work 1ms --cpu-lock asks it.");
        }
        let (Some(threads), Some(processes)) = (&self.threads, &self.processes) else {
            return not_asked(claim, "threads:C and Cxsequential are needed.");
        };
        self.slower(claim, threads, processes)
    }

    /// A claim that one arm is slower than another.
    fn slower(&self, claim: &'static str, slow: &ArmAnswers<'_>, quick: &ArmAnswers<'_>) -> Claim {
        let Some(found) = self.pair(slow, quick, Outcome::Time) else {
            return not_asked(claim, "the two arms share no block.");
        };
        let (name, other) = (slow.name(), quick.name());
        let (took, other_took) = (slow.took(), quick.took());
        let verdict = verdict(&found);
        let finding = match found.judged {
            None => {
                format!("{name} takes {took}, {other} {other_took}; too few blocks for a test.")
            }
            Some((_, Size::Negligible)) => {
                let margin = margin_text(self.study.analysis.margin);
                format!(
                    "{name} takes as long as {other}: {took} and {other_took}, within {margin}."
                )
            }
            Some((Direction::CannotTell, _)) => {
                let (ratio, ends) = found.figures();
                format!("{name} takes {took}, {other} {other_took}: {ratio} ({ends}).")
            }
            Some((direction, _)) => {
                let joint = match direction {
                    Direction::Less => "than",
                    _ if found.ratio >= 2.0 => "as",
                    _ => "than",
                };
                format!("{name} ({took}) {} {joint} {other} ({other_took}).", takes(found.ratio))
            }
        };
        Claim { claim, verdict, finding }
    }

    fn memory(&self) -> Claim {
        let claim = "One event loop needs less memory than threads or processes";
        let Some(event_loop) = &self.event_loop else {
            return not_asked(claim, "async:C is needed.");
        };
        let others = [&self.threads, &self.processes].into_iter().flatten();
        let pairs =
            others.filter_map(|arm| Some((arm, self.pair(arm, event_loop, Outcome::Memory)?)));
        let pairs: Vec<_> = pairs.collect();
        if pairs.is_empty() {
            return not_asked(claim, "threads:C or Cxsequential is needed beside async:C.");
        }
        let mut text =
            format!("{} needs {}", event_loop.name(), figure(&event_loop.summary, Outcome::Memory));
        for (arm, found) in &pairs {
            let (ratio, _) = found.figures();
            text += &format!(
                ", {} {} ({ratio}, {})",
                arm.name(),
                figure(&arm.summary, Outcome::Memory),
                found.words()
            );
        }
        let verdicts: Vec<_> = pairs.iter().map(|(_, found)| verdict(found)).collect();
        let verdict = [ClaimVerdict::NotBorneOut, ClaimVerdict::CannotTell]
            .into_iter()
            .find(|verdict| verdicts.contains(verdict))
            .unwrap_or(ClaimVerdict::BorneOut);
        Claim { claim, verdict, finding: text + "." }
    }

    /// `a` against `b`: from the study's family of tests where one of them is the baseline, else
    /// from a test of the pair.
    fn pair(&self, a: &ArmAnswers<'_>, b: &ArmAnswers<'_>, outcome: Outcome) -> Option<Finding> {
        if b.summary.baseline {
            return finding(self.study, a.name(), outcome);
        }
        if a.summary.baseline {
            return finding(self.study, b.name(), outcome).map(inverse);
        }
        let metric = Metric::named(outcome.metric())?;
        let margin = self.study.analysis.margin;
        compare_pair(self.study, a.arm(), b.arm(), metric, margin).map(|c| Finding::of(&c))
    }
}

fn not_asked(claim: &'static str, how: &str) -> Claim {
    Claim { claim, verdict: ClaimVerdict::NotAsked, finding: how.to_owned() }
}

/// Of a claim that this ratio lies above 1.
fn verdict(found: &Finding) -> ClaimVerdict {
    match found.judged {
        None => ClaimVerdict::CannotTell,
        Some((_, Size::Negligible)) => ClaimVerdict::NotBorneOut,
        Some((Direction::CannotTell, _)) => ClaimVerdict::CannotTell,
        Some((Direction::More, _)) => ClaimVerdict::BorneOut,
        Some((Direction::Less, _)) => ClaimVerdict::NotBorneOut,
    }
}

fn proven(found: &Finding) -> Option<Direction> {
    found.judged.map(|(direction, _)| direction).filter(|d| *d != Direction::CannotTell)
}

fn inverse(found: Finding) -> Finding {
    let turned = |direction| match direction {
        Direction::Less => Direction::More,
        Direction::More => Direction::Less,
        Direction::CannotTell => Direction::CannotTell,
    };
    Finding {
        ratio: 1.0 / found.ratio,
        ends: found.ends.map(|(low, high)| (1.0 / high, 1.0 / low)),
        judged: found.judged.map(|(direction, size)| (turned(direction), size)),
        ..found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::StudyBuilder;

    const ARMS: [&str; 3] = ["async:32", "threads:32", "32xsequential"];

    fn told(study: &Study) -> String {
        claims(study).iter().map(Claim::line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_claim_has_its_figures() {
        let study = StudyBuilder::new().arms(&ARMS).slower("32xsequential", 1.2).build();
        insta::assert_snapshot!(told(&study), @r#"
        One event loop needs no context switches: not borne out. async:32 switches 660 times per 1,000 URLs, 5.0× fewer switches than threads:32 (3,284), but not none.
        One event loop is faster than many processes: borne out. 32xsequential (373 ms) takes 38 % longer than async:32 (270 ms).
        One event loop needs less memory than threads or processes: borne out. async:32 needs 4.19 MiB, threads:32 4.86 MiB (1.16×, more, relevant), 32xsequential 53.9 MiB (12.9×, more, relevant).
        Threads are held back by a lock: not asked here. --cpu-work 1ms --cpu-lock asks it.
        "#);
    }

    #[test]
    fn the_lock_is_asked_of_threads_and_processes() {
        let mut study = StudyBuilder::new().arms(&ARMS).slower("threads:32", 1.8).build();
        study.manifest.http.cpu_lock = true;
        assert_eq!(claims(&study)[3].verdict, ClaimVerdict::BorneOut);
        let mut alike = StudyBuilder::new().arms(&ARMS).noise(0.003).build();
        alike.manifest.http.cpu_lock = true;
        assert_eq!(claims(&alike)[3].verdict, ClaimVerdict::NotBorneOut, "{}", told(&alike));
    }

    #[test]
    fn what_has_no_arms_is_not_asked() {
        assert_eq!(claims(&StudyBuilder::new().arms(&["sequential", "2xthreads:4"]).build()), []);
        let verdicts = |arms: &[&str]| {
            let claims = claims(&StudyBuilder::new().arms(arms).build());
            claims.iter().map(|claim| claim.verdict).collect::<Vec<_>>()
        };
        use ClaimVerdict::{BorneOut, NotAsked, NotBorneOut};
        assert_eq!(
            verdicts(&["async:32", "threads:32"]),
            [NotBorneOut, NotAsked, BorneOut, NotAsked]
        );
        // Another number in flight is another question.
        assert_eq!(
            verdicts(&["async:8", "threads:64"]),
            [NotBorneOut, NotAsked, NotAsked, NotAsked]
        );
    }

    #[test]
    fn the_baseline_does_not_matter() {
        let study = |baseline: &str| {
            let mut study =
                StudyBuilder::new().arms(&ARMS).slower("32xsequential", 1.5).build_raw();
            study.manifest.baseline = baseline.to_owned();
            crate::conclude(&mut study, &crate::Options::default());
            claims(&study).iter().map(|claim| claim.verdict).collect::<Vec<_>>()
        };
        assert_eq!(study("async:32"), study("threads:32"));
        assert_eq!(study("async:32"), study("32xsequential"));
    }
}
