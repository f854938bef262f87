//! What results need of a file system: a seam, so that tests can lose power between any two bytes.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Names of files.
pub(crate) trait Files: std::fmt::Debug + Send + 'static {
    type File: OpenFile;

    /// Opens a file to read and write; makes an empty one if there is none.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Whether `file` still has that name.
    fn is_called(&self, file: &Self::File, path: &Path) -> io::Result<bool>;

    /// Gives a file another name, and takes the name from the file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file away; one that is not there is no error.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// After this, names made, changed or taken away beside `path` are so for good.
    fn sync_names(&self, path: &Path) -> io::Result<()>;
}

pub(crate) trait OpenFile: std::fmt::Debug + Send + 'static {
    /// Keeps other processes out, until the file is closed; `false`: another one was first.
    fn lock(&self) -> io::Result<bool>;

    fn length(&self) -> io::Result<u64>;

    /// Reads some bytes; 0 at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some bytes; says how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Takes everything from `length` on away.
    fn cut(&self, length: u64) -> io::Result<()>;

    /// After this, what was written stays whatever happens to the machine.
    fn sync(&self) -> io::Result<()>;
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct System;

impl Files for System {
    type File = File;

    fn open(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn is_called(&self, file: &File, path: &Path) -> io::Result<bool> {
        let here = file.metadata()?;
        match fs::metadata(path) {
            Ok(there) => Ok((here.dev(), here.ino()) == (there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn sync_names(&self, path: &Path) -> io::Result<()> {
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        match File::open(directory)?.sync_all() {
            // Not every file system can; then it has nothing to say either.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

impl OpenFile for File {
    fn lock(&self) -> io::Result<bool> {
        match flock(self, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            // Some network file systems have no locks: there every process is alone.
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOLCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Reads on from an offset of its own.
#[derive(Debug)]
pub(crate) struct ReadFrom<'a, F> {
    pub(crate) file: &'a F,
    pub(crate) offset: u64,
}

impl<F: OpenFile> io::Read for ReadFrom<'_, F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
