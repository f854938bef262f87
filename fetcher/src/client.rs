//! HTTP stacks, as the models see them: a URL goes in, what became of it comes
//! out. A model does not know which one it runs.

use std::{future::Future, time::Instant};

use crate::work_queue::Fetched;

/// A client that waits by blocking its thread.
pub(crate) trait BlockingClient {
    /// Fetches one URL that was taken up at `start`.
    fn fetch(&mut self, url: &[u8], start: Instant) -> Fetched;
}

/// A client that waits by suspending its task.
pub(crate) trait AsyncClient {
    /// Fetches one URL that was taken up at `start`.
    fn fetch(&mut self, url: &[u8], start: Instant) -> impl Future<Output = Fetched> + Send;
}
