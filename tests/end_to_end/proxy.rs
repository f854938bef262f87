//! A wire that a test can cut: a TCP proxy between a worker and its coordinator.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// What one pump carries at a time, and so what a cut can lose on the way.
const CARRIED_BYTES: usize = 16 * 1024;

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ways at once.
    Both,
    /// The coordinator sees the end; the other way goes on until it answers.
    ToCoordinator,
    /// The worker sees the end; the other way goes on until it answers.
    ToWorker,
}

#[derive(Default)]
struct Shared {
    frozen: Mutex<bool>,
    thawed: Condvar,
    /// Worker's side and coordinator's side.
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
    over: AtomicBool,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Vec<(TcpStream, TcpStream)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn freeze(&self, frozen: bool) {
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = frozen;
        self.thawed.notify_all();
    }

    fn wait_for_thaw(&self) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        while *frozen {
            frozen = self.thawed.wait(frozen).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// See the module. Everything it started ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) url: String,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A way to `http://ADDRESS`.
    pub(crate) fn to(url: &str) -> Self {
        let target = url.strip_prefix("http://").expect("plain HTTP").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &target, &shared)
        });
        Self { url: format!("http://{own}"), shared, acceptor: Some(acceptor) }
    }

    /// Breaks what is open now; new connections are let through.
    pub(crate) fn cut(&self, how: Cut) {
        for (worker, coordinator) in self.shared.open().iter() {
            // Whoever is gone already cannot be cut off.
            let _ = match how {
                Cut::Both => {
                    worker.shutdown(Shutdown::Both).and(coordinator.shutdown(Shutdown::Both))
                }
                Cut::ToCoordinator => coordinator.shutdown(Shutdown::Write),
                Cut::ToWorker => worker.shutdown(Shutdown::Write),
            };
        }
    }

    /// Carries nothing until it is thawed; nothing is lost by that.
    pub(crate) fn freeze(&self) {
        self.shared.freeze(true);
    }

    pub(crate) fn thaw(&self) {
        self.shared.freeze(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.thaw();
        // Wakes the acceptor, which then sees that it is over.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        self.cut(Cut::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, target: &str, shared: &Arc<Shared>) {
    let mut pumps: Vec<JoinHandle<()>> = Vec::new();
    for worker in listener.incoming() {
        if shared.over.load(Ordering::Relaxed) {
            break;
        }
        let connected = worker.and_then(|worker| {
            let coordinator = TcpStream::connect(target)?;
            for stream in [&worker, &coordinator] {
                stream.set_nodelay(true)?;
            }
            let pairs = [
                (worker.try_clone()?, coordinator.try_clone()?),
                (coordinator.try_clone()?, worker.try_clone()?),
            ];
            shared.open().push((worker, coordinator));
            Ok(pairs)
        });
        // No coordinator: the worker sees its connection closed.
        for (from, to) in connected.into_iter().flatten() {
            let shared = Arc::clone(shared);
            pumps.push(thread::spawn(move || pump(from, to, &shared)));
        }
    }
    for pump in pumps {
        let _ = pump.join();
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut bytes = vec![0; CARRIED_BYTES];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        shared.wait_for_thaw();
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    // The end travels on, and nothing waits for what cannot come.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
