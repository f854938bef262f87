//! What is known of a fetcher when its trial is over.

use std::time::Duration;

use crate::{
    WireError,
    id::FetcherId,
    message::{Field, Part, message},
    text,
    time::nanos,
    wire,
};

/// Declares [`FetcherCounts`], and how its fields, named alike there, stand in a report.
macro_rules! fetcher_counts {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// What a fetcher counts of its own doings: `N` is a counter where it is counted, and a
        /// number where it is told.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct FetcherCounts<N> {
            $($(#[$meta])* pub $name: N,)*
        }

        impl<N> FetcherCounts<N> {
            /// The same with what `read` makes of each count.
            pub fn map<M>(&self, read: impl Fn(&N) -> M) -> FetcherCounts<M> {
                FetcherCounts { $($name: read(&self.$name),)* }
            }
        }

        impl Part<wire::FetcherReport> for FetcherCounts<u64> {
            fn to_wire(self) -> wire::FetcherReport {
                wire::FetcherReport { $($name: self.$name,)* ..wire::FetcherReport::default() }
            }

            fn from_wire(wire: &wire::FetcherReport) -> Self {
                Self { $($name: wire.$name,)* }
            }
        }
    };
}
fetcher_counts! {
    /// Connections opened, replacements of stale ones included.
    connections_opened,
    /// Requests sent, redirects and retries included.
    requests_sent,
    /// Redirects followed.
    redirects_followed,
    /// Requests sent again because a kept connection had been closed.
    stale_retries,
    /// Names that were looked up.
    names_resolved,
}

message! {
    /// What a fetcher tells of itself at the hold.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct FetcherReport = FetcherReport {
        /// The gauge of URLs in flight, integrated over time.
        pub in_flight: Duration = in_flight_us,
        /// The gauge's peak.
        pub in_flight_peak: u32 = in_flight_peak,
        /// Time that slots waited for a URL that came; summed over them. Who does not measure it
        /// says nothing.
        pub starved: Option<Duration> = starved_us,
        /// From Go to the first take-up.
        pub first_start: Option<Duration> = first_start_us,
        /// From Go to the last completion.
        pub last_end: Option<Duration> = last_end_us,
        ..
        /// What it counted.
        pub counts: FetcherCounts<u64>,
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

impl Field<Option<wire::HoldSnapshot>> for HoldSnapshot {
    fn to_wire(self) -> Option<wire::HoldSnapshot> {
        Some(wire::HoldSnapshot {
            hwm_bytes: self.hwm_bytes,
            pss_bytes: self.memory.pss_bytes,
            uss_bytes: self.memory.uss_bytes,
            anonymous_bytes: self.memory.anonymous_bytes,
            file_bytes: self.memory.file_bytes,
            threads: self.memory.threads,
            page_tables_bytes: self.page_tables_bytes,
            run_queue_wait_ns: self.run_queue_wait.map(nanos),
        })
    }

    fn from_wire(wire: Option<wire::HoldSnapshot>, _: &'static str) -> Result<Self, WireError> {
        let wire = wire.unwrap_or_default();
        Ok(Self {
            hwm_bytes: wire.hwm_bytes,
            memory: ProcessMemory {
                pss_bytes: wire.pss_bytes,
                uss_bytes: wire.uss_bytes,
                anonymous_bytes: wire.anonymous_bytes,
                file_bytes: wire.file_bytes,
                threads: wire.threads,
            },
            page_tables_bytes: wire.page_tables_bytes,
            run_queue_wait: wire.run_queue_wait_ns.map(Duration::from_nanos),
        })
    }
}

message! {
    /// What `wait4` says of a reaped process: its whole life.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ResourceUsage = ResourceUsage {
        /// CPU time in user mode.
        pub cpu_user: Duration = cpu_user_us,
        /// CPU time in the kernel.
        pub cpu_system: Duration = cpu_system_us,
        /// Context switches because it waited.
        pub voluntary_switches: u64 = voluntary_switches,
        /// Context switches because its time was up or another had precedence.
        pub involuntary_switches: u64 = involuntary_switches,
        /// Of the CPU time, user and system: what was spent before Go. `None` if Go never came.
        pub cpu_start: Option<Duration> = cpu_start_us,
    }
}

