//! Names become addresses without helper threads: a stub resolver of our own,
//! the same under every model and every client.
//!
//! Each host is looked up once per process. Addresses are tried in the order
//! in which they stand: IPv4 first, then IPv6. `/etc/hosts` comes before DNS;
//! other sources that the C library may know (mDNS, LDAP, …) are not asked.

mod ask;
mod config;
mod lookup;
mod policy;

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use config::{HostsFile, ResolverConfig};
use fanout_proto::setup::HttpSettings;
pub(crate) use lookup::LookupError;
pub(crate) use policy::Policy;
use tokio::{sync::Notify, time::timeout_at};

use crate::counters::Counters;

/// Hosts whose addresses are kept; the first one known gives way.
const HOSTS_MAX: usize = 16 * 1024;
/// A failed lookup is not repeated for so long.
const FAILURE_LIFETIME: Duration = Duration::from_secs(1);

/// Addresses of a host, in the order in which they are tried; never none.
pub(crate) type Addresses = Arc<[IpAddr]>;

type LookupResult = Result<Addresses, LookupError>;

#[derive(Debug)]
pub(crate) struct Resolver {
    counters: Arc<Counters>,
    system: OnceLock<(HostsFile, ResolverConfig)>,
    known: Mutex<KnownHosts>,
    policy: Policy,
}

#[derive(Debug, Default)]
struct KnownHosts {
    hosts: HashMap<Arc<str>, HostEntry>,
    /// In the order in which they became known.
    order: VecDeque<Arc<str>>,
}

#[derive(Debug)]
enum HostEntry {
    Underway(Arc<Flight>),
    Found(Addresses),
    Failed(Instant, LookupError),
}

#[derive(Debug, Default)]
struct Flight {
    result: Mutex<Option<LookupResult>>,
    landed: Condvar,
    notify: Notify,
}

/// What a host's lookup comes to for the one who asks.
enum LookupRole {
    Known(LookupResult),
    /// Another slot is at it.
    Wait(Arc<Flight>),
    /// It is for the one who asks to find it out and to tell the others.
    Lead(Arc<str>, Arc<Flight>),
}

impl Resolver {
    pub(crate) fn new(http: &HttpSettings, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            counters: counters.clone(),
            system: OnceLock::new(),
            known: Mutex::default(),
            policy: Policy::new(http.deny_private),
        })
    }

    #[cfg(test)]
    fn with_system(counters: Arc<Counters>, hosts: HostsFile, config: ResolverConfig) -> Self {
        Self {
            counters,
            system: OnceLock::from((hosts, config)),
            known: Mutex::default(),
            policy: Policy::Any,
        }
    }

    // Out of line for the sake of its caller's frame.
    #[inline(never)]
    pub(crate) fn lookup_blocking(&self, host: &str, deadline: Instant) -> LookupResult {
        match self.part(host) {
            LookupRole::Known(result) => result,
            LookupRole::Wait(flight) => flight.wait_blocking(deadline),
            LookupRole::Lead(host, flight) => {
                let asked = || ask::blocking(&self.system().1, &host, deadline);
                let result = self.without_asking(&host).map_or_else(asked, Ok);
                self.land(&host, &flight, result)
            }
        }
    }

    pub(crate) async fn lookup(&self, host: &str, deadline: Instant) -> LookupResult {
        match self.part(host) {
            LookupRole::Known(result) => result,
            LookupRole::Wait(flight) => flight.wait(deadline).await,
            LookupRole::Lead(host, flight) => {
                let result = match self.without_asking(&host) {
                    Some(addresses) => Ok(addresses),
                    None => ask::on_loop(&self.system().1, &host, deadline).await,
                };
                self.land(&host, &flight, result)
            }
        }
    }

    fn admit_literal(&self, host: &str, addresses: Addresses) -> LookupResult {
        match self.policy {
            Policy::Any => Ok(addresses),
            Policy::PublicOnly => Ok(self.policy.admit(host, addresses.to_vec())?.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, KnownHosts> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, host: &str) -> LookupRole {
        if let Some(addresses) = literal(host) {
            return LookupRole::Known(self.admit_literal(host, addresses));
        }
        let mut known = self.lock();
        match known.hosts.get(host) {
            Some(HostEntry::Found(addresses)) => return LookupRole::Known(Ok(addresses.clone())),
            Some(HostEntry::Underway(flight)) => return LookupRole::Wait(flight.clone()),
            Some(HostEntry::Failed(at, error)) if at.elapsed() < FAILURE_LIFETIME => {
                return LookupRole::Known(Err(error.clone()));
            }
            Some(HostEntry::Failed(..)) | None => {}
        }
        let name: Arc<str> = host.into();
        let flight = Arc::<Flight>::default();
        let underway = HostEntry::Underway(flight.clone());
        if known.hosts.insert(name.clone(), underway).is_none() {
            known.order.push_back(name.clone());
            known.make_room();
        }
        self.counters.names_resolved.increment();
        LookupRole::Lead(name, flight)
    }

    fn land(
        &self,
        host: &Arc<str>,
        flight: &Flight,
        result: Result<Vec<IpAddr>, LookupError>,
    ) -> LookupResult {
        let result =
            result.and_then(|addresses| self.policy.admit(host, addresses)).map(Addresses::from);
        let host_now = match &result {
            Ok(addresses) => HostEntry::Found(addresses.clone()),
            Err(error) => HostEntry::Failed(Instant::now(), error.clone()),
        };
        if let Some(entry) = self.lock().hosts.get_mut(host) {
            *entry = host_now;
        }
        flight.land(result.clone());
        result
    }

    /// The system's configuration, read when the first name needs it.
    fn system(&self) -> &(HostsFile, ResolverConfig) {
        self.system.get_or_init(|| (HostsFile::of_system(), ResolverConfig::of_system()))
    }

    fn without_asking(&self, host: &str) -> Option<Vec<IpAddr>> {
        let addresses = self.system().0.get(host)?;
        Some(lookup::in_order(addresses.to_vec()))
    }
}

impl KnownHosts {
    fn make_room(&mut self) {
        if self.order.len() > HOSTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.hosts.remove(&oldest);
        }
    }
}

