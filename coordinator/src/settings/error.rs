//! What is wrong with a flag, and what it takes instead.

use fanout_proto::arm::{Arm, ArmError};

use crate::{results::UnknownForm, settings::cpus};

/// A flag that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("{flag} {value}: {hint}")]
    Value { flag: &'static str, value: String, hint: String },
    #[error(transparent)]
    Arm(#[from] ArmError),
    #[error(transparent)]
    Placement(#[from] cpus::CpuPlacementError),
    #[error(transparent)]
    Form(#[from] UnknownForm),
    #[error("{flag} {path}: {error}")]
    File { flag: &'static str, path: String, error: std::io::Error },
    #[error(
        "arm '{arm}' may need {needed} open files in one process, and the hard limit is {limit}: lower \
         its concurrency, or raise the limit (ulimit -Hn {needed}, LimitNOFILE= or --ulimit nofile=)"
    )]
    Descriptors { arm: Arm, needed: u64, limit: u64 },
}
