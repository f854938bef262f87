//! A run on this machine: its processes, its signals, what it stands on.

pub(crate) mod environment;
mod processes;
pub(crate) mod signals;
