//! What the coordinator itself costs.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// This process's CPU time so far, if the system tells.
pub(crate) fn own_cpu() -> Option<Duration> {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()
}
