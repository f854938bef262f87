//! Whole studies with a known truth, for tests of what is said of studies.

use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    record::{ArmRecord, Manifest, SCHEMA_VERSION, Study, TrialRecord},
    statistics::normal,
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
