use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const F: FetcherId = FetcherId(0);
const NOTHING: [u64; 0] = [];

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limits(max: u32, rate: f64, polite: bool) -> Limits {
    Limits {
        max_per_host: NonZeroU32::new(max),
        rate_per_host: (rate > 0.0).then_some(rate),
        polite,
    }
}

/// URLs 0, 1, 2 … of these hosts.
fn with(limits: Limits, hosts: &[&str]) -> Politeness {
    let mut politeness = Politeness::new(limits, 7);
    for (id, host) in (0..).zip(hosts) {
        let name = HostName::of(format!("http://{host}/{id}").as_bytes());
        politeness.add(Duration::ZERO, UrlId(id), name);
    }
    politeness
}

fn leased(politeness: &mut Politeness, now: Duration) -> Vec<u64> {
    std::iter::from_fn(|| politeness.next(now, F).map(|id| id.0)).collect()
}

#[test]
fn a_host_is_a_name_and_a_port_of_its_own() {
    let same = |a: &str, b: &str| HostName::of(a.as_bytes()) == HostName::of(b.as_bytes());
    assert!(same("http://a/1", "https://A:443/2?x"));
    assert!(same("http://a.:80/", "http://u:p@a/"));
    assert!(same("http://[::1]/", "http://[0:0::1]:80/"));
    assert!(!same("http://a/", "http://a:8080/"));
    assert!(!same("http://a/", "http://b/"));
    assert!(!same("http://127.0.0.1/", "http://127.0.0.2/"));
    assert!(!same("http://www.a/", "http://a/"));
    // Nobody can be reached at either.
    let long = format!("http://{}/", "a.".repeat(4000));
    assert!(same(&long, "http://"));
}

#[test]
fn no_more_than_the_limit_are_out_and_a_busy_host_blocks_nobody() {
    let mut p = with(limits(2, 0.0, false), &["a", "a", "a", "b", "a", "c"]);
    assert_eq!(leased(&mut p, ms(0)), [0, 3, 5, 1], "hosts take turns");
    assert_eq!(p.waiting(), HostsWaiting { hosts: 1, next_at: None });
    p.done(ms(5), UrlId(1), HostAnswer::Response);
    assert_eq!(leased(&mut p, ms(5)), [2], "first come, first served");
    p.done(ms(6), UrlId(0), HostAnswer::Nothing);
    p.done(ms(6), UrlId(2), HostAnswer::Response);
    assert_eq!(leased(&mut p, ms(6)), [4]);
}

#[test]
fn leases_of_a_host_keep_their_distance_and_catch_up_a_little() {
    let mut p = with(limits(0, 10.0, false), &["a"; 6]);
    assert_eq!(leased(&mut p, ms(50)), [0]);
    assert_eq!(leased(&mut p, ms(150)), NOTHING, "a moment too early");
    let at = p.wake_at().unwrap();
    assert!(at > ms(150) && at < ms(151), "{at:?}");
    assert_eq!(leased(&mut p, at), [1]);
    // Late by less than can be caught up: the next one is on time again.
    assert_eq!(leased(&mut p, ms(258)), [2]);
    assert_eq!(leased(&mut p, ms(351)), [3]);
    // Late by more: what is lost is lost.
    assert_eq!(leased(&mut p, ms(700)), [4]);
    assert_eq!(leased(&mut p, ms(789)), NOTHING);
    assert_eq!(leased(&mut p, ms(791)), [5]);
}

#[test]
fn a_busy_host_is_left_alone_as_long_as_it_asks_then_probed() {
    let mut p = with(limits(3, 0.0, true), &["a", "a", "a", "a", "b"]);
    assert_eq!(leased(&mut p, ms(0)), [0, 4, 1, 2]);
    let busy = HostAnswer::of(Some(503), Some(secs(5)));
    assert!(p.asks_again(UrlId(0), busy));
    p.postpone(secs(1), UrlId(0), busy);
    // A second answer to the same bad moment counts only if it asks for more.
    p.postpone(secs(2), UrlId(1), HostAnswer::of(Some(429), Some(secs(3))));
    p.done(secs(2), UrlId(2), HostAnswer::Busy(None));
    assert_eq!(p.wake_at(), Some(secs(6)));
    assert_eq!(leased(&mut p, ms(5_999)), NOTHING);
    assert_eq!(leased(&mut p, secs(6)), [3], "one at a time");
    assert_eq!(p.wake_at(), None);
    p.done(secs(7), UrlId(3), HostAnswer::Nothing);
    assert_eq!(leased(&mut p, secs(7)), [0], "no answer proves nothing");
    assert_eq!(p.asked_again(UrlId(0)), 1);
    p.done(secs(8), UrlId(0), HostAnswer::Response);
    assert_eq!(leased(&mut p, secs(8)), [1]);
}

