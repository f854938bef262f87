//! Clocks of machines may differ by hours without changing a figure: wall
//! clocks are read for names and seeds only, and none goes over the wire.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the time of day may be read, and what for.
const ALLOWED: [(&str, &str); 3] = [
    (
        "coordinator/src/study/manifest.rs",
        "when a study began, and a seed",
    ),
    (
        "coordinator/src/store.rs",
        "the name of a study's directory",
    ),
    ("coordinator/src/daemon/plan.rs", "the name of a study"),
];
/// What reads it.
const READS: [&str; 5] = [
    "SystemTime::",
    "Timestamp::now",
    "Zoned::now",
    "ClockId::Realtime",
    "modified()",
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_time_of_day_is_read_for_names_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for part in [
        "coordinator/src",
        "coordinator/analysis/src",
        "origin/src",
        "proto/src",
        "worker/src",
        "worker/fetcher/src",
    ] {
        sources(&root.join(part), &mut files);
    }
    assert!(files.len() > 100, "the sources are elsewhere");
    let mut readers = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        if READS.iter().any(|read| text.contains(read)) {
            let name = file.strip_prefix(&root).expect("below the root");
            readers.push(name.display().to_string());
        }
    }
    readers.sort_unstable();
    let mut allowed = ALLOWED.map(|(file, _)| file);
    allowed.sort_unstable();
    assert_eq!(readers, allowed);
    let proto = fs::read_to_string(root.join("proto/fanout.proto")).expect("the wire format");
    assert!(!proto.contains("Timestamp") && !proto.contains("import"));
}
