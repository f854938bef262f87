//! Results files: a record for every URL, while the run goes on.

mod files;
mod journal;
mod part;
mod records;
mod writer_thread;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use fanout_engine::{id_set::IdSet, ledger::Counts, trial::Accepted};
use fanout_proto::{
    completion::{Outcome, StartedBatch},
    control::ListIdentity,
    id::UrlId,
    time::{micros, seconds},
};
use tokio::sync::Notify;

use self::{
    part::{Claim, Claimed},
    records::Record,
    writer_thread::Outlet,
};
use crate::{
    run::{Sink, Who},
    terminal::reporter::Reporter,
    url_list::{ListError, UrlList},
};

pub use journal::{Header, Journal, JournalError, read as read_journal};
pub use part::PartError;
pub(crate) use records::id_of;
pub use records::{RecoverError, Recovered, recover};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// So many of the URLs that were given up are named at the end.
const ABANDONED_TOLD: usize = 5;

/// The form of a results file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON object a line.
    Jsonl,
    /// Comma-separated, with a header line.
    Csv,
}

impl Form {
    /// The usual end of a file's name.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// What stands before the first record.
    #[must_use]
    pub const fn head(self) -> &'static [u8] {
        match self {
            Self::Jsonl => b"",
            Self::Csv => records::CSV_HEADER,
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "JSON lines",
            Self::Csv => "CSV",
        }
    }
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, as JSON lines.
    Stdout,
    /// A file; it is called `NAME.part` until it is whole.
    File(PathBuf, Form),
}

/// A name that says no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--out {0}: the name must end in .jsonl or .csv, which says the form")]
pub struct UnknownForm(String);

impl Destination {
    /// Takes the form from the name's end.
    ///
    /// # Errors
    ///
    /// [`UnknownForm`].
    pub fn from_path(path: &Path) -> Result<Self, UnknownForm> {
        let form = match path.extension().and_then(|e| e.to_str()) {
            Some("jsonl" | "ndjson") => Form::Jsonl,
            Some("csv") => Form::Csv,
            _ => return Err(UnknownForm(path.display().to_string())),
        };
        Ok(Self::File(path.to_owned(), form))
    }
}

/// The name of a file that still grows.
#[must_use]
pub fn part_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Where results go, taken for this process: nobody else writes there.
#[derive(Debug)]
pub struct Taken(Place);

#[derive(Debug)]
enum Place {
    Stdout,
    File(Box<Claimed>),
}

impl Taken {
    /// Takes the destination. `None`: the fetch is to go on, and it is complete.
    ///
    /// # Errors
    ///
    /// [`PartError`].
    pub fn of(destination: &Destination, resume: bool) -> Result<Option<Self>, PartError> {
        Ok(match destination {
            Destination::Stdout => Some(Self(Place::Stdout)),
            Destination::File(path, form) => match Claim::of(files::System, path, *form, resume)? {
                Claimed::Whole => None,
                claimed => Some(Self(Place::File(Box::new(claimed)))),
            },
        })
    }

    /// The list that the records there are of, if there are any.
    #[must_use]
    pub fn list(&self) -> Option<&ListIdentity> {
        match &self.0 {
            Place::File(claimed) => match &**claimed {
                Claimed::Begun(_, journal) => Some(&journal.header.list),
                Claimed::Fresh(_) | Claimed::Whole => None,
            },
            Place::Stdout => None,
        }
    }

    /// Gives it back: nothing will be written.
    pub fn discard(self) {
        if let Place::File(claimed) = self.0
            && let Claimed::Fresh(claim) = *claimed
        {
            // An empty file that stays does no harm.
            let _ = claim.discard();
        }
    }

    /// Starts to write records of `list` there, behind those that are there.
    ///
    /// # Errors
    ///
    /// [`PartError`], also when those are of another list.
    pub fn open(self, list: &ListIdentity) -> Result<(Writer, Before), PartError> {
        let started = |path: &str, outlet: io::Result<Outlet>| {
            outlet.map_err(|error| PartError::Open {
                path: path.to_owned(),
                error,
            })
        };
        let claimed = match self.0 {
            Place::Stdout => {
                let stdout = || {
                    let ours = io::stdout().as_fd().try_clone_to_owned()?;
                    Outlet::start(File::from(ours))
                };
                let outlet = started("standard output", stdout())?;
                return Ok((Writer(outlet), Before::none(list)));
            }
            Place::File(claimed) => *claimed,
        };
        let (path, part, before) = match claimed {
            Claimed::Fresh(claim) => (claim.part_path(), claim.begin(list)?, Before::none(list)),
            Claimed::Begun(claim, journal) => {
                let path = claim.part_path();
                if !journal.header.list.is_same(list) {
                    return Err(PartError::OtherList {
                        part: path.display().to_string(),
                        theirs: Box::new(journal.header.list),
                        ours: Box::new(list.clone()),
                    });
                }
                let (part, recovered) = claim.go_on(&journal)?;
                let before = Before {
                    done: recovered.done,
                    counts: recovered.counts,
                };
                (path, part, before)
            }
            Claimed::Whole => unreachable!("it was not taken"),
        };
        let outlet = started(&path.display().to_string(), Outlet::start(part))?;
        Ok((Writer(outlet), before))
    }
}

