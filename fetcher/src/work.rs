//! Work per response: what a program does with what it fetched.

use std::{hint::spin_loop, sync::Mutex, time::Duration};

use fanout_proto::setup::Setup;
use rustix::time::{ClockId, clock_gettime};

/// Spins between two looks at the clock: about a microsecond.
const SPINS_PER_LOOK: u32 = 32;

/// CPU time to spend per response, by the slot that handles it.
#[derive(Debug)]
pub(crate) struct Work {
    duration: Duration,
    /// What an interpreter lock does to threads.
    lock: Option<Mutex<()>>,
}

impl Work {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self { duration: setup.cpu_work, lock: setup.cpu_lock.then(Mutex::default) }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.duration.is_zero()
    }

    /// Works on one response.
    ///
    /// The thread's own CPU time is measured: work does not get done while
    /// another thread has the processor.
    pub(crate) fn spend(&self) {
        // A thread that panics under the lock leaves nothing half done.
        let _held = self
            .lock
            .as_ref()
            .map(|lock| lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let begin = thread_cpu_time();
        while thread_cpu_time().saturating_sub(begin) < self.duration {
            for _ in 0..SPINS_PER_LOOK {
                spin_loop();
            }
        }
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
