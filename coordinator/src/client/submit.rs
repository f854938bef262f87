//! Hands a job in: what was typed, and what the typed names stand for.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;
use fanout_engine::id_set::IdSet;
use fanout_proto::{
    control::{ListIdentity, Submission, Submitted},
    id::JobId,
    limits::PART_MAX_BYTES,
    wire::{self, submit_part::Part},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::coordinator::Coordinator;
use crate::exit::{CommandExit, Failure};

/// Parts of the list on their way; the rest is read when there is room.
const PARTS_MAX: usize = 4;

#[derive(Default)]
pub(super) struct List {
    name: Option<String>,
    content: Option<Box<dyn Read + Send>>,
}

impl List {
    /// Opens it: a file, `-`, or none for the built-in one.
    pub(super) fn open(urls: Option<&Path>) -> Result<Self, Failure> {
        let (name, content): (_, Box<dyn Read + Send>) = match urls {
            None => return Ok(Self::default()),
            Some(path) if path == Path::new("-") => ("stdin".to_owned(), Box::new(io::stdin())),
            Some(path) => {
                let file = File::open(path).map_err(|error| unreadable(path, &error))?;
                (path.display().to_string(), Box::new(file))
            }
        };
        Ok(Self { name: Some(name), content: Some(content) })
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read the URL list {}: {error}", path.display()))
}

/// Submits what this process was asked to do, and what is done of it `before`;
/// the answer is the job's number.
pub(super) async fn submit(
    coordinator: &Coordinator,
    list: List,
    certificates: Bytes,
    before: Option<(ListIdentity, &IdSet)>,
) -> Result<JobId, Failure> {
    let (resumed, done) = before.unzip();
    let done: Vec<u8> = done.map_or(Vec::new(), |done| done.bytes().collect());
    let submission = Submission {
        arguments: arguments()?,
        list_name: list.name.clone(),
        ca_certificates: certificates,
        resumed,
    };
    let (parts, stream) = mpsc::channel(PARTS_MAX);
    // Before anything is read: standard input may wait for its writer.
    let mut control = coordinator.control().await?;
    let first = Part::Submission(submission.into());
    if parts.send(part(first)).await.is_err() {
        return Err(Failure::no_fleet("the submission could not be sent"));
    }
    let name = list.name.unwrap_or_default();
    let reader = list.content.map(|content| {
        // Standard input may take its time.
        tokio::task::spawn_blocking(move || {
            for bytes in done.chunks(PART_MAX_BYTES) {
                let bytes = Bytes::copy_from_slice(bytes);
                if parts.blocking_send(part(Part::Done(bytes))).is_err() {
                    return Ok(());
                }
            }
            send_list(content, &parts)
        })
    });
    let answer = control.submit(ReceiverStream::new(stream)).await;
    let answer = answer.map_err(|status| coordinator.failure(&status))?;
    if let Some(reader) = reader
        && let Ok(Err(error)) = reader.await
    {
        return Err(unreadable(Path::new(&name), &error));
    }
    match Submitted::try_from(answer.into_inner()).map_err(Failure::no_fleet)? {
        Submitted::Job(id) => Ok(id),
        Submitted::Refused { exit_code, message, said } => {
            eprint!("{said}");
            Err(Failure::new(CommandExit::from_code(exit_code), message))
        }
    }
}

fn part(part: Part) -> wire::SubmitPart {
    wire::SubmitPart { part: Some(part) }
}

/// Reads the list to its end. A coordinator that takes no more of it has answered already.
fn send_list(
    mut content: Box<dyn Read + Send>,
    parts: &mpsc::Sender<wire::SubmitPart>,
) -> io::Result<()> {
    loop {
        let mut bytes = vec![0; PART_MAX_BYTES];
        let count = match content.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        bytes.truncate(count);
        if parts.blocking_send(part(Part::List(bytes.into()))).is_err() {
            return Ok(());
        }
    }
}

/// What was typed; an origin that came from the environment is said aloud,
/// since the coordinator has an environment of its own.
fn arguments() -> Result<Vec<String>, Failure> {
    let mut arguments = std::env::args_os()
        .skip(1)
        .map(|argument| {
            argument.into_string().map_err(|argument| {
                Failure::usage(format!(
                    "{}: a fleet takes arguments in UTF-8 only",
                    argument.display()
                ))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let named = |argument: &String| argument == "--origin" || argument.starts_with("--origin=");
    if let Ok(origin) = std::env::var("FANOUT_ORIGIN")
        && !origin.is_empty()
        && !arguments.iter().any(named)
    {
        arguments.push(format!("--origin={origin}"));
    }
    Ok(arguments)
}
