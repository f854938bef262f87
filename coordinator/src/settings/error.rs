//! What is wrong with a flag, and what it takes instead.

use fanout_proto::arm::{Arm, ArmError};

use crate::{results::UnknownForm, settings::cpus};

/// A flag that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A value that is not what the flag takes.
    #[error("{flag} {value}: {hint}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        hint: String,
    },
    /// An arm.
    #[error(transparent)]
    Arm(#[from] ArmError),
    /// The processors.
    #[error(transparent)]
    Placement(#[from] cpus::CpuPlacementError),
    /// The results file.
    #[error(transparent)]
    Form(#[from] UnknownForm),
    /// A file that a flag names.
    #[error("{flag} {path}: {error}")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// More connections than the system allows.
    #[error(
        "arm '{arm}' may need {needed} open files in one process, and the hard limit is {limit}: lower \
         its concurrency, or raise the limit (ulimit -Hn {needed}, LimitNOFILE= or --ulimit nofile=)"
    )]
    Descriptors {
        /// The arm.
        arm: Arm,
        /// Descriptors needed.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
}
