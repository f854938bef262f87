//! What a fetch's flags mean.

use std::num::NonZeroU32;

use fanout_proto::arm::Arm;

use crate::{
    cli::FetchArgs,
    results::Destination,
    settings::{common::Common, error::SettingsError, parse::value},
};

/// A fetch, settled.
#[derive(Debug)]
pub(crate) struct FetchSettings {
    pub(crate) common: Common,
    pub(crate) arm: Arm,
    pub(crate) destination: Destination,
    /// Go on from the part that is there.
    pub(crate) resume: bool,
    /// Tell every start and end.
    pub(crate) verbose: bool,
}

impl FetchSettings {
    pub(crate) fn new(args: &FetchArgs) -> Result<Self, SettingsError> {
        let common = Common::new(
            Some(&args.urls),
            &args.list,
            &args.fleet,
            &args.http,
            &args.politeness,
        )?;
        let arm = Arm::parse(&args.arm, NonZeroU32::new(64).unwrap_or(NonZeroU32::MIN))?;
        if let Some(workers) = arm.workers
            && !common.on_fleet
            && workers.get() > common.local_workers
        {
            return Err(value(
                "--arm",
                arm,
                format!("it asks for {workers} workers; add --local-workers {workers}"),
            ));
        }
        common.check_descriptors(&[arm])?;
        Ok(Self {
            common,
            arm,
            destination: match &args.out {
                None => Destination::Stdout,
                Some(path) => Destination::from_path(path)?,
            },
            resume: args.resume,
            verbose: args.verbose,
        })
    }
}
