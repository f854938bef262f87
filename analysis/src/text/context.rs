//! What was done, in one line.

use crate::{record::Study, text::counted};

/// What ran, where and when, in one line:
/// `1,000 URLs (built-in) · 10 blocks · origin on this machine · 2 CPUs · 2026-11-22`.
#[must_use]
pub fn context(study: &Study) -> String {
    let manifest = &study.manifest;
    let mut parts = vec![format!(
        "{} ({})",
        counted(manifest.urls, "URL"),
        manifest.list
    )];
    parts.push(counted(manifest.blocks.into(), "block"));
    parts.push(match &manifest.origin {
        Some(origin) if origin.embedded => "embedded origin".to_owned(),
        Some(_) => "fanout's origin".to_owned(),
        None => "servers of the list".to_owned(),
    });
    let workers = manifest.workers.len() as u64;
    if workers > 1 {
        parts.push(counted(workers, "worker"));
    }
    let cpus = manifest.coordinator.cpus.len() as u64;
    if cpus > 0 {
        parts.push(counted(cpus, "CPU"));
    }
    if let Some((date, _)) = manifest.started.split_once('T') {
        parts.push(date.to_owned());
    }
    parts.push(format!("seed\u{a0}{}", manifest.seed));
    parts.join(" · ")
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
        study
            .manifest
            .workers
            .push(study.manifest.workers[0].clone());
        study.manifest.coordinator.cpus.clear();
        insta::assert_snapshot!(context(&study), @"1,000 URLs (news.txt) · 10 blocks · servers of the list · 2 workers · 2026-11-22 · seed 7");
    }
}
