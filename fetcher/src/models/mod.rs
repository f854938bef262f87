//! How one process waits: each model drives the same queue and the same clients.

pub(crate) mod event_loop;
pub(crate) mod sequential;
pub(crate) mod threads;

use std::{num::NonZeroUsize, sync::Arc};

use fanout_proto::{
    report::FetcherReport,
    setup::{Client, Model, Setup},
    wire::{FetcherIsReady, SetupFailed, from_fetcher::Message},
};

use crate::{
    clients::{
        BlockingClient, descriptors,
        null::Null,
        reqwest::{Reqwest, ReqwestShared},
        ureq::{Ureq, UreqShared},
    },
    counters::Counters,
    drive::{Core, READ_BYTES, blocking::BlockingCore, event_loop::AsyncCore},
    exit_reason::{ExitReason, SetupError},
    pipes::Pipes,
    work::Work,
};

/// What every model is given.
pub(crate) struct Subject {
    pub(crate) setup: Setup,
    pub(crate) counters: Arc<Counters>,
    pub(crate) work: Work,
}

impl Subject {
    fn slots(&self) -> u32 {
        self.setup.concurrency.get()
    }
}

/// The first message after the setup, if it succeeded.
pub(crate) fn ready() -> Message {
    Message::Ready(FetcherIsReady {})
}

/// The last message of a fetcher.
pub(crate) fn report(report: &FetcherReport) -> Message {
    Message::Report(report.into())
}

/// Runs the model that the setup names until the worker ends it.
pub(crate) fn run(setup: Setup, mut pipes: Pipes) -> Result<(), ExitReason> {
    let subject = Subject {
        counters: Arc::default(),
        work: Work::new(&setup),
        setup,
    };
    let outcome = descriptors::provide(&subject.setup)
        .map_err(ExitReason::from)
        .and_then(|()| match subject.setup.model {
            Model::Sequential | Model::Threads => run_blocking(subject, &mut pipes),
            Model::Async | Model::AsyncMt => run_async(subject, &mut pipes),
        });
    if let Err(ExitReason::Setup(error)) = &outcome {
        pipes.send(Message::Failed(SetupFailed {
            reason: error.to_string(),
        }));
        pipes.flush()?;
    }
    outcome
}

fn run_blocking(subject: Subject, pipes: &mut Pipes) -> Result<(), ExitReason> {
    let setup = &subject.setup;
    let slots = subject.slots();
    let counters = subject.counters.clone();
    match setup.client {
        Client::Core => {
            let core = Arc::new(Core::new(&setup.http, slots, counters)?);
            let watchdog = (setup.model == Model::Sequential).then_some(sequential::WATCHDOG);
            let mut buffers = buffers(slots);
            dispatch_blocking(subject, pipes, move || {
                BlockingCore::new(core.clone(), buffers(), watchdog)
            })
        }
        Client::Ureq => {
            let shared = Arc::new(UreqShared::new(&setup.http, slots, counters)?);
            let mut buffers = buffers(slots);
            dispatch_blocking(subject, pipes, move || Ureq::new(shared.clone(), buffers()))
        }
        Client::Null => dispatch_blocking(subject, pipes, || Null),
        Client::Reqwest => Err(unfit(setup)),
    }
}

/// A read buffer for each slot, in one allocation that lives as long as the
/// process: pages that no slot reads into are never touched and so cost nothing.
fn buffers(slots: u32) -> impl FnMut() -> &'static mut [u8] {
    let slots = usize::try_from(slots).expect("at most 65,536");
    let mut buffers = vec![0; slots * READ_BYTES]
        .leak()
        .chunks_exact_mut(READ_BYTES);
    move || buffers.next().expect("a buffer for each slot")
}

/// The wire lets no such setup through.
fn unfit(setup: &Setup) -> ExitReason {
    ExitReason::Setup(SetupError::Client {
        client: setup.client.name(),
        reason: format!("it does not run under the model {}", setup.model),
    })
}

fn dispatch_blocking<C: BlockingClient + Send + 'static>(
    subject: Subject,
    pipes: &mut Pipes,
    mut client: impl FnMut() -> C,
) -> Result<(), ExitReason> {
    if subject.setup.model == Model::Sequential {
        sequential::run(subject, pipes, client())
    } else {
        threads::run(subject, pipes, client)
    }
}

fn run_async(subject: Subject, pipes: &mut Pipes) -> Result<(), ExitReason> {
    let setup = &subject.setup;
    let slots = subject.slots();
    let counters = subject.counters.clone();
    match setup.client {
        Client::Core => {
            let core = Arc::new(Core::new(&setup.http, slots, counters)?);
            event_loop::run(subject, pipes, move || AsyncCore::new(core.clone()))
        }
        Client::Reqwest => {
            let shared = Arc::new(ReqwestShared::new(&setup.http, slots, counters)?);
            event_loop::run(subject, pipes, move || Reqwest::new(shared.clone()))
        }
        Client::Null => event_loop::run(subject, pipes, || Null),
        Client::Ureq => Err(unfit(setup)),
    }
}

/// Processors that this process may run on.
pub(crate) fn processors() -> NonZeroUsize {
    rustix::thread::sched_getaffinity(None)
        .ok()
        .and_then(|mask| NonZeroUsize::new(mask.count().try_into().ok()?))
        .unwrap_or(NonZeroUsize::MIN)
}
