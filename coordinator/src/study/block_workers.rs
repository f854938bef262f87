//! Which workers a block's trials run on. They stay the same within a block, so that its arms meet
//! the same fleet; one that comes meanwhile is used from the next block on.

use std::collections::BTreeSet;

use fanout_analysis::record::Manifest;
use fanout_proto::{arm::Arm, id::WorkerId};
use tokio::time::{Instant, sleep_until};

use crate::{
    exit::Failure,
    fleet::{Fleet, TooFewWorkers, assign::assign},
    local::environment::Environment,
    run::Stop,
    study::manifest,
};

#[derive(Debug, Default)]
pub(super) struct BlockWorkers {
    members: BTreeSet<WorkerId>,
}

impl BlockWorkers {
    /// Takes all that are attached, and enters into the record which are new and which are gone.
    pub(super) fn refresh(&mut self, block: u32, fleet: &mut Fleet, manifest: &mut Manifest) {
        fleet.catch_up();
        self.note_losses(block, fleet, manifest);
        for (id, attached) in fleet.workers() {
            if !manifest.workers.iter().any(|known| known.id == id.0) {
                let mut worker = manifest::worker(id.0, &attached.hello);
                worker.joined_block = Some(block);
                manifest.workers.push(worker);
            }
        }
        self.members = fleet.workers().keys().copied().collect();
    }

    pub(super) fn note_losses(&self, block: u32, fleet: &Fleet, manifest: &mut Manifest) {
        for worker in &mut manifest.workers {
            let gone = !fleet.workers().contains_key(&WorkerId(worker.id));
            if gone && worker.left_block.is_none() {
                worker.left_block = Some(block);
            }
        }
    }

    /// A worker for each of the arm's fetchers. Where too few workers are left it
    /// takes new ones, and waits for them as long as the environment allows.
    pub(super) async fn assign(
        &mut self,
        block: u32,
        arm: &Arm,
        environment: &mut Environment<'_>,
        stop: &Stop,
        manifest: &mut Manifest,
    ) -> Result<Vec<WorkerId>, Failure> {
        let deadline = environment.patience.map(|patience| Instant::now() + patience);
        loop {
            let error = match self.try_assign(arm, environment.fleet) {
                Ok(placement) => return Ok(placement),
                Err(error) => error,
            };
            let Some(deadline) = deadline else {
                return Err(Failure::usage(format!("{arm}: {error}")));
            };
            self.refresh(block, environment.fleet, manifest);
            if let Ok(placement) = self.try_assign(arm, environment.fleet) {
                return Ok(placement);
            }
            tokio::select! {
                _ = environment.fleet.next() => {}
                () = stop.cancel.cancelled() => {
                    return Err(Failure::interrupted("stopped while waiting for workers"));
                }
                () = sleep_until(deadline) => {
                    return Err(Failure::no_fleet(format!("{arm}: {error}")));
                }
            }
        }
    }

    fn try_assign(&self, arm: &Arm, fleet: &Fleet) -> Result<Vec<WorkerId>, TooFewWorkers> {
        assign(fleet, arm.processes.get(), arm.workers, |id| self.members.contains(&id))
    }
}
