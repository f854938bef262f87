//! The Docker engine, and the two generations of Compose.

use std::process::{Command, Stdio};

/// Which commands answer.
#[derive(Debug)]
pub(crate) struct Engine {
    compose: &'static [&'static str],
}

impl Engine {
    /// An engine that answers, or why there is none.
    pub(crate) fn find() -> Result<Self, String> {
        if !answers(&["docker", "version"]) {
            return Err("no Docker engine".to_owned());
        }
        let generations: [&'static [&'static str]; 2] =
            [&["docker", "compose"], &["docker-compose"]];
        let compose = generations
            .into_iter()
            .find(|compose| answers(&[compose, &["version"][..]].concat()))
            .ok_or("neither `docker compose` nor docker-compose")?;
        Ok(Self { compose })
    }

    /// The beginning of a Compose command.
    pub(crate) fn compose(&self) -> Command {
        let mut command = Command::new(self.compose[0]);
        command.args(&self.compose[1..]);
        command
    }
}

fn answers(command: &[&str]) -> bool {
    Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
