//! A fleet on this machine: the coordinator runs its own executable again as
//! worker and as origin. Both end when their standard input does, so that
//! nothing is left behind however the coordinator ends.

use std::{fmt::Display, path::PathBuf, process::Stdio, time::Duration};

use fanout_program::Pinned;
use fanout_worker::NamedCommand;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tracing::{debug, warn};

use crate::exit::Failure;

/// What a shell may hold for a fleet's workers; a local worker must not take it.
const FLEET_VARIABLES: [&str; 4] =
    ["FANOUT_TOKEN_FILE", "FANOUT_TLS_CA", "FANOUT_TLS_CERT", "FANOUT_TLS_KEY"];
/// The origin says where it is within this time.
const ORIGIN_DEADLINE: Duration = Duration::from_secs(10);
/// A child that was told to end has this long before it is killed.
const END_DEADLINE: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Owned {
    what: &'static str,
    child: Child,
}

impl Owned {
    fn spawn(what: &'static str, mut command: Command, cpus: &[u32]) -> Result<Self, Failure> {
        command
            .stdin(Stdio::piped())
            // Ctrl-C is for the coordinator, which then ends its children in order.
            .process_group(0)
            .kill_on_drop(true);
        let child = Pinned::to(cpus)
            .and_then(|_pinned| command.spawn())
            .map_err(|error| Failure::no_fleet(format!("cannot start the {what}: {error}")))?;
        Ok(Self { what, child })
    }

    async fn end(mut self) {
        drop(self.child.stdin.take());
        match timeout(END_DEADLINE, self.child.wait()).await {
            Ok(Ok(status)) => debug!(what = self.what, %status, "ended"),
            Ok(Err(error)) => warn!(what = self.what, %error, "cannot wait for a child"),
            Err(_) => {
                warn!(what = self.what, "did not end in time and is killed");
                if let Err(error) = self.child.kill().await {
                    warn!(what = self.what, %error, "cannot kill a child");
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Local {
    executable: PathBuf,
    children: Vec<Owned>,
}

impl Local {
    pub(super) fn new() -> Result<Self, Failure> {
        let executable = std::env::current_exe().map_err(|error| {
            let what = "cannot find this program's own file to start it again";
            Failure::no_fleet(format!("{what}: {error}"))
        })?;
        Ok(Self { executable, children: Vec::new() })
    }

    /// Starts the origin; returns its base URL.
    pub(super) async fn start_origin(
        &mut self,
        seed: u64,
        threads: usize,
        cpus: &[u32],
    ) -> Result<String, Failure> {
        let mut command = Command::new(&self.executable);
        command
            .args(["origin", "--listen", "127.0.0.1:0", "--exit-with-stdin"])
            .args(["--seed", &seed.to_string()])
            .args(["--threads", &threads.to_string()])
            .stdout(Stdio::piped());
        let mut origin = Owned::spawn("origin", command, cpus)?;
        let failed =
            |why: &dyn Display| Failure::no_fleet(format!("the origin did not start: {why}"));
        let stdout = origin.child.stdout.take();
        let stdout = stdout.ok_or_else(|| failed(&"it has no standard output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let url = match timeout(ORIGIN_DEADLINE, lines.next_line()).await {
            Ok(Ok(Some(url))) => url,
            Ok(Ok(None)) => return Err(failed(&"it ended at once")),
            Ok(Err(error)) => return Err(failed(&error)),
            Err(_) => {
                let seconds = ORIGIN_DEADLINE.as_secs();
                return Err(failed(&format!("it said nothing for {seconds} s")));
            }
        };
        self.children.push(origin);
        Ok(url)
    }

    pub(super) fn start_worker(
        &mut self,
        coordinator: &str,
        name: &str,
        slots: u32,
        token: &str,
        fetchers: &[NamedCommand],
    ) -> Result<(), Failure> {
        let mut command = Command::new(&self.executable);
        command
            .args(["worker", "--once", "--exit-with-stdin"])
            .args(["--coordinator", coordinator, "--name", name])
            .args(["--slots", &slots.to_string()])
            .args(fetchers.iter().map(|f| format!("--fetcher={}={}", f.name, f.command)))
            .env("FANOUT_TOKEN", token)
            .stdout(Stdio::null());
        for of_a_fleet in FLEET_VARIABLES {
            command.env_remove(of_a_fleet);
        }
        self.children.push(Owned::spawn("worker", command, &[])?);
        Ok(())
    }

    /// Ends everything, in reverse order, and waits for it.
    pub(super) async fn end(mut self) {
        while let Some(child) = self.children.pop() {
            child.end().await;
        }
    }
}
