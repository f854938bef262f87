//! The ledger: the exact account of a trial's URLs.
//!
//! ```text
//!            lease                complete
//!  pending ────────► leased ─────────────────► done (completed | failed)
//!     ▲                │ lose, 1st and 2nd time
//!     └────────────────┤
//!                      └─ lose, 3rd time ────► done (abandoned)
//! ```
//!
//! pending + leased + done = total at any moment, and a URL is done once.

use std::{collections::VecDeque, ops::Range};

use fanout_proto::{
    completion::Outcome,
    id::{FetcherId, UrlId},
};
use rustc_hash::FxHashMap;

/// After this many lost leases a URL is given up.
pub const LOSSES_MAX: u8 = 3;
/// URLs of lost leases go out again in batches of at most this many.
pub const AGAIN_MAX: usize = 64;

/// How the never-leased URLs are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Whoever has credit gets the next ones.
    Dynamic,
    /// Every fetcher has a shard of its own.
    Static,
}

/// How many URLs stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Done with outcome `ok`.
    pub completed: u64,
    /// Done with another outcome.
    pub failed: u64,
    /// Done because three leases were lost.
    pub abandoned: u64,
    /// Leases that were lost and went back to pending.
    pub requeued: u64,
    /// Completions of URLs that were done already, or came from a lost fetcher.
    pub duplicates_ignored: u64,
}

impl Counts {
    /// URLs that are done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.completed + self.failed + self.abandoned
    }
}

/// What a completion meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Booked {
    /// It counts; this was the URL's attempt of that number, from 1.
    Counted {
        /// From 1; above 1 after lost leases.
        attempt: u8,
    },
    /// The URL was done already.
    Duplicate,
    /// This fetcher does not hold that URL.
    NotHeld,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    fetcher: FetcherId,
    losses: u8,
}

/// The account of one trial.
#[derive(Debug)]
pub struct Ledger {
    total: u64,
    /// Never leased, by shard; a fetcher's own.
    shards: Vec<Range<u64>>,
    /// Never leased, anybody's.
    common: VecDeque<Range<u64>>,
    /// Lost once.
    again: VecDeque<UrlId>,
    /// Lost twice: these are suspected of killing fetchers.
    alone: VecDeque<UrlId>,
    leased: FxHashMap<UrlId, Lease>,
    /// Lost at least once, and not done.
    recovering: u64,
    /// One bit a URL.
    done: Vec<u64>,
    counts: Counts,
}

impl Ledger {
    /// All `total` URLs are pending; `shards` fetchers share them under [`Split::Static`].
    #[must_use]
    pub fn new(total: u64, split: Split, shards: u32) -> Self {
        let words = usize::try_from(total.div_ceil(64)).unwrap_or(usize::MAX);
        let n = u64::from(shards.max(1));
        let edge = |i: u64| {
            let part = u128::from(total) * u128::from(i) / u128::from(n);
            u64::try_from(part).unwrap_or(total)
        };
        let (shards, common) = match split {
            Split::Dynamic => (Vec::new(), std::iter::once(0..total).collect()),
            Split::Static => (
                (0..n).map(|i| edge(i)..edge(i + 1)).collect(),
                VecDeque::new(),
            ),
        };
        Self {
            total,
            shards,
            common,
            again: VecDeque::new(),
            alone: VecDeque::new(),
            leased: FxHashMap::default(),
            recovering: 0,
            done: vec![0; words],
            counts: Counts::default(),
        }
    }

