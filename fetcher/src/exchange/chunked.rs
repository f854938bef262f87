//! The chunked transfer coding (RFC 9112, section 7.1), byte by byte: what
//! is no data is looked at and forgotten, so nothing is ever gathered, and no
//! verdict depends on how a body was cut into pieces.

use fanout_proto::limits::{HEADER_MAX_BYTES, HEADERS_MAX};

use super::body::BodyProgress;
use crate::fetch_failure::FetchFailure;

/// Bytes of framing that one byte of data may cost. A chunk of one byte
/// needs five; the rest is for extensions.
const OVERHEAD_MAX: u64 = 32;
/// Bytes of framing that a body may have besides: a head's worth.
const FRAMING_MAX_BYTES: u64 = HEADER_MAX_BYTES as u64;

#[derive(Debug, Default)]
pub(super) struct Chunked {
    step: ChunkStep,
    /// The chunk's size so far; then what is left of its data.
    left: u64,
    data: u64,
    framing: u64,
    trailers: usize,
}

/// What the next byte is.
///
/// ```text
/// SizeStart ─► Size ─► Extension ─► SizeLf ─┬─► Data ─► DataCr ─► DataLf ─┐
///     ▲          └► SizeSpace ──┘     (0)   │                             │
///     └─────────────────────────────────────┼─────────────────────────────┘
///                                           ▼
///     TrailerLf ◄─ TrailerValue ◄─ Name ◄─ LineStart ─► EndLf ─► Over
///         └────────────────────────────────►┘
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ChunkStep {
    #[default]
    SizeStart,
    Size,
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// Of a trailer's line, or of the empty one at the end.
    LineStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Over,
}

impl Chunked {
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), FetchFailure>,
    ) -> Result<BodyProgress, FetchFailure> {
        while let Some((first, rest)) = bytes.split_first() {
            match self.step {
                ChunkStep::Data => {
                    let here = usize::try_from(self.left).unwrap_or(usize::MAX);
                    let (data, rest) = bytes.split_at(here.min(bytes.len()));
                    let count = data.len() as u64;
                    sink(data)?;
                    self.data += count;
                    self.left -= count;
                    if self.left == 0 {
                        self.step = ChunkStep::DataCr;
                    }
                    bytes = rest;
                }
                ChunkStep::Over => break,
                _ => {
                    self.framing += 1;
                    if self.framing > FRAMING_MAX_BYTES + self.data.saturating_mul(OVERHEAD_MAX) {
                        return Err(FetchFailure::protocol(
                            "the chunked body has too much framing for its data",
                        ));
                    }
                    self.step = self.next(*first)?;
                    bytes = rest;
                }
            }
        }
        Ok(match self.step {
            ChunkStep::Over => BodyProgress::Over { excess: bytes.len() },
            _ => BodyProgress::More,
        })
    }

    fn next(&mut self, byte: u8) -> Result<ChunkStep, FetchFailure> {
        Ok(match (self.step, byte) {
            (ChunkStep::SizeStart | ChunkStep::Size, b'0'..=b'9') => self.digit(byte - b'0')?,
            (ChunkStep::SizeStart | ChunkStep::Size, b'a'..=b'f' | b'A'..=b'F') => {
                self.digit((byte | 0x20) - b'a' + 10)?
            }
            (ChunkStep::Size | ChunkStep::SizeSpace, b' ' | b'\t') => ChunkStep::SizeSpace,
            (ChunkStep::Size | ChunkStep::SizeSpace, b';') => ChunkStep::Extension,
            (ChunkStep::Size | ChunkStep::SizeSpace | ChunkStep::Extension, b'\r') => {
                ChunkStep::SizeLf
            }
            (ChunkStep::SizeStart | ChunkStep::Size | ChunkStep::SizeSpace, _) => {
                return Err(FetchFailure::protocol("a chunk's size is no hexadecimal number"));
            }
            // What an extension means does not matter, but a line ends in both.
            (ChunkStep::Extension, b'\n') => return Err(bare_line_end()),
            (ChunkStep::Extension, _) => ChunkStep::Extension,
            (ChunkStep::SizeLf, b'\n') if self.left == 0 => ChunkStep::LineStart,
            (ChunkStep::SizeLf, b'\n') => ChunkStep::Data,
            (ChunkStep::DataCr, b'\r') => ChunkStep::DataLf,
            (ChunkStep::DataLf, b'\n') => ChunkStep::SizeStart,
            (ChunkStep::DataCr | ChunkStep::DataLf, _) => {
                return Err(FetchFailure::protocol("a chunk is longer than its size says"));
            }
            (ChunkStep::LineStart, b'\r') => ChunkStep::EndLf,
            (ChunkStep::LineStart | ChunkStep::TrailerName, _) if is_token(byte) => {
                if self.step == ChunkStep::LineStart {
                    self.trailers += 1;
                    if self.trailers > HEADERS_MAX {
                        return Err(FetchFailure::protocol(format!(
                            "more than {HEADERS_MAX} trailers"
                        )));
                    }
                }
                ChunkStep::TrailerName
            }
            (ChunkStep::TrailerName, b':') => ChunkStep::TrailerValue,
            (ChunkStep::TrailerValue, b'\r') => ChunkStep::TrailerLf,
            (ChunkStep::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => ChunkStep::TrailerValue,
            (ChunkStep::LineStart | ChunkStep::TrailerName | ChunkStep::TrailerValue, _) => {
                return Err(FetchFailure::protocol("a trailer is no header field"));
            }
            (ChunkStep::TrailerLf, b'\n') => ChunkStep::LineStart,
            (ChunkStep::EndLf, b'\n') => ChunkStep::Over,
            (ChunkStep::SizeLf | ChunkStep::TrailerLf | ChunkStep::EndLf, _) => {
                return Err(bare_line_end());
            }
            (ChunkStep::Data | ChunkStep::Over, _) => self.step,
        })
    }

    fn digit(&mut self, digit: u8) -> Result<ChunkStep, FetchFailure> {
        self.left = self
            .left
            .checked_mul(16)
            .and_then(|size| size.checked_add(digit.into()))
            .ok_or_else(|| FetchFailure::protocol("a chunk's size needs more than 64 bits"))?;
        Ok(ChunkStep::Size)
    }
}

