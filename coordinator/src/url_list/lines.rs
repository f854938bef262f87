//! The lines of a list.

use std::io::{self, BufRead, BufReader, Read};

use fanout_proto::limits::URL_MAX_BYTES;

use super::error::EXCERPT_BYTES;

const READ_BYTES: usize = 16 * 1024;

pub(super) struct ListLine<'a> {
    /// From 1.
    pub(super) number: u64,
    /// Of its first byte after leading blanks.
    pub(super) offset: u64,
    pub(super) text: &'a [u8],
}

#[derive(Debug)]
pub(super) enum LinesError {
    Read(io::Error),
    /// The line of that number; how it begins.
    TooLong(u64, Vec<u8>),
}

/// Lines that hold a URL, or should; never more than one in memory.
#[derive(Debug)]
pub(super) struct ListLines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    offset: u64,
}

impl<R: Read> ListLines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(READ_BYTES, input),
            line: Vec::new(),
            number: 0,
            offset: 0,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<ListLine<'_>>, LinesError> {
        loop {
            self.line.clear();
            let begin = self.offset;
            // One byte more than allowed tells a long line from one that just fits;
            // blanks around the URL have to fit in as well.
            let limit = URL_MAX_BYTES as u64 + 64;
            let count = (&mut self.input)
                .take(limit)
                .read_until(b'\n', &mut self.line)
                .map_err(LinesError::Read)?;
            if count == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.offset += count as u64;
            let cut = self.line.last() != Some(&b'\n') && count as u64 == limit;
            if cut {
                let skipped = self.input.skip_until(b'\n').map_err(LinesError::Read)?;
                self.offset += skipped as u64;
            }
            let mut text = &self.line[..];
            if begin == 0 {
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            }
            let lead = self.line.len() - text.trim_ascii_start().len();
            let text = text.trim_ascii();
            if text.is_empty() && !cut || text.first() == Some(&b'#') {
                continue;
            }
            if cut || text.len() > URL_MAX_BYTES {
                return Err(LinesError::TooLong(
                    self.number,
                    text[..text.len().min(EXCERPT_BYTES + 1)].to_vec(),
                ));
            }
            let length = text.len();
            return Ok(Some(ListLine {
                number: self.number,
                offset: begin + lead as u64,
                text: &self.line[lead..lead + length],
            }));
        }
    }
}
