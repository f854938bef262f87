//! A set of URL ids, one bit each.

use fanout_proto::id::UrlId;

/// Ids below a total that is known when the set is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdSet {
    total: u64,
    words: Vec<u64>,
    len: u64,
}

impl IdSet {
    /// An empty set of ids below `total`.
    pub fn new(total: u64) -> Self {
        let words = usize::try_from(total.div_ceil(64)).unwrap_or(usize::MAX);
        Self { total, words: vec![0; words], len: 0 }
    }

    /// Ids that can be in it.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Ids that are in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all are.
    pub fn is_full(&self) -> bool {
        self.len == self.total
    }

    fn place(&self, id: UrlId) -> Option<(usize, u64)> {
        let word = usize::try_from(id.0 / 64).ok()?;
        (id.0 < self.total).then_some((word, 1 << (id.0 % 64)))
    }

    /// Whether it holds `id`.
    pub fn contains(&self, id: UrlId) -> bool {
        self.place(id).is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// Adds `id`; says whether it is new and within the total.
    pub fn insert(&mut self, id: UrlId) -> bool {
        let Some((word, bit)) = self.place(id) else {
            return false;
        };
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += u64::from(new);
        new
    }

    /// The first id from `from` on that is not in it, if there is one below `end`.
    pub(crate) fn first_absent(&self, from: u64, end: u64) -> Option<u64> {
        let end = end.min(self.total);
        let mut id = from;
        while id < end {
            let word = usize::try_from(id / 64).ok()?;
            let absent = !self.words[word] >> (id % 64);
            if absent != 0 {
                let found = id + u64::from(absent.trailing_zeros());
                return (found < end).then_some(found);
            }
            id = (id / 64 + 1) * 64;
        }
        None
    }

    /// How many ids of a range are not in it.
    pub(crate) fn absent_in(&self, range: &std::ops::Range<u64>) -> u64 {
        if self.is_empty() {
            return range.end.saturating_sub(range.start);
        }
        let (mut id, mut absent) = (range.start, 0);
        while id < range.end {
            let end = ((id / 64 + 1) * 64).min(range.end);
            let word = usize::try_from(id / 64)
                .ok()
                .and_then(|word| self.words.get(word))
                .copied()
                .unwrap_or_default();
            let mask = u64::MAX >> (64 - (end - id)) << (id % 64);
            absent += u64::from((!word & mask).count_ones());
            id = end;
        }
        absent
    }

    /// The bits, lowest id first; what [`IdSet::from_bytes`] reads.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        let length = usize::try_from(self.total.div_ceil(8)).unwrap_or(usize::MAX);
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        bytes.take(length)
    }

    /// A set of ids below `total` of its bits; `None` if the bytes are too few or
    /// too many, or hold an id beyond the total.
    pub fn from_bytes<E>(
        total: u64,
        bytes: impl IntoIterator<Item = Result<u8, E>>,
    ) -> Result<Option<Self>, E> {
        let mut set = Self::new(total);
        let mut bytes = bytes.into_iter();
        let mut left = total.div_ceil(8);
        for word in &mut set.words {
            for shift in (0..64).step_by(8) {
                if left == 0 {
                    break;
                }
                let Some(byte) = bytes.next().transpose()? else {
                    return Ok(None);
                };
                *word |= u64::from(byte) << shift;
                left -= 1;
            }
        }
        let spare = set.words.len() as u64 * 64 - total;
        let beyond = |last: &u64| spare > 0 && last >> (64 - spare) != 0;
        if bytes.next().transpose()?.is_some() || set.words.last().is_some_and(beyond) {
            return Ok(None);
        }
        set.len = set.words.iter().map(|w| u64::from(w.count_ones())).sum();
        Ok(Some(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, convert::Infallible};

    fn read(total: u64, bytes: &[u8]) -> Option<IdSet> {
        let Ok(set) = IdSet::from_bytes(total, bytes.iter().copied().map(Ok::<_, Infallible>));
        set
    }

    proptest! {
        #[test]
        fn it_is_a_set(total in 0_u64..300, ids in prop::collection::vec(0_u64..310, 0..200), from in 0_u64..300, len in 0_u64..200) {
            let mut set = IdSet::new(total);
            let mut model = BTreeSet::new();
            for id in ids {
                prop_assert_eq!(set.insert(UrlId(id)), id < total && model.insert(id));
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert!((0..310).all(|id| set.contains(UrlId(id)) == model.contains(&id)));
            let range = from.min(total)..(from + len).min(total).max(from.min(total));
            let absent: Vec<_> = range.clone().filter(|id| !model.contains(id)).collect();
            prop_assert_eq!(set.first_absent(range.start, range.end), absent.first().copied());
            prop_assert_eq!(set.absent_in(&range), absent.len() as u64);
            let bytes: Vec<u8> = set.bytes().collect();
            prop_assert_eq!(read(total, &bytes), Some(set));
        }
    }

    #[test]
    fn bytes_of_another_length_or_with_ids_beyond_are_no_set() {
        let read = |total, bytes: &[u8]| read(total, bytes).is_some();
        assert!(read(9, &[255, 1]));
        assert!(!read(9, &[255, 2]));
        assert!(!read(9, &[255]));
        assert!(!read(9, &[255, 1, 0]));
        assert!(read(0, &[]));
    }
}
