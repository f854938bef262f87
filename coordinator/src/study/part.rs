//! What a study is made of: one part for every server that the arms meet.

use std::{sync::Arc, time::Duration};

use crate::{
    exit::Failure,
    settings::{Cell, SLOPE_CONCURRENCIES, Server, StudyKind, StudySettings, map_cells},
    url_list::UrlList,
};

/// So many times over the server that answers at once is asked for its list: once would be over
/// before memory can be sampled often enough.
const AT_ONCE_REPEAT: u64 = 3;
const SLOPE_DELAY: Duration = Duration::from_millis(300);
/// Bytes of the bodies in a map: small, so that the delay and the work are what varies.
const CELL_BODY_BYTES: u32 = 1_024;
/// How long a trial of a map should last: long enough to be measured, short enough for 20 cells.
const CELL_S: f64 = 0.12;
/// So many URLs for every slot, at least: with fewer a trial would be mostly its beginning and end.
const CELL_WAVES: f64 = 3.0;
/// What fetching takes of one processor, beside the delay and the work, roughly.
const FETCH_S: f64 = 60e-6;
/// What a trial takes before and after it, roughly.
const AROUND_S: f64 = 0.09;

/// One server, and what it is asked for.
#[derive(Debug)]
pub(super) struct Part {
    /// Empty where it is the study's first or only one.
    pub(super) name: String,
    /// How long the server waits before it answers, on average; `None` where that is not known.
    pub(super) delay: Option<Duration>,
    pub(super) settings: StudySettings,
    pub(super) list: Arc<UrlList>,
}

impl Part {
    /// The only part of a study of a list of one's own.
    pub(super) fn own(settings: &StudySettings, list: &Arc<UrlList>) -> Self {
        Self { name: String::new(), delay: None, settings: settings.clone(), list: list.clone() }
    }

    fn new(
        name: String,
        delay: Duration,
        settings: StudySettings,
        base: &str,
        lines: impl Iterator<Item = String>,
    ) -> Result<Self, Failure> {
        let list = UrlList::from_origin(base, lines, settings.common.repeat);
        let list = Arc::new(list.map_err(Failure::usage)?);
        Ok(Self { name, delay: Some(delay), settings, list })
    }

    /// The parts of a study at the origin whose base URL this is.
    pub(super) fn at_origin(
        settings: &StudySettings,
        base: &str,
        seed: u64,
    ) -> Result<Vec<Self>, Failure> {
        let base = base.trim_end_matches('/');
        let slow = || {
            let lines = fanout_origin::builtin(base, seed);
            let delay = fanout_origin::BUILTIN_DELAY_MEAN;
            Self::new(String::new(), delay, settings.clone(), base, lines)
        };
        let fast = |name: &str| {
            let mut settings = settings.clone();
            settings.common.repeat = settings.common.repeat.saturating_mul(AT_ONCE_REPEAT);
            let lines = fanout_origin::builtin_at_once(base, seed);
            Self::new(name.to_owned(), Duration::ZERO, settings, base, lines)
        };
        match (settings.kind, settings.server) {
            (StudyKind::MemorySlope, _) => {
                let most = SLOPE_CONCURRENCIES.into_iter().max().unwrap_or(1);
                let delay_ms = SLOPE_DELAY.as_millis();
                // As many URLs as the largest arm has slots, so that all are in use at
                // once, for long enough to be sampled.
                let lines = (0..most).map(|i| format!("{base}/{i}?delay={delay_ms}ms&size=64"));
                Ok(vec![Self::new(String::new(), SLOPE_DELAY, settings.clone(), base, lines)?])
            }
            (StudyKind::Map, _) => {
                map_cells().map(|cell| Self::cell(settings, base, cell)).collect()
            }
            (_, Server::Slow) => Ok(vec![slow()?]),
            (_, Server::Fast) => Ok(vec![fast("")?]),
            (_, Server::Both) => Ok(vec![slow()?, fast("fast")?]),
        }
    }

    fn cell(settings: &StudySettings, base: &str, cell: Cell) -> Result<Self, Failure> {
        let mut settings = settings.clone();
        settings.common.cpu_work = cell.work;
        settings.common.cpu_lock = cell.lock;
        let delay_us = cell.delay.as_micros();
        let lines = (0..cell_urls(cell, settings.concurrency)).map(|i| match delay_us {
            0 => format!("{base}/{i}?size={CELL_BODY_BYTES}"),
            _ => format!("{base}/{i}?delay={delay_us}us&size={CELL_BODY_BYTES}"),
        });
        Self::new(cell.to_string(), cell.delay, settings, base, lines)
    }

    /// How long the study takes, roughly: for a person who waits.
    pub(super) fn expected(parts: &[Self]) -> Duration {
        let seconds = parts.iter().map(|part| {
            let settings = &part.settings;
            let trials = settings.arms.len() as f64 * f64::from(settings.blocks + 1);
            let work = settings.common.cpu_work;
            let each = url_s(part.delay.unwrap_or_default(), work, settings.concurrency);
            trials * (part.list.len() as f64 * each + AROUND_S)
        });
        Duration::from_secs_f64(seconds.sum())
    }
}

/// What one more URL takes under one event loop, roughly.
fn url_s(delay: Duration, work: Duration, concurrency: u32) -> f64 {
    (delay.as_secs_f64() / f64::from(concurrency)).max(work.as_secs_f64() + FETCH_S)
}

/// As many URLs as make a trial last long enough.
fn cell_urls(cell: Cell, concurrency: u32) -> u32 {
    let urls = CELL_S / url_s(cell.delay, cell.work, concurrency);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let urls = urls.max(CELL_WAVES * f64::from(concurrency)).ceil() as u32;
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_of_every_cell_lasts_long_enough_and_not_too_long() {
        for cell in map_cells() {
            let urls = cell_urls(cell, 32);
            let lasts = f64::from(urls) * url_s(cell.delay, cell.work, 32);
            assert!((CELL_S..=0.3).contains(&lasts), "{cell}: {urls} URLs in {lasts} s");
            assert!(urls >= 96, "{cell}: {urls} URLs");
        }
    }
}