impl Flight {
    fn lock(&self) -> MutexGuard<'_, Option<LookupResult>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn land(&self, result: LookupResult) {
        *self.lock() = Some(result);
        self.landed.notify_all();
        self.notify.notify_waiters();
    }

    fn wait_blocking(&self, deadline: Instant) -> LookupResult {
        let left = deadline.saturating_duration_since(Instant::now());
        let (result, _) = self
            .landed
            .wait_timeout_while(self.lock(), left, |result| result.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        result.clone().unwrap_or(Err(LookupError::TimedOut))
    }

    async fn wait(&self, deadline: Instant) -> LookupResult {
        let landed = self.notify.notified();
        tokio::pin!(landed);
        // From here on a landing is not missed.
        landed.as_mut().enable();
        if let Some(result) = self.lock().clone() {
            return result;
        }
        // Too late or not: what counts is whether there is a result.
        let _ = timeout_at(deadline.into(), landed).await;
        self.lock().clone().unwrap_or(Err(LookupError::TimedOut))
    }
}

/// What needs no looking up: addresses, and the loopback's name (RFC 6761 section 6.3).
fn literal(host: &str) -> Option<Addresses> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some([address].into());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    (name == "localhost" || name.ends_with(".localhost"))
        .then(|| [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::threads::STACK_BYTES;
    use hickory_proto::{
        op::{Message, MessageType, ResponseCode},
        rr::{
            RData, Record, RecordType,
            rdata::{A, AAAA},
        },
    };
    use std::{
        io::{Read, Write},
        net::{TcpListener, UdpSocket},
        thread,
    };

    /// A name server for `there.test` (through TCP where the name begins with
    /// `long`); it ends with the process.
    fn name_server() -> ResolverConfig {
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("a port free for both");
        let config = ResolverConfig {
            servers: vec![udp.local_addr().unwrap()],
            ..ResolverConfig::default()
        };
        thread::spawn(move || {
            let mut datagram = [0; 512];
            while let Ok((count, from)) = udp.recv_from(&mut datagram) {
                let reply = answer(&datagram[..count], false);
                udp.send_to(&reply, from).unwrap();
            }
        });
        thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut query).unwrap();
                let reply = answer(&query, true);
                let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length[..], &reply].concat()).unwrap();
            }
        });
        config
    }

    fn answer(query: &[u8], over_stream: bool) -> Vec<u8> {
        let mut message = Message::from_vec(query).unwrap();
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name.clone();
        let text = name.to_string();
        if text.starts_with("long") && !over_stream {
            message.metadata.truncation = true;
        } else if text.ends_with("there.test.") {
            let data = match message.queries[0].query_type {
                RecordType::A => RData::A(A([127, 0, 0, 9].into())),
                _ => RData::AAAA(AAAA("::9".parse().unwrap())),
            };
            message.add_answer(Record::from_rdata(name, 1, data));
        } else {
            message.metadata.response_code = ResponseCode::NXDomain;
        }
        message.to_vec().unwrap()
    }

    fn resolver() -> (Resolver, Arc<Counters>) {
        let counters = Arc::<Counters>::default();
        let hosts = HostsFile::parse("::5 known.test\n127.0.0.5 known.test\n");
        (Resolver::with_system(counters.clone(), hosts, name_server()), counters)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn ips(addresses: &[&str]) -> LookupResult {
        Ok(addresses.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn names_are_found_where_a_thread_may_block() {
        let (resolver, counters) = resolver();
        let lookup = |host| resolver.lookup_blocking(host, soon());
        assert_eq!(lookup("127.0.0.1"), ips(&["127.0.0.1"]));
        assert_eq!(lookup("::1"), ips(&["::1"]));
        assert_eq!(lookup("localhost"), ips(&["127.0.0.1", "::1"]));
        assert_eq!(counters.names_resolved.get(), 0);
        assert_eq!(lookup("known.test"), ips(&["127.0.0.5", "::5"]));
        for _ in 0..3 {
            assert_eq!(lookup("there.test"), ips(&["127.0.0.9", "::9"]));
        }
        assert_eq!(lookup("long.there.test"), ips(&["127.0.0.9", "::9"]));
        assert_eq!(lookup("nowhere.test"), Err(LookupError::NoSuchName("nowhere.test".into())));
        assert_eq!(counters.names_resolved.get(), 4);
    }

    #[test]
    fn names_are_found_on_the_loop_once_for_all_who_ask() {
        let (resolver, counters) = resolver();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for host in ["there.test", "long.there.test"] {
                let (a, b, c) = tokio::join!(
                    resolver.lookup(host, soon()),
                    resolver.lookup(host, soon()),
                    resolver.lookup(host, soon()),
                );
                for result in [a, b, c] {
                    assert_eq!(result, ips(&["127.0.0.9", "::9"]));
                }
            }
            assert_eq!(
                resolver.lookup("nowhere.test", soon()).await,
                Err(LookupError::NoSuchName("nowhere.test".into()))
            );
        });
        assert_eq!(counters.names_resolved.get(), 3);
    }

    #[test]
    fn threads_that_ask_for_the_same_host_wait_for_one_lookup() {
        let (resolver, counters) = resolver();
        thread::scope(|scope| {
            for _ in 0..8 {
                // On the stack of a slot, which must suffice.
                thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn_scoped(scope, || {
                        let result = resolver.lookup_blocking("long.there.test", soon());
                        assert_eq!(result, ips(&["127.0.0.9", "::9"]));
                    })
                    .unwrap();
            }
        });
        assert_eq!(counters.names_resolved.get(), 1);
    }

    #[test]
    fn a_server_that_is_silent_costs_no_more_than_the_deadline() {
        // Bound, never read.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = ResolverConfig {
            servers: vec![silent.local_addr().unwrap()],
            ..ResolverConfig::default()
        };
        let resolver = Resolver::with_system(Arc::default(), HostsFile::default(), config);
        let deadline = || Instant::now() + Duration::from_millis(20);
        assert_eq!(resolver.lookup_blocking("a.test", deadline()), Err(LookupError::TimedOut));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(
            runtime.block_on(resolver.lookup("b.test", deadline())),
            Err(LookupError::TimedOut)
        );
    }

    #[test]
    fn a_server_that_is_not_there_is_told() {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = ResolverConfig { servers: vec![gone], ..ResolverConfig::default() };
        let resolver = Resolver::with_system(Arc::default(), HostsFile::default(), config);
        let error = resolver.lookup_blocking("a.test", soon()).unwrap_err();
        assert!(matches!(error, LookupError::Servers { .. }), "{error}");
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut known = KnownHosts::default();
        for number in 0..HOSTS_MAX + 10 {
            let name: Arc<str> = number.to_string().into();
            known.hosts.insert(name.clone(), HostEntry::Found([].into()));
            known.order.push_back(name);
            known.make_room();
        }
        assert_eq!(known.hosts.len(), HOSTS_MAX);
        assert!(!known.hosts.contains_key("9"));
    }
}