    /// URLs in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The account so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// URLs in nobody's hands that are not done.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let fresh: u64 = self
            .shards
            .iter()
            .chain(&self.common)
            .map(|range| range.end - range.start)
            .sum();
        fresh + (self.again.len() + self.alone.len()) as u64
    }

    /// URLs in some fetcher's hands.
    #[must_use]
    pub fn leased(&self) -> u64 {
        self.leased.len() as u64
    }

    /// URLs whose lease was lost and that are not done.
    #[must_use]
    pub fn recovering(&self) -> u64 {
        self.recovering
    }

    /// URLs that are not done.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.total - self.counts.done()
    }

    /// Pending URLs that fetcher number `shard` may get, suspects not counted.
    #[must_use]
    pub fn available(&self, shard: Option<u32>) -> u64 {
        let own = self.shard(shard).map_or(0, |range| range.end - range.start);
        let common: u64 = self.common.iter().map(|r| r.end - r.start).sum();
        own + common + self.again.len() as u64
    }

    /// Whether URLs wait that must be leased alone.
    #[must_use]
    pub fn has_suspects(&self) -> bool {
        !self.alone.is_empty()
    }

    fn shard(&self, shard: Option<u32>) -> Option<&Range<u64>> {
        self.shards.get(usize::try_from(shard?).ok()?)
    }

    /// Leases at most `max` URLs, in ascending order; those that were lost once
    /// first, and then only [`AGAIN_MAX`] of them.
    pub fn lease(&mut self, fetcher: FetcherId, shard: Option<u32>, max: usize) -> Vec<UrlId> {
        if !self.again.is_empty() {
            let count = max.min(AGAIN_MAX).min(self.again.len());
            let mut ids: Vec<_> = self.again.drain(..count).collect();
            ids.sort_unstable();
            for id in &ids {
                self.leased.insert(*id, Lease { fetcher, losses: 1 });
            }
            return ids;
        }
        let own = shard
            .and_then(|s| usize::try_from(s).ok())
            .and_then(|s| self.shards.get_mut(s))
            .filter(|range| !range.is_empty());
        let Some(range) = own.or_else(|| self.common.front_mut()) else {
            return Vec::new();
        };
        let start = range.start;
        let end = range.end.min(start.saturating_add(max as u64));
        range.start = end;
        while self.common.front().is_some_and(Range::is_empty) {
            self.common.pop_front();
        }
        let ids: Vec<_> = (start..end).map(UrlId).collect();
        self.leased.reserve(ids.len());
        for id in &ids {
            self.leased.insert(*id, Lease { fetcher, losses: 0 });
        }
        ids
    }

    /// Leases one URL that was lost twice, to a fetcher that holds nothing else.
    pub fn lease_suspect(&mut self, fetcher: FetcherId) -> Option<UrlId> {
        let id = self.alone.pop_front()?;
        self.leased.insert(id, Lease { fetcher, losses: 2 });
        Some(id)
    }

    /// Books a completion by the fetcher that holds the URL.
    pub fn complete(&mut self, fetcher: FetcherId, id: UrlId, outcome: Outcome) -> Booked {
        match self.leased.get(&id) {
            Some(lease) if lease.fetcher == fetcher => {
                let attempt = lease.losses + 1;
                self.recovering -= u64::from(lease.losses > 0);
                self.leased.remove(&id);
                self.mark_done(id);
                if outcome == Outcome::Ok {
                    self.counts.completed += 1;
                } else {
                    self.counts.failed += 1;
                }
                Booked::Counted { attempt }
            }
            _ if self.is_done(id) => {
                self.counts.duplicates_ignored += 1;
                Booked::Duplicate
            }
            _ => Booked::NotHeld,
        }
    }

    /// Counts completions that came from a fetcher after it was given up.
    pub fn ignore(&mut self, completions: u64) {
        self.counts.duplicates_ignored = self.counts.duplicates_ignored.saturating_add(completions);
    }

    /// Takes every lease of a lost fetcher back; the URLs given up for good are returned.
    pub fn lose(&mut self, fetcher: FetcherId) -> Vec<UrlId> {
        let mut lost: Vec<_> = self
            .leased
            .iter()
            .filter(|(_, lease)| lease.fetcher == fetcher)
            .map(|(id, lease)| (*id, lease.losses + 1))
            .collect();
        lost.sort_unstable();
        let mut abandoned = Vec::new();
        for (id, losses) in lost {
            self.leased.remove(&id);
            self.recovering += u64::from(losses == 1);
            if losses >= LOSSES_MAX {
                self.recovering -= 1;
                self.mark_done(id);
                self.counts.abandoned += 1;
                abandoned.push(id);
                continue;
            }
            self.counts.requeued += 1;
            if losses == 1 {
                self.again.push_back(id);
            } else {
                self.alone.push_back(id);
            }
        }
        abandoned
    }

    /// Opens a shard whose fetcher will not come back to everybody.
    pub fn release_shard(&mut self, shard: Option<u32>) {
        let range = shard
            .and_then(|s| usize::try_from(s).ok())
            .and_then(|s| self.shards.get_mut(s));
        if let Some(range) = range
            && !range.is_empty()
        {
            let whole = std::mem::replace(range, 0..0);
            self.common.push_back(whole);
        }
    }

    /// Whether `fetcher` holds the URL.
    #[must_use]
    pub fn is_held_by(&self, fetcher: FetcherId, id: UrlId) -> bool {
        self.leased
            .get(&id)
            .is_some_and(|lease| lease.fetcher == fetcher)
    }

    /// Whether the URL is done.
    #[must_use]
    pub fn is_done(&self, id: UrlId) -> bool {
        usize::try_from(id.0 / 64)
            .ok()
            .and_then(|word| self.done.get(word))
            .is_some_and(|word| word >> (id.0 % 64) & 1 == 1)
    }

    fn mark_done(&mut self, id: UrlId) {
        let word = usize::try_from(id.0 / 64).expect("the bits of every leased id are in memory");
        let bit = 1 << (id.0 % 64);
        debug_assert_eq!(self.done[word] & bit, 0, "a URL is done once");
        self.done[word] |= bit;
    }

    /// Ids that are not done, in order; for what an interrupted run says.
    pub fn not_done(&self) -> impl Iterator<Item = UrlId> + '_ {
        (0..self.total).map(UrlId).filter(|id| !self.is_done(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const A: FetcherId = FetcherId(0);
    const B: FetcherId = FetcherId(1);

    #[test]
    fn a_url_that_kills_is_given_up_after_three_losses() {
        let mut ledger = Ledger::new(2, Split::Dynamic, 1);
        assert_eq!(ledger.lease(A, None, 9), [UrlId(0), UrlId(1)]);
        assert!(ledger.lose(A).is_empty());
        assert_eq!(ledger.lease(B, None, 9), [UrlId(0), UrlId(1)]);
        assert_eq!(
            ledger.complete(B, UrlId(1), Outcome::Ok),
            Booked::Counted { attempt: 2 }
        );
        assert!(ledger.lose(B).is_empty());
        assert_eq!(ledger.recovering(), 1);
        assert!(ledger.lease(A, None, 9).is_empty());
        assert_eq!(ledger.lease_suspect(A), Some(UrlId(0)));
        assert_eq!(ledger.lose(A), [UrlId(0)]);
        assert_eq!(
            ledger.counts(),
            Counts {
                completed: 1,
                abandoned: 1,
                requeued: 3,
                ..Counts::default()
            }
        );
        assert_eq!((ledger.remaining(), ledger.recovering()), (0, 0));
    }

    #[test]
    fn a_completion_counts_once_and_only_from_who_holds_the_url() {
        let mut ledger = Ledger::new(3, Split::Dynamic, 1);
        ledger.lease(A, None, 2);
        assert_eq!(ledger.complete(B, UrlId(0), Outcome::Ok), Booked::NotHeld);
        assert_eq!(ledger.complete(A, UrlId(2), Outcome::Ok), Booked::NotHeld);
        assert_eq!(ledger.complete(A, UrlId(99), Outcome::Ok), Booked::NotHeld);
        assert_eq!(
            ledger.complete(A, UrlId(0), Outcome::Timeout),
            Booked::Counted { attempt: 1 }
        );
        assert_eq!(ledger.complete(A, UrlId(0), Outcome::Ok), Booked::Duplicate);
        assert_eq!(ledger.counts().failed, 1);
        assert_eq!(ledger.counts().duplicates_ignored, 1);
    }

    #[test]
    fn shards_cover_the_list_and_can_be_opened() {
        let mut ledger = Ledger::new(10, Split::Static, 3);
        assert_eq!(ledger.lease(A, Some(0), 9).len(), 3);
        assert!(ledger.lease(A, Some(0), 9).is_empty());
        assert_eq!(ledger.available(Some(1)), 3);
        ledger.release_shard(Some(2));
        assert_eq!(ledger.lease(A, Some(0), 9).len(), 4);
        assert_eq!(ledger.pending(), 3);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Lease(u32, usize),
        Suspect(u32),
        Complete(u32, u64),
        Lose(u32),
        Release(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u32..4, 1_usize..40).prop_map(|(f, n)| Step::Lease(f, n)),
            (0_u32..4).prop_map(Step::Suspect),
            (0_u32..4, 0_u64..220).prop_map(|(f, id)| Step::Complete(f, id)),
            (0_u32..4, 0_u64..220).prop_map(|(f, id)| Step::Complete(f, id)),
            (0_u32..4).prop_map(Step::Lose),
            (0_u32..4).prop_map(Step::Release),
        ]
    }

    proptest! {
        #[test]
        fn the_account_is_exact_under_any_steps(total in 0_u64..200, fixed in any::<bool>(), steps in prop::collection::vec(step(), 0..200)) {
            let split = if fixed { Split::Static } else { Split::Dynamic };
            let mut ledger = Ledger::new(total, split, 4);
            // A model as plain as can be: who holds what, and what is done.
            let mut held: BTreeMap<u64, u32> = BTreeMap::new();
            let mut done: BTreeMap<u64, u32> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Lease(f, n) => for id in ledger.lease(FetcherId(f), Some(f), n) {
                        prop_assert!(!done.contains_key(&id.0));
                        prop_assert_eq!(held.insert(id.0, f), None);
                    },
                    Step::Suspect(f) => if let Some(id) = ledger.lease_suspect(FetcherId(f)) {
                        prop_assert!(!done.contains_key(&id.0));
                        prop_assert_eq!(held.insert(id.0, f), None);
                    },
                    Step::Complete(f, id) => {
                        let expected_held = held.get(&id) == Some(&f);
                        match ledger.complete(FetcherId(f), UrlId(id), Outcome::Ok) {
                            Booked::Counted { .. } => {
                                prop_assert!(expected_held);
                                held.remove(&id);
                                prop_assert_eq!(done.insert(id, f), None);
                            }
                            Booked::Duplicate => prop_assert!(done.contains_key(&id)),
                            Booked::NotHeld => prop_assert!(!expected_held && !done.contains_key(&id)),
                        }
                    }
                    Step::Lose(f) => {
                        for id in ledger.lose(FetcherId(f)) {
                            prop_assert_eq!(done.insert(id.0, f), None);
                        }
                        held.retain(|_, holder| *holder != f);
                    }
                    Step::Release(f) => ledger.release_shard(Some(f)),
                }
                prop_assert_eq!(ledger.leased(), held.len() as u64);
                prop_assert_eq!(ledger.counts().done(), done.len() as u64);
                prop_assert_eq!(ledger.pending() + ledger.leased() + ledger.counts().done(), total);
                prop_assert_eq!(ledger.not_done().count() as u64, ledger.remaining());
            }
        }
    }
}
