//! Hostile clients, against the real service over loopback.

use std::net::SocketAddr;

use fanout_proto::{PROTOCOL_VERSION, control::PROTOCOL_KEY, wire::control_client::ControlClient};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use super::*;
use crate::{
    fleet::{Fleet, FleetServer},
    serve::{data::Data, gate::Gate, jobs::Jobs, routes, state::READERS_MAX},
};

const QUEUE: usize = 2;

struct RunningServer {
    client: ControlClient<Channel>,
    state: Arc<ServerState>,
    _fleet: Fleet,
    shutdown: CancellationToken,
    serve: JoinHandle<()>,
    _place: tempfile::TempDir,
}

impl RunningServer {
    async fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = FleetServer::bind(loopback, None).await.unwrap();
        let url = format!("http://{}", server.address().unwrap());
        let jobs = Jobs::new(Data::open(place.path()).unwrap(), QUEUE).unwrap();
        let state = ServerState::new(jobs, server.roster(), None);
        let gate = Gate { token: None, refusals: server.refusals() };
        let routes = routes(&state, gate).await.unwrap();
        let shutdown = CancellationToken::new();
        let (fleet, serve) = server.start(routes, shutdown.clone());
        let serve = tokio::spawn(async move { serve.await.unwrap() });
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        Self {
            client: ControlClient::new(channel),
            state,
            _fleet: fleet,
            shutdown,
            serve,
            _place: place,
        }
    }

    async fn submit(&mut self, parts: Vec<wire::SubmitPart>) -> Result<wire::Submitted, Status> {
        let stream = tokio_stream::iter(parts);
        let answer = self.client.submit(asked(stream)).await;
        answer.map(Response::into_inner)
    }

    async fn end(self) {
        drop(self.client);
        self.shutdown.cancel();
        self.serve.await.unwrap();
    }
}

fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let version = MetadataValue::from(PROTOCOL_VERSION);
    request.metadata_mut().insert(PROTOCOL_KEY, version);
    request
}

fn submission(change: impl FnOnce(&mut wire::Submission)) -> wire::SubmitPart {
    let mut submission = wire::Submission {
        arguments: ["fetch", "urls.txt"].map(str::to_owned).into(),
        list_name: Some("urls.txt".to_owned()),
        ca_certificates: Default::default(),
        resumed: None,
    };
    change(&mut submission);
    wire::SubmitPart { part: Some(Part::Submission(submission)) }
}

fn list(bytes: &'static [u8]) -> wire::SubmitPart {
    wire::SubmitPart { part: Some(Part::List(bytes.into())) }
}

#[tokio::test]
async fn a_malformed_submission_is_refused_and_its_place_given_back() {
    let mut server = RunningServer::start().await;
    let good = || submission(|_| {});
    let cases = [
        (vec![], Code::InvalidArgument, "submission is missing"),
        (vec![wire::SubmitPart { part: None }], Code::InvalidArgument, "part is missing"),
        (vec![list(b"http://127.0.0.1/")], Code::InvalidArgument, "submission is missing"),
        (vec![good(), good()], Code::InvalidArgument, "a submission comes once"),
        (vec![good(), wire::SubmitPart { part: None }], Code::InvalidArgument, "part is missing"),
        (
            vec![submission(|s| s.arguments = vec![String::new(); 5_000])],
            Code::InvalidArgument,
            "there are too many",
        ),
        (
            vec![submission(|s| s.ca_certificates = vec![0; 2 << 20].into())],
            Code::InvalidArgument,
            "longer than a submission may be",
        ),
        (
            vec![submission(|s| s.ca_certificates = vec![0; 5 << 20].into())],
            Code::OutOfRange,
            "too large",
        ),
    ];
    for (parts, code, words) in cases {
        let status = server.submit(parts).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(words), "{status:?}");
    }
    // What is understood and cannot be run is told as a local run would tell it.
    type Change = fn(&mut wire::Submission);
    let changes: [(Change, &str); 4] = [
        (|s| s.arguments = vec!["serve".to_owned()], "only study and fetch"),
        (|s| s.arguments = vec!["\x1b[2J".to_owned()], "unrecognized subcommand"),
        (|s| s.list_name = None, "did not come with the job"),
        (|s| s.arguments.push("--arm=fibers".to_owned()), "no model 'fibers'"),
    ];
    for (change, words) in changes {
        let parts = vec![submission(change), list(b"http://127.0.0.1:9/\n")];
        let answer = server.submit(parts).await.unwrap();
        let answer = Submitted::try_from(answer).unwrap();
        let Submitted::Refused { message, exit_code, .. } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(exit_code, 2);
        assert!(message.contains(words), "{message}");
    }
    assert!(server.state.jobs.list().is_empty());
    assert!(server.state.jobs.admit().is_ok());
    server.end().await;
}

#[tokio::test]
async fn a_full_queue_and_unknown_jobs_are_told_by_their_codes() {
    let mut server = RunningServer::start().await;
    let job = || vec![submission(|_| {}), list(b"http://127.0.0.1:9/\n")];
    // One may run, the others wait.
    for _ in 0..=QUEUE {
        server.submit(job()).await.unwrap();
    }
    for _ in 0..50 {
        let status = server.submit(job()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
    assert_eq!(server.state.jobs.list().len(), QUEUE + 1);
    for job in [0, 99, u64::MAX] {
        let follow = wire::FollowRequest { job, journal_from: u64::MAX, results_from: u64::MAX };
        let status = server.client.follow(asked(follow)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        let cancel = wire::CancelRequest { job, at_once: true };
        let status = server.client.cancel(asked(cancel)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
    for name in ["", "..", "../jobs", "/etc", "a\0b"] {
        let name = name.to_owned();
        let read = wire::ReadStudyRequest { name };
        let status = server.client.read_study(asked(read)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
    let mut other = asked(wire::StatusRequest {});
    other.metadata_mut().insert(PROTOCOL_KEY, MetadataValue::from_static("-1"));
    let status = server.client.status(other).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().ends_with("upgrade the client"));
    server.end().await;
}

#[tokio::test]
async fn followers_are_bounded_and_leave_their_places() {
    let mut server = RunningServer::start().await;
    let job = vec![submission(|_| {}), list(b"http://127.0.0.1:9/\n")];
    server.submit(job).await.unwrap();
    let taken: Vec<_> = (0..READERS_MAX).map(|_| server.state.reader().unwrap()).collect();
    let follow = || asked(wire::FollowRequest { job: 1, journal_from: u64::MAX, results_from: 0 });
    let status = server.client.follow(follow()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    drop(taken);
    // A place in a file that there is not costs the follower its call only.
    let mut events = server.client.follow(follow()).await.unwrap().into_inner();
    let mut last = Ok(None);
    for _ in 0..3 {
        last = events.message().await;
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last.unwrap_err().code(), Code::Internal);
    drop(events);
    server.client.status(asked(wire::StatusRequest {})).await.unwrap();
    server.end().await;
}
