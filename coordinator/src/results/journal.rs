//! The journal beside a part: which list its records are of, and how much of
//! it is known to be on disk.
//!
//! ```text
//! header, 2,048 bytes: JSON, its checksum, blanks, a line end
//! note, 128 bytes      ┐ written in turns: one that tears leaves the other,
//! note, 128 bytes      ┘ and the newest whole one counts
//! ```
//!
//! It never grows. A note is written after the bytes that it speaks of were
//! synced, so it never promises too much.

use std::fmt::Write as _;

use fanout_proto::{control::ListIdentity, limits::URLS_MAX};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::destination::Form;
use crate::url_list::hex;

/// The version of this format, of parts and journals.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 2048;
const NOTE_BYTES: usize = 128;
pub(crate) const JOURNAL_BYTES: usize = HEADER_BYTES + 2 * NOTE_BYTES;
const NAME_MAX_BYTES: usize = 512;
const SUM_DIGITS: usize = 16;

/// What a part holds the records of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The list.
    pub list: ListIdentity,
    /// How records are written.
    pub form: Form,
}

/// A journal that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// What the part holds the records of.
    pub header: Header,
    /// So many bytes of the part are known to be on disk.
    pub durable: u64,
    /// The number of the note that says so; 0: there is none yet.
    pub sequence: u64,
}

/// No journal of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It is damaged, or something else.
    #[error("is damaged")]
    Damaged,
    /// Of another version.
    #[error("is of version {0}, and this fanout reads version {VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct HeaderLine {
    fanout_journal: u32,
    form: Form,
    list: String,
    list_sha256: String,
    urls: u64,
    repeat: u64,
}

fn sum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..SUM_DIGITS / 2])
}

/// Splits a text from the checksum behind its last blank, if that fits.
fn checked(text: &str) -> Option<&str> {
    let (text, of) = text.rsplit_once(' ')?;
    (sum(text.as_bytes()) == of).then_some(text)
}

pub(crate) fn header(header: &Header) -> Vec<u8> {
    let name: String = header.list.name.chars().filter(|c| !c.is_control()).collect();
    let line = HeaderLine {
        fanout_journal: VERSION,
        form: header.form,
        list: name[..name.floor_char_boundary(NAME_MAX_BYTES)].to_owned(),
        list_sha256: header.list.sha256.clone(),
        urls: header.list.urls,
        repeat: header.list.repeat,
    };
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    let sum = sum(text.as_bytes());
    let _ = write!(text, " {sum}");
    let mut bytes = text.into_bytes();
    bytes.resize(HEADER_BYTES - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// A note's bytes, and where they stand.
pub(crate) fn note(sequence: u64, durable: u64) -> (Vec<u8>, u64) {
    let mut text = format!("durable {durable} {sequence}");
    let sum = sum(text.as_bytes());
    let _ = write!(text, " {sum}");
    let mut bytes = text.into_bytes();
    bytes.resize(NOTE_BYTES - 1, b' ');
    bytes.push(b'\n');
    let place = HEADER_BYTES as u64 + (sequence % 2) * NOTE_BYTES as u64;
    (bytes, place)
}

fn read_note(bytes: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut words = checked(text.trim_end())?.split(' ');
    let found = (words.next()?, words.next()?, words.next()?);
    match (found, words.next()) {
        (("durable", durable, sequence), None) => {
            Some((sequence.parse().ok()?, durable.parse().ok()?))
        }
        _ => None,
    }
}

/// Reads a journal's bytes, whatever they are.
pub fn read(bytes: &[u8]) -> Result<Journal, JournalError> {
    let damaged = JournalError::Damaged;
    let first = bytes.get(..HEADER_BYTES).ok_or(damaged)?;
    let text = std::str::from_utf8(first).map_err(|_| damaged)?;
    let line: HeaderLine =
        serde_json::from_str(checked(text.trim_end()).ok_or(damaged)?).map_err(|_| damaged)?;
    if line.fanout_journal != VERSION {
        return Err(JournalError::Version(line.fanout_journal));
    }
    if line.urls > URLS_MAX {
        return Err(damaged);
    }
    let notes = bytes[HEADER_BYTES..].chunks(NOTE_BYTES).take(2);
    let (sequence, durable) = notes.filter_map(read_note).max().unwrap_or_default();
    Ok(Journal {
        header: Header {
            list: ListIdentity {
                name: line.list,
                sha256: line.list_sha256,
                urls: line.urls,
                repeat: line.repeat,
            },
            form: line.form,
        },
        durable,
        sequence,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_header() -> Header {
        Header {
            list: ListIdentity {
                name: "lists/\u{1b}\"ü\".txt".to_owned(),
                sha256: "ab".repeat(32),
                urls: 12,
                repeat: 3,
            },
            form: Form::Csv,
        }
    }

    fn with_notes(notes: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = header(&a_header());
        bytes.resize(JOURNAL_BYTES, 0);
        for (sequence, durable) in notes {
            let (note, place) = note(*sequence, *durable);
            let place = usize::try_from(place).unwrap();
            bytes[place..place + note.len()].copy_from_slice(&note);
        }
        bytes
    }

    #[test]
    fn a_journal_tells_what_was_written() {
        let journal = read(&header(&a_header())).unwrap();
        assert_eq!((journal.durable, journal.sequence), (0, 0));
        assert_eq!(journal.header.list.name, "lists/\"ü\".txt");
        assert_eq!(journal.header.form, Form::Csv);
        assert!(journal.header.list.is_same(&a_header().list));
        let journal = read(&with_notes(&[(1, 10), (2, 70)])).unwrap();
        assert_eq!((journal.durable, journal.sequence), (70, 2));
        let journal = read(&with_notes(&[(3, u64::MAX), (2, 70)])).unwrap();
        assert_eq!(journal.durable, u64::MAX);
    }

    #[test]
    fn a_longest_name_still_fits() {
        let mut long = a_header();
        long.list.name = "\"".repeat(5000);
        let bytes = header(&long);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(read(&bytes).unwrap().header.list.name.len(), 512);
    }

    #[test]
    fn any_changed_byte_is_found() {
        let whole = with_notes(&[(1, 10), (2, 70)]);
        let text_end = whole.iter().position(|o| *o == b'}').unwrap() + 18;
        for at in 0..text_end {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "{at}");
        }
        for at in 0..whole.len() {
            assert_eq!(
                read(&whole[..at]).ok().map(|j| j.durable),
                match at {
                    0..2048 => None,
                    // The note of even number stands first, and its last bytes are blanks.
                    _ if at - 2048 >= "durable 70 2 ".len() + 16 => Some(70),
                    _ => Some(0),
                },
                "{at}"
            );
        }
        let mut torn = whole;
        torn[2050] = 0;
        assert_eq!(read(&torn).unwrap().durable, 10);
    }

    #[test]
    fn another_version_is_named() {
        let text = String::from_utf8(header(&a_header())).unwrap();
        let line = checked(text.trim_end()).unwrap().replace(r#":1,"form"#, r#":9,"form"#);
        let mut bytes = format!("{line} {}", sum(line.as_bytes())).into_bytes();
        bytes.resize(HEADER_BYTES, b' ');
        assert_eq!(read(&bytes), Err(JournalError::Version(9)));
    }
}
