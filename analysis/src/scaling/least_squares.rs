//! Curves of throughput over N, fitted by weighted least squares.

/// One arm: how much it has of what varies, its throughput, and the weight of its squared residual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) n: f64,
    pub(crate) throughput: f64,
    pub(crate) weight: f64,
}

/// γN / (1 + σ(N − 1) + κN(N − 1)): Gunther's Universal Scalability Law (2007),
/// Amdahl's law (1967) where κ = 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usl {
    pub(crate) gamma: f64,
    pub(crate) sigma: f64,
    pub(crate) kappa: f64,
}

impl Usl {
    pub(crate) fn at(&self, n: f64) -> f64 {
        self.gamma * n / (1.0 + self.sigma * (n - 1.0) + self.kappa * n * (n - 1.0))
    }

    /// The N with the highest throughput, √((1 − σ)/κ); `None` where more never brings less.
    pub(crate) fn peak(&self) -> Option<f64> {
        (self.kappa > 0.0).then(|| ((1.0 - self.sigma).max(0.0) / self.kappa).sqrt())
    }

    /// Written as N over a denominator that is linear in its parameters:
    /// X = N / (a + b(N − 1) + cN(N − 1)), with a = 1/γ, b = σ/γ, c = κ/γ.
    fn of_denominator(linear: [f64; 3]) -> Self {
        let [a, b, c] = linear;
        Self { gamma: 1.0 / a, sigma: b / a, kappa: c / a }
    }
}

/// Parameters of the denominator that are fitted; the others are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terms {
    /// γ and σ.
    Amdahl,
    /// γ, σ and κ.
    Usl,
}

/// Steps of refinement at most: each roughly squares the error, so that a
/// dozen is plenty from a start within half of the truth.
const STEPS_MAX: u32 = 40;

/// Fits σ and κ of 0 or more: a first answer from the linear form, then
/// Gauss-Newton steps on the throughput itself, halved where they overshoot.
/// `None` with fewer points than parameters, or where nothing finite fits.
pub(crate) fn fit_usl(points: &[Point], terms: Terms) -> Option<Usl> {
    let columns = match terms {
        Terms::Amdahl => 2,
        Terms::Usl => 3,
    };
    if points.len() < columns {
        return None;
    }
    let basis = |n: f64| [1.0, n - 1.0, n * (n - 1.0)];
    // N/X is linear in the parameters; an error of X, as a share, is one of N/X.
    let start: Vec<Equation> = points
        .iter()
        .map(|p| Equation {
            basis: basis(p.n),
            value: p.n / p.throughput,
            weight: p.weight * (p.throughput * p.throughput / p.n).powi(2),
        })
        .collect();
    let mut linear = nonnegative(&start, columns)?;
    let mut error = squares(points, |n| Usl::of_denominator(linear).at(n));
    for _ in 0..STEPS_MAX {
        let rows: Vec<Equation> = points
            .iter()
            .map(|p| {
                let x = Usl::of_denominator(linear).at(p.n);
                // dX/d(a, b, c) = −X²/N · basis, so the linearised X is
                // X + slope · basis · (new − old), and basis · old = N/X.
                let slope = -x * x / p.n;
                Equation {
                    basis: basis(p.n),
                    value: (p.throughput - x) / slope + p.n / x,
                    weight: p.weight * slope * slope,
                }
            })
            .collect();
        let Some(target) = nonnegative(&rows, columns) else {
            break;
        };
        let mut step = 1.0;
        let (next, next_error) = loop {
            let next: [f64; 3] =
                std::array::from_fn(|i| linear[i] + step * (target[i] - linear[i]));
            let next_error = squares(points, |n| Usl::of_denominator(next).at(n));
            if next_error <= error || step < 1e-6 {
                break (next, next_error);
            }
            step /= 2.0;
        };
        let done = error - next_error <= 1e-10 * error;
        if next_error <= error {
            (linear, error) = (next, next_error);
        }
        if done {
            break;
        }
    }
    let usl = Usl::of_denominator(linear);
    (usl.gamma.is_finite() && usl.gamma > 0.0 && error.is_finite()).then_some(usl)
}

/// Weighted squares of the residuals.
pub(crate) fn squares(points: &[Point], curve: impl Fn(f64) -> f64) -> f64 {
    points.iter().map(|p| p.weight * (p.throughput - curve(p.n)).powi(2)).sum()
}

/// One equation of a linear least-squares problem.
struct Equation {
    basis: [f64; 3],
    value: f64,
    weight: f64,
}

