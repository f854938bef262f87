//! Results files: a record for every URL, while the run goes on.

mod destination;
mod files;
mod journal;
mod narrator;
mod output;
mod part;
mod records;
mod writer_thread;

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _, io, pin::pin, sync::Arc};

use fanout_engine::trial::Accepted;
use fanout_proto::{
    completion::{Outcome, StartedBatch},
    id::UrlId,
    time::{micros, seconds},
};
use tokio::sync::Notify;

use self::records::Record;
pub use self::{
    destination::Form,
    journal::{Header, Journal, JournalError, read as read_journal},
    records::{RecoverError, Recovered, recover},
};
pub(crate) use self::{
    destination::{Destination, part_name},
    narrator::Narrator,
    output::{ClaimedOutput, Resumed},
    part::PartError,
    records::id_of,
    writer_thread::WriterThread,
};
use crate::{
    run::{Sink, Who},
    url_list::{ListError, UrlList},
};

const BUFFER_BYTES: usize = 256 * 1024;

/// So many of the URLs that were given up are named at the end.
const ABANDONED_NAMED_MAX: usize = 5;

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
            Self::Csv(writer) => {
                writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
            }
        }
    }
}

struct RecordOutput {
    form: Form,
    gathered: Gathered,
    writer: WriterThread,
}

impl RecordOutput {
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

pub(crate) struct Results<'a> {
    list: &'a UrlList,
    output: RecordOutput,
    narrator: Option<Narrator<'a>>,
    lines: String,
    /// Of every kind of failure, the first one in words.
    examples: BTreeMap<Outcome, String>,
    /// URLs that were given up and are named among the examples.
    abandoned_named: usize,
}

fn to_io(error: ListError) -> io::Error {
    io::Error::other(error)
}

impl<'a> Results<'a> {
    pub(crate) fn new(
        writer: WriterThread,
        destination: &Destination,
        list: &'a UrlList,
        narrator: Option<Narrator<'a>>,
    ) -> Self {
        let form = match destination {
            Destination::Stdout => Form::Jsonl,
            Destination::File(_, form) => *form,
        };
        Self {
            list,
            output: RecordOutput { form, gathered: Gathered::new(form, Vec::new()), writer },
            narrator,
            lines: String::new(),
            examples: BTreeMap::new(),
            abandoned_named: 0,
        }
    }

    fn look_up(&self, ids: impl Iterator<Item = UrlId>) -> io::Result<Vec<String>> {
        let ids: Vec<_> = ids.collect();
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|position| ids[*position]);
        let mut urls = vec![String::new(); ids.len()];
        let mut positions = order.iter();
        let found = |_, url: &[u8]| {
            if let Some(position) = positions.next() {
                // The list was checked; a file that changed since may hold anything.
                urls[*position] = String::from_utf8_lossy(url).into_owned();
            }
        };
        self.list.look_up(order.iter().map(|position| ids[*position]), found).map_err(to_io)?;
        Ok(urls)
    }

    fn narrate(&self) {
        if let Some(narrator) = &self.narrator {
            narrator.say(&self.lines);
        }
    }

    pub(crate) fn examples(&self) -> Vec<(String, String)> {
        self.examples.iter().map(|(outcome, text)| (outcome.to_string(), text.clone())).collect()
    }

    /// Writes what is left, and gives a complete file its name. After
    /// `patience` nothing more is waited for, and the part stays.
    pub(crate) async fn finish(
        mut self,
        complete: bool,
        patience: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let handed_over = self.output.hand_over();
        let complete = complete && handed_over.is_ok();
        let mut patience = pin!(patience);
        let writer = self.output.writer;
        let finished = writer.finish(complete, patience.as_mut()).await;
        if let Some(narrator) = self.narrator {
            let _ = narrator.finish(patience).await;
        }
        handed_over.and(finished)
    }
}

impl Sink for Results<'_> {
    fn started(&mut self, _: &Who<'_>, batch: &StartedBatch) -> io::Result<()> {
        if self.narrator.is_none() {
            return Ok(());
        }
        let urls = self.look_up(batch.starts.iter().map(|(id, _)| *id))?;
        self.lines.clear();
        for ((id, _), url) in batch.starts.iter().zip(urls) {
            let _ = writeln!(self.lines, "start {id} {url}");
        }
        self.narrate();
        Ok(())
    }

    fn record(
        &mut self,
        who: &Who<'_>,
        accepted: &[Accepted],
        details: &[(u32, String)],
    ) -> io::Result<()> {
        let urls = self.look_up(accepted.iter().map(|a| a.completion.id))?;
        self.lines.clear();
        let went = micros(who.went);
        for (one, url) in accepted.iter().zip(&urls) {
            let c = &one.completion;
            let start_us = c.start_us.saturating_add(went);
            let record = Record {
                id: c.id.0,
                url: Cow::Borrowed(url),
                outcome: Cow::Borrowed(c.outcome.name()),
                status: c.status,
                bytes: c.body_bytes,
                start_s: Some(seconds(start_us)),
                first_byte_s: c.first_byte_us.map(|us| seconds(start_us.saturating_add(us))),
                end_s: Some(seconds(start_us.saturating_add(c.duration_us))),
                worker: Some(Cow::Borrowed(who.worker)),
                fetcher: Some(who.fetcher.0),
                attempt: one.attempt,
            };
            self.output.push(&record)?;
            let failed = c.outcome != Outcome::Ok;
            let of_this = |(position, _): &&(u32, String)| *position == one.position;
            let detail = details.iter().find(of_this).filter(|_| failed);
            if let Some((_, detail)) = detail {
                self.examples.entry(c.outcome).or_insert_with(|| format!("{url}: {detail}"));
            }
            if self.narrator.is_some() {
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
        self.narrate();
        Ok(())
    }

    fn abandoned(&mut self, ids: &[UrlId]) -> io::Result<()> {
        let urls = self.look_up(ids.iter().copied())?;
        for (id, url) in ids.iter().zip(&urls) {
            let record = Record {
                id: id.0,
                url: Cow::Borrowed(url),
                outcome: Cow::Borrowed(Outcome::Abandoned.name()),
                attempt: fanout_engine::ledger::LOSSES_MAX,
                ..Record::default()
            };
            self.output.push(&record)?;
            if self.abandoned_named < ABANDONED_NAMED_MAX {
                self.abandoned_named += 1;
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
        let narrator = || self.narrator.as_ref()?.thread()?.full();
        self.output.writer.full().or_else(narrator)
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
        let claimed = ClaimedOutput::of(&destination, false).expect("a directory");
        let opened = claimed.expect("nothing yet").open(&list.identity());
        let (writer, _) = opened.expect("a file");
        let mut results = Results::new(writer, &destination, &list, None);
        results.abandoned(&[UrlId(1)]).expect("written");
        let more: Vec<_> = (2..9).map(UrlId).collect();
        results.abandoned(&more).expect("written");
        let examples = results.examples();
        let urls = (1..=ABANDONED_NAMED_MAX).map(|i| format!("http://a.example/{i}"));
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