/// What was recorded by earlier runs.
#[derive(Debug)]
pub struct Before {
    /// Which URLs.
    pub done: IdSet,
    /// How they ended.
    pub counts: Counts,
}

impl Before {
    fn none(list: &ListIdentity) -> Self {
        Self {
            done: IdSet::new(list.urls),
            counts: Counts::default(),
        }
    }
}

/// Writes bytes of records on a thread of its own, and acknowledges them.
#[derive(Debug)]
pub struct Writer(Outlet);

impl Writer {
    /// Hands records over, and gets an empty buffer for the next ones.
    ///
    /// # Errors
    ///
    /// What was met while earlier ones were written.
    pub fn push(&self, records: Vec<u8>) -> io::Result<Vec<u8>> {
        self.0.push(records)
    }

    /// What was met while earlier records were written, if nobody was told yet.
    ///
    /// # Errors
    ///
    /// That.
    pub fn check(&self) -> io::Result<()> {
        self.0.check()
    }

    /// When so much waits to be written that no more is to come: what tells
    /// that there may be room again.
    #[must_use]
    pub fn full(&self) -> Option<Arc<Notify>> {
        self.0.full()
    }

    /// Writes what is left, and gives a complete file its name. After
    /// `patience` nothing more is waited for.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the part stays.
    pub async fn finish(
        self,
        complete: bool,
        patience: impl Future<Output = ()>,
    ) -> io::Result<()> {
        self.0.finish(complete, patience).await
    }
}

/// Records are put together in memory and written in large pieces: a call
/// for every field would cost more than the record.
enum Gathered {
    Jsonl(Vec<u8>),
    Csv(Box<csv::Writer<Vec<u8>>>),
}

impl Gathered {
    fn new(form: Form, mut room: Vec<u8>) -> Self {
        room.reserve(BUFFER_BYTES + BUFFER_BYTES / 8);
        match form {
            Form::Jsonl => Self::Jsonl(room),
            Form::Csv => {
                let mut builder = csv::WriterBuilder::new();
                Self::Csv(Box::new(builder.has_headers(false).from_writer(room)))
            }
        }
    }

    /// Adds a record; says how many bytes there are by now, or a few less.
    fn push(&mut self, record: &Record<'_>) -> io::Result<usize> {
        Ok(match self {
            Self::Jsonl(text) => {
                serde_json::to_writer(&mut *text, record)?;
                text.push(b'\n');
                text.len()
            }
            Self::Csv(writer) => {
                writer.serialize(record).map_err(io::Error::other)?;
                writer.get_ref().len()
            }
        })
    }

    fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Jsonl(text) => Ok(text),
            Self::Csv(writer) => writer
                .into_inner()
                .map_err(|error| io::Error::other(error.to_string())),
        }
    }
}

/// Puts records together and hands them to the writer.
struct Output {
    form: Form,
    gathered: Gathered,
    writer: Writer,
}

impl Output {
    fn push(&mut self, record: &Record<'_>) -> io::Result<()> {
        if self.gathered.push(record)? >= BUFFER_BYTES {
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let nothing = Gathered::Jsonl(Vec::new());
        let bytes = std::mem::replace(&mut self.gathered, nothing).into_bytes()?;
        let room = if bytes.is_empty() {
            self.writer.check()?;
            bytes
        } else {
            self.writer.push(bytes)?
        };
        self.gathered = Gathered::new(self.form, room);
        Ok(())
    }
}

/// Whom starts and ends are told, one by one.
enum Told<'a> {
    Nobody,
    /// Somebody who never keeps us waiting.
    Voice(&'a dyn Reporter),
    /// Somebody at a terminal or behind a pipe.
    Outlet(Outlet),
}

impl<'a> Told<'a> {
    fn of(reporter: Option<&'a dyn Reporter>) -> Self {
        let Some(reporter) = reporter else {
            return Self::Nobody;
        };
        let outlet = reporter
            .may_block()
            .and_then(|fd| Outlet::start(File::from(fd)).ok());
        outlet.map_or(Self::Voice(reporter), Self::Outlet)
    }

