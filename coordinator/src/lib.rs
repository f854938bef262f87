//! fanout's coordinator: splits a URL list, leases it to fetchers through
//! workers, gathers completions, compares arms. The program runs its own
//! executable again as origin, as worker, and through that as fetchers.

mod accept;
mod cli;
mod client;
mod exit;
mod fetch;
pub mod fleet;
mod generate;
mod local;
mod report;
pub mod results;
pub mod run;
mod serve;
mod settings;
mod study;
mod terminal;
pub mod url_list;

use std::process::ExitCode;

use clap::Parser;
use fanout_program::LogPrefix;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{CommandLine, CoordinatorCommand},
    exit::{CommandExit, Failure},
    settings::{FetchSettings, StudySettings},
};

/// The `coordinator` program.
pub fn main() -> ExitCode {
    if let Some(code) = fanout_worker::run_as_fetcher() {
        return code;
    }
    let cli = CommandLine::parse();
    fanout_program::set_up(cli.log, "warn", LogPrefix::Full);
    let result = match cli.command {
        CoordinatorCommand::Worker(args) => return worker(args),
        CoordinatorCommand::Origin(args) => return fanout_origin::run(&args),
        CoordinatorCommand::Urls(args) => return fanout_origin::run_urls(&args),
        CoordinatorCommand::Study(args) if args.run.fleet.coordinator.is_some() => {
            block_on(client::study(&args))
        }
        CoordinatorCommand::Fetch(args) if args.run.fleet.coordinator.is_some() => {
            block_on(client::fetch(&args))
        }
        CoordinatorCommand::Study(args) => block_on(async {
            let declared = args.run.fleet.declared().await?;
            study::run(StudySettings::new(&args, &declared)?, args.print).await
        }),
        CoordinatorCommand::Fetch(args) => block_on(async {
            let declared = args.run.fleet.declared().await?;
            fetch::run(FetchSettings::new(&args, &declared)?).await
        }),
        CoordinatorCommand::Report(args) => block_on(report::run(&args)),
        CoordinatorCommand::Serve(args) => block_on(serve::run(*args)),
        CoordinatorCommand::Status(args) => block_on(client::status::run(&args)),
        CoordinatorCommand::Attach(args) => block_on(client::attach(&args)),
        CoordinatorCommand::Cancel(args) => block_on(client::cancel(&args)),
        CoordinatorCommand::Health(args) => block_on(client::health::run(&args)),
        CoordinatorCommand::Completions { shell } => generate::completions(shell),
        CoordinatorCommand::Man { directory } => generate::manual(directory.as_deref()),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit.into()
        }
    }
}

/// The same code as the `worker` binary.
fn worker(args: fanout_worker::WorkerArgs) -> ExitCode {
    match fanout_worker::run(args) {
        Ok(ending) => ending.into(),
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code().into()
        }
    }
}

/// One thread: a second one costs the coordinator more than it brings.
fn block_on(
    task: impl Future<Output = Result<CommandExit, Failure>>,
) -> Result<CommandExit, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::incomplete)?
        .block_on(async {
            // Once it is listened for, a file that may not grow further is an error of the
            // write that would have made it grow, and not the end of this process.
            let limit = SignalKind::from_raw(Signal::XFSZ.as_raw());
            let _listening = signal(limit).map_err(Failure::incomplete)?;
            task.await
        })
}
