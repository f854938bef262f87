//! A fetcher that behaves, or misbehaves, as its setup's user agent says.

use std::{
    io::{Read, Write, stdin, stdout},
    process::{Command, ExitCode},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use fanout_proto::{
    frame,
    id::UrlId,
    wire::{self, from_fetcher, to_fetcher},
};
use fanout_testkit::message;
use nix::time::{ClockId, clock_gettime};
use prost::Message;

/// What a fake fetcher does. Each says its process id in a started batch right
/// after Ready, so that a test can see whether it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Completes every lease after Go.
    Obliging,
    /// Ends with code 3 at Go, with last words.
    Crashes,
    /// Is killed by a signal at Go.
    IsKilled,
    /// Says that its setup failed.
    CannotWork,
    /// Writes what is no frame.
    Babbles,
    /// Writes a frame that is no message.
    Misspeaks,
    /// Writes a length past the limit.
    Boasts,
    /// Writes half a frame, and then nothing.
    Withholds,
    /// Says Ready again.
    Repeats,
    /// Reports without having been told to hold.
    Reports,
    /// Writes completions without end from Go on.
    Floods,
    /// Does not read its stdin after Go, and does not end by itself.
    Deaf,
    /// Leaves a child behind that holds its stdout, and ends at Go.
    LeavesAChild,
    /// Switches often, and not in its first thread.
    Switches,
    /// Spends [`WORK`] before Ready and at Go.
    Works,
    /// Completes what it was leased and crashes right after.
    CrashesWhenDone,
}

const MANNERS: [(Manner, &str); 16] = [
    (Manner::Obliging, "obliging"),
    (Manner::Crashes, "crashes"),
    (Manner::IsKilled, "is-killed"),
    (Manner::CannotWork, "cannot-work"),
    (Manner::Babbles, "babbles"),
    (Manner::Misspeaks, "misspeaks"),
    (Manner::Boasts, "boasts"),
    (Manner::Withholds, "withholds"),
    (Manner::Repeats, "repeats"),
    (Manner::Reports, "reports"),
    (Manner::Floods, "floods"),
    (Manner::Deaf, "deaf"),
    (Manner::LeavesAChild, "leaves-a-child"),
    (Manner::Switches, "switches"),
    (Manner::Works, "works"),
    (Manner::CrashesWhenDone, "crashes-when-done"),
];

/// Switches that [`Manner::Switches`] makes at least, outside its first thread.
pub(crate) const SWITCHES: u32 = 1000;

/// CPU time that [`Manner::Works`] spends before Ready and at Go.
pub(crate) const WORK: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(75)];

fn spend(cpu: Duration) {
    let now = || -> Duration {
        let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a process has a clock");
        time.into()
    };
    let begin = now();
    while now() - begin < cpu {}
}

/// A setup frame that asks for `manner`.
pub(crate) fn setup(manner: Manner) -> Bytes {
    let name = MANNERS.iter().find(|(known, _)| *known == manner);
    let setup = wire::Setup {
        user_agent: name.expect("every manner has a name").1.to_owned(),
        ..wire::Setup::default()
    };
    message::to_fetcher(to_fetcher::Message::Setup(setup))
}

fn say(message: from_fetcher::Message) {
    let message = Some(message);
    let mut bytes = Vec::new();
    frame::encode(&wire::FromFetcher { message }, &mut bytes);
    // A worker that is gone listens no more.
    let _ = stdout().write_all(&bytes).and_then(|()| stdout().flush());
}

struct Input(BytesMut);

impl Input {
    /// The next message; ends the process where stdin ends.
    fn next(&mut self) -> to_fetcher::Message {
        loop {
            if let Some(bytes) = frame::take(&mut self.0).expect("the worker writes frames") {
                let message = wire::ToFetcher::decode(bytes).expect("the worker passes messages");
                return message.message.expect("the worker passes known messages");
            }
            let mut bytes = [0; 65536];
            match stdin().read(&mut bytes) {
                Ok(0) | Err(_) => std::process::exit(0),
                Ok(read) => self.0.extend_from_slice(&bytes[..read]),
            }
        }
    }
}

