//! Starting a fetcher's process.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use fanout_program::{Pinned, watch};
use rustix::{
    pipe::fcntl_setpipe_size,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    io::unix::AsyncFd,
    net::unix::pipe::{Receiver, Sender},
};

use crate::measure::{process::ProcessDir, usage};

/// Bytes that all pipes of one trial may hold together: half of what the kernel grants an
/// unprivileged user before it makes new pipes tiny (pipe(7), `pipe-user-pages-soft`).
const PIPES_BYTES: usize = 32 * 1024 * 1024;
/// Larger pipes save nothing more, and an unprivileged user gets no larger ones.
const PIPE_MAX_BYTES: usize = 1024 * 1024;
/// What a pipe holds by default.
const PIPE_MIN_BYTES: usize = 64 * 1024;

/// The variable that holds the coordinator's token, which is none of a fetcher's business.
pub(crate) const TOKEN_VARIABLE: &str = "FANOUT_TOKEN";

/// How to start a fetcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetcherCommand {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl FetcherCommand {
    /// Any program that speaks frames on its stdin and stdout.
    pub fn new(program: impl Into<PathBuf>, arguments: Vec<OsString>) -> Self {
        Self { program: program.into(), arguments }
    }

    /// This very executable, with the argument `fetcher`. Through /proc it is
    /// the running one also after an upgrade has replaced the file.
    pub fn this_executable() -> Self {
        Self::new("/proc/self/exe", vec!["fetcher".into()])
    }

    /// Keeps it to public addresses, if it is one of ours.
    #[must_use]
    pub fn deny_private(mut self, deny: bool) -> Self {
        if deny {
            self.arguments.push(fanout_fetcher::DENY_PRIVATE.into());
        }
        self
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(own_name) =
            std::env::args_os().next().filter(|_| self.program.starts_with("/proc/self"))
        {
            command.arg0(own_name);
        }
        command
            .args(&self.arguments)
            .env_remove(TOKEN_VARIABLE)
            // A terminal's Ctrl-C is for the coordinator to answer, not for fetchers.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// A fetcher that was started: what its task owns, and what the session keeps.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: FetcherProcess,
    pub(crate) directory: ProcessDir,
}

#[derive(Debug)]
pub(crate) struct FetcherProcess {
    pub(crate) child: OwnedChild,
    pub(crate) stdin: Sender,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
    /// Readable once it has ended.
    pub(crate) exit: AsyncFd<Arc<OwnedFd>>,
}

/// Ends a process; harmless once it is gone, and never ends another.
#[derive(Debug, Clone)]
pub(crate) struct Killer(Arc<OwnedFd>);

impl Killer {
    pub(crate) fn kill(&self) {
        // The only error left is that it is gone already.
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

impl FetcherProcess {
    pub(crate) fn killer(&self) -> Killer {
        Killer(Arc::clone(self.exit.get_ref()))
    }
}

/// A child that has not been reaped; killed when dropped.
#[derive(Debug)]
pub(crate) struct OwnedChild(Option<Child>);

impl OwnedChild {
    /// Reaps the child if it has ended, together with whatever it started and
    /// left behind in its process group.
    pub(crate) fn reap(&mut self) -> io::Result<Option<usage::Reaped>> {
        let Some(child) = &mut self.0 else {
            return Err(io::Error::other("it was reaped before"));
        };
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let reaped = usage::reap(child, || {
            // Not yet reaped, so its number still names this group only.
            if let Some(group) = group {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
        });
        if !matches!(reaped, Ok(None)) {
            self.0 = None;
        }
        reaped
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Not waited for: a process that the kernel cannot end must not
            // keep the worker from ending.
            let _ = child.kill();
        }
    }
}

pub(crate) fn pipe_bytes(fetchers: usize) -> usize {
    let share = PIPES_BYTES / (2 * fetchers.max(1));
    // The kernel rounds up to a power of two; round down to stay in the budget.
    let power = share.checked_ilog2().map_or(0, |bits| 1 << bits);
    power.clamp(PIPE_MIN_BYTES, PIPE_MAX_BYTES)
}

/// Starts a fetcher on `cpus` (empty: all of `allowed`), within a tokio runtime; or says why not.
pub(crate) fn start(
    how: &FetcherCommand,
    cpus: &[u32],
    allowed: &[u32],
    pipe_bytes: usize,
) -> Result<Started, String> {
    let child = {
        check(cpus, allowed)?;
        let _pinned = Pinned::to(cpus)
            .map_err(|error| format!("its processors could not be set: {error}"))?;
        how.command()
            .spawn()
            .map_err(|error| format!("{} could not be started: {error}", how.program.display()))?
    };
    own(child, pipe_bytes)
}

/// Takes a child over, with its pipes, within a tokio runtime; or ends it and says why not.
pub(crate) fn own(mut child: Child, pipe_bytes: usize) -> Result<Started, String> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let pid = child.id();
    let set_up = || -> io::Result<_> {
        let piped = || io::Error::other("a pipe is missing");
        let stdin = OwnedFd::from(stdin.ok_or_else(piped)?);
        let stdout = OwnedFd::from(stdout.ok_or_else(piped)?);
        let stderr = OwnedFd::from(stderr.ok_or_else(piped)?);
        for pipe in [&stdin, &stdout] {
            // A smaller pipe works too.
            let _ = fcntl_setpipe_size(pipe.as_fd(), pipe_bytes);
        }
        let directory = ProcessDir::open(pid)?;
        if let Err(error) = directory.offer_to_oom_killer() {
            tracing::debug!(%error, "a fetcher's oom_score_adj stays as it is");
        }
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::other("its process id is none"))?;
        Ok((
            Sender::from_owned_fd(stdin)?,
            Receiver::from_owned_fd(stdout)?,
            Receiver::from_owned_fd(stderr)?,
            watch(Arc::new(pidfd_open(raw, PidfdFlags::empty())?))?,
            directory,
        ))
    };
    match set_up() {
        Ok((stdin, stdout, stderr, exit, directory)) => Ok(Started {
            process: FetcherProcess { child: OwnedChild(Some(child)), stdin, stdout, stderr, exit },
            directory,
        }),
        Err(error) => {
            usage::end(&mut child);
            Err(format!(
                "its pipes or its process could not be watched (Linux 5.3 is needed): {error}"
            ))
        }
    }
}

fn check(cpus: &[u32], allowed: &[u32]) -> Result<(), String> {
    match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        None => Ok(()),
        Some(cpu) => Err(format!(
            "processor {cpu} is not among those that this worker may use ({allowed:?})"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_of_a_trial_keep_within_their_budget() {
        assert_eq!(pipe_bytes(1), PIPE_MAX_BYTES);
        assert_eq!(pipe_bytes(16), PIPE_MAX_BYTES);
        assert_eq!(pipe_bytes(17), 512 * 1024);
        assert_eq!(pipe_bytes(64), 256 * 1024);
        assert_eq!(pipe_bytes(100_000), PIPE_MIN_BYTES);
        for fetchers in 1..=256 {
            assert!(2 * fetchers * pipe_bytes(fetchers) <= PIPES_BYTES);
        }
    }

    #[test]
    fn processors_outside_the_mask_are_refused() {
        let refused = check(&[1, 7], &[0, 1]).unwrap_err();
        assert_eq!(refused, "processor 7 is not among those that this worker may use ([0, 1])");
        assert!(check(&[u32::MAX], &[0]).is_err());
    }
}
