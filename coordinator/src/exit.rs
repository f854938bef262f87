//! Exit codes.

use std::process::ExitCode;

/// How the coordinator ends; part of its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Done,
    /// Done, but too few valid trials for a comparison, or URLs abandoned.
    Incomplete,
    /// Bad usage or input; nothing was fetched.
    Usage,
    /// No coordinator, too few workers, or all lost.
    NoFleet,
    /// Interrupted; what there is was saved.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Incomplete => 1,
            Exit::Usage => 2,
            Exit::NoFleet => 3,
            Exit::Interrupted => 130,
        })
    }
}

/// An error together with the exit code that it leads to.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How to end.
    pub exit: Exit,
    message: String,
}

impl Failure {
    /// Bad usage or input.
    pub fn usage(error: impl std::fmt::Display) -> Self {
        Self {
            exit: Exit::Usage,
            message: error.to_string(),
        }
    }

    /// No fleet to run on.
    pub fn no_fleet(error: impl std::fmt::Display) -> Self {
        Self {
            exit: Exit::NoFleet,
            message: error.to_string(),
        }
    }

    /// Started, but not brought to its end.
    pub fn incomplete(error: impl std::fmt::Display) -> Self {
        Self {
            exit: Exit::Incomplete,
            message: error.to_string(),
        }
    }
}
