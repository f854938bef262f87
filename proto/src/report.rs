//! What is known of a fetcher when its trial is over.

use std::time::Duration;

use crate::{
    WireError,
    id::FetcherId,
    text,
    time::{micros, nanos},
    wire,
};

/// The fetcher's own counters, as it reports them at the hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetcherReport {
    /// Connections opened, replacements of stale ones included.
    pub connections_opened: u64,
    /// Requests sent, redirects and retries included.
    pub requests_sent: u64,
    /// Redirects followed.
    pub redirects_followed: u64,
    /// Requests sent again because a kept connection had been closed.
    pub stale_retries: u64,
    /// Names that were looked up.
    pub names_resolved: u64,
    /// The gauge of URLs in flight, integrated over time.
    pub in_flight: Duration,
    /// The gauge's peak.
    pub in_flight_peak: u32,
    /// Time that slots waited for a URL that came; summed over them. Who does not measure it says
    /// nothing.
    pub starved: Option<Duration>,
    /// From Go to the first take-up.
    pub first_start: Option<Duration>,
    /// From Go to the last completion.
    pub last_end: Option<Duration>,
}

impl From<&FetcherReport> for wire::FetcherReport {
    fn from(r: &FetcherReport) -> Self {
        Self {
            connections_opened: r.connections_opened,
            requests_sent: r.requests_sent,
            redirects_followed: r.redirects_followed,
            stale_retries: r.stale_retries,
            names_resolved: r.names_resolved,
            in_flight_us: micros(r.in_flight),
            in_flight_peak: r.in_flight_peak,
            starved_us: r.starved.map(micros),
            first_start_us: r.first_start.map(micros),
            last_end_us: r.last_end.map(micros),
        }
    }
}

impl From<wire::FetcherReport> for FetcherReport {
    fn from(m: wire::FetcherReport) -> Self {
        Self {
            connections_opened: m.connections_opened,
            requests_sent: m.requests_sent,
            redirects_followed: m.redirects_followed,
            stale_retries: m.stale_retries,
            names_resolved: m.names_resolved,
            in_flight: Duration::from_micros(m.in_flight_us),
            in_flight_peak: m.in_flight_peak,
            starved: m.starved_us.map(Duration::from_micros),
            first_start: m.first_start_us.map(Duration::from_micros),
            last_end: m.last_end_us.map(Duration::from_micros),
        }
    }
}

/// Memory of one process at one moment; what cannot be read is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessMemory {
    /// Proportional set size.
    pub pss_bytes: Option<u64>,
    /// Unique set size: private clean and dirty pages.
    pub uss_bytes: Option<u64>,
    /// Anonymous memory, swapped out or not: no other process shares it.
    pub anonymous_bytes: Option<u64>,
    /// Resident file pages: those of the program and its libraries, which processes share.
    pub file_bytes: Option<u64>,
    /// Threads alive.
    pub threads: Option<u32>,
}

/// Read from /proc while the fetcher holds; what cannot be read is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HoldSnapshot {
    /// Peak resident memory of this process (VmHWM).
    pub hwm_bytes: Option<u64>,
    /// Memory at the hold.
    pub memory: ProcessMemory,
    /// Its page tables.
    pub page_tables_bytes: Option<u64>,
    /// Time that threads were ready to run and did not, summed over them.
    pub run_queue_wait: Option<Duration>,
}

impl From<&HoldSnapshot> for wire::HoldSnapshot {
    fn from(h: &HoldSnapshot) -> Self {
        Self {
            hwm_bytes: h.hwm_bytes,
            pss_bytes: h.memory.pss_bytes,
            uss_bytes: h.memory.uss_bytes,
            anonymous_bytes: h.memory.anonymous_bytes,
            file_bytes: h.memory.file_bytes,
            threads: h.memory.threads,
            page_tables_bytes: h.page_tables_bytes,
            run_queue_wait_ns: h.run_queue_wait.map(nanos),
        }
    }
}

impl From<wire::HoldSnapshot> for HoldSnapshot {
    fn from(m: wire::HoldSnapshot) -> Self {
        Self {
            hwm_bytes: m.hwm_bytes,
            memory: ProcessMemory {
                pss_bytes: m.pss_bytes,
                uss_bytes: m.uss_bytes,
                anonymous_bytes: m.anonymous_bytes,
                file_bytes: m.file_bytes,
                threads: m.threads,
            },
            page_tables_bytes: m.page_tables_bytes,
            run_queue_wait: m.run_queue_wait_ns.map(Duration::from_nanos),
        }
    }
}

