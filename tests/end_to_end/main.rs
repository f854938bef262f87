//! fanout end to end: real processes on loopback.

mod bad_input;
mod faults;
mod fetch;
mod harness;
mod study;
