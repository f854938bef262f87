//! The daemon: reaches the coordinator, comes back to it, and ends when told.

use std::{
    future::pending,
    io,
    os::fd::AsFd,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use fanout_proto::text::causes;
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    args::{UsageError, WorkerArgs, WorkerConfig},
    backoff::Backoff,
    fetchers::declared,
    session::{AttachError, SessionEnd, attach},
};

/// A session that lasted so long was a good one: the next pause is short again.
const LASTING: Duration = Duration::from_secs(30);
/// Exit code after a second SIGTERM, as shells give it.
const SIGTERM_CODE: u8 = 128 + 15;

/// How the daemon ended, when it ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonEnd {
    /// The coordinator said Goodbye, stdin ended, or SIGTERM came.
    Done,
    /// SIGINT came.
    Interrupted,
}

impl DaemonEnd {
    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Interrupted => 130,
        }
    }
}

impl From<DaemonEnd> for ExitCode {
    fn from(ending: DaemonEnd) -> Self {
        ending.code().into()
    }
}

/// Why the daemon could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// An argument cannot be used.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// No connection could be made, and it was to be tried once only.
    #[error("no coordinator at {0}: {1}")]
    Unreachable(String, String),
    /// The session failed and cannot be tried again.
    #[error(transparent)]
    Session(#[from] AttachError),
    /// The event loop or a signal handler could not be set up.
    #[error("the worker could not be set up: {0}")]
    Setup(#[from] io::Error),
}

impl WorkerError {
    fn is_final(&self) -> bool {
        match self {
            Self::Usage(_) | Self::Setup(_) => true,
            Self::Unreachable(..) => false,
            Self::Session(error) => error.is_final(),
        }
    }

    /// The process's exit code: 2 for bad usage, 3 for no coordinator.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Unreachable(..) | Self::Session(_) => 3,
            Self::Setup(_) => 1,
        }
    }
}

/// Runs the worker until it is told to end. Blocks the calling thread, which
/// must be the process's first: fetchers end with the thread that started them.
///
/// The caller has set up logging and, for https, rustls' default provider. The
/// process's executable must answer to the argument `fetcher` by being one.
pub fn run(args: WorkerArgs) -> Result<DaemonEnd, WorkerError> {
    let mut config = WorkerConfig::try_from(args)?;
    fanout_program::raise_file_limit();
    // One thread: what the worker itself costs stays small and easy to tell.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = StopSignals::watch(config.exit_with_stdin)?;
        config.session.declared = tokio::select! {
            () = signals.stop.cancelled() => return Ok(signals.ending()),
            declared = declared(&config.session.others) => declared.map_err(UsageError)?,
        };
        serve(&config, &signals).await
    })
}

async fn serve(config: &WorkerConfig, signals: &StopSignals) -> Result<DaemonEnd, WorkerError> {
    let mut backoff = Backoff::default();
    let mut told = None;
    loop {
        let began = Instant::now();
        let parted = one_session(config, signals).await;
        if began.elapsed() > LASTING {
            backoff.reset();
            told = None;
        }
        match parted {
            Ok(SessionEnd::Stopped) => return Ok(signals.ending()),
            Ok(SessionEnd::Goodbye(reason)) => {
                tracing::info!(reason, "the coordinator said goodbye");
                if config.once || config.exit_with_stdin {
                    return Ok(DaemonEnd::Done);
                }
            }
            Err(error) if config.once || error.is_final() => return Err(error),
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() == Some(&error) {
                    tracing::debug!("{error}");
                } else {
                    tracing::warn!("{error}; trying again until it answers");
                    told = Some(error);
                }
            }
        }
        tokio::select! {
            () = signals.stop.cancelled() => return Ok(signals.ending()),
            () = sleep(backoff.pause(rand::random())) => {}
        }
    }
}

async fn one_session(
    config: &WorkerConfig,
    signals: &StopSignals,
) -> Result<SessionEnd, WorkerError> {
    let channel = tokio::select! {
        () = signals.stop.cancelled() => return Ok(SessionEnd::Stopped),
        channel = config.coordinator.connect() => channel,
    };
    let channel = channel.map_err(|error| {
        WorkerError::Unreachable(config.coordinator.uri().to_string(), causes(&error))
    })?;
    Ok(attach(channel, &config.session, &signals.stop).await?)
}

struct StopSignals {
    stop: CancellationToken,
    ending: Arc<OnceLock<DaemonEnd>>,
    _watcher: AbortOnDropHandle<()>,
}

impl StopSignals {
    /// Begins to watch. The first signal stops the daemon, a second one ends
    /// the process at once: its fetchers see their stdin end.
    fn watch(with_stdin: bool) -> Result<Self, WorkerError> {
        let stdin = with_stdin.then(stdin_pipe).transpose()?;
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        let stop = CancellationToken::new();
        let ending = Arc::new(OnceLock::new());
        let watcher = tokio::spawn({
            let (stop, ending) = (stop.clone(), Arc::clone(&ending));
            async move {
                // A terminal's Ctrl-C reaches the coordinator as well, and it is
                // the one to decide what happens to a worker of its own.
                let mut interrupted = async || match with_stdin {
                    true => pending().await,
                    false => interrupts.recv().await,
                };
                let how = tokio::select! {
                    _ = interrupted() => DaemonEnd::Interrupted,
                    _ = terminations.recv() => DaemonEnd::Done,
                    () = end_of(stdin) => DaemonEnd::Done,
                };
                // It is set here only.
                let _ = ending.set(how);
                stop.cancel();
                let code = tokio::select! {
                    _ = interrupted() => DaemonEnd::Interrupted.code(),
                    _ = terminations.recv() => SIGTERM_CODE,
                };
                std::process::exit(code.into());
            }
        });
        Ok(Self { stop, ending, _watcher: AbortOnDropHandle::new(watcher) })
    }

    fn ending(&self) -> DaemonEnd {
        self.ending.get().copied().unwrap_or(DaemonEnd::Done)
    }
}

fn stdin_pipe() -> Result<Receiver, UsageError> {
    let open = || Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?);
    open().map_err(|error: io::Error| {
        UsageError(format!("--exit-with-stdin needs a pipe on stdin: {error}"))
    })
}

/// Waits until `stdin` ends; forever if there is none.
async fn end_of(stdin: Option<Receiver>) {
    let Some(mut stdin) = stdin else {
        return pending().await;
    };
    let mut ignored = [0; 256];
    while let Ok(1..) = stdin.read(&mut ignored).await {}
}
