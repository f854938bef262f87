//! What the system says about names: `/etc/hosts` and `/etc/resolv.conf`.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Limits of the resolver library, resolv.conf(5).
const SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;
const NDOTS_MAX: usize = 15;
const TIMEOUT_MAX_S: u64 = 30;
const ATTEMPTS_MAX: usize = 5;
const PORT: u16 = 53;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolverConfig {
    pub(crate) servers: Vec<SocketAddr>,
    /// Domains to look a short name up in.
    pub(crate) search: Vec<String>,
    /// A name with fewer dots is looked up in the search domains first.
    pub(crate) ndots: usize,
    pub(crate) timeout: Duration,
    /// How often all servers are asked.
    pub(crate) attempts: usize,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self {
            servers: vec![(Ipv4Addr::LOCALHOST, PORT).into()],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        }
    }
}

impl ResolverConfig {
    /// As `/etc/resolv.conf` has it; its defaults where there is none.
    pub(crate) fn of_system() -> Self {
        Self::parse(&read("/etc/resolv.conf"))
    }

    /// Unknown lines and values are passed over, as the C library does.
    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        let mut servers = Vec::new();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => servers.extend(
                    words
                        .next()
                        .and_then(|address| address.parse::<IpAddr>().ok())
                        .map(|address| SocketAddr::from((address, PORT))),
                ),
                // The last of these lines holds.
                Some("search" | "domain") => {
                    config.search = words
                        .map(|domain| domain.trim_end_matches('.').to_ascii_lowercase())
                        .filter(|domain| !domain.is_empty())
                        .take(SEARCH_MAX)
                        .collect();
                }
                Some("options") => words.for_each(|option| config.set(option)),
                _ => {}
            }
        }
        if !servers.is_empty() {
            servers.truncate(SERVERS_MAX);
            config.servers = servers;
        }
        config
    }

    fn set(&mut self, option: &str) {
        let Some((name, Ok(value))) =
            option.split_once(':').map(|(name, value)| (name, value.parse::<usize>()))
        else {
            return;
        };
        match name {
            "ndots" => self.ndots = value.min(NDOTS_MAX),
            "timeout" => {
                let seconds = (value as u64).clamp(1, TIMEOUT_MAX_S);
                self.timeout = Duration::from_secs(seconds);
            }
            "attempts" => self.attempts = value.clamp(1, ATTEMPTS_MAX),
            _ => {}
        }
    }

    /// The full names that a host's name may stand for, in the order in which they are asked for.
    pub(crate) fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(full) = host.strip_suffix('.') {
            return vec![full.to_owned()];
        }
        let mut candidates: Vec<_> =
            self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let dots = host.bytes().filter(|byte| *byte == b'.').count();
        let position = if dots >= self.ndots { 0 } else { candidates.len() };
        candidates.insert(position, host.to_owned());
        candidates
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostsFile(HashMap<String, Vec<IpAddr>>);

impl HostsFile {
    pub(crate) fn of_system() -> Self {
        Self::parse(&read("/etc/hosts"))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut hosts = HashMap::<_, Vec<_>>::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            for name in words {
                let addresses = hosts.entry(name.to_ascii_lowercase()).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Self(hosts)
    }

    /// Addresses of a host's name in lower case, in the file's order.
    pub(crate) fn get(&self, host: &str) -> Option<&[IpAddr]> {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.0.get(host).map(Vec::as_slice)
    }
}

/// A file's text; empty if it cannot be read, as the C library has it.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // Half a file is better than none.
        let _ = file.take(FILE_MAX_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn resolv_conf_is_understood() {
        let config = ResolverConfig::parse(
            "# comment\nnameserver 192.0.2.1\nnameserver ::1 ; local\nnameserver nonsense\n\
             domain old.example\nsearch A.example b.example.\n\
             options ndots:2 timeout:100 attempts:0 rotate\n",
        );
        assert_eq!(
            config,
            ResolverConfig {
                servers: vec!["192.0.2.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()],
                search: vec!["a.example".into(), "b.example".into()],
                ndots: 2,
                timeout: Duration::from_secs(30),
                attempts: 1,
            }
        );
        assert_eq!(ResolverConfig::parse(""), ResolverConfig::default());
    }

    #[test]
    fn short_names_are_searched_for_first() {
        let config = ResolverConfig {
            search: vec!["x".into(), "y".into()],
            ndots: 2,
            ..ResolverConfig::default()
        };
        assert_eq!(config.candidates("a"), ["a.x", "a.y", "a"]);
        assert_eq!(config.candidates("a.b.c"), ["a.b.c", "a.b.c.x", "a.b.c.y"]);
        assert_eq!(config.candidates("a."), ["a"]);
    }

    #[test]
    fn hosts_are_found_by_every_name() {
        let hosts =
            HostsFile::parse("127.0.0.1 localhost\n::1 ip6 Alias # x\n192.0.2.1 alias\nbad x\n");
        assert_eq!(
            hosts.get("alias").unwrap(),
            ["::1".parse::<IpAddr>().unwrap(), "192.0.2.1".parse().unwrap()]
        );
        assert!(hosts.get("alias.").is_some());
        assert_eq!(hosts.get("x"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_configuration(text in any::<String>(), host in "[a-z.]{0,20}") {
            let config = ResolverConfig::parse(&text);
            prop_assert!(!config.servers.is_empty() && config.attempts > 0);
            prop_assert!(!config.candidates(&host).is_empty());
            let _ = HostsFile::parse(&text).get(&host);
        }
    }
}
