//! The worker: a daemon that dials the coordinator, and starts, feeds, measures
//! and reaps fetchers as it is told.
//!
//! ```text
//!            gRPC                       pipes
//!  coordinator ═══ session ─┬─ queue ──► supervise ══ fetcher 0
//!                    │      └─ queue ──► supervise ══ fetcher 1 …
//!                    ├─ trial    what follows from what (pure)
//!                    └─ measure  /proc, cgroup, rusage
//! ```
//!
//! Frames between coordinator and fetchers pass through undecoded. Everything
//! on the way is bounded: a full stream stops the reading from the fetchers,
//! and a fetcher's pipe that is full holds up no other.

mod access;
mod args;
mod backoff;
mod daemon;
mod fetchers;
#[cfg(fuzzing)]
pub mod fuzzing;
mod measure;
mod message;
mod session;
mod supervise;
pub mod trial;

pub use access::{AccessArgs, authority, identity, token};
pub use args::{UsageError, WorkerArgs};
pub use daemon::{DaemonEnd, WorkerError, run};
pub use fetchers::{NamedCommand, declared};
pub use measure::machine::host_name;
pub use session::{AttachError, SessionEnd, SessionSettings, attach};
pub use supervise::FetcherCommand;

/// Runs a fetcher if that is what this process was started for. To be asked first of all: a fetcher
/// holds nothing but the model under study.
#[must_use]
pub fn run_as_fetcher() -> Option<std::process::ExitCode> {
    let first = std::env::args_os().nth(1);
    (first? == "fetcher").then(fanout_fetcher::run)
}

/// The facts of this machine or container, as a worker's Hello gives them.
pub fn facts() -> fanout_proto::worker::WorkerFacts {
    let cgroups = measure::cgroup::Cgroups::find();
    measure::machine::facts(&cgroups, fanout_program::allowed_cpus())
}
