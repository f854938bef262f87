//! Which fetcher gets how many URLs, and which ones.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use fanout_proto::{
    id::{FetcherId, UrlId},
    limits::{BATCH_MAX_URLS, CREDIT_MAX_URLS},
};

use super::{
    RunPhase, Trial,
    event::Command,
    fetcher::{Fetcher, FetcherLife},
};
use crate::{
    ledger::{RETRY_BATCH_MAX, Split},
    politeness::{HostName, LOOK_AHEAD_URLS},
};

/// A fetcher may hold as many URLs as it does in this time, beyond twice its
/// concurrency, so that a slow way to it never starves it.
const CREDIT_WINDOW: Duration = Duration::from_millis(200);

impl Trial {
    /// A fetcher was lost. Unless it is surely `gone`, its requests may be under
    /// way for the timeout, and those that waited within it for another.
    pub(super) fn hosts_lose(&mut self, id: FetcherId, gone: bool) {
        if let Some(hosts) = &mut self.hosts {
            let until = match (gone, hosts.may_queue) {
                (true, _) => self.now,
                (false, false) => self.now + self.plan.timeout,
                (false, true) => self.now + 2 * self.plan.timeout,
            };
            hosts.politeness.lose(self.now, id, until);
        }
    }

    pub(super) fn found_hosts(&mut self, found: Vec<(UrlId, HostName)>) {
        if let Some(hosts) = &mut self.hosts {
            hosts.looking = false;
            for (url, name) in found {
                hosts.politeness.add(self.now, url, name);
            }
        }
        self.top_up_by_host();
    }

    /// Leases what the limits per host allow, if there are any. Free slots come
    /// first; only where no moment is to be kept may URLs wait within a fetcher.
    pub(super) fn top_up_by_host(&mut self) {
        if self.hosts.is_none() || self.phase != RunPhase::Running {
            return;
        }
        let mut leases = BTreeMap::new();
        let slots = u64::from(self.plan.concurrency);
        let held = self.lease_by_host(slots, &mut leases);
        let Some(hosts) = &mut self.hosts else { return };
        match hosts.held_since {
            None if held => hosts.held_since = Some(self.now),
            Some(since) if !held && !hosts.looking => {
                hosts.held += self.now.saturating_sub(since);
                hosts.held_since = None;
            }
            _ => {}
        }
        if hosts.may_queue && !held {
            self.lease_by_host(2 * slots, &mut leases);
        }
        let most = match self.ledger.recovering() {
            0 => BATCH_MAX_URLS,
            _ => RETRY_BATCH_MAX,
        };
        for (id, mut urls) in leases {
            let Some(worker) = self.worker_of(id) else {
                continue;
            };
            urls.sort_unstable();
            let batches = urls.chunks(most).map(<[_]>::to_vec);
            self.commands.extend(batches.map(|batch| Command::Lease(worker, id, batch)));
        }
    }

    /// Adds leases until every fetcher holds `credit` URLs or no host may be asked. The fetchers
    /// take turns, and hosts too. Says whether hosts were lacking.
    fn lease_by_host(&mut self, credit: u64, leases: &mut BTreeMap<FetcherId, Vec<UrlId>>) -> bool {
        let mut free = self.free_fetchers(credit);
        let Some(hosts) = &mut self.hosts else {
            return false;
        };
        hosts.politeness.advance(self.now);
        while let Some(id) = free.front().copied() {
            if let Some(url) = hosts.politeness.next(self.now, id) {
                self.ledger.lease_reserved(id, url);
                leases.entry(id).or_default().push(url);
                hosts.turn = FetcherId(id.0.saturating_add(1));
                free.rotate_left(1);
                let Some(fetcher) = self.fetchers.get_mut(&id) else {
                    continue;
                };
                fetcher.hold(self.now, 1);
                if fetcher.outstanding >= credit {
                    free.pop_back();
                }
                continue;
            }
            // Nothing may be asked of the hosts that are known: look further ahead.
            if hosts.looking {
                return false;
            }
            if !hosts.politeness.has_room() {
                return true;
            }
            let ids = self.ledger.reserve(LOOK_AHEAD_URLS);
            if ids.is_empty() {
                return hosts.politeness.waiting().hosts > 0;
            }
            let unknown = hosts.politeness.welcome(self.now, ids);
            if !unknown.is_empty() {
                hosts.looking = true;
                self.commands.push(Command::LookUp(unknown));
            }
        }
        false
    }

