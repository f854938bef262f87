//! The fetcher's side of the two pipes, for threads that may block on them.

use std::{os::fd::BorrowedFd, time::Duration};

use fanout_proto::wire::from_fetcher::Message;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::{Errno, ioctl_fionbio, retry_on_intr},
    stdio::{stdin, stdout},
};

use crate::{
    exit_reason::ExitReason,
    instructions::{Instruction, InstructionReader},
    outbox::{self, Outgoing},
};

/// Bytes read at a time: what a pipe holds by default.
const READ_BYTES: usize = 64 * 1024;

pub(crate) struct Pipes {
    instructions: InstructionReader,
    scratch: Vec<u8>,
    pending: Vec<u8>,
    written: usize,
}

impl Pipes {
    pub(crate) fn new() -> Result<Self, ExitReason> {
        // Reading follows a poll and so never blocks; a long write would.
        ioctl_fionbio(stdout(), true).map_err(ExitReason::pipe("output"))?;
        Ok(Self {
            instructions: InstructionReader::default(),
            scratch: vec![0; READ_BYTES],
            pending: Vec::new(),
            written: 0,
        })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Instruction>, ExitReason> {
        Ok(self.instructions.next()?)
    }

    pub(crate) fn wait_next(&mut self) -> Result<Instruction, ExitReason> {
        loop {
            if let Some(instruction) = self.next()? {
                return Ok(instruction);
            }
            self.wait(None, true, None)?;
        }
    }

    pub(crate) fn send(&mut self, message: Message) {
        outbox::encode(message, &mut self.pending);
    }

    pub(crate) fn send_all(&mut self, outgoing: Outgoing) {
        outgoing.encode(&mut self.pending);
    }

    pub(crate) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// Writes everything, however long the worker takes to read it.
    pub(crate) fn flush(&mut self) -> Result<(), ExitReason> {
        self.write()?;
        while !self.is_flushed() {
            self.wait(None, false, None)?;
        }
        Ok(())
    }

    /// Writes what can be written, waits until there is something to do, and does it; without a
    /// `timeout`, however long that takes. Reads only if `read`; ends also when `wake` is readable.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        read: bool,
        wake: Option<BorrowedFd<'_>>,
    ) -> Result<(), ExitReason> {
        let before = self.pending.len() - self.written;
        self.write()?;
        // What could be written just now may be what was waited for.
        let timeout =
            if self.pending.len() - self.written < before { Some(Duration::ZERO) } else { timeout };
        // A closed output matters only to who has something to write; asked
        // for at other times, it would be told without end.
        let writes = !self.is_flushed();
        let ask = |fd, flags| match fd {
            Some(fd) => PollFd::from_borrowed_fd(fd, flags),
            // A hang-up is told without being asked for.
            None => PollFd::from_borrowed_fd(stdin(), PollFlags::empty()),
        };
        let mut fds = [
            ask(read.then(stdin), PollFlags::IN),
            ask(writes.then(stdout), PollFlags::OUT),
            ask(wake, PollFlags::IN),
        ];
        poll(&mut fds, timeout)?;
        let happened = fds[0].revents();
        if read && happened.contains(PollFlags::IN) {
            self.read()?;
        } else if happened.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(ExitReason::InputEnded);
        }
        if writes && !fds[1].revents().is_empty() {
            self.write()?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), ExitReason> {
        let count = retry_on_intr(|| rustix::io::read(stdin(), &mut self.scratch[..]))
            .map_err(ExitReason::pipe("input"))?;
        if count == 0 {
            return Err(ExitReason::InputEnded);
        }
        let received = &self.scratch[..count];
        self.instructions.buffer().extend_from_slice(received);
        Ok(())
    }

    fn write(&mut self) -> Result<(), ExitReason> {
        while self.written < self.pending.len() {
            match rustix::io::write(stdout(), &self.pending[self.written..]) {
                Ok(count) => self.written += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(ExitReason::OutputClosed(error.into())),
            }
        }
        self.pending.clear();
        self.written = 0;
        Ok(())
    }

    /// What has arrived but was not taken yet goes on into another's hands.
    pub(crate) fn take_instructions(&mut self) -> InstructionReader {
        std::mem::take(&mut self.instructions)
    }
}

fn poll(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> Result<(), ExitReason> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(ExitReason::pipe("input or output")(error)),
    }
}

/// Whether the worker has closed the fetcher's input, asked in the midst of other work.
pub(crate) fn is_hung_up() -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stdin(), PollFlags::empty())];
    poll(&mut fds, Some(Duration::ZERO)).is_ok()
        && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}
