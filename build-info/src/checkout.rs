//! A git checkout, asked through git itself, which knows worktrees, packed
//! references and everything to come.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// Digits of a commit's hash.
const HASH_DIGITS: &str = "--short=12";

/// A git checkout whose top is the workspace's folder.
#[derive(Debug)]
pub(crate) struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// The checkout at `root`; `None` where there is none, where git is not
    /// installed or may not read it, and where `root` lies within somebody
    /// else's checkout.
    pub(crate) fn at(root: &Path) -> Option<Self> {
        let checkout = Self {
            root: root.to_owned(),
        };
        let top = checkout.git(["rev-parse", "--show-toplevel"])?;
        let same = Path::new(&top).canonicalize().ok()? == root.canonicalize().ok()?;
        same.then_some(checkout)
    }

    /// Files of which one changes whenever the commit does.
    pub(crate) fn head_files(&self) -> Vec<PathBuf> {
        let mut names = vec!["HEAD".to_owned(), "logs/HEAD".to_owned()];
        names.extend(self.git(["symbolic-ref", "--quiet", "HEAD"]));
        names.push("packed-refs".to_owned());
        let paths = names
            .iter()
            .filter_map(|name| self.git(["rev-parse", "--git-path", name]));
        let mut files: Vec<_> = paths.map(|path| self.root.join(path)).collect();
        files.retain(|file| file.exists());
        files
    }

    /// The commit, marked if `sources` differ from it; `None` before the first.
    pub(crate) fn build(&self, sources: &[PathBuf]) -> Option<String> {
        let commit = self.git(["rev-parse", HASH_DIGITS, "--verify", "HEAD"])?;
        let status = ["status", "--porcelain", "--untracked-files=normal", "--"];
        let status = status.map(OsStr::new).into_iter();
        let changes = self.git(status.chain(sources.iter().map(|path| path.as_os_str())))?;
        Some(match changes.is_empty() {
            true => commit,
            false => format!("{commit}.dirty"),
        })
    }

    /// What git prints, trimmed; `None` if it fails.
    fn git(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Option<String> {
        let output = Command::new("git")
            .arg("--no-optional-locks")
            .arg("-C")
            .arg(&self.root)
            .args(args)
            // A hook's git hands these on, and they would lead elsewhere.
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn run(folder: &Path, args: &[&str]) {
        let status = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
            .arg("-C")
            .arg(folder)
            .args(args)
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .expect("git runs");
        assert!(status.status.success(), "{status:?}");
    }

    /// A checkout with one commit of `src/lib.rs`; `None` where git is missing.
    fn checkout() -> Option<TempDir> {
        if Command::new("git").arg("--version").output().is_err() {
            assert!(std::env::var_os("FANOUT_CI").is_none(), "git is missing");
            eprintln!("skipped: no git");
            return None;
        }
        let folder = TempDir::new().unwrap();
        run(folder.path(), &["init", "--quiet"]);
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/lib.rs"), "").unwrap();
        commit(folder.path());
        Some(folder)
    }

    fn commit(folder: &Path) {
        run(folder, &["add", "."]);
        run(folder, &["commit", "--quiet", "--message", "x"]);
    }

    fn build(folder: &Path) -> Option<String> {
        Checkout::at(folder)?.build(&["src".into(), "absent".into()])
    }

    #[test]
    fn the_commit_is_told_and_what_differs_from_it() {
        let Some(folder) = checkout() else { return };
        let path = folder.path();
        let clean = build(path).unwrap();
        assert_eq!(clean.len(), 12, "{clean}");
        assert!(clean.chars().all(|c| c.is_ascii_hexdigit()));
        // What the program is not built from does not count.
        fs::write(path.join("README.md"), "text").unwrap();
        assert_eq!(build(path).unwrap(), clean);
        for (file, text) in [("src/lib.rs", "//"), ("src/new.rs", "")] {
            fs::write(path.join(file), text).unwrap();
            assert_eq!(build(path).unwrap(), format!("{clean}.dirty"), "{file}");
            commit(path);
            let next = build(path).unwrap();
            assert!(next != clean && !next.contains("dirty"), "{next}");
            commit_back(path);
        }
    }

    fn commit_back(path: &Path) {
        run(path, &["reset", "--quiet", "--hard", "HEAD~"]);
    }

    /// Name, time of change and length of what cargo is told to watch.
    fn watched(path: &Path) -> Vec<(PathBuf, std::time::SystemTime, u64)> {
        let files = Checkout::at(path).unwrap().head_files();
        let look = |file: PathBuf| {
            let data = fs::metadata(&file).unwrap();
            (file, data.modified().unwrap(), data.len())
        };
        files.into_iter().map(look).collect()
    }

    #[test]
    fn a_commit_changes_what_is_watched_in_a_checkout_and_in_a_worktree() {
        let Some(folder) = checkout() else { return };
        let other = TempDir::new().unwrap();
        let tree = other.path().join("tree");
        run(
            folder.path(),
            &["worktree", "add", "--quiet", tree.to_str().unwrap()],
        );
        run(folder.path(), &["pack-refs", "--all"]);
        for (path, bystander) in [(folder.path(), tree.as_path()), (&tree, folder.path())] {
            let before = watched(path);
            assert!(!before.is_empty());
            let elsewhere = watched(bystander);
            fs::write(path.join("src/lib.rs"), path.to_str().unwrap()).unwrap();
            assert_eq!(watched(path), before, "an edit is no commit");
            commit(path);
            assert_ne!(watched(path), before);
            assert_eq!(
                watched(bystander),
                elsewhere,
                "a commit next door is none here"
            );
        }
    }

    #[test]
    fn somebody_elses_checkout_and_none_at_all_are_unknown() {
        let Some(folder) = checkout() else { return };
        let inner = folder.path().join("src");
        assert!(Checkout::at(&inner).is_none());
        assert!(Checkout::at(TempDir::new().unwrap().path()).is_none());
        let empty = TempDir::new().unwrap();
        run(empty.path(), &["init", "--quiet"]);
        assert_eq!(build(empty.path()), None, "no commit yet");
    }
}
