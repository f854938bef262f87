//! One family of questions, tested together by joint sign flips of whole blocks.
//!
//! If two arms are the same and their order within a block is random, each block's log ratio is as
//! likely to have come out with the other sign (Fisher 1935, The Design of Experiments, section
//! 21). Flipping a block turns its log ratios round in every question at once, so that whatever the
//! questions have in common stays. A question is judged by how often the largest |t| of all
//! questions still open reaches its own (step-down max-T: Westfall and Young 1993, Romano and Wolf
//! 2005). So the smallest p-value is 2/2ⁿ, however many questions there are.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::statistics::{ALPHA, normal, quantile};

/// Below so many blocks no difference can be called, as the smallest p-value, 2/2ⁿ, is not below
/// [`ALPHA`].
pub(crate) const BLOCKS_NEEDED: u32 = 6;

/// Most patterns of signs that are counted: all there are up to 13 blocks, as mirror images are
/// left out. With more blocks so many are drawn, but the one seen counts as one of them, which
/// keeps the p-value valid (Phipson and Smyth 2010).
const PATTERNS_MAX: usize = 1 << 12;
/// Studies that are drawn to see from where on a difference is called.
const STUDIES: usize = 100;
/// Most patterns in each of those.
const PATTERNS_DRAWN_MAX: usize = 1 << 8;
/// Above so many blocks a study like this one has much the same noise, and none is drawn.
const BLOCKS_DRAWN_MAX: usize = 30;
/// Figures that differ by less than this share are ties: the rest is rounding.
const ROUNDING: f64 = 1e-9;

/// Log ratios of one arm to another, by block.
pub(crate) type BlockRatios = BTreeMap<u32, f64>;

/// What the family says about one of its questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Judgement {
    /// The mean log ratio.
    pub(crate) mean: f64,
    /// Of this question alone.
    pub(crate) p_value: f64,
    /// With regard to the whole family.
    pub(crate) p_adjusted: f64,
    /// Lower end of the interval of the mean log ratio that holds for the whole family together.
    pub(crate) low: f64,
    /// Upper end of that interval.
    pub(crate) high: f64,
}

impl Judgement {
    /// Whether a difference is called.
    pub(crate) fn called(&self) -> bool {
        self.p_adjusted < ALPHA
    }

    /// Lets the interval agree with the test, which steps down and so sees a little more: where it
    /// calls a difference, the end towards 0 is at worst the stepwise test's; where it does not,
    /// the interval holds 0.
    fn agree(&mut self, stepwise: (f64, f64)) {
        if !self.called() {
            self.low = self.low.min(0.0);
            self.high = self.high.max(0.0);
        } else if self.mean > 0.0 && self.low <= 0.0 {
            self.low = stepwise.0;
        } else if self.mean < 0.0 && self.high >= 0.0 {
            self.high = stepwise.1;
        }
    }
}

/// One question.
#[derive(Debug, Clone)]
struct Question {
    /// The log ratios of the blocks, 0 where a block has none.
    ratios: Vec<f64>,
    /// Which of the family's sets of blocks it has.
    presence: usize,
    blocks: f64,
    sum: f64,
    squares: f64,
    mean: f64,
    /// Sum of squares around the mean; 0 where that is rounding.
    centred_squares: f64,
    standard_error: f64,
}

impl Question {
    fn new(ratios: Vec<f64>, presence: usize, blocks: f64) -> Self {
        let sum: f64 = ratios.iter().sum();
        let squares: f64 = ratios.iter().map(|x| x * x).sum();
        let mean = sum / blocks;
        let around = squares - sum * mean;
        let centred_squares = if around > ROUNDING * squares { around } else { 0.0 };
        let standard_error = (centred_squares / (blocks - 1.0) / blocks).sqrt();
        Self { ratios, presence, blocks, sum, squares, mean, centred_squares, standard_error }
    }

    /// t² of log ratios with that sum and that sum of squares, which no flip changes.
    fn t_squared(&self, sum: f64, squares: f64) -> f64 {
        if squares <= 0.0 {
            return 0.0;
        }
        // Log ratios that are all the same have no spread; so large a t beats every other.
        let share = (sum * sum / (self.blocks * squares)).min(1.0 - ROUNDING);
        (self.blocks - 1.0) * share / (1.0 - share)
    }

