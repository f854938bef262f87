//! What the trials say: comparisons, scaling, memory slopes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One arm against the baseline on one metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// The arm it is compared with.
    pub baseline: String,
    /// The metric, by its name in a trial; `cpu_s` is user and system together.
    pub metric: String,
    /// Blocks that both arms were in, with valid trials.
    pub blocks: u32,
    /// Geometric mean of the per-block ratios: below 1 is less than the baseline.
    pub ratio: f64,
    /// Lower end of the 95 % interval.
    pub ci_low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub ci_high: Option<f64>,
    /// Of the sign-flip test of this comparison alone.
    pub p_value: Option<f64>,
    /// The same with regard to the whole family of comparisons that are tested: step-down max-T
    /// over joint sign flips.
    pub p_adjusted: Option<f64>,
    /// What this says.
    pub verdict: Verdict,
    /// The smallest difference, as a ratio above 1, whose direction a study like this one calls in
    /// four of five cases; of comparisons in time only.
    #[serde(default)]
    pub smallest_effect: Option<f64>,
    /// Which of the four questions this answers; `None`: none of them, the interval speaks for
    /// itself.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// Lower end of the 95 % interval that holds for the whole family of tested comparisons together.
    #[serde(default)]
    pub family_low: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub family_high: Option<f64>,
    /// Whether the arm takes less or more; `None`: not tested, for want of blocks.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// Whether the difference matters; `None`: not tested, for want of blocks.
    #[serde(default)]
    pub size: Option<Size>,
}

/// What is asked of every arm, named before any trial.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// From the first fork to the last completion: start and makespan.
    Time,
    /// CPU time per URL, after Go.
    Cpu,
    /// What the arm alone needs at its peak.
    Memory,
    /// Context switches, wanted and forced.
    Switches,
}

impl Comparison {
    /// The ratio with its own 95 % interval.
    #[must_use]
    pub fn interval(&self) -> Interval {
        Interval { value: self.ratio, low: self.ci_low, high: self.ci_high }
    }

    /// Half of that interval's width, as a ratio above 1.
    #[must_use]
    pub fn half_width(&self) -> Option<f64> {
        Some((self.ci_high? / self.ci_low?).sqrt())
    }
}

impl Outcome {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 4] = [Self::Time, Self::Cpu, Self::Memory, Self::Switches];

    /// The metric that answers it, by its name in a comparison.
    #[must_use]
    pub fn metric(self) -> &'static str {
        match self {
            Self::Time => "total_s",
            Self::Cpu => "cpu_run_s",
            Self::Memory => "memory_peak_bytes",
            Self::Switches => "switches",
        }
    }

    /// The outcome that a metric answers, if it is one.
    #[must_use]
    pub fn of(metric: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.metric() == metric)
    }
}

/// Which way an arm differs from the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// It takes less.
    Less,
    /// It takes more.
    More,
    /// The trials do not tell.
    CannotTell,
}

/// Whether a difference matters. The margin is the same both ways as a factor: 5 % reaches from
/// 1/1.05 to 1.05.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// The family's interval lies inside the margin.
    Negligible,
    /// The family's interval lies outside the margin, on one side of it.
    Relevant,
    /// The family's interval holds an end of the margin.
    Unsure,
}

/// What a comparison of makespans says, in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Less than the baseline.
    Faster,
    /// More than the baseline.
    Slower,
    /// The family's interval lies inside the margin, whatever the direction.
    Equivalent,
    /// The data do not say.
    Inconclusive,
    /// No verdict (another metric, too few blocks, or a client that fetches nothing): the
    /// interval speaks for itself.
    #[default]
    Estimate,
}

/// How the comparisons were made, and what they could have seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Analysis {
    /// Differences up to this share are negligible: 0.05 is from 1/1.05 to 1.05.
    pub margin: f64,
    /// Share of intervals that should hold the truth.
    pub confidence: f64,
    /// Arms that were tested, the control not counted.
    pub tested: u32,
    /// Fewest blocks of a tested comparison.
    pub blocks: u32,
    /// Blocks from which on a comparison is tested.
    pub blocks_needed: u32,
    /// The smallest difference in time, as a ratio above 1, whose direction such a study calls in
    /// four of five cases, whichever arm has it; `None`: nothing was tested.
    pub smallest_effect: Option<f64>,
    /// How the baseline compared with itself.
    pub control: Option<ControlRecord>,
}

