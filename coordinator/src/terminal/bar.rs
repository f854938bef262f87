//! Progress on stderr: a bar on a terminal, nothing in a pipe.

use std::{
    io,
    io::IsTerminal,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use fanout_proto::control::HostsWaited;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::Notify;

use crate::run::{Progress, Sink};

/// Takes how far a run has come, and what it is at.
pub type Tell = Box<dyn Fn(&str, &Progress)>;

/// Shows how far a run has come.
pub struct Bar {
    shown: Shown,
}

enum Shown {
    Terminal(Drawn),
    Told { what: String, tell: Tell },
    Hidden,
}

impl Bar {
    /// A bar for `total` URLs; hidden unless stderr is a terminal.
    #[must_use]
    pub fn new(total: u64, prefix: String) -> Self {
        if !io::stderr().is_terminal() {
            return Self::hidden();
        }
        let target = ProgressDrawTarget::stderr_with_hz(8);
        let bar = ProgressBar::with_draw_target(Some(total), target).with_prefix(prefix);
        let template = "{prefix} {wide_bar} {human_pos}/{human_len} {msg} {elapsed} left {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        // Without a thread to draw it, it is not worth much.
        Drawn::start(bar).map_or_else(
            |_| Self::hidden(),
            |drawn| Self {
                shown: Shown::Terminal(drawn),
            },
        )
    }

    /// Passes on how far it is instead of showing it.
    #[must_use]
    pub fn told(what: String, tell: Tell) -> Self {
        Self {
            shown: Shown::Told { what, tell },
        }
    }

    /// A bar that never shows.
    #[must_use]
    pub fn hidden() -> Self {
        Self {
            shown: Shown::Hidden,
        }
    }

    /// Takes the bar off the screen.
    pub fn clear(&self) {
        if let Shown::Terminal(drawn) = &self.shown {
            drawn.clear();
        }
    }

    /// Starts the bar anew for another run of the same length.
    pub fn restart(&mut self, prefix: String) {
        match &mut self.shown {
            Shown::Terminal(drawn) => drawn.wish(|wish| {
                *wish = Wish {
                    restart: Some(prefix),
                    ..Wish::default()
                };
            }),
            Shown::Told { what, .. } => *what = prefix,
            Shown::Hidden => {}
        }
    }

    /// Shows it.
    pub fn show(&self, progress: &Progress) {
        match &self.shown {
            Shown::Terminal(drawn) => drawn.wish(|wish| wish.show = Some(*progress)),
            Shown::Told { what, tell } => tell(what, progress),
            Shown::Hidden => {}
        }
    }
}

/// What the bar should look like next; only the newest counts.
#[derive(Default)]
struct Wish {
    restart: Option<String>,
    show: Option<Progress>,
    clear: bool,
}

#[derive(Default)]
struct Wishes {
    wish: Mutex<Wish>,
    came: Condvar,
}

/// A bar that a thread of its own draws: a terminal that stops must not keep
/// anybody from the workers.
struct Drawn {
    wishes: Arc<Wishes>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Wishes {
    fn lock(&self) -> MutexGuard<'_, Wish> {
        // Nothing that can panic runs while it is held.
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a wish.
    fn take(&self) -> Wish {
        let mut wish = self.lock();
        while wish.restart.is_none() && wish.show.is_none() && !wish.clear {
            wish = self.came.wait(wish).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut wish)
    }
}

impl Drawn {
    fn start(bar: ProgressBar) -> io::Result<Self> {
        let wishes = Arc::new(Wishes::default());
        let thread = {
            let wishes = wishes.clone();
            let draw = move || {
                loop {
                    let wish = wishes.take();
                    if let Some(prefix) = wish.restart {
                        bar.set_prefix(prefix);
                        bar.reset();
                    }
                    if let Some(progress) = wish.show {
                        bar.set_length(progress.total);
                        bar.set_position(progress.counts.done());
                        bar.set_message(message(&progress));
                    }
                    if wish.clear {
                        bar.finish_and_clear();
                        return;
                    }
                }
            };
            std::thread::Builder::new()
                .name("progress".to_owned())
                .spawn(draw)?
        };
        Ok(Self {
            wishes,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn wish(&self, change: impl FnOnce(&mut Wish)) {
        change(&mut self.wishes.lock());
        self.wishes.came.notify_one();
    }

    /// What is said next comes after it, so this waits for the terminal.
    fn clear(&self) {
        self.wish(|wish| wish.clear = true);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::debug!("the progress bar's thread failed");
        }
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.clear();
    }
}

fn message(progress: &Progress) -> String {
    let Some(elapsed) = progress.elapsed.filter(|e| *e > Duration::ZERO) else {
        return "starting".to_owned();
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = (progress.counts.done() - progress.counts.before) as f64 / elapsed.as_secs_f64();
    let failed = match progress.counts.failed + progress.counts.abandoned {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let waiting = progress.waiting.map_or(String::new(), |w| waiting(&w));
    format!("{rate:.0}/s{failed}{waiting}")
}

/// What the limits per host make free slots wait for.
fn waiting(waiting: &HostsWaited) -> String {
    let hosts = match waiting.hosts {
        1 => "1 host".to_owned(),
        hosts => format!("{hosts} hosts"),
    };
    // Below a second it flickers, and tells nothing.
    let next = match waiting.next.map(|next| next.as_secs()) {
        None | Some(0) => String::new(),
        Some(seconds) => format!(", next in {seconds} s"),
    };
    format!(", waiting for {hosts}{next}")
}

impl Sink for Bar {
    fn progress(&mut self, progress: &Progress) -> io::Result<()> {
        self.show(progress);
        Ok(())
    }

    fn full(&self) -> Option<Arc<Notify>> {
        None
    }
}

/// A sink together with a bar.
pub struct WithBar<'a, S> {
    /// Takes everything.
    pub sink: S,
    /// Shows how far it came.
    pub bar: &'a mut Bar,
}

impl<S: Sink> Sink for WithBar<'_, S> {
    fn started(
        &mut self,
        who: &crate::run::Who<'_>,
        batch: &fanout_proto::completion::StartedBatch,
    ) -> io::Result<()> {
        self.sink.started(who, batch)
    }

    fn record(
        &mut self,
        who: &crate::run::Who<'_>,
        accepted: &[fanout_engine::trial::Accepted],
        details: &[(u32, String)],
    ) -> io::Result<()> {
        self.sink.record(who, accepted, details)
    }

    fn abandoned(&mut self, ids: &[fanout_proto::id::UrlId]) -> io::Result<()> {
        self.sink.abandoned(ids)
    }

    fn lost(&mut self, who: &crate::run::Who<'_>, reason: &str) {
        self.sink.lost(who, reason);
    }

    fn progress(&mut self, progress: &Progress) -> io::Result<()> {
        self.bar.show(progress);
        self.sink.progress(progress)
    }

    fn full(&self) -> Option<Arc<Notify>> {
        self.sink.full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_when_slots_wait_for_hosts() {
        let text = |hosts, next| waiting(&HostsWaited { hosts, next });
        assert_eq!(
            text(3, Some(Duration::from_millis(4_200))),
            ", waiting for 3 hosts, next in 4 s"
        );
        assert_eq!(
            text(1, Some(Duration::from_millis(20))),
            ", waiting for 1 host"
        );
        assert_eq!(text(2, None), ", waiting for 2 hosts");
    }
}
