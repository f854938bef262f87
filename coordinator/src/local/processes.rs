//! A fleet on this machine: the coordinator runs its own executable again as
//! worker and as origin. Both end when their standard input does, so that
//! nothing is left behind however the coordinator ends.

use std::{io, path::PathBuf, process::Stdio, time::Duration};

use fanout_program::Pinned;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tracing::{debug, warn};

/// What a shell may hold for a fleet's workers; a local worker must not take it.
const FLEET_VARIABLES: [&str; 4] = [
    "FANOUT_TOKEN_FILE",
    "FANOUT_TLS_CA",
    "FANOUT_TLS_CERT",
    "FANOUT_TLS_KEY",
];
/// The origin says where it is within this time.
const ORIGIN_DEADLINE: Duration = Duration::from_secs(10);
/// A child that was told to end has this long before it is killed.
const END_DEADLINE: Duration = Duration::from_secs(3);

/// A child process could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("cannot find this program's own file to start it again: {0}")]
    Executable(io::Error),
    #[error("cannot start the {what}: {error}")]
    Spawn {
        what: &'static str,
        error: io::Error,
    },
    #[error("the origin did not start: {0}")]
    Origin(String),
}

/// A child that ends with us.
#[derive(Debug)]
struct Owned {
    what: &'static str,
    child: Child,
}

impl Owned {
    fn spawn(what: &'static str, mut command: Command, cpus: &[u32]) -> Result<Self, LocalError> {
        command
            .stdin(Stdio::piped())
            // Ctrl-C is for the coordinator, which then ends its children in order.
            .process_group(0)
            .kill_on_drop(true);
        let child = Pinned::to(cpus)
            .and_then(|_pinned| command.spawn())
            .map_err(|error| LocalError::Spawn { what, error })?;
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

/// The processes that a local run needs.
#[derive(Debug)]
pub(crate) struct Local {
    executable: PathBuf,
    children: Vec<Owned>,
}

impl Local {
    pub(crate) fn new() -> Result<Self, LocalError> {
        Ok(Self {
            executable: std::env::current_exe().map_err(LocalError::Executable)?,
            children: Vec::new(),
        })
    }

    /// Starts the origin; returns its base URL.
    pub(crate) async fn start_origin(
        &mut self,
        seed: u64,
        threads: usize,
        cpus: &[u32],
    ) -> Result<String, LocalError> {
        let mut command = Command::new(&self.executable);
        command
            .args(["origin", "--listen", "127.0.0.1:0", "--exit-with-stdin"])
            .args(["--seed", &seed.to_string()])
            .args(["--threads", &threads.to_string()])
            .stdout(Stdio::piped());
        let mut origin = Owned::spawn("origin", command, cpus)?;
        let failed = |why: &str| LocalError::Origin(why.to_owned());
        let stdout = origin.child.stdout.take();
        let stdout = stdout.ok_or_else(|| failed("it has no standard output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let url = match timeout(ORIGIN_DEADLINE, lines.next_line()).await {
            Ok(Ok(Some(url))) => url,
            Ok(Ok(None)) => return Err(failed("it ended at once")),
            Ok(Err(error)) => return Err(failed(&error.to_string())),
            Err(_) => {
                let seconds = ORIGIN_DEADLINE.as_secs();
                return Err(failed(&format!("it said nothing for {seconds} s")));
            }
        };
        self.children.push(origin);
        Ok(url)
    }

    /// Starts a worker that dials `coordinator`.
    pub(crate) fn start_worker(
        &mut self,
        coordinator: &str,
        name: &str,
        slots: u32,
        token: &str,
    ) -> Result<(), LocalError> {
        let mut command = Command::new(&self.executable);
        command
            .args(["worker", "--once", "--exit-with-stdin"])
            .args(["--coordinator", coordinator, "--name", name])
            .args(["--slots", &slots.to_string()])
            .env("FANOUT_TOKEN", token)
            .stdout(Stdio::null());
        for of_a_fleet in FLEET_VARIABLES {
            command.env_remove(of_a_fleet);
        }
        let worker = Owned::spawn("worker", command, &[])?;
        self.children.push(worker);
        Ok(())
    }

    /// Ends everything, in reverse order, and waits for it.
    pub(crate) async fn end(mut self) {
        while let Some(child) = self.children.pop() {
            child.end().await;
        }
    }
}
