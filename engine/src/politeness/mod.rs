//! Limits per host, over all workers together: which URL may be leased when.
//!
//! Pure: moments are handed in. A leased URL counts as a request that may be
//! under way, so what is promised of leases holds for requests:
//!
//! - at no moment are more than `max_per_host` URLs of a host out;
//! - in any T seconds at most `rate_per_host` × (T + [`CATCH_UP`]) + 1 URLs of
//!   a host are leased, and the n-th of all no sooner than (n − 1) ÷
//!   `rate_per_host` after the first;
//! - while a host is paused none of its URLs is leased, and after a pause one
//!   at a time until it answers anything but 429 and 503.
//!
//! ```text
//!            ┌──────────── out < limit, its moment has come ───────────┐
//!            │                                                         ▼
//!  Resting ──┼── its moment is still to come ──► Asleep ──it comes──► Ready ──next──► (again)
//!     ▲      └── as many out as may be ── answered ──┘                  (hosts take turns)
//!     └─ no URL waits; forgotten when none is out and its moment has passed
//! ```
//!
//! URLs wait as ids in a queue per host, at most [`WINDOW_URLS`] in all: the
//! caller looks ahead in the list for hosts that may be asked while others may
//! not, and waits when the window is full.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque, hash_map::Entry},
    hash::BuildHasher,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use fanout_proto::id::{FetcherId, UrlId};
use rustc_hash::{FxBuildHasher, FxHashMap};

/// Requests at a time that one host gets by default, where there is a default:
/// what browsers allow themselves (Chromium's `kDefaultMaxSocketsPerGroup`,
/// Firefox's `network.http.max-persistent-connections-per-server`).
pub const MODEST_MAX_PER_HOST: NonZeroU32 = NonZeroU32::new(6).expect("6 is not 0");
pub(crate) const WINDOW_URLS: usize = 65_536;
pub(crate) const LOOK_AHEAD_URLS: usize = 512;
/// Hosts remembered at most; past that no new ones are looked for until one may be forgotten.
pub(crate) const HOSTS_MAX: usize = 65_536;
/// A lease that came late lets the next ones catch up by as much as this.
pub(crate) const CATCH_UP: Duration = Duration::from_millis(10);
/// A URL answered with 429 or 503 is asked for again so many times.
pub(crate) const ASKED_AGAIN_MAX: u8 = 3;
/// After so many pauses in a row a host's URLs are not asked for again.
const PATIENCE_PAUSES: u32 = 10;
/// The first pause of a host that does not say how long; the shortest of all.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause of a host that does not say how long.
const OWN_PAUSE_MAX: Duration = Duration::from_secs(64);
/// The longest pause that a host can ask for.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Longest name that the DNS can hold (RFC 1035, section 2.3.4), with a port.
const NAME_MAX_BYTES: usize = 255 + 6;

/// What a host is to be spared; by default nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// URLs of one host out at a time.
    pub max_per_host: Option<NonZeroU32>,
    /// URLs of one host leased per second; positive.
    pub rate_per_host: Option<f64>,
    /// Heed 429, 503 and `Retry-After`.
    pub polite: bool,
}

impl Limits {
    /// Whether there is any limit.
    pub fn any(&self) -> bool {
        self.max_per_host.is_some() || self.rate_per_host.is_some() || self.polite
    }
}

/// A host as people count them: name and port, the port left out where it is the scheme's own. So
/// `http://a/` and `https://a/` are one host, and `http://a:8080/` is another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HostName(Arc<str>);

impl HostName {
    /// The host of a URL of a checked list.
    pub fn of(url: &[u8]) -> Self {
        let url = std::str::from_utf8(url).ok().and_then(|text| url::Url::parse(text).ok());
        let Some(url) = url else {
            // No host can be asked there.
            return Self("".into());
        };
        let name = url.host_str().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name);
        let text = match url.port() {
            None => name.to_owned(),
            Some(port) => format!("{name}:{port}"),
        };
        // A name that the DNS cannot hold leads nowhere.
        Self(if text.len() > NAME_MAX_BYTES { "".into() } else { text.into() })
    }
}

/// What became of a request, as far as its host's patience goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostAnswer {
    /// 429 or 503, perhaps with how long to wait.
    Busy(Option<Duration>),
    /// Another status.
    Response,
    /// None.
    Nothing,
}

