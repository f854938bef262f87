//! The URL list: every line that is neither blank nor a comment becomes
//! exactly one id, or an error with its line number.
//!
//! The list is read through once before anything is fetched: errors are found,
//! URLs counted, hashed and counted by host. After that it stays on disk; what
//! is kept in memory is one offset for every [`PAGE`] URLs, so ten million
//! lines cost 625 KiB. Anything that cannot be read twice is copied to an
//! unnamed temporary file while it is checked.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use fanout_proto::{
    control::ListIdentity,
    id::UrlId,
    limits::{URL_MAX_BYTES, URLS_MAX},
};
use sha2::{Digest, Sha256};
use url::{Host, Url};

/// URLs between two remembered offsets.
const PAGE: u64 = 128;
/// Bytes read from the list at a time.
const READ_BYTES: usize = 64 * 1024;
/// Errors spelled out before the rest are only counted.
const ERRORS_SHOWN: usize = 5;
/// Hosts counted one by one; the rest are counted together.
const HOSTS_COUNTED: usize = 10_000;
/// Bytes of a bad line that an error repeats.
const EXCERPT_BYTES: usize = 60;

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

/// Why a line is not a URL that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Nothing before `://`.
    #[error("it has no scheme; write https://{0}")]
    NoScheme(String),
    /// Something other than http or https.
    #[error("the scheme '{0}' cannot be fetched; only http and https can")]
    Scheme(String),
    /// A space or tab within the URL.
    #[error("it holds a space; write %20, and one URL a line")]
    Space,
    /// A control character.
    #[error("it holds the control character U+{0:04X}")]
    Control(u32),
    /// Not UTF-8.
    #[error("it is not valid UTF-8; percent-encode other bytes")]
    NotUtf8,
    /// Longer than a URL may be.
    #[error("it is longer than the {URL_MAX_BYTES} bytes that a URL may have")]
    TooLong,
    /// Port 0.
    #[error("port 0 cannot be connected to")]
    PortZero,
    /// What the URL parser says.
    #[error("{0}")]
    Malformed(url::ParseError),
}

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It could not be read.
    #[error("cannot read the URL list {list}: {error}")]
    Read {
        /// The list's name.
        list: String,
        /// What the system says.
        error: io::Error,
    },
    /// The copy of a list that cannot be read twice failed.
    #[error(
        "cannot keep a copy of the URL list in the temporary folder: {0}; set TMPDIR to one with room"
    )]
    Spool(io::Error),
    /// Lines that are no URLs.
    #[error("{}", describe_lines(.list, .first, *.count))]
    Lines {
        /// The list's name.
        list: String,
        /// The first bad lines: number, beginning, reason.
        first: Vec<BadLine>,
        /// How many there are.
        count: u64,
    },
    /// No URL in it.
    #[error("the URL list {0} holds no URL; give one a line, starting with http:// or https://")]
    Empty(String),
    /// It became another list while it was used.
    #[error("the URL list {0} changed while it was being fetched; use a copy that stays as it is")]
    Changed(String),
    /// `--repeat` makes more ids than there are.
    #[error(
        "the list, {0} times over, has more than the {URLS_MAX} URLs that a list may have; lower --repeat"
    )]
    TooMany(u64),
}

/// One line that is no URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    number: u64,
    excerpt: String,
    reason: LineError,
}

fn describe_lines(list: &str, first: &[BadLine], count: u64) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "the URL list {list} holds {count} line{} that cannot be fetched:",
        if count == 1 { "" } else { "s" }
    );
    for line in first {
        let _ = write!(
            text,
            "\n  line {}: {:?}: {}",
            line.number, line.excerpt, line.reason
        );
    }
    let more = count - first.len() as u64;
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
    text.push_str("\nmend them, or pass --skip-invalid to go on without them");
    text
}

/// How many requests a host gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCount {
    /// Host and port.
    pub host: String,
    /// URLs there, repeats counted.
    pub urls: u64,
}

/// A checked list.
#[derive(Debug)]
pub struct UrlList {
    source: Source,
    file: File,
    /// Offset of the URL with id `PAGE * index`.
    pages: Vec<u64>,
    once: u64,
    longest_bytes: usize,
    repeat: u64,
    skipped_lines: u64,
    sha256: String,
    beyond_loopback: Vec<HostCount>,
    other_hosts: u64,
}

