//! The judge: an account of its own, as plain as can be, that every command
//! of the coordinator's trial is held against.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use fanout_engine::{
    ledger::{LOSSES_MAX, RETRY_BATCH_MAX, Split},
    trial::{AbortReason, Command, Trial, TrialEnd, TrialPlan},
};
use fanout_proto::{
    completion::Outcome,
    id::{FetcherId, UrlId, WorkerId},
    limits::BATCH_MAX_URLS,
};

use crate::schedule::Schedule;

/// Where a URL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Pending,
    Leased(FetcherId),
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Url {
    place: Place,
    losses: u8,
}

#[derive(Debug)]
struct Fetcher {
    worker: WorkerId,
    ready: bool,
    /// Was let go.
    runs: bool,
    lost: bool,
    exited: bool,
    held: u64,
    has_completed: bool,
    /// Holds a URL that was lost twice.
    tries_suspect: bool,
}

/// What the trial was told, as far as the judge cares.
#[derive(Debug)]
pub(crate) enum Told {
    Ready(FetcherId),
    Completions(FetcherId, Vec<(UrlId, Outcome)>),
    Exited(FetcherId),
    WorkerLost(WorkerId),
    Drain,
    Cancel,
    Else,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Judge {
    plan: TrialPlan,
    max_per_host: Option<u32>,
    hosts: u64,
    urls: Vec<Url>,
    fetchers: BTreeMap<FetcherId, Fetcher>,
    /// By worker: whether the trial knows that it is lost.
    workers: BTreeMap<WorkerId, bool>,
    pending: u64,
    leased: u64,
    completed: u64,
    failed: u64,
    pub(crate) abandoned: u64,
    pub(crate) requeued: u64,
    pub(crate) ignored: u64,
    pub(crate) lost: u64,
    /// URLs that were lost twice and are being tried.
    suspects: u64,
    /// URLs that were lost and are not done.
    recovering: u64,
    recovering_since: Option<Duration>,
    recovery: Option<Duration>,
    drained: bool,
    cancelled: bool,
    /// Completions of this step that must count.
    owed: BTreeMap<UrlId, Outcome>,
    pub(crate) end: Option<TrialEnd>,
}

impl Judge {
    pub(crate) fn new(schedule: &Schedule) -> Self {
        let plan = schedule.plan.clone();
        let url = Url { place: Place::Pending, losses: 0 };
        Self {
            urls: vec![url; usize::try_from(plan.urls).expect("a short list")],
            fetchers: BTreeMap::new(),
            workers: plan.placement.iter().map(|id| (*id, false)).collect(),
            pending: plan.urls,
            leased: 0,
            completed: 0,
            failed: 0,
            abandoned: 0,
            requeued: 0,
            ignored: 0,
            lost: 0,
            suspects: 0,
            recovering: 0,
            recovering_since: None,
            recovery: None,
            drained: false,
            cancelled: false,
            owed: BTreeMap::new(),
            end: None,
            max_per_host: schedule.limits.max_per_host.map(NonZeroU32::get),
            hosts: schedule.hosts,
            plan,
        }
    }

    /// What the trial is about to be told.
    pub(crate) fn hear(&mut self, told: &Told) {
        if self.end.is_some() {
            return;
        }
        match told {
            Told::Completions(id, urls) => self.hear_completions(*id, urls),
            Told::Ready(id) => self.fetcher(*id).ready = true,
            Told::Exited(id) => self.fetcher(*id).exited = true,
            Told::WorkerLost(id) => {
                self.workers.insert(*id, true);
            }
            Told::Drain => self.drained = true,
            Told::Cancel => self.cancelled = true,
            Told::Else => {}
        }
    }

    fn hear_completions(&mut self, id: FetcherId, urls: &[(UrlId, Outcome)]) {
        let fetcher = self.fetcher(id);
        let live = fetcher.runs && !fetcher.lost && !fetcher.exited;
        for (url, outcome) in urls {
            let place = self.url(*url).place;
            if !live {
                self.ignored += 1;
            } else if place == Place::Leased(id) && !self.owed.contains_key(url) {
                self.owed.insert(*url, *outcome);
            } else if place == Place::Done || self.owed.contains_key(url) {
                self.ignored += 1;
            }
            // Else it is not the fetcher's to complete, and costs its life.
        }
    }

    fn url(&mut self, id: UrlId) -> &mut Url {
        let index = usize::try_from(id.0).expect("an index");
        self.urls.get_mut(index).expect("a URL of the list")
    }

    fn fetcher(&mut self, id: FetcherId) -> &mut Fetcher {
        self.fetchers.get_mut(&id).expect("a known fetcher")
    }

