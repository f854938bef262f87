//! The `worker` binary: the worker daemon, or with the argument `fetcher` one
//! of the fetchers that it starts.

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use fanout_worker::WorkerArgs;
use tracing_subscriber::EnvFilter;

/// Starts, feeds, measures and reaps fetchers for a fanout coordinator
#[derive(Parser)]
#[command(name = "worker", version = env!("FANOUT_LONG_VERSION"))]
struct Cli {
    #[command(flatten)]
    worker: WorkerArgs,

    /// How log lines look on stderr; RUST_LOG says which there are
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    // Before anything else: a fetcher holds nothing but the model under study.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == "fetcher")
    {
        return fanout_fetcher::run();
    }
    let cli = Cli::parse();
    log_to_stderr(cli.log_format);
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("rustls has a default provider already");
    }
    match fanout_worker::run(cli.worker) {
        Ok(ending) => ending.into(),
        Err(error) => {
            tracing::error!("{error}");
            error.exit_code().into()
        }
    }
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
