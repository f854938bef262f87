//! Who a worker is.

use crate::{
    WireError,
    limits::{FETCHERS_MAX, NAME_MAX_BYTES},
    wire,
};

/// A worker's introduction, after its protocol version was found to fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// Chosen by the operator or taken from the host name.
    pub name: String,
    /// Fetchers that it will run at a time.
    pub slots: u32,
    /// Its machine or container.
    pub facts: WorkerFacts,
}

/// What a worker knows of the machine or container that it runs in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkerFacts {
    /// fanout's version.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// As `uname -m` says it.
    pub architecture: String,
    /// Processors that it may use.
    pub cpus: Vec<u32>,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// The cgroup's CPU limit, in CPUs.
    pub cgroup_cpus: Option<f64>,
    /// The cgroup's memory limit.
    pub cgroup_memory_bytes: Option<u64>,
    /// The cgroup hierarchy found: `v1`, `v2`, or empty.
    pub cgroup: String,
}

impl From<&Hello> for wire::Hello {
    fn from(hello: &Hello) -> Self {
        let facts = &hello.facts;
        Self {
            protocol_version: crate::PROTOCOL_VERSION,
            name: hello.name.clone(),
            slots: hello.slots,
            facts: Some(facts.into()),
        }
    }
}

impl TryFrom<wire::Hello> for Hello {
    type Error = WireError;

    fn try_from(m: wire::Hello) -> Result<Self, WireError> {
        let facts = m.facts.ok_or(WireError::Missing("facts"))?;
        if m.protocol_version != crate::PROTOCOL_VERSION {
            return Err(WireError::OutOfRange {
                field: "protocol_version",
                value: m.protocol_version.into(),
                range: "this version's",
            });
        }
        if m.name.is_empty() || m.name.len() > NAME_MAX_BYTES {
            return Err(WireError::Invalid {
                field: "name",
                reason: "1 to 128 octets are needed",
            });
        }
        if m.name.chars().any(char::is_control) {
            return Err(WireError::Invalid {
                field: "name",
                reason: "it holds a control character",
            });
        }
        if m.slots == 0 || m.slots > FETCHERS_MAX {
            return Err(WireError::OutOfRange {
                field: "slots",
                value: m.slots.into(),
                range: "1 to 4096",
            });
        }
        Ok(Self {
            name: m.name,
            slots: m.slots,
            facts: facts.into(),
        })
    }
}

impl From<&WorkerFacts> for wire::WorkerFacts {
    fn from(facts: &WorkerFacts) -> Self {
        Self {
            version: facts.version.clone(),
            kernel: facts.kernel.clone(),
            architecture: facts.architecture.clone(),
            cpus: facts.cpus.clone(),
            memory_bytes: facts.memory_bytes,
            cgroup_cpus: facts.cgroup_cpus,
            cgroup_memory_bytes: facts.cgroup_memory_bytes,
            cgroup: facts.cgroup.clone(),
        }
    }
}

impl From<wire::WorkerFacts> for WorkerFacts {
    fn from(facts: wire::WorkerFacts) -> Self {
        Self {
            version: facts.version,
            kernel: facts.kernel,
            architecture: facts.architecture,
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            cgroup_cpus: facts.cgroup_cpus.filter(|cpus| cpus.is_finite()),
            cgroup_memory_bytes: facts.cgroup_memory_bytes,
            cgroup: facts.cgroup,
        }
    }
}