    /// A command to a worker that is there, for a fetcher that lives.
    fn living(&mut self, worker: WorkerId, id: FetcherId) -> &mut Fetcher {
        self.present(worker);
        let fetcher = self.fetcher(id);
        assert_eq!(fetcher.worker, worker, "fetcher {id} runs elsewhere");
        assert!(!fetcher.lost, "a command for fetcher {id}, which was given up");
        assert!(!fetcher.exited, "a command for fetcher {id}, which ended");
        fetcher
    }

    fn present(&self, worker: WorkerId) {
        let lost = self.workers.get(&worker);
        assert_eq!(lost, Some(&false), "a command for worker {worker}");
    }

    fn finish_url(&mut self, id: UrlId, holder: FetcherId) -> Url {
        let before = *self.url(id);
        assert_eq!(before.place, Place::Leased(holder), "URL {id} of fetcher {holder}");
        self.url(id).place = Place::Done;
        self.leased -= 1;
        self.recovering -= u64::from(before.losses > 0);
        self.suspects -= u64::from(before.losses == LOSSES_MAX - 1);
        let fetcher = self.fetcher(holder);
        fetcher.held -= 1;
        fetcher.tries_suspect = false;
        before
    }

    /// What the trial answered; `trial` is its state after that.
    pub(crate) fn see(&mut self, now: Duration, commands: &[Command], trial: &Trial) {
        for command in commands {
            assert_eq!(self.end, None, "nothing comes after the end: {command:?}");
            self.see_one(command);
        }
        if self.end.is_none() {
            assert!(self.owed.is_empty(), "not recorded: {:?}, but {commands:?}", self.owed);
        }
        let (ledger, counts) = (trial.ledger(), trial.counts());
        assert_eq!(ledger.pending(), self.pending, "pending");
        assert_eq!(ledger.leased(), self.leased, "leased");
        assert_eq!(counts.completed, self.completed, "completed");
        assert_eq!(counts.failed, self.failed, "failed");
        assert_eq!(counts.abandoned, self.abandoned, "abandoned");
        assert_eq!(counts.requeued, self.requeued, "requeued");
        assert_eq!(counts.duplicates_ignored, self.ignored, "ignored");
        assert_eq!(
            self.pending + self.leased + counts.done(),
            self.plan.urls,
            "pending + leased + done = total"
        );
        if self.recovering > 0 {
            self.recovering_since.get_or_insert(now);
        } else if let Some(since) = self.recovering_since.take() {
            self.recovery = self.recovery.max(Some(now - since));
        }
        let losses = trial.losses();
        assert_eq!(u64::from(losses.fetchers), self.lost, "fetchers lost");
        assert_eq!(losses.recovery, self.recovery, "time to recover");
        assert!(trial.is_degraded() || self.lost == 0, "degraded");
    }

    fn see_one(&mut self, command: &Command) {
        match command {
            Command::Prepare(worker, id) => {
                self.present(*worker);
                let fetcher = Fetcher {
                    worker: *worker,
                    ready: false,
                    runs: false,
                    lost: false,
                    exited: false,
                    held: 0,
                    has_completed: false,
                    tries_suspect: false,
                };
                let before = self.fetchers.insert(*id, fetcher);
                assert!(before.is_none(), "fetcher {id} is started twice");
            }
            Command::Lease(worker, id, urls) => self.see_lease(*worker, *id, urls),
            Command::Go(worker) => {
                self.present(*worker);
                for fetcher in self.fetchers.values_mut() {
                    fetcher.runs |= fetcher.worker == *worker && fetcher.ready;
                }
            }
            Command::Abort(worker) => self.present(*worker),
            Command::Finish(worker) => {
                self.present(*worker);
                assert_eq!(self.pending + self.leased, 0, "Finish before the end");
            }
            Command::Kill(worker, id) => {
                self.living(*worker, *id);
            }
            Command::Record(id, accepted, _) => {
                for one in accepted {
                    let url = one.completion.id;
                    let owed = self.owed.remove(&url);
                    assert_eq!(owed, Some(one.completion.outcome), "URL {url} is recorded");
                    let before = self.finish_url(url, *id);
                    assert_eq!(one.attempt, before.losses + 1, "attempt of URL {url}");
                    match owed {
                        Some(Outcome::Ok) => self.completed += 1,
                        _ => self.failed += 1,
                    }
                    self.fetcher(*id).has_completed = true;
                }
            }
            Command::Abandoned(urls) => {
                for url in urls {
                    let Place::Leased(holder) = self.url(*url).place else {
                        panic!("URL {url} is abandoned, and nobody holds it");
                    };
                    let before = self.finish_url(*url, holder);
                    assert_eq!(before.losses + 1, LOSSES_MAX, "losses of URL {url}");
                    self.abandoned += 1;
                }
            }
            // Finding a host out moves no URL.
            Command::LookUp(urls) => {
                for url in urls {
                    assert_eq!(self.url(*url).place, Place::Pending, "URL {url} is looked up");
                }
            }
            Command::Lost(id, reason) => self.see_loss(*id, reason),
            Command::Ended(end) => self.see_end(end),
        }
    }

