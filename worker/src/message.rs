//! The edge of the gRPC stream: what the coordinator says becomes an [`Order`],
//! what the worker knows becomes a message.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use bytes::Bytes;
use fanout_proto::{
    WireError,
    id::{FetcherId, TrialId, WorkerId},
    in_range,
    limits::{FETCHERS_MAX, FRAME_MAX_BYTES},
    report::{FetcherExited, MemorySample, WorkerUsage},
    wire::{self, from_worker, to_worker},
};

/// Intervals between heartbeats that a coordinator may ask for: a silent peer must be found within
/// minutes.
const HEARTBEATS_MS: RangeInclusive<u64> = 10..=60_000;

#[derive(Debug, PartialEq)]
pub(crate) enum Order {
    Welcome { worker: WorkerId, heartbeat: Duration },
    Refused(String),
    Prepare(Prepare),
    Frame { trial: TrialId, fetcher: FetcherId, frame: Bytes },
    Go(TrialId),
    Finish(TrialId),
    Kill(TrialId, FetcherId),
    Abort(TrialId),
    Heartbeat,
    Goodbye(String),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Prepare {
    pub(crate) trial: TrialId,
    pub(crate) fetchers: Vec<FetcherSpec>,
    /// Between two memory samples; without it there is none but at the hold.
    pub(crate) memory_interval: Option<Duration>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct FetcherSpec {
    pub(crate) fetcher: FetcherId,
    /// An encoded message, passed on as it is.
    pub(crate) setup: Bytes,
    /// Empty for all that the worker may use.
    pub(crate) cpus: Vec<u32>,
    /// The worker's fetcher of that name; empty: fanout's own.
    pub(crate) program: String,
}

impl TryFrom<wire::ToWorker> for Order {
    type Error = WireError;

    fn try_from(message: wire::ToWorker) -> Result<Self, WireError> {
        use to_worker::Message as M;
        Ok(match message.message.ok_or(WireError::Missing("message"))? {
            M::Welcome(m) => Self::Welcome {
                worker: WorkerId(m.worker_id),
                heartbeat: heartbeat(m.heartbeat_interval_ms)?,
            },
            M::Refused(m) => Self::Refused(m.reason),
            M::Prepare(m) => Self::Prepare(m.try_into()?),
            M::Frame(m) => Self::Frame {
                trial: TrialId(m.trial),
                fetcher: FetcherId(m.fetcher),
                frame: bounded("frame", m.frame)?,
            },
            M::Go(m) => Self::Go(TrialId(m.trial)),
            M::Finish(m) => Self::Finish(TrialId(m.trial)),
            M::Kill(m) => Self::Kill(TrialId(m.trial), FetcherId(m.fetcher)),
            M::Abort(m) => Self::Abort(TrialId(m.trial)),
            M::Heartbeat(_) => Self::Heartbeat,
            M::Goodbye(m) => Self::Goodbye(m.reason),
        })
    }
}

impl TryFrom<wire::Prepare> for Prepare {
    type Error = WireError;

    fn try_from(m: wire::Prepare) -> Result<Self, WireError> {
        let count = m.fetchers.len();
        in_range("fetchers", count as u64, 0..=FETCHERS_MAX.into(), "0 to 4096")?;
        let ids: BTreeSet<_> = m.fetchers.iter().map(|spec| spec.fetcher).collect();
        if ids.len() != count {
            return Err(WireError::Inconsistent("a fetcher is prepared twice"));
        }
        let fetchers = m.fetchers.into_iter().map(|spec| {
            Ok(FetcherSpec {
                fetcher: FetcherId(spec.fetcher),
                setup: bounded("setup", spec.setup)?,
                cpus: spec.cpus,
                program: spec.program,
            })
        });
        Ok(Self {
            trial: TrialId(m.trial),
            fetchers: fetchers.collect::<Result<_, WireError>>()?,
            memory_interval: Some(m.memory_interval_ms)
                .filter(|ms| *ms > 0)
                .map(|ms| Duration::from_millis(ms.into())),
        })
    }
}

fn heartbeat(interval_ms: u32) -> Result<Duration, WireError> {
    in_range("heartbeat_interval_ms", interval_ms.into(), HEARTBEATS_MS, "10 to 60000")?;
    Ok(Duration::from_millis(interval_ms.into()))
}

fn bounded(field: &'static str, bytes: Bytes) -> Result<Bytes, WireError> {
    in_range(field, bytes.len() as u64, 0..=FRAME_MAX_BYTES as u64, "0 to 1 MiB")?;
    Ok(bytes)
}

pub(crate) fn from_worker(message: from_worker::Message) -> wire::FromWorker {
    wire::FromWorker { message: Some(message) }
}

pub(crate) fn memory(trial: TrialId, sample: MemorySample) -> wire::FromWorker {
    let sample = wire::MemorySample { trial: trial.0, ..sample.into() };
    from_worker(from_worker::Message::Memory(sample))
}

pub(crate) fn exited(trial: TrialId, exited: FetcherExited) -> wire::FromWorker {
    let exited = wire::FetcherExited { trial: trial.0, ..exited.into() };
    from_worker(from_worker::Message::Exited(exited))
}

pub(crate) fn usage(trial: TrialId, usage: WorkerUsage) -> wire::FromWorker {
    let usage = wire::WorkerUsage { trial: trial.0, ..usage.into() };
    from_worker(from_worker::Message::Usage(usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: to_worker::Message) -> String {
        let message = wire::ToWorker { message: Some(message) };
        Order::try_from(message).unwrap_err().to_string()
    }

    fn prepare(fetchers: &[u32], setup: usize) -> wire::Prepare {
        wire::Prepare {
            trial: 1,
            memory_interval_ms: 0,
            fetchers: fetchers
                .iter()
                .map(|fetcher| wire::FetcherSpec {
                    fetcher: *fetcher,
                    setup: vec![0; setup].into(),
                    cpus: vec![],
                    program: String::new(),
                })
                .collect(),
        }
    }

    #[test]
    fn a_message_that_makes_no_sense_is_refused_by_field() {
        assert_eq!(
            Order::try_from(wire::ToWorker { message: None }),
            Err(WireError::Missing("message"))
        );
        assert_eq!(
            refused(to_worker::Message::Prepare(prepare(&[4, 2, 4], 0))),
            "a fetcher is prepared twice"
        );
        assert_eq!(
            refused(to_worker::Message::Prepare(prepare(&[1], FRAME_MAX_BYTES + 1))),
            "setup is 1048577, outside 0 to 1 MiB"
        );
        let many: Vec<u32> = (0..=FETCHERS_MAX).collect();
        assert_eq!(
            refused(to_worker::Message::Prepare(prepare(&many, 0))),
            "fetchers is 4097, outside 0 to 4096"
        );
        for interval in [0, 9, 60_001] {
            let welcome = wire::Welcome { worker_id: 1, heartbeat_interval_ms: interval };
            assert!(refused(to_worker::Message::Welcome(welcome)).starts_with("heartbeat"));
        }
        let frame =
            wire::FetcherFrame { trial: 1, fetcher: 1, frame: vec![0; FRAME_MAX_BYTES + 1].into() };
        assert!(refused(to_worker::Message::Frame(frame)).starts_with("frame is"));
    }

    #[test]
    fn no_interval_means_no_samples() {
        let order = Prepare::try_from(prepare(&[0], 1)).unwrap();
        assert_eq!(order.memory_interval, None);
        let mut message = prepare(&[0], 1);
        message.memory_interval_ms = 100;
        let order = Prepare::try_from(message).unwrap();
        assert_eq!(order.memory_interval, Some(Duration::from_millis(100)));
    }
}
