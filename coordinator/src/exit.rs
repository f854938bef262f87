//! Exit codes.

use std::{fmt::Display, process::ExitCode};

use fanout_proto::arm::ArmError;

/// How the coordinator ends; part of its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandExit {
    /// Everything asked for was done.
    Done = 0,
    /// Done, but too few valid trials for a comparison, an arm that fetched nothing, or URLs abandoned.
    Incomplete = 1,
    /// Bad usage or input; nothing was fetched.
    Usage = 2,
    /// No coordinator, too few workers, or all lost.
    NoFleet = 3,
    Interrupted = 130,
}

impl CommandExit {
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The meaning of an exit code; an unknown one stands for work that was not brought to its end.
    pub(crate) fn from_code(code: u8) -> Self {
        let known = [Self::Done, Self::Usage, Self::NoFleet, Self::Interrupted];
        known.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Incomplete)
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

impl From<ArmError> for Failure {
    fn from(error: ArmError) -> Self {
        Self::usage(error)
    }
}

impl Failure {
    pub(crate) fn new(exit: CommandExit, error: impl Display) -> Self {
        let message = error.to_string();
        Self { exit, message }
    }

    pub(crate) fn usage(error: impl Display) -> Self {
        Self::new(CommandExit::Usage, error)
    }

    pub(crate) fn no_fleet(error: impl Display) -> Self {
        Self::new(CommandExit::NoFleet, error)
    }

    pub(crate) fn interrupted(error: impl Display) -> Self {
        Self::new(CommandExit::Interrupted, error)
    }

    pub(crate) fn incomplete(error: impl Display) -> Self {
        Self::new(CommandExit::Incomplete, error)
    }
}