    fn is_somebody(&self) -> bool {
        !matches!(self, Self::Nobody)
    }

    /// Whether anybody listens does not matter to the results.
    fn say(&self, lines: &str) {
        match self {
            Self::Nobody => {}
            Self::Voice(reporter) => reporter.say(lines),
            Self::Outlet(outlet) => {
                let _ = outlet.push(lines.as_bytes().to_vec());
            }
        }
    }
}

/// Writes a record for every URL.
pub struct Results<'a> {
    list: &'a UrlList,
    output: Output,
    told: Told<'a>,
    order: Vec<u32>,
    text: String,
    spans: Vec<(usize, usize)>,
    lines: String,
    /// Of every kind of failure, the first one in words.
    examples: BTreeMap<Outcome, String>,
    /// URLs among the examples that were given up.
    abandoned_told: usize,
}

fn to_io(error: ListError) -> io::Error {
    io::Error::other(error)
}

impl<'a> Results<'a> {
    /// Writes in the destination's form; starts and ends are `told` one by one.
    #[must_use]
    pub(crate) fn new(
        writer: Writer,
        destination: &Destination,
        list: &'a UrlList,
        told: Option<&'a dyn Reporter>,
    ) -> Self {
        let form = match destination {
            Destination::Stdout => Form::Jsonl,
            Destination::File(_, form) => *form,
        };
        Self {
            list,
            output: Output {
                form,
                gathered: Gathered::new(form, Vec::new()),
                writer,
            },
            told: Told::of(told),
            order: Vec::new(),
            text: String::new(),
            spans: Vec::new(),
            lines: String::new(),
            examples: BTreeMap::new(),
            abandoned_told: 0,
        }
    }

    /// Finds the text of every id, to be had by position afterwards.
    fn look_up(&mut self, ids: impl Iterator<Item = UrlId> + Clone) -> io::Result<()> {
        self.text.clear();
        self.spans.clear();
        self.order.clear();
        self.order
            .extend((0_u32..).zip(ids.clone()).map(|(i, _)| i));
        self.spans.resize(self.order.len(), (0, 0));
        let ids: Vec<_> = ids.collect();
        let id_at = |position: u32| ids[usize::try_from(position).unwrap_or(usize::MAX)];
        self.order.sort_unstable_by_key(|position| id_at(*position));
        let mut positions = self.order.iter();
        let (text, spans) = (&mut self.text, &mut self.spans);
        let sorted = self.order.iter().map(|position| id_at(*position));
        self.list
            .look_up(sorted, |_, url| {
                let start = text.len();
                // The list was checked; a file that changed since may hold anything.
                match std::str::from_utf8(url) {
                    Ok(url) => text.push_str(url),
                    Err(_) => text.push_str(&String::from_utf8_lossy(url)),
                }
                if let Some(position) = positions.next() {
                    spans[usize::try_from(*position).unwrap_or(usize::MAX)] = (start, text.len());
                }
            })
            .map_err(to_io)
    }

    /// Of every kind of failure, one in words.
    #[must_use]
    pub fn examples(&self) -> Vec<(String, String)> {
        self.examples
            .iter()
            .map(|(outcome, text)| (outcome.to_string(), text.clone()))
            .collect()
    }

    /// Writes what is left, and gives a complete file its name. After
    /// `patience` nothing more is waited for.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the part stays.
    pub async fn finish(
        mut self,
        complete: bool,
        patience: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let handed_over = self.output.hand_over();
        let complete = complete && handed_over.is_ok();
        let mut patience = pin!(patience);
        let writer = self.output.writer;
        let finished = writer.finish(complete, patience.as_mut()).await;
        if let Told::Outlet(outlet) = self.told {
            let _ = outlet.finish(complete, patience).await;
        }
        handed_over.and(finished)
    }
}

