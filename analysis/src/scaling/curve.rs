//! The curves that may describe a throughput over N.

use crate::{
    record::ScalingModel,
    scaling::least_squares::{LinearThenFlat, Point, Terms, Usl, fit_linear_then_flat, fit_usl},
};

/// One kind of curve with its parameters.
#[derive(Debug, Clone, Copy)]
pub(super) enum Curve {
    Flat(LinearThenFlat),
    Amdahl(Usl),
    Usl(Usl),
}

impl Curve {
    /// `variance` is that of a point's throughput, as a share.
    pub(super) fn fit(model: ScalingModel, points: &[Point], variance: f64) -> Option<Self> {
        Some(match model {
            // One parameter more must lower χ² by 2 to lower the AIC.
            ScalingModel::LinearThenFlat => {
                Self::Flat(fit_linear_then_flat(points, 2.0 * variance)?)
            }
            ScalingModel::Amdahl => Self::Amdahl(fit_usl(points, Terms::Amdahl)?),
            ScalingModel::Usl => Self::Usl(fit_usl(points, Terms::Usl)?),
        })
    }

    pub(super) fn at(&self, n: f64) -> f64 {
        match self {
            Self::Flat(curve) => curve.at(n),
            Self::Amdahl(usl) | Self::Usl(usl) => usl.at(n),
        }
    }

    /// γ, σ, κ and the ceiling, where the curve has them.
    pub(super) fn parameters(&self) -> [Option<f64>; 4] {
        match self {
            Self::Flat(curve) => [Some(curve.gamma), None, None, curve.ceiling],
            Self::Amdahl(usl) => [Some(usl.gamma), Some(usl.sigma), None, None],
            Self::Usl(usl) => [Some(usl.gamma), Some(usl.sigma), Some(usl.kappa), None],
        }
    }

    pub(super) fn peak(&self) -> Option<f64> {
        match self {
            Self::Usl(usl) => usl.peak(),
            _ => None,
        }
    }
}

pub(crate) fn curve_name(model: ScalingModel) -> &'static str {
    match model {
        ScalingModel::LinearThenFlat => "min(γN, ceiling)",
        ScalingModel::Amdahl => "Amdahl's law",
        ScalingModel::Usl => "the Universal Scalability Law",
    }
}