/// The weighted least-squares solution in the first `columns` parameters, of which the first is
/// above 0 and the others are not below it: with at most two bounds, every choice of parameters at
/// their bound is tried (Lawson and Hanson 1974, chapter 23, for more of them).
fn nonnegative(rows: &[Equation], columns: usize) -> Option<[f64; 3]> {
    let choices: &[[bool; 3]] = match columns {
        2 => &[[true, true, false], [true, false, false]],
        _ => &[[true, true, true], [true, false, true], [true, true, false], [true, false, false]],
    };
    let allowed = |x: &[f64; 3]| x[0] > 0.0 && x[1] >= 0.0 && x[2] >= 0.0;
    let mut solutions = choices
        .iter()
        .filter_map(|free| solve(rows, *free).filter(allowed).map(|x| (*free, x)))
        .peekable();
    // With nothing at its bound there is none better.
    if let Some((_, x)) = solutions.next_if(|(free, _)| *free == choices[0]) {
        return Some(x);
    }
    solutions
        .map(|(_, x)| x)
        .map(|x| {
            let error: f64 = rows
                .iter()
                .map(|row| {
                    let fitted: f64 = row.basis.iter().zip(x).map(|(b, x)| b * x).sum();
                    row.weight * (row.value - fitted).powi(2)
                })
                .sum();
            (x, error)
        })
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(x, _)| x)
}

/// The unbounded solution in the free parameters, the others being 0, by the
/// normal equations; `None` where those are singular. Columns are scaled to
/// length 1 first: N(N − 1) is thousands of times as large as 1.
fn solve(rows: &[Equation], free: [bool; 3]) -> Option<[f64; 3]> {
    let length: [f64; 3] = std::array::from_fn(|i| {
        let sum: f64 = rows.iter().map(|r| r.weight * r.basis[i].powi(2)).sum();
        sum.sqrt()
    });
    if (0..3).any(|i| free[i] && (length[i] == 0.0 || !length[i].is_finite())) {
        return None;
    }
    let mut matrix = [[0.0; 4]; 3];
    for (i, line) in matrix.iter_mut().enumerate() {
        if !free[i] {
            line[i] = 1.0;
            continue;
        }
        for row in rows {
            let left = row.weight * row.basis[i] / length[i];
            for j in (0..3).filter(|j| free[*j]) {
                line[j] += left * row.basis[j] / length[j];
            }
            line[3] += left * row.value;
        }
    }
    let mut x = eliminate(matrix)?;
    for i in (0..3).filter(|i| free[*i]) {
        x[i] /= length[i];
    }
    Some(x)
}

/// Gaussian elimination with partial pivoting.
fn eliminate(mut m: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot =
            (column..3).max_by(|&a, &b| m[a][column].abs().total_cmp(&m[b][column].abs()))?;
        if m[pivot][column].abs() < 1e-13 {
            return None;
        }
        m.swap(column, pivot);
        for row in column + 1..3 {
            let factor = m[row][column] / m[column][column];
            let above = m[column];
            for (cell, above) in m[row].iter_mut().zip(above) {
                *cell -= factor * above;
            }
        }
    }
    let mut x = [0.0; 3];
    for i in (0..3).rev() {
        let known: f64 = (i + 1..3).map(|j| m[i][j] * x[j]).sum();
        x[i] = (m[i][3] - known) / m[i][i];
    }
    Some(x)
}

/// min(γN, ceiling): more helps in proportion until something is full.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LinearThenFlat {
    pub(crate) gamma: f64,
    /// `None` where all points lie on the slope.
    pub(crate) ceiling: Option<f64>,
}

impl LinearThenFlat {
    pub(crate) fn at(&self, n: f64) -> f64 {
        let slope = self.gamma * n;
        self.ceiling.map_or(slope, |ceiling| slope.min(ceiling))
    }
}

