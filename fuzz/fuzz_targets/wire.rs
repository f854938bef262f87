//! Any bytes as each message of the protocol, and from there into the domain: never a panic, every
//! limit holds in what is let in, and what was let in survives another journey.
#![no_main]

use fanout_coordinator::fleet::WorkerMessage;
use fanout_proto::{
    completion::{CompletionBatch, CompletionBatchBuilder, StartedBatch},
    control::{JobEvent, JobStatus, Status, Submission, Submitted},
    id::UrlId,
    lease::{LeaseBatch, LeaseBatchBuilder},
    limits::{
        ARGUMENTS_MAX, BATCH_MAX_BYTES, BATCH_MAX_URLS, CONCURRENCY_MAX, DETAIL_MAX_BYTES,
        DETAILS_MAX, FETCHERS_MAX, NAME_MAX_BYTES, SUBMISSION_MAX_BYTES, TIMEOUT_MAX,
        URL_MAX_BYTES,
    },
    report::{FetcherExited, WorkerUsage},
    setup::Setup,
    wire,
    worker::Hello,
};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|input: &[u8]| {
    let Some((&which, bytes)) = input.split_first() else {
        return;
    };
    match which % 14 {
        0 => leases(bytes),
        1 => completions(bytes),
        2 => starts(bytes),
        3 => exited(bytes),
        4 => setup(bytes),
        5 => hello(bytes),
        6 => worker_message(bytes),
        7 => drop(fanout_worker::fuzzing::order(bytes)),
        8 => submission(bytes),
        9 => there_and_back::<wire::Submitted, Submitted>(bytes),
        10 => there_and_back::<wire::JobEvent, JobEvent>(bytes),
        11 => there_and_back::<wire::JobStatus, JobStatus>(bytes),
        12 => status(bytes),
        _ => {
            if let Ok(message) = wire::WorkerUsage::decode(bytes) {
                let _ = WorkerUsage::try_from(message);
            }
        }
    }
});

/// Domain → wire → domain changes nothing.
fn there_and_back<W, D>(bytes: &[u8])
where
    W: Message + Default + From<D>,
    D: TryFrom<W, Error: std::fmt::Debug> + PartialEq + Clone + std::fmt::Debug,
{
    let Ok(message) = W::decode(bytes) else {
        return;
    };
    let Ok(domain) = D::try_from(message) else {
        return;
    };
    let again = D::try_from(W::from(domain.clone())).expect("what was let in stays valid");
    assert_eq!(again, domain);
}

fn leases(bytes: &[u8]) {
    let Ok(message) = wire::LeaseBatch::decode(bytes) else {
        return;
    };
    let Ok(batch) = LeaseBatch::try_from(message) else {
        return;
    };
    let urls = all(batch.clone());
    assert!((1..=BATCH_MAX_URLS).contains(&urls.len()));
    assert_eq!(batch.remaining(), urls.len());
    let mut builder = LeaseBatchBuilder::default();
    let mut total = 0;
    for (id, url) in &urls {
        assert!(url.len() <= URL_MAX_BYTES);
        total += url.len();
        builder.push(*id, url);
    }
    assert!(total <= BATCH_MAX_BYTES);
    let again = LeaseBatch::try_from(builder.finish()).expect("what was let in stays valid");
    assert_eq!(all(again), urls);
}

fn all(mut batch: LeaseBatch) -> Vec<(UrlId, Vec<u8>)> {
    let mut urls = Vec::new();
    while let Some((id, url)) = batch.advance() {
        urls.push((id, url.to_vec()));
    }
    urls
}

fn completions(bytes: &[u8]) {
    let Ok(message) = wire::CompletionBatch::decode(bytes) else {
        return;
    };
    let Ok(batch) = CompletionBatch::try_from(message) else {
        return;
    };
    assert!((1..=BATCH_MAX_URLS).contains(&batch.completions.len()));
    assert!(batch.details.len() <= DETAILS_MAX);
    for (index, text) in &batch.details {
        assert!((*index as usize) < batch.completions.len());
        assert!(text.len() <= DETAIL_MAX_BYTES);
    }
    let mut builder = CompletionBatchBuilder::default();
    for completion in &batch.completions {
        builder.push(completion, None);
    }
    let again = CompletionBatch::try_from(builder.take()).expect("what was let in stays valid");
    assert_eq!(again.completions, batch.completions);
}

fn starts(bytes: &[u8]) {
    let Ok(message) = wire::StartedBatch::decode(bytes) else {
        return;
    };
    let Ok(batch) = StartedBatch::try_from(message) else {
        return;
    };
    assert!(batch.starts.len() <= BATCH_MAX_URLS);
    assert_eq!(StartedBatch::try_from(wire::StartedBatch::from(&batch)), Ok(batch));
}

fn exited(bytes: &[u8]) {
    if let Ok(message) = wire::FetcherExited::decode(bytes)
        && let Ok(exited) = FetcherExited::try_from(message)
    {
        assert!(exited.reason.len() <= 4096);
        assert!(!exited.reason.contains(char::is_control));
    }
}

fn setup(bytes: &[u8]) {
    let Ok(message) = wire::Setup::decode(bytes) else {
        return;
    };
    let Ok(setup) = Setup::try_from(message) else {
        return;
    };
    assert!(setup.concurrency.get() <= CONCURRENCY_MAX);
    assert!(setup.http.timeout <= TIMEOUT_MAX && setup.http.connect_timeout <= TIMEOUT_MAX);
    assert!(!setup.http.deny_private);
    assert_eq!(Setup::try_from(wire::Setup::from(&setup)), Ok(setup));
}

fn hello(bytes: &[u8]) {
    let Ok(message) = wire::Hello::decode(bytes) else {
        return;
    };
    let Ok(hello) = Hello::try_from(message) else {
        return;
    };
    assert!((1..=NAME_MAX_BYTES).contains(&hello.name.len()));
    assert!((1..=FETCHERS_MAX).contains(&hello.slots));
    let facts = &hello.facts;
    for text in [&hello.name, &facts.version, &facts.kernel, &facts.architecture, &facts.cgroup] {
        assert!(text.len() <= NAME_MAX_BYTES && !text.contains(char::is_control));
    }
    assert!(facts.cgroup_cpus.is_none_or(|cpus| cpus.is_finite() && cpus >= 0.0));
    assert_eq!(Hello::try_from(wire::Hello::from(hello.clone())), Ok(hello));
}

fn worker_message(bytes: &[u8]) {
    if let Ok(message) = wire::FromWorker::decode(bytes) {
        let _ = WorkerMessage::try_from(message);
    }
}

fn submission(bytes: &[u8]) {
    let Ok(message) = wire::Submission::decode(bytes) else {
        return;
    };
    let Ok(submission) = Submission::try_from(message) else {
        return;
    };
    assert!(submission.arguments.len() <= ARGUMENTS_MAX);
    let bytes = submission.arguments.iter().map(String::len).sum::<usize>();
    assert!(bytes + submission.ca_certificates.len() <= SUBMISSION_MAX_BYTES);
    let again = Submission::try_from(wire::Submission::from(submission.clone()));
    assert_eq!(again, Ok(submission));
}

fn status(bytes: &[u8]) {
    let Ok(message) = wire::StatusReply::decode(bytes) else {
        return;
    };
    let Ok(status) = Status::try_from(message) else {
        return;
    };
    let again = Status::try_from(wire::StatusReply::from(status.clone()));
    assert_eq!(again, Ok(status));
}
