//! `coordinator study`: blocks of trials, then comparisons.

mod block_workers;
mod calibrate;
mod manifest;
mod origin;
mod part;
mod runner;
mod schedule;
pub(crate) mod store;

pub(crate) use origin::client as origin_client;

use std::{sync::Arc, time::Duration};

use fanout_analysis::record::{self, Study};
use fanout_engine::{ledger::Split, politeness::MODEST_MAX_PER_HOST};

use crate::{
    exit::{CommandExit, Failure},
    local::{
        environment::{Environment, LocalEnvironment},
        signals::RunSignals,
    },
    run::Stop,
    settings::{Common, StudyKind, StudySettings},
    study::{
        calibrate::calibrate,
        origin::OriginProbe,
        part::Part,
        runner::{StudyContext, StudyEnd, run_study},
        store::Store,
    },
    terminal::{
        Terminal,
        announce::announce,
        print::PrintArgs,
        reporter::{Report, Reporter},
    },
    url_list::{Source, UrlList},
};

pub(crate) async fn run(settings: StudySettings, print: PrintArgs) -> Result<CommandExit, Failure> {
    let reporter = Terminal::new(print);
    let prepared = PreparedStudy::new(settings, manifest::own_command(), &reporter)?;
    let signals = RunSignals::listen(false).map_err(Failure::incomplete)?;
    let common = &prepared.settings.common;
    let slots = common.local_slots(&prepared.settings.arms);
    let origin_seed = prepared.own.is_none().then_some(prepared.seed);
    let local = LocalEnvironment::start(common, slots, origin_seed).await;
    let mut local = local.inspect_err(|_| prepared.store.discard())?;
    let result = prepared.run(local.environment(), &signals.stop, &reporter).await;
    local.end().await;
    result
}

/// A study whose list was checked and whose directory is there; nothing runs.
#[derive(Debug)]
pub(crate) struct PreparedStudy {
    pub(crate) settings: StudySettings,
    seed: u64,
    /// `None`: the origin's.
    own: Option<Arc<UrlList>>,
    store: Store,
    command: Vec<String>,
}

impl PreparedStudy {
    /// Checks the list and makes the directory; `command` is what was typed.
    pub(crate) fn new(
        mut settings: StudySettings,
        command: Vec<String>,
        reporter: &dyn Reporter,
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
            ask_first(&settings, list, reporter)?;
            spare_others(&mut settings.common, list, reporter);
        }
        let store = Store::create(settings.out.as_deref())?;
        Ok(Self {
            seed: settings.seed.unwrap_or_else(manifest::fresh_seed),
            settings,
            own: own.map(Arc::new),
            store,
            command,
        })
    }

    /// Takes the directory away again, of a study that will not run.
    pub(crate) fn discard(&self) {
        self.store.discard();
    }

    /// Runs it. A study that never began leaves no directory behind.
    pub(crate) async fn run(
        &self,
        mut environment: Environment<'_>,
        stop: &Stop,
        reporter: &dyn Reporter,
    ) -> Result<CommandExit, Failure> {
        let parts = match &self.own {
            Some(list) => {
                // The list is what is fetched; the origin has no part in it.
                environment.origin = None;
                vec![Part::own(&self.settings, list)]
            }
            None => {
                let origin = environment.origin.as_ref();
                let origin = origin.ok_or_else(|| Failure::no_fleet("the origin has no address"));
                origin
                    .and_then(|origin| Part::at_origin(&self.settings, &origin.url, self.seed))
                    .inspect_err(|_| self.store.discard())?
            }
        };
        let probe = OriginProbe::new(environment.origin.as_ref().map(|origin| &*origin.url));
        if let Some(origin) = environment.origin.as_mut().filter(|origin| !origin.embedded) {
            origin.threads = probe.threads().await.unwrap_or_default();
        }
        if self.settings.kind == StudyKind::Map {
            let minutes = Part::expected(&parts).as_secs_f64() / 60.0;
            let cells = parts.len();
            let arms = match self.settings.arms.len() {
                1 => "1 arm".to_owned(),
                arms => format!("{arms} arms"),
            };
            reporter
                .say(&format!("a map of {cells} cells and {arms} takes about {minutes:.1} min"));
        }
        let command = &self.command;
        let mut on = StudyContext { command, environment, probe, stop, reporter };
        match self.settings.kind {
            StudyKind::Calibrate { studies, inject } => {
                calibrate(&mut on, &parts, self.seed, studies, inject, &self.store).await
            }
            StudyKind::Compare | StudyKind::MemorySlope | StudyKind::Map => {
                let none = Duration::ZERO;
                let (study, ended) = run_study(&mut on, &parts, self.seed, none, &self.store).await;
                conclude_and_show(study, &self.store, ended, reporter).await
            }
        }
    }
}

