//! Progress on stderr: a bar on a terminal, a line now and then in a pipe.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use fanout_program::lock;
use fanout_proto::control::HostsWaited;
use indicatif::{ProgressDrawTarget, ProgressStyle};

use crate::run::Progress;

/// In a pipe a line comes this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Shows how far a run has come. A thread of its own draws it: a terminal or a pipe that
/// stops must not keep the coordinator from the workers.
pub(super) struct ProgressBar {
    changes: Arc<Changes>,
    thread: Option<JoinHandle<()>>,
}

/// How the bar changes next; only the newest counts.
#[derive(Default)]
struct Change {
    restart: Option<String>,
    show: Option<Progress>,
    clear: bool,
}

#[derive(Default)]
struct Changes {
    next: Mutex<Change>,
    came: Condvar,
}

impl Changes {
    fn take(&self) -> Change {
        let idle = |next: &mut Change| next.restart.is_none() && next.show.is_none() && !next.clear;
        let next = self.came.wait_while(lock(&self.next), idle);
        std::mem::take(&mut next.unwrap_or_else(PoisonError::into_inner))
    }
}

impl ProgressBar {
    /// Progress of a run of `total` URLs; `None` if it cannot be shown.
    pub(super) fn new(total: u64, prefix: String) -> Option<Self> {
        let changes = Arc::new(Changes::default());
        let drawn = changes.clone();
        let thread = std::thread::Builder::new().name("progress".to_owned());
        // Without a thread to draw it, it is not worth much.
        let thread = if io::stderr().is_terminal() {
            let bar = bar(total, prefix);
            thread.spawn(move || draw(&bar, &drawn)).ok()?
        } else {
            thread.spawn(move || write_lines(prefix, &drawn)).ok()?
        };
        Some(Self { changes, thread: Some(thread) })
    }

    fn change(&self, change: impl FnOnce(&mut Change)) {
        change(&mut lock(&self.changes.next));
        self.changes.came.notify_one();
    }

    /// Starts the bar anew for another run of the same length.
    pub(super) fn restart(&self, prefix: String) {
        self.change(|next| {
            *next = Change { restart: Some(prefix), ..Change::default() };
        });
    }

    pub(super) fn show(&self, progress: &Progress) {
        self.change(|next| next.show = Some(*progress));
    }
}

/// Takes the bar off the screen, and waits for that: what is said next comes after it.
impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.change(|next| next.clear = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::debug!("the progress bar's thread failed");
        }
    }
}

fn bar(total: u64, prefix: String) -> indicatif::ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(8);
    let bar = indicatif::ProgressBar::with_draw_target(Some(total), target).with_prefix(prefix);
    let template = "{prefix} {wide_bar} {human_pos}/{human_len} {msg} {elapsed} left {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn draw(bar: &indicatif::ProgressBar, changes: &Changes) {
    loop {
        let change = changes.take();
        if let Some(prefix) = change.restart {
            bar.set_prefix(prefix);
            bar.reset();
        }
        if let Some(progress) = change.show {
            bar.set_length(progress.total);
            bar.set_position(progress.counts.done());
            bar.set_message(message(&progress));
        }
        if change.clear {
            bar.finish_and_clear();
            return;
        }
    }
}

fn write_lines(mut what: String, changes: &Changes) {
    let mut last = Instant::now();
    loop {
        let change = changes.take();
        if let Some(restart) = change.restart {
            what = restart;
        }
        if let Some(progress) = change.show
            && last.elapsed() >= LINE_INTERVAL
        {
            last = Instant::now();
            // Who closed the pipe wants no lines; the run goes on.
            let _ = writeln!(io::stderr(), "{}", line(&what, &progress));
        }
        if change.clear {
            return;
        }
    }
}

fn line(what: &str, progress: &Progress) -> String {
    let what: Vec<&str> = what.split_whitespace().collect();
    let (done, total) = (progress.counts.done(), progress.total);
    format!("{}: {done} of {total} URLs, {}", what.join(" "), message(progress))
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

#[cfg(test)]
mod tests {
    use fanout_engine::ledger::Counts;

    use super::*;

    #[test]
    fn a_line_for_a_pipe_says_what_runs_and_how_far_it_is() {
        let progress = Progress {
            counts: Counts { completed: 398, failed: 2, ..Counts::default() },
            total: 1_000,
            bytes: 0,
            elapsed: Some(Duration::from_millis(100)),
            waiting: None,
        };
        assert_eq!(
            line("block  3/10  threads:32           (about 40 s of the study left)", &progress),
            "block 3/10 threads:32 (about 40 s of the study left): 400 of 1000 URLs, 4000/s, 2 failed"
        );
    }

    #[test]
    fn it_says_when_slots_wait_for_hosts() {
        let text = |hosts, next| waiting(&HostsWaited { hosts, next });
        assert_eq!(
            text(3, Some(Duration::from_millis(4_200))),
            ", waiting for 3 hosts, next in 4 s"
        );
        assert_eq!(text(1, Some(Duration::from_millis(20))), ", waiting for 1 host");
        assert_eq!(text(2, None), ", waiting for 2 hosts");
    }
}
