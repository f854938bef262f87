//! The URL list: every line that is neither blank nor a comment becomes
//! exactly one id, or an error with its line number.
//!
//! The list is read through once before anything is fetched: errors are found, URLs counted, hashed
//! and counted by host. After that it stays on disk; what is kept in memory is one offset for every
//! `PAGE` URLs, so ten million lines cost 625 KiB. Anything that cannot be read twice is copied to
//! an unnamed temporary file while it is checked.

mod check;
mod error;
mod lines;
mod spool;

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use fanout_proto::{control::ListIdentity, id::UrlId};
use sha2::{Digest, Sha256};

pub(crate) use self::check::hex;
pub use self::error::ListError;
use self::{
    check::{Checked, HostCount, PAGE},
    lines::{LinesError, ListLines},
    spool::{FileAt, Spool},
};

/// Where a list comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// A client's, as it was received.
    Sent {
        /// What the client calls it.
        name: String,
        /// Where it was put.
        path: PathBuf,
    },
    /// The embedded origin's own list.
    BuiltIn,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("stdin"),
            Self::Sent { name, .. } => f.write_str(name),
            Self::BuiltIn => f.write_str("built-in"),
        }
    }
}

/// A checked list.
#[derive(Debug)]
pub struct UrlList {
    pub(crate) source: Source,
    file: File,
    /// Offset of the URL with id `PAGE * index`.
    pages: Vec<u64>,
    once: u64,
    pub(crate) longest_bytes: usize,
    pub(crate) has_https: bool,
    repeat: u64,
    skipped_lines: u64,
    /// Over the URLs, each followed by a newline, once; of the built-in list without the origin's
    /// address.
    pub(crate) sha256: String,
    beyond_loopback: Vec<HostCount>,
    other_hosts: u64,
}

impl UrlList {
    /// Reads a list through once, to its end.
    pub fn open(source: &Source, repeat: u64, skip_invalid: bool) -> Result<Self, ListError> {
        match source {
            Source::File(path) | Source::Sent { path, .. } => {
                let file = open_file(path)?;
                // Pipes and devices can be read only once.
                let again = file.metadata().is_ok_and(|m| m.is_file());
                let original = again.then(|| file.try_clone()).transpose();
                let original =
                    original.map_err(|error| ListError::Read(source.to_string(), error))?;
                Self::check(source.clone(), file, original, repeat, skip_invalid)
            }
            Source::Stdin => {
                let stdin = io::stdin().lock();
                Self::check(source.clone(), stdin, None, repeat, skip_invalid)
            }
            Source::BuiltIn => unreachable!("the built-in list is made by `from_lines`"),
        }
    }

    /// Makes a list of URLs that a program produced.
    pub fn from_lines(
        source: Source,
        lines: impl Iterator<Item = String>,
        repeat: u64,
    ) -> Result<Self, ListError> {
        let mut text = Vec::new();
        for line in lines {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        Self::check(source, &text[..], None, repeat, false)
    }

    /// Reads the list through; `original` is what can be read again.
    fn check(
        source: Source,
        input: impl Read,
        original: Option<File>,
        repeat: u64,
        skip_invalid: bool,
    ) -> Result<Self, ListError> {
        let name = source.to_string();
        let original = original.filter(|_| !skip_invalid);
        let (checked, file) = match original {
            Some(original) => (Checked::read(input, &name, None), Ok(original)),
            None => {
                let mut copy = Spool::new().map_err(ListError::Spool)?;
                let checked = Checked::read(input, &name, Some(&mut copy));
                (checked, copy.finish().map_err(ListError::Spool))
            }
        };
        let mut checked = checked?;
        checked.refuse(name, repeat, skip_invalid)?;
        Ok(Self {
            source,
            file: file?,
            once: checked.count,
            longest_bytes: checked.longest_bytes,
            has_https: checked.has_https,
            repeat,
            skipped_lines: checked.bad_count,
            sha256: checked.sha256(),
            beyond_loopback: checked.hosts(repeat),
            other_hosts: checked.other_hosts.saturating_mul(repeat),
            pages: checked.pages,
        })
    }

    /// URLs in all, repeats counted.
    pub fn len(&self) -> u64 {
        self.once * self.repeat
    }

    /// Never true for a checked list.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lines left out by `--skip-invalid`.
    pub fn skipped_lines(&self) -> u64 {
        self.skipped_lines
    }

    /// A list of an origin that has another address in every run: for its hash, `base` is none.
    pub(crate) fn from_origin(
        base: &str,
        lines: impl Iterator<Item = String>,
        repeat: u64,
    ) -> Result<Self, ListError> {
        let mut hash = Sha256::new();
        let lines = lines.inspect(|line| {
            hash.update(line.strip_prefix(base).unwrap_or(line));
            hash.update("\n");
        });
        let list = Self::from_lines(Source::BuiltIn, lines, repeat)?;
        Ok(Self { sha256: hex(&hash.finalize()), ..list })
    }

    /// What tells it from other lists.
    pub fn identity(&self) -> ListIdentity {
        ListIdentity {
            name: self.source.to_string(),
            sha256: self.sha256.clone(),
            urls: self.len(),
            repeat: self.repeat,
        }
    }

    /// Hosts beyond this machine, most URLs first; and how many URLs go to
    /// hosts past the first ten thousand.
    pub(crate) fn beyond_loopback(&self) -> (&[HostCount], u64) {
        (&self.beyond_loopback, self.other_hosts)
    }

    /// Reads on from `id`; good for many URLs in order.
    pub fn cursor(&self, id: UrlId) -> Result<ListCursor<'_>, ListError> {
        let mut cursor = ListCursor {
            list: self,
            lines: self.lines_at(id)?,
            next: UrlId(id.0 - id.0 % self.once % PAGE),
        };
        while cursor.next < id {
            cursor.read(|_, _| ())?;
        }
        Ok(cursor)
    }

