//! What the coordinator itself costs.

use std::time::Duration;

/// This process's CPU time so far.
#[derive(Debug, Clone, Copy)]
pub struct SelfUsage(Option<Duration>);

impl SelfUsage {
    /// Reads it; what cannot be read stays unknown.
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self(Duration::try_from(time).ok())
    }

    /// CPU time spent since `earlier`.
    pub fn since(&self, earlier: &Self) -> Option<Duration> {
        Some(self.0?.saturating_sub(earlier.0?))
    }
}
