//! A schedule: what a run is made of, and what goes wrong in it and when. All
//! of it follows from a seed.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use fanout_engine::{ledger::Split, politeness::Limits, trial::TrialPlan};
use fanout_proto::id::{UrlId, WorkerId};
use rand::{RngExt as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

/// One millisecond, in the simulation's unit.
pub(crate) const MS: u64 = 1_000;
/// One second.
pub(crate) const SECOND: u64 = 1_000 * MS;

/// What goes wrong. Numbers pick among those that are there at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A fetcher is ended by signal 9.
    KillFetcher(u32),
    /// A fetcher is stopped, and goes on after this time.
    FreezeFetcher(u32, u64),
    /// A fetcher that is told to die takes this long.
    SlowDeath(u64),
    /// The next fetcher that starts never gets ready.
    NeverReady,
    /// The next fetcher cannot be started.
    NeverStarted,
    /// From now on every fetcher dies at its start.
    Plague,
    /// A fetcher completes a URL that is not its own.
    Invent(u32, u64),
    /// A fetcher writes what makes no sense.
    Babble(u32),
    /// A worker's process is ended by signal 9.
    KillWorker(u32),
    /// A worker's process is stopped, and goes on after this time.
    FreezeWorker(u32, u64),
    /// A connection breaks: what is on the way is lost.
    Cut(u32),
    /// A connection carries nothing for this time, in one direction.
    Stall(u32, Direction, u64),
    /// The next message of a worker arrives twice.
    Double(u32),
    /// What is to be sent to a worker next finds its queue full.
    Overflow(u32),
    /// The coordinator's process is stopped, and goes on after this time.
    FreezeCoordinator(u64),
    /// Lease no more, and end within this time.
    Drain(u64),
    /// TrialEnd at once.
    Cancel,
}

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    ToWorker,
    ToCoordinator,
}

/// See the module. Times are in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) plan: TrialPlan,
    /// A fetcher that takes one of these up dies.
    pub(crate) poison: BTreeSet<UrlId>,
    /// URLs that end as failures.
    pub(crate) failing: BTreeSet<UrlId>,
    /// What one URL takes, at least and at most.
    pub(crate) exchange: (u64, u64),
    /// What a message takes, at least and at most.
    pub(crate) delay: (u64, u64),
    /// What goes wrong, and when.
    pub(crate) faults: Vec<(u64, Fault)>,
    /// What each host is to be spared; often nothing.
    pub(crate) limits: Limits,
    /// URL i is at host i modulo this.
    pub(crate) hosts: u64,
}

impl Schedule {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rng = &mut rng;
        let urls = match rng.random_range(0..20) {
            0 => rng.random_range(100..400),
            1..=5 => rng.random_range(1..4),
            _ => rng.random_range(4..40),
        };
        let workers = rng.random_range(1..=4_u32);
        let fetchers = rng.random_range(1..=6_usize);
        let placement = (0..fetchers).map(|_| WorkerId(rng.random_range(1..=workers))).collect();
        let concurrency = rng.random_range(1..=4);
        let unlimited = rng.random_ratio(1, 2);
        let plan = TrialPlan {
            urls,
            split: *[Split::Dynamic, Split::Dynamic, Split::Static].choose(rng).expect("some"),
            concurrency,
            credit_max: if unlimited {
                u32::MAX
            } else {
                rng.random_range(2 * concurrency..=4 * concurrency)
            },
            timeout: Duration::from_secs(rng.random_range(1..=10)),
            placement,
        };
        let some = |rng: &mut ChaCha8Rng, most: u64| -> BTreeSet<UrlId> {
            let count = rng.random_range(1..=most);
            (0..count).map(|_| UrlId(rng.random_range(0..urls))).collect()
        };
        let poison = match rng.random_range(0..10) {
            0 => some(rng, 8),
            1..=2 => some(rng, 2),
            _ => BTreeSet::new(),
        };
        let failing = some(rng, 3);
        let slow = rng.random_ratio(1, 4);
        let exchange = if slow { (MS, 900 * MS) } else { (MS, 60 * MS) };
        let delay = *[(50, 500), (50, 20 * MS), (MS, 300 * MS)].choose(rng).expect("some");
        // Most faults fall into the time that the run takes without any.
        let lanes = (fetchers as u64) * u64::from(concurrency);
        let early = rng.random_ratio(1, 6);
        let span = 100 * MS + urls * exchange.1 / lanes + 4 * delay.1;
        let count = rng.random_range(0..=6);
        let mut faults: Vec<_> = (0..count)
            .map(|_| {
                // Before the barrier opens, or at any time.
                let most = if early { 40 * MS } else { span };
                (rng.random_range(0..=most), Self::fault(rng))
            })
            .collect();
        if rng.random_ratio(1, 10) {
            let stop = if rng.random_ratio(1, 4) {
                Fault::Cancel
            } else {
                Fault::Drain(rng.random_range(0..10 * SECOND))
            };
            faults.push((rng.random_range(0..=span), stop));
        }
        faults.sort_unstable();
        let limits = match plan.split {
            Split::Dynamic if rng.random_ratio(1, 2) => Limits {
                max_per_host: NonZeroU32::new(rng.random_range(0..4)),
                rate_per_host: rng.random_ratio(1, 3).then(|| rng.random_range(20.0..500.0)),
                polite: rng.random_ratio(1, 3),
            },
            _ => Limits::default(),
        };
        Self {
            seed,
            plan,
            poison,
            failing,
            exchange,
            delay,
            faults,
            limits,
            hosts: rng.random_range(1..5),
        }
    }

    fn fault(rng: &mut ChaCha8Rng) -> Fault {
        let who = rng.random_range(0..64);
        let some_time = |rng: &mut ChaCha8Rng| {
            let most = *[100 * MS, 3 * SECOND, 10 * SECOND, 30 * SECOND].choose(rng).expect("some");
            rng.random_range(0..=most)
        };
        match rng.random_range(0..40) {
            0..=11 => Fault::KillFetcher(who),
            12..=15 => Fault::FreezeFetcher(who, some_time(rng)),
            16 if rng.random_ratio(1, 4) => Fault::SlowDeath(3600 * SECOND),
            16 => Fault::SlowDeath(some_time(rng)),
            17 if rng.random_ratio(1, 2) => Fault::Plague,
            17 => Fault::NeverReady,
            18 => Fault::NeverStarted,
            19..=20 => Fault::Invent(who, rng.random_range(0..400)),
            21 => Fault::Babble(who),
            22..=23 => Fault::KillWorker(who),
            24..=26 => Fault::FreezeWorker(who, some_time(rng)),
            27..=28 => Fault::Cut(who),
            29..=30 => Fault::Stall(who, Direction::ToWorker, some_time(rng)),
            31..=32 => Fault::Stall(who, Direction::ToCoordinator, some_time(rng)),
            33..=36 => Fault::Double(who),
            37 => Fault::Overflow(who),
            _ => Fault::FreezeCoordinator(some_time(rng)),
        }
    }
}
