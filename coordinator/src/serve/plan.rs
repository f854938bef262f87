//! From a submission to what is run. The arguments go the same way as on a
//! local run, so that the same ones are refused with the same words; only the
//! files that they name are replaced by those that the client sent.

use std::{
    cell::RefCell,
    fs,
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
};

use clap::Parser;
use fanout_engine::id_set::IdSet;
use fanout_proto::{
    arm::Client,
    control::{JobKind, ListIdentity, Submission},
    id::JobId,
};

use super::data::Data;
use crate::{
    cli::{CommandLine, CoordinatorCommand},
    exit::Failure,
    fetch,
    results::{Destination, PartError, part_name},
    settings::{FetchSettings, RunArgs, StudySettings},
    study::PreparedStudy,
    terminal::{
        command::without_secrets,
        reporter::{Report, Reporter},
    },
    url_list::{Source, UrlList},
};

/// A study's results: a line of JSON for each study.
const STUDY_RESULTS: &str = "results.studies";
const FETCH_RESULTS: [&str; 2] = ["results.jsonl", "results.csv"];

/// What a job will do; everything that can be checked was.
#[derive(Debug)]
pub(super) enum JobPlan {
    /// A study, and the name under which it is kept.
    Study(Box<PreparedStudy>, String),
    /// A fetch, and what the client has of it already.
    Fetch(Box<FetchSettings>, UrlList, Option<IdSet>),
}

#[derive(Debug)]
pub(super) struct Received {
    pub(super) submission: Submission,
    pub(super) id: JobId,
    pub(super) directory: PathBuf,
    /// The list's bytes, if some were sent.
    pub(super) list: Option<PathBuf>,
    /// Which URLs of a resumed fetch are done, a bit each.
    pub(super) done: Option<PathBuf>,
}

impl JobPlan {
    /// Checks a submission, and says where its requests would go. Reads the
    /// list through once: not for an event loop.
    pub(super) fn check(
        received: &Received,
        data: &Data,
        origin: Option<&str>,
        declared: &[Client],
    ) -> (Result<Self, Failure>, String) {
        let said = CheckReport::default();
        let plan = Self::new(received, data, origin, declared, &said);
        (plan, said.0.take())
    }

    fn new(
        received: &Received,
        data: &Data,
        origin: Option<&str>,
        declared: &[Client],
        reporter: &CheckReport,
    ) -> Result<Self, Failure> {
        let typed = &received.submission.arguments;
        let line = std::iter::once("coordinator").chain(typed.iter().map(String::as_str));
        let cli = CommandLine::try_parse_from(line).map_err(|error| {
            let text = error.to_string();
            Failure::usage(text.trim_start_matches("error: ").trim_end())
        })?;
        match cli.command {
            CoordinatorCommand::Study(mut args) => {
                let (name, directory) = data.study_directory(received.id, jiff::Timestamp::now());
                let source = received.replace(&mut args.run, origin)?;
                received.has_list(args.urls.is_some())?;
                args.urls = received.list.clone();
                args.out = Some(directory);
                let mut settings = StudySettings::new(&args, declared)?;
                settings.common.source = source.unwrap_or(settings.common.source);
                let command = [vec!["coordinator".to_owned()], without_secrets(typed)].concat();
                let prepared = PreparedStudy::new(settings, command, reporter)?;
                Ok(Self::Study(Box::new(prepared), name))
            }
            CoordinatorCommand::Fetch(mut args) => {
                let source = received.replace(&mut args.run, origin)?;
                received.has_list(true)?;
                args.urls = received.list.clone().unwrap_or_default();
                let form = match args.out.as_deref().map(Destination::from_path).transpose()? {
                    Some(Destination::File(_, crate::results::Form::Csv)) => FETCH_RESULTS[1],
                    _ => FETCH_RESULTS[0],
                };
                let theirs = args.out.replace(received.directory.join(form));
                // What there is already is the client's, and stays there.
                args.resume = false;
                let mut settings = FetchSettings::new(&args, declared)?;
                settings.common.source = source.unwrap_or(settings.common.source);
                let list = fetch::open(&settings)?;
                let done = received.done(&list, theirs.as_deref())?;
                Ok(Self::Fetch(Box::new(settings), list, done))
            }
            _ => Err(Failure::usage("only study and fetch run on a fleet")),
        }
    }

    pub(super) fn kind(&self) -> JobKind {
        match self {
            Self::Study(..) => JobKind::Study,
            Self::Fetch(..) => JobKind::Fetch,
        }
    }

