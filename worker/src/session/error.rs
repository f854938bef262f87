//! How sessions end.

use std::time::Duration;

use fanout_proto::{WireError, text::causes};
use tonic::{Code, Status};

/// From attaching to Welcome.
pub(super) const WELCOME_WITHIN: Duration = Duration::from_secs(10);

/// How a session ended on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// The coordinator said Goodbye, with this reason.
    Goodbye(String),
    /// This worker was told to stop.
    Stopped,
}

/// Why a session ended that should have gone on.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The coordinator answered Hello with Refused.
    #[error("the coordinator refuses this worker: {0}")]
    Refused(String),
    /// The coordinator asks for another token, or is none at all.
    #[error("the coordinator does not let this worker in: {0}")]
    Denied(String),
    /// No Welcome came in time.
    #[error("the coordinator did not answer Hello within {} s", WELCOME_WITHIN.as_secs())]
    NoWelcome,
    /// The stream ended without a Goodbye.
    #[error("the stream to the coordinator was cut: {0}")]
    Cut(String),
    /// No message, not even a heartbeat, came for this long.
    #[error("the coordinator has said nothing for {0:?}")]
    Silent(Duration),
    /// A message from the coordinator makes no sense.
    #[error("the coordinator said what makes no sense: {0}")]
    Protocol(#[from] WireError),
}

impl AttachError {
    pub(super) fn without_goodbye() -> Self {
        Self::Cut("it ended without a Goodbye".to_owned())
    }

    /// Whether another try would end the same way.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Denied(_))
    }
}

impl From<Status> for AttachError {
    fn from(status: Status) -> Self {
        let mut reason = status.message().to_owned();
        if reason.is_empty() {
            reason = status.code().description().to_owned();
        }
        if let Some(source) = std::error::Error::source(&status) {
            reason = format!("{reason}: {}", causes(source));
        }
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied(format!(
                "{reason}; give it the coordinator's token (--token-file or FANOUT_TOKEN)"
            )),
            Code::Unimplemented => Self::Denied(format!(
                "{reason}; is a fanout coordinator listening at this address?"
            )),
            _ => Self::Cut(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_end_the_same_way_again_is_final() {
        let of = |code| AttachError::from(Status::new(code, "why"));
        assert!(of(Code::Unauthenticated).is_final());
        assert!(of(Code::PermissionDenied).is_final());
        assert!(of(Code::Unimplemented).is_final());
        assert!(!of(Code::Unavailable).is_final());
        assert!(!of(Code::Internal).is_final());
        assert!(!of(Code::Unknown).is_final());
        assert!(AttachError::Refused(String::new()).is_final());
        assert!(!AttachError::NoWelcome.is_final());
    }

    #[test]
    fn a_status_without_a_message_still_says_something() {
        let error = AttachError::from(Status::new(Code::Unavailable, ""));
        assert_eq!(
            error.to_string(),
            "the stream to the coordinator was cut: The service is currently unavailable"
        );
    }
}