impl Sink for Results<'_> {
    fn started(&mut self, _: &Who<'_>, batch: &StartedBatch) -> io::Result<()> {
        if !self.told.is_somebody() {
            return Ok(());
        }
        self.look_up(batch.starts.iter().map(|(id, _)| *id))?;
        self.lines.clear();
        for ((id, _), (start, end)) in batch.starts.iter().zip(&self.spans) {
            let _ = writeln!(self.lines, "start {id} {}", &self.text[*start..*end]);
        }
        self.told.say(&self.lines);
        Ok(())
    }

    fn record(
        &mut self,
        who: &Who<'_>,
        accepted: &[Accepted],
        details: &[(u32, String)],
    ) -> io::Result<()> {
        self.look_up(accepted.iter().map(|a| a.completion.id))?;
        self.lines.clear();
        let went = micros(who.went);
        for (one, (start, end)) in accepted.iter().zip(&self.spans) {
            let c = &one.completion;
            let url = &self.text[*start..*end];
            let start_us = c.start_us.saturating_add(went);
            let record = Record {
                id: c.id.0,
                url: Cow::Borrowed(url),
                outcome: Cow::Borrowed(c.outcome.name()),
                status: c.status,
                bytes: c.body_bytes,
                start_s: Some(seconds(start_us)),
                first_byte_s: c
                    .first_byte_us
                    .map(|us| seconds(start_us.saturating_add(us))),
                end_s: Some(seconds(start_us.saturating_add(c.duration_us))),
                worker: Some(Cow::Borrowed(who.worker)),
                fetcher: Some(who.fetcher.0),
                attempt: one.attempt,
            };
            self.output.push(&record)?;
            let failed = c.outcome != Outcome::Ok;
            let detail = if failed {
                details
                    .iter()
                    .find(|(position, _)| *position == one.position)
            } else {
                None
            };
            if let Some((_, detail)) = detail {
                self.examples
                    .entry(c.outcome)
                    .or_insert_with(|| format!("{url}: {detail}"));
            }
            if self.told.is_somebody() {
                let detail = detail.map_or(String::new(), |(_, text)| format!(" ({text})"));
                let status = c.status.map_or(String::new(), |s| format!(" {s}"));
                let _ = writeln!(
                    self.lines,
                    "done  {} {}{status} {} bytes in {:.1} ms{detail} {url}",
                    c.id,
                    c.outcome,
                    c.body_bytes,
                    seconds(c.duration_us) * 1e3,
                );
            }
        }
        if self.told.is_somebody() {
            self.told.say(&self.lines);
        }
        Ok(())
    }

    fn abandoned(&mut self, ids: &[UrlId]) -> io::Result<()> {
        self.look_up(ids.iter().copied())?;
        for (id, (start, end)) in ids.iter().zip(&self.spans) {
            let record = Record {
                id: id.0,
                url: Cow::Borrowed(&self.text[*start..*end]),
                outcome: Cow::Borrowed(Outcome::Abandoned.name()),
                status: None,
                bytes: 0,
                start_s: None,
                first_byte_s: None,
                end_s: None,
                worker: None,
                fetcher: None,
                attempt: fanout_engine::ledger::LOSSES_MAX,
            };
            self.output.push(&record)?;
            if self.abandoned_told < ABANDONED_TOLD {
                self.abandoned_told += 1;
                let told = self.examples.entry(Outcome::Abandoned).or_default();
                if !told.is_empty() {
                    told.push_str(", ");
                }
                told.push_str(&record.url);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Who watches the file sees it grow.
        self.output.hand_over()
    }

    fn full(&self) -> Option<Arc<Notify>> {
        self.output.writer.full().or_else(|| match &self.told {
            Told::Outlet(outlet) => outlet.full(),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url_list::Source;

    #[tokio::test]
    async fn abandoned_urls_are_listed_and_some_are_named() {
        let lines = (0..9).map(|i| format!("http://a.example/{i}"));
        let list = UrlList::from_lines(Source::BuiltIn, lines, 1).expect("a list");
        let place = tempfile::TempDir::new().expect("a directory");
        let path = place.path().join("got.jsonl");
        let destination = Destination::File(path.clone(), Form::Jsonl);
        let taken = Taken::of(&destination, false).expect("a directory");
        let opened = taken.expect("nothing yet").open(&list.identity());
        let (writer, _) = opened.expect("a file");
        let mut results = Results::new(writer, &destination, &list, None);
        results.abandoned(&[UrlId(1)]).expect("written");
        let more: Vec<_> = (2..9).map(UrlId).collect();
        results.abandoned(&more).expect("written");
        let examples = results.examples();
        let urls = (1..=ABANDONED_TOLD).map(|i| format!("http://a.example/{i}"));
        let told = urls.collect::<Vec<_>>().join(", ");
        assert_eq!(examples, [("abandoned".to_owned(), told)]);
        let never = std::future::pending();
        results.finish(true, never).await.expect("renamed");
        let text = std::fs::read_to_string(&path).expect("the file");
        let ids: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .map(|record: serde_json::Value| {
                assert_eq!(record["outcome"], "abandoned");
                assert_eq!(record["attempt"], 3);
                record["id"].as_u64().expect("an id")
            })
            .collect();
        assert_eq!(ids, (1..9).collect::<Vec<_>>());
    }
}
