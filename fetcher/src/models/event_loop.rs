//! One event loop; or, as `async-mt`, the same tasks on tokio's work-stealing runtime.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use fanout_proto::arm::Model;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    runtime::{Builder, Runtime},
    sync::Notify,
    task::{coop::consume_budget, yield_now},
    time::sleep_until,
};

use super::subject::{Subject, follow, ready};
use crate::{
    client::AsyncClient,
    counters::Counters,
    exit_reason::{ExitReason, SetupError},
    instructions::InstructionReader,
    outbox::Due,
    pipes::{Pipes, is_hung_up},
    work::Work,
    work_queue::{Assignment, Take, WorkQueue},
};

const READ_BYTES: usize = 64 * 1024;
/// While nothing is read, a hang-up is looked for this often.
const HANG_UP_INTERVAL: Duration = Duration::from_millis(50);

struct TasksShared {
    state: Mutex<TasksState>,
    /// The task that moves messages has something to do.
    messenger_wake: Notify,
    work: Work,
}

struct TasksState {
    queue: WorkQueue,
    /// Slots that wait for a URL, and their wakers, the longest waiting first.
    waiting: VecDeque<(u32, Waker)>,
    waits: Vec<bool>,
}

impl TasksShared {
    fn lock(&self) -> MutexGuard<'_, TasksState> {
        // A slot that panicked has ended the process's usefulness elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next URL for a slot, once there is one; `None` at the end.
    fn poll_take(
        &self,
        cx: &mut Context<'_>,
        slot: u32,
        now: &mut Option<Instant>,
        url: &mut Vec<u8>,
    ) -> Poll<Option<Assignment>> {
        let now = now.take().unwrap_or_else(Instant::now);
        let mut state = self.lock();
        let poll = match state.queue.take(now, url) {
            Take::Url(assignment) => Poll::Ready(Some(assignment)),
            Take::Closed => Poll::Ready(None),
            Take::Wait => {
                state.wait(slot, cx);
                Poll::Pending
            }
        };
        if state.queue.outbox.needs_wake() {
            self.messenger_wake.notify_one();
        }
        poll
    }

    fn begin(&self, assignment: Assignment) {
        let mut state = self.lock();
        state.queue.begin(assignment.start, assignment.id);
        if state.queue.outbox.needs_wake() {
            self.messenger_wake.notify_one();
        }
    }
}

impl TasksState {
    fn wait(&mut self, slot: u32, cx: &Context<'_>) {
        // A kept connection that ends wakes its slot, too, which then asks twice.
        let index = usize::try_from(slot).expect("at most 65,536");
        if !std::mem::replace(&mut self.waits[index], true) {
            self.waiting.push_back((slot, cx.waker().clone()));
        }
    }

    /// Wakes as many slots as there are URLs for them.
    fn wake(&mut self) {
        for _ in 0..self.queue.ready() {
            let Some((slot, waker)) = self.waiting.pop_front() else {
                return;
            };
            self.waits[usize::try_from(slot).expect("at most 65,536")] = false;
            waker.wake();
        }
    }
}

pub(crate) fn run<C: AsyncClient + Send + 'static>(
    subject: Subject,
    pipes: &mut Pipes,
    mut client: impl FnMut() -> C,
) -> Result<(), ExitReason> {
    let slots = subject.slots();
    let runtime = runtime(subject.setup.model).map_err(|error| SetupError::event_loop(&error))?;
    let shared = Arc::new(TasksShared {
        state: Mutex::new(TasksState {
            queue: WorkQueue::new(&subject.setup),
            waiting: VecDeque::new(),
            waits: vec![false; usize::try_from(slots).expect("at most 65,536")],
        }),
        messenger_wake: Notify::new(),
        work: subject.work,
    });
    let _inside = runtime.enter();
    for index in 0..slots {
        // Owned by the runtime, which ends them when it is dropped.
        drop(runtime.spawn(slot(shared.clone(), index, client())));
    }
    let input = duplicate(rustix::stdio::stdin())
        .and_then(pipe::Receiver::from_owned_fd)
        .map_err(ExitReason::pipe("input"))?;
    let output = duplicate(rustix::stdio::stdout())
        .and_then(pipe::Sender::from_owned_fd)
        .map_err(ExitReason::pipe("output"))?;
    pipes.send(ready());
    pipes.flush()?;
    let mut messenger = Messenger {
        shared,
        counters: subject.counters,
        instructions: pipes.take_instructions(),
        input,
        output,
        pending: Vec::new(),
        written: 0,
    };
    runtime.block_on(async { messenger.run().await })
}

