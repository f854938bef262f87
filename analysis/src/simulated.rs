//! Whole studies with a known truth, for tests of what is said of studies.

use std::fmt;

use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    Options, conclude,
    record::{
        ArmRecord, Comparison, Direction, Manifest, Outcome, SCHEMA_VERSION, Study, TrialRecord,
    },
    statistics::{Pair, leaders, normal},
};

/// What makes one trial differ from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// Independent normal numbers.
    Normal,
    /// A trend over the whole study, and blocks that differ.
    Drift,
    /// Each trial is like the one before: AR(1) with 0.8.
    Autocorrelated,
    /// Student's t with three degrees of freedom.
    Tails,
    /// Exponential: now and then much longer, never much shorter.
    Skew,
    /// Something else runs now and then: one trial in twenty takes a fifth more.
    Bursts,
}

impl Noise {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::Drift, Self::Autocorrelated, Self::Tails, Self::Skew, Self::Bursts];
}

/// Makes studies of a baseline, arms with known ratios to it, and the control.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Each arm's true ratio to the baseline in time, CPU, memory and switches.
    pub arms: Vec<[f64; 4]>,
    /// Blocks that count.
    pub blocks: u32,
    /// What makes trials differ.
    pub noise: Noise,
    /// Standard deviation of a trial's logarithm in time, CPU, memory and switches.
    pub spread: [f64; 4],
}

/// The baseline's figures: seconds, seconds, bytes, switches.
const BASELINE: [f64; 4] = [0.25, 0.05, 4e6, 20_000.0];
/// How much of an outcome's noise is the trial's own, and moves all outcomes alike.
const SHARED: f64 = 0.5;
const URLS: u64 = 1_000;

impl Simulation {
    /// Arms without any difference, in a study of some noise.
    #[must_use]
    pub fn of_nothing(arms: usize, blocks: u32, noise: Noise) -> Self {
        Self { arms: vec![[1.0; 4]; arms], blocks, noise, spread: [0.02, 0.03, 0.005, 0.05] }
    }

    /// Arms that differ in about half of the outcomes, by a little or by much.
    #[must_use]
    pub fn of_something(arms: usize, blocks: u32, noise: Noise, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut simulation = Self::of_nothing(arms, blocks, noise);
        for ratio in simulation.arms.iter_mut().flatten() {
            *ratio = match rng.random::<f64>() {
                share if share < 0.5 => 1.0,
                share if share < 0.9 => (0.1 * normal(&mut rng)).exp(),
                _ => 4.0,
            };
        }
        simulation
    }

    /// The arm's name; `0` is the first that is no baseline.
    #[must_use]
    pub fn arm(at: usize) -> String {
        format!("threads:{}", at + 1)
    }

    /// A study, before any conclusion.
    #[must_use]
    pub fn study(&self, seed: u64) -> Study {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let arm = |name: String, control| ArmRecord {
            name,
            control,
            processes: 1,
            model: "threads".into(),
            concurrency: 32,
            client: "core".into(),
            ..ArmRecord::default()
        };
        let mut arms = vec![arm("async:32".into(), false)];
        arms.extend((0..self.arms.len()).map(|at| arm(Self::arm(at), false)));
        arms.push(arm("async:32 (again)".into(), true));
        let mut trials = Vec::new();
        let mut state = 0.0;
        for block in 1..=self.blocks {
            let shift = 0.05 * normal(&mut rng);
            let mut order: Vec<usize> = (0..arms.len()).collect();
            order.shuffle(&mut rng);
            for place in order {
                let at = u32::try_from(trials.len()).unwrap_or(u32::MAX);
                state = 0.8 * state + 0.6 * normal(&mut rng);
                let common = match self.noise {
                    Noise::Drift => shift / 0.02 + 0.2 * f64::from(at),
                    Noise::Autocorrelated => state,
                    _ => 0.0,
                };
                let trial = self.draw(&mut rng);
                let truth = place.checked_sub(1).and_then(|arm| self.arms.get(arm));
                let figures: [f64; 4] = std::array::from_fn(|outcome| {
                    let own = self.draw(&mut rng);
                    let noise = SHARED * trial + (1.0 - SHARED * SHARED).sqrt() * own;
                    let log = self.spread[outcome] * (noise + common);
                    BASELINE[outcome] * truth.map_or(1.0, |truth| truth[outcome]) * log.exp()
                });
                trials.push(trial_of(&arms[place].name, block, at, figures));
            }
        }
        Study {
            schema_version: SCHEMA_VERSION,
            manifest: Manifest {
                baseline: "async:32".into(),
                urls: URLS,
                blocks: self.blocks,
                seed,
                ..Manifest::default()
            },
            arms,
            trials,
            ..Study::default()
        }
    }

