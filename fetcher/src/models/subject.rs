//! What every model is given, and what each instruction means to it.

use std::{sync::Arc, time::Instant};

use fanout_proto::{
    setup::Setup,
    wire::{FetcherIsReady, from_fetcher::Message},
};

use crate::{
    counters::Counters, exit_reason::ExitReason, instructions::Instruction, outbox, work::Work,
    work_queue::WorkQueue,
};

pub(crate) struct Subject {
    pub(crate) setup: Setup,
    pub(crate) counters: Arc<Counters>,
    pub(crate) work: Work,
}

impl Subject {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { counters: Arc::default(), work: Work::new(&setup), setup }
    }

    pub(crate) fn slots(&self) -> u32 {
        self.setup.concurrency.get()
    }
}

/// The first message after the setup, if it succeeded.
pub(super) fn ready() -> Message {
    Message::Ready(FetcherIsReady::default())
}

/// Follows an instruction; what is to be written goes to `out`. Whether it was the last one.
pub(super) fn follow(
    instruction: Instruction,
    queue: &mut WorkQueue,
    counters: &Counters,
    out: &mut Vec<u8>,
) -> Result<bool, ExitReason> {
    match instruction {
        Instruction::Setup(_) => {}
        Instruction::Leases(batch) => queue.lease(Instant::now(), batch),
        Instruction::Go => queue.go(Instant::now()),
        Instruction::Hold if !queue.is_clear() => return Err(ExitReason::EarlyHold),
        Instruction::Hold => {
            queue.outbox.collect().encode(out);
            outbox::encode(Message::Report(queue.report(counters).into()), out);
        }
        Instruction::Exit => return Ok(true),
    }
    Ok(false)
}