    /// How far a pattern lets the true mean lie below and above the mean seen: beyond that, the
    /// flipped log ratios, less the true mean, have a smaller |t| than those seen. `count` is the
    /// number of blocks kept less that of blocks flipped.
    fn reach(&self, sum: f64, count: f64) -> (f64, f64) {
        let kept = f64::midpoint(self.blocks, count);
        let flipped = self.blocks - kept;
        if kept < 0.5 || flipped < 0.5 {
            return (f64::NEG_INFINITY, f64::INFINITY);
        }
        let kept_mean = f64::midpoint(self.sum, sum) / kept;
        let flipped_mean = (self.sum - sum) / 2.0 / flipped;
        (kept_mean.min(flipped_mean), kept_mean.max(flipped_mean))
    }
}

/// Questions that are judged together.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    blocks: usize,
    questions: Vec<Question>,
    /// Each set of blocks that a question has: 1 for a block that is there, else 0.
    presences: Vec<Vec<f64>>,
    patterns_max: usize,
}

impl Family {
    /// The family of these questions; each must have two blocks at least.
    pub(crate) fn new(ratios: &[BlockRatios]) -> Self {
        let mut blocks: Vec<u32> = ratios.iter().flat_map(BTreeMap::keys).copied().collect();
        blocks.sort_unstable();
        blocks.dedup();
        let mut presences: Vec<Vec<f64>> = Vec::new();
        let mut questions = Vec::new();
        for ratios in ratios {
            let found = blocks.iter().map(|block| ratios.get(block).copied());
            let presence: Vec<f64> =
                found.clone().map(|ratio| f64::from(u8::from(ratio.is_some()))).collect();
            let at = presences.iter().position(|known| *known == presence).unwrap_or_else(|| {
                presences.push(presence);
                presences.len() - 1
            });
            let numbers = found.map(Option::unwrap_or_default).collect();
            questions.push(Question::new(numbers, at, ratios.len() as f64));
        }
        Self { blocks: blocks.len(), questions, presences, patterns_max: PATTERNS_MAX }
    }

    /// Judges every question; in the order in which they were given.
    pub(crate) fn judgements(&self) -> Vec<Judgement> {
        let count = self.questions.len();
        let seen: Vec<f64> = self.questions.iter().map(|q| q.t_squared(q.sum, q.squares)).collect();
        let mut falling: Vec<usize> = (0..count).collect();
        falling.sort_by(|a, b| seen[*b].total_cmp(&seen[*a]));
        let (mut alone, mut adjusted) = (vec![0_u32; count], vec![0_u32; count]);
        let mut family_ends = vec![self.ends(); count];
        let mut stepwise_ends = family_ends.clone();
        let (mut plain, mut centred) = (vec![0.0; count], vec![0.0; count]);
        self.for_each_pattern(|pattern, sums, counts| {
            for (at, (question, sum)) in self.questions.iter().zip(sums).enumerate() {
                plain[at] = question.t_squared(*sum, question.squares);
                let sum = sum - question.mean * counts[question.presence];
                centred[at] = question.t_squared(sum, question.centred_squares);
            }
            let largest = Largest::of(&centred);
            // The largest of the questions that come later: those are still open.
            let mut later = 0.0_f64;
            for &at in falling.iter().rev() {
                if pattern > 0 {
                    let question = &self.questions[at];
                    let reach = question.reach(sums[at], counts[question.presence]);
                    family_ends[at].push(question, reach, largest.without(at));
                    stepwise_ends[at].push(question, reach, later);
                }
                later = later.max(plain[at]);
                let enough = seen[at] * (1.0 - ROUNDING);
                alone[at] += u32::from(plain[at] >= enough);
                adjusted[at] += u32::from(later >= enough);
            }
        });
        let share = |reaching: u32| f64::from(reaching) / self.patterns() as f64;
        let mut running = 0.0_f64;
        let mut judgements: Vec<Option<Judgement>> = vec![None; count];
        for at in falling {
            running = running.max(share(adjusted[at]));
            let (low, high) = family_ends[at].ends();
            let (mean, p_value) = (self.questions[at].mean, share(alone[at]));
            let mut judgement = Judgement { mean, p_value, p_adjusted: running, low, high };
            judgement.agree(stepwise_ends[at].ends());
            judgements[at] = Some(judgement);
        }
        judgements.into_iter().flatten().collect()
    }

