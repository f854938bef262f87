//! What talks to a coordinator that serves: jobs are submitted and followed
//! from here, and end here as they would have ended on a local run.

mod coordinator;
mod fetch_output;
mod follow;
pub(crate) mod health;
mod lines;
mod output;
pub(crate) mod status;
mod study_output;
mod submit;

use std::path::Path;

use clap::Parser;
use fanout_proto::{
    control::{JobDescription, JobFinished, JobKind},
    id::JobId,
    wire,
};

pub(crate) use self::coordinator::Coordinator;
use self::{
    coordinator::StampedClient,
    fetch_output::FetchOutput,
    follow::{OnInterrupt, follow},
    output::{ClientOutput, JobResults},
    study_output::StudyOutput,
    submit::{List, submit},
};
use crate::{
    cli::{AttachArgs, CancelArgs, CommandLine, CoordinatorCommand},
    exit::{CommandExit, Failure},
    fetch::{claim, complete_already},
    local::signals::RunSignals,
    results::{ClaimedOutput, Destination, part_name},
    run::Stop,
    settings::{self, FetchArgs, FleetArgs, StudyArgs},
    terminal::{
        Terminal,
        print::{self, PrintArgs},
    },
};

pub(crate) async fn study(args: &StudyArgs) -> Result<CommandExit, Failure> {
    let coordinator = reach(&args.run.fleet).await?;
    let list = List::open(args.urls.as_deref())?;
    let certificates = certificates(args.run.http.cacert.as_deref())?;
    let output = study_output(args.out.as_deref(), args, args.print)?;
    run(&coordinator, list, certificates, output, false).await
}

pub(crate) async fn fetch(args: &FetchArgs) -> Result<CommandExit, Failure> {
    let coordinator = reach(&args.run.fleet).await?;
    let list = List::open(Some(&args.urls))?;
    let certificates = certificates(args.run.http.cacert.as_deref())?;
    let destination = destination(args.out.as_deref())?;
    let Some(claimed) = claim(&destination, args.resume, &Terminal::default())? else {
        return Ok(CommandExit::Done);
    };
    let output = fetch_output(destination, claimed)?;
    run(&coordinator, list, certificates, output, true).await
}

fn study_output(
    out: Option<&Path>,
    args: &StudyArgs,
    print: PrintArgs,
) -> Result<ClientOutput, Failure> {
    let output = StudyOutput::new(out, args.pages.as_deref(), print, args.aa.is_some())?;
    Ok(ClientOutput::new(JobResults::Study(output)))
}

fn fetch_output(destination: Destination, claimed: ClaimedOutput) -> Result<ClientOutput, Failure> {
    let output = FetchOutput::new(destination, claimed)?;
    Ok(ClientOutput::new(JobResults::Fetch(output)))
}

async fn reach(args: &FleetArgs) -> Result<Coordinator, Failure> {
    let url = args.coordinator.as_deref().unwrap_or_default();
    let coordinator = Coordinator::new(url, &args.access)?;
    if let Some(patience) = settings::patience(args)? {
        coordinator.wait(patience).await?;
    }
    Ok(coordinator)
}

fn destination(out: Option<&Path>) -> Result<Destination, Failure> {
    out.map_or(Ok(Destination::Stdout), Destination::from_path)
}

fn certificates(path: Option<&Path>) -> Result<bytes::Bytes, Failure> {
    path.map_or(Ok(bytes::Bytes::new()), settings::certificates)
}

async fn run(
    coordinator: &Coordinator,
    list: List,
    certificates: bytes::Bytes,
    mut output: ClientOutput,
    drains: bool,
) -> Result<CommandExit, Failure> {
    let job = match submit(coordinator, list, certificates, output.before()).await {
        Ok(job) => job,
        Err(failure) => {
            output.discard().await;
            return Err(failure);
        }
    };
    eprintln!("job {job}; should this client go away, `coordinator attach {job}` follows it again");
    let signals = RunSignals::listen(drains).map_err(Failure::incomplete)?;
    let stop = &signals.stop;
    let followed = follow(coordinator, job, &mut output, OnInterrupt::Cancels(stop)).await;
    print_address(coordinator, job, &output).await;
    end(followed, output, Some(stop)).await
}

