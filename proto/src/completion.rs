//! Completions: what became of a URL.

use std::{fmt, time::Duration};

use crate::{
    WireError,
    id::UrlId,
    in_range,
    limits::{BATCH_MAX_URLS, BODY_MAX_BYTES, DETAIL_MAX_BYTES, DETAILS_MAX, TIME_MAX},
    text::plain,
    time::micros,
    wire,
};

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// How a URL ended. A failure is data, not an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Outcome {
            $($(#[$doc])* $variant = $code,)*
        }

        impl Outcome {
            /// Every outcome.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in results files and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The byte on the wire.
            pub const fn code(self) -> u8 {
                self as u8
            }

            const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

outcomes! {
    /// A whole response of any status.
    Ok = 1, "ok";
    /// The name could not be resolved.
    Dns = 2, "dns";
    /// No connection: refused, unreachable, or not within the connect timeout.
    Connect = 3, "connect";
    /// The TLS handshake or the certificate failed.
    Tls = 4, "tls";
    /// The exchange took longer than the timeout.
    Timeout = 5, "timeout";
    /// The connection ended within the exchange.
    Closed = 6, "closed";
    /// What came is not HTTP/1.1, or a limit on headers was passed.
    Protocol = 7, "protocol";
    /// The body is larger than allowed.
    TooLarge = 8, "too_large";
    /// More redirects than allowed.
    RedirectLimit = 9, "redirect_limit";
    /// A redirect to what cannot be fetched.
    BadRedirect = 10, "bad_redirect";
    /// The body could not be decompressed.
    Decode = 11, "decode";
    /// This process has no descriptor, port or memory left for a connection.
    Resource = 12, "resource";
    /// The worker's policy forbids this address.
    Forbidden = 13, "forbidden";
    /// Three fetchers were lost while they held this URL; never sent by a fetcher.
    Abandoned = 14, "abandoned";
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One URL's outcome. Times are in microseconds of the fetcher's clock since Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Which URL.
    pub id: UrlId,
    /// How it ended.
    pub outcome: Outcome,
    /// Of the last response, if there was one.
    pub status: Option<u16>,
    /// Bytes of the last body, after transfer decoding and before content decoding.
    pub body_bytes: u64,
    /// When the URL was taken up.
    pub start_us: u64,
    /// Spent on resolving, connecting and the TLS handshake.
    pub connect_us: u64,
    /// From taking up to the last response's first byte, if one came.
    pub first_byte_us: Option<u64>,
    /// From taking up to the last byte, or to the failure.
    pub duration_us: u64,
    /// Which of the fetcher's slots did it.
    pub slot: u32,
    /// Open loop: from the intended start to the take-up; `None` in a closed loop.
    pub wait_us: Option<u64>,
}

/// Completions in the order in which they happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompletionBatch {
    /// One entry a URL.
    pub completions: Vec<Completion>,
    /// For some failures: their position in `completions`, and what happened.
    pub details: Vec<(u32, String)>,
    /// For answers that say how long to wait before the next request: their
    /// position in `completions`, ascending, and how long.
    pub retry_afters: Vec<(u32, Duration)>,
}

impl CompletionBatch {
    /// How long the server of the completion at this position asks to wait, if it does.
    pub fn retry_after(&self, position: u32) -> Option<Duration> {
        let found = self.retry_afters.binary_search_by_key(&position, |(at, _)| *at);
        found.ok().map(|index| self.retry_afters[index].1)
    }
}

/// Gathers completions as the wire wants them; bounded by [`BATCH_MAX_URLS`].
#[derive(Debug, Default)]
pub struct CompletionBatchBuilder {
    message: wire::CompletionBatch,
    outcomes: Vec<u8>,
    last_id: u64,
}

impl CompletionBatchBuilder {
    /// The next completion comes with how long its server asks to wait.
    pub fn retry_after(&mut self, seconds: u32) {
        self.message.retry_afters.push(wire::RetryAfter {
            index: u32::try_from(self.outcomes.len()).unwrap_or(u32::MAX),
            seconds,
        });
    }

    /// Adds one completion, with a text for people if it failed.
    pub fn push(&mut self, completion: &Completion, detail: Option<&str>) {
        let m = &mut self.message;
        if let Some(text) = detail.filter(|_| m.details.len() < DETAILS_MAX) {
            m.details.push(wire::FailureDetail {
                index: u32::try_from(self.outcomes.len()).unwrap_or(u32::MAX),
                text: text[..text.floor_char_boundary(DETAIL_MAX_BYTES)].to_owned(),
            });
        }
        m.id_deltas.push(completion.id.0.wrapping_sub(self.last_id).cast_signed());
        self.last_id = completion.id.0;
        self.outcomes.push(completion.outcome.code());
        m.statuses.push(completion.status.unwrap_or(0).into());
        m.body_bytes.push(completion.body_bytes);
        m.starts_us.push(completion.start_us);
        m.connects_us.push(completion.connect_us);
        // A first byte within the first microsecond is told as 1 µs: 0 is none.
        m.first_bytes_us.push(completion.first_byte_us.map_or(0, |us| us.max(1)));
        m.durations_us.push(completion.duration_us);
        m.slots.push(completion.slot);
        // All of a fetcher's completions have one, or none has.
        m.waits_us.extend(completion.wait_us);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Whether it must leave before the next completion.
    pub fn is_full(&self) -> bool {
        self.outcomes.len() >= BATCH_MAX_URLS
    }

    /// The message; the builder is empty again afterwards.
    #[must_use]
    pub fn take(&mut self) -> wire::CompletionBatch {
        self.last_id = 0;
        let mut message = std::mem::take(&mut self.message);
        message.outcomes = std::mem::take(&mut self.outcomes).into();
        message
    }
}

/// The largest value of a column is the one to be checked.
fn at_most(
    field: &'static str,
    column: &[u64],
    max: u64,
    range: &'static str,
) -> Result<(), WireError> {
    in_range(field, column.iter().copied().max().unwrap_or(0), 0..=max, range)
}

/// Sums over whole trials stay far from overflowing with these.
fn times(field: &'static str, column: &[u64]) -> Result<(), WireError> {
    at_most(field, column, micros(TIME_MAX), "0 to ten years")
}

impl TryFrom<wire::CompletionBatch> for CompletionBatch {
    type Error = WireError;

    fn try_from(m: wire::CompletionBatch) -> Result<Self, WireError> {
        check_columns(&m)?;
        let count = m.outcomes.len();
        Ok(Self {
            completions: completions(&m)?,
            details: details(m.details, count)?,
            retry_afters: retry_afters(m.retry_afters, count)?,
        })
    }
}

/// Afterwards every column has an entry for each outcome; only waits may be absent.
fn check_columns(m: &wire::CompletionBatch) -> Result<(), WireError> {
    let count = m.outcomes.len();
    let counts = 1..=BATCH_MAX_URLS as u64;
    in_range("outcomes", count as u64, counts, "1 to 4096 completions")?;
    let lengths = [
        m.id_deltas.len(),
        m.statuses.len(),
        m.body_bytes.len(),
        m.starts_us.len(),
        m.connects_us.len(),
        m.first_bytes_us.len(),
        m.durations_us.len(),
        m.slots.len(),
    ];
    if lengths.iter().any(|length| *length != count) {
        return Err(WireError::Inconsistent("the columns of a completion batch differ in length"));
    }
    if !m.waits_us.is_empty() && m.waits_us.len() != count {
        return Err(WireError::Inconsistent("the waits of a completion batch differ in length"));
    }
    times("starts_us", &m.starts_us)?;
    times("connects_us", &m.connects_us)?;
    times("first_bytes_us", &m.first_bytes_us)?;
    times("durations_us", &m.durations_us)?;
    times("waits_us", &m.waits_us)?;
    at_most("body_bytes", &m.body_bytes, BODY_MAX_BYTES, "0 to 2^48")
}

fn completions(m: &wire::CompletionBatch) -> Result<Vec<Completion>, WireError> {
    let mut id = 0_u64;
    let mut completions = Vec::with_capacity(m.outcomes.len());
    for i in 0..m.outcomes.len() {
        id = id.wrapping_add(m.id_deltas[i].cast_unsigned());
        completions.push(Completion {
            id: UrlId(id),
            outcome: outcome(m.outcomes[i])?,
            status: status(m.statuses[i])?,
            body_bytes: m.body_bytes[i],
            start_us: m.starts_us[i],
            connect_us: m.connects_us[i],
            first_byte_us: Some(m.first_bytes_us[i]).filter(|us| *us != 0),
            duration_us: m.durations_us[i],
            slot: m.slots[i],
            wait_us: m.waits_us.get(i).copied(),
        });
    }
    Ok(completions)
}

/// A fetcher gives no URL up: that is the coordinator's decision.
fn outcome(code: u8) -> Result<Outcome, WireError> {
    Outcome::from_code(code)
        .filter(|outcome| *outcome != Outcome::Abandoned)
        .ok_or(WireError::Unknown("outcomes", code.into()))
}

fn status(code: u32) -> Result<Option<u16>, WireError> {
    let range = "0, 100 to 999";
    match u16::try_from(code) {
        Ok(0) => Ok(None),
        Ok(status @ 100..=999) => Ok(Some(status)),
        _ => Err(WireError::OutOfRange { field: "statuses", value: code.into(), range }),
    }
}

fn details(
    details: Vec<wire::FailureDetail>,
    count: usize,
) -> Result<Vec<(u32, String)>, WireError> {
    if details.len() > DETAILS_MAX {
        return Err(WireError::Inconsistent("a batch holds too many details"));
    }
    let detail = |detail: wire::FailureDetail| {
        in_range("details.index", detail.index.into(), 0..count as u64, "the batch")?;
        Ok((detail.index, plain(&detail.text, DETAIL_MAX_BYTES)))
    };
    details.into_iter().map(detail).collect()
}

fn retry_afters(
    answers: Vec<wire::RetryAfter>,
    count: usize,
) -> Result<Vec<(u32, Duration)>, WireError> {
    let mut next = 0;
    let answer = |answer: wire::RetryAfter| {
        let index = answer.index.into();
        let ascending = "the batch, in ascending order";
        in_range("retry_afters.index", index, next..count as u64, ascending)?;
        next = index + 1;
        Ok((answer.index, Duration::from_secs(answer.seconds.into())))
    };
    answers.into_iter().map(answer).collect()
}

/// URLs that were taken up, in order; only where starts are reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartedBatch {
    /// Each URL with the moment of its take-up, in microseconds since Go.
    pub starts: Vec<(UrlId, u64)>,
}

impl From<&StartedBatch> for wire::StartedBatch {
    fn from(batch: &StartedBatch) -> Self {
        let mut last = 0_u64;
        Self {
            id_deltas: batch
                .starts
                .iter()
                .map(|(id, _)| {
                    let delta = id.0.wrapping_sub(last).cast_signed();
                    last = id.0;
                    delta
                })
                .collect(),
            starts_us: batch.starts.iter().map(|(_, us)| *us).collect(),
        }
    }
}

impl TryFrom<wire::StartedBatch> for StartedBatch {
    type Error = WireError;

    fn try_from(m: wire::StartedBatch) -> Result<Self, WireError> {
        if m.id_deltas.len() != m.starts_us.len() || m.id_deltas.len() > BATCH_MAX_URLS {
            return Err(WireError::Inconsistent(
                "the columns of a started batch differ in length or are too long",
            ));
        }
        times("starts_us", &m.starts_us)?;
        let mut id = 0_u64;
        Ok(Self {
            starts: m
                .id_deltas
                .iter()
                .zip(m.starts_us)
                .map(|(delta, us)| {
                    id = id.wrapping_add(delta.cast_unsigned());
                    (UrlId(id), us)
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = u64> {
        0..=u64::try_from(TIME_MAX.as_micros()).unwrap()
    }

    fn completion() -> impl Strategy<Value = Completion> {
        (
            any::<u64>(),
            prop::sample::select(&Outcome::ALL[..13]),
            prop::option::of(100_u16..1000),
            (0..=BODY_MAX_BYTES, time(), time(), time()),
            prop::option::of(time().prop_map(|us| us.max(1))),
            any::<u32>(),
        )
            .prop_map(
                |(
                    id,
                    outcome,
                    status,
                    (body_bytes, start_us, connect_us, duration_us),
                    first_byte_us,
                    slot,
                )| Completion {
                    id: UrlId(id),
                    outcome,
                    status,
                    body_bytes,
                    start_us,
                    connect_us,
                    first_byte_us,
                    duration_us,
                    slot,
                    wait_us: None,
                },
            )
    }

    proptest! {
        #[test]
        fn completions_survive_the_wire(mut completions in prop::collection::vec(completion(), 1..20), detail in ".{0,300}", wait_us in prop::option::of(time())) {
            for completion in &mut completions {
                completion.wait_us = wait_us;
            }
            let mut builder = CompletionBatchBuilder::default();
            for completion in &completions {
                builder.push(completion, None);
            }
            builder.retry_after(7);
            builder.push(&completions[0], Some(&detail));
            let batch = CompletionBatch::try_from(builder.take()).unwrap();
            prop_assert!(builder.is_empty());
            prop_assert_eq!(&batch.completions[..completions.len()], &completions[..]);
            prop_assert_eq!(batch.details[0].0 as usize, completions.len());
            prop_assert_eq!(&batch.details[0].1, &plain(&detail, DETAIL_MAX_BYTES));
            prop_assert_eq!(batch.retry_after(batch.details[0].0), Some(Duration::from_secs(7)));
            prop_assert_eq!(batch.retry_after(0), None);
        }

        #[test]
        fn starts_survive_the_wire(starts in prop::collection::vec((any::<u64>(), time()), 0..20)) {
            let batch = StartedBatch { starts: starts.into_iter().map(|(id, us)| (UrlId(id), us)).collect() };
            prop_assert_eq!(StartedBatch::try_from(wire::StartedBatch::from(&batch)), Ok(batch));
        }
    }

    #[test]
    fn a_fetcher_cannot_send_what_is_none_of_its_business() {
        let mut builder = CompletionBatchBuilder::default();
        let good = Completion {
            id: UrlId(1),
            outcome: Outcome::Ok,
            status: Some(200),
            body_bytes: 0,
            start_us: 0,
            connect_us: 0,
            first_byte_us: None,
            duration_us: 0,
            slot: 0,
            wait_us: None,
        };
        builder.push(&good, None);
        let message = builder.take();
        let refused = |change: fn(&mut wire::CompletionBatch)| {
            let mut message = message.clone();
            change(&mut message);
            CompletionBatch::try_from(message).is_err()
        };
        assert!(CompletionBatch::try_from(message.clone()).is_ok());
        assert!(refused(|m| m.outcomes = vec![Outcome::Abandoned.code()].into()));
        assert!(refused(|m| m.outcomes = vec![0].into()));
        assert!(refused(|m| m.outcomes = vec![].into()));
        assert!(refused(|m| m.statuses[0] = 99));
        assert!(refused(|m| m.statuses[0] = 70_000));
        assert!(refused(|m| m.slots.clear()));
        assert!(refused(|m| m.starts_us[0] = u64::MAX));
        assert!(refused(|m| m.connects_us[0] = u64::MAX));
        assert!(refused(|m| m.first_bytes_us[0] = u64::MAX));
        assert!(refused(|m| m.durations_us[0] = u64::MAX));
        assert!(refused(|m| m.waits_us = vec![u64::MAX]));
        assert!(refused(|m| m.body_bytes[0] = u64::MAX));
        assert!(refused(|m| m.waits_us = vec![1, 2]));
        assert!(!refused(|m| m.retry_afters = vec![wire::RetryAfter { index: 0, seconds: 1 }]));
        assert!(refused(|m| m.retry_afters = vec![wire::RetryAfter { index: 1, seconds: 1 }]));
        assert!(refused(|m| m.retry_afters = vec![wire::RetryAfter { index: 0, seconds: 1 }; 2]));
        assert!(refused(|m| m.details.push(wire::FailureDetail { index: 1, text: String::new() })));
    }
}
