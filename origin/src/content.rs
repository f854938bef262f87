//! What bodies are made of: one shared pattern of text, or zeros, and their
//! content codings. Nothing here is allocated by size: a body of a GiB is a few
//! references to shared blocks that are sent over and over.
//!
//! This works for codings too, because each of the three formats is a sequence of blocks that can
//! be made to stand alone: a block of the pattern is encoded once, and a body repeats it. What is
//! left at the end, less than a block, is sent unencoded in the format's block for such data.

use std::sync::LazyLock;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::{
    behaviour::{BodyCoding, Fill},
    number::{to_u64, to_usize},
};

/// The pattern repeats after this many bytes.
const LINE: &[u8; 64] = b"fanout origin: a line of 64 bytes, all text, with a newline....\n";
/// Bytes of the pattern in one shared buffer.
pub(crate) const PATTERN_BYTES: usize = 64 * 1024;
/// A coded body repeats blocks of this many bytes …
const BLOCK_BYTES: u64 = 64 * 1024;
/// … and, where the coding has cheap ones, smaller blocks after them.
const SMALL_BLOCK_BYTES: u64 = 4 * 1024;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| LINE.repeat(PATTERN_BYTES / LINE.len()));
static ZEROS: [u8; PATTERN_BYTES] = [0; PATTERN_BYTES];

