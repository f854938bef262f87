//! For tests only: a worker that does what a script says, and the messages that
//! workers and fetchers send.
//!
//! Everything here panics where a test should fail.

// Everything here is a test's.
#![allow(clippy::unwrap_used)]

pub mod message;
mod worker;

use std::{num::NonZeroU32, time::Duration};

use fanout_proto::{
    arm::{Client, Model},
    setup::{HttpSettings, Setup},
};

pub use worker::ScriptedWorker;

/// A setup for fetchers that fetch nothing.
#[must_use]
pub fn setup(concurrency: u32) -> Setup {
    Setup {
        model: Model::Async,
        concurrency: NonZeroU32::new(concurrency).unwrap(),
        client: Client::NULL,
        http: HttpSettings::default(),
        report_starts: false,
        cpu_work: Duration::ZERO,
        cpu_lock: false,
        pace: None,
        https: false,
    }
}
