//! What the whole machine does: its processors' time, and the size of a kernel stack.

use std::{fs, time::Duration};

use rustix::param::clock_ticks_per_second;
use tokio::time::Instant;

use super::field_bytes;

/// The processors' time at one moment, since the machine started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessorTime {
    at: Instant,
    processors: u32,
    /// Waiting for disks included.
    idle: Duration,
    steal: Duration,
}

impl ProcessorTime {
    pub(crate) fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        Self::of(&stat, clock_ticks_per_second(), Instant::now())
    }

    /// Out of /proc/stat (proc_stat(5)). Idle time is what the kernel measures there; the times of
    /// the busy kinds are guessed at every tick. So busy is what is not idle.
    fn of(stat: &str, ticks_per_s: u64, at: Instant) -> Option<Self> {
        let mut all = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().skip(3);
        let mut ticks = || -> Option<u64> { all.next()?.parse().ok() };
        let (idle, iowait, _irq, _softirq, steal) =
            (ticks()?, ticks()?, ticks()?, ticks()?, ticks()?);
        let time =
            |ticks: u64| Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / ticks_per_s));
        let is_processor = |line: &&str| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let processors = stat.lines().filter(is_processor).count();
        Some(Self {
            at,
            processors: u32::try_from(processors).ok()?,
            idle: time(idle.saturating_add(iowait)),
            steal: time(steal),
        })
    }

    /// Capacity, busy time and stolen time since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> (Duration, Duration, Duration) {
        let capacity = self.processors * self.at.saturating_duration_since(earlier.at);
        let idle = self.idle.saturating_sub(earlier.idle);
        let steal = self.steal.saturating_sub(earlier.steal);
        (capacity, capacity.saturating_sub(idle + steal), steal)
    }
}

/// Bytes of a thread's kernel stack, if the machine tells.
pub(crate) fn kernel_stack_bytes() -> Option<u64> {
    let text = |path| fs::read_to_string(path).ok();
    stack_bytes(&text("/proc/meminfo")?, &text("/proc/loadavg")?)
}

/// All stacks over all threads (`KernelStack` in proc_meminfo(5), the number behind the slash in
/// proc_loadavg(5)). Threads come and go between the two readings; a stack is a power of two.
fn stack_bytes(meminfo: &str, loadavg: &str) -> Option<u64> {
    let stacks = field_bytes(meminfo, "KernelStack")?;
    let threads: u64 = loadavg.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    let bytes = stacks.checked_div(threads)?;
    let above = bytes.checked_next_power_of_two()?;
    Some(if above - bytes < bytes - above / 2 { above } else { above / 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "\
cpu  482071 15594 85626 197180 1814 0 1193 8697 0 0
cpu0 241447 7087 40231 102473 550 0 158 4173 0 0
cpu1 240623 8507 45395 94707 1263 0 1035 4523 0 0
intr 1 2 3
";

    #[test]
    fn what_is_neither_idle_nor_stolen_is_busy() {
        let now = Instant::now();
        let before = ProcessorTime::of(STAT, 100, now).unwrap();
        // In 2 s two processors were idle for 1 s, waited for 0.5 s and were stolen for 0.25 s.
        let later = STAT.replace("197180 1814", "197280 1864").replace(" 8697", " 8722");
        let after = ProcessorTime::of(&later, 100, now + Duration::from_secs(2)).unwrap();
        let s = Duration::from_secs_f64;
        assert_eq!(after.since(&before), (s(4.0), s(2.25), s(0.25)));
        // A counter of waiting may go back (proc_stat(5)).
        assert_eq!(before.since(&after), (Duration::ZERO, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_machine_that_tells_nothing_has_no_load() {
        let now = Instant::now();
        assert!(ProcessorTime::of("", 100, now).is_none());
        assert!(ProcessorTime::of("cpu  1 2 3 4", 100, now).is_none());
        assert!(ProcessorTime::of("intr 1 2 3 4 5 6 7 8", 100, now).is_none());
    }

    #[test]
    fn this_machine_has_processor_time() {
        let before = ProcessorTime::now().unwrap();
        let spin = std::time::Instant::now();
        while spin.elapsed() < Duration::from_millis(100) {}
        let (capacity, busy, steal) = ProcessorTime::now().unwrap().since(&before);
        assert!(capacity >= Duration::from_millis(100));
        // Ticks of 10 ms each for idle, waiting and stolen time.
        assert!(busy + steal >= Duration::from_millis(70), "{busy:?} {steal:?}");
    }

    #[test]
    fn a_kernel_stack_is_a_power_of_two() {
        let of = |kib: u64, threads: u64| {
            let meminfo = format!("MemTotal: 1 kB\nKernelStack:        {kib} kB\n");
            stack_bytes(&meminfo, &format!("8.91 12.38 11.98 9/{threads} 17620\n"))
        };
        assert_eq!(of(2892, 181), Some(16 << 10));
        assert_eq!(of(2892, 178), Some(16 << 10));
        assert_eq!(of(800, 100), Some(8 << 10));
        assert_eq!(of(800, 0), None);
        assert_eq!(stack_bytes("", "8.91 12.38 11.98 9/181 17620\n"), None);
        assert_eq!(stack_bytes("KernelStack: 1 kB", ""), None);
    }
}
