//! Curves through the measured points, and which of them describes them best.

use std::cell::OnceCell;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ChiSquared, ContinuousCDF as _};

use crate::{
    format,
    record::{CurvePoint, Interval, Peak, ScalingFit, ScalingModel},
    scaling::{
        bootstrap::{Bootstrap, Rows},
        curve::{Curve, curve_name},
        least_squares::{Point, squares},
    },
    statistics::{BLOCKS_NEEDED, BlockRatios, CONFIDENCE, Family, Sample},
    text::{ends_in_brackets, listed},
};

/// Fewer arms leave nothing to tell one curve from another.
pub(super) const ARMS_MIN: usize = 3;
/// A simpler curve is kept unless another's AIC is lower by more (Burnham and
/// Anderson 2002, section 2.6).
const AIC_CLEAR: f64 = 2.0;
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
    /// Fitted when an interval is first asked for.
    resampled: OnceCell<Vec<Curve>>,
    aic: f64,
    /// Chance of points as far from the curve if it were the truth.
    p_value: f64,
}

/// All candidates, the chosen one first.
pub(super) struct Fitted {
    pub(super) candidates: Vec<Candidate>,
    ns: Vec<f64>,
    /// That of an arm's throughput, as a share.
    variance: f64,
    bootstrap: Bootstrap,
}

/// An arm each. Noise is a share of the throughput, the same for every arm.
fn points(ns: &[f64], means: &[f64]) -> Vec<Point> {
    ns.iter()
        .zip(means)
        .map(|(&n, &throughput)| Point { n, throughput, weight: throughput.powi(-2) })
        .collect()
}

impl Fitted {
    pub(super) fn of(ns: &[f64], rows: &Rows, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bootstrap = Bootstrap::of(rows, &mut rng);
        let measured = points(ns, &rows.means());
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
                        resampled: OnceCell::new(),
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
        Self { candidates, ns: ns.to_vec(), variance, bootstrap }
    }

    pub(super) fn choice(&self) -> String {
        let Some(chosen) = self.candidates.first() else {
            return "No curve fits.".to_owned();
        };
        let others: Vec<String> = self.candidates[1..]
            .iter()
            .map(|other| {
                format!("{} for {}", format::significant(other.aic), curve_name(other.model))
            })
            .collect();
        let best = self.candidates.iter().all(|other| chosen.aic <= other.aic);
        let mut text = format!(
            "{} by {}: AIC {}, against {}.",
            if best { "Best described" } else { "Described as well as by any, with less," },
            curve_name(chosen.model),
            format::significant(chosen.aic),
            listed(&others)
        );
        if chosen.p_value < POOR_FIT {
            text.push_str(" None fits well: trust the points, not the curve.");
        }
        text
    }

    /// Where more brings less, if the curve and the measured arms both say so; else what the
    /// measured arms alone say.
    pub(super) fn peak(&self, rows: &Rows, margin: f64) -> Peak {
        let (fall, measured) = self.beyond_the_best(rows, margin);
        let (Some(chosen), Some(fall)) = (self.candidates.first(), fall) else {
            return Peak { n: None, text: measured };
        };
        let n = self.interval(chosen, Curve::peak);
        let inside = self.ns[0] < n.value && n.value < self.ns[self.ns.len() - 1];
        if !inside || n.low.is_none() || chosen.p_value < POOR_FIT {
            return Peak { n: None, text: measured };
        }
        let (near, ends) = (amount(n.value), ends_in_brackets(&n, amount));
        Peak { n: Some(n), text: format!("Throughput peaks near {near}{ends}: {fall}.") }
    }

    /// That an arm with more than the fastest is slower, if it is, and a sentence about what the
    /// largest brings.
    fn beyond_the_best(&self, rows: &Rows, margin: f64) -> (Option<String>, String) {
        if rows.len() < BLOCKS_NEEDED as usize {
            let text = format!(
                "Whether more brings less was not tested: that needs {BLOCKS_NEEDED} blocks."
            );
            return (None, text);
        }
        let means = rows.means();
        let last = means.len() - 1;
        let best = (0..=last).max_by(|a, b| means[*a].total_cmp(&means[*b])).unwrap_or(last);
        let share = |ratio: f64| format::percent((ratio - 1.0).abs());
        // Each arm beyond the best is one more chance to be wrong: they are one family.
        let beyond: Vec<BlockRatios> = (best + 1..=last).map(|arm| rows.ratio(arm, best)).collect();
        let mut judged = (best + 1..).zip(Family::new(&beyond).judgements());
        let slower = judged.find_map(|(arm, judgement)| {
            judgement.called().then(|| {
                format!(
                    "{} brings {} less than {}",
                    amount(self.ns[arm]),
                    share(judgement.mean.exp()),
                    amount(self.ns[best])
                )
            })
        });
        if let Some(slower) = slower {
            let text = format!(
                "Of the arms measured, {} brings the most: {slower}.",
                amount(self.ns[best])
            );
            return (Some(slower), text);
        }
        let (from, to) = (amount(self.ns[last - 1]), amount(self.ns[last]));
        let ratios = rows.ratio(last, last - 1);
        let step = Sample::from(&ratios).exp_interval(CONFIDENCE);
        let inside = |end: Option<f64>| end.is_some_and(|end| (end - 1.0).abs() <= margin);
        let text = if inside(step.low) && inside(step.high) {
            format!(
                "Throughput levels off: {to} and {from} bring the same, within {}.",
                format::percent(margin)
            )
        } else if step.value > 1.0 && Family::new(&[ratios]).judgements()[0].called() {
            format!(
                "Throughput still rises: {to} brings {} what {from} does.",
                format::ratio(step.value)
            )
        } else {
            format!("The trials do not tell whether throughput still rises from {from} to {to}.")
        };
        (None, text)
    }

    pub(super) fn interval(
        &self,
        of: &Candidate,
        figure: impl Fn(&Curve) -> Option<f64>,
    ) -> Interval {
        let value = figure(&of.curve).unwrap_or(f64::NAN);
        let resampled = of.resampled.get_or_init(|| {
            let fit = |means| Curve::fit(of.model, &points(&self.ns, means), self.variance);
            self.bootstrap.resamples().filter_map(fit).collect()
        });
        self.bootstrap.interval(value, resampled.iter().filter_map(&figure))
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
                            // Even steps on a logarithmic axis.
                            let n = first * (last / first).powf(share);
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
