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
//! pending + leased + done = total at any moment, and a URL is done once. URLs
//! that were done before, by an earlier run, are done from the beginning.

use std::{collections::VecDeque, ops::Range};

use fanout_proto::{
    completion::Outcome,
    id::{FetcherId, UrlId},
};
use rustc_hash::FxHashMap;

use crate::id_set::IdSet;

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
    /// Done by an earlier run.
    pub before: u64,
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
    /// Answers after which the URL went back to pending, to be asked for again.
    pub asked_again: u64,
}

impl Counts {
    /// URLs that are done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.before + self.completed + self.failed + self.abandoned
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

/// URLs that were never leased, and those done before between them.
#[derive(Debug, Clone, Default)]
struct Stretch {
    range: Range<u64>,
    pending: u64,
}

impl Stretch {
    fn new(range: Range<u64>, done: &IdSet) -> Self {
        Self {
            pending: done.absent_in(&range),
            range,
        }
    }

    /// Takes the first `max` that are pending.
    fn take(&mut self, max: usize, done: &IdSet) -> Vec<UrlId> {
        let count = usize::try_from(self.pending).map_or(max, |pending| max.min(pending));
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count
            && let Some(id) = done.first_absent(self.range.start, self.range.end)
        {
            ids.push(UrlId(id));
            self.range.start = id + 1;
        }
        self.pending -= ids.len() as u64;
        ids
    }
}

/// The account of one trial.
#[derive(Debug)]
pub struct Ledger {
    total: u64,
    /// Never leased, by shard; a fetcher's own.
    shards: Vec<Stretch>,
    /// Never leased, anybody's.
    common: VecDeque<Stretch>,
    /// Lost once.
    again: VecDeque<UrlId>,
    /// Lost twice: these are suspected of killing fetchers.
    alone: VecDeque<UrlId>,
    /// Pending, and singled out to be leased by name; with the leases lost.
    aside: FxHashMap<UrlId, u8>,
    leased: FxHashMap<UrlId, Lease>,
    /// Lost at least once, and not done.
    recovering: u64,
    done: IdSet,
    counts: Counts,
}

impl Ledger {
    /// All `total` URLs are pending; `shards` fetchers share them under [`Split::Static`].
    #[must_use]
    pub fn new(total: u64, split: Split, shards: u32) -> Self {
        Self::resumed(IdSet::new(total), split, shards)
    }

