//! The clients that are built in. Another one is a module, a row of [`CLIENTS`] and a dependency.

mod core;
mod library;
mod null;
mod reqwest;
mod ureq;

use fanout_proto::{
    arm::Client,
    setup::Setup,
    wire::{SetupFailed, from_fetcher::Message},
};

use crate::{
    descriptors,
    exit_reason::{ExitReason, SetupError},
    models::{self, Subject},
    pipes::Pipes,
};

/// Runs one client under the model that the setup names, until the worker ends it.
type RunClient = fn(Subject, &mut Pipes) -> Result<(), ExitReason>;

struct BuiltIn {
    client: Client,
    /// Connections that each slot may have open at most, at the least that it can do with.
    connections_per_slot: u64,
    /// Under models whose slots block; `None` where it does not run.
    run_blocking: Option<RunClient>,
    /// Under models whose slots are tasks of an event loop.
    run_on_loop: Option<RunClient>,
}

const CLIENTS: [BuiltIn; 4] = [
    BuiltIn {
        client: Client::CORE,
        connections_per_slot: 1,
        run_blocking: Some(core::run_blocking),
        run_on_loop: Some(core::run_on_loop),
    },
    // The libraries pool connections by host: besides the one in use, an idle one per slot.
    BuiltIn {
        client: Client::UREQ,
        connections_per_slot: 2,
        run_blocking: Some(ureq::run),
        run_on_loop: None,
    },
    BuiltIn {
        client: Client::REQWEST,
        connections_per_slot: 2,
        run_blocking: None,
        run_on_loop: Some(reqwest::run),
    },
    BuiltIn {
        client: Client::NULL,
        connections_per_slot: 0,
        run_blocking: Some(|subject, pipes| models::run_blocking(subject, pipes, || null::Null)),
        run_on_loop: Some(|subject, pipes| models::run_on_loop(subject, pipes, || null::Null)),
    },
];

fn built_in(client: Client) -> Option<&'static BuiltIn> {
    CLIENTS.iter().find(|row| row.client == client)
}

/// File descriptors that a fetcher with this setup may have open at most, at
/// the least that it can do with.
///
/// A fetcher raises its own soft limit to what it can use and refuses to set
/// up where the hard limit is below this.
pub fn descriptors_needed(setup: &Setup) -> u64 {
    let per_slot = built_in(setup.client).map_or(0, |row| row.connections_per_slot);
    descriptors::needed(setup.concurrency.get(), per_slot)
}

pub(crate) fn run(setup: Setup, mut pipes: Pipes) -> Result<(), ExitReason> {
    let outcome = set_up_and_run(setup, &mut pipes);
    if let Err(ExitReason::Setup(error)) = &outcome {
        pipes.send(Message::Failed(SetupFailed { reason: error.to_string() }));
        pipes.flush()?;
    }
    outcome
}

fn set_up_and_run(setup: Setup, pipes: &mut Pipes) -> Result<(), ExitReason> {
    descriptors::provide(descriptors_needed(&setup), setup.concurrency.get())?;
    let run = built_in(setup.client)
        .and_then(|row| if setup.model.is_blocking() { row.run_blocking } else { row.run_on_loop });
    // The wire lets no such setup through.
    let run = run.ok_or_else(|| {
        let reason = format!("it does not run under the model {}", setup.model);
        SetupError::client(setup.client.name(), &reason)
    })?;
    run(Subject::new(setup), pipes)
}