/// The start of every body, before content coding; it goes on repeating itself.
pub(crate) fn pattern() -> &'static [u8] {
    &PATTERN
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece {
    /// `length` bytes of `source`, which is never empty, repeated as needed.
    Cycle { source: &'static [u8], length: u64 },
    /// A few bytes of their own: the first `length` of these.
    Short { bytes: [u8; 8], length: u8 },
}

impl Piece {
    const NONE: Self = Self::Short { bytes: [0; 8], length: 0 };

    fn short(from: &[u8]) -> Self {
        let mut bytes = [0; 8];
        bytes[..from.len()].copy_from_slice(from);
        let length = u8::try_from(from.len()).expect("at most eight bytes");
        Self::Short { bytes, length }
    }

    /// `source`, `times` over.
    fn repeated(source: &'static [u8], times: u64) -> Self {
        let length = to_u64(source.len()) * times;
        Self::Cycle { source, length }
    }

    /// The first `length` bytes of a body, before content coding.
    pub(crate) fn plain(fill: Fill, length: u64) -> Self {
        let source = match fill {
            Fill::Text => pattern(),
            Fill::Zeros => &ZEROS,
        };
        Self::Cycle { source, length }
    }

    pub(crate) fn length(&self) -> u64 {
        match *self {
            Self::Cycle { length, .. } => length,
            Self::Short { length, .. } => u64::from(length),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Content {
    pieces: [Piece; 6],
    count: usize,
}

impl Content {
    /// `size` bytes of the pattern or of zeros, as they are or encoded.
    pub(crate) fn new(size: u64, coding: Option<BodyCoding>, fill: Fill) -> Self {
        let mut content = Self { pieces: [Piece::NONE; 6], count: 0 };
        match coding {
            None => content.push(Piece::plain(fill, size)),
            Some(BodyCoding::Gzip) => content.gzip(size, fill),
            Some(BodyCoding::Brotli) => content.brotli(size, fill),
            Some(BodyCoding::Zstd) => content.zstd(size, fill),
        }
        content
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.count]
    }

    pub(crate) fn length(&self) -> u64 {
        self.pieces().iter().map(Piece::length).sum()
    }

    fn push(&mut self, piece: Piece) {
        if piece.length() > 0 {
            self.pieces[self.count] = piece;
            self.count += 1;
        }
    }

    /// A header and the blocks of a body of `size` bytes; what is left of it.
    fn push_blocks(&mut self, header: &'static [u8], block: &'static [u8], size: u64) -> u64 {
        self.push(Piece::repeated(header, 1));
        self.push(Piece::repeated(block, size / BLOCK_BYTES));
        size % BLOCK_BYTES
    }

    /// RFC 1952 around RFC 1951: compressed blocks, then a stored block, then checksum and size.
    fn gzip(&mut self, size: u64, fill: Fill) {
        // Deflate, no name, no time, an unknown system.
        const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        let rest = after_blocks(size);
        let shared = match fill {
            Fill::Text => &*DEFLATED,
            Fill::Zeros => &*DEFLATED_ZEROS,
        };
        let small = self.push_blocks(HEADER, &shared.large, size) / SMALL_BLOCK_BYTES;
        self.push(Piece::repeated(&shared.small, small));
        let [low, high] = rest.to_le_bytes();
        // The last block, stored: its length and the complement of it.
        self.push(Piece::short(&[1, low, high, !low, !high]));
        self.push(Piece::plain(fill, u64::from(rest)));
        let size_mod = u32::try_from(size & u64::from(u32::MAX)).expect("masked to 32 bits");
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&shared.checksum(size).to_le_bytes());
        trailer[4..].copy_from_slice(&size_mod.to_le_bytes());
        self.push(Piece::short(&trailer));
    }

    /// RFC 7932: uncompressed meta-blocks of the pattern, compressed ones of zeros.
    fn brotli(&mut self, size: u64, fill: Fill) {
        // A window of 16 bits, then an empty meta-block that ends on a
        // byte, so that all that follow begin on one (section 9.2).
        const HEADER: &[u8] = &[0b0000_1100];
        // The last meta-block, empty.
        const END: &[u8] = &[0b11];
        let blocks = match fill {
            Fill::Text => &BROTLI_BLOCK,
            Fill::Zeros => &BROTLI_ZEROS,
        };
        let rest = self.push_blocks(HEADER, blocks, size);
        if rest > 0 {
            self.push(Piece::short(&brotli_block_header(rest)));
            self.push(Piece::plain(fill, rest));
        }
        self.push(Piece::repeated(END, 1));
    }

    /// RFC 8878: raw blocks of the pattern, blocks of one repeated byte of zeros.
    fn zstd(&mut self, size: u64, fill: Fill) {
        // The magic number; no size, checksum or dictionary; a window of
        // 128 KiB, which is also the largest block (section 3.1.1).
        const HEADER: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
        let blocks = match fill {
            Fill::Text => &ZSTD_BLOCK,
            Fill::Zeros => &ZSTD_ZEROS,
        };
        let rest = self.push_blocks(HEADER, blocks, size);
        self.push(Piece::short(&zstd_block_header(rest, true)));
        self.push(Piece::plain(fill, rest));
    }
}

/// What is left of a body after its small blocks, unencoded.
fn after_blocks(size: u64) -> u16 {
    u16::try_from(size % SMALL_BLOCK_BYTES).expect("below 4 KiB")
}

/// Blocks of a body, compressed, and what their checksums are.
struct Deflated {
    source: &'static [u8],
    large: Vec<u8>,
    small: Vec<u8>,
    /// The checksum of 2ⁱ small blocks, at i.
    doublings: Vec<Crc>,
}

static DEFLATED: LazyLock<Deflated> = LazyLock::new(|| Deflated::new(pattern()));
static DEFLATED_ZEROS: LazyLock<Deflated> = LazyLock::new(|| Deflated::new(&ZEROS));

impl Deflated {
    fn new(source: &'static [u8]) -> Self {
        let mut first = Crc::new();
        first.update(&source[..to_usize(SMALL_BLOCK_BYTES)]);
        let mut doublings = vec![first];
        // 2¹⁹ blocks of 4 KiB are 2 GiB, above any size.
        while let Some(last) = doublings.last().filter(|_| doublings.len() < 19) {
            let mut next = Crc::new();
            next.combine(last);
            next.combine(last);
            doublings.push(next);
        }
        Self {
            source,
            large: deflate(source),
            small: deflate(&source[..to_usize(SMALL_BLOCK_BYTES)]),
            doublings,
        }
    }

    /// The checksum of the first `size` bytes of a body, from the checksums of its blocks.
    fn checksum(&self, size: u64) -> u32 {
        let blocks = size / SMALL_BLOCK_BYTES;
        let mut crc = Crc::new();
        for (power, doubling) in self.doublings.iter().enumerate() {
            if blocks >> power & 1 == 1 {
                crc.combine(doubling);
            }
        }
        crc.update(&self.source[..usize::from(after_blocks(size))]);
        crc.sum()
    }
}

/// `input` as deflate blocks that refer to nothing before them and end on a
/// byte: a full flush does both.
fn deflate(input: &[u8]) -> Vec<u8> {
    let mut encoder = Compress::new(Compression::default(), false);
    let mut output = Vec::with_capacity(input.len());
    let status = encoder
        .compress_vec(input, &mut output, FlushCompress::Full)
        .expect("a fresh encoder takes any input");
    assert!(
        status == Status::Ok && encoder.total_in() == to_u64(input.len()),
        "the pattern compresses, so the output has room"
    );
    output
}

static BROTLI_BLOCK: LazyLock<Vec<u8>> =
    LazyLock::new(|| [&brotli_block_header(BLOCK_BYTES), pattern()].concat());

/// An uncompressed meta-block's header, from the lowest bit: not the last
/// (1 bit), four digits of length (2 bits, zero), length - 1 (16 bits),
/// uncompressed (1 bit); then zeros up to the byte (section 9.2).
fn brotli_block_header(length: u64) -> [u8; 3] {
    debug_assert!((1..=65_536).contains(&length));
    three_bytes((length - 1) << 3 | 1 << 19)
}

/// A block of zeros as one meta-block (section 9.2) that inserts a zero and
/// copies it, then an empty one that ends on a byte.
static BROTLI_ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let length = BLOCK_BYTES;
    let mut bits = Bits::default();
    // Not the last; four digits of length - 1; not uncompressed.
    bits.push(0, 1).push(0, 2).push(length - 1, 16).push(0, 1);
    // One block type each of literals, commands and distances; no postfix
    // bits, no direct distances; one context mode, one tree each.
    bits.push(0, 3).push(0, 2).push(0, 4).push(0, 2).push(0, 2);
    // Three simple prefix codes of one symbol, which so takes no bits
    // (section 3.4): the literal 0; the command that inserts 1 and copies by
    // length code 23 (section 5); the distance code 16 (section 4).
    for (symbol, width) in [(0, 8), (399, 10), (16, 6)] {
        bits.push(1, 2).push(0, 2).push(symbol, width);
    }
    // The copy's length above 2118, in 24 bits; the distance 1, in one.
    bits.push(length - 1 - 2118, 24).push(0, 1);
    // Not the last; no digits of length, so metadata; reserved; none of it.
    bits.push(0, 1).push(3, 2).push(0, 1).push(0, 2);
    bits.into_bytes()
});

