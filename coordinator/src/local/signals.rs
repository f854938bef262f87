//! What Ctrl-C means to a run.

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use crate::run::Stop;

/// Turns signals into a [`Stop`]; the first one asks to drain or cancel, the
/// second cancels, the third quits at once.
#[derive(Debug)]
pub(crate) struct RunSignals {
    pub(crate) stop: Stop,
    task: JoinHandle<()>,
}

impl RunSignals {
    /// Listens for SIGINT and SIGTERM; with `drain`, the first one lets the URLs in hand finish.
    pub(crate) fn listen(drain: bool) -> std::io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = Stop::default();
        let told = stop.clone();
        let task = tokio::spawn(async move {
            let mut count = 0_u32;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count += 1;
                match count {
                    1 if drain => {
                        eprintln!("\nfinishing the URLs in hand; once more stops at once");
                        told.drain.cancel();
                    }
                    1 | 2 if !told.cancel.is_cancelled() => {
                        eprintln!("\nstopping, and saving what there is");
                        told.cancel.cancel();
                    }
                    // Children end with our standard pipes.
                    _ => std::process::exit(130),
                }
            }
        });
        Ok(Self { stop, task })
    }
}

impl Drop for RunSignals {
    fn drop(&mut self) {
        self.task.abort();
    }
}
