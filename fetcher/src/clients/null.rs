//! Completes without fetching: what remains is the machinery.

use std::time::{Duration, Instant};

use fanout_proto::completion::Outcome;

use crate::{
    client::{AsyncClient, BlockingClient},
    work_queue::Fetched,
};

/// The null client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Null;

impl Null {
    fn complete() -> Fetched {
        Fetched {
            outcome: Outcome::Ok,
            status: None,
            retry_after_s: None,
            body_bytes: 0,
            connect: Duration::ZERO,
            first_byte: None,
            end: Instant::now(),
            detail: None,
        }
    }
}

impl BlockingClient for Null {
    fn fetch(&mut self, _url: &[u8], _start: Instant) -> Fetched {
        Self::complete()
    }
}

impl AsyncClient for Null {
    async fn fetch(&mut self, _url: &[u8], _start: Instant) -> Fetched {
        Self::complete()
    }
}
