//! Where bodies go: they are counted, and decoded if asked for, never stored.

use std::io::{self, Write};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use fanout_proto::completion::Outcome;
use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{DParameter, Operation};

use crate::fetch_failure::FetchFailure;

/// Decoded bytes per step: small enough to stay in the nearest cache.
const STEP_BYTES: usize = 4096;
/// Largest zstd window, as a power of two: RFC 9659 allows 8 MiB in HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentCoding {
    Gzip,
    Brotli,
    Zstd,
}

/// The Accept-Encoding field that asks for every [`ContentCoding`].
pub(crate) const ACCEPT_ENCODING: &str = "gzip, br, zstd";

impl ContentCoding {
    /// By the value of a Content-Encoding field. `None` for what was not asked
    /// for: such a body is counted as it is.
    pub(crate) fn from_field(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        if value.eq_ignore_ascii_case(b"gzip") || value.eq_ignore_ascii_case(b"x-gzip") {
            Some(Self::Gzip)
        } else if value.eq_ignore_ascii_case(b"br") {
            Some(Self::Brotli)
        } else if value.eq_ignore_ascii_case(b"zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyProgress {
    /// All bytes were taken; there is more to come.
    More,
    /// The response is whole; so many of the bytes came after it.
    Over { excess: usize },
}

/// Counts one body and holds it to its limit, before and after decoding.
#[derive(Default)]
pub(crate) struct BodySink {
    /// Bytes after transfer decoding and before content decoding.
    received: u64,
    limit: u64,
    decoder: Option<Box<Decoder>>,
}

impl BodySink {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Forgets everything: another body begins.
    pub(crate) fn restart(&mut self) {
        self.received = 0;
        self.decoder = None;
    }

    /// From here on, bytes are in this coding.
    pub(crate) fn decode(&mut self, coding: ContentCoding) -> Result<(), FetchFailure> {
        self.decoder = Some(Box::new(Decoder::new(coding, self.limit)?));
        Ok(())
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether a body of this length is too large from the start.
    pub(crate) fn check_length(&self, length: u64) -> Result<(), FetchFailure> {
        if length > self.limit {
            return Err(too_large(self.limit));
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), FetchFailure> {
        let received = self.received.saturating_add(bytes.len() as u64);
        // Counted up to the limit, however the body was cut into pieces.
        self.received = received.min(self.limit);
        self.check_length(received)?;
        match &mut self.decoder {
            Some(decoder) => decoder.push(bytes),
            None => Ok(()),
        }
    }

    /// Counts bytes of a body that is not wanted and so neither limited nor decoded.
    pub(crate) fn skip(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
    }

    /// The body ended before its end: whether it was too large already.
    pub(crate) fn cut(&mut self) -> Result<(), FetchFailure> {
        if let Some(Decoder::Gzip(decoder)) = self.decoder.as_deref_mut() {
            settle(decoder);
            if decoder.get_ref().is_passed() {
                return Err(too_large(self.limit));
            }
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), FetchFailure> {
        match self.decoder.take() {
            // An empty body is an empty body in any coding.
            Some(mut decoder) if self.received > 0 => decoder.finish(),
            _ => Ok(()),
        }
    }
}

fn too_large(limit: u64) -> FetchFailure {
    FetchFailure::new(Outcome::TooLarge, format!("the body is larger than {limit} bytes"))
}

fn broken(what: impl std::fmt::Display) -> FetchFailure {
    FetchFailure::new(Outcome::Decode, format!("the body cannot be decoded: {what}"))
}

struct DecodedCounter {
    decoded: u64,
    limit: u64,
}

impl DecodedCounter {
    fn add(&mut self, count: usize) -> Result<(), FetchFailure> {
        self.decoded += count as u64;
        if self.decoded > self.limit {
            return Err(too_large(self.limit));
        }
        Ok(())
    }

    fn is_passed(&self) -> bool {
        self.decoded > self.limit
    }
}

impl Write for DecodedCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes.len()).map_err(|failure| io::Error::other(failure.detail))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    Gzip(MultiGzDecoder<DecodedCounter>),
    Brotli {
        state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
        counter: DecodedCounter,
        ended: bool,
    },
    Zstd {
        decoder: zstd::stream::raw::Decoder<'static>,
        counter: DecodedCounter,
        /// At a frame's edge: here the body may end.
        between_frames: bool,
    },
}

impl Decoder {
    #[inline(never)]
    fn new(coding: ContentCoding, limit: u64) -> Result<Self, FetchFailure> {
        let alloc = StandardAlloc::default;
        let counter = DecodedCounter { decoded: 0, limit };
        Ok(match coding {
            ContentCoding::Gzip => Self::Gzip(MultiGzDecoder::new(counter)),
            ContentCoding::Brotli => Self::Brotli {
                state: Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())),
                counter,
                ended: false,
            },
            ContentCoding::Zstd => {
                let mut decoder = zstd::stream::raw::Decoder::new().map_err(broken)?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(broken)?;
                Self::Zstd { decoder, counter, between_frames: true }
            }
        })
    }

    // Out of line, like everything with a large frame: every slot thread has a
    // stack of its own, and pages of it that are never touched cost nothing.
    #[inline(never)]
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), FetchFailure> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(bytes).map_err(|error| {
                settle(decoder);
                gzip_failure(decoder.get_ref(), &error)
            }),
            Self::Brotli { state, counter, ended } => {
                let mut scratch = [0; STEP_BYTES];
                while !(*ended && bytes.is_empty()) {
                    if *ended {
                        return Err(broken("bytes after the end of the brotli stream"));
                    }
                    let (mut available_in, mut read) = (bytes.len(), 0);
                    let (mut available_out, mut written) = (scratch.len(), 0);
                    let result = BrotliDecompressStream(
                        &mut available_in,
                        &mut read,
                        bytes,
                        &mut available_out,
                        &mut written,
                        &mut scratch,
                        &mut 0,
                        state,
                    );
                    counter.add(written)?;
                    bytes = &bytes[read..];
                    match result {
                        BrotliResult::ResultSuccess => *ended = true,
                        BrotliResult::NeedsMoreOutput => {}
                        BrotliResult::NeedsMoreInput if bytes.is_empty() => break,
                        BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => {
                            return Err(broken("not a brotli stream"));
                        }
                    }
                }
                Ok(())
            }
            Self::Zstd { decoder, counter, between_frames } => {
                let mut scratch = [0; STEP_BYTES];
                loop {
                    let status = decoder.run_on_buffers(bytes, &mut scratch).map_err(broken)?;
                    counter.add(status.bytes_written)?;
                    bytes = &bytes[status.bytes_read..];
                    if status.bytes_read > 0 || status.bytes_written > 0 {
                        *between_frames = status.remaining == 0;
                    }
                    // A full output may have more behind it.
                    if bytes.is_empty() && status.bytes_written < scratch.len() {
                        return Ok(());
                    }
                    if status.bytes_read == 0 && status.bytes_written == 0 {
                        return Err(broken("the zstd stream makes no progress"));
                    }
                }
            }
        }
    }

    fn finish(&mut self) -> Result<(), FetchFailure> {
        match self {
            Self::Gzip(decoder) => {
                decoder.try_finish().map_err(|error| gzip_failure(decoder.get_ref(), &error))
            }
            Self::Brotli { ended: true, .. } | Self::Zstd { between_frames: true, .. } => Ok(()),
            Self::Brotli { .. } => Err(broken("the brotli stream is cut short")),
            Self::Zstd { .. } => Err(broken("the zstd stream is cut short")),
        }
    }
}