impl UrlList {
    /// Reads a list through once, to its end.
    ///
    /// # Errors
    ///
    /// [`ListError`], which names the first bad lines unless `skip_invalid`.
    pub fn open(source: &Source, repeat: u64, skip_invalid: bool) -> Result<Self, ListError> {
        match source {
            Source::File(path) | Source::Sent { path, .. } => {
                let file = open_file(path)?;
                // Pipes and devices can be read only once.
                let again = file.metadata().is_ok_and(|m| m.is_file());
                Self::check(source.clone(), file, again, repeat, skip_invalid)
            }
            Source::Stdin => Self::check(
                source.clone(),
                io::stdin().lock(),
                false,
                repeat,
                skip_invalid,
            ),
            Source::BuiltIn => unreachable!("the built-in list is made by `from_lines`"),
        }
    }

    /// Makes a list of URLs that a program produced.
    ///
    /// # Errors
    ///
    /// As [`UrlList::open`].
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
        Self::check(source, &text[..], false, repeat, false)
    }

    fn check(
        source: Source,
        input: impl Read + MaybeFile,
        again: bool,
        repeat: u64,
        skip_invalid: bool,
    ) -> Result<Self, ListError> {
        let name = source.to_string();
        let read_error = |error| ListError::Read {
            list: name.clone(),
            error,
        };
        let original = if again { input.file() } else { None };
        // A copy holds only what is fetched: no comments, no bad lines.
        let mut spool = (original.is_none() || skip_invalid)
            .then(Spool::new)
            .transpose()
            .map_err(ListError::Spool)?;
        let mut checked = Checked::default();
        let mut lines = Lines::new(input);
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(LinesError::Read(error)) => return Err(read_error(error)),
                Err(LinesError::TooLong { number, excerpt }) => {
                    checked.bad(number, &excerpt, LineError::TooLong);
                    continue;
                }
            };
            let url = match parse(line.text) {
                Ok(url) => url,
                Err(reason) => {
                    checked.bad(line.number, line.text, reason);
                    continue;
                }
            };
            let offset = match &mut spool {
                Some(spool) => spool.push(line.text).map_err(ListError::Spool)?,
                None => line.offset,
            };
            checked.good(offset, line.text, &url);
        }
        if checked.bad_count > 0 && !skip_invalid {
            return Err(ListError::Lines {
                list: name,
                first: checked.bad_first,
                count: checked.bad_count,
            });
        }
        if checked.count == 0 {
            return Err(ListError::Empty(name));
        }
        checked
            .count
            .checked_mul(repeat)
            .filter(|total| *total <= URLS_MAX)
            .ok_or(ListError::TooMany(repeat))?;
        let file = match (spool, original) {
            (Some(spool), _) => spool.finish().map_err(ListError::Spool)?,
            (None, Some(file)) => file.map_err(read_error)?,
            (None, None) => unreachable!("without an original there is a copy"),
        };
        let mut beyond_loopback: Vec<_> = checked
            .hosts
            .into_iter()
            .map(|(host, urls)| HostCount {
                host,
                urls: urls.saturating_mul(repeat),
            })
            .collect();
        beyond_loopback.sort_by(|a, b| b.urls.cmp(&a.urls).then_with(|| a.host.cmp(&b.host)));
        Ok(Self {
            source,
            file,
            pages: checked.pages,
            once: checked.count,
            longest_bytes: checked.longest_bytes,
            repeat,
            skipped_lines: checked.bad_count,
            sha256: hex(&checked.hash.finalize()),
            beyond_loopback,
            other_hosts: checked.other_hosts.saturating_mul(repeat),
        })
    }

    /// URLs in all, repeats counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.once * self.repeat
    }

    /// Never true for a checked list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the longest URL.
    #[must_use]
    pub fn longest_bytes(&self) -> usize {
        self.longest_bytes
    }

    /// Where it came from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Lines left out by `--skip-invalid`.
    #[must_use]
    pub fn skipped_lines(&self) -> u64 {
        self.skipped_lines
    }

    /// SHA-256 over the URLs, each followed by a newline, once.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What tells it from other lists.
    #[must_use]
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
    #[must_use]
    pub fn beyond_loopback(&self) -> (&[HostCount], u64) {
        (&self.beyond_loopback, self.other_hosts)
    }

    /// Reads on from `id`; good for many URLs in order.
    ///
    /// # Errors
    ///
    /// [`ListError`] when the file cannot be read or has changed.
    pub fn cursor(&self, id: UrlId) -> Result<Cursor<'_>, ListError> {
        let mut cursor = Cursor {
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
    ///
    /// # Errors
    ///
    /// [`ListError`] when the file cannot be read or has changed.
    pub fn look_up(
        &self,
        ids: impl IntoIterator<Item = UrlId>,
        mut found: impl FnMut(UrlId, &[u8]),
    ) -> Result<(), ListError> {
        let mut cursor: Option<Cursor<'_>> = None;
        for id in ids {
            let near = cursor
                .as_ref()
                .is_some_and(|c| c.next <= id && id.0 - c.next.0 < PAGE);
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

    fn lines_at(&self, id: UrlId) -> Result<Lines<FileAt<'_>>, ListError> {
        let page = usize::try_from(id.0 % self.once / PAGE).unwrap_or(usize::MAX);
        let offset = *self.pages.get(page).ok_or_else(|| self.changed())?;
        Ok(Lines::new(FileAt {
            file: &self.file,
            offset,
        }))
    }

    fn changed(&self) -> ListError {
        ListError::Changed(self.source.to_string())
    }
}

/// Reads URLs in the order of their ids.
#[derive(Debug)]
pub struct Cursor<'a> {
    list: &'a UrlList,
    lines: Lines<FileAt<'a>>,
    next: UrlId,
}

