//! What the two pictures of lines share: cutting a time axis, and thinning.

/// Keeps about one point per `step` of x, always the highest of each: peaks
/// are what a picture of memory is for. First and last points stay.
pub(super) fn thinned(points: &[(f64, f64)], step: f64) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Vec::new();
    };
    let mut kept = vec![*first];
    let mut highest: Option<(f64, f64)> = None;
    let mut column = (first.0 / step).floor();
    for point in points.iter().skip(1) {
        let this = (point.0 / step).floor();
        if this > column {
            kept.extend(highest.take());
            column = this;
        }
        if highest.is_none_or(|known| point.1 > known.1) {
            highest = Some(*point);
        }
    }
    kept.extend(highest);
    if kept.last() != Some(last) {
        kept.push(*last);
    }
    kept
}

/// The part of a line up to `limit`, with the place where it crosses it.
pub(super) fn up_to(points: &[(f64, f64)], limit: f64) -> Vec<(f64, f64)> {
    let inside = points.iter().take_while(|point| point.0 <= limit).count();
    let mut kept = points[..inside].to_vec();
    if let (Some(last), Some(next)) = (kept.last().copied(), points.get(inside)) {
        let share = (limit - last.0) / (next.0 - last.0);
        kept.push((limit, last.1 + share * (next.1 - last.1)));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_cut_where_it_crosses_the_edge() {
        let line = [(0.0, 0.0), (1.0, 10.0), (3.0, 30.0)];
        assert_eq!(up_to(&line, 2.0), [(0.0, 0.0), (1.0, 10.0), (2.0, 20.0)]);
        assert_eq!(up_to(&line, 5.0), line);
        assert!(up_to(&[(4.0, 1.0)], 2.0).is_empty());
    }

    proptest! {
        #[test]
        fn thinning_keeps_the_ends_the_peak_and_the_order(
            heights in prop::collection::vec(0.0..100.0f64, 1..400),
        ) {
            let line: Vec<(f64, f64)> = heights.iter().zip(0_u32..).map(|(y, x)| (f64::from(x), *y)).collect();
            let thin = thinned(&line, 7.0);
            prop_assert_eq!(thin.first(), line.first());
            prop_assert_eq!(thin.last(), line.last());
            prop_assert!(thin.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert!(thin.len() <= heights.len() / 7 + 4);
            let peak = |points: &[(f64, f64)]| points.iter().map(|p| p.1).fold(0.0, f64::max);
            prop_assert!((peak(&thin) - peak(&line)).abs() < 1e-12);
        }
    }
}
