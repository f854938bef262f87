//! `coordinator health`: the probe of every service of the image, which holds
//! no other program that could ask.

use fanout_origin::Stats;
use fanout_proto::text::causes;

use super::coordinator::Coordinator;
use crate::{
    cli::HealthArgs,
    exit::{CommandExit, Failure},
    settings, study,
    terminal::print,
};

pub(crate) async fn run(args: &HealthArgs) -> Result<CommandExit, Failure> {
    let well = match (&args.origin, &args.worker) {
        (Some(url), _) => {
            let url = settings::origin_url(url)?;
            origin(&url).await?;
            "serving"
        }
        (None, Some(name)) => {
            let name = match name.as_str() {
                "" => fanout_worker::host_name(),
                name => name.to_owned(),
            };
            worker(&Coordinator::from_args(&args.client)?, &name).await?;
            "attached"
        }
        (None, None) => {
            Coordinator::from_args(&args.client)?.health().await?;
            "serving"
        }
    };
    print::print(well).map_err(Failure::incomplete)?;
    Ok(CommandExit::Done)
}

async fn worker(coordinator: &Coordinator, name: &str) -> Result<(), Failure> {
    let status = coordinator.status().await?;
    match status.workers.iter().any(|worker| worker.name == name) {
        true => Ok(()),
        false => Err(Failure::no_fleet(format!(
            "no worker {name} is attached; `coordinator status` lists those that are"
        ))),
    }
}

/// Its counters show that it is one of ours; it counts neither this request
/// nor the connection, so a trial under way stays what it is.
async fn origin(base: &str) -> Result<(), Failure> {
    let failed = |reason: String| {
        Failure::no_fleet(format!("the origin at {base} does not answer: {reason}"))
    };
    let client = study::origin_client().map_err(|error| failed(causes(&error)))?;
    let url = format!("{}/stats", base.trim_end_matches('/'));
    let answer = async { client.get(url).send().await?.bytes().await };
    let body = answer.await.map_err(|error| failed(causes(&error)))?;
    serde_json::from_slice::<Stats>(&body).map_err(|error| failed(error.to_string()))?;
    Ok(())
}