impl Cursor<'_> {
    /// The id that comes next.
    #[must_use]
    pub fn position(&self) -> UrlId {
        self.next
    }

    /// Hands the next URL over; starts again at the list's beginning for every repeat.
    ///
    /// # Errors
    ///
    /// [`ListError`] when the file cannot be read or has changed.
    pub fn read(&mut self, found: impl FnOnce(UrlId, &[u8])) -> Result<(), ListError> {
        let line = match self.lines.next() {
            Ok(Some(line)) => line,
            Ok(None) | Err(LinesError::TooLong { .. }) => return Err(self.list.changed()),
            Err(LinesError::Read(error)) => {
                return Err(ListError::Read {
                    list: self.list.source.to_string(),
                    error,
                });
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
        .map_err(|error| ListError::Read {
            list: path.display().to_string(),
            error,
        })
}

/// What the first reading finds out.
#[derive(Default)]
struct Checked {
    count: u64,
    longest_bytes: usize,
    pages: Vec<u64>,
    hash: Sha256,
    hosts: HashMap<String, u64>,
    other_hosts: u64,
    bad_first: Vec<BadLine>,
    bad_count: u64,
}

impl Checked {
    fn good(&mut self, offset: u64, text: &[u8], url: &Url) {
        if self.count.is_multiple_of(PAGE) {
            self.pages.push(offset);
        }
        self.count += 1;
        self.longest_bytes = self.longest_bytes.max(text.len());
        self.hash.update(text);
        self.hash.update(b"\n");
        if is_loopback(url) {
            return;
        }
        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        if self.hosts.len() < HOSTS_COUNTED || self.hosts.contains_key(&host) {
            *self.hosts.entry(host).or_default() += 1;
        } else {
            self.other_hosts += 1;
        }
    }

    fn bad(&mut self, number: u64, text: &[u8], reason: LineError) {
        self.bad_count += 1;
        if self.bad_first.len() < ERRORS_SHOWN {
            let mut excerpt =
                String::from_utf8_lossy(&text[..text.len().min(EXCERPT_BYTES)]).into_owned();
            if text.len() > EXCERPT_BYTES {
                excerpt.push('…');
            }
            self.bad_first.push(BadLine {
                number,
                excerpt,
                reason,
            });
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn parse(text: &[u8]) -> Result<Url, LineError> {
    let text = std::str::from_utf8(text).map_err(|_| LineError::NotUtf8)?;
    if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(LineError::Control(c.into()));
    }
    if text.contains(char::is_whitespace) {
        return Err(LineError::Space);
    }
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            // `example.com:80/x` parses with the scheme `example.com`.
            if url.scheme().contains('.') || url.scheme() == "localhost" {
                return Err(LineError::NoScheme(excerpt(text)));
            }
            Err(LineError::Scheme(url.scheme().to_owned()))
        }
        Ok(url) if url.port() == Some(0) => Err(LineError::PortZero),
        Ok(url) => Ok(url),
        Err(url::ParseError::RelativeUrlWithoutBase) => Err(LineError::NoScheme(excerpt(
            text.trim_start_matches(['/', ':']),
        ))),
        Err(error) => Err(LineError::Malformed(error)),
    }
}

fn excerpt(text: &str) -> String {
    let cut = text.floor_char_boundary(EXCERPT_BYTES);
    let dots = if cut < text.len() { "…" } else { "" };
    format!("{}{dots}", &text[..cut])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Only a file can be read again.
trait MaybeFile {
    fn file(&self) -> Option<io::Result<File>> {
        None
    }
}

impl MaybeFile for File {
    fn file(&self) -> Option<io::Result<File>> {
        Some(self.try_clone())
    }
}
impl MaybeFile for io::StdinLock<'_> {}
impl MaybeFile for &[u8] {}

/// The copy of a list that cannot be read twice.
struct Spool {
    out: io::BufWriter<File>,
    offset: u64,
}

impl Spool {
    fn new() -> io::Result<Self> {
        Ok(Self {
            out: io::BufWriter::with_capacity(READ_BYTES, tempfile::tempfile()?),
            offset: 0,
        })
    }

    fn push(&mut self, line: &[u8]) -> io::Result<u64> {
        let at = self.offset;
        self.out.write_all(line)?;
        self.out.write_all(b"\n")?;
        self.offset += line.len() as u64 + 1;
        Ok(at)
    }

    fn finish(self) -> io::Result<File> {
        let mut file = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}

/// Reads a file from an offset of its own.
#[derive(Debug)]
struct FileAt<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FileAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

struct Line<'a> {
    /// From 1.
    number: u64,
    /// Of its first byte after leading blanks.
    offset: u64,
    text: &'a [u8],
}

#[derive(Debug)]
enum LinesError {
    Read(io::Error),
    TooLong { number: u64, excerpt: Vec<u8> },
}

/// Lines that hold a URL, or should; never more than one in memory.
#[derive(Debug)]
struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    offset: u64,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(READ_BYTES.min(16 * 1024), input),
            line: Vec::new(),
            number: 0,
            offset: 0,
        }
    }

    fn next(&mut self) -> Result<Option<Line<'_>>, LinesError> {
        loop {
            self.line.clear();
            let begin = self.offset;
            // One byte more than allowed tells a long line from one that just fits;
            // blanks around the URL have to fit in as well.
            let limit = URL_MAX_BYTES as u64 + 64;
            let count = (&mut self.input)
                .take(limit)
                .read_until(b'\n', &mut self.line)
                .map_err(LinesError::Read)?;
            if count == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.offset += count as u64;
            let cut = self.line.last() != Some(&b'\n') && count as u64 == limit;
            if cut {
                self.offset += skip_line(&mut self.input).map_err(LinesError::Read)?;
            }
            let mut text = &self.line[..];
            if begin == 0 {
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            }
            let lead = self.line.len() - text.trim_ascii_start().len();
            let text = text.trim_ascii();
            if text.is_empty() && !cut || text.first() == Some(&b'#') {
                continue;
            }
            if cut || text.len() > URL_MAX_BYTES {
                return Err(LinesError::TooLong {
                    number: self.number,
                    excerpt: text[..text.len().min(EXCERPT_BYTES + 1)].to_vec(),
                });
            }
            let length = text.len();
            return Ok(Some(Line {
                number: self.number,
                offset: begin + lead as u64,
                text: &self.line[lead..lead + length],
            }));
        }
    }
}

