//! How the life of a fetcher ends.

use std::io;

use crate::instructions::InstructionError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExitReason {
    #[error("the worker closed the fetcher's input")]
    InputEnded,
    #[error("the worker no longer reads the fetcher's output: {0}")]
    OutputClosed(io::Error),
    /// The worker does not keep to the protocol.
    #[error(transparent)]
    InstructionReader(#[from] InstructionError),
    #[error("Hold came while URLs were still out")]
    EarlyHold,
    /// The model could not be set up; the worker was told why.
    #[error("{0}")]
    Setup(#[from] SetupError),
    #[error("the fetcher's {what} cannot be used: {error}; it expects two pipes")]
    Pipe { what: &'static str, error: io::Error },
}

impl ExitReason {
    /// Input or output cannot be used because of an error that is to come.
    pub(crate) fn pipe<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| {
            let error = error.into();
            Self::Pipe { what, error }
        }
    }

    /// The process's exit code, told apart in the worker's log.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Setup(_) => 10,
            Self::InputEnded => 11,
            Self::OutputClosed(_) => 12,
            Self::InstructionReader(_) | Self::EarlyHold => 13,
            Self::Pipe { .. } => 14,
        }
    }

    /// Says what happened and ends the process, from wherever it is.
    pub(crate) fn exit(&self) -> ! {
        self.report();
        std::process::exit(self.code().into())
    }

    pub(crate) fn report(&self) {
        eprintln!("fetcher: {self}");
    }
}

/// Why a model cannot run here, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SetupError(pub(crate) String);

impl SetupError {
    pub(crate) fn tls(error: &rustls::Error) -> Self {
        Self(format!("TLS cannot be set up: {error}"))
    }

    pub(crate) fn event_loop(error: &io::Error) -> Self {
        Self(format!("the event loop cannot be set up: {error}"))
    }

    pub(crate) fn client(name: &str, reason: &str) -> Self {
        Self(format!("the {name} client cannot be set up: {reason}"))
    }
}
