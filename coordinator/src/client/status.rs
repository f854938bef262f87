//! `coordinator status`: workers and jobs, for people and for programs.

use std::fmt::Write;

use fanout_proto::control::{JobProgress, JobState, JobStatus, Status, WorkerStatus};
use serde_json::{Value, json};

use super::coordinator::Coordinator;
use crate::{
    cli::{StatusArgs, StatusFormat},
    exit::{CommandExit, Failure},
    terminal::print,
};

pub(crate) async fn run(args: &StatusArgs) -> Result<CommandExit, Failure> {
    let status = Coordinator::from_args(&args.client)?.status().await?;
    let text = match args.format {
        StatusFormat::Table => table(&status),
        StatusFormat::Json => json(&status).map_err(Failure::incomplete)?,
    };
    print::print(&text).map_err(Failure::incomplete)?;
    Ok(CommandExit::Done)
}

fn json(status: &Status) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&json!({
        "version": status.version,
        "uptime_s": status.uptime.as_secs_f64(),
        "queue_max": status.queue_max,
        "workers": status.workers.iter().map(json_worker).collect::<Vec<_>>(),
        "jobs": status.jobs.iter().map(json_job).collect::<Vec<_>>(),
    }))
}

fn json_worker(worker: &WorkerStatus) -> Value {
    json!({
        "id": worker.id.0,
        "name": worker.name,
        "version": worker.facts.version,
        "slots": worker.slots,
        "cpus": worker.facts.cpus.len(),
        "cgroup_cpus": worker.facts.cgroup_cpus,
        "memory_bytes": worker.facts.memory_bytes,
        "cgroup_memory_bytes": worker.facts.cgroup_memory_bytes,
        "attached_s": worker.attached.as_secs_f64(),
        "silent_s": worker.silent.as_secs_f64(),
    })
}

/// Every job has every field; what makes no sense in its state is null.
fn json_job(job: &JobStatus) -> Value {
    let (state, ahead, running, end) = match &job.state {
        JobState::Waiting(ahead) => ("waiting", Some(ahead), None, None),
        JobState::Running(progress) => ("running", None, Some(progress), None),
        JobState::Finished(end) => ("finished", None, None, Some(end)),
    };
    let not_empty = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    json!({
        "id": job.job.id.0,
        "kind": job.job.kind.name(),
        "state": state,
        "ahead": ahead,
        "what": running.map(|progress| &progress.what),
        "urls_done": running.map(JobProgress::done),
        "urls": running.map(|progress| progress.total),
        "exit_code": end.map(|end| end.exit_code),
        "message": end.and_then(|end| not_empty(&end.message)),
        "study": not_empty(&job.study),
        "arguments": job.job.arguments,
    })
}

/// Left-aligned columns, the last one as long as it is.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Peers chose some of these texts; none may move the cursor.
            let plain: String = cell.chars().filter(|c| !c.is_control()).collect();
            // Writing into a string does not fail.
            let _ = write!(line, "{plain:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn size(bytes: u64) -> String {
    fanout_analysis::format::bytes(bytes as f64)
}

fn table(status: &Status) -> String {
    let mut text = format!(
        "fanout {}, up {}, {} of {} waiting\n",
        status.version,
        seconds(status.uptime.as_secs_f64()),
        status.jobs.iter().filter(|job| matches!(job.state, JobState::Waiting(_))).count(),
        status.queue_max,
    );
    if status.workers.is_empty() {
        text.push_str("\nno workers; `worker --coordinator URL` attaches one\n");
    } else {
        let mut rows = vec![
            ["WORKER", "NAME", "SLOTS", "CPUS", "MEMORY", "VERSION", "ATTACHED", "SILENT"]
                .map(str::to_owned),
        ];
        rows.extend(status.workers.iter().map(worker_row));
        text.push('\n');
        text.push_str(&columns(&rows));
    }
    if !status.jobs.is_empty() {
        let mut rows = vec![["JOB", "STATE", "COMMAND"].map(str::to_owned)];
        rows.extend(status.jobs.iter().map(job_row));
        text.push('\n');
        text.push_str(&columns(&rows));
    }
    text
}

