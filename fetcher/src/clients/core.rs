//! `core`: one sans-IO exchange of HTTP/1.1, driven under every model.

use std::sync::Arc;

use crate::{
    descriptors::kept_per_slot,
    drive::{Core, blocking::BlockingCore, event_loop::AsyncCore, read_buffers},
    exit_reason::{ExitReason, SetupError},
    models::{self, Subject},
    pipes::Pipes,
    watchdog::Watchdog,
};

pub(super) fn run_blocking(subject: Subject, pipes: &mut Pipes) -> Result<(), ExitReason> {
    let core = shared(&subject)?;
    let watchdog = Watchdog::for_model(subject.setup.model);
    let mut buffers = read_buffers(subject.slots());
    models::run_blocking(subject, pipes, move || {
        BlockingCore::new(core.clone(), buffers(), watchdog)
    })
}

pub(super) fn run_on_loop(subject: Subject, pipes: &mut Pipes) -> Result<(), ExitReason> {
    let core = shared(&subject)?;
    models::run_on_loop(subject, pipes, move || AsyncCore::new(core.clone()))
}

fn shared(subject: &Subject) -> Result<Arc<Core>, SetupError> {
    let core = Core::new(&subject.setup, kept_per_slot(subject.slots()), subject.counters.clone())?;
    Ok(Arc::new(core))
}
