//! What all trials of a session share: the way to the coordinator, the tasks,
//! and what is known of the machine.

use std::{collections::VecDeque, panic::resume_unwind};

use fanout_proto::wire::FromWorker;
use tokio::{sync::mpsc, task::JoinSet};

use super::{SessionSettings, error::AttachError};
use crate::{measure::cgroup::Cgroups, supervise::FetcherEvent};

/// The session's own messages that may wait before samples and heartbeats are
/// left out. All others are few: so many for each fetcher.
const WAITING_MAX: usize = 1024;
/// Past that, a coordinator gives orders and does not read what comes of them.
const UNREAD_MAX: usize = 16 * 1024;

pub(super) struct SessionContext<'a> {
    pub(super) settings: &'a SessionSettings,
    pub(super) cgroups: Cgroups,
    pub(super) cpus: Vec<u32>,
    /// Into the stream; fetchers' tasks hold clones.
    pub(super) frames: mpsc::Sender<FromWorker>,
    /// To the session; fetchers' tasks hold clones.
    pub(super) events: mpsc::Sender<FetcherEvent>,
    /// The session's own messages until there is room: it must go on listening
    /// to the coordinator while the stream is full.
    waiting: VecDeque<FromWorker>,
    tasks: JoinSet<()>,
    oom_kills_seen: u64,
}

impl<'a> SessionContext<'a> {
    pub(super) fn new(
        settings: &'a SessionSettings,
        cgroups: Cgroups,
        cpus: Vec<u32>,
        frames: mpsc::Sender<FromWorker>,
        events: mpsc::Sender<FetcherEvent>,
    ) -> Self {
        Self {
            settings,
            cgroups,
            cpus,
            frames,
            events,
            waiting: VecDeque::new(),
            tasks: JoinSet::new(),
            oom_kills_seen: 0,
        }
    }

    pub(super) fn send(&mut self, message: FromWorker) {
        self.waiting.push_back(message);
    }

    /// Whether more waits than a coordinator leaves that reads.
    pub(super) fn is_overfull(&self) -> bool {
        self.waiting.len() > UNREAD_MAX
    }

    /// Queues a message that may be left out when the stream is stuck.
    pub(super) fn send_if_room(&mut self, message: FromWorker) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(message);
        }
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends the first message that waits once there is room; loses none when
    /// it is dropped before that.
    pub(super) async fn send_next(&mut self) -> Result<(), AttachError> {
        let room = self.frames.reserve().await;
        let room = room.map_err(|_| AttachError::without_goodbye())?;
        if let Some(message) = self.waiting.pop_front() {
            room.send(message);
        }
        Ok(())
    }

    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Lets tasks that are done go. A task that panicked is a fault in here,
    /// and nothing would ever be heard of its fetcher again.
    pub(super) fn collect_tasks(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            if let Err(fault) = done
                && fault.is_panic()
            {
                resume_unwind(fault.into_panic());
            }
        }
    }

    /// Out-of-memory kills so far are no fetcher's of this session.
    pub(super) fn forget_oom_kills(&mut self) {
        self.oom_kills_seen = self.cgroups.oom_kills().unwrap_or(0);
    }

    /// Whether the out-of-memory killer struck once more than was accounted for.
    pub(super) fn memory_ran_out(&mut self) -> bool {
        let kills = self.cgroups.oom_kills();
        let more = kills.is_some_and(|kills| kills > self.oom_kills_seen);
        self.oom_kills_seen += u64::from(more);
        more
    }

    /// Says no more, and gives up what it needs for that.
    pub(super) fn into_tasks(self) -> JoinSet<()> {
        self.tasks
    }
}
