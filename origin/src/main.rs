//! `origin`: the server that fanout's studies run against, on its own.

use std::process::ExitCode;

use clap::Parser;
use fanout_origin::OriginArgs;
use fanout_program::{LogArgs, LogPrefix};

#[derive(Debug, Parser)]
#[command(name = "origin", version = fanout_program::LONG_VERSION)]
struct OriginCli {
    #[command(flatten)]
    origin: OriginArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    let command = OriginCli::parse();
    fanout_program::set_up(command.log, "info", LogPrefix::Level);
    fanout_origin::run(&command.origin)
}