    /// Fetchers that hold less than `credit` URLs, beginning with the one whose turn it is.
    fn free_fetchers(&mut self, credit: u64) -> VecDeque<FetcherId> {
        if self.stop_at.is_some() {
            return VecDeque::new();
        }
        let turn = self.hosts.as_ref().map_or(FetcherId(0), |hosts| hosts.turn);
        let mut free: VecDeque<_> = self
            .fetchers
            .range(turn..)
            .chain(self.fetchers.range(..turn))
            .filter(|(_, f)| f.life == FetcherLife::Running)
            .filter(|(_, f)| f.outstanding < credit || f.quarantined)
            .map(|(id, _)| *id)
            .collect();
        let quarantine = self.fetchers.values().any(|f| f.quarantined);
        if quarantine || self.ledger.has_suspects() {
            free.retain(|id| !self.top_up_quarantined(*id));
            let holds = |id: &FetcherId| self.fetchers.get(id).map_or(0, |f| f.outstanding);
            free.retain(|id| holds(id) < credit);
        }
        free
    }

    pub(super) fn top_up_all(&mut self) {
        if self.hosts.is_some() {
            return self.top_up_by_host();
        }
        // Also those that wait at the barrier: nothing would ask for them later.
        let able = |f: &Fetcher| matches!(f.life, FetcherLife::Ready | FetcherLife::Running);
        let able: Vec<_> =
            self.fetchers.iter().filter(|(_, f)| able(f)).map(|(id, _)| *id).collect();
        for id in able {
            self.top_up(id);
        }
    }

    /// Leases a fetcher what it may have beyond what it holds.
    pub(super) fn top_up(&mut self, id: FetcherId) {
        if self.hosts.is_some() {
            return self.top_up_by_host();
        }
        if self.stop_at.is_some() {
            return;
        }
        let quarantined = |f: &Fetcher| f.quarantined;
        let suspects =
            self.ledger.has_suspects() || self.fetchers.get(&id).is_some_and(quarantined);
        if suspects && self.top_up_quarantined(id) {
            return;
        }
        let Some(fetcher) = self.fetchers.get(&id) else {
            return;
        };
        let target = self.target(fetcher);
        let missing = target.saturating_sub(fetcher.outstanding);
        // A message costs as much as a hundred URLs in it, so they go together while there is
        // credit to spare. Below twice the concurrency there is none: every slot may end at once
        // and find too little. And the rest of the list is one message whenever it goes.
        let waits = fetcher.outstanding >= self.double()
            && missing < target / 4
            && missing < self.ledger.pending();
        if missing == 0 || waits {
            return;
        }
        let mut missing = usize::try_from(missing).unwrap_or(usize::MAX);
        let (worker, shard) = (fetcher.worker, fetcher.shard);
        while missing > 0 {
            let ids = self.ledger.lease(id, shard, missing.min(BATCH_MAX_URLS));
            if ids.is_empty() {
                return;
            }
            missing -= ids.len();
            let fetcher = self.fetchers.get_mut(&id).expect("it was just there");
            fetcher.hold(self.now, ids.len());
            self.commands.push(Command::Lease(worker, id, ids));
        }
    }

    /// One fetcher at a time tries suspects one by one, while it holds nothing else, so that one
    /// poisonous URL abandons only itself. Says whether this fetcher is the one.
    fn top_up_quarantined(&mut self, id: FetcherId) -> bool {
        let another =
            self.fetchers.iter().any(|(other, f)| *other != id && f.quarantined && f.is_live());
        let suspects = self.ledger.has_suspects();
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return false;
        };
        fetcher.quarantined = !another && (suspects || fetcher.outstanding > 0);
        if !fetcher.quarantined {
            return false;
        }
        let clear = fetcher.outstanding == 0;
        let may = |url| {
            let hosts = self.hosts.as_mut();
            hosts.is_none_or(|hosts| hosts.politeness.lease_this(self.now, url, id))
        };
        if clear
            && self.ledger.suspect().is_some_and(may)
            && let Some(url) = self.ledger.lease_suspect(id)
        {
            fetcher.hold(self.now, 1);
            let lease = Command::Lease(fetcher.worker, id, vec![url]);
            self.commands.push(lease);
        }
        true
    }

    /// One URL in every slot, and one that waits for it.
    fn double(&self) -> u64 {
        2 * u64::from(self.plan.concurrency)
    }

    /// How many URLs a fetcher may hold: enough that it never waits for more, and near the list's
    /// end no more than its share, so that none is left with a long tail while others idle.
    fn target(&self, fetcher: &Fetcher) -> u64 {
        let double = self.double();
        let window = fetcher.rate_per_s * CREDIT_WINDOW.as_secs_f64();
        let window = if window.is_finite() { window } else { 0.0 };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the credit limit"
        )]
        let window = window.clamp(0.0, f64::from(CREDIT_MAX_URLS)) as u64;
        let credit = (double + window).min(self.plan.credit_max.into()).min(CREDIT_MAX_URLS.into());
        // A fetcher that shares the list with no other may hold all of it.
        if self.plan.split == Split::Static || self.plan.placement.len() == 1 {
            return credit;
        }
        let live = self.fetchers.values().filter(|f| f.is_live()).count() as u64;
        let remaining = self.ledger.remaining();
        let guided = (remaining / (4 * live.max(1))).max(double);
        let share = remaining.div_ceil(live.max(1));
        credit.min(guided).min(share).max(1)
    }
}
