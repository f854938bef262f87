//! Who was refused, and when to say so: once, and then at most now and then
//! with a count, so that no peer can fill the log.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use fanout_program::lock;
use tokio::time::Instant;
use tracing::warn;

/// The same peer and reason are told again after this long.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Peers and reasons told apart; past that only reasons are.
const ENTRIES_MAX: usize = 256;

/// Who, as far as it is told apart; `None` is all others.
type RefusedPeer = Option<IpAddr>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusalNote {
    pub(crate) from: RefusedPeer,
    pub(crate) reason: &'static str,
    /// Refusals since it was told last, the present one included.
    pub(crate) count: u64,
}

#[derive(Debug)]
struct RefusalCount {
    told: Duration,
    untold: u64,
}

/// Decides what is told, and when. Pure: moments are durations since its begin.
#[derive(Debug, Default)]
pub(crate) struct Refusals(HashMap<(RefusedPeer, &'static str), RefusalCount>);

impl Refusals {
    /// A peer was refused at `now`; says what to tell, if anything.
    pub(crate) fn note(
        &mut self,
        now: Duration,
        from: IpAddr,
        reason: &'static str,
    ) -> Option<RefusalNote> {
        let mut key = (Some(of_network(from)), reason);
        if self.0.len() >= ENTRIES_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, entry| {
                entry.untold > 0 || now.saturating_sub(entry.told) < AGAIN_AFTER
            });
            if self.0.len() >= ENTRIES_MAX {
                key.0 = None;
            }
        }
        let Some(entry) = self.0.get_mut(&key) else {
            let entry = RefusalCount { told: now, untold: 0 };
            self.0.insert(key, entry);
            return Some(tell(key, 1));
        };
        entry.untold += 1;
        if now.saturating_sub(entry.told) < AGAIN_AFTER {
            return None;
        }
        entry.told = now;
        Some(tell(key, std::mem::take(&mut entry.untold)))
    }

    /// What was not told and is due by `now`.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<RefusalNote> {
        let mut due = Vec::new();
        self.0.retain(|key, entry| {
            if now.saturating_sub(entry.told) < AGAIN_AFTER {
                return true;
            }
            let untold = std::mem::take(&mut entry.untold);
            if untold > 0 {
                due.push(tell(*key, untold));
            }
            entry.told = now;
            untold > 0
        });
        due
    }
}

fn tell((from, reason): (RefusedPeer, &'static str), count: u64) -> RefusalNote {
    RefusalNote { from, reason, count }
}

/// A peer with one IPv6 address has the rest of its /64 as well.
fn of_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        v4 => v4,
    }
}

/// The log of refusals; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct RefusalLog {
    refusals: Arc<Mutex<Refusals>>,
    began: Instant,
}

impl Default for RefusalLog {
    fn default() -> Self {
        Self { refusals: Arc::default(), began: Instant::now() }
    }
}

impl RefusalLog {
    /// A peer was refused. `detail` is harmless text for people.
    pub(crate) fn note(&self, from: IpAddr, reason: &'static str, detail: &str) {
        let told = lock(&self.refusals).note(self.began.elapsed(), from, reason);
        if let Some(told) = told {
            say(&told, detail);
        }
    }

    pub(crate) fn tell_due(&self) {
        let due = lock(&self.refusals).due(self.began.elapsed());
        for told in due {
            say(&told, "");
        }
    }
}

fn say(told: &RefusalNote, detail: &str) {
    let from = told.from.map_or_else(|| "many addresses".to_owned(), |from| from.to_string());
    warn!(from, count = told.count, detail, "refused: {}", told.reason);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + last).into()
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_same_is_told_once_and_then_with_a_count() {
        let mut refusals = Refusals::default();
        let count = |told: Option<RefusalNote>| told.map(|told| told.count);
        assert_eq!(count(refusals.note(s(0), ip(1), "a")), Some(1));
        for second in 1..60 {
            assert_eq!(refusals.note(s(second), ip(1), "a"), None);
        }
        assert_eq!(count(refusals.note(s(1), ip(1), "b")), Some(1));
        assert_eq!(count(refusals.note(s(1), ip(2), "a")), Some(1));
        assert_eq!(count(refusals.note(s(60), ip(1), "a")), Some(60));
        assert_eq!(count(refusals.note(s(61), ip(1), "a")), None);
    }

    #[test]
    fn what_was_not_told_is_told_when_it_is_due_and_then_forgotten() {
        let mut refusals = Refusals::default();
        refusals.note(s(0), ip(1), "a");
        refusals.note(s(1), ip(1), "a");
        refusals.note(s(2), ip(1), "a");
        assert_eq!(refusals.due(s(59)), []);
        let told = refusals.due(s(60));
        assert_eq!((told[0].count, told[0].from), (2, Some(ip(1))));
        assert_eq!(refusals.due(s(120)), []);
        assert!(refusals.0.is_empty());
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let mut refusals = Refusals::default();
        let address = |text: &str| text.parse().unwrap();
        assert!(refusals.note(s(0), address("2001:db8::1"), "a").is_some());
        assert!(refusals.note(s(0), address("2001:db8::ffff:2"), "a").is_none());
        assert!(refusals.note(s(0), address("2001:db8:0:1::1"), "a").is_some());
        assert!(refusals.note(s(0), address("10.0.0.1"), "a").is_some());
        assert!(refusals.note(s(0), address("::ffff:10.0.0.1"), "a").is_none());
    }

    proptest! {
        #[test]
        fn the_table_and_the_log_are_bounded_and_nothing_is_lost(
            events in prop::collection::vec((0_u64..4, 0_u32..2_000, prop::sample::select(vec!["a", "b", "c"])), 0..3_000),
        ) {
            let mut refusals = Refusals::default();
            let (mut now, mut told, mut counted) = (0, 0, 0);
            for (pause, from, reason) in &events {
                // A pause now and then.
                now += u64::from(*pause == 0) * 7;
                if let Some(one) = refusals.note(s(now), ip(*from), reason) {
                    told += 1;
                    counted += one.count;
                }
                prop_assert!(refusals.0.len() <= ENTRIES_MAX + 3);
            }
            let intervals = now / AGAIN_AFTER.as_secs() + 1;
            prop_assert!(told <= intervals * (ENTRIES_MAX as u64 + 3));
            for one in refusals.due(s(now + 60)) {
                counted += one.count;
            }
            prop_assert_eq!(counted, events.len() as u64);
        }
    }
}
