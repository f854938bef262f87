//! A job's files while they grow: its journal of lines, and their readers.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use fanout_proto::limits::PART_MAX_BYTES;

/// Standard output, in the journal.
pub(super) const OUT: char = '1';
/// Standard error.
pub(super) const ERR: char = '2';

pub(super) fn lines(stream: char, text: &str) -> String {
    text.trim_end().lines().map(|line| format!("{stream}{line}\n")).collect()
}

pub(super) fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Reads a file that grows, and may not be there yet.
#[derive(Debug)]
pub(super) struct Tail {
    names: Vec<PathBuf>,
    file: Option<File>,
    offset: u64,
}

impl Tail {
    /// The first of `names` that is there is the file; reads on from `offset`.
    pub(super) fn new(names: Vec<PathBuf>, offset: u64) -> Self {
        Self { names, file: None, offset }
    }

    pub(super) fn read(&mut self) -> io::Result<Option<Bytes>> {
        if self.file.is_none() {
            self.file = self.names.iter().find_map(|name| File::open(name).ok());
        }
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let mut bytes = vec![0; PART_MAX_BYTES];
        let count = file.read_at(&mut bytes, self.offset)?;
        if count == 0 {
            return Ok(None);
        }
        bytes.truncate(count);
        self.offset += count as u64;
        Ok(Some(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_tail_reads_what_comes_even_under_another_name() {
        let place = tempfile::tempdir().unwrap();
        let (part, whole) = (place.path().join("a.part"), place.path().join("a"));
        let mut tail = Tail::new(vec![part.clone(), whole.clone()], 1);
        assert_eq!(tail.read().unwrap(), None);
        append(&part).unwrap().write_all(b"abc").unwrap();
        assert_eq!(tail.read().unwrap(), Some(Bytes::from_static(b"bc")));
        std::fs::rename(&part, &whole).unwrap();
        append(&whole).unwrap().write_all(b"d").unwrap();
        assert_eq!(tail.read().unwrap(), Some(Bytes::from_static(b"d")));
        assert_eq!(tail.read().unwrap(), None);
        let mut late = Tail::new(vec![part, whole], 3);
        assert_eq!(late.read().unwrap(), Some(Bytes::from_static(b"d")));
    }
}
