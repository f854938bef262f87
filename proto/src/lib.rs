//! fanout's wire format, and the domain types that stand behind it.
//!
//! Generated types live in [`wire`] and go no further than the edge of a process: everything that
//! comes in passes a `TryFrom` here, which answers with a typed [`WireError`] that names the field.

use std::ops::RangeBounds;

pub mod arm;
pub mod completion;
pub mod control;
pub mod declaration;
pub mod frame;
pub mod http;
pub mod id;
pub mod lease;
pub mod limits;
mod message;
pub mod report;
pub mod setup;
pub mod text;
pub mod time;
pub mod worker;

/// Types generated from `fanout.proto`; clients and servers of its services stand
/// behind the feature `grpc`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod wire {
    include!(concat!(env!("OUT_DIR"), "/fanout.v1.rs"));
}

/// `fanout.proto` as an encoded `FileDescriptorSet`, for servers that describe themselves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fanout.bin"));

/// Raised whenever a peer of the previous version could misunderstand.
pub const PROTOCOL_VERSION: u32 = 3;

/// Raised whenever a fetcher of another maker that was written for the previous version could
/// misunderstand; docs/fetcher-protocol.md tells what it stands for.
pub const FETCHER_PROTOCOL: u32 = 1;

/// A message from a peer that does not make sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field holds a value outside its range.
    #[error("{field} is {value}, outside {range}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// The value found.
        value: u64,
        /// The values allowed, for people.
        range: &'static str,
    },
    /// An enumeration holds a number that this version does not know.
    #[error("{0} holds the unknown value {1}")]
    Unknown(&'static str, i64),
    /// Columns or lengths that must agree do not.
    #[error("{0}")]
    Inconsistent(&'static str),
    /// A text is not what its field asks for.
    #[error("{0} is not valid: {1}")]
    Invalid(&'static str, &'static str),
    /// The bytes are no message at all.
    #[error("not a message of this protocol: {0}")]
    Undecodable(String),
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Undecodable(error.to_string())
    }
}

/// Refuses a field's value outside `range`; `words` are the range for people.
pub fn in_range(
    field: &'static str,
    value: u64,
    range: impl RangeBounds<u64>,
    words: &'static str,
) -> Result<(), WireError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(WireError::OutOfRange { field, value, range: words }),
    }
}
