//! Seeded fault schedules: the coordinator's trial and the workers' trials, as
//! they are, in a made-up world that loses, delays, doubles and reorders what
//! it may, and ends, stops and breaks whatever there is. A judge with an account
//! of its own looks at every step.
//!
//! ```text
//! cargo test -p fanout-coordinator --test schedules
//! FANOUT_SCHEDULES=1000000 cargo test --release -p fanout-coordinator --test schedules
//! FANOUT_SEED=17 cargo test -p fanout-coordinator --test schedules    # that one only
//! ```

mod judge;
mod schedule;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use schedule::Schedule;
use world::{Tally, World};

/// Schedules where nothing else is asked for.
const SCHEDULES: u64 = 10_000;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number, please")))
}

fn run(seed: u64) -> Tally {
    catch_unwind(AssertUnwindSafe(|| World::run(Schedule::from_seed(seed)))).unwrap_or_else(
        |panic| {
            eprintln!("FANOUT_SEED={seed} repeats this schedule: {:#?}", Schedule::from_seed(seed));
            resume_unwind(panic)
        },
    )
}

/// The first failure is the one to look at: the others stop.
struct StopOthers<'a>(&'a AtomicU64);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX / 2, Ordering::Relaxed);
    }
}

#[test]
fn every_url_ends_exactly_once_under_any_schedule() {
    if let Some(seed) = from_environment("FANOUT_SEED") {
        eprintln!("{:#?}", run(seed));
        return;
    }
    let count = from_environment("FANOUT_SCHEDULES").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let work = || {
            let mut own = Tally::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= count {
                    return own;
                }
                let guard = StopOthers(&next);
                own.add(&run(seed));
                std::mem::forget(guard);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(own) => tally.add(&own),
                Err(panic) => resume_unwind(panic),
            }
        }
    });
    eprintln!("{count} schedules: {tally:#?}");
    // Schedules that break nothing would prove nothing.
    if count >= SCHEDULES {
        let reached = [
            tally.done,
            tally.cancelled,
            tally.all_lost,
            tally.setup,
            tally.lost,
            tally.requeued,
            tally.ignored,
            tally.abandoned,
        ];
        assert!(reached.iter().all(|times| *times > 0), "{tally:#?}");
        assert!(tally.done > count / 2, "{tally:#?}");
    }
}
