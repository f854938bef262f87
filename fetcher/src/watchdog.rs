//! Ends the fetcher if the worker is gone while its only thread waits.

use std::time::Duration;

use fanout_proto::arm::Model;

use crate::{exit_reason::ExitReason, pipes::is_hung_up};

/// Held by a blocking client whose thread is the only one. (A worker that dies takes its fetchers
/// with it; and a client that is a library waits as long as its own timeouts allow.)
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watchdog(());

impl Watchdog {
    /// Longest wait in one go; then comes a [`Self::check`].
    pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

    /// `None` where another thread watches.
    pub(crate) fn for_model(model: Model) -> Option<Self> {
        (model == Model::Sequential).then_some(Self(()))
    }

    pub(crate) fn check(self) {
        if is_hung_up() {
            ExitReason::InputEnded.exit();
        }
    }
}
