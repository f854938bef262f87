//! Where a URL leads: the little of a URL that a request needs.

use std::ops::Range;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fanout_proto::limits::URL_MAX_BYTES;
use url::Url;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the scheme '{0}' is neither http nor https")]
    Scheme(String),
    #[error("the URL is longer than {URL_MAX_BYTES} bytes")]
    TooLong,
    #[error("port 0 cannot be connected to")]
    PortZero,
    #[error("not a URL: {0}")]
    Syntax(String),
}

/// A place to connect to: connections are kept and told apart by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlOrigin {
    pub(crate) https: bool,
    /// A name or an address without brackets, in lower case.
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
}

/// A checked http or https URL, split into what a request needs.
///
/// One value serves many URLs: its text is overwritten, not allocated anew.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// The URL in its normal form: printable ASCII only.
    text: String,
    https: bool,
    port: u16,
    user_info: Range<usize>,
    /// Brackets included.
    host: Range<usize>,
    /// As the Host field has it: without the scheme's own port.
    authority: Range<usize>,
    /// Path and query; empty, or beginning with `/` or `?`.
    path: Range<usize>,
    /// Whether all of this belongs together.
    is_valid: bool,
}

impl Target {
    /// Takes a URL up. On an error the target is unusable until the next success.
    ///
    /// Plain ASCII URLs in their normal form, which is nearly all of them, are only scanned;
    /// anything else goes through the WHATWG parser, as it would under other clients.
    pub(crate) fn set(&mut self, url: &[u8]) -> Result<(), TargetError> {
        if url.len() > URL_MAX_BYTES {
            return Err(TargetError::TooLong);
        }
        if let Ok(text) = std::str::from_utf8(url)
            && is_normal(url)
        {
            let same_place = self.is_valid && self.begins_alike(url);
            self.text.clear();
            self.text.push_str(text);
            if same_place {
                self.path = self.path.start..path_end(url, self.path.start);
                return Ok(());
            }
            self.is_valid = self.split();
            if self.is_valid {
                return Ok(());
            }
        }
        self.is_valid = false;
        let text = std::str::from_utf8(url)
            .map_err(|_| TargetError::Syntax("it is not valid UTF-8".into()))?;
        self.set_parsed(&parse(text, None)?)
    }

    /// The target that a Location field's value leads to from here.
    pub(crate) fn redirected(&self, location: &[u8]) -> Result<Self, TargetError> {
        if location.len() > URL_MAX_BYTES {
            return Err(TargetError::TooLong);
        }
        let location = std::str::from_utf8(location)
            .map_err(|_| TargetError::Syntax("it is not valid UTF-8".into()))?;
        let base = parse(&self.text, None)?;
        let mut target = Self::default();
        target.set_parsed(&parse(location, Some(&base))?)?;
        Ok(target)
    }

    /// Whether `url` leads to where this target leads, path aside: then only
    /// the path has to be found anew. In a list, neighbours often do.
    fn begins_alike(&self, url: &[u8]) -> bool {
        let start = self.path.start;
        url.get(..start) == Some(&self.text.as_bytes()[..start])
            && matches!(url.get(start), None | Some(b'/' | b'?' | b'#'))
    }

