//! Where a followed job's output goes: to the same places as a local run's.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use fanout_analysis::record::Study;

use crate::{
    cli::Format,
    exit::Failure,
    results::{Destination, part_name},
    store::{self, Store},
    voice::{Terminal, Voice},
};

/// Takes what a job produces, octet by octet.
pub(super) struct Output {
    kind: Kind,
    journal: Lines,
    /// Octets of the journal and of the results so far.
    pub(super) taken: (u64, u64),
}

/// Where a study is kept beside the coordinator's own store.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keep<'a> {
    /// Here: the directory, or one named after the time.
    Here(Option<&'a Path>),
    /// Nowhere else; these are the coordinator's pages.
    Pages(&'a str),
}

impl<'a> Keep<'a> {
    pub(super) fn new(out: Option<&'a Path>, pages: Option<&'a str>) -> Self {
        match pages.filter(|url| !url.is_empty()) {
            Some(url) if out.is_none() => Self::Pages(url),
            _ => Self::Here(out),
        }
    }
}

enum Kind {
    Study {
        kept: Kept,
        terminal: Terminal,
        series: bool,
        studies: Lines,
        count: u32,
    },
    Fetch {
        writer: BufWriter<Box<dyn Write>>,
        /// The results file, if it is not standard output.
        file: Option<(File, PathBuf)>,
    },
}

/// [`Keep`], carried out.
enum Kept {
    Here(Store),
    Pages(String),
}

/// Cuts octets into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The lines that are whole by now.
    fn push(&mut self, octets: &[u8]) -> Vec<Vec<u8>> {
        self.0.extend_from_slice(octets);
        let Some(end) = self.0.iter().rposition(|octet| *octet == b'\n') else {
            return Vec::new();
        };
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        whole
            .split(|octet| *octet == b'\n')
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }
}

impl Output {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            journal: Lines::default(),
            taken: (0, 0),
        }
    }

    /// A study's directory and its table on standard output.
    pub(super) fn study(keep: Keep<'_>, format: Format, series: bool) -> Result<Self, Failure> {
        let kept = match keep {
            Keep::Here(Some(out)) if out.join("study.json").exists() => {
                return Err(Failure::usage(format!(
                    "--out {}: a study is kept there already; name another directory",
                    out.display()
                )));
            }
            Keep::Here(out) => Kept::Here(Store::create(out).map_err(Failure::usage)?),
            Keep::Pages(url) => Kept::Pages(url.trim_end_matches('/').to_owned()),
        };
        Ok(Self::new(Kind::Study {
            kept,
            terminal: Terminal { format },
            series,
            studies: Lines::default(),
            count: 0,
        }))
    }

    /// The coordinator's pages, if there is a study that is kept there alone.
    pub(super) fn pages(&self) -> Option<&str> {
        match &self.kind {
            Kind::Study {
                kept: Kept::Pages(url),
                count: 1..,
                ..
            } => Some(url),
            _ => None,
        }
    }

    /// A fetch's results file, or standard output.
    pub(super) fn fetch(out: Option<&Path>) -> Result<Self, Failure> {
        let destination = out.map(Destination::from_path).transpose();
        let (writer, file): (Box<dyn Write>, _) = match destination.map_err(Failure::usage)? {
            None | Some(Destination::Stdout) => (Box::new(io::stdout()), None),
            Some(Destination::File(path, _)) => {
                let open = || {
                    let file = File::create(part_name(&path))?;
                    Ok((file.try_clone()?, file))
                };
                let (file, again) = open().map_err(|error: io::Error| {
                    Failure::usage(format!(
                        "cannot write {}: {error}; name another file with --out",
                        part_name(&path).display()
                    ))
                })?;
                (Box::new(again), Some((file, path)))
            }
        };
        Ok(Self::new(Kind::Fetch {
            writer: BufWriter::new(writer),
            file,
        }))
    }

    /// The job never was: nothing of it stays.
    pub(super) fn discard(&self) {
        match &self.kind {
            Kind::Study {
                kept: Kept::Here(store),
                ..
            } => store.discard(),
            Kind::Fetch {
                file: Some((_, path)),
                ..
            } => {
                // An empty file that stays does no harm.
                let _ = std::fs::remove_file(part_name(path));
            }
            Kind::Study { .. } | Kind::Fetch { file: None, .. } => {}
        }
    }

    /// Lines for standard output and standard error.
    pub(super) fn journal(&mut self, octets: &[u8]) -> io::Result<()> {
        self.taken.0 += octets.len() as u64;
        for line in self.journal.push(octets) {
            let (stream, text) = line.split_at(1);
            let text = String::from_utf8_lossy(text);
            match stream {
                b"1" => store::print(&text)?,
                _ => eprintln!("{text}"),
            }
        }
        Ok(())
    }

    /// Records of a fetch, or a line of JSON for each study.
    pub(super) fn results(&mut self, octets: &[u8]) -> Result<(), Failure> {
        self.taken.1 += octets.len() as u64;
        match &mut self.kind {
            Kind::Fetch { writer, .. } => writer
                .write_all(octets)
                .and_then(|()| writer.flush())
                .map_err(|error| Failure::incomplete(format!("cannot write the results: {error}"))),
            Kind::Study {
                kept,
                terminal,
                series,
                studies,
                count,
            } => {
                for line in studies.push(octets) {
                    let study: Study = serde_json::from_slice(&line).map_err(|error| {
                        Failure::incomplete(format!(
                            "the coordinator's study cannot be read: {error}"
                        ))
                    })?;
                    *count += 1;
                    match (&*kept, *series) {
                        (Kept::Here(store), true) => store
                            .within(&format!("{count:04}"))
                            .map_err(Failure::usage)?
                            .save(&study)
                            .map_err(Failure::incomplete)?,
                        (Kept::Here(store), false) => {
                            store.save(&study).map_err(Failure::incomplete)?;
                            terminal.study(&study, store).map_err(Failure::incomplete)?;
                        }
                        (Kept::Pages(_), true) => {}
                        (Kept::Pages(_), false) => {
                            store::show(&study, terminal.format).map_err(Failure::incomplete)?
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether results go to standard output as they come.
    pub(super) fn shows_results(&self) -> bool {
        !matches!(self.kind, Kind::Fetch { file: Some(_), .. })
    }

    /// The job is over; `whole` says that every URL has its record.
    pub(super) fn finish(&mut self, whole: bool) -> Result<(), Failure> {
        match &mut self.kind {
            // Goes away only if it is empty.
            Kind::Study {
                kept: Kept::Here(store),
                ..
            } => store.discard(),
            Kind::Study { .. } => {}
            Kind::Fetch { file, .. } => {
                if let Some((file, path)) = file {
                    file.sync_all().map_err(Failure::incomplete)?;
                    if whole {
                        std::fs::rename(part_name(path), &*path).map_err(Failure::incomplete)?;
                    } else {
                        eprintln!("the records so far are in {}", part_name(path).display());
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut lines = Lines::default();
        assert!(lines.push(b"1a").is_empty());
        assert_eq!(lines.push(b"b\n2c\n1"), [b"1ab".to_vec(), b"2c".to_vec()]);
        assert_eq!(lines.push(b"d\n"), [b"1d".to_vec()]);
    }
}