    /// As [`Ledger::new`], but the URLs in `done` were done before.
    #[must_use]
    pub fn resumed(done: IdSet, split: Split, shards: u32) -> Self {
        let total = done.total();
        let n = u64::from(shards.max(1));
        let edge = |i: u64| {
            let part = u128::from(total) * u128::from(i) / u128::from(n);
            u64::try_from(part).unwrap_or(total)
        };
        let stretch = |range| Stretch::new(range, &done);
        let (shards, common) = match split {
            Split::Dynamic => (Vec::new(), std::iter::once(stretch(0..total)).collect()),
            Split::Static => (
                (0..n).map(|i| stretch(edge(i)..edge(i + 1))).collect(),
                VecDeque::new(),
            ),
        };
        Self {
            total,
            shards,
            common,
            again: VecDeque::new(),
            alone: VecDeque::new(),
            aside: FxHashMap::default(),
            leased: FxHashMap::default(),
            recovering: 0,
            counts: Counts {
                before: done.len(),
                ..Counts::default()
            },
            done,
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
            .map(|stretch| stretch.pending)
            .sum();
        fresh + (self.again.len() + self.alone.len() + self.aside.len()) as u64
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
        let own = self.shard(shard).map_or(0, |stretch| stretch.pending);
        let common: u64 = self.common.iter().map(|stretch| stretch.pending).sum();
        own + common + self.again.len() as u64
    }

    /// Whether URLs wait that must be leased alone.
    #[must_use]
    pub fn has_suspects(&self) -> bool {
        !self.alone.is_empty()
    }

    fn shard(&self, shard: Option<u32>) -> Option<&Stretch> {
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
        let ids = self.fresh(shard, max);
        self.leased.reserve(ids.len());
        for id in &ids {
            self.leased.insert(*id, Lease { fetcher, losses: 0 });
        }
        ids
    }

    /// Singles out at most `max` pending URLs of nobody's shard, in the order in
    /// which [`Self::lease`] would have leased them: they are leased by
    /// [`Self::lease_aside`] from here on.
    pub fn set_aside(&mut self, max: usize) -> Vec<UrlId> {
        if !self.again.is_empty() {
            let count = max.min(self.again.len());
            let mut ids: Vec<_> = self.again.drain(..count).collect();
            ids.sort_unstable();
            self.aside.extend(ids.iter().map(|id| (*id, 1)));
            return ids;
        }
        let ids = self.fresh(None, max);
        self.aside.extend(ids.iter().map(|id| (*id, 0)));
        ids
    }

    /// Leases a URL that was set aside.
    pub fn lease_aside(&mut self, fetcher: FetcherId, id: UrlId) {
        if let Some(losses) = self.aside.remove(&id) {
            self.leased.insert(id, Lease { fetcher, losses });
        }
    }

    /// Sets a URL aside again after an answer that does not count.
    pub fn put_back(&mut self, fetcher: FetcherId, id: UrlId) -> Booked {
        match self.leased.get(&id) {
            Some(lease) if lease.fetcher == fetcher => {
                let losses = lease.losses;
                self.leased.remove(&id);
                self.aside.insert(id, losses);
                self.counts.asked_again += 1;
                Booked::Counted {
                    attempt: losses + 1,
                }
            }
            _ => self.not_leased(id),
        }
    }

    fn not_leased(&mut self, id: UrlId) -> Booked {
        if self.done.contains(id) {
            self.counts.duplicates_ignored += 1;
            Booked::Duplicate
        } else {
            Booked::NotHeld
        }
    }

    /// The next never-leased URLs.
    fn fresh(&mut self, shard: Option<u32>, max: usize) -> Vec<UrlId> {
        let own = shard
            .and_then(|s| usize::try_from(s).ok())
            .and_then(|s| self.shards.get_mut(s))
            .filter(|stretch| stretch.pending > 0);
        let Some(stretch) = own.or_else(|| self.common.front_mut()) else {
            return Vec::new();
        };
        let ids = stretch.take(max, &self.done);
        while self.common.front().is_some_and(|first| first.pending == 0) {
            self.common.pop_front();
        }
        ids
    }

    /// The URL that [`Self::lease_suspect`] would lease.
    #[must_use]
    pub fn suspect(&self) -> Option<UrlId> {
        self.alone.front().copied()
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
            _ => self.not_leased(id),
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
        if let Some(stretch) = range
            && stretch.pending > 0
        {
            self.common.push_back(std::mem::take(stretch));
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
        self.done.contains(id)
    }

    fn mark_done(&mut self, id: UrlId) {
        let new = self.done.insert(id);
        debug_assert!(new, "a URL is done once");
    }

    /// Ids that are not done, in order; for what an interrupted run says.
    pub fn not_done(&self) -> impl Iterator<Item = UrlId> + '_ {
        (0..self.total)
            .map(UrlId)
            .filter(|id| !self.done.contains(*id))
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
        Aside(usize),
        LeaseAside(u32, prop::sample::Index),
        PutBack(u32, u64),
        Complete(u32, u64),
        Lose(u32),
        Release(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u32..4, 1_usize..40).prop_map(|(f, n)| Step::Lease(f, n)),
            (0_u32..4).prop_map(Step::Suspect),
            (1_usize..40).prop_map(Step::Aside),
            (0_u32..4, any::<prop::sample::Index>()).prop_map(|(f, i)| Step::LeaseAside(f, i)),
            (0_u32..4, 0_u64..220).prop_map(|(f, id)| Step::PutBack(f, id)),
            (0_u32..4, 0_u64..220).prop_map(|(f, id)| Step::Complete(f, id)),
            (0_u32..4, 0_u64..220).prop_map(|(f, id)| Step::Complete(f, id)),
            (0_u32..4).prop_map(Step::Lose),
            (0_u32..4).prop_map(Step::Release),
        ]
    }

    proptest! {
        #[test]
        fn the_account_is_exact_under_any_steps(total in 0_u64..200, fixed in any::<bool>(), before in prop::collection::btree_set(0_u64..200, 0..100), steps in prop::collection::vec(step(), 0..200)) {
            let split = if fixed { Split::Static } else { Split::Dynamic };
            let mut earlier = IdSet::new(total);
            // A model as plain as can be: who holds what, and what is done.
            let mut held: BTreeMap<u64, u32> = BTreeMap::new();
            let mut done: BTreeMap<u64, u32> = BTreeMap::new();
            let mut aside: Vec<UrlId> = Vec::new();
            let mut put_back = 0;
            for id in before.into_iter().filter(|id| *id < total) {
                earlier.insert(UrlId(id));
                done.insert(id, u32::MAX);
            }
            let mut ledger = Ledger::resumed(earlier, split, 4);
            for step in steps {
                match step {
                    Step::Aside(n) => for id in ledger.set_aside(n) {
                        prop_assert!(!held.contains_key(&id.0) && !done.contains_key(&id.0) && !aside.contains(&id));
                        aside.push(id);
                    },
                    Step::LeaseAside(f, pick) => if !aside.is_empty() {
                        let id = aside.swap_remove(pick.index(aside.len()));
                        ledger.lease_aside(FetcherId(f), id);
                        prop_assert_eq!(held.insert(id.0, f), None);
                    },
                    Step::PutBack(f, id) => {
                        let expected_held = held.get(&id) == Some(&f);
                        let booked = ledger.put_back(FetcherId(f), UrlId(id));
                        prop_assert_eq!(matches!(booked, Booked::Counted { .. }), expected_held);
                        if expected_held {
                            held.remove(&id);
                            aside.push(UrlId(id));
                            put_back += 1;
                        }
                    }
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
                prop_assert_eq!(ledger.counts().asked_again, put_back);
                prop_assert_eq!(ledger.counts().done(), done.len() as u64);
                prop_assert_eq!(ledger.pending() + ledger.leased() + ledger.counts().done(), total);
                prop_assert_eq!(ledger.not_done().count() as u64, ledger.remaining());
            }
        }
    }
}