fn worker_row(worker: &WorkerStatus) -> [String; 8] {
    let facts = &worker.facts;
    let cpus = match facts.cgroup_cpus {
        Some(limit) => format!("{limit:.1} of {}", facts.cpus.len()),
        None => facts.cpus.len().to_string(),
    };
    // What it may use: the container's limit, or else all there is.
    let memory = facts.cgroup_memory_bytes.or(facts.memory_bytes);
    [
        worker.id.to_string(),
        worker.name.clone(),
        worker.slots.to_string(),
        cpus,
        memory.map_or_else(|| "?".to_owned(), size),
        facts.version.clone(),
        seconds(worker.attached.as_secs_f64()),
        format!("{:.1} s", worker.silent.as_secs_f64()),
    ]
}

fn job_row(job: &JobStatus) -> [String; 3] {
    let state = match &job.state {
        JobState::Waiting(0) => "next".to_owned(),
        JobState::Waiting(ahead) => format!("waits for {ahead}"),
        JobState::Running(p) => format!("runs {}/{}", p.done(), p.total),
        JobState::Finished(end) => format!("over, exit {}", end.exit_code),
    };
    let command = job.job.arguments.join(" ");
    let message = match &job.state {
        JobState::Finished(end) if !end.message.is_empty() => format!("  ({})", end.message),
        _ => String::new(),
    };
    [job.job.id.to_string(), state, format!("{command}{message}")]
}

fn seconds(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.0} h", seconds / 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanout_proto::{
        control::{JobDescription, JobFinished, JobKind, JobProgress},
        id::{JobId, WorkerId},
        worker::WorkerFacts,
    };
    use std::time::Duration;

    fn status() -> Status {
        let job = |id, state| JobStatus {
            job: JobDescription {
                id: JobId(id),
                kind: JobKind::Fetch,
                arguments: vec!["fetch".to_owned(), "urls\u{1b}.txt".to_owned()],
                list: None,
            },
            state,
            study: String::new(),
        };
        Status {
            version: "0.1.0".to_owned(),
            uptime: Duration::from_secs(600),
            queue_max: 16,
            workers: vec![WorkerStatus {
                id: WorkerId(3),
                name: "worker-1".to_owned(),
                slots: 64,
                facts: WorkerFacts {
                    version: "0.1.0".to_owned(),
                    cpus: vec![0, 1],
                    cgroup_cpus: Some(1.5),
                    cgroup_memory_bytes: Some(512 << 20),
                    ..WorkerFacts::default()
                },
                attached: Duration::from_secs(61),
                silent: Duration::from_millis(300),
            }],
            jobs: vec![
                job(
                    1,
                    JobState::Finished(JobFinished {
                        exit_code: 3,
                        message: "all lost".to_owned(),
                    }),
                ),
                job(
                    2,
                    JobState::Running(JobProgress {
                        total: 10,
                        completed: 4,
                        ..JobProgress::default()
                    }),
                ),
                job(3, JobState::Waiting(1)),
            ],
        }
    }

    #[test]
    fn a_status_for_people() {
        insta::assert_snapshot!(table(&status()), @r"
        fanout 0.1.0, up 10 min, 1 of 16 waiting

        WORKER  NAME      SLOTS  CPUS      MEMORY   VERSION  ATTACHED  SILENT
        3       worker-1  64     1.5 of 2  512 MiB  0.1.0    61 s      0.3 s

        JOB  STATE         COMMAND
        1    over, exit 3  fetch urls.txt  (all lost)
        2    runs 4/10     fetch urls.txt
        3    waits for 1   fetch urls.txt
        ");
    }

    #[test]
    fn a_status_for_programs() {
        let value: serde_json::Value = serde_json::from_str(&json(&status()).unwrap()).unwrap();
        assert_eq!(value["workers"][0]["name"], "worker-1");
        assert_eq!(value["workers"][0]["memory_bytes"], serde_json::Value::Null);
        assert_eq!(value["jobs"][0]["exit_code"], 3);
        assert_eq!(value["jobs"][1]["urls_done"], 4);
        assert_eq!(value["jobs"][2]["ahead"], 1);
    }
}
