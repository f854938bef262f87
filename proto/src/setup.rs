//! What a fetcher is told before it starts.

use std::{num::NonZeroU32, time::Duration};

pub use crate::http::{HttpSettings, Method};

use crate::{
    WireError,
    arm::{Client, Model},
    limits::CONCURRENCY_MAX,
    time::{micros, nanos},
    wire,
};

/// Everything that a fetcher needs to know before its first URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// How the fetcher waits.
    pub model: Model,
    /// URLs in flight at most; 1 under [`Model::Sequential`].
    pub concurrency: NonZeroU32,
    /// The HTTP stack.
    pub client: Client,
    /// What HTTP looks like.
    pub http: HttpSettings,
    /// Say when a URL is taken up, not only when it is done.
    pub report_starts: bool,
    /// Spin this long per response.
    pub cpu_work: Duration,
    /// Spin under one process-wide lock.
    pub cpu_lock: bool,
    /// Open loop: when URLs are taken up, however long others take. `None`: as
    /// soon as a slot is free.
    pub pace: Option<Pace>,
    /// The list holds an https URL, so that certificates are read before Ready. Without it they are
    /// read when a redirect leads to one.
    pub https: bool,
}

/// The intended starts of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two starts; not zero.
    pub interval: Duration,
    /// From Go to the first.
    pub offset: Duration,
}

impl From<&Setup> for wire::Setup {
    fn from(setup: &Setup) -> Self {
        Self {
            model: setup.model.name().to_owned(),
            concurrency: setup.concurrency.get(),
            client: setup.client.name().to_owned(),
            report_starts: setup.report_starts,
            cpu_work_us: micros(setup.cpu_work),
            cpu_lock: setup.cpu_lock,
            start_interval_ns: setup.pace.map_or(0, |pace| nanos(pace.interval)),
            start_offset_ns: setup.pace.map_or(0, |pace| nanos(pace.offset)),
            https: setup.https,
            ..setup.http.to_wire()
        }
    }
}

impl TryFrom<wire::Setup> for Setup {
    type Error = WireError;

    fn try_from(mut setup: wire::Setup) -> Result<Self, WireError> {
        let model: Model = setup
            .model
            .parse()
            .map_err(|_| WireError::Invalid("model", "this version has no model of that name"))?;
        let client: Client = setup
            .client
            .parse()
            .map_err(|_| WireError::Invalid("client", "this version has no client of that name"))?;
        let http = HttpSettings::take_from(&mut setup)?;
        let concurrency = NonZeroU32::new(setup.concurrency)
            .filter(|c| c.get() <= CONCURRENCY_MAX)
            .ok_or(WireError::OutOfRange {
                field: "concurrency",
                value: setup.concurrency.into(),
                range: "1 to 65536",
            })?;
        if !model.takes_concurrency() && concurrency.get() != 1 {
            return Err(WireError::Inconsistent("the sequential model has a concurrency of 1"));
        }
        if !client.runs_under(model) {
            return Err(WireError::Inconsistent("the client does not run under the model"));
        }
        Ok(Self {
            model,
            concurrency,
            client,
            http,
            report_starts: setup.report_starts,
            cpu_work: Duration::from_micros(setup.cpu_work_us),
            cpu_lock: setup.cpu_lock,
            pace: (setup.start_interval_ns > 0).then(|| Pace {
                interval: Duration::from_nanos(setup.start_interval_ns),
                offset: Duration::from_nanos(setup.start_offset_ns),
            }),
            https: setup.https,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> Setup {
        Setup {
            model: Model::Async,
            concurrency: NonZeroU32::new(32).unwrap(),
            client: Client::CORE,
            http: HttpSettings {
                headers: vec![("x-a".into(), "b".into())],
                ..HttpSettings::default()
            },
            report_starts: true,
            cpu_work: Duration::from_micros(200),
            cpu_lock: true,
            pace: Some(Pace {
                interval: Duration::from_nanos(1_500),
                offset: Duration::from_nanos(700),
            }),
            https: true,
        }
    }

    #[test]
    fn a_setup_survives_the_wire() {
        let sent = setup();
        assert_eq!(Setup::try_from(wire::Setup::from(&sent)), Ok(sent));
    }

    #[test]
    fn a_setup_that_makes_no_sense_is_refused_by_field() {
        let refused = |change: fn(&mut wire::Setup)| {
            let mut message = wire::Setup::from(&setup());
            change(&mut message);
            Setup::try_from(message).unwrap_err().to_string()
        };
        assert_eq!(
            refused(|m| m.model = "fibers".into()),
            "model is not valid: this version has no model of that name"
        );
        assert_eq!(
            refused(|m| m.client = "curl".into()),
            "client is not valid: this version has no client of that name"
        );
        assert_eq!(refused(|m| m.method = 9), "method holds the unknown value 9");
        assert_eq!(refused(|m| m.concurrency = 0), "concurrency is 0, outside 1 to 65536");
        assert_eq!(refused(|m| m.timeout_us = 0), "timeout is 0, outside 1 µs to 1 h");
        assert_eq!(
            refused(|m| m.client = "ureq".into()),
            "the client does not run under the model"
        );
        assert_eq!(
            refused(|m| m.model = "sequential".into()),
            "the sequential model has a concurrency of 1"
        );
    }
}