message! {
    /// Memory of a worker's fetchers together, at one moment.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct MemorySample = MemorySample + trial = 0 {
        /// Since the worker let its fetchers go.
        pub elapsed: Duration = elapsed_us,
        /// Fetchers that could be read.
        pub fetchers: u32 = fetchers,
        /// Their proportional set size.
        pub pss_bytes: Option<u64> = pss_bytes,
        /// Their unique set size.
        pub uss_bytes: Option<u64> = uss_bytes,
        /// Their anonymous memory.
        pub anonymous_bytes: Option<u64> = anonymous_bytes,
        /// File pages of the fetcher that has most. All run the same program, so these are the pages
        /// of all of them, once.
        pub file_bytes: Option<u64> = file_bytes,
        /// Their threads.
        pub threads: u32 = threads,
    }
}

impl MemorySample {
    /// A sample of no fetcher yet.
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

impl Field<Option<wire::Exit>> for Exit {
    fn to_wire(self) -> Option<wire::Exit> {
        use wire::exit::How;
        let (how, out_of_memory) = match self {
            Self::Code(code) => (How::Code(code), false),
            Self::Signal(signal) => (How::Signal(signal), false),
            Self::OutOfMemory => (How::Signal(9), true),
            Self::NotStarted => (How::NotStarted(true), false),
        };
        Some(wire::Exit { how: Some(how), out_of_memory })
    }

    fn from_wire(wire: Option<wire::Exit>, name: &'static str) -> Result<Self, WireError> {
        use wire::exit::How;
        let wire = wire.ok_or(WireError::Missing(name))?;
        Ok(match wire.how.ok_or(WireError::Missing("exit.how"))? {
            How::Signal(_) if wire.out_of_memory => Self::OutOfMemory,
            How::Code(code) => Self::Code(code),
            How::Signal(signal) => Self::Signal(signal),
            How::NotStarted(_) => Self::NotStarted,
        })
    }
}

message! {
    /// A fetcher that has been reaped, after the hold or before its time.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct FetcherExited = FetcherExited + trial = 0, made_harmless {
        /// Which one.
        pub fetcher: FetcherId = fetcher,
        /// How it ended.
        pub exit: Exit = exit,
        /// Its counters; `None` when it died before the hold.
        pub report: Option<FetcherReport> = report,
        /// What was read while it held.
        pub held: HoldSnapshot = held,
        /// `None` when it was never started.
        pub usage: Option<ResourceUsage> = usage,
        /// What went wrong, for people; empty when nothing did.
        pub reason: String = reason,
    }
}

fn made_harmless(exited: wire::FetcherExited) -> Result<wire::FetcherExited, WireError> {
    Ok(wire::FetcherExited { reason: text::reason(&exited.reason), ..exited })
}

message! {
    /// What a trial cost the worker itself.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct WorkerUsage = WorkerUsage + trial = 0 {
        /// CPU time of the worker in user mode, sampling included.
        pub cpu_user: Option<Duration> = cpu_user_us,
        /// CPU time of the worker in the kernel.
        pub cpu_system: Option<Duration> = cpu_system_us,
        /// Bytes written into fetchers' pipes.
        pub pipe_bytes_to_fetchers: u64 = pipe_bytes_to_fetchers,
        /// Bytes read from fetchers' pipes.
        pub pipe_bytes_from_fetchers: u64 = pipe_bytes_from_fetchers,
        /// From Go's arrival to its being written to the last fetcher.
        pub barrier: Duration = barrier_us,
        /// Peak memory of the worker's cgroup.
        pub cgroup_peak_bytes: Option<u64> = cgroup_peak_bytes,
        /// Socket buffers in the worker's cgroup.
        pub cgroup_sock_bytes: Option<u64> = cgroup_sock_bytes,
        /// Kernel stacks in the worker's cgroup.
        pub cgroup_kernel_stack_bytes: Option<u64> = cgroup_kernel_stack_bytes,
        /// From the first fork to the last Ready before Go.
        pub start: Option<Duration> = start_us,
        /// Kernel stacks of the fetchers' threads at the hold.
        pub kernel_stacks_bytes: Option<u64> = kernel_stacks_bytes,
        /// What its machine did from Go to the hold.
        pub load: Option<MachineLoad> = load,
    }
}

message! {
    /// CPU time of a machine from Go to the hold.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct MachineLoad = MachineLoad {
        /// Its processors times the time that went by.
        pub capacity: Duration = capacity_us,
        /// Neither idle nor stolen.
        pub busy: Duration = busy_us,
        /// Given to other machines by a hypervisor.
        pub steal: Duration = steal_us,
        /// Of the busy time: the worker's and its fetchers'.
        pub own: Duration = own_us,
    }
}
