//! One thread, one URL at a time, nothing else in the process.

use std::time::{Duration, Instant};

use super::{Subject, ready, report};
use crate::{
    clients::BlockingClient,
    drive::blocking::Vigil,
    ending::Ending,
    outbox::Due,
    pipes::{Patience, Pipes, is_hung_up},
    session::Instruction,
    work_queue::{Desk, Take},
};

/// While the only thread waits for a server, it looks this often whether the
/// worker still wants it. (A worker that dies takes its fetchers with it; and
/// a client that is a library waits as long as its own timeouts allow.)
pub(crate) const VIGIL: Vigil = Vigil {
    interval: Duration::from_secs(1),
    look: end_if_hung_up,
};

fn end_if_hung_up() {
    if is_hung_up() {
        Ending::InputEnded.exit();
    }
}

/// The longest time between two looks at the input while URLs are at hand.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Runs until the worker ends it.
pub(crate) fn run(
    subject: Subject,
    pipes: &mut Pipes,
    mut client: impl BlockingClient,
) -> Result<(), Ending> {
    let mut desk = Desk::new(&subject.setup);
    let mut url = Vec::new();
    let mut looked = Instant::now();
    // When the last completion was handed in; the clock is read no oftener.
    let mut now = Instant::now();
    let mut last_took = Duration::ZERO;
    pipes.send(ready());
    loop {
        while let Some(instruction) = pipes.next()? {
            match instruction {
                Instruction::Setup(_) => {}
                Instruction::Leases(batch) => desk.lease(batch),
                Instruction::Go => {
                    now = Instant::now();
                    desk.go(now);
                }
                Instruction::Hold if !desk.is_clear() => return Err(Ending::EarlyHold),
                Instruction::Hold => {
                    pipes.send_all(desk.collect());
                    pipes.send(report(&desk.report(&subject.counters)));
                }
                Instruction::Exit => return Ok(()),
            }
        }
        match desk.take(now, &mut url) {
            Take::Url(mut taken) => {
                // Nobody can interrupt this exchange: what would come due
                // during it, by the last one's length, leaves before it.
                let leaves = match desk.due() {
                    Due::Never => false,
                    Due::Now => true,
                    Due::At(due) => taken.is_early || now + last_took >= due,
                };
                if leaves && pipes.is_flushed() {
                    pipes.send_all(desk.collect());
                }
                if leaves || now.saturating_duration_since(looked) >= LOOK_INTERVAL {
                    pipes.wait(Patience::None, !desk.is_laden(), None)?;
                    looked = now;
                }
                if taken.is_early {
                    taken.start = wait_until(taken.start, pipes)?;
                    desk.begin(taken.start, taken.id);
                }
                let fetched = client.fetch(&url, taken.start);
                desk.end(fetched.end);
                now = fetched.end;
                if !subject.work.is_none() {
                    subject.work.spend();
                    now = Instant::now();
                }
                desk.hand_in(0, taken, &fetched);
                last_took = now.saturating_duration_since(taken.start);
            }
            Take::Wait | Take::Closed => {
                if pipes.is_flushed() && desk.due() == Due::Now {
                    pipes.send_all(desk.collect());
                }
                if desk.ready() == 0 {
                    pipes.wait(Patience::Endless, !desk.is_laden(), None)?;
                    now = Instant::now();
                }
            }
        }
    }
}

/// Waits for an intended start and meanwhile for the end of the input; says
/// when it really is.
fn wait_until(start: Instant, pipes: &mut Pipes) -> Result<Instant, Ending> {
    loop {
        let now = Instant::now();
        if now >= start {
            return Ok(now);
        }
        // Only a hang-up is looked for: instructions can wait, and reading
        // them here would have no bound.
        pipes.wait(Patience::For(start - now), false, None)?;
    }
}
