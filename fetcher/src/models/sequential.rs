//! One thread, one URL at a time, nothing else in the process.

use std::time::{Duration, Instant};

use super::subject::{Subject, follow, ready};
use crate::{
    client::BlockingClient,
    exit_reason::ExitReason,
    instructions::Instruction,
    outbox::Due,
    pipes::Pipes,
    work_queue::{Take, WorkQueue},
};

/// The longest time between two looks at the input while URLs are at hand.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) fn run(
    subject: Subject,
    pipes: &mut Pipes,
    mut client: impl BlockingClient,
) -> Result<(), ExitReason> {
    let mut queue = WorkQueue::new(&subject.setup);
    let mut url = Vec::new();
    let mut looked = Instant::now();
    // When the last completion was handed in; the clock is read no oftener.
    let mut now = Instant::now();
    let mut last_took = Duration::ZERO;
    pipes.send(ready());
    loop {
        while let Some(instruction) = pipes.next()? {
            let is_go = matches!(instruction, Instruction::Go);
            if follow(instruction, &mut queue, &subject.counters, pipes.pending())? {
                return Ok(());
            }
            if is_go {
                now = Instant::now();
            }
        }
        match queue.take(now, &mut url) {
            Take::Url(mut assignment) => {
                // Nobody can interrupt this exchange: what would come due
                // during it, by the last one's length, leaves before it.
                let leaves = match queue.outbox.due() {
                    Due::Never => false,
                    Due::Now => true,
                    Due::At(due) => assignment.is_early || now + last_took >= due,
                };
                if leaves && pipes.is_flushed() {
                    pipes.send_all(queue.outbox.collect());
                }
                if leaves || now.saturating_duration_since(looked) >= LOOK_INTERVAL {
                    pipes.wait(Some(Duration::ZERO), !queue.is_full(), None)?;
                    looked = now;
                }
                if assignment.is_early {
                    assignment.start = wait_until(assignment.start, pipes)?;
                    queue.begin(assignment.start, assignment.id);
                }
                let fetched = client.fetch(&url, assignment.start);
                queue.end(fetched.end);
                now = fetched.end;
                if !subject.work.is_none() {
                    subject.work.spend();
                    now = Instant::now();
                }
                queue.hand_in(0, assignment, &fetched);
                last_took = now.saturating_duration_since(assignment.start);
            }
            Take::Wait | Take::Closed => {
                if pipes.is_flushed() && queue.outbox.due() == Due::Now {
                    pipes.send_all(queue.outbox.collect());
                }
                if queue.ready() == 0 {
                    pipes.wait(None, !queue.is_full(), None)?;
                    now = Instant::now();
                }
            }
        }
    }
}

/// Waits for an intended start and meanwhile for the end of the input; says when it really is.
fn wait_until(start: Instant, pipes: &mut Pipes) -> Result<Instant, ExitReason> {
    loop {
        let now = Instant::now();
        if now >= start {
            return Ok(now);
        }
        // Only a hang-up is looked for: instructions can wait, and reading
        // them here would have no bound.
        pipes.wait(Some(start - now), false, None)?;
    }
}
