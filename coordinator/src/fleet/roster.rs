//! Which workers are attached, for pages and status while a run drives the fleet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use fanout_program::lock;
use fanout_proto::{control::WorkerStatus, declaration::NamedFetcher, id::WorkerId, worker::Hello};
use tokio::time::Instant;

/// The attached workers. Sessions write it; clones read the same one.
#[derive(Debug, Clone, Default)]
pub struct Roster(Arc<Mutex<BTreeMap<WorkerId, RosterEntry>>>);

#[derive(Debug)]
struct RosterEntry {
    hello: Hello,
    since: Instant,
    heard: Instant,
}

/// A session's place on the roster; it ends with this value.
#[derive(Debug)]
pub(super) struct RosterGuard {
    roster: Roster,
    id: WorkerId,
}

impl Roster {
    pub(super) fn enter(&self, id: WorkerId, hello: Hello) -> RosterGuard {
        let now = Instant::now();
        lock(&self.0).insert(id, RosterEntry { hello, since: now, heard: now });
        RosterGuard { roster: self.clone(), id }
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.0).len()
    }

    /// Fetchers of other makers that some of them have; one that several have counts once.
    pub fn fetchers(&self) -> Vec<NamedFetcher> {
        let mut fetchers: Vec<NamedFetcher> = Vec::new();
        for entry in lock(&self.0).values() {
            for fetcher in &entry.hello.fetchers {
                if !fetchers.iter().any(|known| known.name == fetcher.name) {
                    fetchers.push(fetcher.clone());
                }
            }
        }
        fetchers
    }

    /// Those that are there, in the order in which they came.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let entries = lock(&self.0);
        let each = entries.iter().map(|(id, entry)| WorkerStatus {
            id: *id,
            name: entry.hello.name.clone(),
            slots: entry.hello.slots,
            facts: entry.hello.facts.clone(),
            attached: entry.since.elapsed(),
            silent: entry.heard.elapsed(),
        });
        each.collect()
    }
}

impl RosterGuard {
    pub(super) fn heard(&self) {
        if let Some(entry) = lock(&self.roster.0).get_mut(&self.id) {
            entry.heard = Instant::now();
        }
    }
}

impl Drop for RosterGuard {
    fn drop(&mut self) {
        lock(&self.roster.0).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use fanout_proto::worker::WorkerFacts;

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_message() {
        let roster = Roster::default();
        let hello = Hello {
            name: "w".to_owned(),
            slots: 3,
            facts: WorkerFacts::default(),
            fetchers: Vec::new(),
        };
        let guard = roster.enter(WorkerId(4), hello);
        tokio::time::advance(Duration::from_secs(5)).await;
        guard.heard();
        tokio::time::advance(Duration::from_secs(2)).await;
        let workers = roster.workers();
        assert_eq!((workers[0].id, workers[0].slots), (WorkerId(4), 3));
        assert_eq!(workers[0].attached, Duration::from_secs(7));
        assert_eq!(workers[0].silent, Duration::from_secs(2));
        drop(guard);
        assert!(roster.workers().is_empty());
    }
}
