//! Where the labels at the ends of lines go, so that none covers another.

/// Moves labels apart: the positions nearest to those wanted (least squares) that keep the wanted
/// order, stand at least `gap` apart and lie between `low` and `high`. Where there is no room for
/// that, they share the room evenly. The result is in the order of `wanted`.
///
/// It is isotonic regression by pooling adjacent violators (Ayer et al. 1955)
/// on the positions less their place in the row times `gap`.
pub(super) fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let steps = (wanted.len() - 1) as f64;
    let room = (high - low).max(0.0);
    let gap = if steps * gap > room { room / steps } else { gap };

    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));

    // Each pool is a run of labels pushed together: (sum, members).
    let mut pools: Vec<(f64, usize)> = Vec::with_capacity(wanted.len());
    for (place, index) in order.iter().enumerate() {
        let free = wanted[*index].clamp(low, high.max(low)) - (place as f64) * gap;
        let mut pool = (free, 1);
        while let Some(before) = pools.last()
            && before.0 / (before.1 as f64) > pool.0 / (pool.1 as f64)
        {
            pool = (pool.0 + before.0, pool.1 + before.1);
            pools.pop();
        }
        pools.push(pool);
    }

    let highest = (high - steps * gap).max(low);
    let shifts = pools
        .into_iter()
        .flat_map(|(sum, members)| std::iter::repeat_n(sum / (members as f64), members))
        .map(|shift| shift.clamp(low, highest));
    let mut placed = vec![0.0; wanted.len()];
    for ((place, index), shift) in order.into_iter().enumerate().zip(shifts) {
        placed[index] = shift + (place as f64) * gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_that_do_not_collide_stay() {
        assert_eq!(spread(&[10.0, 50.0, 90.0], 14.0, 0.0, 100.0), [10.0, 50.0, 90.0]);
        assert!(spread(&[], 14.0, 0.0, 100.0).is_empty());
    }

    #[test]
    fn equal_wishes_are_met_halfway() {
        assert_eq!(spread(&[50.0, 50.0], 10.0, 0.0, 100.0), [45.0, 55.0]);
        assert_eq!(spread(&[0.0, 0.0, 0.0], 10.0, 0.0, 100.0), [0.0, 10.0, 20.0]);
    }

    #[test]
    fn too_many_labels_share_the_room_evenly() {
        assert_eq!(spread(&[9.0, 1.0, 5.0], 60.0, 0.0, 100.0), [100.0, 0.0, 50.0]);
    }

    proptest! {
        #[test]
        fn no_two_labels_collide_none_leaves_the_room_and_order_holds(
            wanted in prop::collection::vec(-50.0..450.0f64, 1..24),
            gap in 1.0..30.0f64,
        ) {
            let (low, high) = (0.0, 400.0);
            let placed = spread(&wanted, gap, low, high);
            prop_assert_eq!(placed.len(), wanted.len());
            let fits = gap * (wanted.len() - 1) as f64 <= high - low;
            for (i, a) in placed.iter().enumerate() {
                prop_assert!(*a >= low - 1e-9 && *a <= high + 1e-9);
                for (j, b) in placed.iter().enumerate().skip(i + 1) {
                    if fits {
                        prop_assert!((a - b).abs() >= gap - 1e-6, "{a} {b}");
                    }
                    if wanted[i] < wanted[j] {
                        prop_assert!(a <= b);
                    }
                }
            }
        }

        #[test]
        fn what_already_fits_is_not_moved(start in 0.0..50.0f64, steps in prop::collection::vec(14.0..40.0f64, 1..8)) {
            let wanted: Vec<f64> = steps.iter().scan(start, |at, step| { *at += step; Some(*at) }).collect();
            let placed = spread(&wanted, 14.0, 0.0, 500.0);
            for (a, b) in wanted.iter().zip(&placed) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }
    }
}