impl HostAnswer {
    /// The answer in a status, if there was one.
    pub(crate) fn of(status: Option<u16>, retry_after: Option<Duration>) -> Self {
        match status {
            // RFC 6585, section 4; RFC 9110, section 15.6.4.
            Some(429 | 503) => Self::Busy(retry_after),
            Some(_) => Self::Response,
            None => Self::Nothing,
        }
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostsWaiting {
    /// Hosts of which URLs wait.
    pub hosts: usize,
    /// When the first of them may be asked, if time alone leads there.
    pub next_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct HostId(u64);

#[derive(Debug, Clone, Copy)]
struct KnownUrl {
    host: HostId,
    asked_again: u8,
    holder: Option<FetcherId>,
}

/// Where a host stands; see the picture above.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Resting,
    /// To be forgotten then.
    Fading(Duration),
    Asleep(Duration),
    /// With its number in the line.
    Ready(u64),
}

#[derive(Debug, Default)]
struct HostState {
    name: HostName,
    queue: VecDeque<UrlId>,
    /// Of which something is kept.
    urls: usize,
    /// Leased, or perhaps still under way after a loss.
    out: u32,
    /// By the rate; `None` before the first lease.
    next_at: Option<Duration>,
    paused_until: Duration,
    /// In a row.
    pauses: u32,
    standing: Standing,
}

impl HostState {
    fn moment(&self) -> Duration {
        self.next_at.unwrap_or_default().max(self.paused_until)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Politeness {
    limits: Limits,
    /// Between two leases of a host; zero without a rate.
    spacing: Duration,
    /// Of the pauses' jitter.
    seed: u64,
    hosts: FxHashMap<HostId, HostState>,
    by_name: HashMap<HostName, HostId>,
    next_host: u64,
    urls: FxHashMap<UrlId, KnownUrl>,
    ready: BTreeMap<u64, HostId>,
    next_turn: u64,
    asleep: BTreeSet<(Duration, HostId)>,
    fading: BTreeSet<(Duration, HostId)>,
    /// Requests of lost fetchers that may still be under way until then.
    lingering: BinaryHeap<Reverse<(Duration, HostId)>>,
    /// URLs in the hosts' queues.
    waiting: usize,
    /// Hosts whose queue holds some.
    waited_for: usize,
}

impl Politeness {
    /// Knows no host yet; `seed` keeps the pauses of two coordinators apart.
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            spacing: limits.rate_per_host.map_or(Duration::ZERO, spacing),
            seed,
            ..Self::default()
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.waiting + LOOK_AHEAD_URLS <= WINDOW_URLS
            && self.hosts.len() + LOOK_AHEAD_URLS <= HOSTS_MAX
    }

    /// URLs to be leased; those whose host is not known are handed back.
    pub(crate) fn welcome(&mut self, now: Duration, ids: Vec<UrlId>) -> Vec<UrlId> {
        let mut unknown = ids;
        unknown.retain(|id| match self.urls.get(id).map(|known| known.host) {
            Some(host) => {
                self.queue(now, host, *id);
                false
            }
            None => true,
        });
        unknown
    }

    pub(crate) fn add(&mut self, now: Duration, id: UrlId, name: HostName) {
        let host = match self.by_name.entry(name) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let id = HostId(self.next_host);
                self.next_host += 1;
                let host = HostState { name: new.key().clone(), ..HostState::default() };
                self.hosts.insert(id, host);
                *new.insert(id)
            }
        };
        let known = KnownUrl { host, asked_again: 0, holder: None };
        if self.urls.insert(id, known).is_none()
            && let Some(host) = self.hosts.get_mut(&host)
        {
            host.urls += 1;
        }
        self.queue(now, host, id);
    }

    /// The next URL that may be leased now, which then is, to this fetcher. Hosts take turns.
    pub(crate) fn next(&mut self, now: Duration, fetcher: FetcherId) -> Option<UrlId> {
        self.advance(now);
        let (_, host) = self.ready.first_key_value()?;
        let host = *host;
        let of = self.hosts.get_mut(&host)?;
        let id = of.queue.pop_front()?;
        self.waiting -= 1;
        if of.queue.is_empty() {
            self.waited_for -= 1;
        }
        self.lease(now, host, id, fetcher);
        Some(id)
    }

    /// Leases a URL that waits in no queue, if its host may be asked now.
    pub(crate) fn lease_this(&mut self, now: Duration, id: UrlId, fetcher: FetcherId) -> bool {
        self.advance(now);
        let Some(known) = self.urls.get(&id) else {
            return true;
        };
        let host = known.host;
        let may =
            self.hosts.get(&host).is_none_or(|of| of.out < self.cap(of) && of.moment() <= now);
        if may {
            self.lease(now, host, id, fetcher);
        }
        may
    }

    /// Whether a URL with this answer is to be asked for again.
    pub(crate) fn asks_again(&self, id: UrlId, answer: HostAnswer) -> bool {
        let patient = |known: &KnownUrl| {
            let pauses = self.hosts.get(&known.host).map_or(0, |host| host.pauses);
            known.asked_again < ASKED_AGAIN_MAX && pauses < PATIENCE_PAUSES
        };
        self.limits.polite
            && matches!(answer, HostAnswer::Busy(_))
            && self.urls.get(&id).is_some_and(patient)
    }

    pub(crate) fn asked_again(&self, id: UrlId) -> u8 {
        self.urls.get(&id).map_or(0, |known| known.asked_again)
    }

    /// A leased URL was answered, and is asked for again when it may be.
    pub(crate) fn postpone(&mut self, now: Duration, id: UrlId, answer: HostAnswer) {
        let Some(known) = self.urls.get_mut(&id) else {
            return;
        };
        known.holder = None;
        known.asked_again = known.asked_again.saturating_add(1);
        let host = known.host;
        self.heard(now, host, answer);
        self.release(host);
        self.queue(now, host, id);
    }

    pub(crate) fn done(&mut self, now: Duration, id: UrlId, answer: HostAnswer) {
        let Some(known) = self.urls.remove(&id) else {
            return;
        };
        self.heard(now, known.host, answer);
        self.release(known.host);
        self.forget_one(now, known.host);
    }

    /// A URL that is not leased is given up.
    pub(crate) fn give_up(&mut self, now: Duration, id: UrlId) {
        if let Some(known) = self.urls.remove(&id) {
            self.forget_one(now, known.host);
        }
    }

    /// A fetcher was lost; its requests may be under way until then.
    pub(crate) fn lose(&mut self, now: Duration, fetcher: FetcherId, until: Duration) {
        let lost = self.urls.values_mut().filter(|known| known.holder == Some(fetcher));
        let hosts: Vec<_> = lost
            .map(|known| {
                known.holder = None;
                known.host
            })
            .collect();
        for host in hosts {
            if until > now {
                self.lingering.push(Reverse((until, host)));
            } else {
                self.release(host);
                self.settle(now, host);
            }
        }
    }

    /// When something will be ready that is not now, if time alone leads there.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        let asleep = self.asleep.first().map(|(at, _)| *at);
        let lingering = self.lingering.peek().map(|Reverse((at, _))| *at);
        asleep.into_iter().chain(lingering).min()
    }

