//! What the embedded origin saw of a trial.

use std::time::Duration;

use fanout_analysis::record::OriginMetrics;
use fanout_origin::Stats;
use tracing::warn;

/// The origin answers within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What asks an origin for its counters.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    let builder = || {
        reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .timeout(PATIENCE)
            // The origin counts its connections.
            .pool_max_idle_per_host(0)
    };
    // A slim image has no certificates of its own, and no use for them here.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// Asks the origin for its counters before and after a trial.
#[derive(Debug)]
pub(super) struct OriginProbe {
    asked: Option<(reqwest::Client, String)>,
    before: Option<Stats>,
    machine: String,
}

impl OriginProbe {
    /// `base` is the origin's URL, if there is an origin of ours.
    pub(super) fn new(base: Option<&str>) -> Self {
        let asked = match (base, client()) {
            (Some(base), Ok(client)) => Some((client, base.trim_end_matches('/').to_owned())),
            (Some(_), Err(error)) => {
                warn!(%error, "cannot ask the origin for its counters");
                None
            }
            (None, _) => None,
        };
        Self { asked, before: None, machine: String::new() }
    }

    /// Threads that the origin serves with, if it answers.
    pub(super) async fn threads(&self) -> Option<usize> {
        self.ask("/stats").await.map(|stats| stats.threads)
    }

    pub(super) async fn begin(&mut self) {
        self.before = self.ask("/stats/reset").await;
        if let Some(stats) = &self.before {
            self.machine.clone_from(&stats.boot_id);
        }
    }

    /// The machine that the origin is on; empty if it is not known.
    pub(super) fn machine(&self) -> &str {
        &self.machine
    }

    /// What it counted since.
    pub(super) async fn end(&mut self, makespan_s: Option<f64>) -> Option<OriginMetrics> {
        let before = self.before.take()?;
        let stats = self.ask("/stats").await?;
        let cpu_s = stats.cpu_user_s + stats.cpu_system_s - before.cpu_user_s - before.cpu_system_s;
        #[expect(clippy::cast_precision_loss, reason = "a count of threads")]
        let threads = stats.threads.max(1) as f64;
        Some(OriginMetrics {
            requests: stats.requests,
            connections: stats.connections_accepted,
            connections_peak: stats.connections_peak,
            concurrent_peak: stats.concurrency_peak,
            connections_closed: Some(stats.connections_closed),
            cpu_s: Some(cpu_s),
            busy: makespan_s.map(|s| cpu_s / s / threads),
            delay_error_mean_s: (stats.delays > 0).then(|| stats.delay_overshoot_mean_us / 1e6),
            delays_served_s: Some(stats.delay_actual_s),
        })
    }

    async fn ask(&self, path: &str) -> Option<Stats> {
        let (client, base) = self.asked.as_ref()?;
        let url = format!("{base}{path}");
        let answer = async { client.get(&url).send().await?.bytes().await };
        let body =
            answer.await.inspect_err(|error| warn!(%url, %error, "the origin does not answer"));
        serde_json::from_slice(&body.ok()?)
            .inspect_err(|error| warn!(%url, %error, "the origin's counters make no sense"))
            .ok()
    }
}
