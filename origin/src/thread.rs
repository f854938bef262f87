//! One serving thread.

use std::{convert::Infallible, future::Future, io, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    limits::IDLE_TIMEOUT,
    stats::{ServerCounters, Tally},
    timer::Timer,
};

/// How an origin serves.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// What random delays and sizes are drawn from, together with the URL.
    pub seed: u64,
    /// Threads that serve; at most 256.
    pub threads: NonZeroUsize,
    /// How long a connection may make no progress.
    pub idle_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { seed: 0, threads: NonZeroUsize::MIN, idle_timeout: IDLE_TIMEOUT }
    }
}

#[derive(Debug)]
pub(crate) struct ServerThread {
    pub(crate) seed: u64,
    pub(crate) idle_timeout: Duration,
    pub(crate) timer: Timer,
    pub(crate) counters: Arc<ServerCounters>,
    pub(crate) handle: Handle,
    index: usize,
}

impl ServerThread {
    /// A thread that is yet to run, and the runtime to run it on.
    pub(crate) fn new(
        index: usize,
        settings: &ServerSettings,
        counters: &Arc<ServerCounters>,
    ) -> io::Result<(Runtime, Arc<Self>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            // Busy connections are interrupted this often to look at the timer
            // and the sockets: a due response waits for so many others at most.
            .event_interval(16)
            .build()?;
        let entered = runtime.enter();
        let timer = Timer::new()?;
        drop(entered);
        let thread = Self {
            seed: settings.seed,
            idle_timeout: settings.idle_timeout,
            timer,
            counters: Arc::clone(counters),
            handle: runtime.handle().clone(),
            index,
        };
        Ok((runtime, Arc::new(thread)))
    }

    pub(crate) fn tally(&self) -> Tally<'_> {
        self.counters.tally(self.index)
    }

    /// Serves the connections that are spawned on `runtime`, and `accepts` more,
    /// until `stop` is cancelled.
    pub(crate) fn run(
        &self,
        runtime: &Runtime,
        accepts: impl Future<Output = io::Result<Infallible>>,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        // If this thread ends by itself, or panics, the others end too.
        let _end_all = stop.clone().drop_guard();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop.cancelled() => Ok(()),
                Err(error) = self.timer.drive() => Err(error),
                Err(error) = accepts => Err(error),
            }
        })
    }
}
