//! What a worker may say to a fetcher, and in which order.

use bytes::{Bytes, BytesMut};
use fanout_proto::{
    WireError,
    frame::{self, FrameError},
    lease::LeaseBatch,
    setup::Setup,
    wire::{self, to_fetcher::Message},
};
use prost::Message as _;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instruction {
    Setup(Box<Setup>),
    Leases(LeaseBatch),
    Go,
    Hold,
    Exit,
}

impl Instruction {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Setup(_) => "Setup",
            Self::Leases(_) => "Leases",
            Self::Go => "Go",
            Self::Hold => "Hold",
            Self::Exit => "Exit",
        }
    }
}

/// What came is none of this protocol; the session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InstructionError {
    #[error("the input is not a stream of frames: {0}")]
    Frame(#[from] FrameError),
    #[error("the input is not understood: {0}")]
    Wire(#[from] WireError),
    #[error("{what} came while the fetcher was {phase}")]
    OutOfOrder { what: &'static str, phase: &'static str },
}

/// Where in its life the fetcher is.
///
/// ```text
/// Setup ─► Ready ──Go──► Running ──Hold──► Holding
///            └─────────────┴── Exit: the end ──┘
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum FetcherPhase {
    #[default]
    New,
    Ready,
    Running,
    Holding,
}

impl FetcherPhase {
    fn name(self) -> &'static str {
        match self {
            Self::New => "waiting for its setup",
            Self::Ready => "waiting for Go",
            Self::Running => "running",
            Self::Holding => "holding",
        }
    }
}

/// Turns the bytes that arrive into instructions, each in its right place.
#[derive(Debug, Default)]
pub(crate) struct InstructionReader {
    buffer: BytesMut,
    phase: FetcherPhase,
}

impl InstructionReader {
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole instruction; `None` until more bytes are there.
    pub(crate) fn next(&mut self) -> Result<Option<Instruction>, InstructionError> {
        let Some(message) = frame::take(&mut self.buffer)? else {
            return Ok(None);
        };
        let instruction = decode(message)?;
        self.phase = match (self.phase, &instruction) {
            (FetcherPhase::New, Instruction::Setup(_)) => FetcherPhase::Ready,
            (FetcherPhase::Ready, Instruction::Go) => FetcherPhase::Running,
            (phase @ (FetcherPhase::Ready | FetcherPhase::Running), Instruction::Leases(_)) => {
                phase
            }
            (FetcherPhase::Running, Instruction::Hold) => FetcherPhase::Holding,
            // Its sender owns the fetcher and may end it at any time.
            (
                phase @ (FetcherPhase::Ready | FetcherPhase::Running | FetcherPhase::Holding),
                Instruction::Exit,
            ) => phase,
            (phase, instruction) => {
                return Err(InstructionError::OutOfOrder {
                    what: instruction.name(),
                    phase: phase.name(),
                });
            }
        };
        Ok(Some(instruction))
    }
}

fn decode(message: Bytes) -> Result<Instruction, WireError> {
    let message = wire::ToFetcher::decode(message)?.message.ok_or(WireError::Missing("message"))?;
    Ok(match message {
        Message::Setup(setup) => Instruction::Setup(Box::new(setup.try_into()?)),
        Message::Leases(leases) => Instruction::Leases(leases.try_into()?),
        Message::Go(_) => Instruction::Go,
        Message::Hold(_) => Instruction::Hold,
        Message::Exit(_) => Instruction::Exit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanout_proto::{
        arm::{Client, Model},
        setup::HttpSettings,
    };
    use proptest::prelude::*;
    use std::{num::NonZeroU32, time::Duration};

    fn setup() -> Message {
        Message::Setup(wire::Setup::from(&Setup {
            model: Model::Async,
            concurrency: NonZeroU32::MIN,
            client: Client::NULL,
            http: HttpSettings::default(),
            report_starts: false,
            cpu_work: Duration::ZERO,
            cpu_lock: false,
            pace: None,
            https: false,
        }))
    }

    fn leases() -> Message {
        Message::Leases(wire::LeaseBatch {
            first_id: 0,
            ids: vec![],
            lengths: vec![1],
            text: Bytes::from_static(b"x"),
        })
    }

    fn run(messages: Vec<Message>) -> Result<Vec<&'static str>, InstructionError> {
        let mut bytes = Vec::new();
        for message in messages {
            frame::encode(&wire::ToFetcher { message: Some(message) }, &mut bytes);
        }
        let mut session = InstructionReader::default();
        session.buffer().extend_from_slice(&bytes);
        let mut names = Vec::new();
        while let Some(instruction) = session.next()? {
            names.push(instruction.name());
        }
        Ok(names)
    }

    #[test]
    fn a_whole_life_is_in_order() {
        let go = Message::Go(wire::FetcherGo {});
        let hold = Message::Hold(wire::Hold {});
        let exit = Message::Exit(wire::FetcherExit {});
        assert_eq!(
            run(vec![setup(), leases(), go, leases(), hold, exit]),
            Ok(vec!["Setup", "Leases", "Go", "Leases", "Hold", "Exit"])
        );
    }

    #[test]
    fn what_is_out_of_order_says_what_and_when() {
        let go = || Message::Go(wire::FetcherGo {});
        let hold = || Message::Hold(wire::Hold {});
        let refused = |messages| run(messages).unwrap_err().to_string();
        assert_eq!(refused(vec![go()]), "Go came while the fetcher was waiting for its setup");
        assert_eq!(
            refused(vec![setup(), setup()]),
            "Setup came while the fetcher was waiting for Go"
        );
        assert_eq!(
            refused(vec![setup(), hold()]),
            "Hold came while the fetcher was waiting for Go"
        );
        assert_eq!(refused(vec![setup(), go(), go()]), "Go came while the fetcher was running");
        assert_eq!(
            refused(vec![setup(), go(), hold(), leases()]),
            "Leases came while the fetcher was holding"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_instructions_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut session = InstructionReader::default();
            session.buffer().extend_from_slice(&bytes);
            while let Ok(Some(_)) = session.next() {}
        }
    }
}
