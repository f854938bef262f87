//! The command line: what can be typed, and how a command ends.

mod args;
pub(crate) mod exit;

pub(crate) use args::*;
