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

/// The length prefix that must stand before an already encoded message.
pub fn prefix(length: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    prost::encode_length_delimiter(length, &mut bytes).expect("a buffer grows as needed");
    bytes.freeze()
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
    let mut rest = &buffer[..];
    let length = match prost::decode_length_delimiter(&mut rest) {
        Ok(length) if length <= FRAME_MAX_BYTES => length,
        Ok(length) => return Err(FrameError::TooLong(length as u64)),
        // Ten bytes hold any length.
        Err(_) if buffer.len() < 10 => return Ok(None),
        Err(_) => return Err(FrameError::BadLength),
    };
    let prefix = buffer.len() - rest.len();
    if rest.len() < length {
        buffer.reserve(prefix + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(prefix);
    Ok(Some(buffer.split_to(length).freeze()))
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
