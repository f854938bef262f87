//! How one process waits: each model drives the same desk and the same clients.

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
    clients::{descriptors, null::Null},
    counters::Counters,
    drive::{Core, READ_BYTES, blocking::BlockingCore, event_loop::AsyncCore},
    ending::{Ending, SetupError},
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
pub(crate) fn run(setup: Setup, mut pipes: Pipes) -> Result<(), Ending> {
    let subject = Subject {
        counters: Arc::default(),
        work: Work::new(&setup),
        setup,
    };
    let outcome = descriptors::provide(&subject.setup)
        .map_err(Ending::from)
        .and_then(|()| match subject.setup.model {
            Model::Sequential | Model::Threads => run_blocking(subject, &mut pipes),
            Model::Async | Model::AsyncMt => run_async(subject, &mut pipes),
        });
    if let Err(Ending::Setup(error)) = &outcome {
        pipes.send(Message::Failed(SetupFailed {
            reason: error.to_string(),
        }));
        pipes.flush()?;
    }
    outcome
}

fn run_blocking(subject: Subject, pipes: &mut Pipes) -> Result<(), Ending> {
    let setup = &subject.setup;
    let slots = subject.slots();
    match setup.client {
        Client::Core => {
            let core = Arc::new(Core::new(&setup.http, slots, subject.counters.clone())?);
            // One allocation for all: pages that no slot reads into are never
            // touched, and so cost nothing.
            let slots = usize::try_from(slots).expect("at most 65,536");
            let mut buffers = vec![0; slots * READ_BYTES]
                .leak()
                .chunks_exact_mut(READ_BYTES);
            let vigil = (setup.model == Model::Sequential).then_some(sequential::VIGIL);
            dispatch_blocking(subject, pipes, move || {
                let scratch = buffers.next().expect("a buffer for each slot");
                BlockingCore::new(core.clone(), scratch, vigil)
            })
        }
        Client::Null => dispatch_blocking(subject, pipes, || Null),
        Client::Ureq | Client::Reqwest => Err(SetupError::Client {
            client: "x",
            reason: "x".into(),
        }
        .into()),
    }
}

fn dispatch_blocking<C: crate::clients::BlockingClient + Send + 'static>(
    subject: Subject,
    pipes: &mut Pipes,
    mut client: impl FnMut() -> C,
) -> Result<(), Ending> {
    if subject.setup.model == Model::Sequential {
        sequential::run(subject, pipes, client())
    } else {
        threads::run(subject, pipes, client)
    }
}

fn run_async(subject: Subject, pipes: &mut Pipes) -> Result<(), Ending> {
    let setup = &subject.setup;
    match setup.client {
        Client::Core => {
            let core = Arc::new(Core::new(
                &setup.http,
                subject.slots(),
                subject.counters.clone(),
            )?);
            event_loop::run(subject, pipes, move || AsyncCore::new(core.clone()))
        }
        Client::Null => event_loop::run(subject, pipes, || Null),
        Client::Ureq | Client::Reqwest => Err(SetupError::Client {
            client: "x",
            reason: "x".into(),
        }
        .into()),
    }
}

/// Processors that this process may run on.
pub(crate) fn processors() -> NonZeroUsize {
    rustix::thread::sched_getaffinity(None)
        .ok()
        .and_then(|mask| NonZeroUsize::new(mask.count().try_into().ok()?))
        .unwrap_or(NonZeroUsize::MIN)
}
