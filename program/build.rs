//! Tells the programs their version, with the commit that they are built from as SemVer's build
//! metadata: `0.1.0+3fb02b4a1c9e`, or `0.1.0+3fb02b4a1c9e.dirty` where files differ from it.
//!
//! Without a checkout (a tarball, a container's build context) the commit is what the variable
//! `FANOUT_BUILD` says, which also outranks a checkout; without that it is unknown.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=FANOUT_BUILD");
    let named = env::var("FANOUT_BUILD").unwrap_or_default();
    if !fits(&named) {
        return println!(
            "cargo::error=FANOUT_BUILD='{named}' cannot stand in a version: give a commit or a \
             build's number, at most 64 letters, digits, dots and hyphens"
        );
    }
    watch();
    let build = Some(named)
        .filter(|named| !named.is_empty())
        .or_else(|| git(&["describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=.dirty"]));
    let (suffix, unknown) = match build {
        Some(build) => (format!("+{build}"), ""),
        None => (String::new(), "unknown commit, "),
    };
    let of_cargo = |name| env::var(name).unwrap_or_default();
    let version = of_cargo("CARGO_PKG_VERSION") + &suffix;
    let (target, profile) = (of_cargo("TARGET"), of_cargo("PROFILE"));
    println!("cargo::rustc-env=FANOUT_VERSION={version}");
    println!("cargo::rustc-env=FANOUT_TARGET={target}");
    println!("cargo::rustc-env=FANOUT_LONG_VERSION={version} ({unknown}{target}, {profile})");
}

/// Whether `build` is none or can stand behind a version's plus.
fn fits(build: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let part = |part: &str| !part.is_empty() && part.chars().all(plain);
    build.is_empty() || build.len() <= 64 && build.split('.').all(part)
}

/// Looks at the commit again when it or a source changes, and never for anything else.
fn watch() {
    let mut paths = vec!["../Cargo.toml".to_owned(), "../Cargo.lock".to_owned()];
    paths.extend(
        ["HEAD", "logs/HEAD"]
            .iter()
            .filter_map(|name| git(&["rev-parse", "--path-format=absolute", "--git-path", name])),
    );
    for folder in fs::read_dir("..").into_iter().flatten().flatten() {
        paths.push(format!("{}/src", folder.path().display()));
    }
    for path in paths.iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// What git says of the workspace's checkout, if it is one, and not a part of another.
fn git(args: &[&str]) -> Option<String> {
    if !Path::new("../.git").exists() {
        return None;
    }
    let mut command = Command::new("git");
    // A hook's git hands these on, and they would lead elsewhere.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    let output = command.arg("--no-optional-locks").args(args).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim_end().to_owned())
}

// Run as a part of the library.
#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_named_build_fits_behind_a_version() {
        for good in ["", "3fb02b4a1c9e", "3fb02b4.dirty", "ci-17"] {
            assert!(fits(good), "{good}");
        }
        for bad in ["a b", "a..b", "a+b", "a\n", ".", &"a".repeat(65)] {
            assert!(!fits(bad), "{bad}");
        }
    }
}