async fn conclude_and_show(
    study: Study,
    store: &Store,
    ended: Result<StudyEnd, Failure>,
    reporter: &dyn Reporter,
) -> Result<CommandExit, Failure> {
    let interrupted = !matches!(ended, Ok(StudyEnd::Complete | StudyEnd::OutOfTime));
    if study.parts().next().is_none() {
        store.discard();
        ended?;
        return Ok(CommandExit::Interrupted);
    }
    let study = Study { interrupted, ..study };
    let study = store.conclude_and_save(study).await?;
    reporter.report(Report::Study(&study, &store.report())).map_err(Failure::incomplete)?;
    Ok(match ended? {
        StudyEnd::Interrupted => CommandExit::Interrupted,
        StudyEnd::Complete | StudyEnd::OutOfTime if comparable(&study) => CommandExit::Done,
        StudyEnd::Complete | StudyEnd::OutOfTime => CommandExit::Incomplete,
    })
}

/// Whether every arm has a valid trial, at every server, in which it fetched something.
fn comparable(study: &Study) -> bool {
    study.parts().all(|part| {
        let fetched = |trial: &record::TrialRecord| trial.valid && trial.completed > 0;
        let measured =
            |arm: &record::ArmRecord| part.trials.iter().any(|t| fetched(t) && t.arm == arm.name);
        let abandoned = part.trials.iter().any(|t| t.valid && t.abandoned > 0);
        !abandoned && part.arms.iter().all(measured)
    })
}

/// Where the requests will go, and whether that is wanted.
fn ask_first(
    settings: &StudySettings,
    list: &UrlList,
    reporter: &dyn Reporter,
) -> Result<(), Failure> {
    let (hosts, _) = list.beyond_loopback();
    if hosts.is_empty() {
        return Ok(());
    }
    announce(list, reporter);
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

/// Hosts beyond this machine are spared, unless a flag says how far.
fn spare_others(common: &mut Common, list: &UrlList, reporter: &dyn Reporter) {
    if list.beyond_loopback().0.is_empty() || common.hosts.max_per_host.is_some() {
        return;
    }
    if common.split == Split::Static {
        reporter.say(
            "no limit per host: with --split static fetchers know nothing of one another's hosts",
        );
        return;
    }
    common.hosts.max_per_host = Some(MODEST_MAX_PER_HOST);
    reporter.say(&format!(
        "at most {MODEST_MAX_PER_HOST} requests of a host at a time, which arms with more in flight may \
         feel; --max-per-host N sets another limit"
    ));
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, io};

    use clap::Parser;

    use super::*;
    use crate::cli::{CommandLine, CoordinatorCommand};

    #[derive(Default)]
    struct Listener(RefCell<String>);

    impl Reporter for Listener {
        fn report(&self, report: Report<'_>) -> io::Result<()> {
            if let Report::Line(text) = report {
                self.0.borrow_mut().push_str(text);
            }
            Ok(())
        }
    }

    #[test]
    fn hosts_beyond_this_machine_are_spared_unless_a_flag_says_how_far() {
        let spared = |url: &str, args: &[&str]| {
            let line = [&["coordinator", "study"], args].concat();
            let CoordinatorCommand::Study(args) = CommandLine::parse_from(line).command else {
                unreachable!("study was typed");
            };
            let mut common = StudySettings::new(&args, &[]).unwrap().common;
            let lines = std::iter::once(url.to_owned());
            let list = UrlList::from_lines(Source::Stdin, lines, 1).unwrap();
            let listener = Listener::default();
            spare_others(&mut common, &list, &listener);
            let limit = common.hosts.max_per_host.map(std::num::NonZeroU32::get);
            (limit, listener.0.take())
        };
        let (limit, said) = spared("http://example.org/", &[]);
        assert_eq!(limit, Some(6));
        assert!(said.contains("at most 6 requests of a host at a time"), "{said}");
        let (limit, said) = spared("http://example.org/", &["--max-per-host", "40"]);
        assert_eq!((limit, said.as_str()), (Some(40), ""));
        let (limit, said) = spared("http://127.0.0.1:8080/", &[]);
        assert_eq!((limit, said.as_str()), (None, ""));
        let (limit, said) = spared("http://example.org/", &["--split", "static"]);
        assert_eq!(limit, None);
        assert!(said.contains("no limit per host"), "{said}");
    }
}