/// What `wait4` says of a reaped process: its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResourceUsage {
    /// CPU time in user mode.
    pub cpu_user: Duration,
    /// CPU time in the kernel.
    pub cpu_system: Duration,
    /// Context switches because it waited.
    pub voluntary_switches: u64,
    /// Context switches because its time was up or another had precedence.
    pub involuntary_switches: u64,
    /// Of the CPU time, user and system: what was spent before Go. `None` if Go never came.
    pub cpu_start: Option<Duration>,
}

impl From<&ResourceUsage> for wire::ResourceUsage {
    fn from(u: &ResourceUsage) -> Self {
        Self {
            cpu_user_us: micros(u.cpu_user),
            cpu_system_us: micros(u.cpu_system),
            voluntary_switches: u.voluntary_switches,
            involuntary_switches: u.involuntary_switches,
            cpu_start_us: u.cpu_start.map(micros),
        }
    }
}

impl From<wire::ResourceUsage> for ResourceUsage {
    fn from(m: wire::ResourceUsage) -> Self {
        Self {
            cpu_user: Duration::from_micros(m.cpu_user_us),
            cpu_system: Duration::from_micros(m.cpu_system_us),
            voluntary_switches: m.voluntary_switches,
            involuntary_switches: m.involuntary_switches,
            cpu_start: m.cpu_start_us.map(Duration::from_micros),
        }
    }
}

/// Memory of a worker's fetchers together, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemorySample {
    /// Since the worker let its fetchers go.
    pub elapsed: Duration,
    /// Fetchers that could be read.
    pub fetchers: u32,
    /// Their proportional set size.
    pub pss_bytes: Option<u64>,
    /// Their unique set size.
    pub uss_bytes: Option<u64>,
    /// Their anonymous memory.
    pub anonymous_bytes: Option<u64>,
    /// File pages of the fetcher that has most. All run the same program, so these are the pages
    /// of all of them, once.
    pub file_bytes: Option<u64>,
    /// Their threads.
    pub threads: u32,
}

impl MemorySample {
    /// A sample of no fetcher yet.
    #[must_use]
    pub fn at(elapsed: Duration) -> Self {
        Self { elapsed, ..Self::default() }
    }

    /// Adds a fetcher, if its memory could be read.
    pub fn add(&mut self, fetcher: &ProcessMemory) {
        if fetcher.pss_bytes.is_none() && fetcher.uss_bytes.is_none() {
            return;
        }
        let sum = |sum: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        };
        self.fetchers += 1;
        sum(&mut self.pss_bytes, fetcher.pss_bytes);
        sum(&mut self.uss_bytes, fetcher.uss_bytes);
        sum(&mut self.anonymous_bytes, fetcher.anonymous_bytes);
        self.file_bytes = self.file_bytes.max(fetcher.file_bytes);
        self.threads = self.threads.saturating_add(fetcher.threads.unwrap_or(0));
    }
}

impl From<wire::MemorySample> for MemorySample {
    fn from(m: wire::MemorySample) -> Self {
        Self {
            elapsed: Duration::from_micros(m.elapsed_us),
            fetchers: m.fetchers,
            pss_bytes: m.pss_bytes,
            uss_bytes: m.uss_bytes,
            anonymous_bytes: m.anonymous_bytes,
            file_bytes: m.file_bytes,
            threads: m.threads,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// The kernel ended it because memory ran out.
    OutOfMemory,
    /// It could not be started.
    NotStarted,
}

impl From<Exit> for wire::Exit {
    fn from(exit: Exit) -> Self {
        use wire::exit::How;
        let (how, out_of_memory) = match exit {
            Exit::Code(code) => (How::Code(code), false),
            Exit::Signal(signal) => (How::Signal(signal), false),
            Exit::OutOfMemory => (How::Signal(9), true),
            Exit::NotStarted => (How::NotStarted(true), false),
        };
        Self { how: Some(how), out_of_memory }
    }
}

impl TryFrom<wire::Exit> for Exit {
    type Error = WireError;

    fn try_from(m: wire::Exit) -> Result<Self, WireError> {
        use wire::exit::How;
        Ok(match m.how.ok_or(WireError::Missing("exit.how"))? {
            How::Signal(_) if m.out_of_memory => Self::OutOfMemory,
            How::Code(code) => Self::Code(code),
            How::Signal(signal) => Self::Signal(signal),
            How::NotStarted(_) => Self::NotStarted,
        })
    }
}

/// A fetcher that has been reaped, after the hold or before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetcherExited {
    /// Which one.
    pub fetcher: FetcherId,
    /// How it ended.
    pub exit: Exit,
    /// Its counters; `None` when it died before the hold.
    pub report: Option<FetcherReport>,
    /// What was read while it held.
    pub held: HoldSnapshot,
    /// `None` when it was never started.
    pub usage: Option<ResourceUsage>,
    /// What went wrong, for people; empty when nothing did.
    pub reason: String,
}

impl TryFrom<wire::FetcherExited> for FetcherExited {
    type Error = WireError;

