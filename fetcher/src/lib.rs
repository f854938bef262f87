//! The process under study: one concurrency model drives one HTTP client.
//!
//! A fetcher reads leases from its standard input and writes completions to
//! its standard output, as length-delimited frames of the messages in
//! `fanout.proto`. It holds nothing but the model: no gRPC, no second runtime,
//! no sampler. What it costs is measured from outside.
//!
//! ```text
//!  stdin ─► instructions ─► work queue ─► slots: a model's way of waiting
//!                            ▲                │    × a client
//!  stdout ◄──── outbox ◄─────┴────────────────┘
//! ```
//!
//! The models and the drivers of the core client are shells; what they do is
//! decided by pure cores: `instructions` (order of messages), `work_queue`
//! (leases and completions), `outbox` (when completions leave), `exchange`
//! (HTTP) and `resolve::lookup` (DNS).

mod client;
mod clients;
mod counters;
mod descriptors;
mod drive;
mod exchange;
mod exit_reason;
mod fetch_failure;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gauge;
mod instructions;
mod models;
mod outbox;
mod pipes;
mod resolve;
mod tls;
mod watchdog;
mod work;
mod work_queue;

use std::process::ExitCode;

pub use clients::descriptors_needed;
use exit_reason::ExitReason;
use instructions::Instruction;
use pipes::Pipes;
use rustix::process::{Signal, set_parent_process_death_signal};

/// The argument by which a worker keeps its fetchers to public addresses.
pub const DENY_PRIVATE: &str = "--deny-private";

/// The whole life of a fetcher process.
///
/// To be called before any runtime or thread exists. Standard input and output must be pipes. Exit
/// codes: 0 told to exit; 10 the setup failed, which was said as `SetupFailed`; 11 the input ended
/// without an Exit; 12 the output is closed; 13 the input is not this protocol or out of order; 14
/// input or output cannot be used. What went wrong stands on standard error.
#[must_use]
pub fn run() -> ExitCode {
    // Besides the end of the input, for a fetcher that blocks.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    match live() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            reason.report();
            reason.code().into()
        }
    }
}

fn live() -> Result<(), ExitReason> {
    let mut pipes = Pipes::new()?;
    match pipes.wait_next()? {
        Instruction::Setup(mut setup) => {
            setup.http.deny_private = std::env::args_os().any(|arg| arg == DENY_PRIVATE);
            clients::run(*setup, pipes)
        }
        // The reader lets nothing else through first.
        _ => Err(ExitReason::EarlyHold),
    }
}
