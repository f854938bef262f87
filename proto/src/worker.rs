//! Who a worker is.

use crate::{
    WireError,
    limits::{CPUS_MAX, FETCHERS_MAX, NAME_MAX_BYTES},
    text::{is_plain, plain},
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
    /// Tells machines apart: workers that say the same share one. Empty: unknown.
    pub boot_id: String,
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
            return Err(WireError::Invalid { field: "name", reason: "1 to 128 bytes are needed" });
        }
        if !m.name.chars().all(is_plain) {
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
        Ok(Self { name: m.name, slots: m.slots, facts: facts.try_into()? })
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
            boot_id: facts.boot_id.clone(),
        }
    }
}

impl TryFrom<wire::WorkerFacts> for WorkerFacts {
    type Error = WireError;

    fn try_from(facts: wire::WorkerFacts) -> Result<Self, WireError> {
        if facts.cpus.len() > CPUS_MAX {
            return Err(WireError::OutOfRange {
                field: "cpus",
                value: facts.cpus.len() as u64,
                range: "0 to 4096 processors",
            });
        }
        // What a machine calls itself is not its worker's fault.
        let text = |text: &str| plain(text, NAME_MAX_BYTES);
        Ok(Self {
            version: text(&facts.version),
            kernel: text(&facts.kernel),
            architecture: text(&facts.architecture),
            cpus: facts.cpus,
            memory_bytes: facts.memory_bytes,
            cgroup_cpus: facts.cgroup_cpus.filter(|cpus| cpus.is_finite() && *cpus >= 0.0),
            cgroup_memory_bytes: facts.cgroup_memory_bytes,
            cgroup: text(&facts.cgroup),
            boot_id: text(&facts.boot_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(
        change: impl FnOnce(&mut wire::Hello, &mut wire::WorkerFacts),
    ) -> Result<Hello, String> {
        let mut message = wire::Hello::from(&Hello {
            name: "w".to_owned(),
            slots: 1,
            facts: WorkerFacts::default(),
        });
        let mut facts = message.facts.take().unwrap_or_default();
        change(&mut message, &mut facts);
        message.facts = Some(facts);
        Hello::try_from(message).map_err(|error| error.to_string())
    }

    #[test]
    fn a_hello_that_makes_no_sense_is_refused_by_field() {
        assert!(hello(|_, _| {}).is_ok());
        let name = |name: String| hello(|m, _| m.name = name).unwrap_err();
        let needed = "name is not valid: 1 to 128 bytes are needed";
        assert_eq!(name(String::new()), needed);
        assert_eq!(name("x".repeat(NAME_MAX_BYTES + 1)), needed);
        for text in ["a\nb", "\x1b[31m", "\u{202e}lufrednow"] {
            let control = "name is not valid: it holds a control character";
            assert_eq!(name(text.to_owned()), control);
        }
        assert_eq!(
            hello(|m, _| m.slots = u32::MAX).unwrap_err(),
            "slots is 4294967295, outside 1 to 4096"
        );
        assert_eq!(
            hello(|_, facts| facts.cpus = vec![0; CPUS_MAX + 1]).unwrap_err(),
            "cpus is 4097, outside 0 to 4096 processors"
        );
    }

    #[test]
    fn facts_are_made_harmless() {
        let hello = hello(|_, facts| {
            facts.kernel = "6\n\x1b[2J".repeat(100);
            facts.cgroup_cpus = Some(f64::NAN);
        });
        let facts = hello.unwrap().facts;
        assert_eq!(facts.kernel.len(), NAME_MAX_BYTES);
        assert!(facts.kernel.starts_with("6  [2J6"));
        assert_eq!(facts.cgroup_cpus, None);
    }
}