    pub(super) fn workers(&self) -> u32 {
        match self {
            Self::Study(prepared, _) => prepared.settings.common.workers,
            // None is needed where nothing is left.
            Self::Fetch(_, _, Some(done)) if done.is_full() => 0,
            Self::Fetch(settings, ..) => settings.common.workers,
        }
    }

    /// The origin that its built-in list leads to, if it has one.
    pub(super) fn origin(&self) -> Option<String> {
        match self {
            Self::Study(prepared, _) => prepared.settings.common.origin.clone(),
            Self::Fetch(..) => None,
        }
    }

    /// The name of its study; empty if it is none.
    pub(super) fn study(&self) -> &str {
        match self {
            Self::Study(_, name) => name,
            Self::Fetch(..) => "",
        }
    }

    /// Of a fetch, the list that its records are of.
    pub(super) fn list(&self) -> Option<ListIdentity> {
        match self {
            Self::Study(..) => None,
            Self::Fetch(_, list, _) => Some(list.identity()),
        }
    }

    pub(super) fn discard(&self) {
        if let Self::Study(prepared, _) = self {
            prepared.discard();
        }
    }

    /// Where the results of a job in `directory` are, or will be.
    pub(super) fn results(directory: &Path) -> Vec<PathBuf> {
        let fetched = FETCH_RESULTS.map(|name| directory.join(name));
        let growing = fetched.clone().map(|path| part_name(&path));
        // A finished file may have got its name between two looks.
        let studies = [study_results(directory)];
        studies.into_iter().chain(growing).chain(fetched).collect()
    }
}

/// Where the studies of a job in `directory` are passed on.
pub(super) fn study_results(directory: &Path) -> PathBuf {
    directory.join(STUDY_RESULTS)
}

impl Received {
    /// Puts the client's files in the place of those that it named: no name in
    /// a submission is ever opened here.
    fn replace(&self, args: &mut RunArgs, origin: Option<&str>) -> Result<Option<Source>, Failure> {
        let RunArgs { fleet, http, .. } = args;
        // Whatever the client calls this coordinator, and however it gets in.
        fleet.coordinator = Some(String::new());
        fleet.access = Default::default();
        fleet.origin = fleet.origin.take().or(origin.map(str::to_owned));
        if let Some(path) = &mut http.cacert {
            *path = self.directory.join("ca.pem");
            fs::write(path, &self.submission.ca_certificates)
                .map_err(|error| cannot_keep(&error))?;
        }
        Ok(self.list.as_ref().map(|path| Source::Sent {
            name: self.submission.list_name.clone().unwrap_or_default(),
            path: path.clone(),
        }))
    }

    /// Which URLs are done, of a fetch that goes on: only with the list that it was begun with.
    fn done(&self, list: &UrlList, out: Option<&Path>) -> Result<Option<IdSet>, Failure> {
        let Some((path, theirs)) = self.done.as_ref().zip(self.submission.resumed.clone()) else {
            return Ok(None);
        };
        let ours = list.identity();
        if !theirs.is_same(&ours) {
            return Err(Failure::usage(PartError::OtherList {
                part: part_name(out.unwrap_or(Path::new("the results"))).display().to_string(),
                theirs: Box::new(theirs),
                ours: Box::new(ours),
            }));
        }
        let read = fs::File::open(path)
            .and_then(|file| IdSet::from_bytes(ours.urls, BufReader::new(file).bytes()));
        let done = read.map_err(|error| cannot_keep(&error))?;
        // It was read into memory.
        let _ = fs::remove_file(path);
        done.map(Some)
            .ok_or_else(|| Failure::usage("what the client says is done does not fit the URL list"))
    }

    fn has_list(&self, wanted: bool) -> Result<(), Failure> {
        match (wanted, &self.list) {
            (true, None) => Err(Failure::usage("the URL list did not come with the job")),
            (false, Some(_)) => Err(Failure::usage("a URL list came that the job does not name")),
            _ => Ok(()),
        }
    }
}

pub(super) fn cannot_keep(error: &io::Error) -> Failure {
    Failure::incomplete(format!("the coordinator cannot keep the job: {error}"))
}

#[derive(Debug, Default)]
struct CheckReport(RefCell<String>);

impl Reporter for CheckReport {
    fn report(&self, report: Report<'_>) -> io::Result<()> {
        if let Report::Line(text) | Report::Result(text) = report {
            let mut said = self.0.borrow_mut();
            said.push_str(text.trim_end());
            said.push('\n');
        }
        Ok(())
    }
}
