//! The command line: what can be typed, and how a command ends.

mod args;
pub mod exit;

pub use args::*;
