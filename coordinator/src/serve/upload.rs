//! What a client sends after its submission, written to disk as it comes.

use std::{path::Path, time::Duration};

use fanout_proto::{
    WireError,
    limits::LIST_MAX_BYTES,
    wire::{self, submit_part::Part},
};
use tokio::{fs::File, io::AsyncWriteExt, time::Instant};
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::plan::Received;

/// A client sends the next part of its list within this time.
const PART_PATIENCE: Duration = Duration::from_secs(60);
/// A list comes at least this fast on average, once the patience is used up:
/// it has a place in the queue meanwhile.
const LIST_BYTES_PER_S_MIN: u64 = 4 * 1024;

pub(super) fn invalid(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(super) async fn next_part(
    parts: &mut Streaming<wire::SubmitPart>,
) -> Result<Option<Part>, Status> {
    let next = tokio::time::timeout(PART_PATIENCE, parts.next()).await;
    let next =
        next.map_err(|_| Status::deadline_exceeded("the client sent nothing for too long"))?;
    let Some(part) = next else { return Ok(None) };
    let missing = || invalid(&WireError::Missing("part"));
    part?.part.ok_or_else(missing).map(Some)
}

/// Writes what is done already of a resumed fetch, then the list.
pub(super) async fn receive(
    parts: &mut Streaming<wire::SubmitPart>,
    received: &mut Received,
) -> Result<(), Status> {
    let has_list = received.submission.list_name.is_some();
    let mut part = None;
    if let Some(resumed) = &received.submission.resumed {
        let path = received.directory.join("done");
        let mut done = Upload::create(&path, resumed.urls.div_ceil(8)).await?;
        part = loop {
            match next_part(parts).await? {
                Some(Part::Done(bytes)) => done.write(&bytes).await?,
                other => break other,
            }
        };
        done.finish().await?;
        received.done = Some(path);
    } else if has_list {
        part = next_part(parts).await?;
    }
    if !has_list {
        return Ok(());
    }
    let path = received.directory.join("list");
    let mut list = Upload::create(&path, LIST_MAX_BYTES).await?;
    while let Some(Part::List(bytes)) = part {
        list.write(&bytes).await?;
        part = next_part(parts).await?;
    }
    if part.is_some() {
        return Err(invalid(&WireError::Inconsistent(
            "a submission comes once, then what is done, then the list",
        )));
    }
    list.finish().await?;
    received.list = Some(path);
    Ok(())
}

struct Upload {
    file: File,
    began: Instant,
    length: u64,
    limit: u64,
}

impl Upload {
    async fn create(path: &Path, limit: u64) -> Result<Self, Status> {
        Ok(Self {
            file: File::create(path).await.map_err(cannot_keep)?,
            began: Instant::now(),
            length: 0,
            limit,
        })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Status> {
        self.length += bytes.len() as u64;
        if self.length > self.limit {
            return Err(Status::resource_exhausted(format!(
                "what was sent is longer than the {} bytes that are taken",
                self.limit
            )));
        }
        if is_too_slow(self.length, self.began.elapsed()) {
            return Err(Status::deadline_exceeded(format!(
                "what was sent comes slower than {LIST_BYTES_PER_S_MIN} bytes a second"
            )));
        }
        self.file.write_all(bytes).await.map_err(cannot_keep)
    }

    async fn finish(mut self) -> Result<(), Status> {
        self.file.flush().await.map_err(cannot_keep)
    }
}

fn is_too_slow(bytes: u64, elapsed: Duration) -> bool {
    let counted = elapsed.saturating_sub(PART_PATIENCE);
    bytes < counted.as_secs().saturating_mul(LIST_BYTES_PER_S_MIN)
}

fn cannot_keep(error: std::io::Error) -> Status {
    Status::resource_exhausted(format!(
        "the coordinator cannot keep the list: {error}; make room where its data is"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_begin_slowly_but_not_trickle_for_ever() {
        let seconds = Duration::from_secs;
        assert!(!is_too_slow(0, seconds(60)));
        assert!(is_too_slow(0, seconds(61)));
        assert!(is_too_slow(4_095, seconds(61)));
        assert!(!is_too_slow(4_096, seconds(61)));
        assert!(!is_too_slow(u64::MAX, seconds(u64::MAX)));
    }
}
