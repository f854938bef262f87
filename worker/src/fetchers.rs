//! Fetchers of other makers: how an operator names them, and what each says of itself.

use std::{
    os::unix::process::ExitStatusExt as _, process::ExitStatus, str::FromStr, time::Duration,
};

use bytes::BytesMut;
use fanout_proto::{
    declaration::{Declaration, NamedFetcher, is_short_name},
    frame,
    wire::{self, from_fetcher::Message as Said, to_fetcher::Message as Told},
};
use prost::Message as _;

use crate::supervise::{Answer, FetcherCommand, converse, last_words_text, own, pipe_bytes};

/// An interpreter that imports much from a slow disk answers within this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How much is shown of an output that is no frame.
const SHOWN_BYTES: usize = 60;

/// `NAME=COMMAND …`: a program that speaks the protocol of docs/fetcher-protocol.md.
#[derive(Debug, Clone)]
pub struct NamedCommand {
    /// What arms' clients come from, in messages and records.
    pub name: String,
    /// As typed, after the name.
    pub command: String,
    pub(crate) start: FetcherCommand,
}

impl FromStr for NamedCommand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "give NAME=COMMAND, as in 'py=python3 -m fanout_fetcher'";
        let (name, command) = text.split_once('=').ok_or_else(|| format!("it has no =; {FORM}"))?;
        if !is_short_name(name) {
            return Err(format!(
                "'{name}' is no name: use up to 32 small letters, digits and hyphens, a letter \
                 first; {FORM}"
            ));
        }
        let words = shlex::split(command)
            .ok_or_else(|| format!("a quotation mark in '{command}' is never closed"))?;
        let mut words = words.into_iter();
        let program = words.next().ok_or_else(|| format!("it names no command; {FORM}"))?;
        let start = FetcherCommand::new(program, words.map(Into::into).collect());
        Ok(Self { name: name.to_owned(), command: command.trim().to_owned(), start })
    }
}

/// Asks every fetcher once what it has, all at a time. No process of theirs is left.
///
/// # Errors
///
/// A name or a client comes twice, or a fetcher gives no answer that can be used.
pub async fn declared(commands: &[NamedCommand]) -> Result<Vec<NamedFetcher>, String> {
    let mut names: Vec<&str> = commands.iter().map(|command| command.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("--fetcher {}=… is given twice", twice[0]));
    }
    let asking: Vec<_> = commands
        .iter()
        .map(|command| {
            let command = command.clone();
            tokio::spawn(async move { ask(&command.start).await })
        })
        .collect();
    let mut fetchers: Vec<NamedFetcher> = Vec::new();
    for (command, asking) in commands.iter().zip(asking) {
        let NamedCommand { name, command, .. } = command;
        let answer = asking.await.unwrap_or_else(|error| Err(error.to_string()));
        let declaration =
            answer.map_err(|reason| format!("--fetcher {name}={command}: {reason}"))?;
        for client in &declaration.clients {
            let taken = |other: &NamedFetcher| {
                other.declaration.clients.iter().any(|known| known.name == client.name)
            };
            if let Some(other) = fetchers.iter().find(|other| taken(other)) {
                return Err(format!(
                    "--fetcher {name}={command}: it has a client '{}', as --fetcher {} has; leave \
                     one of them out",
                    client.name, other.name
                ));
            }
        }
        fetchers.push(NamedFetcher { name: name.clone(), declaration });
    }
    Ok(fetchers)
}

/// Starts it, asks for its declaration, and tells it to exit.
async fn ask(command: &FetcherCommand) -> Result<Declaration, String> {
    let child = command.command().spawn();
    let child = child.map_err(|error| format!("it could not be started: {error}"))?;
    let process = own(child, pipe_bytes(1))?.process;
    let mut questions = Vec::new();
    let setup = wire::Setup { model: "sequential".into(), concurrency: 1, ..Default::default() };
    for told in [Told::Setup(setup), Told::Exit(wire::FetcherExit {})] {
        frame::encode(&wire::ToFetcher { message: Some(told) }, &mut questions);
    }
    let answer = converse(process, &questions, ANSWER_WITHIN).await;
    let answer = answer.map_err(|error| format!("its process could not be watched: {error}"))?;
    let Some(Answer { said, words, status }) = answer else {
        let seconds = ANSWER_WITHIN.as_secs();
        return Err(format!(
            "it did not answer and exit within {seconds} s of being asked what it has"
        ));
    };
    let words = match words {
        nothing if nothing.is_empty() => nothing,
        words => format!("; it said: {words}"),
    };
    declaration(&said).map_err(|reason| format!("{reason}{}{words}", how(status)))
}