    pub(crate) fn waiting(&self) -> HostsWaiting {
        HostsWaiting { hosts: self.waited_for - self.ready.len(), next_at: self.wake_at() }
    }

    pub(crate) fn advance(&mut self, now: Duration) {
        while let Some(Reverse((until, host))) = self.lingering.peek().copied()
            && until <= now
        {
            self.lingering.pop();
            self.release(host);
            self.settle(now, host);
        }
        while let Some((at, host)) = self.asleep.first().copied()
            && at <= now
        {
            self.settle(now, host);
        }
        while let Some((at, host)) = self.fading.first().copied()
            && at <= now
        {
            self.settle(now, host);
        }
    }

    fn cap(&self, host: &HostState) -> u32 {
        if host.pauses > 0 {
            return 1;
        }
        self.limits.max_per_host.map_or(u32::MAX, NonZeroU32::get)
    }

    fn queue(&mut self, now: Duration, host: HostId, id: UrlId) {
        let Some(of) = self.hosts.get_mut(&host) else {
            return;
        };
        if of.queue.is_empty() {
            self.waited_for += 1;
        }
        of.queue.push_back(id);
        self.waiting += 1;
        self.settle(now, host);
    }

    fn lease(&mut self, now: Duration, host: HostId, id: UrlId, fetcher: FetcherId) {
        if let Some(known) = self.urls.get_mut(&id) {
            known.holder = Some(fetcher);
        }
        if let Some(of) = self.hosts.get_mut(&host) {
            of.out += 1;
            if !self.spacing.is_zero() {
                let due = of.next_at.unwrap_or(now);
                of.next_at = Some(due.max(now.saturating_sub(CATCH_UP)) + self.spacing);
            }
            self.leave(host);
            self.settle(now, host);
        }
    }