    /// The mean log ratio from which on each of the questions would be called, in [`STUDIES`] studies
    /// like this one: the same noise, the same differences called, and this mean anything.
    ///
    /// The noise is drawn from a normal distribution with the covariances of the questions' log
    /// ratios, as if these were known; [`Self::degrees`] tells how well they are.
    pub(crate) fn thresholds(&self, judgements: &[Judgement], asked: &[usize]) -> Vec<Vec<f64>> {
        if self.blocks > BLOCKS_DRAWN_MAX {
            let ends = self.open_ends(judgements, asked);
            let own = asked.iter().zip(ends).map(|(&at, (low, _))| {
                let question = &self.questions[at];
                let share = |study: usize| (study as f64 + 0.5) / STUDIES as f64;
                let errors = (0..STUDIES).filter_map(|study| quantile(share(study), usize::MAX));
                errors.map(|error| question.mean - low + error * question.standard_error).collect()
            });
            return own.collect();
        }
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut thresholds = vec![Vec::with_capacity(STUDIES); asked.len()];
        for _ in 0..STUDIES {
            let ends = self.noise(&mut rng).open_ends(judgements, asked);
            for (own, (low, _)) in thresholds.iter_mut().zip(ends) {
                own.push(-low);
            }
        }
        thresholds
    }

    /// Degrees of freedom of the mean variance of some questions: (n − 1) (tr C)² / tr C², by
    /// Satterthwaite's matching of moments, C being the covariances of their log ratios. Between
    /// n − 1 for one question and so many times as much for questions that have nothing in common.
    pub(crate) fn degrees(&self, asked: &[usize]) -> f64 {
        let residuals: Vec<Vec<f64>> =
            asked.iter().map(|&at| self.residuals(&self.questions[at])).collect();
        let product =
            |one: &[f64], other: &[f64]| -> f64 { one.iter().zip(other).map(|(a, b)| a * b).sum() };
        let trace: f64 = residuals.iter().map(|own| product(own, own)).sum();
        let each =
            residuals.iter().flat_map(|one| residuals.iter().map(move |two| product(one, two)));
        let squares: f64 = each.map(|covariance| covariance * covariance).sum();
        let degrees = (self.blocks - 1) as f64;
        if squares > 0.0 { degrees * trace * trace / squares } else { degrees }
    }

    /// The log ratios less their mean, 0 where a block has none.
    fn residuals(&self, question: &Question) -> Vec<f64> {
        let here = question.ratios.iter().zip(&self.presences[question.presence]);
        here.map(|(ratio, here)| ratio - question.mean * here).collect()
    }

    /// How far the true means of some questions may lie from the means seen, beside all questions
    /// that are not called: what is called is out before the others are judged.
    fn open_ends(&self, judgements: &[Judgement], asked: &[usize]) -> Vec<(f64, f64)> {
        let mut ends = vec![self.ends(); asked.len()];
        let mut open = vec![0.0; self.questions.len()];
        self.for_each_pattern(|pattern, sums, counts| {
            if pattern == 0 {
                return;
            }
            for (at, (question, judgement)) in self.questions.iter().zip(judgements).enumerate() {
                if !judgement.called() {
                    open[at] = question.t_squared(sums[at], question.squares);
                }
            }
            let largest = Largest::of(&open);
            for (ends, &at) in ends.iter_mut().zip(asked) {
                let question = &self.questions[at];
                let reach = question.reach(sums[at], counts[question.presence]);
                ends.push(question, reach, largest.without(at));
            }
        });
        ends.iter_mut().map(Ends::ends).collect()
    }

