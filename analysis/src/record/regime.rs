//! The same arms at other servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Study;

/// One server, and what the arms did there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Regime {
    /// What it is called: `fast`, or `10ms 200us lock` in a map.
    pub name: String,
    /// How long the server waits before it answers, on average.
    pub delay_s: Option<f64>,
    /// Work per response in the fetcher.
    pub cpu_work_s: f64,
    /// Whether that is done under one lock per process.
    pub cpu_lock: bool,
    /// The arms' trials there, and what they say.
    pub study: Study,
}

impl Study {
    /// The study itself, then the same arms at other servers; all of them have trials of their own.
    pub fn parts(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self)
            .chain(self.regimes.iter().map(|regime| &regime.study))
            .filter(|part| !part.trials.is_empty())
    }

    /// Whether it maps which arm is best at which server, and has no trials beside that.
    #[must_use]
    pub fn is_map(&self) -> bool {
        self.trials.is_empty() && !self.regimes.is_empty()
    }
}
