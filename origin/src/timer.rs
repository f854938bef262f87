//! Waiting, precise to well below a millisecond: one timerfd per thread.
//!
//! A runtime's own timer counts in whole milliseconds and rounds up, which
//! would be a large part of a delay of 5 ms. A timerfd is armed to the
//! nanosecond and wakes the runtime like any other descriptor.
//!
//! Waits stand in an ordered map rather than a heap, so that one that is
//! given up is taken out at once and leaves nothing behind.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use fanout_program::{lock, watch};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

#[derive(Debug)]
pub(crate) struct Timer {
    fd: AsyncFd<OwnedFd>,
    queue: Mutex<TimerQueue>,
}

/// Waits in the order in which they end; the number tells apart those that end together.
#[derive(Debug, Default)]
struct TimerQueue {
    waits: BTreeMap<(Instant, u64), Waker>,
    next_number: u64,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self { fd: watch(fd)?, queue: Mutex::default() })
    }

    /// Wakes the waits that are due; the runtime's thread must run this as long as there are waits.
    pub(crate) async fn drive(&self) -> io::Result<Infallible> {
        let mut due = Vec::new();
        loop {
            // The expirations are not read: the descriptor is watched for
            // edges, and each expiration after a new arming is one.
            self.fd.readable().await?.clear_ready();
            {
                let mut queue = lock(&self.queue);
                let now = Instant::now();
                while let Some(first) = queue.waits.first_entry() {
                    if first.key().0 > now {
                        self.arm(first.key().0 - now)?;
                        break;
                    }
                    due.push(first.remove());
                }
            }
            due.drain(..).for_each(Waker::wake);
        }
    }

    /// Waits until `deadline`; never ends early.
    pub(crate) fn at(&self, deadline: Instant) -> Sleep<'_> {
        Sleep { timer: self, deadline, registered: None }
    }

    /// Runs `work`, but not past `limit` from now on; `None` if that was too short.
    pub(crate) async fn within<F: Future>(&self, limit: Duration, work: F) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        let mut sleep = self.at(Instant::now() + limit);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            Pin::new(&mut sleep).poll(cx).map(|()| None)
        })
        .await
    }

    fn arm(&self, after: Duration) -> io::Result<()> {
        // Zero would disarm it.
        let after = after.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(after).expect("seconds of a deadline fit into 63 bits"),
        };
        timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Sleep<'t> {
    timer: &'t Timer,
    deadline: Instant,
    registered: Option<(u64, Waker)>,
}

impl Sleep<'_> {
    pub(crate) fn reset(&mut self, deadline: Instant) {
        self.leave();
        self.deadline = deadline;
    }

    fn leave(&mut self) {
        if let Some((number, _)) = self.registered.take() {
            lock(&self.timer.queue).waits.remove(&(self.deadline, number));
        }
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if now >= self.deadline {
            self.leave();
            return Poll::Ready(());
        }
        // Mostly the same task asks again, and stands in the queue already.
        if let Some((_, waker)) = &self.registered
            && waker.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        self.leave();
        let deadline = self.deadline;
        let mut queue = lock(&self.timer.queue);
        let number = queue.next_number;
        queue.next_number += 1;
        let is_first =
            queue.waits.first_key_value().is_none_or(|(&(first, _), _)| deadline < first);
        queue.waits.insert((deadline, number), cx.waker().clone());
        if is_first {
            let armed = self.timer.arm(deadline - now);
            armed.expect("only a broken descriptor cannot be armed");
        }
        drop(queue);
        self.registered = Some((number, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    fn on_runtime<F: Future>(work: impl FnOnce(Arc<Timer>) -> F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
            async {
                let timer = Arc::new(Timer::new().unwrap());
                let driver = Arc::clone(&timer);
                let mut tasks = JoinSet::new();
                tasks.spawn(async move { driver.drive().await });
                work(timer).await
            },
        )
    }

    #[test]
    fn no_wait_ends_early_and_each_one_ends() {
        on_runtime(|timer| async move {
            let mut tasks = JoinSet::new();
            for i in 0..500u64 {
                let timer = Arc::clone(&timer);
                tasks.spawn(async move {
                    for round in 0..4 {
                        let wait = Duration::from_micros((i * 7919 + round * 31) % 3000);
                        let start = Instant::now();
                        timer.at(start + wait).await;
                        assert!(start.elapsed() >= wait);
                    }
                });
            }
            while let Some(result) = tasks.join_next().await {
                result.unwrap();
            }
            assert!(lock(&timer.queue).waits.is_empty());
        });
    }

    #[test]
    fn a_wait_given_up_leaves_nothing_and_delays_nobody() {
        on_runtime(|timer| async move {
            let hour = Instant::now() + Duration::from_secs(3600);
            let mut long = timer.at(hour);
            let mut short = timer.at(Instant::now() + Duration::from_millis(1));
            let pending = std::future::poll_fn(|cx| {
                let both = (
                    Pin::new(&mut long).poll(cx).is_pending(),
                    Pin::new(&mut short).poll(cx).is_pending(),
                );
                Poll::Ready(both)
            });
            assert!(pending.await.0);
            drop(short);
            assert_eq!(lock(&timer.queue).waits.len(), 1);
            // The timer was armed for the one that left; this one still ends.
            long.reset(Instant::now() + Duration::from_millis(2));
            assert!(lock(&timer.queue).waits.is_empty());
            long.await;
            assert!(lock(&timer.queue).waits.is_empty());
        });
    }

    #[test]
    fn work_is_bounded() {
        on_runtime(|timer| async move {
            let never = timer.within(Duration::from_millis(1), std::future::pending::<()>());
            assert_eq!(never.await, None);
            let ready = timer.within(Duration::from_secs(3600), std::future::ready(7));
            assert_eq!(ready.await, Some(7));
            assert!(lock(&timer.queue).waits.is_empty());
        });
    }

    /// A measurement, not a test:
    /// `cargo test --release -p fanout-origin -- --ignored --nocapture overshoot`
    #[test]
    #[ignore = "a measurement"]
    fn overshoot_of_waits_of_a_millisecond() {
        const ROUNDS: usize = 2000;
        let wait = Duration::from_millis(1);
        let report = |name: &str, mut overshoots: Vec<Duration>| {
            overshoots.sort();
            let at = |percent: usize| overshoots[ROUNDS * percent / 100];
            println!("{name}: overshoot p50 {:?}, p99 {:?}", at(50), at(99));
        };
        let measured = on_runtime(|timer| async move {
            let (mut ours, mut tokios) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let start = Instant::now();
                timer.at(start + wait).await;
                ours.push(start.elapsed() - wait);
                let start = Instant::now();
                tokio::time::sleep(wait).await;
                tokios.push(start.elapsed() - wait);
            }
            (ours, tokios)
        });
        report("timerfd", measured.0);
        report("tokio::time::sleep", measured.1);
    }
}
