//! Which workers run an arm's fetchers.

use std::num::NonZeroU32;

use fanout_proto::id::WorkerId;

use super::Fleet;

/// Spreads `processes` fetchers evenly over the workers that `may` take some, within their slots.
///
/// # Errors
///
/// [`AssignError`] when there are too few workers or slots.
pub fn assign(
    fleet: &Fleet,
    processes: u32,
    workers: Option<NonZeroU32>,
    may: impl Fn(WorkerId) -> bool,
) -> Result<Vec<WorkerId>, AssignError> {
    let slots: Vec<_> = fleet
        .workers()
        .iter()
        .filter(|(id, _)| may(**id))
        .map(|(id, worker)| (*id, worker.hello.slots))
        .collect();
    assign_to(&slots, processes, workers)
}

/// Fetchers that cannot be assigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// Fewer workers than the arm asks for.
    #[error(
        "the arm asks for {wanted} workers and {present} are attached; start more, or lower /{wanted}w"
    )]
    Workers {
        /// What the arm asks for.
        wanted: u32,
        /// What there is.
        present: usize,
    },
    /// Fewer slots than processes.
    #[error(
        "the arm has {wanted} processes and the workers have {slots} slots; start more workers, \
         or raise their --slots"
    )]
    Slots {
        /// Processes.
        wanted: u32,
        /// Slots of the workers that would take part.
        slots: u64,
    },
}

fn assign_to(
    slots: &[(WorkerId, u32)],
    processes: u32,
    workers: Option<NonZeroU32>,
) -> Result<Vec<WorkerId>, AssignError> {
    let mut free = slots.to_vec();
    if let Some(wanted) = workers {
        let count = usize::try_from(wanted.get()).unwrap_or(usize::MAX);
        if free.len() < count {
            return Err(AssignError::Workers { wanted: wanted.get(), present: free.len() });
        }
        // Those with the most slots, the earliest first.
        free.sort_by_key(|(id, slots)| (std::cmp::Reverse(*slots), *id));
        free.truncate(count);
        free.sort_unstable();
    }
    let total: u64 = free.iter().map(|(_, slots)| u64::from(*slots)).sum();
    if total < u64::from(processes) {
        return Err(AssignError::Slots { wanted: processes, slots: total });
    }
    let mut placement = Vec::new();
    while placement.len() < usize::try_from(processes).unwrap_or(usize::MAX) {
        for (id, slots) in &mut free {
            if *slots > 0 && placement.len() < usize::try_from(processes).unwrap_or(usize::MAX) {
                *slots -= 1;
                placement.push(*id);
            }
        }
    }
    Ok(placement)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(slots: &[u32], processes: u32, workers: u32) -> Result<Vec<u32>, AssignError> {
        let slots: Vec<_> = slots.iter().zip(1..).map(|(s, id)| (WorkerId(id), *s)).collect();
        assign_to(&slots, processes, NonZeroU32::new(workers))
            .map(|ids| ids.into_iter().map(|id| id.0).collect())
    }

    #[test]
    fn fetchers_are_spread_evenly_within_the_slots() {
        assert_eq!(assigned(&[64, 64], 4, 0).unwrap(), [1, 2, 1, 2]);
        assert_eq!(assigned(&[1, 64], 4, 0).unwrap(), [1, 2, 2, 2]);
        assert_eq!(assigned(&[64, 64, 64], 4, 1).unwrap(), [1, 1, 1, 1]);
        assert_eq!(assigned(&[2, 64, 64], 3, 2).unwrap(), [2, 3, 2]);
        assert!(matches!(assigned(&[2, 2], 5, 0), Err(AssignError::Slots { slots: 4, .. })));
        assert!(matches!(assigned(&[2, 2], 4, 3), Err(AssignError::Workers { present: 2, .. })));
    }
}
