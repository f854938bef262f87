//! A run on this machine: its processes, its signals, what it stands on.

pub(crate) mod environment;
pub(crate) mod processes;
pub(crate) mod signals;