    /// Calls `found` with every id in `ids` and its URL. The ids must ascend;
    /// it costs one read of a page per page touched.
    pub fn look_up(
        &self,
        ids: impl IntoIterator<Item = UrlId>,
        mut found: impl FnMut(UrlId, &[u8]),
    ) -> Result<(), ListError> {
        let mut cursor: Option<ListCursor<'_>> = None;
        for id in ids {
            let near = cursor.as_ref().is_some_and(|c| c.next <= id && id.0 - c.next.0 < PAGE);
            if !near {
                cursor = Some(self.cursor(id)?);
            }
            let Some(cursor) = &mut cursor else { continue };
            while cursor.next < id {
                cursor.read(|_, _| ())?;
            }
            cursor.read(&mut found)?;
        }
        Ok(())
    }

    fn lines_at(&self, id: UrlId) -> Result<ListLines<FileAt<'_>>, ListError> {
        let page = usize::try_from(id.0 % self.once / PAGE).unwrap_or(usize::MAX);
        let offset = *self.pages.get(page).ok_or_else(|| self.changed())?;
        Ok(ListLines::new(FileAt { file: &self.file, offset }))
    }

    fn changed(&self) -> ListError {
        ListError::Changed(self.source.to_string())
    }
}

/// Reads URLs in the order of their ids.
#[derive(Debug)]
pub struct ListCursor<'a> {
    list: &'a UrlList,
    lines: ListLines<FileAt<'a>>,
    next: UrlId,
}

impl ListCursor<'_> {
    /// The id that comes next.
    pub fn position(&self) -> UrlId {
        self.next
    }

    /// Hands the next URL over; starts again at the list's beginning for every repeat.
    pub fn read(&mut self, found: impl FnOnce(UrlId, &[u8])) -> Result<(), ListError> {
        let line = match self.lines.next() {
            Ok(Some(line)) => line,
            Ok(None) | Err(LinesError::TooLong(..)) => return Err(self.list.changed()),
            Err(LinesError::Read(error)) => {
                return Err(ListError::Read(self.list.source.to_string(), error));
            }
        };
        found(self.next, line.text);
        self.next.0 += 1;
        if self.next.0.is_multiple_of(self.list.once) && self.next.0 < self.list.len() {
            self.lines = self.list.lines_at(self.next)?;
        }
        Ok(())
    }
}