fn bare_line_end() -> FetchFailure {
    FetchFailure::protocol("a line of the chunked body does not end in CR LF")
}

/// Whether a field's name may hold it (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data and what came after it, `None` if it has not ended.
    fn take(body: &str) -> Result<Option<(String, usize)>, String> {
        let mut data = Vec::new();
        let progress = Chunked::default()
            .receive(body.as_bytes(), &mut |bytes| {
                data.extend_from_slice(bytes);
                Ok(())
            })
            .map_err(|failure| failure.detail.into_owned())?;
        Ok(match progress {
            BodyProgress::More => None,
            BodyProgress::Over { excess } => Some((String::from_utf8(data).unwrap(), excess)),
        })
    }

    #[test]
    fn data_is_found() {
        let whole = |data: &str, excess| Ok(Some((data.to_owned(), excess)));
        assert_eq!(take("2\r\nab\r\n0\r\n\r\n"), whole("ab", 0));
        assert_eq!(
            take("1 ;x=\"y;z\"\r\na\r\n01\r\nb\r\n0\r\nt: u\r\nv:\r\n\r\nrest"),
            whole("ab", 4)
        );
        assert_eq!(
            take("a;signature=0123456789abcdef0123456789abcdef\r\n0123456789\r\n0\r\n\r\n"),
            whole("0123456789", 0)
        );
        assert_eq!(take(""), Ok(None));
        assert_eq!(take("2\r\nab\r\n0\r\n\r"), Ok(None));
    }

    #[test]
    fn what_is_no_chunk_is_told() {
        let no_size = Err("a chunk's size is no hexadecimal number".to_owned());
        for size in ["+2", "-2", " 2", "0x2", "size", "", ";a", "2 2", "2\x0c"] {
            assert_eq!(take(&format!("{size}\r\nab\r\n0\r\n\r\n")), no_size, "{size}");
        }
        let refused = |body: &str| take(body).unwrap_err();
        assert_eq!(
            refused("10000000000000002\r\nab\r\n0\r\n\r\n"),
            "a chunk's size needs more than 64 bits"
        );
        assert_eq!(refused("2\r\nabc\r\n0\r\n\r\n"), "a chunk is longer than its size says");
        for body in ["2;a\nb\r\n", "2;a\rb\r\n", "0\r\n\rx", "0\r\na:\rx"] {
            assert_eq!(refused(body), "a line of the chunked body does not end in CR LF", "{body}");
        }
        for trailer in ["nonsense", ": x", " x: y", "x : y", "x: \0"] {
            assert_eq!(
                refused(&format!("0\r\n{trailer}\r\n\r\n")),
                "a trailer is no header field",
                "{trailer}"
            );
        }
    }

    #[test]
    fn framing_is_bounded() {
        let most = HEADER_MAX_BYTES;
        let too_much = Err("the chunked body has too much framing for its data".to_owned());
        assert_eq!(take(&"0".repeat(most)), Ok(None));
        assert_eq!(take(&"0".repeat(most + 1)), too_much);
        assert_eq!(take(&format!("2;{}", "x".repeat(most))), too_much);
        assert_eq!(take(&format!("0\r\nx:{}", "y".repeat(most))), too_much);
        assert_eq!(
            take(&format!("0\r\n{}", "x: y\r\n".repeat(HEADERS_MAX + 1))),
            Err("more than 128 trailers".to_owned())
        );
        // But any number of small chunks will do.
        let small = "1;a=b\r\nx\r\n".repeat(most);
        assert_eq!(take(&format!("{small}0\r\n\r\n")), Ok(Some(("x".repeat(most), 0))));
    }
}