/// Fits slope and ceiling: the points, by rising N, are split in every way
/// into those on the slope and those at the ceiling, and the best split wins. A
/// ceiling must lower the weighted squares by more than `ceiling_cost`.
pub(crate) fn fit_linear_then_flat(points: &[Point], ceiling_cost: f64) -> Option<LinearThenFlat> {
    (1..=points.len())
        .filter_map(|split| {
            let (slope, flat) = points.split_at(split);
            let weighted = |of: fn(&Point) -> f64, points: &[Point]| -> f64 {
                points.iter().map(|p| p.weight * of(p)).sum()
            };
            let gamma = weighted(|p| p.n * p.throughput, slope) / weighted(|p| p.n * p.n, slope);
            let ceiling = (!flat.is_empty())
                .then(|| weighted(|p| p.throughput, flat) / weighted(|_| 1.0, flat));
            let curve = LinearThenFlat { gamma, ceiling };
            let cost = ceiling.map_or(0.0, |_| ceiling_cost);
            gamma.is_finite().then(|| (curve, squares(points, |n| curve.at(n)) + cost))
        })
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(curve, _)| curve)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unweighted(data: &[(f64, f64)]) -> Vec<Point> {
        data.iter().map(|&(n, throughput)| Point { n, throughput, weight: 1.0 }).collect()
    }

    /// SPEC SDM91 on a SPARCcenter 2000, the data set `specsdm91` of the R
    /// package usl, whose summary gives these coefficients.
    #[test]
    fn specsdm91() {
        let usl = fit_usl(
            &unweighted(&[
                (1.0, 64.9),
                (18.0, 995.9),
                (36.0, 1652.4),
                (72.0, 1853.2),
                (108.0, 1828.9),
                (144.0, 1775.0),
                (216.0, 1702.2),
            ]),
            Terms::Usl,
        )
        .unwrap();
        assert!((usl.gamma - 89.995_233).abs() < 1e-4, "{usl:?}");
        assert!((usl.sigma - 0.027_728_5).abs() < 1e-7, "{usl:?}");
        assert!((usl.kappa - 0.000_104_4).abs() < 1e-7, "{usl:?}");
        // peak.scalability(): 96.5.
        assert!((usl.peak().unwrap() - 96.5).abs() < 0.1, "{usl:?}");
    }

    /// The data set `raytracer` of the same package: κ ends at its bound.
    #[test]
    fn raytracer() {
        let points = unweighted(&[
            (1.0, 20.0),
            (4.0, 78.0),
            (8.0, 130.0),
            (12.0, 170.0),
            (16.0, 190.0),
            (20.0, 200.0),
            (24.0, 210.0),
            (28.0, 230.0),
            (32.0, 260.0),
            (48.0, 280.0),
            (64.0, 310.0),
        ]);
        let usl = fit_usl(&points, Terms::Usl).unwrap();
        assert!((usl.gamma - 21.848_843).abs() < 1e-4, "{usl:?}");
        assert!((usl.sigma - 0.057_771).abs() < 1e-6, "{usl:?}");
        assert!(usl.kappa < 1e-9 && usl.peak().is_none_or(|n| n > 1e4), "{usl:?}");
        assert_eq!(fit_usl(&points, Terms::Amdahl).unwrap().kappa, 0.0);
    }

    #[test]
    fn too_few_points_fit_nothing() {
        let two = unweighted(&[(1.0, 1.0), (2.0, 1.9)]);
        assert_eq!(fit_usl(&two, Terms::Usl), None);
        assert!(fit_usl(&two, Terms::Amdahl).is_some());
        assert_eq!(fit_linear_then_flat(&[], 0.0), None);
    }

    #[test]
    fn a_slope_and_a_ceiling() {
        let curve = |n: f64| (100.0 * n).min(450.0);
        let points = unweighted(&[1.0, 2.0, 4.0, 8.0, 16.0].map(|n| (n, curve(n))));
        let fit = fit_linear_then_flat(&points, 1.0).unwrap();
        assert!((fit.gamma - 100.0).abs() < 1e-9);
        assert!((fit.ceiling.unwrap() - 450.0).abs() < 1e-9);
        let slope = fit_linear_then_flat(&points[..3], 1e-9).unwrap();
        assert_eq!(slope.ceiling, None);
    }

    proptest! {
        #[test]
        fn known_parameters_are_found_again(
            gamma in 1.0..1e5f64, sigma in 0.0..0.5f64, kappa in 0.0..0.02f64
        ) {
            let truth = Usl { gamma, sigma, kappa };
            let points: Vec<Point> = [1.0, 2.0, 3.0, 4.0, 8.0, 16.0, 32.0]
                .map(|n| Point { n, throughput: truth.at(n), weight: truth.at(n).powi(-2) })
                .into();
            let found = fit_usl(&points, Terms::Usl).unwrap();
            prop_assert!((found.gamma / gamma - 1.0).abs() < 1e-5, "{found:?}");
            prop_assert!((found.sigma - sigma).abs() < 1e-5, "{found:?}");
            prop_assert!((found.kappa - kappa).abs() < 1e-6, "{found:?}");
        }

        #[test]
        fn whatever_was_measured_the_fit_is_finite_and_bounded(
            throughput in prop::collection::vec(0.1..1e6f64, 3..8)
        ) {
            let points: Vec<Point> = (0..).zip(&throughput)
                .map(|(i, &throughput)| Point {
                    n: f64::from(1 << i), throughput, weight: throughput.powi(-2),
                })
                .collect();
            for terms in [Terms::Amdahl, Terms::Usl] {
                if let Some(usl) = fit_usl(&points, terms) {
                    prop_assert!(usl.gamma > 0.0 && usl.gamma.is_finite());
                    prop_assert!(usl.sigma >= 0.0 && usl.kappa >= 0.0);
                    prop_assert!(usl.sigma.is_finite() && usl.kappa.is_finite());
                }
            }
        }
    }
}
