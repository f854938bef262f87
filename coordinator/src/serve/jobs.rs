//! The jobs: one runs, some wait in a bounded queue, the last ones that are over are remembered.
//!
//! ```text
//! Waiting(n) ──► Waiting(n − 1) … ──► Running ──► Finished
//!      └──────── cancelled ──────────────────────────┘
//! ```
//!
//! A job's output goes to files, and its state to a watch. Followers read both at their own pace:
//! nothing is kept for them in memory, and none of them holds the job up.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use fanout_program::lock;
use fanout_proto::{
    control::{JobDescription, JobFinished, JobKind, JobProgress, JobState, JobStatus},
    id::JobId,
};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::{
    data::Data,
    ended,
    plan::{JobPlan, cannot_keep},
    transcript,
};
use crate::{exit::CommandExit, run::Stop};

const JOURNAL: &str = "journal";
/// Jobs that are over and still remembered, with their output.
const FINISHED_KEPT: usize = 64;

#[derive(Debug)]
pub(super) struct ServerJob {
    pub(super) description: JobDescription,
    pub(super) directory: PathBuf,
    /// The name of its study; empty if it is none.
    pub(super) study: String,
    pub(super) stop: Stop,
    state: watch::Sender<JobState>,
}

impl ServerJob {
    /// The file of its lines, each behind a 1 or a 2 for the stream it belongs to.
    pub(super) fn journal(&self) -> PathBuf {
        self.directory.join(JOURNAL)
    }

    pub(super) fn results(&self) -> Vec<PathBuf> {
        JobPlan::results(&self.directory)
    }

    /// Its state, to be watched; it changes as well when more was written.
    pub(super) fn watch(&self) -> watch::Receiver<JobState> {
        self.state.subscribe()
    }

    /// Lets the watchers look: more was written.
    pub(super) fn wrote(&self) {
        self.state.send_modify(|_| {});
    }

    pub(super) fn progress(&self, progress: JobProgress) {
        self.state.send_replace(JobState::Running(progress));
    }

    fn is_finished(&self) -> bool {
        matches!(*self.state.borrow(), JobState::Finished(_))
    }

    fn status(&self) -> JobStatus {
        JobStatus {
            job: self.description.clone(),
            state: self.state.borrow().clone(),
            study: self.study.clone(),
        }
    }
}

/// All places in the queue are taken, or the coordinator ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("{0} jobs wait already; try again when one is over, or serve with a longer --queue")]
    Queue(usize),
    #[error("the coordinator ends")]
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// It waited, and is over.
    Waiting,
    /// It runs, and ends soon.
    Running,
    /// It was over already.
    Over,
}

#[derive(Debug, Default)]
struct JobTable {
    next: u64,
    jobs: BTreeMap<JobId, Arc<ServerJob>>,
    /// With what is to be run.
    waiting: VecDeque<(Arc<ServerJob>, JobPlan)>,
    running: Option<Arc<ServerJob>>,
    /// Submissions that have a place in the queue and are being checked.
    admitted: usize,
    finished: [u64; 2],
    closed: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Jobs(Arc<SharedJobs>);

#[derive(Debug)]
struct SharedJobs {
    data: Data,
    queue_max: usize,
    state: Mutex<JobTable>,
    arrived: Notify,
}

impl Jobs {
    /// The jobs of earlier processes; one that was not over is now.
    pub(super) fn new(data: Data, queue_max: usize) -> io::Result<Self> {
        let mut jobs = BTreeMap::new();
        for earlier in data.earlier_jobs()? {
            let cut_short = "the coordinator ended before this job did";
            let finished = earlier.finished.unwrap_or_else(|| interrupted(cut_short));
            let job = ServerJob {
                directory: data.create_job(earlier.job.id)?,
                description: earlier.job,
                study: earlier.study,
                stop: Stop::default(),
                state: watch::Sender::new(JobState::Finished(finished)),
            };
            jobs.insert(job.description.id, Arc::new(job));
        }
        let next = jobs.keys().next_back().map_or(1, |id: &JobId| id.0 + 1);
        Ok(Self(Arc::new(SharedJobs {
            data,
            queue_max,
            state: Mutex::new(JobTable { next, jobs, ..JobTable::default() }),
            arrived: Notify::new(),
        })))
    }