    /// A number with a standard deviation of 1.
    fn draw(&self, rng: &mut ChaCha8Rng) -> f64 {
        match self.noise {
            Noise::Normal | Noise::Drift => normal(rng),
            Noise::Autocorrelated => 0.6 * normal(rng),
            Noise::Tails => {
                let chi_squared: f64 = (0..3).map(|_| normal(rng).powi(2)).sum();
                normal(rng) / chi_squared.sqrt()
            }
            Noise::Skew => -(1.0 - rng.random::<f64>()).ln() - 1.0,
            Noise::Bursts => {
                let burst = if rng.random::<f64>() < 0.05 { 10.0 } else { 0.0 };
                normal(rng) + burst
            }
        }
    }
}

/// What was said of many studies, and how much of it was right.
#[derive(Debug, Clone)]
pub struct Tally {
    noise: Noise,
    blocks: u32,
    /// Studies of each kind.
    pub studies: u32,
    /// Studies without a difference of which one was called.
    pub false_calls: u32,
    /// Studies with differences of which a call was wrong: none is there, or it is the other way.
    pub wrong_calls: u32,
    /// Share of the single intervals that held the truth.
    pub covered: f64,
    /// Share of the family's intervals that did.
    pub family_covered: f64,
    /// Studies of which all of the family's intervals did.
    pub all_covered: u32,
    /// Studies in which an arm's time was longer or shorter by the smallest effect that the study
    /// before had named, and in which that was called.
    pub found: u32,
    /// Studies of which a leader, the slowest or the order of two arms was wrong.
    pub misplaced: u32,
}

impl Tally {
    /// The head of a table of them.
    pub const HEAD: &str = "\
| noise | blocks | false calls, no difference | wrong calls, differences | interval holds the truth | \
family's interval | all of a study's | smallest effect found | leaders, slowest, order wrong |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

    /// Draws so many studies of five arms.
    #[must_use]
    pub fn of(noise: Noise, blocks: u32, studies: u32) -> Self {
        let mut tally = Self {
            noise,
            blocks,
            studies,
            false_calls: 0,
            wrong_calls: 0,
            covered: 0.0,
            family_covered: 0.0,
            all_covered: 0,
            found: 0,
            misplaced: 0,
        };
        let (mut single, mut family) = (Vec::new(), Vec::new());
        for study in 0..studies {
            let seed = u64::from(study);
            let nothing = Simulation::of_nothing(5, blocks, noise);
            tally.false_calls += u32::from(nothing.wrong(&nothing.concluded(seed)));

            let mut something = Simulation::of_something(5, blocks, noise, seed);
            let concluded = something.concluded(seed);
            tally.wrong_calls += u32::from(something.wrong(&concluded));
            tally.misplaced += u32::from(something.misplaced(&concluded));
            let family_before = family.len();
            for (comparison, truth) in something.answers(&concluded) {
                let holds = |low: Option<f64>, high: Option<f64>| {
                    low.zip(high).is_some_and(|(low, high)| low <= truth && truth <= high)
                };
                single.push(holds(comparison.ci_low, comparison.ci_high));
                family.push(holds(comparison.family_low, comparison.family_high));
            }
            tally.all_covered += u32::from(family[family_before..].iter().all(|holds| *holds));

            let arm = study as usize % 5;
            let Some(effect) = concluded.analysis.smallest_effect else { continue };
            something.arms[arm][0] = if study % 2 == 0 { effect } else { 1.0 / effect };
            let concluded = something.concluded(seed + u64::from(studies));
            let time = something.answers(&concluded).into_iter().find(|(comparison, _)| {
                comparison.arm == Simulation::arm(arm) && comparison.outcome == Some(Outcome::Time)
            });
            let wanted = if study % 2 == 0 { Direction::More } else { Direction::Less };
            tally.found += u32::from(time.is_some_and(|(time, _)| time.direction == Some(wanted)));
        }
        let share =
            |held: &[bool]| held.iter().filter(|holds| **holds).count() as f64 / held.len() as f64;
        tally.covered = share(&single);
        tally.family_covered = share(&family);
        tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let of = |count: u32| percent(f64::from(count) / f64::from(self.studies));
        let shares = [
            of(self.false_calls),
            of(self.wrong_calls),
            percent(self.covered),
            percent(self.family_covered),
            of(self.all_covered),
            of(self.found),
            of(self.misplaced),
        ];
        write!(f, "| {:?} | {} | {} |", self.noise, self.blocks, shares.join(" | "))
    }
}

