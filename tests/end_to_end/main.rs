//! fanout end to end: real processes on loopback.

// Everything here is a test, its helpers too.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod bounds;
mod clocks;
mod faults;
mod fetch;
mod fetchers;
mod fleet;
mod harness;
mod peers;
mod politeness;
mod proxy;
mod resume;
mod sessions;
mod storms;
mod study;
mod version;
