//! Exit codes.

use std::{fmt::Display, process::ExitCode};

/// How the coordinator ends; part of its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandExit {
    /// Everything asked for was done.
    Done,
    /// Done, but too few valid trials for a comparison, an arm that fetched nothing, or URLs abandoned.
    Incomplete,
    /// Bad usage or input; nothing was fetched.
    Usage,
    /// No coordinator, too few workers, or all lost.
    NoFleet,
    /// Interrupted; what there is was saved.
    Interrupted,
}

impl CommandExit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Incomplete => 1,
            Self::Usage => 2,
            Self::NoFleet => 3,
            Self::Interrupted => 130,
        }
    }

    /// The meaning of an exit code; an unknown one stands for work that was not brought to its end.
    pub(crate) const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::NoFleet,
            130 => Self::Interrupted,
            _ => Self::Incomplete,
        }
    }
}

impl From<CommandExit> for ExitCode {
    fn from(exit: CommandExit) -> Self {
        Self::from(exit.code())
    }
}

/// An error together with the exit code that it leads to.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) exit: CommandExit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: CommandExit, error: impl Display) -> Self {
        let message = error.to_string();
        Self { exit, message }
    }

    /// Bad usage or input.
    pub(crate) fn usage(error: impl Display) -> Self {
        Self::new(CommandExit::Usage, error)
    }

    /// No fleet to run on.
    pub(crate) fn no_fleet(error: impl Display) -> Self {
        Self::new(CommandExit::NoFleet, error)
    }

    /// Stopped on request.
    pub(crate) fn interrupted(error: impl Display) -> Self {
        Self::new(CommandExit::Interrupted, error)
    }

    /// Started, but not brought to its end.
    pub(crate) fn incomplete(error: impl Display) -> Self {
        Self::new(CommandExit::Incomplete, error)
    }
}
