//! A thread per URL in flight; the main thread only moves messages.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use rustix::event::{EventfdFlags, eventfd};

use super::{Subject, ready, report};
use crate::{
    clients::BlockingClient,
    ending::{Ending, SetupError},
    outbox::Due,
    pipes::{Patience, Pipes},
    session::Instruction,
    work::Work,
    work_queue::{Desk, Take},
};

/// Address space of a slot's stack. Only pages that were touched cost memory:
/// over plain HTTP that is three; a TLS handshake is what touches most. Tests
/// without optimisation, which need several times as much, fit too.
pub(crate) const STACK_BYTES: usize = 256 * 1024;

/// What the main thread and the slots share.
struct Shared {
    state: Mutex<State>,
    /// Leases arrived, or nothing more will.
    changed: Condvar,
    /// The main thread has something to do.
    news: OwnedFd,
    work: Work,
}

struct State {
    desk: Desk,
    /// Slots that wait for [`Shared::changed`].
    waiting: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A slot that panicked has been seen by its owner or will be.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes as many slots as there are URLs for them.
    fn wake(&self, state: &State) {
        let ready = state.desk.ready();
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
        let _ = rustix::io::write(&self.news, &1_u64.to_ne_bytes());
    }
}

/// Runs until the worker ends it.
pub(crate) fn run<C: BlockingClient + Send + 'static>(
    subject: Subject,
    pipes: &mut Pipes,
    mut client: impl FnMut() -> C,
) -> Result<(), Ending> {
    let slots = subject.slots();
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            desk: Desk::new(&subject.setup),
            waiting: 0,
        }),
        changed: Condvar::new(),
        news: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| SetupError::Runtime(error.into()))?,
        work: subject.work,
    });
    let mut threads = Vec::new();
    for index in 0..slots {
        let (shared, client) = (shared.clone(), client());
        let thread = thread::Builder::new()
            .name(format!("slot {index}"))
            .stack_size(STACK_BYTES)
            .spawn(move || slot(&shared, index, client))
            .map_err(|error| SetupError::Threads {
                started: index,
                wanted: slots,
                error,
            })?;
        threads.push(thread);
    }
    pipes.send(ready());
    loop {
        while let Some(instruction) = pipes.next()? {
            let mut state = shared.lock();
            match instruction {
                Instruction::Setup(_) => {}
                Instruction::Leases(batch) => state.desk.lease(batch),
                Instruction::Go => state.desk.go(Instant::now()),
                Instruction::Hold if !state.desk.is_clear() => return Err(Ending::EarlyHold),
                Instruction::Hold => {
                    pipes.send_all(state.desk.collect());
                    pipes.send(report(&state.desk.report(&subject.counters)));
                }
                Instruction::Exit => {
                    let clear = state.desk.is_clear();
                    state.desk.close();
                    drop(state);
                    shared.changed.notify_all();
                    if clear {
                        for thread in threads {
                            // A panic has been printed, and counts no more.
                            let _ = thread.join();
                        }
                    }
                    // Else the end of the process ends them.
                    return Ok(());
                }
            }
            shared.wake(&state);
        }
        let (patience, laden) = {
            let mut state = shared.lock();
            if pipes.is_flushed() && is_due(state.desk.due()) {
                let outgoing = state.desk.collect();
                shared.wake(&state);
                drop(state);
                pipes.send_all(outgoing);
                state = shared.lock();
            }
            (
                patience(state.desk.due(), pipes.is_flushed()),
                state.desk.is_laden(),
            )
        };
        pipes.wait(patience, !laden, Some(shared.news.as_fd()))?;
        // Nothing to read is no news, and no error.
        let _ = rustix::io::read(&shared.news, &mut [0; 8]);
    }
}

fn is_due(due: Due) -> bool {
    match due {
        Due::Never => false,
        Due::Now => true,
        Due::At(at) => at <= Instant::now(),
    }
}

fn patience(due: Due, flushed: bool) -> Patience {
    match due {
        // Only the worker's reading lets more be written.
        _ if !flushed => Patience::Endless,
        Due::Never => Patience::Endless,
        Due::Now => Patience::None,
        Due::At(at) => Patience::For(at.saturating_duration_since(Instant::now())),
    }
}

fn slot(shared: &Shared, index: u32, mut client: impl BlockingClient) {
    let mut url = Vec::new();
    let mut now = Instant::now();
    let mut state = shared.lock();
    loop {
        let mut taken = match state.desk.take(now, &mut url) {
            Take::Url(taken) => taken,
            Take::Closed => return,
            Take::Wait => {
                if state.desk.has_news() {
                    shared.tell_main();
                }
                state.waiting += 1;
                state = shared
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
                now = Instant::now();
                continue;
            }
        };
        let news = state.desk.has_news();
        drop(state);
        if news {
            shared.tell_main();
        }
        if taken.is_early {
            thread::sleep(taken.start.saturating_duration_since(Instant::now()));
            taken.start = Instant::now();
            let mut state = shared.lock();
            state.desk.begin(taken.start, taken.id);
            if state.desk.has_news() {
                shared.tell_main();
            }
        }
        let fetched = client.fetch(&url, taken.start);
        now = fetched.end;
        if !shared.work.is_none() {
            shared.lock().desk.end(fetched.end);
            shared.work.spend();
            now = Instant::now();
            state = shared.lock();
        } else {
            state = shared.lock();
            state.desk.end(fetched.end);
        }
        state.desk.hand_in(index, taken, &fetched);
    }
}
