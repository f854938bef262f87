//! Records as they are written, and as they are read again from a part that
//! may have been cut at any byte.

use std::{borrow::Cow, io, io::BufRead};

use fanout_engine::{id_set::IdSet, ledger::Counts};
use fanout_proto::{completion::Outcome, id::UrlId, limits::URL_MAX_BYTES};
use serde::{Deserialize, Serialize};

use super::destination::{CSV_HEADER, Form};

const FIELDS: usize = 11;
/// No record is longer: the URL with every byte escaped, and the rest.
const LINE_MAX_BYTES: usize = 2 * URL_MAX_BYTES + 4096;

/// One URL's record. Times are in seconds since the fetchers went, on the
/// fetcher's clock, and in the run that wrote the record.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record<'a> {
    pub(crate) id: u64,
    #[serde(borrow)]
    pub(crate) url: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) outcome: Cow<'a, str>,
    pub(crate) status: Option<u16>,
    pub(crate) bytes: u64,
    pub(crate) start_s: Option<f64>,
    pub(crate) first_byte_s: Option<f64>,
    pub(crate) end_s: Option<f64>,
    #[serde(borrow)]
    pub(crate) worker: Option<Cow<'a, str>>,
    pub(crate) fetcher: Option<u32>,
    pub(crate) attempt: u8,
}

/// What a part holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes up to the end of its last good record.
    pub length: u64,
    /// The URLs that have a record there.
    pub done: IdSet,
    /// How those ended: `completed`, `failed` and `abandoned`.
    pub counts: Counts,
}

/// A part that cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// What was safely on disk is not there any more.
    #[error(
        "is damaged: {durable} bytes of it were safely on disk, and good records reach to byte {good} only"
    )]
    Damaged {
        /// Where the good records end.
        good: u64,
        /// What the journal promises.
        durable: u64,
    },
}

/// Reads a part from its beginning, and finds the records that count: every good one up to the
/// first that is not whole, not valid, beyond the list's `urls` or there already. Needs a bit for
/// every URL and one line in memory, however long the part is.
///
/// # Errors
///
/// [`RecoverError`]; what follows the first `durable` bytes is never an error.
pub fn recover(
    mut input: impl BufRead,
    form: Form,
    urls: u64,
    durable: u64,
) -> Result<Recovered, RecoverError> {
    let mut recovered = Recovered { length: 0, done: IdSet::new(urls), counts: Counts::default() };
    let mut lines = Reader::new(form);
    while let Some((found, bytes)) = lines.next(&mut input)? {
        match found {
            Found::Head => {}
            Found::Record(id, outcome) => {
                if !recovered.done.insert(id) {
                    break;
                }
                let counts = &mut recovered.counts;
                *match outcome {
                    Outcome::Ok => &mut counts.completed,
                    Outcome::Abandoned => &mut counts.abandoned,
                    _ => &mut counts.failed,
                } += 1;
            }
        }
        recovered.length += bytes;
    }
    if recovered.length < durable {
        return Err(RecoverError::Damaged { good: recovered.length, durable });
    }
    Ok(recovered)
}

enum Found {
    Head,
    Record(UrlId, Outcome),
}

struct Reader {
    form: Form,
    line: Vec<u8>,
    first: bool,
    fields: CsvFields,
}

impl Reader {
    fn new(form: Form) -> Self {
        Self { form, line: Vec::new(), first: true, fields: CsvFields::default() }
    }

    /// The next good line and its bytes; `None` at the end, or where it is not good.
    fn next(&mut self, input: &mut impl BufRead) -> io::Result<Option<(Found, u64)>> {
        self.line.clear();
        let limit = LINE_MAX_BYTES as u64;
        let count = io::Read::take(input, limit).read_until(b'\n', &mut self.line)?;
        let first = std::mem::take(&mut self.first);
        let Some(text) = self.line.strip_suffix(b"\n") else {
            return Ok(None);
        };
        let found = match self.form {
            Form::Csv if first => (self.line == CSV_HEADER).then_some(Found::Head),
            form => {
                parse(form, text, &mut self.fields).map(|(id, outcome)| Found::Record(id, outcome))
            }
        };
        Ok(found.map(|found| (found, count as u64)))
    }
}

