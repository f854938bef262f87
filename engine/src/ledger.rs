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
/// URLs whose lease was lost once go out in batches of at most this many.
pub const RETRY_BATCH_MAX: usize = 64;

/// How the never-leased URLs are handed out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Split {
    /// The next ones go to any fetcher with credit.
    #[default]
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
    /// The answer does not count: the host was busy, and is asked again later.
    AskedAgain,
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
struct IdRange {
    range: Range<u64>,
    pending: u64,
}

impl IdRange {
    fn new(range: Range<u64>, done: &IdSet) -> Self {
        Self { pending: done.absent_in(&range), range }
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

/// The shard of this number, while any of it is pending.
fn pending_shard(shards: &mut [IdRange], shard: Option<u32>) -> Option<&mut IdRange> {
    let shard = shards.get_mut(usize::try_from(shard?).ok()?);
    shard.filter(|range| range.pending > 0)
}

/// The account of one trial.
#[derive(Debug, Default)]
pub struct Ledger {
    total: u64,
    /// Never leased, each for one fetcher.
    shards: Vec<IdRange>,
    /// Never leased, for any fetcher.
    common: VecDeque<IdRange>,
    /// Lost once.
    retries: VecDeque<UrlId>,
    /// Lost twice: these are suspected of killing fetchers.
    suspects: VecDeque<UrlId>,
    /// Pending, and reserved to be leased by name; with the leases lost.
    reserved: FxHashMap<UrlId, u8>,
    leased: FxHashMap<UrlId, Lease>,
    /// Lost at least once, and not done.
    recovering: u64,
    done: IdSet,
    counts: Counts,
}

impl Ledger {
    /// All URLs but those in `done`, which an earlier run has done, are pending;
    /// `shards` fetchers share them under [`Split::Static`].
    pub(crate) fn new(done: IdSet, split: Split, shards: u32) -> Self {
        let total = done.total();
        let n = u64::from(shards.max(1));
        let edge = |i: u64| {
            let part = u128::from(total) * u128::from(i) / u128::from(n);
            u64::try_from(part).unwrap_or(total)
        };
        let id_range = |range| IdRange::new(range, &done);
        let (shards, common) = match split {
            Split::Dynamic => (Vec::new(), std::iter::once(id_range(0..total)).collect()),
            Split::Static => {
                ((0..n).map(|i| id_range(edge(i)..edge(i + 1))).collect(), VecDeque::new())
            }
        };
        Self {
            total,
            shards,
            common,
            counts: Counts { before: done.len(), ..Counts::default() },
            done,
            ..Self::default()
        }
    }

    /// URLs in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The account so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// URLs that no fetcher holds and that are not done.
    pub fn pending(&self) -> u64 {
        let fresh: u64 = self.shards.iter().chain(&self.common).map(|range| range.pending).sum();
        fresh + (self.retries.len() + self.suspects.len() + self.reserved.len()) as u64
    }

    /// URLs that fetchers hold.
    pub fn leased(&self) -> u64 {
        self.leased.len() as u64
    }

    pub(crate) fn recovering(&self) -> u64 {
        self.recovering
    }

    /// URLs that are not done.
    pub fn remaining(&self) -> u64 {
        self.total - self.counts.done()
    }

    /// Whether URLs wait that must be leased alone.
    pub(crate) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Leases at most `max` URLs, in ascending order; those that were lost once
    /// first, and then only [`RETRY_BATCH_MAX`] of them.
    pub(crate) fn lease(
        &mut self,
        fetcher: FetcherId,
        shard: Option<u32>,
        max: usize,
    ) -> Vec<UrlId> {
        let retries = !self.retries.is_empty();
        let (losses, max) = match retries {
            true => (1, max.min(RETRY_BATCH_MAX)),
            false => (0, max),
        };
        let ids = self.take(shard, max);
        let leases = ids.iter().map(|id| (*id, Lease { fetcher, losses }));
        self.leased.extend(leases);
        ids
    }

    /// Reserves at most `max` pending URLs of no fetcher's shard, in the order in
    /// which [`Self::lease`] would have leased them: they are leased by
    /// [`Self::lease_reserved`] from here on.
    pub(crate) fn reserve(&mut self, max: usize) -> Vec<UrlId> {
        let losses = u8::from(!self.retries.is_empty());
        let ids = self.take(None, max);
        self.reserved.extend(ids.iter().map(|id| (*id, losses)));
        ids
    }

    /// Takes the next pending URLs: retries, while there are any.
    fn take(&mut self, shard: Option<u32>, max: usize) -> Vec<UrlId> {
        if self.retries.is_empty() {
            return self.never_leased(shard, max);
        }
        let count = max.min(self.retries.len());
        let mut ids: Vec<_> = self.retries.drain(..count).collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn lease_reserved(&mut self, fetcher: FetcherId, id: UrlId) {
        if let Some(losses) = self.reserved.remove(&id) {
            self.leased.insert(id, Lease { fetcher, losses });
        }
    }

    /// Reserves a leased URL again after an answer that does not count.
    pub(crate) fn put_back(&mut self, fetcher: FetcherId, id: UrlId) -> Booked {
        match self.give_back(fetcher, id) {
            Err(not_leased) => not_leased,
            Ok(losses) => {
                self.reserved.insert(id, losses);
                self.counts.asked_again += 1;
                Booked::AskedAgain
            }
        }
    }

    /// Ends a fetcher's lease; says how often the URL was lost, or why it cannot.
    fn give_back(&mut self, fetcher: FetcherId, id: UrlId) -> Result<u8, Booked> {
        match self.leased.get(&id) {
            Some(lease) if lease.fetcher == fetcher => {
                let losses = lease.losses;
                self.leased.remove(&id);
                Ok(losses)
            }
            _ if self.done.contains(id) => {
                self.counts.duplicates_ignored += 1;
                Err(Booked::Duplicate)
            }
            _ => Err(Booked::NotHeld),
        }
    }

    fn never_leased(&mut self, shard: Option<u32>, max: usize) -> Vec<UrlId> {
        let own = pending_shard(&mut self.shards, shard);
        let Some(range) = own.or_else(|| self.common.front_mut()) else {
            return Vec::new();
        };
        let ids = range.take(max, &self.done);
        while self.common.front().is_some_and(|first| first.pending == 0) {
            self.common.pop_front();
        }
        ids
    }

    /// The URL that [`Self::lease_suspect`] would lease.
    pub(crate) fn suspect(&self) -> Option<UrlId> {
        self.suspects.front().copied()
    }

    /// Leases one URL that was lost twice, to a fetcher that holds nothing else.
    pub(crate) fn lease_suspect(&mut self, fetcher: FetcherId) -> Option<UrlId> {
        let id = self.suspects.pop_front()?;
        self.leased.insert(id, Lease { fetcher, losses: 2 });
        Some(id)
    }

    /// Books a completion by the fetcher that holds the URL.
    pub(crate) fn complete(&mut self, fetcher: FetcherId, id: UrlId, outcome: Outcome) -> Booked {
        let losses = match self.give_back(fetcher, id) {
            Ok(losses) => losses,
            Err(not_leased) => return not_leased,
        };
        self.recovering -= u64::from(losses > 0);
        self.mark_done(id);
        match outcome {
            Outcome::Ok => self.counts.completed += 1,
            _ => self.counts.failed += 1,
        }
        Booked::Counted { attempt: losses + 1 }
    }

    /// Counts completions that came from a fetcher after it was given up.
    pub(crate) fn ignore(&mut self, completions: u64) {
        self.counts.duplicates_ignored = self.counts.duplicates_ignored.saturating_add(completions);
    }

    /// Takes every lease of a lost fetcher back; the URLs given up for good are returned.
    pub(crate) fn lose(&mut self, fetcher: FetcherId) -> Vec<UrlId> {
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
                self.retries.push_back(id);
            } else {
                self.suspects.push_back(id);
            }
        }
        abandoned
    }

    /// Gives a lost fetcher's shard to all fetchers.
    pub(crate) fn release_shard(&mut self, shard: Option<u32>) {
        if let Some(range) = pending_shard(&mut self.shards, shard) {
            self.common.push_back(std::mem::take(range));
        }
    }

    pub(crate) fn is_held_by(&self, fetcher: FetcherId, id: UrlId) -> bool {
        self.leased.get(&id).is_some_and(|lease| lease.fetcher == fetcher)
    }

    pub(crate) fn is_done(&self, id: UrlId) -> bool {
        self.done.contains(id)
    }

    fn mark_done(&mut self, id: UrlId) {
        let new = self.done.insert(id);
        debug_assert!(new, "a URL is done once");
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
        let mut ledger = Ledger::new(IdSet::new(2), Split::Dynamic, 1);
        assert_eq!(ledger.lease(A, None, 9), [UrlId(0), UrlId(1)]);
        assert!(ledger.lose(A).is_empty());
        assert_eq!(ledger.lease(B, None, 9), [UrlId(0), UrlId(1)]);
        assert_eq!(ledger.complete(B, UrlId(1), Outcome::Ok), Booked::Counted { attempt: 2 });
        assert!(ledger.lose(B).is_empty());
        assert_eq!(ledger.recovering(), 1);
        assert!(ledger.lease(A, None, 9).is_empty());
        assert_eq!(ledger.lease_suspect(A), Some(UrlId(0)));
        assert_eq!(ledger.lose(A), [UrlId(0)]);
        assert_eq!(
            ledger.counts(),
            Counts { completed: 1, abandoned: 1, requeued: 3, ..Counts::default() }
        );
        assert_eq!((ledger.remaining(), ledger.recovering()), (0, 0));
    }

    #[test]
    fn a_completion_counts_once_and_only_from_who_holds_the_url() {
        let mut ledger = Ledger::new(IdSet::new(3), Split::Dynamic, 1);
        ledger.lease(A, None, 2);
        assert_eq!(ledger.complete(B, UrlId(0), Outcome::Ok), Booked::NotHeld);
        assert_eq!(ledger.complete(A, UrlId(2), Outcome::Ok), Booked::NotHeld);
        assert_eq!(ledger.complete(A, UrlId(99), Outcome::Ok), Booked::NotHeld);
        assert_eq!(ledger.complete(A, UrlId(0), Outcome::Timeout), Booked::Counted { attempt: 1 });
        assert_eq!(ledger.complete(A, UrlId(0), Outcome::Ok), Booked::Duplicate);
        assert_eq!(ledger.counts().failed, 1);
        assert_eq!(ledger.counts().duplicates_ignored, 1);
    }

    #[test]
    fn shards_cover_the_list_and_can_be_opened() {
        let mut ledger = Ledger::new(IdSet::new(10), Split::Static, 3);
        assert_eq!(ledger.lease(A, Some(0), 9).len(), 3);
        assert!(ledger.lease(A, Some(0), 9).is_empty());
        assert_eq!(ledger.shards[1].pending, 3);
        ledger.release_shard(Some(2));
        assert_eq!(ledger.lease(A, Some(0), 9).len(), 4);
        assert_eq!(ledger.pending(), 3);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Lease(u32, usize),
        Suspect(u32),
        Reserve(usize),
        LeaseReserved(u32, prop::sample::Index),
        PutBack(u32, u64),
        Complete(u32, u64),
        Lose(u32),
        Release(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u32..4, 1_usize..40).prop_map(|(f, n)| Step::Lease(f, n)),
            (0_u32..4).prop_map(Step::Suspect),
            (1_usize..40).prop_map(Step::Reserve),
            (0_u32..4, any::<prop::sample::Index>()).prop_map(|(f, i)| Step::LeaseReserved(f, i)),
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
            let mut reserved: Vec<UrlId> = Vec::new();
            let mut put_back = 0;
            for id in before.into_iter().filter(|id| *id < total) {
                earlier.insert(UrlId(id));
                done.insert(id, u32::MAX);
            }
            let mut ledger = Ledger::new(earlier, split, 4);
            for step in steps {
                match step {
                    Step::Reserve(n) => for id in ledger.reserve(n) {
                        prop_assert!(!held.contains_key(&id.0) && !done.contains_key(&id.0) && !reserved.contains(&id));
                        reserved.push(id);
                    },
                    Step::LeaseReserved(f, pick) => if !reserved.is_empty() {
                        let id = reserved.swap_remove(pick.index(reserved.len()));
                        ledger.lease_reserved(FetcherId(f), id);
                        prop_assert_eq!(held.insert(id.0, f), None);
                    },
                    Step::PutBack(f, id) => {
                        let expected_held = held.get(&id) == Some(&f);
                        let booked = ledger.put_back(FetcherId(f), UrlId(id));
                        prop_assert_eq!(booked == Booked::AskedAgain, expected_held);
                        if expected_held {
                            held.remove(&id);
                            reserved.push(UrlId(id));
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
                            Booked::AskedAgain => prop_assert!(false, "a completion ends a URL"),
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
                prop_assert_eq!((0..total).filter(|id| !ledger.is_done(UrlId(*id))).count() as u64, ledger.remaining());
            }
        }
    }
}
