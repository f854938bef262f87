//! Results files: a record for every URL, while the run goes on.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use fanout_proto::{
    completion::{Outcome, StartedBatch},
    id::UrlId,
};
use serde::Serialize;

use crate::{
    drive::{Progress, Sink, Who},
    trial::Accepted,
    url_list::{ListError, UrlList},
    voice::Voice,
};

/// Octets gathered before they are written.
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

/// The names of a record's fields, as `Record` writes them.
const CSV_HEADER: &[u8] =
    b"id,url,outcome,status,bytes,start_s,first_byte_s,end_s,worker,fetcher,attempt\n";

/// One URL's record. Times are in seconds since the fetchers went, on the
/// fetcher's clock.
#[derive(Debug, Serialize)]
struct Record<'a> {
    id: u64,
    url: &'a str,
    outcome: &'a str,
    status: Option<u16>,
    bytes: u64,
    start_s: Option<f64>,
    first_byte_s: Option<f64>,
    end_s: Option<f64>,
    worker: Option<&'a str>,
    fetcher: Option<u32>,
    attempt: u8,
}

/// Records are put together in memory and written in large pieces: a call
/// for every field would cost more than the record.
struct Output {
    to: Box<dyn Write>,
    gathered: Gathered,
}

enum Gathered {
    Jsonl(Vec<u8>),
    Csv(Box<csv::Writer<Vec<u8>>>),
}

impl Gathered {
    fn new(form: Form) -> Self {
        let room = Vec::with_capacity(BUFFER_BYTES + BUFFER_BYTES / 8);
        match form {
            Form::Jsonl => Self::Jsonl(room),
            Form::Csv => {
                let mut builder = csv::WriterBuilder::new();
                Self::Csv(Box::new(builder.has_headers(false).from_writer(room)))
            }
        }
    }
}

impl Output {
    fn push(&mut self, record: &Record<'_>) -> io::Result<()> {
        let gathered = match &mut self.gathered {
            Gathered::Jsonl(text) => {
                serde_json::to_writer(&mut *text, record)?;
                text.push(b'\n');
                text.len()
            }
            Gathered::Csv(writer) => {
                writer.serialize(record).map_err(io::Error::other)?;
                writer.get_ref().len()
            }
        };
        if gathered >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.gathered {
            Gathered::Jsonl(text) => {
                self.to.write_all(text)?;
                text.clear();
            }
            Gathered::Csv(writer) => {
                writer.flush()?;
                self.to.write_all(writer.get_ref())?;
                self.gathered = Gathered::new(Form::Csv);
            }
        }
        self.to.flush()
    }
}

/// Writes a record for every URL.
pub struct Results<'a> {
    list: &'a UrlList,
    output: Output,
    file: Option<(File, PathBuf)>,
    told: Option<&'a dyn Voice>,
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
    /// Opens the destination; starts and ends are `told` one by one.
    ///
    /// # Errors
    ///
    /// When the file cannot be created.
    pub fn open(
        destination: &Destination,
        list: &'a UrlList,
        told: Option<&'a dyn Voice>,
    ) -> io::Result<Self> {
        let (to, form, file): (Box<dyn Write>, _, _) = match destination {
            Destination::Stdout => (Box::new(io::stdout()), Form::Jsonl, None),
            Destination::File(path, form) => {
                let file = File::create(part_name(path))?;
                let to = Box::new(file.try_clone()?);
                (to, *form, Some((file, path.clone())))
            }
        };
        let mut output = Output {
            to,
            gathered: Gathered::new(form),
        };
        if form == Form::Csv {
            output.to.write_all(CSV_HEADER)?;
        }
        Ok(Self {
            list,
            output,
            file,
            told,
            order: Vec::new(),
            text: String::new(),
            spans: Vec::new(),
            lines: String::new(),
            examples: BTreeMap::new(),
            abandoned_told: 0,
        })
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

    /// Flushes, and gives a finished file its name.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the part stays.
    pub fn finish(mut self, complete: bool) -> io::Result<()> {
        self.output.flush()?;
        let Some((file, path)) = self.file else {
            return Ok(());
        };
        file.sync_all()?;
        if complete {
            std::fs::rename(part_name(&path), &path)?;
        }
        Ok(())
    }
}

fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}

impl Sink for Results<'_> {
    fn started(&mut self, _: &Who<'_>, batch: &StartedBatch) -> io::Result<()> {
        let Some(voice) = self.told else {
            return Ok(());
        };
        self.look_up(batch.starts.iter().map(|(id, _)| *id))?;
        self.lines.clear();
        for ((id, _), (start, end)) in batch.starts.iter().zip(&self.spans) {
            let _ = writeln!(self.lines, "start {id} {}", &self.text[*start..*end]);
        }
        voice.say(&self.lines);
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
        let went = u64::try_from(who.went.as_micros()).unwrap_or(u64::MAX);
        for (one, (start, end)) in accepted.iter().zip(&self.spans) {
            let c = &one.completion;
            let url = &self.text[*start..*end];
            let start_us = c.start_us.saturating_add(went);
            let record = Record {
                id: c.id.0,
                url,
                outcome: c.outcome.name(),
                status: c.status,
                bytes: c.body_bytes,
                start_s: Some(seconds(start_us)),
                first_byte_s: c
                    .first_byte_us
                    .map(|us| seconds(start_us.saturating_add(us))),
                end_s: Some(seconds(start_us.saturating_add(c.duration_us))),
                worker: Some(who.worker),
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
            if self.told.is_some() {
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
        if let Some(voice) = self.told {
            voice.say(&self.lines);
        }
        Ok(())
    }

    fn abandoned(&mut self, ids: &[UrlId]) -> io::Result<()> {
        self.look_up(ids.iter().copied())?;
        for (id, (start, end)) in ids.iter().zip(&self.spans) {
            let record = Record {
                id: id.0,
                url: &self.text[*start..*end],
                outcome: Outcome::Abandoned.name(),
                status: None,
                bytes: 0,
                start_s: None,
                first_byte_s: None,
                end_s: None,
                worker: None,
                fetcher: None,
                attempt: crate::ledger::LOSSES_MAX,
            };
            self.output.push(&record)?;
            if self.abandoned_told < ABANDONED_TOLD {
                self.abandoned_told += 1;
                let told = self.examples.entry(Outcome::Abandoned).or_default();
                if !told.is_empty() {
                    told.push_str(", ");
                }
                told.push_str(record.url);
            }
        }
        Ok(())
    }

    fn progress(&mut self, _: &Progress) -> io::Result<()> {
        // Whoever watches the file sees it grow.
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url_list::Source;

    #[test]
    fn abandoned_urls_are_listed_and_some_are_named() {
        let lines = (0..9).map(|i| format!("http://a.example/{i}"));
        let list = UrlList::from_lines(Source::BuiltIn, lines, 1).expect("a list");
        let place = tempfile::TempDir::new().expect("a directory");
        let path = place.path().join("got.jsonl");
        let destination = Destination::File(path.clone(), Form::Jsonl);
        let mut results = Results::open(&destination, &list, None).expect("a file");
        results.abandoned(&[UrlId(1)]).expect("written");
        let more: Vec<_> = (2..9).map(UrlId).collect();
        results.abandoned(&more).expect("written");
        let examples = results.examples();
        let urls = (1..=ABANDONED_TOLD).map(|i| format!("http://a.example/{i}"));
        let told = urls.collect::<Vec<_>>().join(", ");
        assert_eq!(examples, [("abandoned".to_owned(), told)]);
        results.finish(true).expect("renamed");
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