/// Reads past the rest of a line without keeping it.
fn skip_line(input: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(skipped);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |position| position + 1);
        input.consume(used);
        skipped += used as u64;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn list_of(text: &[u8], repeat: u64, skip: bool) -> Result<UrlList, ListError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let in_place = UrlList::open(&Source::File(file.path().into()), repeat, skip);
        let copied = UrlList::check(Source::Stdin, text, false, repeat, skip);
        if let (Ok(a), Ok(b)) = (&in_place, &copied) {
            assert_eq!(all(a), all(b));
            assert_eq!(a.sha256(), b.sha256());
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
    fn blanks_comments_and_line_ends_do_not_count() {
        let list = list_of(
            b"\xef\xbb\xbf# comment\n\n  http://a/1  \r\nhttp://a/2\n\t\n# http://no\nhttps://a/3",
            2,
            false,
        )
        .unwrap();
        let urls = ["http://a/1", "http://a/2", "https://a/3"];
        let expected: Vec<_> = (0..6)
            .map(|id: u64| (id, urls[usize::try_from(id % 3).unwrap()].to_owned()))
            .collect();
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
        let text = list_of(&b"nope\n".repeat(9), 1, false)
            .unwrap_err()
            .to_string();
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
        assert!(matches!(
            list_of(b"# nothing\n\n", 1, false),
            Err(ListError::Empty(_))
        ));
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
        let text: Vec<_> = hosts
            .iter()
            .map(|h| format!("{} {}", h.host, h.urls))
            .collect();
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