/// The id of a whole record's line, without its end.
pub(crate) fn id_of(form: Form, line: &[u8]) -> Option<UrlId> {
    parse(form, line, &mut CsvFields::default()).map(|(id, _)| id)
}

fn parse(form: Form, line: &[u8], fields: &mut CsvFields) -> Option<(UrlId, Outcome)> {
    let (id, outcome) = match form {
        Form::Jsonl => {
            let record: Record<'_> = serde_json::from_slice(line).ok()?;
            (record.id, outcome(&record.outcome)?)
        }
        Form::Csv => {
            // Nothing that a record holds has them; a sector that never came does.
            if line.iter().any(u8::is_ascii_control) {
                return None;
            }
            let [id, _, ended, status, bytes, start, first, end, _, fetcher, attempt] =
                fields.split(line)?;
            let numbers = [status, bytes, start, first, end, fetcher];
            let number = |text: &&str| text.is_empty() || text.parse::<f64>().is_ok();
            if !numbers.iter().all(number) || attempt.parse::<u8>().is_err() {
                return None;
            }
            (id.parse().ok()?, outcome(ended)?)
        }
    };
    Some((UrlId(id), outcome))
}

fn outcome(name: &str) -> Option<Outcome> {
    Outcome::ALL.iter().copied().find(|o| o.name() == name)
}

struct CsvFields {
    reader: csv_core::Reader,
    text: Vec<u8>,
    ends: [usize; FIELDS + 1],
}

impl Default for CsvFields {
    fn default() -> Self {
        Self { reader: csv_core::Reader::new(), text: Vec::new(), ends: [0; FIELDS + 1] }
    }
}

