//! What a fetcher says, as far as the worker looks into it.

use bytes::Bytes;
use fanout_proto::{WireError, report::FetcherReport, text, wire};
use prost::Message;

#[derive(Debug, PartialEq)]
pub(crate) enum FetcherMessage {
    /// Of no concern to the worker, and not decoded.
    Forward(Bytes),
    Ready,
    Report(FetcherReport),
    SetupFailed(String),
}

impl TryFrom<Bytes> for FetcherMessage {
    type Error = WireError;

    fn try_from(frame: Bytes) -> Result<Self, WireError> {
        use wire::from_fetcher::Message as From;
        if is_batch(&frame) {
            return Ok(Self::Forward(frame));
        }
        let message = wire::FromFetcher::decode(frame.clone())?.message;
        Ok(match message.ok_or(WireError::Missing("message"))? {
            From::Ready(_) => Self::Ready,
            From::Completions(_) | From::Started(_) => Self::Forward(frame),
            From::Report(report) => Self::Report(report.try_into()?),
            From::Failed(wire::SetupFailed { reason }) => Self::SetupFailed(text::reason(&reason)),
        })
    }
}

/// Whether `frame` is a batch of completions or of starts and nothing else, by its outermost field
/// alone: decoding the columns would cost more than everything else that the worker does with them.
fn is_batch(frame: &[u8]) -> bool {
    const COMPLETIONS: u8 = 2 << 3 | 2;
    const STARTED: u8 = 3 << 3 | 2;
    match frame.split_first() {
        Some((&(COMPLETIONS | STARTED), mut rest)) => {
            // Decoding moves `rest` past the length.
            prost::decode_length_delimiter(&mut rest).is_ok_and(|length| length == rest.len())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanout_proto::{
        completion::{Completion, CompletionBatchBuilder, Outcome},
        id::UrlId,
    };

    fn encoded(message: Option<wire::from_fetcher::Message>) -> Bytes {
        wire::FromFetcher { message }.encode_to_vec().into()
    }

    fn completions(count: u64) -> wire::CompletionBatch {
        let mut builder = CompletionBatchBuilder::default();
        for id in 0..count {
            let completion = Completion {
                id: UrlId(id),
                outcome: Outcome::Ok,
                status: Some(200),
                body_bytes: 64,
                start_us: id,
                connect_us: 0,
                first_byte_us: Some(1),
                duration_us: 2,
                slot: 0,
                wait_us: None,
            };
            builder.push(&completion, None);
        }
        builder.take()
    }

    #[test]
    fn batches_are_known_by_their_first_bytes() {
        use wire::from_fetcher::Message as From;
        for count in [1, 100, 4096] {
            let frame = encoded(Some(From::Completions(completions(count))));
            assert!(is_batch(&frame));
            assert_eq!(FetcherMessage::try_from(frame.clone()), Ok(FetcherMessage::Forward(frame)));
        }
        let started = encoded(Some(From::Started(wire::StartedBatch::default())));
        assert!(is_batch(&started));
        for other in [
            From::Ready(wire::FetcherIsReady::default()),
            From::Report(wire::FetcherReport::default()),
            From::Failed(wire::SetupFailed::default()),
        ] {
            assert!(!is_batch(&encoded(Some(other))));
        }
    }

    #[test]
    fn nothing_hides_behind_a_batch() {
        use wire::from_fetcher::Message as From;
        let mut both = encoded(Some(From::Completions(completions(3)))).to_vec();
        both.extend(encoded(Some(From::Ready(wire::FetcherIsReady::default()))));
        // The last field of a oneof holds.
        assert_eq!(FetcherMessage::try_from(Bytes::from(both)), Ok(FetcherMessage::Ready));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert_eq!(FetcherMessage::try_from(Bytes::new()), Err(WireError::Missing("message")));
        assert_eq!(
            FetcherMessage::try_from(Bytes::from_static(b"\x7a\x00")),
            Err(WireError::Missing("message"))
        );
        assert!(matches!(
            FetcherMessage::try_from(Bytes::from_static(b"hello, world")),
            Err(WireError::Undecodable(_))
        ));
        // A batch that is longer than its frame.
        assert!(FetcherMessage::try_from(Bytes::from_static(b"\x12\x05\x01")).is_err());
    }
}