    fn set_parsed(&mut self, url: &Url) -> Result<(), TargetError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme(url.scheme().to_owned()));
        }
        if url.as_str().len() > URL_MAX_BYTES {
            return Err(TargetError::TooLong);
        }
        if url.port() == Some(0) {
            return Err(TargetError::PortZero);
        }
        self.text.clear();
        self.text.push_str(url.as_str());
        self.is_valid = self.split();
        if !self.is_valid {
            return Err(TargetError::Syntax(format!("'{url}' has no usable host")));
        }
        Ok(())
    }

    /// Finds the parts of `text`; false if it is not in the normal form.
    fn split(&mut self) -> bool {
        let text = self.text.as_bytes();
        let (https, start) = if text.starts_with(b"http://") {
            (false, 7)
        } else if text.starts_with(b"https://") {
            (true, 8)
        } else {
            return false;
        };
        let end_of = |from: usize, stops: &[u8]| {
            text[from..]
                .iter()
                .position(|byte| stops.contains(byte))
                .map_or(text.len(), |offset| from + offset)
        };
        let authority_end = end_of(start, b"/?#");
        let path = authority_end..path_end(text, authority_end);
        let host_start = text[start..authority_end]
            .iter()
            .rposition(|byte| *byte == b'@')
            .map_or(start, |offset| start + offset + 1);
        let user_info = start..host_start.saturating_sub(1).max(start);
        let host_end = if text.get(host_start) == Some(&b'[') {
            match text[host_start..authority_end].iter().position(|byte| *byte == b']') {
                Some(offset) => host_start + offset + 1,
                None => return false,
            }
        } else {
            end_of(host_start, b":").min(authority_end)
        };
        let default_port = if https { 443 } else { 80 };
        let port = match &self.text[host_end..authority_end] {
            "" => default_port,
            port => match port.strip_prefix(':').map(parse_port) {
                Some(Some(port)) => port,
                _ => return false,
            },
        };
        if !is_normal_host(&self.text[host_start..host_end]) {
            return false;
        }
        self.https = https;
        self.port = port;
        self.user_info = user_info;
        self.host = host_start..host_end;
        self.authority = host_start..if port == default_port { host_end } else { authority_end };
        self.path = path;
        true
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A name or an address, without brackets, in lower case.
    pub(crate) fn host(&self) -> &str {
        let host = &self.text[self.host.clone()];
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    pub(crate) fn ip(&self) -> Option<std::net::IpAddr> {
        self.host().parse().ok()
    }

    pub(crate) fn authority(&self) -> &str {
        &self.text[self.authority.clone()]
    }

    pub(crate) fn write_path(&self, out: &mut Vec<u8>) {
        let path = &self.text.as_bytes()[self.path.clone()];
        if path.first() != Some(&b'/') {
            out.push(b'/');
        }
        out.extend_from_slice(path);
    }

    /// The credentials of RFC 7617, if the URL holds user information.
    pub(crate) fn basic_credentials(&self) -> Option<String> {
        let user_info = &self.text[self.user_info.clone()];
        if user_info.is_empty() {
            return None;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(user_info).collect();
        let separator: &[u8] = if user_info.contains(':') { b"" } else { b":" };
        Some(BASE64_STANDARD.encode([&decoded, separator].concat()))
    }

    pub(crate) fn is_at(&self, origin: &UrlOrigin) -> bool {
        self.port == origin.port && self.https == origin.https && *self.host() == *origin.host
    }

    pub(crate) fn origin(&self) -> UrlOrigin {
        UrlOrigin { https: self.https, host: self.host().into(), port: self.port }
    }
}

fn parse(text: &str, base: Option<&Url>) -> Result<Url, TargetError> {
    Url::options()
        .base_url(base)
        .parse(text)
        .map_err(|error| TargetError::Syntax(error.to_string()))
}

/// Where path and query end that begin at `start`.
fn path_end(url: &[u8], start: usize) -> usize {
    url[start..].iter().position(|byte| *byte == b'#').map_or(url.len(), |offset| start + offset)
}

fn parse_port(text: &str) -> Option<u16> {
    // `u16::from_str` takes a sign, too.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .filter(|port| *port != 0)
}

/// Whether the WHATWG parser would leave these bytes as they are, the host aside.
fn is_normal(url: &[u8]) -> bool {
    // Bytes that it would change or that may mean something to it, as bits,
    // so that one pass decides about nearly all URLs.
    const BAD: u8 = 1;
    const PERCENT: u8 = 2;
    const X: u8 = 4;
    const CLASSES: [u8; 256] = {
        let mut classes = [BAD; 256];
        let mut byte = 0x21;
        while byte <= 0x7e {
            classes[byte] = 0;
            byte += 1;
        }
        let bad = b"\"'<>\\^`{|}";
        let mut index = 0;
        while index < bad.len() {
            classes[bad[index] as usize] = BAD;
            index += 1;
        }
        classes[b'%' as usize] = PERCENT;
        classes[b'x' as usize] = X;
        classes
    };
    let found = url.iter().fold(0, |found, byte| found | CLASSES[usize::from(*byte)]);
    let contains = |text: &[u8]| url.windows(text.len()).any(|window| window == text);
    found & BAD == 0
        // A dot after a slash may begin a segment to remove, written as %2e too.
        && !contains(b"/.")
        && (found & PERCENT == 0 || !(contains(b"%2e") || contains(b"%2E")))
        // A label in Punycode has to be checked.
        && (found & X == 0 || !contains(b"xn--"))
}

/// A name in lower case, an IPv4 address in four parts or an IPv6 address in brackets.
fn is_normal_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let last_label = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    if last_label.starts_with(|c: char| c.is_ascii_digit()) {
        return host.parse::<std::net::Ipv4Addr>().is_ok();
    }
    !last_label.is_empty()
        && host.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(url: &str) -> Target {
        let mut target = Target::default();
        target.set(url.as_bytes()).unwrap();
        target
    }

    fn path(target: &Target) -> String {
        let mut out = Vec::new();
        target.write_path(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parts_are_found() {
        let t = target("http://127.0.0.1:8080/a?b=c#d");
        assert_eq!((t.is_https(), t.host(), t.port()), (false, "127.0.0.1", 8080));
        assert_eq!((t.authority(), path(&t).as_str()), ("127.0.0.1:8080", "/a?b=c"));
        let t = target("https://[::1]");
        assert_eq!((t.is_https(), t.host(), t.port()), (true, "::1", 443));
        assert_eq!((t.authority(), path(&t).as_str()), ("[::1]", "/"));
        let t = target("http://example.org:80?q");
        assert_eq!((t.authority(), path(&t).as_str()), ("example.org", "/?q"));
        let t = target("HTTP://Example.ORG./\u{e9} b");
        assert_eq!((t.authority(), path(&t).as_str()), ("example.org.", "/%C3%A9%20b"));
        assert_eq!(target("http://b\u{fc}cher.example/").host(), "xn--bcher-kva.example");
        assert_eq!(target("http://127.1/").ip(), Some([127, 0, 0, 1].into()));
        assert_eq!(path(&target("http://h/a/../b/%2E/c")), "/b/c");
    }

    #[test]
    fn credentials_are_taken_from_the_url() {
        assert_eq!(
            target("http://Aladdin:open%20sesame@h/").basic_credentials(),
            Some("QWxhZGRpbjpvcGVuIHNlc2FtZQ==".into())
        );
        assert_eq!(target("http://a@h/").basic_credentials(), Some("YTo=".into()));
        assert_eq!(target("http://h/@").basic_credentials(), None);
        assert_eq!(target("http://a@h:81/").authority(), "h:81");
    }

    #[test]
    fn what_cannot_be_fetched_says_why() {
        let refused = |url: &str| Target::default().set(url.as_bytes()).unwrap_err().to_string();
        assert_eq!(refused("ftp://h/"), "the scheme 'ftp' is neither http nor https");
        assert_eq!(refused("http://h:0/"), "port 0 cannot be connected to");
        assert_eq!(refused("//h/"), "not a URL: relative URL without a base");
        assert_eq!(refused("http://"), "not a URL: empty host");
        assert_eq!(refused("http://[::1/"), "not a URL: invalid IPv6 address");
        assert_eq!(refused("http://h:99999/"), "not a URL: invalid port number");
        assert!(refused(&format!("http://h/{}", "a".repeat(URL_MAX_BYTES))).contains("longer"));
    }

    #[test]
    fn locations_lead_from_where_they_were_found() {
        let from = target("http://h:8080/a/b?c");
        let to = |location: &str| from.redirected(location.as_bytes()).map(|t| t.text);
        assert_eq!(to("d"), Ok("http://h:8080/a/d".into()));
        assert_eq!(to("/d"), Ok("http://h:8080/d".into()));
        assert_eq!(to("//other/d"), Ok("http://other/d".into()));
        assert_eq!(to("?d"), Ok("http://h:8080/a/b?d".into()));
        assert_eq!(to("https://other/"), Ok("https://other/".into()));
        assert_eq!(to("file:///etc/passwd"), Err(TargetError::Scheme("file".into())));
    }

    proptest! {
        #[test]
        fn the_fast_way_agrees_with_the_whatwg_parser(
            url in "https?://([a-z0-9]{1,5}(:[a-z]{0,2})?@)?([a-z0-9.-]{0,8}|[0-9]{1,3}(\\.[0-9]{1,3}){1,4}|\\[[0-9a-f:]{0,6}\\])(:[0-9]{0,5})?[/?#]?[!-~]{0,12}"
        ) {
            let mut target = Target::default();
            let result = target.set(url.as_bytes());
            match Url::parse(&url) {
                Ok(parsed) => if result.is_ok() {
                    prop_assert_eq!(target.is_https(), parsed.scheme() == "https");
                    prop_assert_eq!(Some(target.port()), parsed.port_or_known_default());
                    let mut expected = parsed.path().to_owned();
                    if let Some(query) = parsed.query() {
                        expected = format!("{expected}?{query}");
                    }
                    prop_assert_eq!(path(&target), expected, "{}", url);
                    match parsed.host().unwrap() {
                        url::Host::Domain(name) => prop_assert_eq!(target.host(), name),
                        url::Host::Ipv4(ip) => prop_assert_eq!(target.ip(), Some(ip.into())),
                        url::Host::Ipv6(ip) => prop_assert_eq!(target.ip(), Some(ip.into())),
                    }
                } else {
                    prop_assert!(parsed.port() == Some(0) || !is_normal_host(parsed.host_str().unwrap()), "{}: {:?}", url, result);
                },
                Err(_) => prop_assert!(result.is_err(), "{url}"),
            }
        }

        #[test]
        fn a_used_target_takes_a_url_up_as_a_new_one_does(urls in prop::collection::vec("https?://(a@)?(a|b|1\\.2\\.3\\.4)(:8[01]|:x)?[/?#@]?[a#.%2e]{0,4}", 2..6)) {
            let mut used = Target::default();
            for url in urls {
                let mut new = Target::default();
                let expected = new.set(url.as_bytes());
                prop_assert_eq!(used.set(url.as_bytes()), expected.clone());
                if expected.is_ok() {
                    prop_assert_eq!(format!("{used:?}"), format!("{new:?}"));
                }
            }
        }

        #[test]
        fn any_bytes_are_a_target_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64), location in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut target = Target::default();
            if target.set(&bytes).is_ok() {
                let _ = path(&target);
            }
            let _ = self::target("http://h/a/b").redirected(&location);
        }
    }
}