    /// A study of the same noise, and no difference.
    fn noise(&self, rng: &mut ChaCha8Rng) -> Self {
        let weights: Vec<Vec<f64>> =
            (0..self.blocks).map(|_| (0..self.blocks).map(|_| normal(rng)).collect()).collect();
        let questions = self.questions.iter().map(|question| {
            let residuals = self.residuals(question);
            let scale = 1.0 / (question.blocks - 1.0).sqrt();
            let ratios = weights.iter().zip(&self.presences[question.presence]);
            let ratios = ratios.map(|(weights, here)| {
                let sum: f64 = weights.iter().zip(&residuals).map(|(w, r)| w * r).sum();
                here * scale * sum
            });
            Question::new(ratios.collect(), question.presence, question.blocks)
        });
        Self {
            blocks: self.blocks,
            questions: questions.collect(),
            presences: self.presences.clone(),
            patterns_max: PATTERNS_DRAWN_MAX,
        }
    }

    /// Calls `f` with the number of every pattern, the questions' sums of flipped log ratios, and
    /// for every set of blocks how many more are kept than flipped. The pattern seen comes first. A
    /// pattern's mirror image gives the same |t| and is left out.
    fn for_each_pattern(&self, mut f: impl FnMut(usize, &[f64], &[f64])) {
        let columns: Vec<&[f64]> = self
            .questions
            .iter()
            .map(|q| &*q.ratios)
            .chain(self.presences.iter().map(|p| &**p))
            .collect();
        let tables: Vec<Vec<Vec<f64>>> = (0..self.blocks)
            .step_by(CHUNK)
            .map(|start| chunk_sums(&columns, start, (start + CHUNK).min(self.blocks)))
            .collect();
        let all = self.patterns() == self.patterns_of_all();
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut sums = vec![0.0; columns.len()];
        for pattern in 0..self.patterns() {
            sums.fill(0.0);
            for (at, table) in tables.iter().enumerate() {
                let flips = match pattern {
                    0 => 0,
                    // The last block keeps its sign.
                    _ if all => pattern >> (at * CHUNK),
                    _ => rng.random::<u8>().into(),
                };
                for (sum, own) in sums.iter_mut().zip(&table[flips % table.len()]) {
                    *sum += own;
                }
            }
            let (sums, counts) = sums.split_at(self.questions.len());
            f(pattern, sums, counts);
        }
    }

    /// Patterns that are counted.
    fn patterns(&self) -> usize {
        self.patterns_of_all().min(self.patterns_max)
    }

    /// Patterns that there are, as far as they can all be counted.
    fn patterns_of_all(&self) -> usize {
        1 << self.blocks.saturating_sub(1).min(2 * CHUNK - 1)
    }

    fn ends(&self) -> Ends {
        // So many patterns, the one seen among them, make up a p-value of ALPHA.
        let patterns = self.patterns();
        let reaching = (1..patterns).find(|count| *count as f64 >= ALPHA * patterns as f64);
        Ends { lows: Vec::new(), highs: Vec::new(), reaching: reaching.unwrap_or(patterns) - 1 }
    }
}

/// Blocks whose sums are made for every pattern at once.
const CHUNK: usize = 7;

/// For every pattern of flips of some blocks, the sum of every column's numbers there.
fn chunk_sums(columns: &[&[f64]], start: usize, end: usize) -> Vec<Vec<f64>> {
    let unflipped = columns.iter().map(|column| column[start..end].iter().sum()).collect();
    let mut sums: Vec<Vec<f64>> = vec![unflipped];
    for pattern in 1..1_usize << (end - start) {
        // One flip more than in a pattern that came before.
        let block = start + pattern.trailing_zeros() as usize;
        let fewer = sums[pattern & (pattern - 1)].iter().zip(columns);
        sums.push(fewer.map(|(sum, column)| sum - 2.0 * column[block]).collect());
    }
    sums
}

/// The largest and the second largest of some numbers.
struct Largest {
    at: usize,
    first: f64,
    second: f64,
}

impl Largest {
    fn of(numbers: &[f64]) -> Self {
        let mut largest = Self { at: 0, first: 0.0, second: 0.0 };
        for (at, &number) in numbers.iter().enumerate() {
            if number > largest.first {
                largest = Self { at, first: number, second: largest.first };
            } else if number > largest.second {
                largest.second = number;
            }
        }
        largest
    }

    /// The largest without that one.
    fn without(&self, at: usize) -> f64 {
        if at == self.at { self.second } else { self.first }
    }
}