impl Simulation {
    /// A study with its conclusions.
    #[must_use]
    pub fn concluded(&self, seed: u64) -> Study {
        let mut study = self.study(seed);
        conclude(&mut study, &Options::default());
        study
    }

    /// The true ratio of an arm in an outcome; the baseline's is 1.
    fn truth(&self, arm: &str, outcome: Outcome) -> f64 {
        let at = (0..self.arms.len()).find(|at| Self::arm(*at) == arm);
        at.map_or(1.0, |at| self.arms[at][outcome as usize])
    }

    /// The answers of a study, and the truths.
    fn answers<'a>(&self, study: &'a Study) -> Vec<(&'a Comparison, f64)> {
        let of_arms = study.comparisons.iter().filter(|c| !c.arm.ends_with("(again)"));
        of_arms.filter_map(|c| Some((c, self.truth(&c.arm, c.outcome?)))).collect()
    }

    /// Whether a direction is called that is not the true one.
    fn wrong(&self, study: &Study) -> bool {
        self.answers(study).into_iter().any(|(comparison, truth)| match comparison.direction {
            Some(Direction::Less) => truth >= 1.0,
            Some(Direction::More) => truth <= 1.0,
            Some(Direction::CannotTell) | None => false,
        })
    }

    /// Whether the true first is not among the leaders, the slowest is another, or two arms stand
    /// the wrong way round.
    pub(crate) fn misplaced(&self, study: &Study) -> bool {
        let Some(leaders) = leaders(study) else { return true };
        let truth = |name: &str| self.truth(name, Outcome::Time);
        let times: Vec<f64> = leaders.ranked.iter().map(|arm| truth(&arm.arm.name)).collect();
        let first = times.iter().copied().fold(f64::INFINITY, f64::min);
        let last = times.iter().copied().fold(0.0, f64::max);
        let all = 0..times.len();
        let swapped = |one: usize, other: usize| {
            leaders.pairs[one][other] == Pair::Faster && times[one] >= times[other]
        };
        !times[..leaders.tied].contains(&first)
            || leaders.slowest().is_some_and(|arm| truth(&arm.arm.name) < last)
            || all.clone().any(|one| all.clone().any(|other| swapped(one, other)))
    }
}

fn trial_of(arm: &str, block: u32, order: u32, figures: [f64; 4]) -> TrialRecord {
    // Whole bytes and switches: rounding is far below the noise.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = |figure: f64| figure.round() as u64;
    let [time, cpu, memory, switches] = figures;
    TrialRecord {
        arm: arm.to_owned(),
        block,
        order,
        valid: true,
        completed: URLS,
        start_s: Some(0.05 * time),
        makespan_s: Some(0.95 * time),
        cpu_user_s: Some(0.7 * cpu),
        cpu_system_s: Some(0.5 * cpu),
        cpu_start_s: Some(0.2 * cpu),
        memory_peak_bytes: Some(whole(memory)),
        voluntary_switches: Some(whole(switches)),
        involuntary_switches: Some(0),
        ..TrialRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few studies of each kind, so wide bounds; docs/method.md has the long run.
    #[test]
    fn what_is_said_of_studies_is_right() {
        for (noise, blocks) in [(Noise::Tails, 6), (Noise::Skew, 8), (Noise::Bursts, 10)] {
            let tally = Tally::of(noise, blocks, 60);
            println!("{tally}");
            // qbinom(0.999, 60, 0.05) and qbinom(0.001, 60, 0.8) are 9 and 38.
            assert!(tally.false_calls <= 9 && tally.wrong_calls <= 9, "{tally:?}");
            assert!(tally.misplaced <= 9, "{tally:?}");
            assert!(tally.covered >= 0.92 && tally.family_covered >= 0.96, "{tally:?}");
            assert!((38..=57).contains(&tally.found), "{tally:?}");
        }
    }
}
