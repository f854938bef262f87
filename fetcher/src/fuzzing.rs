//! What the fuzz targets call: the edges at which bytes come in, a worker's and a server's.

use crate::{exchange::tests::check, instructions::InstructionReader};

/// Reads what a worker wrote, in these pieces, like the fetcher does: a word
/// for each instruction, and what ended it, if anything did.
pub fn instructions<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<&'static str>, Option<String>) {
    let mut session = InstructionReader::default();
    let mut found = Vec::new();
    for piece in pieces {
        session.buffer().extend_from_slice(piece);
        loop {
            match session.next() {
                Ok(None) => break,
                Ok(Some(instruction)) => found.push(instruction.name()),
                Err(error) => return (found, Some(error.to_string())),
            }
        }
    }
    (found, None)
}

/// Bytes of a response, cut in a few ways; panics if the verdicts differ or
/// anything else does not hold.
pub fn exchange(input: &[u8]) {
    check::exchange(input);
}