/// Says where a browser finds the study that the coordinator keeps.
async fn print_address(coordinator: &Coordinator, job: JobId, output: &ClientOutput) {
    let Some(pages) = output.pages() else { return };
    let status = match coordinator.status().await {
        Ok(status) => status,
        // The study was shown, and is kept all the same.
        Err(failure) => return tracing::debug!(%failure, "cannot ask for the study's name"),
    };
    let found = status.jobs.iter().find(|known| known.job.id == job);
    if let Some(found) = found.filter(|known| !known.study.is_empty()) {
        eprintln!("report: {pages}/studies/{}/report.html", found.study);
    }
}

/// Ends as the job did, with what came of it on disk.
async fn end(
    followed: Result<Option<JobFinished>, Failure>,
    output: ClientOutput,
    stop: Option<&Stop>,
) -> Result<CommandExit, Failure> {
    let finished = match followed {
        Ok(Some(finished)) => finished,
        ended => {
            // The first failure counts.
            let _ = output.finish(false, stop).await;
            return ended.map(|_| CommandExit::Interrupted);
        }
    };
    let exit = CommandExit::from_code(finished.exit_code);
    let failed = !finished.message.is_empty();
    let whole = matches!(exit, CommandExit::Done | CommandExit::Incomplete) && !failed;
    let worse = output.finish(whole, stop).await;
    if failed {
        return Err(Failure::new(exit, finished.message));
    }
    Ok(worse?.unwrap_or(exit))
}

pub(crate) async fn attach(args: &AttachArgs) -> Result<CommandExit, Failure> {
    let coordinator = Coordinator::from_args(&args.client)?;
    let id = JobId(args.job);
    let job = follow::describe(&coordinator, id).await?;
    let mut output = output_of(&job, args)?;
    let followed = follow(&coordinator, id, &mut output, OnInterrupt::Detaches).await;
    print_address(&coordinator, id, &output).await;
    end(followed, output, None).await
}

/// Where the job's output goes, as it was submitted or as it is now said.
fn output_of(job: &JobDescription, args: &AttachArgs) -> Result<ClientOutput, Failure> {
    let line = std::iter::once("coordinator").chain(job.arguments.iter().map(String::as_str));
    let cli = CommandLine::try_parse_from(line).map_err(|error| {
        Failure::usage(format!("this version does not know the job's command: {error}"))
    })?;
    match (job.kind, cli.command) {
        (JobKind::Study, CoordinatorCommand::Study(typed)) => study_output(
            args.out.as_deref().or(typed.out.as_deref()),
            &typed,
            PrintArgs {
                format: args.format.unwrap_or(typed.print.format),
                details: args.details || typed.print.details,
            },
        ),
        (JobKind::Fetch, CoordinatorCommand::Fetch(typed)) => {
            let is_csv = |path: &Path| path.extension().is_some_and(|form| form == "csv");
            let was_csv = typed.out.as_deref().is_some_and(is_csv);
            if let Some(out) = &args.out
                && was_csv != is_csv(out)
            {
                return Err(Failure::usage(format!(
                    "--out {}: the job's records are {}; give the file that ending",
                    out.display(),
                    if was_csv { "CSV" } else { "JSON lines" },
                )));
            }
            let destination = destination(args.out.as_deref().or(typed.out.as_deref()))?;
            // Records that an earlier client got are not written again.
            let begun = match &destination {
                Destination::File(path, _) => part_name(path).exists(),
                Destination::Stdout => false,
            };
            let claimed = ClaimedOutput::of(&destination, begun).map_err(Failure::usage)?;
            match claimed {
                Some(claimed) => fetch_output(destination, claimed),
                None => Err(Failure::usage(complete_already(&destination))),
            }
        }
        _ => Err(Failure::incomplete("the coordinator describes the job as what it is not")),
    }
}

pub(crate) async fn cancel(args: &CancelArgs) -> Result<CommandExit, Failure> {
    let coordinator = Coordinator::from_args(&args.client)?;
    let request = wire::CancelRequest { job: args.job, at_once: args.at_once };
    let ask = async |control: &mut StampedClient| control.cancel(request).await;
    let text = match coordinator.call(ask).await?.was_live {
        true => "cancelled; what there is was saved",
        false => "it was over already",
    };
    print::print(&format!("job {}: {text}", args.job)).map_err(Failure::incomplete)?;
    Ok(CommandExit::Done)
}
