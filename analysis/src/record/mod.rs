//! The record of a study: what `study.json` holds.
//!
//! MetricUnits stand last in a name. What could not be read is `None` (`null`),
//! never 0. Fields are only ever added within one [`SCHEMA_VERSION`].

mod analysis;
mod manifest;
mod regime;
mod trial;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use analysis::{
    Analysis, Comparison, ControlOutcome, ControlRecord, CurvePoint, Direction, Interval,
    MemorySlope, Outcome, Peak, Scaling, ScalingFactor, ScalingFit, ScalingModel, ScalingPoint,
    Size, Verdict,
};
pub use manifest::{ArmRecord, Http, Machine, Manifest, Origin, Worker};
pub use regime::Regime;
pub use trial::{
    Better, Coordination, MemoryPoint, Metric, MetricUnit, OriginMetrics, PRIMARY, Per,
    Percentiles, Phases, Request, TrialRecord, WorkerShare,
};

/// The version of this record; raised when a field changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// A whole study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Study {
    /// The version of this record's form.
    pub schema_version: u32,
    /// Under which conditions the study ran.
    pub manifest: Manifest,
    /// What was compared, in the order given; the A/A control comes last.
    pub arms: Vec<ArmRecord>,
    /// Every trial, in the order in which they ran; none is left out.
    pub trials: Vec<TrialRecord>,
    /// Arms against the baseline, one entry per arm and metric.
    pub comparisons: Vec<Comparison>,
    /// What a reader must know before believing a figure, in plain words.
    pub caveats: Vec<String>,
    /// Whether the study was stopped before its last block.
    pub interrupted: bool,
    /// How the comparisons were made, and what they could have seen.
    #[serde(default)]
    pub analysis: Analysis,
    /// What more of one thing brings, where arms differ in that thing only.
    #[serde(default)]
    pub scaling: Vec<Scaling>,
    /// Memory per URL in flight, where arms differ in their concurrency only.
    #[serde(default)]
    pub memory_slopes: Vec<MemorySlope>,
    /// The same arms at other servers, in the same blocks. Beside trials of its own the study then
    /// has a second part; without any, these are the cells of a map.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regimes: Vec<Regime>,
}
