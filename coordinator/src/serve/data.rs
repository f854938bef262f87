//! The directory of a coordinator that serves:
//!
//! ```text
//! lock                  held while a coordinator uses it
//! studies/NAME/         study.json, trials.csv, report.html; kept for good
//! jobs/ID/              job.json, journal, results*, list, ca.pem; the last ones are kept
//! ```

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use fanout_proto::{
    control::{JobDescription, JobFinished},
    id::JobId,
};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::exit::Failure;

/// A file of a job that says what it is.
const JOB: &str = "job.json";
pub(super) const STUDY_FILES: [(&str, &str); 3] = [
    ("report.html", "text/html; charset=utf-8"),
    ("study.json", "application/json"),
    ("trials.csv", "text/csv; charset=utf-8"),
];

/// The directory, which no other process uses while this value lives.
#[derive(Debug)]
pub(super) struct Data {
    root: PathBuf,
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeptJob {
    #[serde(flatten)]
    pub(super) job: JobDescription,
    pub(super) study: String,
    /// `None`: it was not over when its coordinator ended.
    pub(super) finished: Option<JobFinished>,
}

impl Data {
    pub(super) fn open(root: &Path) -> Result<Self, Failure> {
        let opened = fs::create_dir_all(root.join("studies"))
            .and_then(|()| fs::create_dir_all(root.join("jobs")))
            .and_then(|()| File::create(root.join("lock")))
            .and_then(|lock| {
                flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
                Ok(lock)
            });
        let directory = root.display();
        let lock = opened.map_err(|error| {
            Failure::usage(match error.kind() {
                io::ErrorKind::WouldBlock => format!(
                    "another coordinator uses {directory}; name another directory with --data"
                ),
                _ => format!(
                    "cannot use {directory} for the coordinator's data: {error}; name another \
                     directory with --data"
                ),
            })
        })?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    fn job_directory(&self, id: JobId) -> PathBuf {
        self.root.join("jobs").join(id.to_string())
    }

    pub(super) fn create_job(&self, id: JobId) -> io::Result<PathBuf> {
        let directory = self.job_directory(id);
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    pub(super) fn remove_job(&self, id: JobId) {
        if let Err(error) = fs::remove_dir_all(self.job_directory(id)) {
            warn!(job = %id, %error, "cannot remove a job's files");
        }
    }

    pub(super) fn keep_job(
        &self,
        job: &JobDescription,
        study: &str,
        finished: Option<&JobFinished>,
    ) -> io::Result<()> {
        let path = self.job_directory(job.id).join(JOB);
        let part = crate::results::part_name(&path);
        let (job, study, finished) = (job.clone(), study.to_owned(), finished.cloned());
        fs::write(&part, serde_json::to_vec(&KeptJob { job, study, finished })?)?;
        fs::rename(part, path)
    }

    /// The jobs of earlier processes, in order; what cannot be read is removed.
    pub(super) fn earlier_jobs(&self) -> io::Result<Vec<KeptJob>> {
        let mut jobs = Vec::new();
        for entry in fs::read_dir(self.root.join("jobs"))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|n| n.parse().ok()).map(JobId) else {
                continue;
            };
            match earlier(id, &entry.path()) {
                Some(job) => jobs.push(job),
                None => self.remove_job(id),
            }
        }
        jobs.sort_by_key(|earlier| earlier.job.id);
        Ok(jobs)
    }

    /// Where a new study is kept: its time, and the job's number.
    pub(super) fn study_directory(&self, id: JobId, now: jiff::Timestamp) -> (String, PathBuf) {
        let name = format!("{}-{id}", now.strftime("%Y-%m-%dT%H%M%SZ"));
        let path = self.root.join("studies").join(&name);
        (name, path)
    }

    /// The studies that are complete, newest first.
    pub(super) fn studies(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join("studies")) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| self.study_file(name, "study.json").is_some())
            .collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names
    }

    pub(super) fn study_file(&self, study: &str, file: &str) -> Option<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let known = STUDY_FILES.iter().any(|(name, _)| *name == file);
        if study.is_empty() || !study.chars().all(plain) || !known {
            return None;
        }
        let path = self.root.join("studies").join(study).join(file);
        path.is_file().then_some(path)
    }
}

fn earlier(id: JobId, directory: &Path) -> Option<KeptJob> {
    let mut kept: KeptJob = serde_json::from_slice(&fs::read(directory.join(JOB)).ok()?).ok()?;
    kept.job.id = id;
    Some(kept)
}

#[cfg(test)]
mod tests {
    use fanout_proto::control::{JobKind, ListIdentity};

    use super::*;

    #[test]
    fn only_a_studys_own_files_are_found() {
        let place = tempfile::tempdir().unwrap();
        let data = Data::open(place.path()).unwrap();
        let (name, path) = data.study_directory(JobId(3), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(name, "1970-01-01T000000Z-3");
        fs::create_dir(&path).unwrap();
        assert!(data.studies().is_empty(), "it is not complete");
        fs::write(path.join("study.json"), "{}").unwrap();
        fs::write(path.join("other"), "").unwrap();
        assert_eq!(data.studies(), std::slice::from_ref(&name));
        assert!(data.study_file(&name, "study.json").is_some());
        assert!(data.study_file(&name, "other").is_none());
        assert!(data.study_file(&name, "report.html").is_none());
        for bad in ["", "..", "../studies", ".", "a/b", "a%2f"] {
            assert!(data.study_file(bad, "study.json").is_none(), "{bad}");
        }
    }

    #[test]
    fn jobs_are_found_again_and_the_directory_has_one_user() {
        let place = tempfile::tempdir().unwrap();
        let data = Data::open(place.path()).unwrap();
        let taken = Data::open(place.path()).unwrap_err().to_string();
        assert!(taken.starts_with("another coordinator uses"), "{taken}");
        let job = |id| JobDescription {
            id: JobId(id),
            kind: JobKind::Fetch,
            arguments: vec!["fetch".to_owned()],
            list: Some(ListIdentity {
                name: "urls.txt".to_owned(),
                sha256: "0".repeat(64),
                urls: 4,
                repeat: 2,
            }),
        };
        for id in [10, 9] {
            data.create_job(JobId(id)).unwrap();
        }
        let finished = JobFinished { exit_code: 1, message: "why".to_owned() };
        data.keep_job(&job(9), "", Some(&finished)).unwrap();
        data.keep_job(&job(10), "", None).unwrap();
        data.create_job(JobId(11)).unwrap();
        let found = data.earlier_jobs().unwrap();
        assert_eq!(found.len(), 2, "the one that says nothing is gone");
        assert_eq!(found[0].job, job(9));
        assert_eq!(found[0].finished, Some(finished));
        assert_eq!((found[1].job.id, &found[1].finished), (JobId(10), &None));
        assert!(!place.path().join("jobs/11").exists());
    }
}
