//! Whom a run talks to: the person at this terminal, or whoever follows a job
//! of the daemon.

use std::{io, os::fd::OwnedFd, path::Path};

use fanout_analysis::record::Study;

use crate::{study::store::Store, terminal::bar::Bar};

/// Takes what a run says.
pub trait Voice {
    /// A line, or a few, for people.
    fn say(&self, text: &str);

    /// Where [`Voice::say`] writes, if that may keep a writer waiting: whoever has
    /// much to say then writes there on a thread of its own.
    fn may_block(&self) -> Option<OwnedFd> {
        None
    }

    /// Shows how far a run over `total` URLs is.
    fn bar(&self, total: u64, what: String) -> Bar;

    /// A text that is a result.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    fn print(&self, text: &str) -> io::Result<()>;

    /// A study that is over and kept in `store`.
    ///
    /// # Errors
    ///
    /// When it cannot be shown.
    fn study(&self, study: &Study, store: &Store) -> io::Result<()>;

    /// A fetch ended early; its records so far are kept in `part`.
    fn kept(&self, part: &Path);

    /// One study of a series is over and kept; the series' result is a text.
    ///
    /// # Errors
    ///
    /// When it cannot be passed on.
    fn study_of_series(&self, study: &Study) -> io::Result<()>;
}
