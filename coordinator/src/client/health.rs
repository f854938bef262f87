//! `coordinator health`: a short question for probes, with an exit code for an answer.

use std::time::Duration;

use super::{connection::Connection, status};
use crate::{
    cli::HealthArgs,
    exit::{Exit, Failure},
    store,
};

/// An origin answers within this time.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(args: &HealthArgs) -> Result<Exit, Failure> {
    let healthy = if let Some(base) = &args.origin {
        origin(base).await?;
        "serving".to_owned()
    } else {
        let connection = Connection::from_args(&args.client)?;
        match &args.worker {
            None => {
                connection.health().await?;
                "serving".to_owned()
            }
            Some(name) => {
                let name = name.clone().unwrap_or_else(fanout_worker::host_name);
                attached(&connection, &name).await?;
                format!("{name} is attached")
            }
        }
    };
    store::print(&healthy).map_err(Failure::incomplete)?;
    Ok(Exit::Done)
}

async fn attached(connection: &Connection, name: &str) -> Result<(), Failure> {
    let status = status::ask(connection).await?;
    if status.workers.iter().any(|worker| worker.name == name) {
        return Ok(());
    }
    Err(Failure::no_fleet(format!(
        "no worker called {name} is attached; `coordinator status` shows those that are"
    )))
}

async fn origin(base: &str) -> Result<(), Failure> {
    // The origin's counters leave out whoever only asks for them.
    let url = format!("{}/stats", base.trim_end_matches('/'));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(Failure::incomplete)?;
    let ask = async { client.get(&url).send().await?.error_for_status() };
    match ask.await {
        Ok(_) => Ok(()),
        Err(error) if error.is_builder() => Err(Failure::usage(format!(
            "--origin {base}: {error}; give its base URL, like http://127.0.0.1:8080"
        ))),
        Err(error) => Err(Failure::no_fleet(format!("no origin at {base}: {error}"))),
    }
}