    pub(super) fn data(&self) -> &Data {
        &self.0.data
    }

    pub(super) fn queue_max(&self) -> usize {
        self.0.queue_max
    }

    /// Takes a place in the queue for a job that is yet to be checked.
    pub(super) fn admit(&self) -> Result<Admission, Full> {
        let mut state = lock(&self.0.state);
        if state.closed {
            return Err(Full::Closed);
        }
        // With nothing running, the first job in the queue does not wait.
        let room = self.0.queue_max + usize::from(state.running.is_none());
        if state.waiting.len() + state.admitted >= room {
            return Err(Full::Queue(self.0.queue_max));
        }
        state.admitted += 1;
        let id = JobId(state.next);
        state.next += 1;
        drop(state);
        Ok(Admission {
            jobs: self.clone(),
            id,
            directory: self.0.data.create_job(id),
            queued: false,
        })
    }

    /// The next job to run; it is running from then on.
    pub(super) async fn next(&self) -> (Arc<ServerJob>, JobPlan) {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(next) = self.start() {
                return next;
            }
            arrived.await;
        }
    }

    fn start(&self) -> Option<(Arc<ServerJob>, JobPlan)> {
        let mut state = lock(&self.0.state);
        let (job, plan) = state.waiting.pop_front()?;
        state.running = Some(job.clone());
        job.progress(JobProgress::default());
        state.publish_places();
        Some((job, plan))
    }

    pub(super) fn finish(&self, job: &ServerJob, finished: JobFinished) {
        let mut state = lock(&self.0.state);
        state.running = None;
        state.publish_places();
        self.end(&mut state, job, finished);
    }

    fn end(&self, state: &mut JobTable, job: &ServerJob, finished: JobFinished) {
        let id = job.description.id;
        info!(job = %id, exit = finished.exit_code, finished.message, "job over");
        state.finished[usize::from(finished.exit_code != 0)] += 1;
        let data = self.data();
        if let Err(error) = data.keep_job(&job.description, &job.study, Some(&finished)) {
            warn!(job = %id, %error, "cannot keep how the job ended");
        }
        job.state.send_replace(JobState::Finished(finished));
        let over = state.jobs.iter().rev().filter(|(_, job)| job.is_finished());
        let forgotten: Vec<_> = over.skip(FINISHED_KEPT).map(|(id, _)| *id).collect();
        for id in forgotten {
            state.jobs.remove(&id);
            data.remove_job(id);
        }
    }

    /// Cancels a job; `None` if there is none. A fetch that runs may first finish
    /// the URLs in hand, unless `at_once`.
    pub(super) fn cancel(&self, id: JobId, at_once: bool) -> Option<Cancelled> {
        let mut state = lock(&self.0.state);
        let mut waiting = state.waiting.iter();
        let place = waiting.position(|(job, _)| job.description.id == id);
        if let Some((job, plan)) = place.and_then(|place| state.waiting.remove(place)) {
            let reason = "cancelled before it was its turn";
            self.drop_waiting(&mut state, &job, &plan, reason);
            state.publish_places();
            return Some(Cancelled::Waiting);
        }
        let job = state.jobs.get(&id)?;
        if job.is_finished() {
            return Some(Cancelled::Over);
        }
        let drains = job.description.kind == JobKind::Fetch && !at_once;
        if drains && !job.stop.drain.is_cancelled() {
            job.stop.drain.cancel();
        } else {
            job.stop.cancel.cancel();
        }
        Some(Cancelled::Running)
    }

