//! What the fuzz targets call: the edges at which others' bytes come in.

use bytes::BytesMut;
use fanout_proto::{WireError, frame, wire};
use prost::Message;

use crate::{message::Order, supervise::FetcherMessage};

/// Reads what a fetcher wrote, as far as it is there, like the worker does:
/// a word for each frame is added to `found`.
///
/// # Errors
///
/// What the worker would say of the fetcher.
pub fn answers(buffer: &mut BytesMut, found: &mut Vec<String>) -> Result<(), String> {
    while let Some(frame) = frame::take(buffer).map_err(|error| error.to_string())? {
        let answer = FetcherMessage::try_from(frame).map_err(|error| error.to_string())?;
        found.push(match answer {
            FetcherMessage::Forward(frame) => format!("forward {}", frame.len()),
            other => format!("{other:?}"),
        });
    }
    Ok(())
}

/// Reads one message of a coordinator.
///
/// # Errors
///
/// What the worker would say of the coordinator.
pub fn order(bytes: &[u8]) -> Result<(), WireError> {
    Order::try_from(wire::ToWorker::decode(bytes)?).map(drop)
}