/// Bits from the lowest of the first byte on.
#[derive(Default)]
struct Bits {
    bits: u128,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u64, width: u32) -> &mut Self {
        self.bits |= u128::from(value) << self.count;
        self.count += width;
        self
    }

    /// Zeros up to the next byte's edge follow.
    fn into_bytes(self) -> Vec<u8> {
        let length = usize::try_from(self.count.div_ceil(8)).expect("at most 16");
        self.bits.to_le_bytes()[..length].to_vec()
    }
}

static ZSTD_BLOCK: LazyLock<Vec<u8>> =
    LazyLock::new(|| [&zstd_block_header(BLOCK_BYTES, false), pattern()].concat());

/// A block of one byte, repeated (section 3.1.1.2.2).
static ZSTD_ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let [a, b, c] = three_bytes(BLOCK_BYTES << 3 | 1 << 1);
    vec![a, b, c, 0]
});

/// A raw block's header, from the lowest bit: last (1 bit), raw (2 bits,
/// zero), length (21 bits) (section 3.1.1.2).
fn zstd_block_header(length: u64, last: bool) -> [u8; 3] {
    three_bytes(length << 3 | u64::from(last))
}

fn three_bytes(bits: u64) -> [u8; 3] {
    let [a, b, c, ..] = bits.to_le_bytes();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Around every boundary between parts.
    const SIZES: [u64; 12] =
        [0, 1, 63, 64, 4095, 4096, 4097, 65_535, 65_536, 65_537, 70_000, 1_000_000];

    fn flat(content: &Content) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in content.pieces() {
            match *piece {
                Piece::Cycle { source, length } => {
                    out.extend(source.iter().cycle().take(usize::try_from(length).unwrap()))
                }
                Piece::Short { bytes, length } => {
                    out.extend_from_slice(&bytes[..usize::from(length)]);
                }
            }
        }
        assert_eq!(to_u64(out.len()), content.length());
        out
    }

    #[test]
    fn gzip_decodes_to_the_pattern() {
        for size in SIZES {
            let plain = flat(&Content::new(size, None, Fill::Text));
            let coded = flat(&Content::new(size, Some(BodyCoding::Gzip), Fill::Text));
            let mut decoded = Vec::new();
            // The decoder checks the checksum and the size.
            flate2::bufread::GzDecoder::new(&coded[..]).read_to_end(&mut decoded).unwrap();
            assert_eq!(decoded, plain, "{size}");
        }
    }

    #[test]
    fn brotli_decodes_to_the_pattern() {
        for size in SIZES {
            let plain = flat(&Content::new(size, None, Fill::Text));
            let coded = flat(&Content::new(size, Some(BodyCoding::Brotli), Fill::Text));
            let mut decoded = Vec::new();
            brotli_decompressor::BrotliDecompress(&mut &coded[..], &mut decoded).unwrap();
            assert_eq!(decoded, plain, "{size}");
        }
    }

    #[test]
    fn zstd_decodes_to_the_pattern() {
        for size in SIZES {
            let plain = flat(&Content::new(size, None, Fill::Text));
            let coded = flat(&Content::new(size, Some(BodyCoding::Zstd), Fill::Text));
            let decoded = zstd::decode_all(&coded[..]).unwrap();
            assert_eq!(decoded, plain, "{size}");
        }
    }

    #[test]
    fn bombs_decode_to_zeros_and_are_small() {
        let bomb = |size, coding| Content::new(size, Some(coding), Fill::Zeros);
        for size in SIZES {
            let plain = vec![0; usize::try_from(size).unwrap()];
            let mut decoded = Vec::new();
            let coded = flat(&bomb(size, BodyCoding::Gzip));
            flate2::bufread::GzDecoder::new(&coded[..]).read_to_end(&mut decoded).unwrap();
            assert_eq!(decoded, plain, "gzip {size}");
            decoded.clear();
            let coded = flat(&bomb(size, BodyCoding::Brotli));
            brotli_decompressor::BrotliDecompress(&mut &coded[..], &mut decoded).unwrap();
            assert_eq!(decoded, plain, "br {size}");
            let coded = flat(&bomb(size, BodyCoding::Zstd));
            assert_eq!(zstd::decode_all(&coded[..]).unwrap(), plain, "zstd {size}");
        }
        let ratio = |coding| (1 << 30) / bomb(1 << 30, coding).length();
        assert!(ratio(BodyCoding::Gzip) > 500, "{}", ratio(BodyCoding::Gzip));
        assert!(ratio(BodyCoding::Brotli) > 5000, "{}", ratio(BodyCoding::Brotli));
        assert!(ratio(BodyCoding::Zstd) > 16_000, "{}", ratio(BodyCoding::Zstd));
    }

    #[test]
    fn a_gibibyte_is_small_on_the_wire_and_its_checksum_is_right() {
        let size = 1 << 30;
        let coded = Content::new(size, Some(BodyCoding::Gzip), Fill::Text);
        assert!(coded.length() * 200 < size, "{}", coded.length());
        // Against a checksum taken the long way, over 16 MiB.
        let mut slow = Crc::new();
        for _ in 0..256 {
            slow.update(pattern());
        }
        assert_eq!(DEFLATED.checksum(16 << 20), slow.sum());
    }
}