/// The process's whole life.
pub(crate) fn run() -> ExitCode {
    let mut input = Input(BytesMut::new());
    let to_fetcher::Message::Setup(setup) = input.next() else {
        panic!("the first message is the setup");
    };
    let manner =
        MANNERS.iter().find(|(_, name)| *name == setup.user_agent).expect("a known manner").0;
    if manner == Manner::CannotWork {
        let reason = "no such model".to_owned();
        say(from_fetcher::Message::Failed(wire::SetupFailed { reason }));
        return ExitCode::FAILURE;
    }
    if manner == Manner::Works {
        spend(WORK[0]);
    }
    say(from_fetcher::Message::Ready(wire::FetcherIsReady::default()));
    let own_id = UrlId(std::process::id().into());
    say(from_fetcher::Message::Started(message::starts(&[own_id])));
    // Many small frames are the harder case for what must not be lost.
    let batch = if manner == Manner::CrashesWhenDone { 3 } else { 1000 };
    let mut leased = Vec::new();
    let mut going = false;
    let mut done = 0;
    loop {
        match input.next() {
            to_fetcher::Message::Leases(batch) => {
                leased.extend(message::ids(batch));
            }
            to_fetcher::Message::Go(_) => {
                going = true;
                misbehave(manner);
            }
            to_fetcher::Message::Hold(_) => {
                say(from_fetcher::Message::Report(wire::FetcherReport {
                    requests_sent: done,
                    ..wire::FetcherReport::default()
                }));
            }
            to_fetcher::Message::Exit(_) => return ExitCode::SUCCESS,
            to_fetcher::Message::Setup(_) => panic!("a second setup"),
        }
        if going && !leased.is_empty() {
            done += leased.len() as u64;
            for batch in leased.chunks(batch) {
                let done = message::completions(batch.iter().copied(), 1);
                say(from_fetcher::Message::Completions(done));
            }
            leased.clear();
            if manner == Manner::CrashesWhenDone {
                std::process::exit(4);
            }
        }
    }
}

fn misbehave(manner: Manner) {
    match manner {
        Manner::Crashes => {
            eprintln!("first line\nthe disk is on fire");
            std::process::exit(3);
        }
        Manner::IsKilled => {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("a signal");
        }
        Manner::Babbles => stdout().write_all(&[0xff; 64]).expect("a pipe"),
        Manner::Misspeaks => stdout().write_all(b"\x05hello").expect("a pipe"),
        Manner::Boasts => {
            let length = frame::prefix(fanout_proto::limits::FRAME_MAX_BYTES + 1);
            stdout().write_all(length.as_ref()).expect("a pipe");
        }
        Manner::Withholds => {
            let mut half = frame::prefix(1000).as_ref().to_vec();
            half.extend_from_slice(&[0x12; 500]);
            stdout().write_all(&half).expect("a pipe");
            stdout().flush().expect("a pipe");
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        }
        Manner::Repeats => say(from_fetcher::Message::Ready(wire::FetcherIsReady::default())),
        Manner::Reports => say(from_fetcher::Message::Report(wire::FetcherReport::default())),
        Manner::Floods => loop {
            let batch = message::completions((0..4096).map(UrlId), 1);
            say(from_fetcher::Message::Completions(batch));
        },
        Manner::Deaf => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        Manner::LeavesAChild => {
            let child = Command::new("/proc/self/exe").arg("sleep").spawn();
            let id = UrlId(child.expect("a child").id().into());
            say(from_fetcher::Message::Started(message::starts(&[id])));
            std::process::exit(0);
        }
        Manner::Switches => {
            let other = std::thread::spawn(|| {
                // A sleep that is over at once does not switch.
                for _ in 0..2 * SWITCHES {
                    std::thread::sleep(Duration::from_micros(10));
                }
            });
            other.join().expect("a thread");
        }
        Manner::Works => spend(WORK[1]),
        Manner::Obliging | Manner::CannotWork | Manner::CrashesWhenDone => {}
    }
    stdout().flush().expect("a pipe");
}
