//! Curves through the measured points, and which of them describes them best.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ChiSquared, ContinuousCDF as _};

use crate::{
    format,
    record::{CurvePoint, Interval, Peak, ScalingFit, ScalingModel},
    scaling::{
        bootstrap::{Bootstrap, Rows},
        curve::{Curve, name},
        least_squares::{Point, squares},
    },
    text::listed,
};

/// Fewer arms leave nothing to tell one curve from another.
pub(super) const ARMS_MIN: usize = 3;
/// A simpler curve is kept unless another's AIC is lower by more (Burnham and
/// Anderson 2002, section 2.6).
const AIC_CLEAR: f64 = 2.0;
/// A peak further out than this many times the largest N is a guess.
const PEAK_RANGE: f64 = 2.0;
/// Curves are drawn in so many steps.
const CURVE_STEPS: u32 = 40;
/// A curve that misses the points with a smaller probability fits badly.
const POOR_FIT: f64 = 0.01;
/// Throughputs are never known better than this, as a share: keeps weights finite.
const NOISE_MIN: f64 = 1e-6;

/// One kind of curve through the measured points, and through those of every resampled study.
pub(super) struct Candidate {
    pub(super) model: ScalingModel,
    pub(super) curve: Curve,
    resampled: Vec<Curve>,
    aic: f64,
    /// Chance of points as far from the curve if it were the truth.
    p_value: f64,
}

/// All candidates, the chosen one first.
pub(super) struct Fitted {
    pub(super) candidates: Vec<Candidate>,
    ns: Vec<f64>,
    bootstrap: Bootstrap,
}

impl Fitted {
    pub(super) fn of(ns: &[f64], rows: &Rows, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bootstrap = Bootstrap::of(rows, &mut rng);
        let points = |means: &[f64]| -> Vec<Point> {
            // Noise is a share of the throughput, the same for every arm.
            ns.iter()
                .zip(means)
                .map(|(&n, &throughput)| Point { n, throughput, weight: throughput.powi(-2) })
                .collect()
        };
        let measured = points(&rows.means());
        let variance = rows.noise().max(NOISE_MIN).powi(2) / rows.len() as f64;
        let mut candidates: Vec<Candidate> =
            [ScalingModel::LinearThenFlat, ScalingModel::Amdahl, ScalingModel::Usl]
                .into_iter()
                // A curve with as many parameters as points fits anything.
                .filter(|model| *model != ScalingModel::Usl || ns.len() > ARMS_MIN)
                .filter_map(|model| {
                    let curve = Curve::fit(model, &measured, variance)?;
                    let parameters = curve.parameters().iter().flatten().count();
                    let chi_squared = squares(&measured, |n| curve.at(n)) / variance;
                    let free = ns.len() - parameters;
                    Some(Candidate {
                        model,
                        curve,
                        resampled: bootstrap
                            .resamples()
                            .filter_map(|means| Curve::fit(model, &points(means), variance))
                            .collect(),
                        aic: chi_squared + 2.0 * parameters as f64,
                        p_value: ChiSquared::new(free as f64)
                            .map_or(1.0, |chi| chi.sf(chi_squared)),
                    })
                })
                .collect();
        let best = candidates
            .iter()
            .map(|candidate| candidate.aic)
            .min_by(f64::total_cmp)
            .unwrap_or(f64::INFINITY);
        // Simplest first: a flat line without a bend is told from one by its AIC.
        if let Some(at) = candidates.iter().position(|candidate| candidate.aic <= best + AIC_CLEAR)
        {
            candidates[..=at].rotate_right(1);
        }
        Self { candidates, ns: ns.to_vec(), bootstrap }
    }

    pub(super) fn choice(&self) -> String {
        let Some(chosen) = self.candidates.first() else {
            return "No curve fits.".to_owned();
        };
        let others: Vec<String> = self.candidates[1..]
            .iter()
            .map(|other| format!("{} for {}", format::significant(other.aic), name(other.model)))
            .collect();
        let best = self.candidates.iter().all(|other| chosen.aic <= other.aic);
        let mut text = format!(
            "{} by {}: AIC {}, against {}.",
            if best { "Best described" } else { "Described as well as by any, with less," },
            name(chosen.model),
            format::significant(chosen.aic),
            listed(&others)
        );
        if chosen.p_value < POOR_FIT {
            text.push_str(" None fits well: trust the points, not the curve.");
        }
        text
    }

    /// Where more brings less, if that can be said.
    pub(super) fn peak(&self) -> Peak {
        let not_seen = |why: String| Peak {
            n: None,
            text: format!("A peak was not seen up to {}: {why}.", self.largest()),
        };
        let Some(usl) =
            self.candidates.iter().find(|candidate| candidate.model == ScalingModel::Usl)
        else {
            return not_seen("too few arms to tell".to_owned());
        };
        let kappa = self.interval(usl, |curve| curve.parameters()[2]);
        if kappa.low.is_none_or(|low| low <= 0.0) {
            return not_seen("κ may be 0".to_owned());
        }
        if self.candidates[0].model != ScalingModel::Usl {
            return not_seen(format!(
                "{} explains the points without one",
                name(self.candidates[0].model)
            ));
        }
        let peak = self.interval(usl, Curve::peak);
        let far = PEAK_RANGE * self.ns.last().copied().unwrap_or(0.0);
        if peak.value > far {
            return not_seen(format!(
                "the curve's own, near {}, is a guess that far out",
                amount(peak.value)
            ));
        }
        let interval = match (peak.low, peak.high) {
            (Some(low), Some(high)) => format!(" ({}–{})", amount(low), amount(high)),
            _ => String::new(),
        };
        Peak {
            n: Some(peak),
            text: format!(
                "Throughput peaks near {}{interval}; more brings less.",
                amount(peak.value)
            ),
        }
    }

    fn largest(&self) -> String {
        amount(self.ns.last().copied().unwrap_or(0.0))
    }

    pub(super) fn interval(
        &self,
        of: &Candidate,
        figure: impl Fn(&Curve) -> Option<f64>,
    ) -> Interval {
        let value = figure(&of.curve).unwrap_or(f64::NAN);
        self.bootstrap.interval(value, of.resampled.iter().filter_map(&figure))
    }

    pub(super) fn into_record(self) -> Vec<ScalingFit> {
        let (first, last) = (self.ns[0], self.ns[self.ns.len() - 1]);
        self.candidates
            .iter()
            .map(|candidate| {
                let parameter = |at: usize| {
                    candidate.curve.parameters()[at]
                        .map(|_| self.interval(candidate, |curve| curve.parameters()[at]))
                };
                ScalingFit {
                    model: candidate.model,
                    gamma: parameter(0).unwrap_or_default(),
                    sigma: parameter(1),
                    kappa: parameter(2),
                    ceiling: parameter(3),
                    aic: candidate.aic,
                    curve: (0..=CURVE_STEPS)
                        .map(|step| {
                            let share = f64::from(step) / f64::from(CURVE_STEPS);
                            let n = first + (last - first) * share;
                            CurvePoint {
                                n,
                                requests_per_s: self.interval(candidate, |curve| Some(curve.at(n))),
                            }
                        })
                        .collect(),
                }
            })
            .collect()
    }
}

/// How much of what varies, to the nearest whole number.
fn amount(n: f64) -> String {
    format::count(whole(n))
}

/// The nearest whole number of a figure that is a count.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // never negative
pub(super) fn whole(value: f64) -> u64 {
    value.round() as u64
}
