//! For build scripts: the version that a program says it is, with the commit
//! that it was built from, as SemVer's build metadata: `0.1.0+3fb02b4a1c9e`, or
//! `0.1.0+3fb02b4a1c9e.dirty` when its sources differ from that commit.
//!
//! Without a checkout (a tarball, a container's build context) the commit is
//! what the variable `FANOUT_BUILD` says; without that it is unknown.

mod checkout;

use std::{
    env, io,
    path::{Path, PathBuf},
};

use checkout::Checkout;

/// Says what a program was built from where there is no checkout; also
/// outranks the checkout.
const VARIABLE: &str = "FANOUT_BUILD";
/// Longest value of [`VARIABLE`].
const BUILD_MAX_BYTES: usize = 64;

/// The version cannot be told.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error(
        "{VARIABLE}='{0}' cannot stand in a version: give a commit or a build's number, at most \
         {BUILD_MAX_BYTES} letters, digits, dots and hyphens"
    )]
    Variable(String),
    #[error("{0} is not set: this is for build scripts, which cargo runs")]
    Cargo(&'static str),
    #[error("the workspace's folder cannot be found: {0}")]
    Root(#[from] io::Error),
}

/// What a package is built from, below the workspace's folder.
fn sources(packages: &[&str]) -> Vec<PathBuf> {
    let all = packages.iter().map(Path::new).flat_map(|package| {
        ["src", "Cargo.toml", "build.rs", "fanout.proto"].map(|name| package.join(name))
    });
    let mut sources: Vec<_> = all.collect();
    sources.extend(["Cargo.toml", "Cargo.lock"].map(PathBuf::from));
    sources
}

/// Tells cargo's current package its version: `FANOUT_VERSION`, and
/// `FANOUT_LONG_VERSION` with the target and the profile. `packages` are the
/// folders of the workspace that it is built from, its own among them; the
/// commit, and whether they differ from it, are looked at again when they
/// change, never for other changes. That there is no commit to be found is no
/// error; any that there is ends the build.
pub fn emit(packages: &[&str]) {
    if let Err(error) = describe(packages) {
        tell(&format!("cargo::error={error}"));
    }
}

fn describe(packages: &[&str]) -> Result<(), BuildError> {
    let variable = |name| env::var(name).map_err(|_| BuildError::Cargo(name));
    let root = Path::new(&variable("CARGO_MANIFEST_DIR")?)
        .join("..")
        .canonicalize()?;
    let sources = sources(packages);
    let checkout = Checkout::at(&root);
    tell(&format!("cargo::rerun-if-env-changed={VARIABLE}"));
    let head = checkout.iter().flat_map(Checkout::head_files);
    // Cargo looks again every time at what is not there.
    for path in sources.iter().map(|path| root.join(path)).chain(head) {
        if path.exists() {
            tell(&format!("cargo::rerun-if-changed={}", path.display()));
        }
    }
    let build = match named(env::var(VARIABLE).ok())? {
        Some(named) => Some(named),
        None => checkout.and_then(|checkout| checkout.build(&sources)),
    };
    let version = variable("CARGO_PKG_VERSION")?;
    let (version, long) = match build {
        Some(build) => (format!("{version}+{build}"), String::new()),
        None => (version, "unknown commit, ".to_owned()),
    };
    let (target, profile) = (variable("TARGET")?, variable("PROFILE")?);
    tell(&format!("cargo::rustc-env=FANOUT_VERSION={version}"));
    tell(&format!("cargo::rustc-env=FANOUT_TARGET={target}"));
    tell(&format!(
        "cargo::rustc-env=FANOUT_LONG_VERSION={version} ({long}{target}, {profile})"
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "so a build script speaks to cargo")]
fn tell(line: &str) {
    println!("{line}");
}

/// The value of [`VARIABLE`], if it has one.
fn named(value: Option<String>) -> Result<Option<String>, BuildError> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let fits = value.len() <= BUILD_MAX_BYTES
        && value.split('.').all(|part| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        });
    match fits {
        true => Ok(Some(value)),
        false => Err(BuildError::Variable(value)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_named_build_fits_behind_a_version() {
        let named = |value: &str| named(Some(value.to_owned()));
        assert_eq!(named("").unwrap(), None);
        assert_eq!(super::named(None).unwrap(), None);
        for good in ["3fb02b4a1c9e", "3fb02b4.dirty", "ci-17"] {
            assert_eq!(named(good).unwrap().as_deref(), Some(good));
        }
        for bad in ["a b", "a..b", "a+b", "a\n", ".", &"a".repeat(65)] {
            let error = named(bad).unwrap_err().to_string();
            assert!(error.contains("FANOUT_BUILD"), "{error}");
        }
    }

    /// The workspace's packages on which `package` depends, itself included, by
    /// the lock file.
    fn dependencies(lock: &str, package: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![package.to_owned()];
        while let Some(name) = open.pop() {
            let header = format!("\nname = \"{name}\"\n");
            let (_, entry) = lock.split_once(&header).expect("it is in the lock file");
            let entry = entry.split("[[package]]").next().unwrap();
            let (_, list) = entry.split_once("dependencies = [").unwrap_or_default();
            let names = list.split('"').filter(|name| name.starts_with("fanout-"));
            if found.insert(name) {
                open.extend(names.map(str::to_owned));
            }
        }
        found
    }

    #[test]
    fn every_program_watches_all_that_it_is_built_from() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let lock = read("Cargo.lock");
        let workspace = read("Cargo.toml");
        for program in ["coordinator", "worker", "origin"] {
            let script = read(&format!("{program}/build.rs"));
            let (_, list) = script.split_once("emit(&[").unwrap();
            let list = list.split("])").next().unwrap();
            let told: BTreeSet<_> = list.split('"').skip(1).step_by(2).collect();
            let needed = dependencies(&lock, &format!("fanout-{program}"));
            let needed: BTreeSet<_> = needed
                .iter()
                .map(
                    |name| match workspace.split_once(&format!("{name} = {{ path = \"")) {
                        Some((_, path)) => path.split('"').next().unwrap(),
                        None => program,
                    },
                )
                .collect();
            assert_eq!(told, needed, "{program}/build.rs");
        }
    }
}
