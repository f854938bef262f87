//! `origin`: the server that fanout's studies run against, on its own.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Parser;
use fanout_origin::OriginArgs;
use tracing_subscriber::EnvFilter;

#[derive(Debug, Parser)]
#[command(name = "origin", version = env!("FANOUT_LONG_VERSION"))]
struct Cli {
    #[command(flatten)]
    origin: OriginArgs,

    /// How log lines on standard error look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match cli.log_format {
        LogFormat::Text => log.with_target(false).without_time().init(),
        LogFormat::Json => log.json().init(),
    }
    fanout_origin::run(&cli.origin)
}
