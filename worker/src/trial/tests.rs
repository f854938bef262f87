use super::*;
use fanout_proto::report::ProcessMemory;
use proptest::prelude::*;

const A: FetcherId = FetcherId(0);
const B: FetcherId = FetcherId(1);

/// A trial, its clock, and what it wanted done last.
struct Bench {
    trial: WorkerTrial,
    now: Instant,
    actions: Vec<Action>,
}

impl Bench {
    fn preparing(fetchers: &[FetcherId]) -> Self {
        let mut trial = WorkerTrial::new();
        assert!(fetchers.iter().all(|fetcher| trial.add(*fetcher)));
        Self { trial, now: Instant::now(), actions: Vec::new() }
    }

    fn running(fetchers: &[FetcherId]) -> Self {
        let mut bench = Self::preparing(fetchers);
        let now = bench.now;
        for fetcher in fetchers {
            bench.on(TrialInput::Started(*fetcher, now));
            bench.on(TrialInput::Ready(*fetcher, now));
        }
        bench.on(TrialInput::Go);
        for fetcher in fetchers {
            bench.on(TrialInput::GoWritten(*fetcher, now));
        }
        bench
    }

    fn on(&mut self, input: TrialInput) -> &[Action] {
        self.actions.clear();
        self.trial.on(self.now, input, &mut self.actions);
        &self.actions
    }

    fn ends(&mut self, fetcher: FetcherId, exit: Exit) -> &[Action] {
        self.on(TrialInput::Ended { fetcher, exit, usage: None, last_words: String::new() })
    }

    fn wait_until_due(&mut self) -> &[Action] {
        self.now = self.trial.deadline().expect("something is due");
        self.on(TrialInput::Tick)
    }

    /// The exit told by the last step.
    fn told(&self) -> &FetcherExited {
        let told = self.actions.iter().find_map(|action| match action {
            Action::TellExited(exited) => Some(exited),
            _ => None,
        });
        told.expect("an exit was told")
    }
}

fn held(bytes: u64) -> HoldSnapshot {
    let memory = ProcessMemory {
        pss_bytes: Some(bytes),
        uss_bytes: Some(bytes),
        anonymous_bytes: Some(bytes),
        file_bytes: Some(bytes),
        threads: Some(1),
    };
    HoldSnapshot { memory, ..HoldSnapshot::default() }
}

fn signal(number: i32) -> Exit {
    Exit::Signal(number)
}

