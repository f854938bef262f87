//! Completes without fetching: what remains is the machinery.

use std::time::Instant;

use crate::{
    client::{AsyncClient, BlockingClient},
    work_queue::Fetched,
};

#[derive(Debug, Clone, Copy)]
pub(super) struct Null;

impl BlockingClient for Null {
    fn fetch(&mut self, _url: &[u8], _start: Instant) -> Fetched {
        Fetched::new(Ok(()), Instant::now())
    }
}

impl AsyncClient for Null {
    async fn fetch(&mut self, _url: &[u8], _start: Instant) -> Fetched {
        Fetched::new(Ok(()), Instant::now())
    }
}
