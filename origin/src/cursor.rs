//! How a rendered response is sent: from where on, how much at once, how fast.

use std::{io::IoSlice, time::Duration};

use crate::{
    behaviour::SendPace,
    limits::{SLOW_WRITES_PER_S, WRITE_MAX_BYTES},
    number::{to_u64, to_usize},
    response::{RenderedResponse, Segment},
};

pub(crate) const SLICES_MAX: usize = 16;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendCursor {
    segment: usize,
    offset: u64,
    sent: u64,
}

impl SendCursor {
    pub(crate) fn at_end(&self, response: &RenderedResponse) -> bool {
        self.segment == response.segments.len()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// What comes next, at most `limit` bytes of it; returns how many of
    /// `slices` are used, at least one unless all is sent.
    pub(crate) fn gather<'r>(
        &self,
        response: &'r RenderedResponse,
        limit: u64,
        slices: &mut [IoSlice<'r>; SLICES_MAX],
    ) -> usize {
        let mut left = limit;
        let mut used = 0;
        let mut skip = self.offset;
        for segment in &response.segments[self.segment..] {
            let mut at = skip;
            skip = 0;
            while at < segment.length() {
                if left == 0 || used == SLICES_MAX {
                    return used;
                }
                let run: &[u8] = match *segment {
                    Segment::Text { start, end } => &response.text[start + to_usize(at)..end],
                    Segment::Cycle { source, length } => {
                        let phase = to_usize(at % to_u64(source.len()));
                        let run = &source[phase..];
                        let last = (length - at).min(to_u64(run.len()));
                        &run[..to_usize(last)]
                    }
                };
                let run = &run[..to_usize(left.min(to_u64(run.len())))];
                slices[used] = IoSlice::new(run);
                used += 1;
                at += to_u64(run.len());
                left -= to_u64(run.len());
            }
        }
        used
    }

    pub(crate) fn advance(&mut self, response: &RenderedResponse, count: usize) {
        let mut left = to_u64(count);
        self.sent += left;
        while let Some(segment) = response.segments.get(self.segment) {
            let here = segment.length() - self.offset;
            if left < here {
                self.offset += left;
                return;
            }
            left -= here;
            self.segment += 1;
            self.offset = 0;
        }
    }
}

/// How much of a paced response may be written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stride {
    pub(crate) bytes: u64,
    /// Time from the stride before to this one; `None`: no wait.
    pub(crate) interval: Option<Duration>,
}

impl RenderedResponse {
    /// The next write when `sent` bytes are out.
    pub(crate) fn stride(&self, sent: u64) -> Stride {
        let free = |bytes| Stride { bytes, interval: None };
        let slow = |rate: u32| {
            let bytes = rate.div_ceil(SLOW_WRITES_PER_S);
            Stride {
                bytes: u64::from(bytes),
                interval: Some(Duration::from_secs(bytes.into()) / rate),
            }
        };
        match self.pace {
            None => free(WRITE_MAX_BYTES),
            Some(SendPace::Split) => free(1),
            Some(SendPace::Slow(rate)) => slow(rate),
            Some(SendPace::SlowBody(_)) if sent < self.head_length => free(self.head_length - sent),
            Some(SendPace::SlowBody(rate)) => slow(rate),
        }
    }
}
