//! Lease batches: URLs on their way into a fetcher's hands.

use bytes::Bytes;

use crate::{
    WireError,
    id::UrlId,
    in_range,
    limits::{BATCH_MAX_BYTES, BATCH_MAX_URLS, URL_MAX_BYTES},
    wire,
};

/// URLs that one fetcher may take up, checked as a whole, and handed out one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseBatch {
    ids: Ids,
    lengths: Vec<u32>,
    text: Bytes,
    /// Of the URL that comes next.
    index: usize,
    offset: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ids {
    From(u64),
    Each(Vec<u64>),
}

impl LeaseBatch {
    /// The next URL with its id; `None` at the end.
    pub fn advance(&mut self) -> Option<(UrlId, &[u8])> {
        let length = *self.lengths.get(self.index)?;
        let id = match &self.ids {
            Ids::From(first) => first + self.index as u64,
            Ids::Each(ids) => ids[self.index],
        };
        let start = self.offset;
        self.offset += length as usize;
        self.index += 1;
        Some((UrlId(id), &self.text[start..self.offset]))
    }

    /// URLs that were not yet handed out.
    pub fn remaining(&self) -> usize {
        self.lengths.len() - self.index
    }

    /// Bytes of the whole batch, which it holds until it is dropped.
    pub fn held_bytes(&self) -> usize {
        self.text.len()
    }
}

impl TryFrom<wire::LeaseBatch> for LeaseBatch {
    type Error = WireError;

    fn try_from(batch: wire::LeaseBatch) -> Result<Self, WireError> {
        let count = batch.lengths.len();
        in_range("lengths", count as u64, 1..=BATCH_MAX_URLS as u64, "1 to 4096 URLs")?;
        if batch.lengths.iter().any(|l| *l as usize > URL_MAX_BYTES) {
            return Err(WireError::Inconsistent("a URL is longer than 16 KiB"));
        }
        let bytes = batch.text.len() as u64;
        in_range("text", bytes, 0..=BATCH_MAX_BYTES as u64, "0 to 256 KiB")?;
        let total: u64 = batch.lengths.iter().copied().map(u64::from).sum();
        if total != bytes {
            return Err(WireError::Inconsistent("the lengths do not add up to the text"));
        }
        let ids = if batch.ids.is_empty() {
            if batch.first_id.checked_add(count as u64).is_none() {
                return Err(WireError::Inconsistent("the ids run past the last one"));
            }
            Ids::From(batch.first_id)
        } else if batch.ids.len() == count {
            Ids::Each(batch.ids)
        } else {
            return Err(WireError::Inconsistent("as many ids as URLs are needed"));
        };
        Ok(Self { ids, lengths: batch.lengths, text: batch.text, index: 0, offset: 0 })
    }
}

/// Gathers URLs into one batch, up to its limits.
#[derive(Debug, Default)]
pub struct LeaseBatchBuilder {
    ids: Vec<u64>,
    lengths: Vec<u32>,
    text: Vec<u8>,
}

impl LeaseBatchBuilder {
    /// Whether `url` still fits into this batch.
    pub fn fits(&self, url: &[u8]) -> bool {
        self.lengths.len() < BATCH_MAX_URLS
            && (self.text.is_empty() || self.text.len() + url.len() <= BATCH_MAX_BYTES)
    }

    /// Adds a URL of at most [`URL_MAX_BYTES`].
    pub fn push(&mut self, id: UrlId, url: &[u8]) {
        debug_assert!(url.len() <= URL_MAX_BYTES && self.fits(url));
        self.ids.push(id.0);
        self.lengths.push(u32::try_from(url.len()).unwrap_or(u32::MAX));
        self.text.extend_from_slice(url);
    }

    /// The message; ids that follow one another are not spelled out.
    #[must_use]
    pub fn finish(self) -> wire::LeaseBatch {
        let first_id = self.ids.first().copied().unwrap_or(0);
        let contiguous = self.ids.iter().zip(first_id..).all(|(id, next)| *id == next);
        wire::LeaseBatch {
            first_id,
            ids: if contiguous { Vec::new() } else { self.ids },
            lengths: self.lengths,
            text: self.text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_batch_survives_the_wire(urls in prop::collection::vec((0_u64..50, "[a-z]{0,20}"), 1..20), start in prop::option::of(any::<u32>())) {
            let mut builder = LeaseBatchBuilder::default();
            let sent: Vec<_> = urls.iter().enumerate().map(|(index, (id, url))| {
                (UrlId(start.map_or(*id, |s| u64::from(s) + index as u64)), Bytes::from(url.clone()))
            }).collect();
            for (id, url) in &sent {
                builder.push(*id, url);
            }
            let message = builder.finish();
            if start.is_some() {
                prop_assert!(message.ids.is_empty());
            }
            let batch = LeaseBatch::try_from(message).unwrap();
            let mut cursor = batch.clone();
            prop_assert_eq!(cursor.remaining(), sent.len());
            for (id, url) in &sent {
                prop_assert_eq!(cursor.advance(), Some((*id, &url[..])));
            }
            prop_assert_eq!(cursor.advance(), None);
            prop_assert_eq!(batch.remaining(), sent.len());
        }
    }

    #[test]
    fn columns_that_disagree_are_refused() {
        let good = wire::LeaseBatch {
            first_id: 0,
            ids: vec![],
            lengths: vec![1, 2],
            text: Bytes::from_static(b"abc"),
        };
        let refused = |change: fn(&mut wire::LeaseBatch)| {
            let mut batch = good.clone();
            change(&mut batch);
            LeaseBatch::try_from(batch).is_err()
        };
        assert!(LeaseBatch::try_from(good.clone()).is_ok());
        assert!(refused(|b| b.lengths.clear()));
        assert!(refused(|b| b.lengths.push(1)));
        assert!(refused(|b| b.ids.push(1)));
        assert!(refused(|b| b.first_id = u64::MAX));
        assert!(refused(|b| b.lengths = vec![u32::MAX, 2]));
        assert!(refused(|b| {
            b.lengths = vec![1; BATCH_MAX_URLS + 1];
            b.text = vec![0; BATCH_MAX_URLS + 1].into();
        }));
        assert!(refused(|b| {
            b.lengths = vec![16 * 1024; 17];
            b.text = vec![0; 17 * 16 * 1024].into();
        }));
    }
}
