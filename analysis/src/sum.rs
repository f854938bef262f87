//! Sums over fetchers, which are known only where every part is.

use fanout_proto::report::{FetcherExited, FetcherReport, HoldSnapshot, ResourceUsage};

/// What a sum is made of. Peers' numbers are theirs: a sum that would overflow
/// stays at the largest number.
pub trait Summand: Copy {
    /// The sum of both.
    #[must_use]
    fn plus(self, other: Self) -> Self;
}

impl Summand for u32 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Summand for u64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Summand for f64 {
    fn plus(self, other: Self) -> Self {
        self + other
    }
}

/// The sum, if every part is known and there is at least one.
pub fn sum<T: Summand>(parts: impl Iterator<Item = Option<T>>) -> Option<T> {
    let parts: Option<Vec<T>> = parts.collect();
    parts?.into_iter().reduce(T::plus)
}

/// What is known of a trial's fetchers after their end; `None` stands for one
/// that was never reaped.
#[derive(Debug, Clone, Copy)]
pub struct FetcherExits<'a>(pub &'a [Option<&'a FetcherExited>]);

impl FetcherExits<'_> {
    /// A counter of all fetchers, if every one reported.
    pub(crate) fn reported<T: Summand>(&self, of: fn(&FetcherReport) -> T) -> Option<T> {
        self.reported_if_known(|report| Some(of(report)))
    }

    /// A counter that not every fetcher has, if every one reported it.
    pub(crate) fn reported_if_known<T: Summand>(
        &self,
        of: impl Fn(&FetcherReport) -> Option<T>,
    ) -> Option<T> {
        sum(self.0.iter().map(|exited| of(exited.as_ref()?.report.as_ref()?)))
    }

    /// What all fetchers used, if every one was reaped.
    pub(crate) fn used<T: Summand>(&self, of: fn(&ResourceUsage) -> Option<T>) -> Option<T> {
        sum(self.0.iter().map(|exited| of(exited.as_ref()?.usage.as_ref()?)))
    }

    /// What all fetchers had at the hold, if it is known of every one.
    pub fn held<T: Summand>(&self, of: fn(&HoldSnapshot) -> Option<T>) -> Option<T> {
        sum(self.0.iter().map(|exited| of(&exited.as_ref()?.held)))
    }
}
