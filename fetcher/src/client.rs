//! HTTP stacks, as the models see them: a URL goes in, what became of it comes
//! out. A model does not know which one it runs.

use std::{future::Future, time::Instant};

use crate::work_queue::Fetched;

/// A client that waits by blocking its thread.
pub(crate) trait BlockingClient {
    fn fetch(&mut self, url: &[u8], start: Instant) -> Fetched;
}

/// A client that waits by suspending its task.
pub(crate) trait AsyncClient {
    fn fetch(&mut self, url: &[u8], start: Instant) -> impl Future<Output = Fetched> + Send;
}
