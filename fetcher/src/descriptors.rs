//! How many file descriptors a fetcher needs, and what it does with more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit_reason::SetupError;

/// Standard streams, the loop's own descriptors, and what libraries open for a
/// moment while they set up.
const BASE: u64 = 32;
/// Connections that a slot of the core client keeps where descriptors abound,
/// the one in use included.
const KEPT_PER_SLOT_MAX: u64 = 4;

pub(crate) fn needed(slots: u32, connections_per_slot: u64) -> u64 {
    BASE + u64::from(slots) * connections_per_slot
}

/// Raises the soft limit to what so many slots can use, as far as the hard limit allows.
pub(crate) fn provide(needed: u64, slots: u32) -> Result<(), SetupError> {
    let useful = needed.max(BASE + u64::from(slots) * KEPT_PER_SLOT_MAX);
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if hard < needed {
        return Err(SetupError(format!(
            "{needed} file descriptors are needed, but {hard} is the hard limit here; lower the \
             concurrency or raise the limit (`ulimit -Hn`, LimitNOFILE=, --ulimit nofile=)"
        )));
    }
    if soft < useful {
        let raised = Rlimit { current: Some(useful.min(hard)), maximum: limit.maximum };
        // A refusal shows as failures with the outcome `resource` at worst.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    Ok(())
}

/// Connections that a slot of the core client may hold, the one in use
/// included, so that all slots together stay within the limit.
pub(crate) fn kept_per_slot(concurrency: u32) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    share(limit, concurrency)
}

fn share(limit: u64, concurrency: u32) -> usize {
    let share = limit.saturating_sub(BASE) / u64::from(concurrency.max(1));
    usize::try_from(share.clamp(1, KEPT_PER_SLOT_MAX)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_share_what_there_is() {
        assert_eq!(share(1024, 32), 4);
        assert_eq!(share(1024, 400), 2);
        assert_eq!(share(1024, 992), 1);
        assert_eq!(share(10, 992), 1);
    }
}
