//! What a worker says of itself and how it starts fetchers.

use tonic::metadata::AsciiMetadataValue;

use crate::supervise::FetcherCommand;

/// What a worker says of itself and how it starts fetchers.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Told to the coordinator, for people.
    pub name: String,
    /// Fetchers at a time, 1 to 4,096.
    pub slots: u32,
    /// The `authorization` of the stream, if the coordinator asks for one.
    pub authorization: Option<AsciiMetadataValue>,
    /// How to start a fetcher.
    pub fetcher: FetcherCommand,
}