fn declaration(answer: &[u8]) -> Result<Declaration, String> {
    let mut buffer = BytesMut::from(answer);
    let no_frame = || {
        let shown = &answer[..answer.len().min(SHOWN_BYTES)];
        let shown = last_words_text(shown);
        format!(
            "what it wrote to standard output is not this protocol ('{shown}…'); prints belong on \
             standard error"
        )
    };
    let frame = match frame::take(&mut buffer) {
        Ok(Some(frame)) => frame,
        Ok(None) if answer.is_empty() => return Err("it gave no answer".to_owned()),
        Ok(None) | Err(_) => return Err(no_frame()),
    };
    let said = wire::FromFetcher::decode(frame).map_err(|_| no_frame())?.message;
    match said.ok_or_else(no_frame)? {
        Said::Ready(ready) => match ready.declaration {
            Some(declaration) => Declaration::try_from(declaration)
                .map_err(|error| format!("its declaration cannot be used: {error}")),
            None => Err("it declares no clients in its Ready".to_owned()),
        },
        Said::Failed(failed) => Err(format!("it failed: {}", failed.reason)),
        _ => Err("its first message is not Ready".to_owned()),
    }
}

fn how(exit: ExitStatus) -> String {
    match (exit.code(), exit.signal()) {
        (Some(0), _) | (None, None) => String::new(),
        (Some(code), _) => format!("; it ended with exit code {code}"),
        (None, Some(signal)) => format!("; it was ended by signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Result<NamedCommand, String> {
        text.parse()
    }

    #[test]
    fn a_command_is_split_as_a_shell_would() {
        let named = named("py = 'my python' -m x").unwrap_err();
        assert!(named.contains("'py ' is no name"), "{named}");
        let py: NamedCommand = "py='my python' -m \"a b\"".parse().unwrap();
        assert_eq!((py.name.as_str(), py.command.as_str()), ("py", "'my python' -m \"a b\""));
        assert_eq!(py.start, FetcherCommand::new("my python", vec!["-m".into(), "a b".into()]));
    }

    #[test]
    fn what_is_no_command_is_refused_with_a_hint() {
        assert!(named("python3").unwrap_err().contains("NAME=COMMAND"));
        assert!(named("Py=python3").unwrap_err().contains("small letters"));
        assert!(named("py=").unwrap_err().contains("names no command"));
        assert!(named("py='python").unwrap_err().contains("never closed"));
    }

    async fn asked(script: &str) -> String {
        let command = NamedCommand {
            name: "x".into(),
            command: "sh".into(),
            start: FetcherCommand::new("sh", vec!["-c".into(), script.into()]),
        };
        declared(&[command]).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_program_that_is_no_fetcher_is_told_from_one() {
        let no_answer = "--fetcher x=sh: it gave no answer";
        assert_eq!(asked("exit 0").await, no_answer);
        assert_eq!(
            asked("echo no module >&2; exit 3").await,
            format!("{no_answer}; it ended with exit code 3; it said: no module")
        );
        let printed = asked("echo Hello, world").await;
        assert!(printed.contains("not this protocol ('Hello, world…')"), "{printed}");
        assert!(asked("kill -9 $$").await.ends_with("it was ended by signal 9"));
        let missing: NamedCommand = "x=/no/such/program".parse().unwrap();
        let error = declared(std::slice::from_ref(&missing)).await.unwrap_err().to_string();
        assert!(error.contains("could not be started: No such file"), "{error}");
        let twice = declared(&[missing.clone(), missing]).await.unwrap_err().to_string();
        assert_eq!(twice, "--fetcher x=… is given twice");
    }
}
