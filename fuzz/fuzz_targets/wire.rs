//! Any octets as each message of the protocol, and from there into the domain:
//! never a panic, every limit holds in what is let in, and what was let in
//! survives another journey.
#![no_main]

use fanout_coordinator::fleet::WorkerMessage;
use fanout_proto::{
    completion::{CompletionBatch, CompletionBatchBuilder, StartedBatch},
    control::{JobEvent, JobStatus, Status, Submission, Submitted},
    lease::{LeaseBatch, LeaseBatchBuilder, LeaseCursor},
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
    let Some((&which, octets)) = input.split_first() else {
        return;
    };
    match which % 14 {
        0 => leases(octets),
        1 => completions(octets),
        2 => starts(octets),
        3 => exited(octets),
        4 => setup(octets),
        5 => hello(octets),
        6 => worker_message(octets),
        7 => drop(fanout_worker::fuzzing::order(octets)),
        8 => submission(octets),
        9 => there_and_back::<wire::Submitted, Submitted>(octets),
        10 => there_and_back::<wire::JobEvent, JobEvent>(octets),
        11 => there_and_back::<wire::JobStatus, JobStatus>(octets),
        12 => status(octets),
        _ => {
            if let Ok(message) = wire::WorkerUsage::decode(octets) {
                let _ = WorkerUsage::from(message);
            }
        }
    }
});

/// Domain → wire → domain changes nothing.
fn there_and_back<W, D>(octets: &[u8])
where
    W: Message + Default + From<D>,
    D: TryFrom<W, Error: std::fmt::Debug> + PartialEq + Clone + std::fmt::Debug,
{
    let Ok(message) = W::decode(octets) else {
        return;
    };
    let Ok(domain) = D::try_from(message) else {
        return;
    };
    let again = D::try_from(W::from(domain.clone())).expect("what was let in stays valid");
    assert_eq!(again, domain);
}

fn leases(octets: &[u8]) {
    let Ok(message) = wire::LeaseBatch::decode(octets) else {
        return;
    };
    let Ok(batch) = LeaseBatch::try_from(message) else {
        return;
    };
    assert!((1..=BATCH_MAX_URLS).contains(&batch.len()));
    let mut builder = LeaseBatchBuilder::default();
    let mut total = 0;
    for (id, url) in batch.iter() {
        assert!(url.len() <= URL_MAX_BYTES);
        total += url.len();
        builder.push(id, &url);
    }
    assert!(total <= BATCH_MAX_BYTES);
    let again = LeaseBatch::try_from(builder.finish()).expect("what was let in stays valid");
    assert!(again.iter().eq(batch.iter()));
    let mut cursor = LeaseCursor::from(batch.clone());
    for (id, url) in batch.iter() {
        assert_eq!(cursor.advance(), Some((id, &url[..])));
    }
    assert_eq!(cursor.advance(), None);
}

fn completions(octets: &[u8]) {
    let Ok(message) = wire::CompletionBatch::decode(octets) else {
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

fn starts(octets: &[u8]) {
    let Ok(message) = wire::StartedBatch::decode(octets) else {
        return;
    };
    let Ok(batch) = StartedBatch::try_from(message) else {
        return;
    };
    assert!(batch.starts.len() <= BATCH_MAX_URLS);
    assert_eq!(
        StartedBatch::try_from(wire::StartedBatch::from(&batch)),
        Ok(batch)
    );
}

fn exited(octets: &[u8]) {
    if let Ok(message) = wire::FetcherExited::decode(octets)
        && let Ok(exited) = FetcherExited::try_from(message)
    {
        assert!(exited.reason.len() <= 4096);
        assert!(!exited.reason.contains(char::is_control));
    }
}

fn setup(octets: &[u8]) {
    let Ok(message) = wire::Setup::decode(octets) else {
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

fn hello(octets: &[u8]) {
    let Ok(message) = wire::Hello::decode(octets) else {
        return;
    };
    let Ok(hello) = Hello::try_from(message) else {
        return;
    };
    assert!((1..=NAME_MAX_BYTES).contains(&hello.name.len()));
    assert!((1..=FETCHERS_MAX).contains(&hello.slots));
    let facts = &hello.facts;
    for text in [
        &hello.name,
        &facts.version,
        &facts.kernel,
        &facts.architecture,
        &facts.cgroup,
    ] {
        assert!(text.len() <= NAME_MAX_BYTES && !text.contains(char::is_control));
    }
    assert!(
        facts
            .cgroup_cpus
            .is_none_or(|cpus| cpus.is_finite() && cpus >= 0.0)
    );
    assert_eq!(Hello::try_from(wire::Hello::from(&hello)), Ok(hello));
}

fn worker_message(octets: &[u8]) {
    if let Ok(message) = wire::FromWorker::decode(octets) {
        let _ = WorkerMessage::try_from(message);
    }
}

fn submission(octets: &[u8]) {
    let Ok(message) = wire::Submission::decode(octets) else {
        return;
    };
    let Ok(submission) = Submission::try_from(message) else {
        return;
    };
    assert!(submission.arguments.len() <= ARGUMENTS_MAX);
    let octets = submission.arguments.iter().map(String::len).sum::<usize>();
    assert!(octets + submission.ca_certificates.len() <= SUBMISSION_MAX_BYTES);
    let again = Submission::try_from(wire::Submission::from(submission.clone()));
    assert_eq!(again, Ok(submission));
}

fn status(octets: &[u8]) {
    let Ok(message) = wire::StatusReply::decode(octets) else {
        return;
    };
    let Ok(status) = Status::try_from(message) else {
        return;
    };
    let again = Status::try_from(wire::StatusReply::from(status.clone()));
    assert_eq!(again, Ok(status));
}