    fn drop_waiting(&self, state: &mut JobTable, job: &ServerJob, plan: &JobPlan, reason: &str) {
        plan.discard();
        self.end(state, job, interrupted(reason));
    }

    pub(super) fn close(&self) {
        let mut state = lock(&self.0.state);
        state.closed = true;
        while let Some((job, plan)) = state.waiting.pop_front() {
            self.drop_waiting(&mut state, &job, &plan, "the coordinator ends");
        }
        if let Some(job) = &state.running {
            job.stop.cancel.cancel();
        }
    }

    pub(super) fn get(&self, id: JobId) -> Option<Arc<ServerJob>> {
        lock(&self.0.state).jobs.get(&id).cloned()
    }

    pub(super) fn list(&self) -> Vec<JobStatus> {
        lock(&self.0.state).jobs.values().map(|job| job.status()).collect()
    }

    /// Jobs that ended since this process started: well, and otherwise.
    pub(super) fn finished_counts(&self) -> [u64; 2] {
        lock(&self.0.state).finished
    }
}

fn interrupted(reason: &str) -> JobFinished {
    ended(CommandExit::Interrupted, reason)
}

impl JobTable {
    /// Tells every waiting job how many come before it.
    fn publish_places(&self) {
        let first = u32::from(self.running.is_some());
        for (place, (job, _)) in (first..).zip(&self.waiting) {
            job.state.send_replace(JobState::Waiting(place));
        }
    }
}

/// A place in the queue; given back unless the job is queued.
#[derive(Debug)]
pub(super) struct Admission {
    jobs: Jobs,
    pub(super) id: JobId,
    directory: io::Result<PathBuf>,
    queued: bool,
}

impl Admission {
    pub(super) fn directory(&self) -> Result<&Path, String> {
        match &self.directory {
            Ok(directory) => Ok(directory),
            Err(error) => Err(cannot_keep(error).to_string()),
        }
    }

