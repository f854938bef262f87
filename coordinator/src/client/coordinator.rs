//! The coordinator that this client talks to.

use std::time::Duration;

use fanout_analysis::record::Study;
use fanout_proto::{
    PROTOCOL_VERSION,
    control::PROTOCOL_KEY,
    text::causes,
    wire::{self, control_client::ControlClient},
};
use fanout_worker::AccessArgs;
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Code, Request, Response, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracing::debug;

use crate::{cli::ClientArgs, exit::Failure};

/// A coordinator answers a short question within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two questions whether it serves.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Coordinator {
    url: String,
    endpoint: Endpoint,
    stamp: Stamp,
}

/// Puts the token and this version's protocol on every request.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    authorization: Option<AsciiMetadataValue>,
    protocol: AsciiMetadataValue,
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(PROTOCOL_KEY, self.protocol.clone());
        if let Some(value) = &self.authorization {
            metadata.insert("authorization", value.clone());
        }
        Ok(request)
    }
}

pub(super) type StampedClient = ControlClient<InterceptedService<Channel, Stamp>>;

impl Coordinator {
    /// Opens nothing yet.
    pub(crate) fn new(url: &str, access: &AccessArgs) -> Result<Self, Failure> {
        Ok(Self {
            url: url.to_owned(),
            endpoint: access.endpoint(url).map_err(Failure::usage)?,
            stamp: Stamp {
                authorization: access.authorization().map_err(Failure::usage)?,
                protocol: PROTOCOL_VERSION.into(),
            },
        })
    }

    pub(super) fn from_args(args: &ClientArgs) -> Result<Self, Failure> {
        Self::new(&args.coordinator, &args.access)
    }

    async fn channel(&self) -> Result<Channel, Failure> {
        self.endpoint.connect().await.map_err(|error| {
            Failure::no_fleet(format!(
                "no coordinator at {}: {}; `coordinator serve` starts one",
                self.url,
                causes(&error)
            ))
        })
    }

    pub(super) async fn control(&self) -> Result<StampedClient, Failure> {
        let channel = self.channel().await?;
        Ok(ControlClient::with_interceptor(channel, self.stamp.clone()))
    }

    pub(super) async fn call<T>(
        &self,
        rpc: impl AsyncFnOnce(&mut StampedClient) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let answer = rpc(&mut self.control().await?).await;
        answer.map(Response::into_inner).map_err(|status| self.failure(&status))
    }

    pub(super) fn failure(&self, status: &Status) -> Failure {
        let reason = match status.message() {
            "" => causes(status),
            message => message.to_owned(),
        };
        let text = format!("the coordinator at {}: {reason}", self.url);
        match status.code() {
            Code::InvalidArgument | Code::NotFound => Failure::usage(text),
            // With a cause, it is the connection that failed, and not the coordinator.
            Code::Internal | Code::DataLoss if std::error::Error::source(status).is_none() => {
                Failure::incomplete(text)
            }
            _ => Failure::no_fleet(text),
        }
    }

    pub(super) async fn wait(&self, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        loop {
            match self.health().await {
                Ok(()) => return Ok(()),
                Err(failure) if Instant::now() >= deadline => return Err(failure),
                Err(failure) => debug!(%failure, "waiting for the coordinator"),
            }
            sleep(PAUSE).await;
        }
    }

    pub(super) async fn status(&self) -> Result<fanout_proto::control::Status, Failure> {
        let ask = async |control: &mut StampedClient| control.status(wire::StatusRequest {}).await;
        fanout_proto::control::Status::try_from(self.call(ask).await?).map_err(Failure::no_fleet)
    }

    pub(super) async fn health(&self) -> Result<(), Failure> {
        let ask = async {
            let mut health = HealthClient::new(self.channel().await?);
            let answer = health
                .check(HealthCheckRequest::default())
                .await
                .map_err(|status| self.failure(&status))?;
            match answer.into_inner().status() {
                ServingStatus::Serving => Ok(()),
                other => Err(Failure::no_fleet(format!(
                    "the coordinator at {} says {}",
                    self.url,
                    other.as_str_name()
                ))),
            }
        };
        timeout(PATIENCE, ask).await.unwrap_or_else(|_| {
            Err(Failure::no_fleet(format!(
                "the coordinator at {} did not answer within {} s",
                self.url,
                PATIENCE.as_secs()
            )))
        })
    }

    pub(crate) async fn read_study(&self, name: &str) -> Result<Study, Failure> {
        let request = wire::ReadStudyRequest { name: name.to_owned() };
        let ask = async |control: &mut StampedClient| control.read_study(request).await;
        let mut parts = self.call(ask).await?;
        let mut json = Vec::new();
        let failed = |status| self.failure(&status);
        while let Some(part) = parts.message().await.map_err(failed)? {
            json.extend_from_slice(&part.json);
        }
        serde_json::from_slice(&json).map_err(|error| {
            Failure::usage(format!("{name} is not a study that this version can read: {error}"))
        })
    }
}