/// Has everything counted that was decoded: this decoder holds some of it back.
fn settle(decoder: &mut MultiGzDecoder<DecodedCounter>) {
    // What else is wrong is known already, or will be told otherwise.
    let _ = decoder.try_finish();
}

fn gzip_failure(counter: &DecodedCounter, error: &io::Error) -> FetchFailure {
    if counter.is_passed() {
        too_large(counter.limit)
    } else {
        broken(format_args!("gzip: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(text, 1).unwrap()
    }

    /// A brotli stream of one uncompressed metablock (RFC 7932 section 9.2).
    fn brotli(text: &[u8]) -> Vec<u8> {
        // WBITS = 16 in one bit '0'; ISLAST 0; MNIBBLES 4 as '00'; MLEN-1 in
        // 16 bits; ISUNCOMPRESSED 1; padding; bytes; then ISLAST, ISLASTEMPTY.
        let length = u32::try_from(text.len() - 1).unwrap();
        let head = (length << 4) | (1 << 20);
        let mut stream = head.to_le_bytes()[..3].to_vec();
        stream.extend_from_slice(text);
        stream.push(0b11);
        stream
    }

    fn verdict(coding: ContentCoding, limit: u64, pieces: &[&[u8]]) -> Result<u64, Outcome> {
        let mut sink = BodySink::new(limit);
        sink.decode(coding).unwrap();
        for piece in pieces {
            sink.push(piece).map_err(|failure| failure.outcome)?;
        }
        sink.finish().map_err(|failure| failure.outcome)?;
        Ok(sink.received())
    }

    fn streams(text: &[u8]) -> [(ContentCoding, Vec<u8>); 3] {
        [
            (ContentCoding::Gzip, gzip(text)),
            (ContentCoding::Brotli, brotli(text)),
            (ContentCoding::Zstd, zstd(text)),
        ]
    }

    #[test]
    fn what_is_counted_is_what_came() {
        let text = vec![b'a'; 60_000];
        for (coding, stream) in streams(&text) {
            let length = stream.len() as u64;
            assert_eq!(verdict(coding, 60_004, &[&stream]), Ok(length), "{coding:?}");
        }
    }

    #[test]
    fn what_unfolds_past_the_limit_is_too_large() {
        let text = vec![0; 10_000_000];
        for (coding, stream) in
            [(ContentCoding::Gzip, gzip(&text)), (ContentCoding::Zstd, zstd(&text))]
        {
            assert_eq!(
                verdict(coding, 9_999_999, &[&stream]),
                Err(Outcome::TooLarge),
                "{coding:?}"
            );
        }
        assert_eq!(
            verdict(ContentCoding::Brotli, 59_999, &[&brotli(&[1; 60_000])]),
            Err(Outcome::TooLarge)
        );
    }

    #[test]
    fn no_more_is_counted_than_is_allowed() {
        for piece in [1, 3, 100] {
            let mut sink = BodySink::new(10);
            let failure =
                [b'x'; 100].chunks(piece).find_map(|bytes| sink.push(bytes).err()).unwrap();
            assert_eq!(failure.outcome, Outcome::TooLarge);
            assert_eq!(sink.received(), 10);
        }
    }

    /// The decoder of gzip holds bytes back until it is given more.
    #[test]
    fn what_is_too_large_is_so_even_if_it_is_cut_or_broken_further_on() {
        let mut stream = gzip(&[0; 5000]);
        let last = stream.len() - 10;
        stream[last] ^= 0xff;
        let mut sink = BodySink::new(1000);
        sink.decode(ContentCoding::Gzip).unwrap();
        assert_eq!(sink.push(&stream[..last]), Ok(()));
        assert_eq!(sink.cut().unwrap_err().outcome, Outcome::TooLarge);
        for piece in [1, stream.len()] {
            let pieces: Vec<_> = stream.chunks(piece).collect();
            let found = verdict(ContentCoding::Gzip, 1000, &pieces);
            assert_eq!(found, Err(Outcome::TooLarge), "{piece}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_or_broken_is_told() {
        for (coding, mut stream) in streams(b"some text that is long enough to matter") {
            let cut = &stream[..stream.len() - 1];
            assert_eq!(verdict(coding, 1000, &[cut]), Err(Outcome::Decode), "{coding:?}");
            stream[0] ^= 0x11;
            assert_eq!(verdict(coding, 1000, &[&stream]), Err(Outcome::Decode), "{coding:?}");
        }
    }

    #[test]
    fn an_empty_body_is_whole_in_any_coding() {
        for (coding, _) in streams(b"-") {
            assert_eq!(verdict(coding, 1000, &[]), Ok(0));
        }
    }

    proptest! {
        #[test]
        fn the_split_does_not_matter(text in prop::collection::vec(any::<u8>(), 1..9000), at in any::<prop::sample::Index>()) {
            for (coding, stream) in streams(&text) {
                let (a, b) = stream.split_at(at.index(stream.len()));
                prop_assert_eq!(verdict(coding, 20_000, &[a, b]), Ok(stream.len() as u64));
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for coding in [ContentCoding::Gzip, ContentCoding::Brotli, ContentCoding::Zstd] {
                let _ = verdict(coding, 1000, &[&bytes]);
            }
        }
    }
}