#[test]
fn pauses_double_and_a_url_is_asked_for_so_often_and_no_more() {
    let mut p = with(limits(1, 0.0, true), &["a"]);
    let mut now = ms(0);
    for pause in [1, 2, 4] {
        assert_eq!(leased(&mut p, now), [0]);
        let busy = HostAnswer::Busy(None);
        assert!(p.asks_again(UrlId(0), busy));
        p.postpone(now, UrlId(0), busy);
        let until = p.wake_at().unwrap();
        let length = until - now;
        assert!(length >= secs(pause) && length <= secs(pause) * 5 / 4, "{length:?}");
        now = until;
    }
    assert_eq!(leased(&mut p, now), [0]);
    assert!(!p.asks_again(UrlId(0), HostAnswer::Busy(None)));
    assert!(!p.asks_again(UrlId(0), HostAnswer::Response));
    p.done(now, UrlId(0), HostAnswer::Busy(None));
    assert_eq!(p.hosts.len(), 1, "its pause goes on");
    p.advance(now + secs(1_000));
    assert_eq!((p.hosts.len(), p.by_name.len()), (0, 0));
}

#[test]
fn a_host_that_is_always_busy_tires_everybody() {
    let mut p = with(limits(1, 0.0, true), &["a"; 40]);
    let mut now = ms(0);
    let mut asked = 0;
    while let Some(id) = p.next(now, F) {
        asked += 1;
        let busy = HostAnswer::Busy(Some(Duration::ZERO));
        if p.asks_again(id, busy) {
            p.postpone(now, id, busy);
        } else {
            p.done(now, id, busy);
        }
        now = p.wake_at().unwrap_or(now);
    }
    assert_eq!(asked, 40 + u64::from(PATIENCE_PAUSES));
    assert!(now >= secs(asked - 1), "a second's pause at the least");
}

#[test]
fn what_a_host_asks_for_has_an_end() {
    let mut p = with(limits(1, 0.0, true), &["a"]);
    leased(&mut p, ms(0));
    p.postpone(ms(0), UrlId(0), HostAnswer::Busy(Some(secs(u64::from(u32::MAX)))));
    assert_eq!(p.wake_at(), Some(PAUSE_MAX));
}

#[test]
fn only_who_is_polite_heeds_busy_hosts() {
    let mut p = with(limits(1, 0.0, false), &["a", "a"]);
    leased(&mut p, ms(0));
    assert!(!p.asks_again(UrlId(0), HostAnswer::Busy(Some(secs(9)))));
    p.done(ms(0), UrlId(0), HostAnswer::Busy(Some(secs(9))));
    assert_eq!(leased(&mut p, ms(0)), [1]);
}

#[test]
fn requests_of_a_lost_fetcher_count_as_long_as_they_may_last() {
    let mut p = with(limits(1, 0.0, false), &["a", "a"]);
    assert_eq!(leased(&mut p, ms(0)), [0]);
    p.lose(ms(10), F, secs(30));
    // It is the suspect of another story; the next one waits for its host.
    assert_eq!(leased(&mut p, secs(29)), NOTHING);
    assert!(!p.lease_this(secs(29), UrlId(0), F));
    assert_eq!(p.wake_at(), Some(secs(30)));
    assert_eq!(leased(&mut p, secs(30)), [1]);
    p.lose(secs(31), F, secs(31));
    assert!(p.lease_this(secs(31), UrlId(0), F), "reaped: surely over");
    assert_eq!(p.welcome(secs(31), vec![UrlId(1), UrlId(9)]), [UrlId(9)]);
    assert_eq!(leased(&mut p, secs(31)), NOTHING);
    p.done(secs(32), UrlId(0), HostAnswer::Response);
    assert_eq!(leased(&mut p, secs(32)), [1]);
}

#[test]
fn hosts_are_forgotten_when_nothing_is_kept_of_them() {
    let hosts: Vec<_> = (0..1000).map(|i| format!("h{i}")).collect();
    let names: Vec<_> = hosts.iter().map(String::as_str).collect();
    let mut p = with(limits(1, 1.0, true), &names);
    assert_eq!(leased(&mut p, ms(0)).len(), 1000);
    for id in 0..1000 {
        p.done(ms(500), UrlId(id), HostAnswer::Response);
    }
    assert_eq!(p.hosts.len(), 1000, "their next moment is still to come");
    p.advance(ms(1_001));
    assert!(p.hosts.is_empty() && p.by_name.is_empty() && p.fading.is_empty());
    assert!(p.urls.is_empty() && p.asleep.is_empty() && p.ready.is_empty());
}

#[test]
fn the_window_has_an_end() {
    let mut p = Politeness::new(limits(1, 0.0, false), 0);
    let name = HostName::of(b"http://a/");
    for id in 0..=(WINDOW_URLS - LOOK_AHEAD_URLS) as u64 {
        assert!(p.has_room());
        p.add(ms(0), UrlId(id), name.clone());
    }
    assert!(!p.has_room());
    let mut p = Politeness::new(limits(1, 0.0, false), 0);
    for id in 0..=(HOSTS_MAX - LOOK_AHEAD_URLS) as u64 {
        assert!(p.has_room());
        p.add(ms(0), UrlId(id), HostName::of(format!("http://h{id}/").as_bytes()));
        p.next(ms(0), F);
    }
    assert!(!p.has_room());
}

/// What a server does with its n-th request.
#[derive(Debug, Clone, Copy)]
struct Served {
    takes: Duration,
    answer: HostAnswer,
}

