//! The processors that a thread may use, and where a child process runs.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that this thread may use, in order.
#[must_use]
pub fn allowed_cpus() -> Vec<u32> {
    let Ok(mask) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| mask.is_set(*cpu))
        .filter_map(|cpu| u32::try_from(cpu).ok())
        .collect()
}

/// This thread's processors, set for as long as this lives: a child started meanwhile inherits
/// them, with every thread that it will have.
#[derive(Debug)]
pub struct Pinned(Option<CpuSet>);

impl Pinned {
    /// To `cpus`; an empty list changes nothing.
    pub fn to(cpus: &[u32]) -> io::Result<Self> {
        if cpus.is_empty() {
            return Ok(Self(None));
        }
        let mut set = CpuSet::new();
        for cpu in cpus.iter().filter_map(|cpu| usize::try_from(*cpu).ok()) {
            set.set(cpu);
        }
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, &set)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0
            && let Err(error) = sched_setaffinity(None, before)
        {
            tracing::warn!(%error, "this program's own processors could not be restored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_threads_processors_come_back() {
        let before = sched_getaffinity(None).unwrap();
        let allowed = allowed_cpus();
        let pinned = Pinned::to(&allowed[..1]).unwrap();
        assert_eq!(allowed_cpus(), allowed[..1]);
        drop(pinned);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
