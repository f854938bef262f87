//! Whom a run talks to: the person at this terminal, or whoever follows a job
//! of the daemon.

use std::{io, path::Path};

use fanout_analysis::record::Study;

use crate::{
    cli::Format,
    progress::Bar,
    store::{self, Store},
};

/// Takes what a run says.
pub trait Voice {
    /// A line, or a few, for people.
    fn say(&self, text: &str);

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

/// The terminal that this process was started from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    /// How studies are printed.
    pub format: Format,
}

impl Voice for Terminal {
    fn say(&self, text: &str) {
        eprintln!("{}", text.trim_end());
    }

    fn bar(&self, total: u64, what: String) -> Bar {
        Bar::new(total, what)
    }

    fn print(&self, text: &str) -> io::Result<()> {
        store::print(text)
    }

    fn study(&self, study: &Study, store: &Store) -> io::Result<()> {
        store::show(study, self.format)?;
        self.say(&format!("report: {}", store.report().display()));
        Ok(())
    }

    fn kept(&self, part: &Path) {
        self.say(&format!("the records so far are in {}", part.display()));
    }

    fn study_of_series(&self, _: &Study) -> io::Result<()> {
        Ok(())
    }
}