/// How far each pattern lets a question's true mean lie from the mean seen.
#[derive(Debug, Clone)]
struct Ends {
    lows: Vec<f64>,
    highs: Vec<f64>,
    /// So many patterns beside the one seen must reach as far for a p-value of [`ALPHA`] or more.
    reaching: usize,
}

impl Ends {
    /// A true mean is within a pattern's reach while the pattern gives an |t| as large as the one
    /// seen, be it this question's own or another's, whose largest t² is given.
    fn push(&mut self, question: &Question, own: (f64, f64), others_t_squared: f64) {
        let others = others_t_squared.sqrt() * question.standard_error;
        self.lows.push(own.0.min(question.mean - others));
        self.highs.push(own.1.max(question.mean + others));
        if self.lows.len() >= 4 * self.reaching.max(16) {
            self.keep_farthest();
        }
    }

    fn keep_farthest(&mut self) {
        if (1..self.lows.len()).contains(&self.reaching) {
            self.lows.select_nth_unstable_by(self.reaching - 1, f64::total_cmp);
            self.highs.select_nth_unstable_by(self.reaching - 1, |a, b| b.total_cmp(a));
            self.lows.truncate(self.reaching);
            self.highs.truncate(self.reaching);
        }
    }

    /// The ends of what is within the reach of enough patterns.
    fn ends(&mut self) -> (f64, f64) {
        self.keep_farthest();
        if self.reaching == 0 || self.lows.len() < self.reaching {
            return (f64::NEG_INFINITY, f64::INFINITY);
        }
        let low = self.lows.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let high = self.highs.iter().copied().fold(f64::INFINITY, f64::min);
        (low, high)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ratios(numbers: &[f64]) -> BlockRatios {
        (1..).zip(numbers.iter().copied()).collect()
    }

    fn p_value(numbers: &[f64]) -> f64 {
        Family::new(&[ratios(numbers)]).judgements()[0].p_value
    }

    /// Step-down max-T as its definition reads, with every pattern and its mirror image.
    fn by_definition(family: &[Vec<f64>]) -> Vec<f64> {
        let t = |numbers: &[f64]| {
            let n = numbers.len() as f64;
            let mean = numbers.iter().sum::<f64>() / n;
            let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
            (mean / (squares / (n - 1.0) / n).sqrt()).abs()
        };
        let seen: Vec<f64> = family.iter().map(|numbers| t(numbers)).collect();
        let blocks = family[0].len();
        let mut falling: Vec<usize> = (0..family.len()).collect();
        falling.sort_by(|a, b| seen[*b].total_cmp(&seen[*a]));
        let mut adjusted = vec![0.0; family.len()];
        let mut running = 0.0_f64;
        for (rank, &at) in falling.iter().enumerate() {
            let reaching = (0..1_u32 << blocks).filter(|pattern| {
                let flipped = |numbers: &[f64]| -> Vec<f64> {
                    let sign = |bit: usize| if pattern >> bit & 1 == 1 { -1.0 } else { 1.0 };
                    numbers.iter().enumerate().map(|(bit, x)| sign(bit) * x).collect()
                };
                let largest = falling[rank..].iter().map(|&q| t(&flipped(&family[q])));
                largest.fold(0.0, f64::max) >= seen[at] * (1.0 - 1e-9)
            });
            running = running.max(reaching.count() as f64 / f64::from(1_u32 << blocks));
            adjusted[at] = running;
        }
        adjusted
    }

    /// Fisher's example, Darwin's maize (section 21), without its two smallest differences, 6 and 8:
    /// the share is that of plain enumeration of whole numbers.
    #[test]
    fn differences_of_darwins_maize() {
        let maize = [49, -67, 16, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48];
        let seen: i32 = maize.iter().sum();
        let reaching = (0..1_u32 << 13).filter(|pattern| {
            let sign = |bit: usize| if pattern >> bit & 1 == 1 { -1 } else { 1 };
            let sum: i32 = maize.iter().enumerate().map(|(bit, x)| sign(bit) * x).sum();
            sum.abs() >= seen
        });
        let want = reaching.count() as f64 / 8192.0;
        assert!((p_value(&maize.map(f64::from)) - want).abs() < 1e-12);
    }

    /// Fisher counted 863 of 32,768 patterns; 15 blocks are drawn here.
    #[test]
    fn more_blocks_than_can_be_counted_are_drawn() {
        let maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48].map(f64::from);
        let p = p_value(&maize);
        assert!((p - 2.0 * 863.0 / 32_768.0).abs() < 0.011, "{p}");
        assert_eq!(p_value(&[0.1; 200]), 1.0 / 4096.0);
    }

