//! A list as it is kept to be read again.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
};

const WRITE_BYTES: usize = 64 * 1024;

pub(super) struct Spool {
    out: io::BufWriter<File>,
    offset: u64,
}

impl Spool {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            out: io::BufWriter::with_capacity(WRITE_BYTES, tempfile::tempfile()?),
            offset: 0,
        })
    }

    pub(super) fn push(&mut self, line: &[u8]) -> io::Result<u64> {
        let at = self.offset;
        self.out.write_all(line)?;
        self.out.write_all(b"\n")?;
        self.offset += line.len() as u64 + 1;
        Ok(at)
    }

    pub(super) fn finish(self) -> io::Result<File> {
        let mut file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}

/// Reads a file from an offset of its own.
#[derive(Debug)]
pub(super) struct FileAt<'a> {
    pub(super) file: &'a File,
    pub(super) offset: u64,
}

impl Read for FileAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