fn open_file(path: &Path) -> Result<File, ListError> {
    File::open(path)
        .and_then(|file| {
            if file.metadata()?.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            Ok(file)
        })
        .map_err(|error| ListError::Read(path.display().to_string(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    use fanout_proto::limits::URL_MAX_BYTES;

    fn list_of(text: &[u8], repeat: u64, skip: bool) -> Result<UrlList, ListError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let in_place = UrlList::open(&Source::File(file.path().into()), repeat, skip);
        let copied = UrlList::check(Source::Stdin, text, None, repeat, skip);
        if let (Ok(a), Ok(b)) = (&in_place, &copied) {
            assert_eq!(all(a), all(b));
            assert_eq!(a.sha256, b.sha256);
        } else {
            assert_eq!(in_place.is_ok(), copied.is_ok());
        }
        in_place
    }

    fn all(list: &UrlList) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        let mut cursor = list.cursor(UrlId(0)).unwrap();
        while cursor.position().0 < list.len() {
            cursor
                .read(|id, url| found.push((id.0, String::from_utf8_lossy(url).into_owned())))
                .unwrap();
        }
        found
    }

    fn error_of(text: &[u8]) -> String {
        list_of(text, 1, false)
            .unwrap_err()
            .to_string()
            .split_once('\n')
            .map(|(_, rest)| rest.lines().next().unwrap().to_owned())
            .unwrap()
    }

    #[test]
    fn an_origins_list_is_the_same_at_every_port() {
        let hash_of = |base: &str, path: &str| {
            let lines = (0..3).map(|i| format!("{base}/{path}{i}?size=64"));
            UrlList::from_origin(base, lines, 1).unwrap().sha256
        };
        let one = hash_of("http://127.0.0.1:4000", "a");
        assert_eq!(one, hash_of("http://127.0.0.1:50001", "a"));
        assert_ne!(one, hash_of("http://127.0.0.1:4000", "b"));
        assert_eq!(one.len(), 64);
    }

    #[test]
    fn blanks_comments_and_line_ends_do_not_count() {
        let list = list_of(
            b"\xef\xbb\xbf# comment\n\n  http://a/1  \r\nhttp://a/2\n\t\n# http://no\nhttps://a/3",
            2,
            false,
        )
        .unwrap();
        let urls = ["http://a/1", "http://a/2", "https://a/3"];
        let expected: Vec<_> =
            (0..6).map(|id: u64| (id, urls[usize::try_from(id % 3).unwrap()].to_owned())).collect();
        assert_eq!(all(&list), expected);
    }

    #[test]
    fn bad_lines_are_named_with_the_mend() {
        assert_eq!(
            error_of(b"http://a\nexample.com/x\n"),
            r#"  line 2: "example.com/x": it has no scheme; write https://example.com/x"#
        );
        assert_eq!(
            error_of(b"example.com:80/x\n"),
            r#"  line 1: "example.com:80/x": it has no scheme; write https://example.com:80/x"#
        );
        assert!(error_of(b"ftp://a/b").contains("the scheme 'ftp' cannot be fetched"));
        assert!(error_of(b"http://a/b c").contains("a space"));
        assert!(error_of(b"http://a/\0").contains("U+0000"));
        assert!(error_of(b"http://a/\xff").contains("UTF-8"));
        assert!(error_of(b"http://a:0/").contains("port 0"));
        assert!(error_of(b"http://a:99999/").contains("invalid port"));
        assert!(error_of(b"http://").contains("empty host"));
        let long = format!("http://a/{}\nhttp://b/ c\n", "x".repeat(1_000_000));
        assert!(error_of(long.as_bytes()).contains("longer than the 16384"));
        let text = list_of(long.as_bytes(), 1, false).unwrap_err().to_string();
        assert!(text.contains("line 2: \"http://b/ c\""), "{text}");
    }

    #[test]
    fn only_the_first_bad_lines_are_spelled_out() {
        let text = list_of(&b"nope\n".repeat(9), 1, false).unwrap_err().to_string();
        assert_eq!(text.matches("line ").count(), 5);
        assert!(text.contains("and 4 more"), "{text}");
    }

    #[test]
    fn invalid_lines_can_be_skipped_and_are_counted() {
        let list = list_of(b"nope\nhttp://a/1\nftp://b\nhttp://a/2\n", 1, true).unwrap();
        assert_eq!(list.skipped_lines(), 2);
        assert_eq!(all(&list).len(), 2);
    }

    #[test]
    fn a_longest_url_still_fits() {
        let url = format!("http://a/{}", "x".repeat(URL_MAX_BYTES - 9));
        assert_eq!(url.len(), URL_MAX_BYTES);
        assert_eq!(all(&list_of(url.as_bytes(), 1, false).unwrap())[0].1, url);
        let longer = format!("{url}y");
        assert!(list_of(longer.as_bytes(), 1, false).is_err());
    }

    #[test]
    fn a_list_without_urls_is_an_error() {
        assert!(matches!(list_of(b"# nothing\n\n", 1, false), Err(ListError::Empty(_))));
        assert!(matches!(list_of(b"", 1, false), Err(ListError::Empty(_))));
    }

    #[test]
    fn hosts_beyond_this_machine_are_counted() {
        let list = list_of(
            b"http://127.0.0.1/\nhttp://[::1]:80/\nhttp://localhost/\nhttps://b/1\nhttps://b/2\nhttps://a:8443/",
            3,
            false,
        )
        .unwrap();
        let (hosts, others) = list.beyond_loopback();
        assert_eq!(others, 0);
        let text: Vec<_> = hosts.iter().map(|h| format!("{} {}", h.host, h.urls)).collect();
        assert_eq!(text, ["b 6", "a:8443 3"]);
    }

    proptest! {
        #[test]
        fn any_id_can_be_looked_up(count in 1_usize..600, repeat in 1_u64..4, picks in prop::collection::btree_set(0_u64..1800, 1..40)) {
            let text: String = (0..count).map(|i| format!("http://a/{i}\n#\n")).collect();
            let list = list_of(text.as_bytes(), repeat, false).unwrap();
            let picks: Vec<_> = picks.into_iter().filter(|p| *p < list.len()).collect();
            let mut found = Vec::new();
            list.look_up(picks.iter().copied().map(UrlId), |id, url| found.push((id.0, url.to_vec()))).unwrap();
            let expected: Vec<_> = picks.iter().map(|p| (*p, format!("http://a/{}", p % count as u64).into_bytes())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_a_list_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), skip in any::<bool>()) {
            if let Ok(list) = list_of(&bytes, 1, skip) {
                prop_assert_eq!(all(&list).len() as u64, list.len());
            }
        }
    }
}