    fn release(&mut self, host: HostId) {
        if let Some(of) = self.hosts.get_mut(&host) {
            debug_assert!(of.out > 0, "what is released was out");
            of.out = of.out.saturating_sub(1);
        }
    }

    fn forget_one(&mut self, now: Duration, host: HostId) {
        if let Some(of) = self.hosts.get_mut(&host) {
            of.urls -= 1;
        }
        self.settle(now, host);
    }

    fn heard(&mut self, now: Duration, host: HostId, answer: HostAnswer) {
        if !self.limits.polite {
            return;
        }
        let Some(of) = self.hosts.get_mut(&host) else {
            return;
        };
        match answer {
            HostAnswer::Nothing => {}
            HostAnswer::Response => of.pauses = 0,
            HostAnswer::Busy(asked) => {
                let asked = asked.map(|asked| asked.clamp(PAUSE_MIN, PAUSE_MAX));
                // Of several requests that meet the same bad moment one counts.
                if of.paused_until <= now {
                    of.pauses += 1;
                    let pause = asked.unwrap_or_else(|| own_pause(of.pauses, &of.name, self.seed));
                    of.paused_until = now + pause;
                } else if let Some(asked) = asked {
                    of.paused_until = of.paused_until.max(now + asked);
                }
            }
        }
    }

    fn leave(&mut self, host: HostId) {
        let Some(of) = self.hosts.get_mut(&host) else {
            return;
        };
        match std::mem::replace(&mut of.standing, Standing::Resting) {
            Standing::Resting => {}
            Standing::Fading(at) => {
                self.fading.remove(&(at, host));
            }
            Standing::Asleep(at) => {
                self.asleep.remove(&(at, host));
            }
            Standing::Ready(turn) => {
                self.ready.remove(&turn);
            }
        }
    }

    fn settle(&mut self, now: Duration, host: HostId) {
        let Some(of) = self.hosts.get(&host) else {
            return;
        };
        let moment = of.moment();
        let is_ready = !of.queue.is_empty() && of.out < self.cap(of) && moment <= now;
        if is_ready && matches!(of.standing, Standing::Ready(_)) {
            return; // it keeps its place in the line
        }
        let forgettable = of.urls == 0 && of.out == 0;
        let waits = !of.queue.is_empty() && of.out < self.cap(of);
        self.leave(host);
        let place = if is_ready {
            let turn = self.next_turn;
            self.next_turn += 1;
            self.ready.insert(turn, host);
            Standing::Ready(turn)
        } else if waits {
            self.asleep.insert((moment, host));
            Standing::Asleep(moment)
        } else if forgettable && moment <= now {
            if let Some(gone) = self.hosts.remove(&host) {
                self.by_name.remove(&gone.name);
            }
            return;
        } else if forgettable {
            self.fading.insert((moment, host));
            Standing::Fading(moment)
        } else {
            Standing::Resting
        };
        if let Some(of) = self.hosts.get_mut(&host) {
            of.standing = place;
        }
    }
}

/// The time between two leases at this rate, rounded up.
fn spacing(rate_per_s: f64) -> Duration {
    let exact = Duration::try_from_secs_f64(1.0 / rate_per_s).unwrap_or(PAUSE_MAX);
    exact + Duration::from_nanos(1)
}

/// Doubles with every pause in a row, and up to a quarter comes on top, so
/// that those that were sent away together do not come back together.
fn own_pause(pauses: u32, name: &HostName, seed: u64) -> Duration {
    let doubled = PAUSE_MIN * 2_u32.saturating_pow(pauses.saturating_sub(1).min(16));
    let base = doubled.min(OWN_PAUSE_MAX);
    let hash = FxBuildHasher.hash_one((seed, pauses, name));
    let share = u32::try_from(hash >> 32).unwrap_or(0);
    base + (base / 4).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
