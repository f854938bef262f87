//! What a fetcher counts of its own doings.

use std::sync::atomic::{AtomicU64, Ordering};

use fanout_proto::report::FetcherCounts;

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) type Counters = FetcherCounts<Counter>;