/// The baseline against itself: what this machine's noise looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Control")]
pub struct ControlRecord {
    /// Ratio of the control's makespan to the baseline's, with its interval.
    pub ratio: Interval,
    /// Half of the interval's width, as a ratio above 1.
    pub half_width: Option<f64>,
    /// Why no difference in time can be called negligible or not; `None` where the noise is within
    /// the margin.
    pub too_noisy: Option<String>,
    /// The same for every outcome.
    #[serde(default)]
    pub outcomes: Vec<ControlOutcome>,
}

/// The baseline against itself on one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ControlOutcome {
    /// Which.
    pub outcome: Outcome,
    /// Ratio of the control to the baseline, with its interval.
    pub ratio: Interval,
    /// Whether the test calls a difference, which by chance happens in one study of twenty at most
    /// over all outcomes; `None`: not tested, for want of blocks.
    pub called: Option<bool>,
}

/// A value and its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

/// Arms that differ in one thing only, and what more of that thing brings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scaling {
    /// What varies: `processes`, `concurrency` or `workers`.
    pub factor: ScalingFactor,
    /// The arms' common name with `N` for what varies: `Nxasync:16`.
    pub family: String,
    /// One per arm, by rising `n`.
    pub points: Vec<ScalingPoint>,
    /// The curves that were fitted, the chosen one first.
    pub fits: Vec<ScalingFit>,
    /// Why the first was chosen.
    pub choice: String,
    /// Whether and where more brings less, in words.
    pub peak: Peak,
    /// Peak memory (`memory_peak_bytes`) that one more of it costs.
    pub memory_per_step_bytes: Option<Interval>,
}

/// What varies between the arms of a [`Scaling`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingFactor {
    /// Fetchers.
    #[default]
    Processes,
    /// URLs in flight in each fetcher.
    Concurrency,
    /// Workers, with the same fetchers in all.
    Workers,
}

/// One arm of a [`Scaling`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScalingPoint {
    /// The arm's name.
    pub arm: String,
    /// How much it has of what varies.
    pub n: u32,
    /// Blocks with a valid trial.
    pub blocks: u32,
    /// Geometric mean of the trials' `requests_per_s`.
    pub requests_per_s: Interval,
    /// Every valid trial's `requests_per_s`, by block.
    pub trials_per_s: Vec<f64>,
    /// Throughput over that of the smallest arm, by block.
    pub speedup: Interval,
    /// Speedup over the growth of `n`: 1 is ideal.
    pub efficiency: Interval,
    /// Median of the trials' `pss_peak_bytes`.
    pub pss_peak_bytes: Option<u64>,
    /// Median of the trials' `spawn_s`.
    pub spawn_s: Option<f64>,
    /// Median of the trials' coordination overhead.
    pub overhead_s: Option<f64>,
}

/// A curve through the points of a [`Scaling`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScalingFit {
    /// Which curve.
    pub model: ScalingModel,
    /// γ: requests per second at 1, if there were nothing in the way.
    pub gamma: Interval,
    /// σ: share of the work that cannot be spread (Amdahl, USL).
    pub sigma: Option<Interval>,
    /// κ: cost of keeping each pair in agreement (USL).
    pub kappa: Option<Interval>,
    /// Requests per second that are never exceeded (linear, then flat).
    pub ceiling: Option<Interval>,
    /// χ² of the arms' means around the curve plus twice the number of parameters: lower is better.
    pub aic: f64,
    /// The curve, with a 95 % band, over the measured range.
    pub curve: Vec<CurvePoint>,
}

/// What kind of curve a [`ScalingFit`] is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingModel {
    /// min(γN, ceiling).
    #[default]
    LinearThenFlat,
    /// γN / (1 + σ(N − 1)).
    Amdahl,
    /// γN / (1 + σ(N − 1) + κN(N − 1)).
    Usl,
}

/// A point of a fitted curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurvePoint {
    /// How much of what varies; between whole numbers too.
    pub n: f64,
    /// The curve there, with its band.
    pub requests_per_s: Interval,
}

/// Where more of what varies starts to bring less.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Peak {
    /// The N with the highest throughput; `None` where none was seen.
    pub n: Option<Interval>,
    /// The same in words, with the reason when none was seen.
    pub text: String,
}

/// Memory per URL in flight, over arms that differ in their concurrency only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemorySlope {
    /// The arms' common name with `N` for the concurrency: `threads:N`.
    pub family: String,
    /// The metric, by its name in a trial.
    pub metric: String,
    /// Blocks, each of which gave one slope.
    pub blocks: u32,
    /// Lowest and highest number of URLs in flight.
    pub in_flight: [u32; 2],
    /// Bytes per URL in flight.
    pub bytes_per_request: Interval,
    /// What is left at none in flight.
    pub base_bytes: Interval,
}
