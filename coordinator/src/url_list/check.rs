//! The first reading of a list.

use std::{collections::HashMap, io::Read};

use fanout_proto::limits::{URL_MAX_BYTES, URLS_MAX};
use sha2::{Digest, Sha256};
use url::{Host, Url};

use super::{
    error::{EXCERPT_BYTES, ListError, excerpt},
    lines::{LinesError, ListLines},
    spool::Spool,
};

/// URLs between two remembered offsets.
pub(super) const PAGE: u64 = 128;
/// Errors spelled out before the rest are only counted.
const ERRORS_SHOWN: usize = 5;
/// Hosts counted one by one; the rest are counted together.
const HOSTS_COUNTED: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostCount {
    pub(crate) host: String,
    /// URLs there, repeats counted.
    pub(crate) urls: u64,
}

#[derive(Default)]
pub(super) struct Checked {
    pub(super) count: u64,
    pub(super) longest_bytes: usize,
    pub(super) has_https: bool,
    pub(super) pages: Vec<u64>,
    hash: Sha256,
    hosts: HashMap<String, u64>,
    pub(super) other_hosts: u64,
    bad_first: Vec<String>,
    pub(super) bad_count: u64,
}

impl Checked {
    /// Reads a list through. What can be fetched goes to the copy, if there is
    /// one: no comments, no bad lines.
    pub(super) fn read(
        input: impl Read,
        list: &str,
        mut copy: Option<&mut Spool>,
    ) -> Result<Self, ListError> {
        let mut checked = Self::default();
        let mut lines = ListLines::new(input);
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(checked),
                Err(LinesError::Read(error)) => {
                    return Err(ListError::Read(list.to_owned(), error));
                }
                Err(LinesError::TooLong(number, excerpt)) => {
                    let most = format!("the {URL_MAX_BYTES} bytes that a URL may have");
                    checked.bad(number, &excerpt, format!("it is longer than {most}"));
                    continue;
                }
            };
            match parse(line.text) {
                Ok(url) => {
                    let offset = match &mut copy {
                        Some(copy) => copy.push(line.text).map_err(ListError::Spool)?,
                        None => line.offset,
                    };
                    checked.good(offset, line.text, &url);
                }
                Err(reason) => checked.bad(line.number, line.text, reason),
            }
        }
    }

    /// Refuses what is no list that can be fetched `repeat` times over.
    pub(super) fn refuse(
        &mut self,
        list: String,
        repeat: u64,
        skip_invalid: bool,
    ) -> Result<(), ListError> {
        if self.bad_count > 0 && !skip_invalid {
            return Err(ListError::Lines {
                list,
                first: std::mem::take(&mut self.bad_first),
                count: self.bad_count,
            });
        }
        if self.count == 0 {
            return Err(ListError::Empty(list));
        }
        let total = self.count.checked_mul(repeat);
        match total.is_some_and(|total| total <= URLS_MAX) {
            true => Ok(()),
            false => Err(ListError::TooMany(repeat)),
        }
    }

    /// The hosts counted one by one, most URLs first.
    pub(super) fn hosts(&mut self, repeat: u64) -> Vec<HostCount> {
        let hosts = std::mem::take(&mut self.hosts).into_iter();
        let mut hosts: Vec<_> = hosts
            .map(|(host, urls)| HostCount { host, urls: urls.saturating_mul(repeat) })
            .collect();
        hosts.sort_by(|a, b| b.urls.cmp(&a.urls).then_with(|| a.host.cmp(&b.host)));
        hosts
    }

    pub(super) fn sha256(&mut self) -> String {
        hex(&self.hash.finalize_reset())
    }

    fn good(&mut self, offset: u64, text: &[u8], url: &Url) {
        if self.count.is_multiple_of(PAGE) {
            self.pages.push(offset);
        }
        self.count += 1;
        self.longest_bytes = self.longest_bytes.max(text.len());
        self.has_https |= url.scheme() == "https";
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

    fn bad(&mut self, number: u64, text: &[u8], reason: String) {
        self.bad_count += 1;
        if self.bad_first.len() < ERRORS_SHOWN {
            let mut excerpt =
                String::from_utf8_lossy(&text[..text.len().min(EXCERPT_BYTES)]).into_owned();
            if text.len() > EXCERPT_BYTES {
                excerpt.push('…');
            }
            self.bad_first.push(format!("line {number}: {excerpt:?}: {reason}"));
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

/// The error says why a line is not a URL that can be fetched.
fn parse(text: &[u8]) -> Result<Url, String> {
    let no_scheme = |text: &str| format!("it has no scheme; write https://{}", excerpt(text));
    let Ok(text) = std::str::from_utf8(text) else {
        return Err("it is not valid UTF-8; percent-encode other bytes".to_owned());
    };
    if let Some(c) = text.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(format!("it holds the control character U+{:04X}", u32::from(c)));
    }
    if text.contains(char::is_whitespace) {
        return Err("it holds a space; write %20, and one URL a line".to_owned());
    }
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Err(match url.scheme() {
            // `example.com:80/x` parses with the scheme `example.com`.
            host if host.contains('.') || host == "localhost" => no_scheme(text),
            other => format!("the scheme '{other}' cannot be fetched; only http and https can"),
        }),
        Ok(url) if url.port() == Some(0) => Err("port 0 cannot be connected to".to_owned()),
        Ok(url) => Ok(url),
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            Err(no_scheme(text.trim_start_matches(['/', ':'])))
        }
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