impl CsvFields {
    /// The fields of a line that has as many as a record.
    fn split(&mut self, line: &[u8]) -> Option<[&str; FIELDS]> {
        use csv_core::ReadRecordResult as R;
        self.reader.reset();
        self.text.resize(line.len() + 1, 0);
        let (mut read, mut wrote, mut ended) = (0, 0, 0);
        loop {
            let (result, input, output, ends) = self.reader.read_record(
                &line[read..],
                &mut self.text[wrote..],
                &mut self.ends[ended..],
            );
            read += input;
            wrote += output;
            ended += ends;
            match result {
                R::Record => break,
                // The empty input that follows says that the line is over.
                R::InputEmpty => {}
                R::OutputFull | R::OutputEndsFull | R::End => return None,
            }
        }
        if read < line.len() || ended != FIELDS {
            return None;
        }
        let text = std::str::from_utf8(&self.text[..wrote]).ok()?;
        let mut fields = [""; FIELDS];
        let mut start = 0;
        for (field, end) in fields.iter_mut().zip(self.ends) {
            *field = text.get(start..end)?;
            start = end;
        }
        Some(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(id: u64, url: &str, outcome: &str) -> Record<'static> {
        Record {
            id,
            url: url.to_owned().into(),
            outcome: outcome.to_owned().into(),
            status: (outcome == "ok").then_some(200),
            bytes: 5,
            start_s: Some(0.25),
            first_byte_s: (outcome == "ok").then_some(0.5),
            end_s: Some(1e-6),
            worker: (outcome != "abandoned").then(|| "local-1".into()),
            fetcher: Some(0),
            attempt: 1,
        }
    }

    fn text(form: Form, records: &[Record<'_>]) -> Vec<u8> {
        match form {
            Form::Jsonl => records
                .iter()
                .map(|r| serde_json::to_string(r).unwrap() + "\n")
                .collect::<String>()
                .into_bytes(),
            Form::Csv => {
                let mut builder = csv::WriterBuilder::new();
                let mut writer = builder.has_headers(false).from_writer(CSV_HEADER.to_vec());
                for record in records {
                    writer.serialize(record).unwrap();
                }
                writer.into_inner().unwrap()
            }
        }
    }

    fn some() -> Vec<Record<'static>> {
        vec![
            record(3, "http://a/\"x\",y", "ok"),
            record(0, "http://a/é", "timeout"),
            record(2, "http://a/2", "abandoned"),
        ]
    }

    fn ids(done: &IdSet) -> Vec<u64> {
        (0..done.total()).filter(|id| done.contains(UrlId(*id))).collect()
    }

    #[test]
    fn a_part_is_good_up_to_any_byte_at_which_it_is_cut() {
        for form in [Form::Jsonl, Form::Csv] {
            let whole = text(form, &some());
            let mut ends: Vec<_> =
                (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
            ends.insert(0, 0);
            for cut in 0..=whole.len() {
                let good = *ends.iter().rfind(|end| **end <= cut).unwrap();
                let records = ends.iter().position(|end| *end == good).unwrap();
                let records = records - usize::from(form == Form::Csv && good > 0);
                for tail in [&b""[..], &[0; 40], b"\n", b"{}\n", b"\xff\n"] {
                    let part = [&whole[..cut], tail].concat();
                    // A line end may be all that was missing.
                    if tail == b"\n" && ends.contains(&(cut + 1)) {
                        continue;
                    }
                    let found = recover(&part[..], form, 4, 0).unwrap();
                    assert_eq!(found.length, good as u64, "{form:?} {cut} {tail:?}");
                    assert_eq!(found.done.len(), records as u64, "{form:?} {cut}");
                }
                let promised = recover(&whole[..cut], form, 4, good as u64 + 1);
                assert!(
                    matches!(promised, Err(RecoverError::Damaged { good: at, .. }) if at == good as u64)
                );
            }
        }
    }

    #[test]
    fn what_ended_how_is_known_again() {
        for form in [Form::Jsonl, Form::Csv] {
            let part = text(form, &some());
            let found = recover(&part[..], form, 4, part.len() as u64).unwrap();
            assert_eq!(ids(&found.done), [0, 2, 3]);
            let counts = found.counts;
            assert_eq!((counts.completed, counts.failed, counts.abandoned), (1, 1, 1));
        }
    }

    #[test]
    fn a_record_twice_or_of_no_url_ends_the_good_part() {
        for form in [Form::Jsonl, Form::Csv] {
            for bad in [0, 4] {
                let mut records = some();
                let good = text(form, &records).len() as u64;
                records.push(record(bad, "http://a/", "ok"));
                records.push(record(1, "http://a/1", "ok"));
                let part = text(form, &records);
                assert_eq!(recover(&part[..], form, 4, 0).unwrap().length, good);
                assert!(recover(&part[..], form, 4, part.len() as u64).is_err());
            }
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let endless = io::Read::take(io::repeat(b'x'), 50_000_000);
        let found = recover(io::BufReader::new(endless), Form::Jsonl, 4, 0).unwrap();
        assert_eq!(found.length, 0);
    }

    #[test]
    fn the_longest_url_is_read_again() {
        let url = "\\".repeat(URL_MAX_BYTES);
        for form in [Form::Jsonl, Form::Csv] {
            let url = if form == Form::Csv { url.replace('\\', "\"") } else { url.clone() };
            let part = text(form, &[record(0, &url, "ok")]);
            assert_eq!(recover(&part[..], form, 1, 0).unwrap().done.len(), 1);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), from in any::<prop::sample::Index>(), csv in any::<bool>()) {
            let form = if csv { Form::Csv } else { Form::Jsonl };
            let mut part = text(form, &some());
            let at = from.index(part.len() + 1);
            part.truncate(at);
            part.extend_from_slice(&bytes);
            let found = recover(&part[..], form, 4, 0).unwrap();
            prop_assert!(found.length <= part.len() as u64);
            prop_assert_eq!(part[..usize::try_from(found.length).unwrap()].last().is_none_or(|o| *o == b'\n'), true);
            // What is good once is good again.
            let good = &part[..usize::try_from(found.length).unwrap()];
            prop_assert_eq!(recover(good, form, 4, found.length).unwrap(), found);
        }
    }
}