    fn see_lease(&mut self, worker: WorkerId, id: FetcherId, urls: &[UrlId]) {
        assert!(!self.drained, "a lease after the drain began");
        let (credit, first) =
            (u64::from(self.plan.credit_max), 2 * u64::from(self.plan.concurrency));
        let count = urls.len();
        let fetcher = self.living(worker, id);
        assert!(!fetcher.tries_suspect, "fetcher {id} tries a suspect and gets more");
        let held_before = fetcher.held;
        fetcher.held += count as u64;
        let (held, has_completed) = (fetcher.held, fetcher.has_completed);
        assert!(held <= credit, "fetcher {id} holds {held} of at most {credit}");
        // Without a rate there is nothing to hold beyond twice the concurrency.
        assert!(has_completed || held <= first, "fetcher {id} holds {held} at its start");
        assert!((1..=BATCH_MAX_URLS).contains(&count), "a batch of {count}");
        assert!(urls.is_sorted_by(|a, b| a < b), "a batch ascends: {urls:?}");
        for url in urls {
            let Url { place, losses } = *self.url(*url);
            assert_eq!(place, Place::Pending, "URL {url} is leased");
            self.url(*url).place = Place::Leased(id);
            if losses == 1 {
                assert!(count <= RETRY_BATCH_MAX, "a batch of {count} that were lost");
            }
            if losses == 2 {
                assert_eq!((count, held_before), (1, 0), "a suspect is tried alone");
                self.fetcher(id).tries_suspect = true;
                self.suspects += 1;
                assert_eq!(self.suspects, 1, "one suspect at a time");
            }
        }
        self.pending -= count as u64;
        self.leased += count as u64;
        if let Some(most) = self.max_per_host {
            let mut out = BTreeMap::<u64, u32>::new();
            for (id, url) in (0..).zip(&self.urls) {
                if matches!(url.place, Place::Leased(_)) {
                    *out.entry(id % self.hosts).or_default() += 1;
                }
            }
            assert!(out.values().all(|count| *count <= most), "by host: {out:?}");
        }
    }

    fn see_loss(&mut self, id: FetcherId, reason: &str) {
        let fetcher = self.fetcher(id);
        assert!(!fetcher.lost, "fetcher {id} is lost twice: {reason}");
        fetcher.lost = true;
        fetcher.held = 0;
        self.lost += 1;
        let mut back = 0;
        let mut first = 0;
        for url in &mut self.urls {
            if url.place == Place::Leased(id) {
                url.place = Place::Pending;
                url.losses += 1;
                assert!(url.losses < LOSSES_MAX, "it had to be abandoned");
                first += u64::from(url.losses == 1);
                back += 1;
            }
        }
        self.pending += back;
        self.leased -= back;
        self.requeued += back;
        self.recovering += first;
    }

    fn see_end(&mut self, end: &TrialEnd) {
        let left = self.pending + self.leased;
        match end {
            TrialEnd::Done => assert_eq!(left, 0, "done, and {left} URLs are not"),
            TrialEnd::Aborted(AbortReason::Cancelled) => {
                assert!(self.drained || self.cancelled, "nobody asked for it");
            }
            TrialEnd::Aborted(AbortReason::AllLost(_)) => {
                assert!(left > 0, "nothing was left to lose");
            }
            TrialEnd::Aborted(_) => assert!(left > 0),
        }
        self.end = Some(end.clone());
    }

    /// Holds when the run is over: each URL is where the end says.
    pub(crate) fn conclude(&self) {
        let end = self.end.as_ref().expect("it has ended");
        let done = self.urls.iter().filter(|url| url.place == Place::Done);
        let done = done.count() as u64;
        assert_eq!(done, self.completed + self.failed + self.abandoned);
        if *end == TrialEnd::Done {
            assert_eq!(done, self.plan.urls);
        }
        let dynamic = self.plan.split == Split::Dynamic;
        let all_lost = matches!(end, TrialEnd::Aborted(AbortReason::AllLost(_)));
        if all_lost && dynamic {
            let living = self.fetchers.values().filter(|f| !f.lost).count();
            assert_eq!(living, 0, "given up with fetchers at hand");
        }
    }
}
