//! Slots that wait for URLs: fetchers with slots, pipes with a delay, and the pure trial between.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

use fanout_proto::{
    id::{FetcherId, UrlId, WorkerId},
    limits::FLUSH_AFTER,
};
use proptest::prelude::*;

use super::{
    tests::{batch, ms},
    *,
};

/// What happens at a moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    /// A slot's URL ends.
    Ends(FetcherId, UrlId),
    /// Completions that nobody waited for leave.
    Flush(FetcherId),
    /// Completions reach the coordinator.
    Told(FetcherId, Vec<UrlId>),
    /// Leases reach the fetcher.
    Leased(FetcherId, Vec<UrlId>),
}

#[derive(Default)]
struct Slots {
    /// Since when slots are without a URL.
    idle: VecDeque<Duration>,
    queue: VecDeque<UrlId>,
    done: Vec<UrlId>,
}

/// What a trial came to.
struct Took {
    makespan: Duration,
    /// The longest that a slot waited for a URL that came.
    starved: Duration,
    messages: usize,
}

/// Runs a list with `one_way` from fetcher to coordinator and as long back. Every URL takes
/// `duration` and up to `more`, so that completions leave in several batches.
fn run(plan: TrialPlan, duration: Duration, more: Duration, one_way: Duration) -> Took {
    let fetchers: Vec<_> = plan.placement.iter().zip(0..).map(|(_, id)| FetcherId(id)).collect();
    let slots = plan.concurrency as usize;
    let (mut trial, _) = Trial::new(plan);
    let mut world: BTreeMap<FetcherId, Slots> = BTreeMap::new();
    for id in &fetchers {
        let idle = std::iter::repeat_n(Duration::ZERO, slots).collect();
        world.insert(*id, Slots { idle, ..Slots::default() });
    }
    let mut events: BinaryHeap<Reverse<(Duration, u64, Happens)>> = BinaryHeap::new();
    let mut order = 0;
    let mut at = |events: &mut BinaryHeap<_>, moment: Duration, happens: Happens| {
        order += 1;
        events.push(Reverse((moment, order, happens)));
    };
    let mut took = Took { makespan: Duration::ZERO, starved: Duration::ZERO, messages: 0 };
    for id in &fetchers {
        for command in trial.on(Duration::ZERO, Event::Ready(*id)) {
            if let Command::Lease(_, to, ids) = command {
                at(&mut events, Duration::ZERO, Happens::Leased(to, ids));
            }
        }
    }
    while let Some(Reverse((now, _, happens))) = events.pop() {
        let id = match happens {
            Happens::Told(id, done) => {
                for command in trial.on(now, Event::Completions(id, batch(&done))) {
                    match command {
                        Command::Lease(_, to, ids) => {
                            took.messages += 1;
                            at(&mut events, now + one_way, Happens::Leased(to, ids));
                        }
                        Command::Finish(_) => return took,
                        _ => {}
                    }
                }
                continue;
            }
            Happens::Leased(id, ids) => {
                world.get_mut(&id).unwrap().queue.extend(ids);
                id
            }
            Happens::Ends(id, url) => {
                took.makespan = now;
                let slots = world.get_mut(&id).unwrap();
                if slots.done.is_empty() {
                    at(&mut events, now + FLUSH_AFTER, Happens::Flush(id));
                }
                slots.done.push(url);
                slots.idle.push_back(now);
                id
            }
            Happens::Flush(id) => {
                let slots = world.get_mut(&id).unwrap();
                if !slots.done.is_empty() {
                    let done = std::mem::take(&mut slots.done);
                    at(&mut events, now + one_way, Happens::Told(id, done));
                }
                continue;
            }
        };
        let slots = world.get_mut(&id).unwrap();
        while let (Some(since), Some(url)) = (slots.idle.front(), slots.queue.front()) {
            took.starved = took.starved.max(now - *since);
            // Evenly spread, and without any order.
            let extra = more.mul_f64((url.0 as f64 * 0.618_034).fract());
            at(&mut events, now + duration + extra, Happens::Ends(id, *url));
            slots.idle.pop_front();
            slots.queue.pop_front();
        }
        if !slots.idle.is_empty() && !slots.done.is_empty() {
            // A slot waits: what there is leaves at once.
            let done = std::mem::take(&mut slots.done);
            at(&mut events, now + one_way, Happens::Told(id, done));
        }
    }
    panic!("the list never ended: {trial:?}");
}

fn plan(urls: u64, fetchers: usize, concurrency: u32) -> TrialPlan {
    TrialPlan {
        urls,
        split: Split::Dynamic,
        concurrency,
        credit_max: u32::MAX,
        timeout: Duration::from_secs(600),
        placement: vec![WorkerId(1); fetchers],
    }
}

#[test]
fn waves_of_equal_urls_take_as_many_waves_as_there_are() {
    for (duration, one_way) in [(ms(300), ms(1)), (ms(1_000), ms(1)), (ms(300), ms(40))] {
        for more in [0, 5, 30, 60].map(ms) {
            let took = run(plan(1_800, 1, 600), duration, more, one_way);
            let bound = 3 * (duration + more) + 4 * one_way;
            assert!(took.makespan <= bound, "{:?} of {bound:?}", took.makespan);
            assert!(took.starved <= 2 * one_way, "{:?}", took.starved);
        }
    }
}

#[test]
fn a_single_fast_fetcher_does_not_ask_for_the_last_urls_one_by_one() {
    let duration = Duration::from_micros(100);
    let took = run(plan(3_000, 1, 1), duration, Duration::ZERO, ms(1));
    assert!(took.makespan <= 3_000 * duration + ms(10), "{:?}", took.makespan);
}

#[test]
fn a_message_carries_many_urls_while_there_is_credit_to_spare() {
    // 32 slots at 8 ms are 4,000 URLs a second.
    let took = run(plan(100_000, 1, 32), ms(8), ms(1), ms(1));
    assert!(took.messages < 100_000 / 150, "{}", took.messages);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_slot_waits_for_longer_than_a_round_trip(
        concurrency in 1_u32..=600,
        fetchers in 1_usize..=12,
        waves in 1_u64..8,
        part in 0_u64..600,
        duration_us in prop_oneof![100_u64..5_000, 5_000_u64..2_000_000],
        more in 0.0..0.2,
        one_way_us in 0_u64..30_000,
    ) {
        let slots = u64::from(concurrency) * fetchers as u64;
        let urls = (waves * slots + part).min(6_000);
        let one_way = Duration::from_micros(one_way_us);
        let duration = Duration::from_micros(duration_us);
        let more = duration.mul_f64(more);
        let took = run(plan(urls, fetchers, concurrency), duration, more, one_way);
        prop_assert!(took.starved <= 2 * one_way, "{:?}", took.starved);
        // The last to be served may hold twice its concurrency, which is a wave more.
        let waves = urls.div_ceil(slots);
        let bound = u32::try_from(waves + u64::from(fetchers > 1)).unwrap();
        let bound = (duration + more + 2 * one_way) * bound;
        prop_assert!(took.makespan <= bound, "{:?} for {waves} waves", took.makespan);
    }
}
