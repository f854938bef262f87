//! Bytes of a pipe, cut anywhere: as the worker reads a fetcher's standard output, and as a fetcher
//! reads its standard input. However they are cut, the same frames come out, or the same error.
#![no_main]

use bytes::BytesMut;
use fanout_proto::{frame, limits::FRAME_MAX_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&cuts, bytes)) = input.split_first() else {
        return;
    };
    let pieces = || bytes.chunks(usize::from(cuts).max(1));

    let whole = take(std::iter::once(bytes));
    assert_eq!(take(pieces()), whole);
    assert_eq!(answers(pieces()), answers(std::iter::once(bytes)));
    assert_eq!(
        fanout_fetcher::fuzzing::instructions(pieces()),
        fanout_fetcher::fuzzing::instructions(std::iter::once(bytes))
    );
    // What came out as frames is what went in.
    let (frames, error) = whole;
    let mut again = Vec::new();
    for frame in &frames {
        assert!(frame.len() <= FRAME_MAX_BYTES);
        again.extend_from_slice(frame::prefix(frame.len()).as_ref());
        again.extend_from_slice(frame);
    }
    // A length may be written longer than it needs to be, but never shorter.
    assert!(error.is_some() || again.len() <= bytes.len());
});

fn take<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<String>) {
    let mut buffer = BytesMut::new();
    let mut found = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match frame::take(&mut buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => found.push(frame.to_vec()),
                Err(error) => return (found, Some(error.to_string())),
            }
        }
        // What is not whole yet waits within the limit.
        assert!(buffer.capacity() <= 2 * FRAME_MAX_BYTES + 64);
    }
    (found, None)
}

fn answers<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
    let mut buffer = BytesMut::new();
    let mut found = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let error = fanout_worker::fuzzing::answers(&mut buffer, &mut found);
        if let Err(error) = error {
            return (found, Some(error));
        }
    }
    (found, None)
}
