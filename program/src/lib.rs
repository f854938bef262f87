//! What fanout's three programs share: the version that they say they are, how they log, and what
//! they ask of the machine.
//!
//! A crate of its own, as a fetcher links none of it, and as only what depends on this is built
//! again when the commit changes.

mod cpus;

use std::{
    io::{self, IsTerminal},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{Interest, unix::AsyncFd};
use tracing_subscriber::EnvFilter;

pub use cpus::{Pinned, allowed_cpus};

/// The version, with the commit that it was built from, if that is known.
pub const VERSION: &str = env!("FANOUT_VERSION");
/// The version, the target and the profile.
pub const LONG_VERSION: &str = env!("FANOUT_LONG_VERSION");
/// The target that it was built for.
pub const TARGET: &str = env!("FANOUT_TARGET");

/// Tells this machine from others, containers on it included: chosen at random when the kernel
/// started. Empty where it cannot be read.
#[must_use]
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Locks what is whole between any two statements, so that a panic elsewhere while it was held does
/// no harm.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the event loop watch a descriptor until it can be read.
#[allow(
    deprecated,
    reason = "the successor is unsafe to call, for types whose descriptor may change or close; what \
              is watched here owns the one it names"
)]
pub fn watch<T: Owning>(fd: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Owns a descriptor for as long as it lives.
pub trait Owning: AsRawFd {}
impl Owning for OwnedFd {}
impl Owning for Arc<OwnedFd> {}

/// How to log.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LogArgs {
    /// How logs on stderr look; RUST_LOG says how much there is
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// An object a line
    Json,
}

/// What stands before the message in a log line for people.
#[derive(Debug, Clone, Copy)]
pub enum LogPrefix {
    /// When, how grave, and where in the program.
    Full,
    /// When, and how grave.
    TimeAndLevel,
    /// How grave it is.
    Level,
}

/// Sets a program up: logs of `level` and above go to stderr, unless RUST_LOG says otherwise, and
/// rustls uses ring.
pub fn set_up(args: LogArgs, level: &str, prefix: LogPrefix) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match (args.log_format, prefix) {
        (LogFormat::Json, _) => log.json().init(),
        (LogFormat::Text, LogPrefix::Full) => log.init(),
        (LogFormat::Text, LogPrefix::TimeAndLevel) => log.with_target(false).init(),
        (LogFormat::Text, LogPrefix::Level) => log.with_target(false).without_time().init(),
    }
    let ring = rustls::crypto::ring::default_provider();
    if ring.install_default().is_err() {
        tracing::debug!("rustls has a default provider already");
    }
}

/// Raises the limit of open files as far as it goes: each connection takes one, and fetchers
/// inherit it.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised (ulimit -n)");
    }
}

#[cfg(test)]
#[path = "../build.rs"]
#[allow(dead_code, clippy::print_stdout)]
mod build;