#[tokio::test(start_paused = true)]
async fn a_trial_goes_from_ready_to_over() {
    let mut bench = Bench::preparing(&[A, B]);
    let start = bench.now;
    bench.on(TrialInput::Started(A, start));
    bench.on(TrialInput::Started(B, start + Duration::from_millis(1)));
    let later = start + Duration::from_millis(3);
    assert_eq!(
        bench.on(TrialInput::Ready(A, later)),
        [Action::TellReady(A, Duration::from_millis(3))]
    );
    let last = later + Duration::from_millis(2);
    bench.on(TrialInput::Ready(B, last));
    assert_eq!(bench.trial.start(), Some(Duration::from_millis(5)));
    assert_eq!(
        bench.on(TrialInput::Go),
        [Action::Write(A, FetcherControl::Go), Action::Write(B, FetcherControl::Go)]
    );
    let us = Duration::from_micros;
    assert_eq!(bench.on(TrialInput::GoWritten(B, start + us(90))), []);
    assert_eq!(bench.on(TrialInput::GoWritten(A, start + us(40))), [Action::LetGo]);
    assert_eq!(bench.trial.barrier(), us(90));

    assert_eq!(
        bench.on(TrialInput::Finish),
        [Action::Write(A, FetcherControl::Hold), Action::Write(B, FetcherControl::Hold)]
    );
    assert!(!bench.trial.takes_leases(A));
    assert_eq!(bench.on(TrialInput::Report(B, FetcherReport::default())), []);
    assert_eq!(
        bench.on(TrialInput::Report(A, FetcherReport::default())),
        [Action::Measure(A), Action::Measure(B)]
    );
    assert_eq!(bench.on(TrialInput::Measured(A, held(5))), []);
    let mut sample = MemorySample::at(Duration::ZERO);
    sample.add(&held(5).memory);
    sample.add(&held(7).memory);
    assert_eq!((sample.anonymous_bytes, sample.file_bytes), (Some(12), Some(7)));
    assert_eq!(
        bench.on(TrialInput::Measured(B, held(7))),
        [
            Action::TellMemory(sample),
            Action::Write(A, FetcherControl::Exit),
            Action::Write(B, FetcherControl::Exit)
        ]
    );
    bench.ends(B, Exit::Code(0));
    assert_eq!(bench.told().reason, "");
    assert_eq!(bench.told().held, held(7));
    assert!(bench.told().report.is_some());
    let last = bench.ends(A, Exit::Code(0));
    assert_eq!(last.last(), Some(&Action::Over));
    assert_eq!(bench.trial.deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_that_dies_is_told_at_once_and_holds_nobody_up() {
    let mut bench = Bench::running(&[A, B]);
    bench.ends(A, signal(11));
    assert_eq!(bench.told().reason, "it was ended by signal 11 (SIGSEGV) while it ran");
    assert!(!bench.trial.takes_leases(A) && bench.trial.takes_leases(B));
    bench.on(TrialInput::Finish);
    bench.on(TrialInput::Report(B, FetcherReport::default()));
    bench.on(TrialInput::Measured(B, held(1)));
    assert_eq!(bench.ends(B, Exit::Code(0)).last(), Some(&Action::Over));
}

#[tokio::test(start_paused = true)]
async fn a_trial_without_living_fetchers_waits_for_the_coordinator() {
    let mut bench = Bench::running(&[A]);
    let told = bench.ends(A, Exit::OutOfMemory);
    assert!(!told.contains(&Action::Over));
    assert!(bench.told().reason.contains("out-of-memory"));
    assert_eq!(bench.on(TrialInput::Finish), [Action::Over]);
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_that_is_never_ready_is_killed() {
    let mut bench = Bench::preparing(&[A]);
    bench.on(TrialInput::Started(A, bench.now));
    assert_eq!(bench.trial.deadline(), Some(bench.now + READY_WITHIN));
    assert_eq!(bench.wait_until_due(), [Action::Kill(A)]);
    assert_eq!(bench.trial.deadline(), None);
    bench.ends(A, signal(9));
    assert_eq!(bench.told().reason, "it was not ready within 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_that_does_not_report_is_killed_and_the_others_are_measured() {
    let mut bench = Bench::running(&[A, B]);
    bench.on(TrialInput::Finish);
    bench.on(TrialInput::Report(A, FetcherReport::default()));
    assert_eq!(bench.wait_until_due(), [Action::Kill(B), Action::Measure(A)]);
    bench.on(TrialInput::Measured(A, held(1)));
    bench.ends(A, Exit::Code(0));
    let last = bench.ends(B, signal(9));
    assert_eq!(last.last(), Some(&Action::Over));
    assert_eq!(bench.told().reason, "it did not report within 5 s");
    assert_eq!(bench.told().report, None);
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_that_ignores_exit_is_killed_with_its_figures_kept() {
    let mut bench = Bench::running(&[A]);
    bench.on(TrialInput::Finish);
    bench.on(TrialInput::Report(A, FetcherReport::default()));
    bench.on(TrialInput::Measured(A, held(1)));
    assert_eq!(bench.wait_until_due(), [Action::Kill(A)]);
    assert_eq!(bench.trial.deadline(), None);
    bench.ends(A, signal(9));
    assert_eq!(bench.told().reason, "it did not end within 5 s of Exit");
    assert_eq!(bench.told().held, held(1));
    assert!(bench.told().report.is_some());
}

#[tokio::test(start_paused = true)]
async fn one_fetcher_is_killed_and_the_others_go_on() {
    let mut bench = Bench::running(&[A, B]);
    assert_eq!(bench.on(TrialInput::Kill(A)), [Action::Kill(A)]);
    assert_eq!(bench.on(TrialInput::Kill(A)), []);
    assert!(bench.trial.is_being_killed(A) && !bench.trial.is_being_killed(B));
    assert!(bench.trial.running().eq([B]));
    bench.ends(A, signal(9));
    assert_eq!(bench.told().reason, "killed as the coordinator asked");
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_when_the_trial_is_aborted_is_never_started() {
    let mut bench = Bench::preparing(&[A, B]);
    bench.on(TrialInput::Started(A, bench.now));
    let actions = bench.on(TrialInput::Abort);
    assert_eq!(actions[0], Action::Kill(A));
    assert_eq!(bench.told().fetcher, B);
    assert_eq!(bench.told().exit, Exit::NotStarted);
    assert_eq!(bench.ends(A, signal(9)).last(), Some(&Action::Over));
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_that_is_late_gets_go_when_it_is_ready() {
    let mut bench = Bench::preparing(&[A]);
    bench.on(TrialInput::Started(A, bench.now));
    assert_eq!(bench.on(TrialInput::Go), []);
    let actions = bench.on(TrialInput::Ready(A, bench.now));
    assert_eq!(
        actions,
        [Action::TellReady(A, Duration::ZERO), Action::Write(A, FetcherControl::Go)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_that_speaks_out_of_turn_is_killed() {
    let mut bench = Bench::running(&[A, B]);
    assert_eq!(bench.on(TrialInput::Ready(A, bench.now)), [Action::Kill(A)]);
    let report = TrialInput::Report(B, FetcherReport::default());
    assert_eq!(bench.on(report), [Action::Kill(B)]);
}

#[tokio::test(start_paused = true)]
async fn last_words_stand_in_the_reason() {
    let mut bench = Bench::running(&[A]);
    bench.on(TrialInput::Ended {
        fetcher: A,
        exit: Exit::Code(3),
        usage: None,
        last_words: "the disk is on fire".into(),
    });
    assert_eq!(
        bench.told().reason,
        "it ended by itself with exit code 3 while it ran; its last words: the disk is on fire"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetcher_cannot_be_added_twice_or_late() {
    let mut bench = Bench::running(&[A]);
    assert!(!bench.trial.add(A));
    bench.on(TrialInput::Finish);
    assert!(!bench.trial.add(B));
}

#[tokio::test(start_paused = true)]
async fn a_replacement_goes_as_soon_as_it_is_ready_and_holds_no_barrier_up() {
    let mut bench = Bench::running(&[A]);
    bench.ends(A, Exit::Signal(9));
    bench.now += Duration::from_secs(9);
    assert!(bench.trial.add(B), "the trial waits for Finish or Abort");
    let now = bench.now;
    bench.on(TrialInput::Started(B, now));
    let ready = bench.on(TrialInput::Ready(B, now)).to_vec();
    assert!(ready.contains(&Action::Write(B, FetcherControl::Go)), "{ready:?}");
    bench.on(TrialInput::GoWritten(B, now));
    assert_eq!(bench.trial.barrier(), Duration::ZERO);
}

/// What can happen to a fetcher or to the trial, in any order.
#[derive(Debug, Clone)]
enum Chance {
    Start,
    FailToStart,
    Ready,
    GoWritten,
    Report,
    Break,
    Measure,
    End,
    Go,
    Finish,
    Kill,
    Abort,
    Wait,
}

fn chance() -> impl Strategy<Value = (Chance, FetcherId)> {
    use Chance::*;
    let weighted = prop_oneof![
        8 => Just(Start), 1 => Just(FailToStart), 8 => Just(Ready), 6 => Just(GoWritten),
        8 => Just(Report), 1 => Just(Break), 8 => Just(Measure), 4 => Just(End),
        4 => Just(Go), 4 => Just(Finish), 1 => Just(Kill), 1 => Just(Abort), 1 => Just(Wait),
    ];
    (weighted, (0_u32..3).prop_map(FetcherId))
}

/// The world around a trial: processes that exist only between a start
/// and an end, and a record of what the trial wanted done.
#[derive(Default)]
struct World {
    queued: Vec<FetcherId>,
    alive: Vec<FetcherId>,
    killed: Vec<FetcherId>,
    measuring: Vec<FetcherId>,
    reported: Vec<FetcherId>,
    told: Vec<FetcherId>,
    over: bool,
}

impl World {
    fn take(&mut self, actions: &[Action]) {
        for action in actions {
            assert!(!self.over, "nothing comes after Over: {action:?}");
            match action {
                Action::Kill(fetcher) => {
                    assert!(self.alive.contains(fetcher), "only what lives is killed");
                    assert!(!self.killed.contains(fetcher), "and once");
                    self.killed.push(*fetcher);
                }
                Action::Measure(fetcher) => {
                    assert!(self.reported.contains(fetcher), "only what holds is read");
                    self.measuring.push(*fetcher);
                }
                Action::Write(fetcher, FetcherControl::Exit) => {
                    assert!(self.reported.contains(fetcher));
                }
                Action::TellExited(exited) => {
                    let fetcher = exited.fetcher;
                    assert!(!self.told.contains(&fetcher), "each exit is told once");
                    assert!(!self.alive.contains(&fetcher), "and after the end");
                    self.queued.retain(|queued| *queued != fetcher);
                    self.told.push(fetcher);
                }
                Action::Over => self.over = true,
                _ => {}
            }
        }
    }

    fn input(&mut self, chance: &Chance, fetcher: FetcherId, now: Instant) -> Option<TrialInput> {
        let alive = self.alive.contains(&fetcher);
        Some(match chance {
            Chance::Start if self.queued.contains(&fetcher) => {
                self.queued.retain(|queued| *queued != fetcher);
                self.alive.push(fetcher);
                TrialInput::Started(fetcher, now)
            }
            Chance::FailToStart if self.queued.contains(&fetcher) => {
                TrialInput::NotStarted(fetcher, "no luck".into())
            }
            Chance::Ready if alive => TrialInput::Ready(fetcher, now),
            Chance::GoWritten if alive => TrialInput::GoWritten(fetcher, now),
            Chance::Report if alive => {
                self.reported.push(fetcher);
                TrialInput::Report(fetcher, FetcherReport::default())
            }
            Chance::Break if alive => TrialInput::Broken(fetcher, "nonsense".into()),
            Chance::Measure => TrialInput::Measured(self.measuring.pop()?, held(1)),
            Chance::End if alive => {
                self.alive.retain(|living| *living != fetcher);
                TrialInput::Ended {
                    fetcher,
                    exit: Exit::Code(0),
                    usage: None,
                    last_words: String::new(),
                }
            }
            Chance::Go => TrialInput::Go,
            Chance::Finish => TrialInput::Finish,
            Chance::Kill => TrialInput::Kill(fetcher),
            Chance::Abort => TrialInput::Abort,
            Chance::Wait => TrialInput::Tick,
            _ => return None,
        })
    }
}

proptest! {
    #[test]
    fn every_fetcher_is_told_once_whatever_happens(
        chances in prop::collection::vec(chance(), 0..60),
        aborted in any::<bool>(),
    ) {
        let ids: Vec<_> = (0..3).map(FetcherId).collect();
        let mut bench = Bench::preparing(&ids);
        let mut world = World { queued: ids.clone(), ..World::default() };
        for (chance, fetcher) in &chances {
            if matches!(chance, Chance::Wait) {
                bench.now = bench.trial.deadline().unwrap_or(bench.now);
            }
            if let Some(input) = world.input(chance, *fetcher, bench.now) {
                world.take(bench.on(input));
            }
        }
        // Whatever came before, an Abort or a Finish ends it in bounded time.
        let last = if aborted { TrialInput::Abort } else { TrialInput::Finish };
        if !world.over {
            world.take(bench.on(last));
        }
        for _ in 0..20 {
            while let Some(input) = world.input(&Chance::Measure, A, bench.now) {
                world.take(bench.on(input));
            }
            for fetcher in world.killed.clone() {
                if let Some(input) = world.input(&Chance::End, fetcher, bench.now) {
                    world.take(bench.on(input));
                }
            }
            if let Some(deadline) = bench.trial.deadline() {
                bench.now = deadline;
                world.take(bench.on(TrialInput::Tick));
            }
        }
        prop_assert!(world.over);
        prop_assert!(world.alive.is_empty());
        world.told.sort_unstable();
        prop_assert_eq!(world.told, ids);
        prop_assert_eq!(bench.trial.deadline(), None);
        prop_assert_eq!(bench.trial.living().count(), 0);
    }
}