fn runtime(model: Model) -> io::Result<Runtime> {
    let mut builder = match model {
        Model::AsyncMt => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(processors().get());
            builder
        }
        _ => Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

fn duplicate(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

fn processors() -> NonZeroUsize {
    rustix::thread::sched_getaffinity(None)
        .ok()
        .and_then(|mask| NonZeroUsize::new(mask.count().try_into().ok()?))
        .unwrap_or(NonZeroUsize::MIN)
}

async fn slot(shared: Arc<TasksShared>, index: u32, mut client: impl AsyncClient) {
    let mut url = Vec::new();
    let mut now = None;
    while let Some(mut assignment) =
        poll_fn(|cx| shared.poll_take(cx, index, &mut now, &mut url)).await
    {
        if assignment.is_early {
            sleep_until(assignment.start.into()).await;
            assignment.start = Instant::now();
            shared.begin(assignment);
        }
        let fetched = client.fetch(&url, assignment.start).await;
        if shared.work.is_none() {
            let mut state = shared.lock();
            state.queue.end(fetched.end);
            state.queue.hand_in(index, assignment, &fetched);
            now = Some(fetched.end);
        } else {
            shared.lock().queue.end(fetched.end);
            shared.work.spend();
            shared.lock().queue.hand_in(index, assignment, &fetched);
            // Others had to wait for this: let them go first.
            yield_now().await;
        }
        consume_budget().await;
    }
}

struct Messenger {
    shared: Arc<TasksShared>,
    counters: Arc<Counters>,
    instructions: InstructionReader,
    input: pipe::Receiver,
    output: pipe::Sender,
    pending: Vec<u8>,
    written: usize,
}

impl Messenger {
    async fn run(&mut self) -> Result<(), ExitReason> {
        let mut timer = pin!(sleep_until(Instant::now().into()));
        loop {
            while let Some(instruction) = self.instructions.next()? {
                let mut state = self.shared.lock();
                if follow(instruction, &mut state.queue, &self.counters, &mut self.pending)? {
                    // The runtime's owner ends the slots.
                    return Ok(());
                }
                state.wake();
            }
            let (due, full) = self.collect();
            // While something is written, only the worker's reading lets more be.
            let timed = match due {
                Due::At(at) if self.pending.is_empty() => Some(at),
                _ if full => Some(Instant::now() + HANG_UP_INTERVAL),
                _ => None,
            };
            if let Some(at) = timed {
                timer.as_mut().reset(at.into());
            }
            tokio::select! {
                result = read(&mut self.input, self.instructions.buffer()), if !full => {
                    if result? == 0 {
                        return Err(ExitReason::InputEnded);
                    }
                }
                result = self.output.write(&self.pending[self.written..]), if !self.pending.is_empty() => {
                    self.written += result.map_err(ExitReason::OutputClosed)?;
                    if self.written == self.pending.len() {
                        self.pending.clear();
                        self.written = 0;
                    }
                }
                () = self.shared.messenger_wake.notified(), if self.pending.is_empty() => {}
                () = &mut timer, if timed.is_some() => {
                    if full && is_hung_up() {
                        return Err(ExitReason::InputEnded);
                    }
                }
            }
        }
    }

    /// Takes completions that are due; when to come again, and whether so many
    /// leases wait that no more should be read.
    fn collect(&mut self) -> (Due, bool) {
        let mut state = self.shared.lock();
        let mut outgoing = None;
        if state.queue.outbox.due().has_come() && self.pending.is_empty() {
            outgoing = Some(state.queue.outbox.collect());
            state.wake();
        }
        let found = (state.queue.outbox.due(), state.queue.is_full());
        drop(state);
        if let Some(outgoing) = outgoing {
            outgoing.encode(&mut self.pending);
        }
        found
    }
}

async fn read(input: &mut pipe::Receiver, buffer: &mut BytesMut) -> Result<usize, ExitReason> {
    buffer.reserve(READ_BYTES);
    let read = input.read_buf(buffer).await;
    read.map_err(ExitReason::pipe("input"))
}
