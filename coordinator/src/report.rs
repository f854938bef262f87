//! `coordinator report`: a study again, or two compared.

use std::path::Path;

use fanout_analysis::{Options, conclude, record::Study, text};

use crate::{
    cli::ReportArgs,
    client::Coordinator,
    exit::{CommandExit, Failure},
    settings::margin,
    study::store::{self, Store},
    terminal::print,
};

pub(crate) async fn run(args: &ReportArgs) -> Result<CommandExit, Failure> {
    let (mut study, store) = find(args, &args.study).await?;
    let Some(other) = &args.other else {
        let mut options = Options::default();
        options.margin = args.margin.as_deref().map(margin).transpose()?;
        conclude(&mut study, &options);
        // A study that the coordinator keeps has its report there.
        if let Some(store) = store {
            match store.render(&study) {
                Ok(()) => eprintln!("report: {}", store.report().display()),
                Err(error) => eprintln!("the report was not drawn again: {error}"),
            }
        }
        print::show(&study, args.print).map_err(Failure::incomplete)?;
        return Ok(CommandExit::Done);
    };
    let (other, _) = find(args, other).await?;
    let between = text::compare(&study, &other, args.force).map_err(Failure::usage)?;
    print::show_between(&between, args.print.format).map_err(Failure::incomplete)?;
    Ok(CommandExit::Done)
}

/// A study here, or else one that the coordinator keeps under this name.
async fn find(args: &ReportArgs, path: &Path) -> Result<(Study, Option<Store>), Failure> {
    match (&args.coordinator, path.to_str()) {
        (Some(url), Some(name)) if !path.exists() => {
            let study = Coordinator::new(url, &args.access)?.read_study(name).await?;
            Ok((study, None))
        }
        _ => store::load(path).map(|(study, store)| (study, Some(store))),
    }
}
