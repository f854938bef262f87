//! What goes to standard output.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use fanout_analysis::{
    record::Study,
    text::{self, Between},
};

/// Columns of a terminal that does not say.
const COLUMNS: usize = 110;

/// How a study is printed.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct PrintArgs {
    /// What is printed on standard output.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print on a terminal what only the report and Markdown tell else: what the columns mean, the
    /// claims of the blog post, coordination, scaling, caveats.
    #[arg(long)]
    pub(crate) details: bool,
}

/// In which form a result is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a terminal.
    #[default]
    Table,
    /// For a document.
    Markdown,
    /// The whole study, as in study.json.
    Json,
    /// A row a trial, as in trials.csv.
    Csv,
}

pub(crate) fn show(study: &Study, args: PrintArgs) -> io::Result<()> {
    let text = match args.format {
        Format::Table => text::table(study, columns(), colours(), args.details),
        Format::Markdown => text::markdown(study),
        Format::Json => text::json(study),
        Format::Csv => text::csv(study),
    };
    print(&text)
}

/// Prints two studies side by side on standard output.
pub(crate) fn show_between(between: &Between, format: Format) -> io::Result<()> {
    print(&match format {
        Format::Table => between.table(),
        Format::Markdown => between.markdown(),
        Format::Json => between.json(),
        Format::Csv => between.csv(),
    })
}

pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.trim_end().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn columns() -> usize {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
        .unwrap_or(COLUMNS)
}

/// Whether standard output is a terminal that shows colours.
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
