//! The facts of a worker's Hello.

use fanout_proto::{limits::NAME_MAX_BYTES, worker::WorkerFacts};
use rustix::system::uname;

use super::{cgroup::Cgroups, field_bytes};

/// What a worker here is called unless it is told: the host's name, cut to what a worker's name may
/// be; `worker` if it has none.
pub fn host_name() -> String {
    let name = uname().nodename().to_string_lossy().into_owned();
    let mut plain: String = name.chars().filter(|c| !c.is_control()).collect();
    while plain.len() > NAME_MAX_BYTES {
        plain.pop();
    }
    if plain.is_empty() { "worker".to_owned() } else { plain }
}

/// Gathers what there is to know of this machine or container.
pub(crate) fn facts(cgroups: &Cgroups, cpus: Vec<u32>) -> WorkerFacts {
    let system = uname();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    WorkerFacts {
        version: fanout_program::VERSION.to_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        architecture: system.machine().to_string_lossy().into_owned(),
        cpus,
        memory_bytes: field_bytes(&meminfo, "MemTotal"),
        cgroup_cpus: cgroups.cpu_limit(),
        cgroup_memory_bytes: cgroups.memory_limit_bytes(),
        cgroup: cgroups.name().to_owned(),
        boot_id: fanout_program::boot_id(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let facts = facts(&Cgroups::find(), fanout_program::allowed_cpus());
        assert!(!facts.kernel.is_empty());
        assert!(!facts.cpus.is_empty());
        assert!(facts.memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(!host_name().is_empty());
    }
}
