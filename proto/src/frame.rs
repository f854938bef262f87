//! Frames over pipes: a protobuf varint length, then the message.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::limits::FRAME_MAX_BYTES;

/// A stream of bytes that is not a stream of frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix is above [`FRAME_MAX_BYTES`].
    #[error("a frame of {0} bytes is longer than the {FRAME_MAX_BYTES} allowed")]
    TooLong(u64),
    /// The length prefix does not end within ten bytes.
    #[error("a frame's length is not a varint")]
    BadLength,
}

/// Appends `message` to `out` as one frame.
pub fn encode<M: Message>(message: &M, out: &mut Vec<u8>) {
    message.encode_length_delimited(out).expect("a Vec grows as needed");
}

/// Writes the length prefix that must stand before an already encoded message.
#[must_use]
pub fn prefix(length: usize) -> Prefix {
    let mut bytes = [0; 10];
    let mut rest = &mut bytes[..];
    prost::encode_length_delimiter(length, &mut rest).expect("ten bytes hold any varint");
    let unused = rest.len();
    Prefix { bytes, len: 10 - unused }
}

/// An encoded length.
#[derive(Debug, Clone, Copy)]
pub struct Prefix {
    bytes: [u8; 10],
    len: usize,
}

impl AsRef<[u8]> for Prefix {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Takes the next whole frame's message out of `buffer`; `None` until it is there.
///
/// ```
/// use bytes::BytesMut;
/// use fanout_proto::{frame, wire};
/// use prost::Message;
///
/// let mut sent = Vec::new();
/// let failed = wire::SetupFailed { reason: "no such model".into() };
/// frame::encode(&failed, &mut sent);
///
/// let mut pipe = BytesMut::from(&sent[..5]);
/// assert_eq!(frame::take(&mut pipe)?, None, "half a frame");
/// pipe.extend_from_slice(&sent[5..]);
/// let message = frame::take(&mut pipe)?.expect("a whole frame");
/// assert_eq!(wire::SetupFailed::decode(message).unwrap(), failed);
/// # Ok::<(), frame::FrameError>(())
/// ```
///
/// # Errors
///
/// [`FrameError`] when the bytes cannot be a frame; the stream is then lost.
pub fn take(buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
    let Some((length, prefix)) = peek_length(buffer)? else {
        return Ok(None);
    };
    if buffer.len() < prefix + length {
        buffer.reserve(prefix + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(prefix);
    Ok(Some(buffer.split_to(length).freeze()))
}

fn peek_length(buffer: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut length = 0_u64;
    for (position, byte) in buffer.iter().take(10).enumerate() {
        let shift = 7 * u32::try_from(position).expect("at most nine");
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(FrameError::BadLength);
        }
        length |= bits << shift;
        if byte & 0x80 == 0 {
            return match usize::try_from(length) {
                Ok(fits) if fits <= FRAME_MAX_BYTES => Ok(Some((fits, position + 1))),
                _ => Err(FrameError::TooLong(length)),
            };
        }
    }
    if buffer.len() >= 10 {
        return Err(FrameError::BadLength);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use proptest::prelude::*;

    #[test]
    fn a_length_above_the_limit_is_refused_before_it_is_read() {
        let mut buffer = BytesMut::from(prefix(FRAME_MAX_BYTES + 1).as_ref());
        assert_eq!(take(&mut buffer), Err(FrameError::TooLong(FRAME_MAX_BYTES as u64 + 1)));
    }

    #[test]
    fn a_length_without_end_is_refused() {
        assert_eq!(take(&mut BytesMut::from(&[0xff_u8; 10][..])), Err(FrameError::BadLength));
        assert_eq!(take(&mut BytesMut::from(&[0xff_u8; 9][..])), Ok(None));
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(texts in prop::collection::vec("[a-z]{0,300}", 0..8), cut in 1_usize..40) {
            let mut stream = Vec::new();
            for text in &texts {
                encode(&wire::Goodbye { reason: text.clone() }, &mut stream);
            }
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            for piece in stream.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = take(&mut buffer).unwrap() {
                    found.push(wire::Goodbye::decode(frame).unwrap().reason);
                }
            }
            prop_assert_eq!(found, texts);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut buffer) {}
        }
    }
}
