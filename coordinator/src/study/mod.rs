//! `coordinator study`: blocks of trials, then comparisons.

mod block_workers;
mod calibrate;
mod manifest;
mod origin;
mod runner;
mod schedule;
pub mod store;

pub(crate) use origin::client as origin_client;

use std::time::Duration;

use fanout_analysis::record::{self, Study};
use fanout_engine::{ledger::Split, politeness::MODEST_MAX_PER_HOST};

use crate::{
    cli::{
        Format,
        exit::{Exit, Failure},
    },
    local::{
        environment::{Ground, LocalGround},
        signals::Signals,
    },
    run::Stop,
    settings::{Common, SLOPE_CONCURRENCIES, StudyKind, StudySettings},
    study::{
        calibrate::calibrate,
        runner::{Bench, Ended},
        store::Store,
    },
    terminal::{Terminal, announce::announce, reporter::Voice},
    url_list::{Source, UrlList},
};

/// Runs a study on this machine.
///
/// # Errors
///
/// [`Failure`] with the exit code it leads to.
pub async fn run(settings: StudySettings, format: Format) -> Result<Exit, Failure> {
    let voice = Terminal { format };
    let prepared = Prepared::new(settings, manifest::own_command(), &voice)?;
    let signals = Signals::listen(false).map_err(Failure::incomplete)?;
    let common = &prepared.settings.common;
    let slots = common.local_slots(&prepared.settings.arms);
    let origin_seed = prepared.own.is_none().then_some(prepared.seed);
    let local = LocalGround::start(common, slots, origin_seed).await;
    let mut local = local.inspect_err(|_| prepared.store.discard())?;
    let result = prepared.run(local.ground(), &signals.stop, &voice).await;
    local.end().await;
    result
}

/// A study whose list was checked and whose directory is there; nothing runs.
#[derive(Debug)]
pub struct Prepared {
    settings: StudySettings,
    seed: u64,
    /// `None`: the origin's.
    own: Option<UrlList>,
    store: Store,
    command: Vec<String>,
}

impl Prepared {
    /// Checks the list and makes the directory; `command` is what was typed.
    ///
    /// # Errors
    ///
    /// [`Failure`] with exit code 2.
    pub fn new(
        mut settings: StudySettings,
        command: Vec<String>,
        voice: &dyn Voice,
    ) -> Result<Self, Failure> {
        let common = &settings.common;
        let own = match &common.source {
            Source::BuiltIn => None,
            source => Some(
                UrlList::open(source, common.repeat, common.skip_invalid)
                    .map_err(Failure::usage)?,
            ),
        };
        if let Some(list) = &own {
            ask_first(&settings, list, voice)?;
            spare_others(&mut settings.common, list, voice);
        }
        let store = Store::create(settings.out.as_deref()).map_err(Failure::usage)?;
        Ok(Self {
            seed: settings.seed.unwrap_or_else(manifest::fresh_seed),
            settings,
            own,
            store,
            command,
        })
    }

    /// Takes the directory away again, of a study that will not run.
    pub fn discard(&self) {
        self.store.discard();
    }

    /// The origin that was named for the built-in list.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        self.settings.common.origin.clone()
    }

    /// Workers to wait for.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.settings.common.workers
    }

    /// Runs it. A study that never began leaves no directory behind.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the exit code it leads to.
    pub async fn run(
        &self,
        mut ground: Ground<'_>,
        stop: &Stop,
        voice: &dyn Voice,
    ) -> Result<Exit, Failure> {
        let made;
        let list = match &self.own {
            Some(list) => {
                // The list is what is fetched; the origin has no part in it.
                ground.origin = None;
                list
            }
            None => {
                made = built_in(&self.settings, &ground, self.seed)
                    .inspect_err(|_| self.store.discard())?;
                &made
            }
        };
        let mut bench = Bench {
            settings: &self.settings,
            command: &self.command,
            list,
            ground,
            stop,
            voice,
        };
        match self.settings.kind {
            StudyKind::Calibrate { studies, inject } => {
                calibrate(&mut bench, self.seed, studies, inject, &self.store).await
            }
            StudyKind::Compare | StudyKind::MemorySlope => {
                let (study, ended) = bench.study(self.seed, Duration::ZERO, &self.store).await;
                conclude_and_show(study, &self.store, ended, voice).await
            }
        }
    }
}

async fn conclude_and_show(
    study: Study,
    store: &Store,
    ended: Result<Ended, Failure>,
    voice: &dyn Voice,
) -> Result<Exit, Failure> {
    let interrupted = !matches!(ended, Ok(Ended::Complete | Ended::OutOfTime));
    if study.trials.is_empty() {
        store.discard();
        ended?;
        return Ok(Exit::Interrupted);
    }
    let study = Study {
        interrupted,
        ..study
    };
    let study = store.conclude_and_save(study).await?;
    voice.study(&study, store).map_err(Failure::incomplete)?;
    Ok(match ended? {
        Ended::Interrupted => Exit::Interrupted,
        Ended::Complete | Ended::OutOfTime if comparable(&study) => Exit::Done,
        Ended::Complete | Ended::OutOfTime => Exit::Incomplete,
    })
}

