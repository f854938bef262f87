//! A thread per URL in flight; the main thread only moves messages.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::event::{EventfdFlags, eventfd};

use super::subject::{Subject, follow, ready};
use crate::{
    client::BlockingClient,
    exit_reason::{ExitReason, SetupError},
    outbox::Due,
    pipes::Pipes,
    work::Work,
    work_queue::{Take, WorkQueue},
};

/// Address space of a slot's stack. Only pages that were touched cost memory:
/// over plain HTTP that is three; a TLS handshake is what touches most. Tests
/// without optimisation, which need several times as much, fit too.
pub(crate) const STACK_BYTES: usize = 256 * 1024;

struct ThreadsShared {
    state: Mutex<ThreadsState>,
    /// Leases arrived, or nothing more will.
    changed: Condvar,
    /// The main thread has something to do.
    main_wake: OwnedFd,
    work: Work,
}

struct ThreadsState {
    queue: WorkQueue,
    /// Slots that wait for [`ThreadsShared::changed`].
    waiting: usize,
}

impl ThreadsShared {
    fn lock(&self) -> MutexGuard<'_, ThreadsState> {
        // A slot that panicked has been seen by its owner or will be.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes as many slots as there are URLs for them.
    fn wake(&self, state: &ThreadsState) {
        let ready = state.queue.ready();
        if ready >= state.waiting {
            if state.waiting > 0 {
                self.changed.notify_all();
            }
        } else {
            for _ in 0..ready {
                self.changed.notify_one();
            }
        }
    }

    fn tell_main(&self) {
        // It can only fail when the counter is full, and then it has been told.
        let _ = rustix::io::write(&self.main_wake, &1_u64.to_ne_bytes());
    }
}

pub(crate) fn run<C: BlockingClient + Send + 'static>(
    subject: Subject,
    pipes: &mut Pipes,
    mut client: impl FnMut() -> C,
) -> Result<(), ExitReason> {
    let slots = subject.slots();
    let shared = Arc::new(ThreadsShared {
        state: Mutex::new(ThreadsState { queue: WorkQueue::new(&subject.setup), waiting: 0 }),
        changed: Condvar::new(),
        main_wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| SetupError::event_loop(&error.into()))?,
        work: subject.work,
    });
    let mut threads = Vec::new();
    for index in 0..slots {
        let (shared, client) = (shared.clone(), client());
        let thread = thread::Builder::new()
            .name(format!("slot {index}"))
            .stack_size(STACK_BYTES)
            .spawn(move || slot(&shared, index, client))
            .map_err(|error| {
                SetupError(format!(
                    "only {index} of {slots} threads could be started: {error}; lower the concurrency \
                     or raise the limit (`ulimit -u`, the cgroup's pids.max, vm.max_map_count)"
                ))
            })?;
        threads.push(thread);
    }
    pipes.send(ready());
    loop {
        while let Some(instruction) = pipes.next()? {
            let mut state = shared.lock();
            if follow(instruction, &mut state.queue, &subject.counters, pipes.pending())? {
                end(state, &shared, threads);
                return Ok(());
            }
            shared.wake(&state);
        }
        let (timeout, full) = {
            let mut state = shared.lock();
            if pipes.is_flushed() && state.queue.outbox.due().has_come() {
                let outgoing = state.queue.outbox.collect();
                shared.wake(&state);
                drop(state);
                pipes.send_all(outgoing);
                state = shared.lock();
            }
            (timeout(state.queue.outbox.due(), pipes.is_flushed()), state.queue.is_full())
        };
        pipes.wait(timeout, !full, Some(shared.main_wake.as_fd()))?;
        // Nothing to read means no wake, and no error.
        let _ = rustix::io::read(&shared.main_wake, &mut [0; 8]);
    }
}

/// Ends the slots; those that are at a URL end with the process.
fn end(
    mut state: MutexGuard<'_, ThreadsState>,
    shared: &ThreadsShared,
    threads: Vec<JoinHandle<()>>,
) {
    let clear = state.queue.is_clear();
    state.queue.close();
    drop(state);
    shared.changed.notify_all();
    if clear {
        for thread in threads {
            // A panic has been printed, and counts no more.
            let _ = thread.join();
        }
    }
}

fn timeout(due: Due, flushed: bool) -> Option<Duration> {
    match due {
        // Only the worker's reading lets more be written.
        _ if !flushed => None,
        Due::Never => None,
        Due::Now => Some(Duration::ZERO),
        Due::At(at) => Some(at.saturating_duration_since(Instant::now())),
    }
}

fn slot(shared: &ThreadsShared, index: u32, mut client: impl BlockingClient) {
    let mut url = Vec::new();
    let mut now = Instant::now();
    let mut state = shared.lock();
    loop {
        let mut assignment = match state.queue.take(now, &mut url) {
            Take::Url(assignment) => assignment,
            Take::Closed => return,
            Take::Wait => {
                if state.queue.outbox.needs_wake() {
                    shared.tell_main();
                }
                state.waiting += 1;
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
                now = Instant::now();
                continue;
            }
        };
        let needs_wake = state.queue.outbox.needs_wake();
        drop(state);
        if needs_wake {
            shared.tell_main();
        }
        if assignment.is_early {
            thread::sleep(assignment.start.saturating_duration_since(Instant::now()));
            assignment.start = Instant::now();
            let mut state = shared.lock();
            state.queue.begin(assignment.start, assignment.id);
            if state.queue.outbox.needs_wake() {
                shared.tell_main();
            }
        }
        let fetched = client.fetch(&url, assignment.start);
        now = fetched.end;
        if !shared.work.is_none() {
            shared.lock().queue.end(fetched.end);
            shared.work.spend();
            now = Instant::now();
            state = shared.lock();
        } else {
            state = shared.lock();
            state.queue.end(fetched.end);
        }
        state.queue.hand_in(index, assignment, &fetched);
    }
}
