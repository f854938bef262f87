//! Writes a report to a file, to look at: that of a made-up study, or of a study's record.
//!
//! `cargo run -p fanout-analysis --features fixture --example page -- report.html [scaling | servers | map | study.json]`

use std::{env, error::Error, fs, process::ExitCode};

use fanout_analysis::{fixture, page, record::Study};

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\nusage: page FILE [scaling | servers | map | STUDY.json]");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let file = arguments.next().ok_or("no file to write to")?;
    let study: Study = match arguments.next().as_deref() {
        None => fixture::study(),
        Some("scaling") => fixture::scaling(),
        Some("servers") => fixture::two_servers(),
        Some("map") => fixture::map(),
        Some(record) => serde_json::from_str(&fs::read_to_string(record)?)?,
    };
    fs::write(file, page::page(&study))?;
    Ok(())
}
