//! What was done, in one line.

use crate::{record::Study, text::counted};

/// What ran, where and when, in one line:
/// `1,000 URLs (built-in) · 10 blocks · origin on this machine · 2 CPUs · 2026-11-22`.
pub(crate) fn context(study: &Study) -> String {
    let manifest = &study.manifest;
    let origin = match &manifest.origin {
        Some(origin) if origin.embedded => "embedded origin",
        Some(_) => "fanout's origin",
        None => "servers of the list",
    };
    let workers = manifest.workers.len() as u64;
    let cpus = manifest.coordinator.cpus.len() as u64;
    let date = manifest.started.split_once('T');
    let parts = [
        Some(format!("{} ({})", counted(manifest.urls, "URL"), manifest.list)),
        Some(counted(manifest.blocks.into(), "block")),
        Some(origin.to_owned()),
        (workers > 1).then(|| counted(workers, "worker")),
        (cpus > 0).then(|| counted(cpus, "CPU")),
        date.map(|(date, _)| date.to_owned()),
        Some(format!("seed\u{a0}{}", manifest.seed)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn one_line_says_what_ran() {
        let mut study = fixture::study();
        insta::assert_snapshot!(context(&study), @"1,000 URLs (built-in) · 10 blocks · embedded origin · 2 CPUs · 2026-11-22 · seed 7");
        study.manifest.origin = None;
        study.manifest.list = "news.txt".into();
        study.manifest.workers.push(study.manifest.workers[0].clone());
        study.manifest.coordinator.cpus.clear();
        insta::assert_snapshot!(context(&study), @"1,000 URLs (news.txt) · 10 blocks · servers of the list · 2 workers · 2026-11-22 · seed 7");
    }
}
