//! The origin over real sockets, met by clients that look at every byte.

#![allow(
    clippy::unwrap_used,
    reason = "the whole crate is tests; the lint's exception covers test functions only"
)]

mod client;
mod command;
mod counters;
mod faults;
mod responses;
mod tls;