    fn try_from(m: wire::FetcherExited) -> Result<Self, WireError> {
        Ok(Self {
            fetcher: FetcherId(m.fetcher),
            exit: m.exit.ok_or(WireError::Missing("exit"))?.try_into()?,
            report: m.report.map(Into::into),
            held: m.held.map(Into::into).unwrap_or_default(),
            usage: m.usage.map(Into::into),
            reason: text::reason(&m.reason),
        })
    }
}

/// What a trial cost the worker itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerUsage {
    /// CPU time of the worker in user mode, sampling included.
    pub cpu_user: Option<Duration>,
    /// CPU time of the worker in the kernel.
    pub cpu_system: Option<Duration>,
    /// Bytes written into fetchers' pipes.
    pub pipe_bytes_to_fetchers: u64,
    /// Bytes read from fetchers' pipes.
    pub pipe_bytes_from_fetchers: u64,
    /// From Go's arrival to its being written to the last fetcher.
    pub barrier: Duration,
    /// Peak memory of the worker's cgroup.
    pub cgroup_peak_bytes: Option<u64>,
    /// Socket buffers in the worker's cgroup.
    pub cgroup_sock_bytes: Option<u64>,
    /// Kernel stacks in the worker's cgroup.
    pub cgroup_kernel_stack_bytes: Option<u64>,
    /// From the first fork to the last Ready before Go.
    pub start: Option<Duration>,
    /// Kernel stacks of the fetchers' threads at the hold.
    pub kernel_stacks_bytes: Option<u64>,
    /// What its machine did from Go to the hold.
    pub load: Option<MachineLoad>,
}

/// CPU time of a machine from Go to the hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineLoad {
    /// Its processors times the time that went by.
    pub capacity: Duration,
    /// Neither idle nor stolen.
    pub busy: Duration,
    /// Given to other machines by a hypervisor.
    pub steal: Duration,
    /// Of the busy time: the worker's and its fetchers'.
    pub own: Duration,
}

impl From<&MachineLoad> for wire::MachineLoad {
    fn from(load: &MachineLoad) -> Self {
        Self {
            capacity_us: micros(load.capacity),
            busy_us: micros(load.busy),
            steal_us: micros(load.steal),
            own_us: micros(load.own),
        }
    }
}

impl From<wire::MachineLoad> for MachineLoad {
    fn from(m: wire::MachineLoad) -> Self {
        Self {
            capacity: Duration::from_micros(m.capacity_us),
            busy: Duration::from_micros(m.busy_us),
            steal: Duration::from_micros(m.steal_us),
            own: Duration::from_micros(m.own_us),
        }
    }
}

impl From<wire::WorkerUsage> for WorkerUsage {
    fn from(m: wire::WorkerUsage) -> Self {
        Self {
            cpu_user: m.cpu_user_us.map(Duration::from_micros),
            cpu_system: m.cpu_system_us.map(Duration::from_micros),
            pipe_bytes_to_fetchers: m.pipe_bytes_to_fetchers,
            pipe_bytes_from_fetchers: m.pipe_bytes_from_fetchers,
            barrier: Duration::from_micros(m.barrier_us),
            cgroup_peak_bytes: m.cgroup_peak_bytes,
            cgroup_sock_bytes: m.cgroup_sock_bytes,
            cgroup_kernel_stack_bytes: m.cgroup_kernel_stack_bytes,
            start: m.start_us.map(Duration::from_micros),
            kernel_stacks_bytes: m.kernel_stacks_bytes,
            load: m.load.map(Into::into),
        }
    }
}
