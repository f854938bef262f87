//! Who a worker is.

use crate::{
    PROTOCOL_VERSION, WireError,
    declaration::NamedFetcher,
    in_range,
    limits::{CPUS_MAX, FETCHERS_MAX, NAME_MAX_BYTES},
    message::message,
    text::{is_plain, plain},
    wire,
};

message! {
    /// A worker's introduction, in this version's protocol.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Hello = Hello + protocol_version = PROTOCOL_VERSION, introduced {
        /// Chosen by the operator or taken from the host name.
        pub name: String = name,
        /// Fetchers that it will run at a time.
        pub slots: u32 = slots,
        /// Its machine or container.
        pub facts: WorkerFacts = facts,
        /// Fetchers of other makers that it was started with.
        pub fetchers: Vec<NamedFetcher> = fetchers,
    }
}

fn introduced(hello: wire::Hello) -> Result<wire::Hello, WireError> {
    let (theirs, ours) = (hello.protocol_version.into(), u64::from(PROTOCOL_VERSION));
    in_range("protocol_version", theirs, ours..=ours, "this version's")?;
    let bad_name = |reason| Err(WireError::Invalid("name", reason));
    if hello.name.is_empty() || hello.name.len() > NAME_MAX_BYTES {
        return bad_name("1 to 128 bytes are needed");
    }
    if !hello.name.chars().all(is_plain) {
        return bad_name("it holds a control character");
    }
    in_range("slots", hello.slots.into(), 1..=FETCHERS_MAX.into(), "1 to 4096")?;
    in_range("fetchers", hello.fetchers.len() as u64, 0..=64, "0 to 64")?;
    Ok(hello)
}

message! {
    /// What a worker knows of the machine or container that it runs in.
    #[derive(Debug, Clone, PartialEq, Default)]
    pub struct WorkerFacts = WorkerFacts, made_harmless {
        /// fanout's version.
        pub version: String = version,
        /// The kernel's release.
        pub kernel: String = kernel,
        /// As `uname -m` says it.
        pub architecture: String = architecture,
        /// Processors that it may use.
        pub cpus: Vec<u32> = cpus,
        /// Memory of the machine.
        pub memory_bytes: Option<u64> = memory_bytes,
        /// The cgroup's CPU limit, in CPUs.
        pub cgroup_cpus: Option<f64> = cgroup_cpus,
        /// The cgroup's memory limit.
        pub cgroup_memory_bytes: Option<u64> = cgroup_memory_bytes,
        /// The cgroup hierarchy found: `v1`, `v2`, or empty.
        pub cgroup: String = cgroup,
        /// Tells machines apart: workers that say the same share one. Empty: unknown.
        pub boot_id: String = boot_id,
    }
}

/// What a machine calls itself is not its worker's fault.
fn made_harmless(mut facts: wire::WorkerFacts) -> Result<wire::WorkerFacts, WireError> {
    let cpus = facts.cpus.len() as u64;
    in_range("cpus", cpus, 0..=CPUS_MAX as u64, "0 to 4096 processors")?;
    let machine = [&mut facts.kernel, &mut facts.architecture, &mut facts.boot_id];
    for text in [&mut facts.version, &mut facts.cgroup].into_iter().chain(machine) {
        *text = plain(text, NAME_MAX_BYTES);
    }
    facts.cgroup_cpus = facts.cgroup_cpus.filter(|cpus| cpus.is_finite() && *cpus >= 0.0);
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(
        change: impl FnOnce(&mut wire::Hello, &mut wire::WorkerFacts),
    ) -> Result<Hello, String> {
        let mut message = wire::Hello::from(Hello {
            name: "w".to_owned(),
            slots: 1,
            facts: WorkerFacts::default(),
            fetchers: Vec::new(),
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
