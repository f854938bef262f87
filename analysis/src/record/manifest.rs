//! Under which conditions a study ran.

use std::{collections::BTreeMap, num::NonZeroU32};

use fanout_proto::{
    arm::{Arm, Client, Model},
    http::HttpSettings,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Under which conditions a study ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// fanout's version; behind its `+` the commit that it was built from.
    pub version: String,
    /// When the study started, UTC, RFC 3339.
    pub started: String,
    /// How long it took.
    pub elapsed_s: f64,
    /// The command line that repeats it.
    pub command: Vec<String>,
    /// Where the URLs came from: `built-in`, a file's name, or `stdin`.
    pub list: String,
    /// URLs in the list, repeats counted.
    pub urls: u64,
    /// SHA-256 over the list's URLs, each followed by a newline, in hex; of the built-in list without
    /// the origin's address, which differs from run to run.
    pub list_sha256: String,
    /// Mean of the delays that the list asks of fanout's own server before it answers; `None`: of a
    /// list of one's own that is not known.
    #[serde(default)]
    pub delay_s: Option<f64>,
    /// Lines left out by `--skip-invalid`.
    pub skipped_lines: u64,
    /// `--repeat`.
    pub repeat: u64,
    /// Seed of the order of arms and of the origin.
    pub seed: u64,
    /// Blocks asked for, the discarded one not counted.
    pub blocks: u32,
    /// `dynamic` or `static`.
    pub split: String,
    /// Open loop: URLs taken up per second, in all fetchers together; `None` in a
    /// closed loop, where a slot takes the next URL up when it is free.
    #[serde(default)]
    pub rate_per_s: Option<f64>,
    /// URLs of one host out at a time, over all fetchers together; `None`: any number.
    #[serde(default)]
    pub max_per_host: Option<u32>,
    /// URLs of one host leased per second, over all fetchers together; `None`: any number.
    #[serde(default)]
    pub rate_per_host: Option<f64>,
    /// Name of the arm that the others are compared with.
    pub baseline: String,
    /// Concurrency of arms that name none.
    pub concurrency: u32,
    /// `--placement` as given.
    pub placement: String,
    /// What HTTP looked like in every arm.
    pub http: Http,
    /// The workers that took part, in the order in which they came.
    pub workers: Vec<Worker>,
    /// The coordinator's machine.
    pub coordinator: Machine,
    /// The server, when it is fanout's own.
    pub origin: Option<Origin>,
    /// Anything else worth keeping, by name: governor, allocator, TLS provider …
    pub facts: BTreeMap<String, String>,
}

/// What HTTP looked like in every arm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Http {
    /// What a fetcher is told.
    #[serde(flatten)]
    pub settings: HttpSettings,
    /// Spun per response.
    pub cpu_work_s: f64,
    /// Spun under one lock per process.
    pub cpu_lock: bool,
}

/// A machine, or the part of one that a process may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// `uname -m`.
    pub architecture: String,
    /// Processors that may be used.
    pub cpus: Vec<u32>,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// `v1`, `v2` or empty.
    pub cgroup: String,
    /// The cgroup's CPU limit.
    pub cgroup_cpus: Option<f64>,
    /// The cgroup's memory limit.
    pub cgroup_memory_bytes: Option<u64>,
}

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// The number of its session.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// fanout's version there; behind its `+` the commit that it was built from.
    pub version: String,
    /// Fetchers that it runs at most.
    pub slots: u32,
    /// Its machine or container.
    pub machine: Machine,
    /// What each fetcher of another maker that it was started with says of itself: program,
    /// language, versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fetchers: BTreeMap<String, String>,
    /// The first block that used it, if it came after the study had begun.
    #[serde(default)]
    pub joined_block: Option<u32>,
    /// The block during which it was lost or left.
    #[serde(default)]
    pub left_block: Option<u32>,
}

/// fanout's own server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// Base URLs.
    pub urls: Vec<String>,
    /// Threads that serve.
    pub threads: u32,
    /// Whether fanout started it for this study on this machine.
    pub embedded: bool,
}

/// One arrangement under study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Arm")]
pub struct ArmRecord {
    /// The arm's canonical name; the A/A control has ` (again)` at its end.
    pub name: String,
    /// Fetchers, each a process.
    pub processes: u32,
    /// `sequential`, `threads`, `async` or `async-mt`.
    pub model: String,
    /// URLs in flight in each fetcher.
    pub concurrency: u32,
    /// `core`, `ureq`, `reqwest`, `null`, or what a fetcher of another maker declared.
    pub client: String,
    /// Whether that client may open a connection for every request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closes_connections: bool,
    /// Whether that client completes without fetching.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fetches_nothing: bool,
    /// Workers it was asked to run on; `None`: all there were.
    pub workers: Option<u32>,
    /// Whether this is the baseline run a second time, as a control.
    pub control: bool,
    /// Why it ran in fewer blocks than the others, if it did.
    pub shortened: Option<String>,
}

impl ArmRecord {
    /// What is recorded of an arm that is called `name` in its study.
    #[must_use]
    pub fn new(arm: &Arm, name: String) -> Self {
        Self {
            name,
            processes: arm.processes.get(),
            model: arm.model.name().to_owned(),
            concurrency: arm.concurrency.get(),
            client: arm.client.name().to_owned(),
            closes_connections: arm.client.properties().closes_connections,
            fetches_nothing: !arm.client.properties().fetches,
            workers: arm.workers.map(NonZeroU32::get),
            control: false,
            shortened: None,
        }
    }

    /// The arm in the words of this version; `None` where it does not know them all.
    pub(crate) fn arm(&self) -> Option<Arm> {
        Some(Arm {
            processes: NonZeroU32::new(self.processes)?,
            model: self.known_model()?,
            concurrency: NonZeroU32::new(self.concurrency)?,
            client: self.known_client()?,
            workers: self.workers.and_then(NonZeroU32::new),
        })
    }

    pub(crate) fn known_model(&self) -> Option<Model> {
        self.model.parse().ok()
    }

    pub(crate) fn known_client(&self) -> Option<Client> {
        self.client.parse().ok()
    }

    /// Whether it fetches, as a client that this version does not know does unless it says otherwise.
    pub(crate) fn fetches(&self) -> bool {
        !self.fetches_nothing
            && self.known_client().is_none_or(|client| client.properties().fetches)
    }

    /// Whether fanout itself keeps and counts its connections.
    pub(crate) fn owns_connections(&self) -> bool {
        self.known_client().is_some_and(|client| client.properties().owns_connections)
    }

    /// Whether its client is the one under every model.
    pub(crate) fn has_default_client(&self) -> bool {
        self.known_client().is_some_and(Client::is_default)
    }

    /// URLs in flight in all its fetchers.
    pub(crate) fn slots(&self) -> u64 {
        u64::from(self.processes) * u64::from(self.concurrency)
    }
}
