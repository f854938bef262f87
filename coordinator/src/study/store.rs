//! A study's directory: `study.json`, `trials.csv`, `report.html`. Files are
//! written beside and renamed, so that none is ever half there.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use fanout_analysis::{Options, conclude, page, record::Study, text};

use crate::{exit::Failure, results::part_name};

const STUDY: &str = "study.json";
/// A row a trial.
const TRIALS: &str = "trials.csv";
const REPORT: &str = "report.html";

#[derive(Debug, Clone)]
pub(crate) struct Store {
    directory: PathBuf,
    /// Directories that were made for this study, the innermost first.
    made: Vec<PathBuf>,
}

impl Store {
    /// Makes the directory, and finds out whether it can be written.
    pub(crate) fn create(directory: Option<&Path>) -> Result<Self, Failure> {
        let wanted = directory.map_or_else(default_directory, Path::to_owned);
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = wanted.ancestors().take_while(missing);
        let mut made: Vec<PathBuf> = made.map(Path::to_owned).collect();
        let directory = match directory {
            Some(_) => wanted,
            None => {
                let free = free_directory(&wanted);
                made.retain(|path| *path != wanted);
                made.insert(0, free.clone());
                free
            }
        };
        let probe = directory.join(".part");
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(&probe, ""))
            .and_then(|()| fs::remove_file(&probe))
            .map_err(|error| {
                Failure::usage(format!(
                    "cannot create {}: {error}; name another directory with --out",
                    directory.display()
                ))
            })?;
        Ok(Self { directory, made })
    }

    pub(crate) fn within(&self, name: &str) -> Result<Self, Failure> {
        Self::create(Some(&self.directory.join(name)))
    }

    /// Where the report is, or will be.
    pub(crate) fn report(&self) -> PathBuf {
        self.directory.join(REPORT)
    }

    /// Keeps what there is while the study goes on.
    pub(crate) fn keep_part(&self, study: &Study) -> Result<(), Failure> {
        let path = part_name(&self.directory.join(STUDY));
        let beside = self.directory.join("study.json.new");
        write_whole(&text::json(study), &beside, &path)
    }

    /// Writes all three files; the record last, so that one who sees it sees all.
    pub(crate) fn save(&self, study: &Study) -> Result<(), Failure> {
        self.render(study)?;
        self.write(STUDY, &text::json(study))
    }

    /// Writes what is made from the record: `trials.csv` and `report.html`.
    pub(crate) fn render(&self, study: &Study) -> Result<(), Failure> {
        self.write(TRIALS, &text::csv(study))?;
        self.write(REPORT, &page::page(study))
    }

    /// Concludes a study and saves it, away from the event loop: on a long study the
    /// statistics take a while, and workers must not take the coordinator for dead.
    pub(super) async fn conclude_and_save(&self, mut study: Study) -> Result<Study, Failure> {
        let store = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            conclude(&mut study, &Options::default());
            store.save(&study).map(|()| study)
        });
        match task.await {
            Ok(saved) => saved,
            Err(error) => Err(Failure::incomplete(error)),
        }
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        write_whole(content, &part_name(&path), &path)
    }

    /// Takes the directory away again if it was made for a study that never began.
    pub(crate) fn discard(&self) {
        if !self.made.is_empty() {
            let _ = fs::remove_file(part_name(&self.directory.join(STUDY)));
        }
        // Only if they are empty; what cannot be removed does no harm.
        for directory in &self.made {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }
}

/// Writes a file beside, and gives it its name when it is on disk: a file that has
/// that name stays until then.
fn write_whole(content: &str, beside: &Path, path: &Path) -> Result<(), Failure> {
    let write = || {
        let mut file = fs::File::create(beside)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(beside, path)
    };
    write()
        .map_err(|error| Failure::incomplete(format!("cannot write {}: {error}", path.display())))
}

/// Reads a study from its directory, or from its `study.json`. Of a study whose
/// coordinator was killed, the blocks that were finished are there.
pub(crate) fn load(path: &Path) -> Result<(Study, Store), Failure> {
    let (directory, mut file) = if path.is_dir() {
        (path, path.join(STUDY))
    } else {
        (path.parent().unwrap_or(Path::new("")), path.to_owned())
    };
    let part = part_name(&file);
    let cut_short = !file.exists() && part.exists();
    if cut_short {
        file = part;
    }
    let store = Store { directory: directory.to_owned(), made: Vec::new() };
    let name = file.display();
    let text = fs::read(&file).map_err(|error| {
        Failure::usage(format!(
            "cannot read {name}: {error}; name a directory that `coordinator study` made"
        ))
    })?;
    let mut study: Study = serde_json::from_slice(&text).map_err(|error| {
        Failure::usage(format!("{name} is not a study that this version can read: {error}"))
    })?;
    study.interrupted |= cut_short;
    Ok((study, store))
}

/// This directory, made now; or, where another study began in the same second, one beside it.
/// What cannot be made is found out by who uses it.
fn free_directory(wanted: &Path) -> PathBuf {
    if let Some(parent) = wanted.parent() {
        let _ = fs::create_dir_all(parent);
    }
    let others = (2..100).map(|n| {
        let mut name = wanted.as_os_str().to_owned();
        name.push(format!("-{n}"));
        PathBuf::from(name)
    });
    let mut all = std::iter::once(wanted.to_owned()).chain(others);
    let taken = |error: io::Error| error.kind() == io::ErrorKind::AlreadyExists;
    let free = all.find(|directory| !fs::create_dir(directory).is_err_and(taken));
    free.unwrap_or_else(|| wanted.to_owned())
}

fn default_directory() -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H%M%SZ");
    Path::new("studies").join(now.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn studies_of_one_second_have_a_directory_each() {
        let home = tempfile::tempdir().unwrap();
        let wanted = home.path().join("studies/2026-11-22T150405Z");
        let names =
            [(); 3].map(|()| free_directory(&wanted).strip_prefix(home.path()).unwrap().to_owned());
        let name = "studies/2026-11-22T150405Z";
        assert_eq!(names, [name, &format!("{name}-2"), &format!("{name}-3")].map(PathBuf::from));
    }
}
