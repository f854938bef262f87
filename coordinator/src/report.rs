//! `coordinator report`: a study again, or two compared.

use fanout_analysis::{Options, conclude, text};

use crate::{
    cli::ReportArgs,
    exit::{Exit, Failure},
    store,
};

/// Shows one study, or compares two.
///
/// # Errors
///
/// [`Failure`] when there is no study, or the two cannot be compared.
pub fn run(args: &ReportArgs) -> Result<Exit, Failure> {
    let (mut study, store) = store::load(&args.study).map_err(Failure::usage)?;
    let Some(other) = &args.other else {
        conclude(&mut study, &Options::default());
        match store.render(&study) {
            Ok(()) => eprintln!("report: {}", store.report().display()),
            Err(error) => eprintln!("the report was not drawn again: {error}"),
        }
        store::show(&study, args.format).map_err(Failure::incomplete)?;
        return Ok(Exit::Done);
    };
    let (other, _) = store::load(other).map_err(Failure::usage)?;
    let text = text::compare(&study, &other, args.force).map_err(Failure::usage)?;
    store::print(&text).map_err(Failure::incomplete)?;
    Ok(Exit::Done)
}
