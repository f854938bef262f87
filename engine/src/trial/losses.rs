//! Fetchers and workers that are lost, and what is made of it.

use std::time::Duration;

use fanout_proto::{
    id::{FetcherId, WorkerId},
    report::{Exit, FetcherExited},
};

use super::{
    RunPhase, Trial, WorkerLife,
    event::{AbortReason, Command},
    fetcher::{Fetcher, FetcherLife},
};

/// From Kill to the reaped fetcher; then it is not replaced.
pub(super) const REAP_DEADLINE: Duration = Duration::from_secs(60);
/// Fetchers killed before they were ready, until a trial is given up.
const KILLED_AT_START_MAX: u32 = 3;
/// Fetchers lost in a row, without a URL completed in between, before a trial is given up.
const FRUITLESS_MAX: u32 = 64;

impl Trial {
    pub(super) fn start_fetcher(&mut self, worker: WorkerId, shard: Option<u32>) {
        let id = FetcherId(self.next_fetcher);
        self.next_fetcher += 1;
        self.fetchers.insert(id, Fetcher::new(self.now, worker, shard));
        self.commands.push(Command::Prepare(worker, id));
    }

    pub(super) fn exited(&mut self, exited: FetcherExited) {
        let id = exited.fetcher;
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return;
        };
        if !fetcher.is_live() {
            if fetcher.dying_until.take().is_some() {
                let (worker, shard) = (fetcher.worker, fetcher.shard);
                self.replace(worker, shard);
                self.top_up_all();
            }
            return;
        }
        if matches!(self.phase, RunPhase::Draining { .. }) && exited.report.is_some() {
            fetcher.life = FetcherLife::Exited;
            return;
        }
        let reason = if exited.reason.is_empty() {
            format!("it ended early ({:?})", exited.exit)
        } else {
            exited.reason
        };
        if fetcher.life == FetcherLife::Starting && self.phase == RunPhase::Preparing {
            // One that was killed may get on the next time; a worker also kills
            // those that cannot be set up, and they do not.
            let killed = matches!(exited.exit, Exit::Signal(_) | Exit::OutOfMemory);
            self.killed_at_start += u32::from(killed);
            if !killed || self.killed_at_start > KILLED_AT_START_MAX {
                return self.abort(AbortReason::Setup(reason));
            }
        }
        self.lose(id, reason, false);
    }

    /// Gives a fetcher up that may still live.
    pub(super) fn kill(&mut self, id: FetcherId, reason: String) {
        if let Some(fetcher) = self.fetchers.get(&id).filter(|f| f.is_live()) {
            self.commands.push(Command::Kill(fetcher.worker, id));
            self.lose(id, reason, true);
        }
    }

    /// Gives a fetcher up; one that is `alive` is replaced when it is reaped.
    fn lose(&mut self, id: FetcherId, reason: String, alive: bool) {
        let Some(fetcher) = self.fetchers.get_mut(&id).filter(|f| f.is_live()) else {
            return;
        };
        fetcher.dying_until = alive.then_some(self.now + REAP_DEADLINE);
        let (worker, shard) = (fetcher.worker, fetcher.shard);
        self.fruitless += 1;
        self.hosts_lose(id, !alive);
        self.take_back(id, reason);
        if !alive {
            self.replace(worker, shard);
        }
        self.top_up_all();
    }

    fn take_back(&mut self, id: FetcherId, reason: String) {
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return;
        };
        fetcher.life = FetcherLife::Lost;
        fetcher.outstanding = 0;
        self.losses.fetchers += 1;
        let silence = self.now.saturating_sub(fetcher.last_progress);
        self.losses.notice = self.losses.notice.max(Some(silence));
        self.degraded = true;
        let abandoned = self.ledger.lose(id);
        if let Some(hosts) = &mut self.hosts {
            for url in &abandoned {
                hosts.politeness.give_up(self.now, *url);
            }
        }
        if !abandoned.is_empty() {
            self.last_completion = Some(self.now);
            self.commands.push(Command::Abandoned(abandoned));
        }
        self.last_loss.clone_from(&reason);
        self.commands.push(Command::Lost(id, reason));
    }

    /// Starts another fetcher in a lost one's stead, if that leads anywhere.
    fn replace(&mut self, worker: WorkerId, shard: Option<u32>) {
        let wanted = matches!(self.phase, RunPhase::Preparing | RunPhase::Running)
            && self.stop_at.is_none()
            && self.ledger.remaining() > 0;
        let possible = self.workers.get(&worker) == Some(&WorkerLife::Present)
            && self.fruitless <= FRUITLESS_MAX;
        if wanted && possible {
            self.start_fetcher(worker, shard);
        } else {
            self.ledger.release_shard(shard);
        }
    }

    pub(super) fn worker_lost(&mut self, worker: WorkerId) {
        let Some(life) = self.workers.get_mut(&worker) else {
            return;
        };
        *life = WorkerLife::Lost;
        // All of them, before anything is leased again: what one held must not
        // go to another that is gone as well.
        let there: Vec<_> = self
            .fetchers
            .iter_mut()
            .filter(|(_, fetcher)| fetcher.worker == worker)
            .filter_map(|(id, fetcher)| {
                // The exits of those that were being killed there are never reported.
                let killed = fetcher.dying_until.take().is_some();
                (killed || fetcher.is_live()).then_some((*id, fetcher.is_live(), fetcher.shard))
            })
            .collect();
        self.fruitless += u32::from(!there.is_empty());
        for (id, is_live, shard) in there {
            if is_live {
                // Its fetchers may live on until it notices.
                self.hosts_lose(id, false);
                self.take_back(id, format!("worker {worker} was lost"));
            }
            self.ledger.release_shard(shard);
        }
        self.top_up_all();
    }

    /// Waits no longer for killed fetchers that are not reaped in time.
    pub(super) fn give_up_on_dying(&mut self) {
        let mut given_up = false;
        for fetcher in self.fetchers.values_mut() {
            if fetcher.dying_until.is_some_and(|until| self.now > until) {
                fetcher.dying_until = None;
                self.ledger.release_shard(fetcher.shard);
                given_up = true;
            }
        }
        if given_up {
            self.top_up_all();
        }
    }

    /// URLs that were lost are either all done again or they are not.
    pub(super) fn watch_recovery(&mut self) {
        if self.ledger.recovering() > 0 {
            self.recovering_since.get_or_insert(self.now);
        } else if let Some(since) = self.recovering_since.take() {
            let took = self.now.saturating_sub(since);
            self.losses.recovery = self.losses.recovery.max(Some(took));
        }
    }
}
