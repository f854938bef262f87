//! CPU time and switches: of this process, and of a child at its reaping.

use std::{
    io,
    process::{Child, ExitStatus},
    sync::Mutex,
    time::Duration,
};

use fanout_program::lock;
use fanout_proto::report::ResourceUsage;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use wait4::Wait4;

static REAPING: Mutex<()> = Mutex::new(());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    pub(crate) status: ExitStatus,
    pub(crate) usage: ResourceUsage,
}

pub(crate) fn own_cpu() -> Option<Cpu> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    Some(Cpu { user: duration(usage.user_time())?, system: duration(usage.system_time())? })
}

/// Reaps `child` if it has ended; its id must not be used afterwards.
/// `before_reaping` is called once it has ended, while its id is still its own.
///
/// CPU times come from `wait4` itself. Its wrapper keeps switches to itself, so those are what the
/// kernel adds during the call to this process's account of reaped children (`getrusage(2)`,
/// `RUSAGE_CHILDREN`): exact, since all children are reaped here, one at a time.
pub(crate) fn reap(child: &mut Child, before_reaping: impl FnOnce()) -> io::Result<Option<Reaped>> {
    let _one_at_a_time = lock(&REAPING);
    if !has_ended(child) {
        return Ok(None);
    }
    before_reaping();
    let before = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let Some(ended) = child.try_wait4()? else {
        return Ok(None);
    };
    let after = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let grown = |count: fn(&Usage) -> i64| {
        u64::try_from(count(&after).saturating_sub(count(&before))).unwrap_or(0)
    };
    Ok(Some(Reaped {
        status: ended.status,
        usage: ResourceUsage {
            cpu_user: ended.rusage.utime,
            cpu_system: ended.rusage.stime,
            voluntary_switches: grown(Usage::voluntary_context_switches),
            involuntary_switches: grown(Usage::involuntary_context_switches),
            cpu_start: None,
        },
    }))
}

/// Ends `child` and reaps it, whatever it is doing.
pub(crate) fn end(child: &mut Child) {
    let _one_at_a_time = lock(&REAPING);
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::error!(%error, pid = child.id(), "a fetcher could not be ended");
    }
}

/// Whether `child` has ended; it stays to be reaped.
fn has_ended(child: &Child) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    // An error is for the reaping itself to report.
    pid.is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), look), Ok(None)))
}

fn duration(time: nix::sys::time::TimeVal) -> Option<Duration> {
    let seconds = Duration::from_secs(time.tv_sec().try_into().ok()?);
    Some(seconds + Duration::from_micros(time.tv_usec().try_into().ok()?))
}
