//! How one process waits: each model drives the same queue and the same
//! clients. Another model is a module and an arm of a `match` here.

mod event_loop;
mod sequential;
mod subject;
pub(crate) mod threads;

use fanout_proto::arm::Model;

pub(crate) use self::{event_loop::run as run_on_loop, subject::Subject};
use crate::{client::BlockingClient, exit_reason::ExitReason, pipes::Pipes};

/// Runs the model that the setup names, with a client for each slot.
pub(crate) fn run_blocking<C: BlockingClient + Send + 'static>(
    subject: Subject,
    pipes: &mut Pipes,
    mut client: impl FnMut() -> C,
) -> Result<(), ExitReason> {
    match subject.setup.model {
        Model::Sequential => sequential::run(subject, pipes, client()),
        // Named one by one, so that another model cannot run as threads unnoticed. Those of an
        // event loop do not come here.
        Model::Threads | Model::Async | Model::AsyncMt => threads::run(subject, pipes, client),
    }
}
