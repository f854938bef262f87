//! Holm's adjustment for several comparisons, and what it needs in blocks.

/// p-values adjusted after Holm (1979): comparing each with α keeps the chance
/// of any false call at α, whatever the comparisons have in common.
pub(crate) fn adjust(p_values: &[f64]) -> Vec<f64> {
    let mut rising: Vec<usize> = (0..p_values.len()).collect();
    rising.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut running = 0.0_f64;
    for (rank, &at) in rising.iter().enumerate() {
        let left = (p_values.len() - rank) as f64;
        running = running.max((p_values[at] * left).min(1.0));
        adjusted[at] = running;
    }
    adjusted
}

/// Blocks from which on the exact sign-flip test can call a difference, with `comparisons` made.
///
/// With n blocks no two-sided p-value is below 2/2^n, and Holm multiplies the
/// smallest one by the number of comparisons m: so m · 2/2^n < α must hold. One
/// comparison needs six blocks at α = 0.05, six need eight.
#[must_use]
pub fn blocks_needed(comparisons: u32, alpha: f64) -> u32 {
    let smallest = |blocks: u32| 2.0 * f64::from(comparisons.max(1)) / 2f64.powf(f64::from(blocks));
    // 64 blocks are enough for any number of comparisons and any α above 1e-9.
    (1..64).find(|&blocks| smallest(blocks) < alpha).unwrap_or(64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_r_adjusts() {
        // p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        let adjusted = adjust(&[0.01, 0.04, 0.03, 0.005]);
        for (got, want) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - want).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(adjust(&[]), Vec::<f64>::new());
        assert_eq!(adjust(&[0.7, 0.9]), vec![1.0, 1.0]);
    }

    #[test]
    fn six_comparisons_need_eight_blocks() {
        let needed: Vec<u32> = (1..=12).map(|m| blocks_needed(m, 0.05)).collect();
        assert_eq!(needed, [6, 7, 7, 8, 8, 8, 9, 9, 9, 9, 9, 9]);
        assert_eq!(blocks_needed(0, 0.05), 6);
    }

    proptest! {
        #[test]
        fn adjusting_never_lowers_and_keeps_the_order(ps in prop::collection::vec(0.0..=1.0f64, 1..10)) {
            let adjusted = adjust(&ps);
            for (a, p) in ps.iter().enumerate() {
                prop_assert!(adjusted[a] >= *p && adjusted[a] <= 1.0);
                for (b, q) in ps.iter().enumerate() {
                    prop_assert!(p > q || adjusted[a] <= adjusted[b]);
                }
            }
        }
    }
}
