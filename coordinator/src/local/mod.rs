//! A run on this machine: its processes, its signals, what it stands on.

pub mod environment;
pub mod processes;
pub mod signals;
