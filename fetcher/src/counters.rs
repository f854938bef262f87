//! What a fetcher counts of its own doings.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// The counters of a fetcher; see [`fanout_proto::report::FetcherReport`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections_opened: Counter,
    pub(crate) requests_sent: Counter,
    pub(crate) redirects_followed: Counter,
    pub(crate) stale_retries: Counter,
    pub(crate) names_resolved: Counter,
}
