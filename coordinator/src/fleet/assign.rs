//! Which workers run an arm's fetchers.

use std::num::NonZeroU32;

use fanout_proto::id::WorkerId;

use super::{Fleet, TooFewWorkers};

/// Spreads `processes` fetchers evenly over the workers that `may` take some, within their slots.
pub fn assign(
    fleet: &Fleet,
    processes: u32,
    workers: Option<NonZeroU32>,
    may: impl Fn(WorkerId) -> bool,
) -> Result<Vec<WorkerId>, TooFewWorkers> {
    let slots: Vec<_> = fleet
        .workers()
        .iter()
        .filter(|(id, _)| may(**id))
        .map(|(id, worker)| (*id, worker.hello.slots))
        .collect();
    assign_to(&slots, processes, workers)
}

fn assign_to(
    slots: &[(WorkerId, u32)],
    processes: u32,
    workers: Option<NonZeroU32>,
) -> Result<Vec<WorkerId>, TooFewWorkers> {
    let mut free = slots.to_vec();
    if let Some(wanted) = workers {
        let count = usize::try_from(wanted.get()).unwrap_or(usize::MAX);
        if free.len() < count {
            return Err(TooFewWorkers(format!(
                "the arm asks for {wanted} workers and {} are attached; start more, or lower /{wanted}w",
                free.len()
            )));
        }
        // Those with the most slots, the earliest first.
        free.sort_by_key(|(id, slots)| (std::cmp::Reverse(*slots), *id));
        free.truncate(count);
        free.sort_unstable();
    }
    let total: u64 = free.iter().map(|(_, slots)| u64::from(*slots)).sum();
    if total < u64::from(processes) {
        return Err(TooFewWorkers(format!(
            "the arm has {processes} processes and the workers have {total} slots; start more workers, \
             or raise their --slots"
        )));
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

    fn assigned(slots: &[u32], processes: u32, workers: u32) -> Result<Vec<u32>, TooFewWorkers> {
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
        let error = |slots, processes, workers| {
            assigned(slots, processes, workers).unwrap_err().to_string()
        };
        assert!(error(&[2, 2], 5, 0).contains("have 4 slots"));
        assert!(error(&[2, 2], 4, 3).contains("3 workers and 2 are attached"));
    }
}