    /// Lets the job wait for its turn; `said` is what its check said.
    pub(super) fn queue(
        mut self,
        description: JobDescription,
        plan: JobPlan,
        said: &str,
    ) -> Result<(), String> {
        let directory = self.directory()?.to_owned();
        let study = plan.study().to_owned();
        let data = self.jobs.data();
        let kept = data.keep_job(&description, &study, None).and_then(|()| {
            let said = transcript::lines(transcript::ERR, said);
            fs::write(directory.join(JOURNAL), said)
        });
        if let Err(error) = kept {
            plan.discard();
            return Err(cannot_keep(&error).to_string());
        }
        let mut state = lock(&self.jobs.0.state);
        if state.closed {
            drop(state);
            plan.discard();
            return Err(Full::Closed.to_string());
        }
        let job = Arc::new(ServerJob {
            description,
            directory,
            study,
            stop: Stop::default(),
            state: watch::Sender::new(JobState::Waiting(0)),
        });
        info!(job = %self.id, kind = job.description.kind.name(), "job queued");
        state.jobs.insert(self.id, job.clone());
        state.waiting.push_back((job, plan));
        state.admitted -= 1;
        state.publish_places();
        self.queued = true;
        drop(state);
        self.jobs.0.arrived.notify_one();
        Ok(())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.queued {
            lock(&self.jobs.0.state).admitted -= 1;
            self.jobs.data().remove_job(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{CommandLine, CoordinatorCommand};
    use clap::Parser;

    fn plan(directory: &Path) -> JobPlan {
        std::fs::write(directory.join("list"), "http://127.0.0.1:9/\n").unwrap();
        let list = directory.join("list");
        let line = ["coordinator", "fetch", list.to_str().unwrap()];
        let CoordinatorCommand::Fetch(args) = CommandLine::try_parse_from(line).unwrap().command
        else {
            unreachable!("fetch was typed")
        };
        let settings = crate::settings::FetchSettings::new(&args, &[]).unwrap();
        let list = crate::fetch::open(&settings).unwrap();
        JobPlan::Fetch(Box::new(settings), list, None)
    }

    fn queue(jobs: &Jobs) -> Result<JobId, Full> {
        let admission = jobs.admit()?;
        let id = admission.id;
        let description =
            JobDescription { id, kind: JobKind::Fetch, arguments: Vec::new(), list: None };
        let plan = plan(admission.directory().unwrap());
        admission.queue(description, plan, "").unwrap();
        Ok(id)
    }

    fn place(jobs: &Jobs, id: JobId) -> JobState {
        let found = jobs.list().into_iter().find(|job| job.job.id == id);
        found.unwrap().state
    }

    fn done() -> JobFinished {
        JobFinished { exit_code: 0, message: String::new() }
    }

    #[tokio::test]
    async fn one_runs_and_the_others_wait_in_a_bounded_queue() {
        let directory = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(Data::open(directory.path()).unwrap(), 2).unwrap();
        let first = queue(&jobs).unwrap();
        let (running, _) = jobs.next().await;
        assert_eq!(running.description.id, first);
        let second = queue(&jobs).unwrap();
        let admitted = jobs.admit().unwrap();
        assert_eq!(jobs.admit().unwrap_err(), Full::Queue(2));
        drop(admitted);
        let third = queue(&jobs).unwrap();
        assert_eq!(place(&jobs, second), JobState::Waiting(1));
        assert_eq!(place(&jobs, third), JobState::Waiting(2));
        assert_eq!(jobs.cancel(second, false), Some(Cancelled::Waiting));
        assert_eq!(place(&jobs, third), JobState::Waiting(1));
        jobs.finish(&running, done());
        assert_eq!(place(&jobs, third), JobState::Waiting(0));
        let (running, _) = jobs.next().await;
        assert_eq!(running.description.id, third);
        assert_eq!(jobs.cancel(third, false), Some(Cancelled::Running));
        assert!(running.stop.drain.is_cancelled() && !running.stop.cancel.is_cancelled());
        assert_eq!(jobs.cancel(third, false), Some(Cancelled::Running));
        assert!(running.stop.cancel.is_cancelled());
        jobs.finish(&running, done());
        assert_eq!(jobs.cancel(third, false), Some(Cancelled::Over));
        assert_eq!(jobs.cancel(JobId(99), false), None);
        assert_eq!(jobs.finished_counts(), [2, 1]);
    }

    #[tokio::test]
    async fn only_the_last_finished_jobs_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(Data::open(directory.path()).unwrap(), 1).unwrap();
        for _ in 0..FINISHED_KEPT + 3 {
            queue(&jobs).unwrap();
            let (job, _) = jobs.next().await;
            jobs.finish(&job, done());
        }
        assert_eq!(jobs.list().len(), FINISHED_KEPT);
        assert!(!directory.path().join("jobs/3").exists());
        assert!(directory.path().join("jobs/4").exists());
    }

    #[tokio::test]
    async fn a_closed_queue_ends_its_jobs_and_the_next_daemon_counts_on() {
        let directory = tempfile::tempdir().unwrap();
        let jobs = Jobs::new(Data::open(directory.path()).unwrap(), 4).unwrap();
        queue(&jobs).unwrap();
        let (running, _) = jobs.next().await;
        let waiting = queue(&jobs).unwrap();
        jobs.close();
        assert!(running.stop.cancel.is_cancelled());
        assert!(matches!(place(&jobs, waiting), JobState::Finished(f) if f.exit_code == 130));
        assert_eq!(jobs.admit().unwrap_err(), Full::Closed);
        drop((jobs, running));
        let jobs = Jobs::new(Data::open(directory.path()).unwrap(), 4).unwrap();
        assert!(jobs.list().iter().all(|job| matches!(job.state, JobState::Finished(_))));
        assert_eq!(queue(&jobs).unwrap(), JobId(3));
    }
}