fn served() -> impl Strategy<Value = Served> {
    let answer = prop_oneof![
        6 => Just(HostAnswer::Response),
        1 => Just(HostAnswer::Nothing),
        2 => prop::option::of(0_u64..20).prop_map(|s| HostAnswer::Busy(s.map(secs))),
    ];
    (1_u64..3_000, answer).prop_map(|(takes, answer)| Served { takes: ms(takes), answer })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// A world in virtual time: fetchers with a few slots each, servers that
    /// answer as they please, fetchers that are lost.
    #[test]
    fn the_limits_hold_at_any_moment_and_everything_ends(
        hosts in prop::collection::vec(0_usize..6, 1..60),
        max in 0_u32..5,
        rate in prop_oneof![Just(0.0), 0.2..50.0],
        polite in any::<bool>(),
        slots in 1_usize..12,
        script in prop::collection::vec(served(), 1..40),
        losses in prop::collection::btree_set(0_usize..60, 0..4),
        seed in any::<u64>(),
    ) {
        let limits = limits(max, rate, polite);
        let mut p = Politeness::new(limits, seed);
        for (id, host) in (0..).zip(&hosts) {
            p.add(ms(0), UrlId(id), HostName::of(format!("http://h{host}/").as_bytes()));
        }
        let host_of = |id: UrlId| hosts[usize::try_from(id.0).unwrap()];
        let mut now = ms(0);
        // (end, url, what became of it); None: its fetcher is lost then.
        let mut under_way: Vec<(Duration, UrlId, Option<HostAnswer>)> = Vec::new();
        let mut ghosts: Vec<(Duration, usize)> = Vec::new();
        let mut leases: Vec<Vec<Duration>> = vec![Vec::new(); 6];
        let mut paused: [Duration; 6] = [ms(0); 6];
        let mut done = BTreeSet::new();
        let mut asked = 0_usize;
        let linger = secs(4);
        for _ in 0..100_000 {
            while under_way.len() < slots && let Some(id) = p.next(now, FetcherId(u32::try_from(asked).unwrap())) {
                let host = host_of(id);
                prop_assert!(!done.contains(&id));
                prop_assert!(under_way.iter().all(|(_, other, _)| *other != id));
                prop_assert!(now >= paused[host], "leased within a pause");
                let what = script[asked % script.len()];
                let lost = losses.contains(&asked);
                under_way.push((now + what.takes, id, (!lost).then_some(what.answer)));
                leases[host].push(now);
                asked += 1;
                let out = under_way.iter().filter(|(_, id, _)| host_of(*id) == host).count()
                    + ghosts.iter().filter(|(until, of)| *of == host && *until > now).count();
                prop_assert!(max == 0 || out <= usize::try_from(max).unwrap(), "{} out", out);
            }
            if done.len() == hosts.len() { break; }
            // On to whatever comes first.
            let end = under_way.iter().map(|(end, ..)| *end).min();
            let free = under_way.len() < slots;
            let next = end.into_iter().chain(p.wake_at().filter(|_| free)).min();
            prop_assert!(next.is_some(), "nothing will ever happen: {:?}", p);
            now = now.max(next.unwrap());
            under_way.sort_by_key(|(end, ..)| *end);
            while under_way.first().is_some_and(|(end, ..)| *end <= now) {
                let (_, id, answer) = under_way.remove(0);
                let host = host_of(id);
                match answer {
                    Some(answer) => {
                        if polite && let HostAnswer::Busy(after) = answer {
                            let least = after.map_or(secs(1), |after| after.clamp(PAUSE_MIN, PAUSE_MAX));
                            // What a pause without a length adds to one that goes on is nothing.
                            if after.is_some() || p.hosts[&p.urls[&id].host].paused_until <= now {
                                paused[host] = paused[host].max(now + least);
                            }
                        }
                        if p.asks_again(id, answer) {
                            p.postpone(now, id, answer);
                        } else {
                            p.done(now, id, answer);
                            done.insert(id);
                        }
                    }
                    None => {
                        let holder = p.urls[&id].holder.unwrap();
                        p.lose(now, holder, now + linger);
                        ghosts.push((now + linger, host));
                        prop_assert_eq!(p.welcome(now, vec![id]), vec![]);
                    }
                }
            }
        }
        prop_assert_eq!(done.len(), hosts.len(), "it does not end");
        if rate > 0.0 {
            for times in &leases {
                for (i, first) in times.iter().enumerate() {
                    for (n, last) in times[i..].iter().enumerate() {
                        let window = (*last - *first + CATCH_UP).as_secs_f64();
                        prop_assert!(f64::from(u32::try_from(n).unwrap()) <= rate * window + 1e-6);
                        if i == 0 {
                            let least = f64::from(u32::try_from(n).unwrap()) / rate;
                            prop_assert!((*last - *first).as_secs_f64() >= least - 1e-6);
                        }
                    }
                }
            }
        }
        p.advance(now + PAUSE_MAX + secs(3_600));
        prop_assert!(p.hosts.is_empty() && p.urls.is_empty() && p.lingering.is_empty());
    }
}
