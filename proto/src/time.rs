//! Durations as the wire and the records carry them. One that does not fit becomes the largest number.

use std::time::Duration;

/// Whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Whole nanoseconds.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds as seconds.
pub fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}
