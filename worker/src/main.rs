//! The `worker` binary: the worker daemon, or with the argument `fetcher` one
//! of the fetchers that it starts.

use std::process::ExitCode;

use clap::Parser;
use fanout_program::{LogArgs, LogPrefix};
use fanout_worker::WorkerArgs;

/// Starts, feeds, measures and reaps fetchers for a fanout coordinator
#[derive(Parser)]
#[command(name = "worker", version = fanout_program::LONG_VERSION)]
struct WorkerCli {
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    if let Some(code) = fanout_worker::run_as_fetcher() {
        return code;
    }
    let cli = WorkerCli::parse();
    fanout_program::set_up(cli.log, "info", LogPrefix::TimeAndLevel);
    match fanout_worker::run(cli.worker) {
        Ok(ending) => ending.into(),
        Err(error) => {
            tracing::error!("{error}");
            error.exit_code().into()
        }
    }
}
