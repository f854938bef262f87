//! Load of the machines that fetch which is not the study's.

use std::{collections::BTreeMap, time::Duration};

use fanout_analysis::record::TrialRecord;
use fanout_proto::report::MachineLoad;

/// The machines that fetch, and what the study did on each.
#[derive(Debug, Default)]
pub struct Machines {
    loads: BTreeMap<String, MachineLoad>,
    /// A worker did not tell its load.
    unknown: bool,
}

impl Machines {
    /// Adds a worker's account. Several on one machine each tell the same load; the longest
    /// account of it holds.
    pub(super) fn worker(&mut self, machine: &str, load: Option<MachineLoad>) {
        let Some(load) = load else {
            self.unknown = true;
            return;
        };
        let known = self.loads.entry(machine.to_owned()).or_default();
        let own = known.own.saturating_add(load.own);
        if load.capacity > known.capacity {
            *known = load;
        }
        known.own = own;
    }

    /// Adds CPU time of another of the study's processes, if it is on a machine that fetches.
    pub fn process(&mut self, machine: &str, cpu: Duration) {
        if let Some(load) = self.loads.get_mut(machine) {
            load.own = load.own.saturating_add(cpu);
        }
    }

    /// Fills in what the machines did, and what of it was not the study's.
    pub fn fill_in(&self, trial: &mut TrialRecord) {
        if self.unknown || self.loads.is_empty() {
            return;
        }
        let sum = |of: fn(&MachineLoad) -> Duration| {
            self.loads.values().map(|load| of(load).as_secs_f64()).sum()
        };
        trial.machine_cpu_s = Some(sum(|load| load.capacity));
        trial.steal_s = Some(sum(|load| load.steal));
        trial.foreign_cpu_s = Some(sum(|load| load.busy.saturating_sub(load.own)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(capacity_ms: u64, busy_ms: u64, own_ms: u64) -> MachineLoad {
        MachineLoad {
            capacity: Duration::from_millis(capacity_ms),
            busy: Duration::from_millis(busy_ms),
            steal: Duration::from_millis(10),
            own: Duration::from_millis(own_ms),
        }
    }

    fn figures(machines: &Machines) -> [Option<f64>; 3] {
        let mut trial = TrialRecord::default();
        machines.fill_in(&mut trial);
        [trial.foreign_cpu_s, trial.steal_s, trial.machine_cpu_s]
    }

    #[test]
    fn what_the_study_did_on_a_machine_is_not_foreign() {
        let mut machines = Machines::default();
        machines.worker("a", Some(load(2000, 1500, 300)));
        machines.worker("a", Some(load(1990, 1490, 200)));
        machines.process("a", Duration::from_millis(400));
        machines.process("elsewhere", Duration::from_secs(9));
        assert_eq!(figures(&machines), [Some(0.6), Some(0.01), Some(2.0)]);
        machines.worker("b", Some(load(1000, 100, 200)));
        assert_eq!(figures(&machines), [Some(0.6), Some(0.02), Some(3.0)]);
    }

    #[test]
    fn a_worker_that_tells_nothing_leaves_it_unknown() {
        let mut machines = Machines::default();
        assert_eq!(figures(&machines), [None; 3]);
        machines.worker("a", Some(load(2000, 1500, 300)));
        machines.worker("b", None);
        assert_eq!(figures(&machines), [None; 3]);
    }
}