    #[test]
    fn the_smallest_p_value_halves_with_each_block_and_has_no_price() {
        for blocks in 2..=13 {
            let smallest = 2.0 / 2f64.powi(i32::try_from(blocks).unwrap());
            for questions in [1, 30] {
                let family = vec![ratios(&vec![0.1; blocks]); questions];
                for judgement in Family::new(&family).judgements() {
                    assert_eq!((judgement.p_value, judgement.p_adjusted), (smallest, smallest));
                }
            }
            assert_eq!(smallest < ALPHA, blocks >= BLOCKS_NEEDED as usize);
        }
    }

    #[test]
    fn no_difference_is_no_evidence() {
        let nothing = Family::new(&[ratios(&[0.0; 8])]).judgements()[0];
        assert_eq!((nothing.p_value, nothing.low, nothing.high), (1.0, 0.0, 0.0));
        assert_eq!(p_value(&[0.2, -0.2]), 1.0);
        assert_eq!(Family::new(&[]).judgements(), []);
    }

    #[test]
    fn a_block_may_be_missing_for_some() {
        let mut first = ratios(&[0.1, 0.12, 0.09, 0.11, 0.1, 0.13, 0.1, 0.08]);
        first.remove(&3);
        let second = ratios(&[0.01, -0.02, 0.03, -0.01, 0.02, -0.03, 0.01, -0.01]);
        let judgements = Family::new(&[first, second]).judgements();
        // Seven blocks: of the 128 patterns of all eight two leave its own as they were.
        assert_eq!(judgements[0].p_value, 2.0 / 128.0);
        assert!(judgements[0].called() && !judgements[1].called());
    }

    #[test]
    fn the_interval_of_one_question_is_the_tests_inverse() {
        let numbers = [0.3, -0.1, 0.25, 0.4, 0.05, 0.33, 0.2];
        let judgement = Family::new(&[ratios(&numbers)]).judgements()[0];
        let p_at = |mean: f64| p_value(&numbers.map(|x| x - mean));
        let step = 1e-6;
        assert!(p_at(judgement.low - step) < ALPHA && p_at(judgement.low + step) >= ALPHA);
        assert!(p_at(judgement.high + step) < ALPHA && p_at(judgement.high - step) >= ALPHA);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn agrees_with_the_definition(
            family in (4..8usize).prop_flat_map(|blocks| {
                prop::collection::vec(prop::collection::vec(-0.5..1.0f64, blocks), 1..5)
            })
        ) {
            let ratios: Vec<BlockRatios> = family.iter().map(|numbers| ratios(numbers)).collect();
            let adjusted = by_definition(&family);
            for (judgement, want) in Family::new(&ratios).judgements().iter().zip(adjusted) {
                prop_assert!((judgement.p_adjusted - want).abs() < 1e-12, "{judgement:?}, {want}");
                prop_assert!(judgement.p_value <= judgement.p_adjusted);
                prop_assert!(judgement.low <= judgement.mean && judgement.mean <= judgement.high);
            }
        }

        #[test]
        fn order_and_direction_do_not_matter(
            (numbers, shuffled) in prop::collection::vec(-1.0..1.0f64, 6..10)
                .prop_flat_map(|d| (Just(d.clone()), Just(d).prop_shuffle()))
        ) {
            let judge = |numbers: &[f64]| Family::new(&[ratios(numbers)]).judgements()[0];
            let (one, other) = (judge(&numbers), judge(&shuffled));
            prop_assert_eq!(one.p_value, other.p_value);
            prop_assert!((one.low - other.low).abs() < 1e-9 && (one.high - other.high).abs() < 1e-9);
            let turned = judge(&numbers.iter().map(|x| -x).collect::<Vec<_>>());
            prop_assert_eq!(one.p_value, turned.p_value);
            prop_assert!((one.low + turned.high).abs() < 1e-9);
        }
    }
}