/// Whether every arm has a valid trial.
fn comparable(study: &Study) -> bool {
    let abandoned = study.trials.iter().any(|t| t.valid && t.abandoned > 0);
    let measured = |arm: &record::Arm| study.trials.iter().any(|t| t.valid && t.arm == arm.name);
    !abandoned && study.arms.iter().all(measured)
}

/// Where the requests will go, and whether that is wanted.
fn ask_first(settings: &StudySettings, list: &UrlList, voice: &dyn Voice) -> Result<(), Failure> {
    let (hosts, _) = list.beyond_loopback();
    if hosts.is_empty() {
        return Ok(());
    }
    announce(list, voice);
    let trials = settings.arms.len() as u64 * u64::from(settings.blocks + 1);
    let requests = list.len().saturating_mul(trials);
    if settings.yes {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "a study fetches the list again and again: {trials} trials, up to {requests} requests, to hosts \
         beyond this machine; pass --yes if they are yours to load, or lower --blocks"
    )))
}

/// Hosts beyond this machine are spared, unless somebody said how far.
fn spare_others(common: &mut Common, list: &UrlList, voice: &dyn Voice) {
    if list.beyond_loopback().0.is_empty() || common.hosts.max_per_host.is_some() {
        return;
    }
    if common.split == Split::Static {
        voice.say(
            "no limit per host: with --split static fetchers know nothing of one another's hosts",
        );
        return;
    }
    common.hosts.max_per_host = Some(MODEST_MAX_PER_HOST);
    voice.say(&format!(
        "at most {MODEST_MAX_PER_HOST} requests of a host at a time, which arms with more in flight may \
         feel; --max-per-host N sets another limit"
    ));
}

/// The embedded origin's list: what the kind of study asks for.
fn built_in(settings: &StudySettings, ground: &Ground<'_>, seed: u64) -> Result<UrlList, Failure> {
    let origin = ground.origin.as_ref();
    let base = origin
        .and_then(|origin| origin.urls.first())
        .ok_or_else(|| Failure::no_fleet("the origin has no address"))?;
    let repeat = settings.common.repeat;
    let made = match settings.kind {
        StudyKind::MemorySlope => {
            let most = SLOPE_CONCURRENCIES.into_iter().max().unwrap_or(1);
            let base = base.trim_end_matches('/');
            // As many URLs as the largest arm has slots, so that all are in use at
            // once, for long enough to be sampled.
            let lines = (0..most).map(|i| format!("{base}/{i}?delay=300ms&size=64"));
            UrlList::from_lines(Source::BuiltIn, lines, repeat)
        }
        StudyKind::Compare | StudyKind::Calibrate { .. } => {
            UrlList::from_lines(Source::BuiltIn, fanout_origin::builtin(base, seed), repeat)
        }
    };
    made.map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, io, path::Path};

    use clap::Parser;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        terminal::bar::Bar,
    };

    /// Keeps what is said.
    #[derive(Default)]
    struct Listener(RefCell<String>);

    impl Voice for Listener {
        fn say(&self, text: &str) {
            self.0.borrow_mut().push_str(text);
        }
        fn bar(&self, _: u64, _: String) -> Bar {
            Bar::hidden()
        }
        fn print(&self, _: &str) -> io::Result<()> {
            Ok(())
        }
        fn study(&self, _: &Study, _: &Store) -> io::Result<()> {
            Ok(())
        }
        fn kept(&self, _: &Path) {}
        fn study_of_series(&self, _: &Study) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn hosts_beyond_this_machine_are_spared_unless_somebody_said_how_far() {
        let spared = |url: &str, args: &[&str]| {
            let line = [&["coordinator", "study"], args].concat();
            let Command::Study(args) = Cli::parse_from(line).command else {
                unreachable!("study was typed");
            };
            let mut common = StudySettings::new(&args).unwrap().common;
            let lines = std::iter::once(url.to_owned());
            let list = UrlList::from_lines(Source::Stdin, lines, 1).unwrap();
            let listener = Listener::default();
            spare_others(&mut common, &list, &listener);
            let limit = common.hosts.max_per_host.map(std::num::NonZeroU32::get);
            (limit, listener.0.take())
        };
        let (limit, said) = spared("http://example.org/", &[]);
        assert_eq!(limit, Some(6));
        assert!(
            said.contains("at most 6 requests of a host at a time"),
            "{said}"
        );
        let (limit, said) = spared("http://example.org/", &["--max-per-host", "40"]);
        assert_eq!((limit, said.as_str()), (Some(40), ""));
        let (limit, said) = spared("http://127.0.0.1:8080/", &[]);
        assert_eq!((limit, said.as_str()), (None, ""));
        let (limit, said) = spared("http://example.org/", &["--split", "static"]);
        assert_eq!(limit, None);
        assert!(said.contains("no limit per host"), "{said}");
    }
}
