//! Memory, threads and waiting of one process, out of its directory in /proc.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    time::Duration,
};

use fanout_proto::report::{HoldSnapshot, ProcessMemory};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, statat};

use super::{field, field_bytes};

/// Longest file that is read here; each has a few lines.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// A process's directory in /proc, held open: once the process is gone every
/// read fails, also when its id has been given to another.
#[derive(Debug)]
pub(crate) struct ProcessDir {
    directory: OwnedFd,
    pid: u32,
}

impl ProcessDir {
    /// Opens the directory of `pid`, which must not have been reaped.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?;
        Ok(Self { directory, pid })
    }

    /// Makes the kernel's out-of-memory killer take this process before the
    /// worker (proc_pid_oom_score_adj(5)).
    pub(crate) fn offer_to_oom_killer(&self) -> io::Result<()> {
        let present: Option<i32> =
            self.read("oom_score_adj").and_then(|text| text.trim().parse().ok());
        let raised = (present.unwrap_or(0) + 500).min(1000);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&self.directory, "oom_score_adj", flags, Mode::empty())?;
        File::from(file).write_all(raised.to_string().as_bytes())
    }

    /// CPU time of all threads so far, ended ones included, user and system together: the kernel's
    /// clock of this process. What `wait4` says in the end is the same sum of run times, so that
    /// this can be taken off it. In nanoseconds, while /proc/PID/stat counts ticks of 10 ms.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.pid.try_into().ok()?)).ok()?;
        // Below zero where a tool sets it back; as a duration that would be centuries.
        let time = clock_gettime(clock).ok().filter(|time| time.tv_sec() >= 0)?;
        // While the directory is there the number is still this process's own.
        statat(&self.directory, "stat", AtFlags::empty()).ok()?;
        Some(time.into())
    }

    /// Memory now. Costs the kernel 0.2 to 1 ms, by the size of the process.
    pub(crate) fn memory(&self) -> ProcessMemory {
        let threads = self.read("status").and_then(|text| threads(&text));
        memory_of(self.read("smaps_rollup").as_deref(), threads)
    }

    /// Everything that is read at the hold, while all threads are alive.
    pub(crate) fn held(&self) -> HoldSnapshot {
        let status = self.read("status");
        let field = |name| status.as_deref().and_then(|text| field_bytes(text, name));
        HoldSnapshot {
            hwm_bytes: field("VmHWM"),
            memory: memory_of(
                self.read("smaps_rollup").as_deref(),
                status.as_deref().and_then(threads),
            ),
            page_tables_bytes: field("VmPTE"),
            run_queue_wait: self.run_queue_wait(),
        }
    }

    /// Time that the living threads were ready to run and did not. The
    /// process's own `schedstat` is that of its first thread alone.
    fn run_queue_wait(&self) -> Option<Duration> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let tasks = openat(&self.directory, "task", flags, Mode::empty()).ok()?;
        let mut sum = None;
        for entry in Dir::read_from(&tasks).ok()? {
            let entry = entry.ok()?;
            let Some(thread) = entry.file_name().to_str().ok().filter(|n| *n != "." && *n != "..")
            else {
                continue;
            };
            // A thread may end between the listing and this.
            let wait = self
                .read(&format!("task/{thread}/schedstat"))
                .and_then(|text| run_queue_wait(&text));
            if let Some(wait) = wait {
                sum = Some(sum.unwrap_or(Duration::ZERO) + wait);
            }
        }
        sum
    }

    fn read(&self, name: &str) -> Option<String> {
        let file =
            openat(&self.directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = String::with_capacity(2048);
        File::from(file).take(FILE_MAX_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

fn memory_of(smaps_rollup: Option<&str>, threads: Option<u32>) -> ProcessMemory {
    let field = |name| smaps_rollup.and_then(|text| field_bytes(text, name));
    let sum = |one: Option<u64>, other: Option<u64>| one?.checked_add(other?);
    ProcessMemory {
        pss_bytes: field("Pss"),
        uss_bytes: sum(field("Private_Clean"), field("Private_Dirty")),
        anonymous_bytes: sum(field("Anonymous"), field("Swap")),
        file_bytes: field("Rss").zip(field("Anonymous")).map(|(all, own)| all.saturating_sub(own)),
        threads,
    }
}

fn threads(status: &str) -> Option<u32> {
    field(status, "Threads")?.parse().ok()
}

/// The second number of a `schedstat`: nanoseconds spent waiting on a run queue
/// (Documentation/scheduler/sched-stats.rst).
fn run_queue_wait(schedstat: &str) -> Option<Duration> {
    let waited = schedstat.split_ascii_whitespace().nth(1)?;
    Some(Duration::from_nanos(waited.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::usage::own_cpu;

    const SMAPS_ROLLUP: &str = "\
562a06b9a000-7ffd9b5f2000 ---p 00000000 00:00 0                          [rollup]
Rss:                1888 kB
Pss:                 289 kB
Pss_Dirty:            96 kB
Pss_Anon:             96 kB
Pss_File:            193 kB
Pss_Shmem:             0 kB
Shared_Clean:       1760 kB
Shared_Dirty:          0 kB
Private_Clean:        32 kB
Private_Dirty:        96 kB
Referenced:         1888 kB
Anonymous:            96 kB
Swap:                 12 kB
SwapPss:               0 kB
Locked:                0 kB
";

    const STATUS: &str = "\
Name:\tcat
Umask:\t0022
State:\tR (running)
VmPeak:\t    3228 kB
VmHWM:\t    1912 kB
VmRSS:\t    1888 kB
Threads:\t17
voluntary_ctxt_switches:\t0
";

    #[test]
    fn pss_and_private_pages_are_read() {
        assert_eq!(
            memory_of(Some(SMAPS_ROLLUP), threads(STATUS)),
            ProcessMemory {
                pss_bytes: Some(289 * 1024),
                uss_bytes: Some(128 * 1024),
                anonymous_bytes: Some(108 * 1024),
                file_bytes: Some(1792 * 1024),
                threads: Some(17)
            }
        );
        assert_eq!(field_bytes(STATUS, "VmHWM"), Some(1912 * 1024));
    }

    #[test]
    fn what_is_not_there_is_none() {
        assert_eq!(memory_of(None, None), ProcessMemory::default());
        assert_eq!(memory_of(Some(""), None), ProcessMemory::default());
        let without = |name| memory_of(Some(&SMAPS_ROLLUP.replace(name, "Renamed")), None);
        assert_eq!(without("Private_Dirty").uss_bytes, None);
        assert_eq!(without("Anonymous").anonymous_bytes, None);
        assert_eq!(without("Anonymous").file_bytes, None);
        assert_eq!(threads("Threads:\tmany"), None);
        assert_eq!(field_bytes("VmHWM: 12 pages", "VmHWM"), None);
    }

    #[test]
    fn waiting_is_the_second_number() {
        assert_eq!(run_queue_wait("1522917 340085 9\n"), Some(Duration::from_nanos(340_085)));
        assert_eq!(run_queue_wait("1522917"), None);
        assert_eq!(run_queue_wait(""), None);
    }

    #[test]
    fn a_living_process_can_be_read_and_all_its_threads_count() {
        let me = ProcessDir::open(std::process::id()).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || held.recv());
        let figures = me.held();
        drop(release);
        assert!(other.join().unwrap().is_err());
        let memory = figures.memory;
        assert!(memory.threads.unwrap() >= 2, "{figures:?}");
        assert!(figures.hwm_bytes.unwrap() >= memory.uss_bytes.unwrap());
        assert!(memory.pss_bytes.unwrap() >= memory.uss_bytes.unwrap());
        assert!(memory.anonymous_bytes.unwrap() > 0 && memory.file_bytes.unwrap() > 0);
        assert!(figures.page_tables_bytes.unwrap() > 0);
        assert!(me.memory().pss_bytes.is_some());
    }

    #[test]
    fn a_process_that_is_gone_has_no_figures() {
        let mut child = std::process::Command::new("/proc/self/exe")
            .arg("--list")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let directory = ProcessDir::open(child.id()).unwrap();
        child.wait().unwrap();
        assert_eq!(directory.memory(), ProcessMemory::default());
        assert_eq!(directory.held(), HoldSnapshot::default());
        assert_eq!(directory.cpu(), None);
    }

    #[test]
    fn cpu_time_is_that_of_all_threads_and_outlives_them() {
        let me = ProcessDir::open(std::process::id()).unwrap();
        let before = me.cpu().unwrap();
        let spun = std::thread::spawn(|| {
            let begin = ThreadCpu::now();
            while begin.elapsed() < Duration::from_millis(20) {}
            begin.elapsed()
        });
        let spun = spun.join().unwrap();
        let spent = me.cpu().unwrap() - before;
        assert!(spent >= spun, "{spent:?} of {spun:?}");
        // What the system says in another way; the tests of this process may run meanwhile.
        let (before, own, after) = (me.cpu().unwrap(), own_cpu().unwrap(), me.cpu().unwrap());
        let own = own.user + own.system;
        let micros = Duration::from_micros(10);
        assert!(before - micros <= own && own <= after + micros, "{before:?} {own:?} {after:?}");
    }

    /// CPU time of the calling thread.
    struct ThreadCpu(Duration);

    impl ThreadCpu {
        fn now() -> Self {
            Self(clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into())
        }

        fn elapsed(&self) -> Duration {
            Self::now().0 - self.0
        }
    }
}
