//! One name's lookup: which server is asked what, and what its answers mean.
//! It owns no socket and knows no clock.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use fanout_proto::completion::Outcome;
use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};

use super::config::ResolverConfig;

const ALIASES_MAX: usize = 16;
const ADDRESSES_MAX: usize = 16;
/// Once one family's addresses are there, the other's are waited for so much
/// longer: the Resolution Delay of RFC 8305 section 3.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("the host '{0}' is not a valid name")]
    BadName(String),
    #[error("there is no host '{0}'")]
    NoSuchName(String),
    #[error("the host '{0}' has no address")]
    NoAddress(String),
    #[error("no name server could answer for '{host}': {last}")]
    Servers { host: String, last: String },
    /// The worker's policy is against it.
    #[error("this worker does not fetch from private addresses, and '{host}' is at {address}")]
    Denied { host: String, address: IpAddr },
    /// The one who asked ran out of time.
    #[error("the name server took too long")]
    TimedOut,
}

impl LookupError {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Denied { .. } => Outcome::Forbidden,
            _ => Outcome::Dns,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LookupStep {
    /// Send these to the server in datagrams, from a port of their own, and hand in the answers.
    Datagrams {
        server: SocketAddr,
        queries: Vec<Vec<u8>>,
    },
    /// Ask the server over TCP and hand in the answer.
    Stream {
        server: SocketAddr,
        query: Vec<u8>,
    },
    Done(Result<Vec<IpAddr>, LookupError>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The time limit of a step, [`ResolverConfig::timeout`], holds.
    On,
    /// At most so much longer.
    Briefly(Duration),
    /// Go on to the next step.
    Over,
}

#[derive(Debug)]
enum DnsAnswer {
    Pending,
    Truncated,
    Addresses(Vec<IpAddr>),
    /// The name does not exist, or has no address of this family.
    None {
        exists: bool,
    },
    /// The server cannot or will not tell.
    Refused(ResponseCode),
}

#[derive(Debug)]
struct Question {
    id: u16,
    record_type: RecordType,
    answer: DnsAnswer,
}

/// A lookup under way: for each candidate name, each attempt and each server,
/// both families are asked for together.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    config: &'a ResolverConfig,
    host: &'a str,
    candidates: Vec<String>,
    candidate: usize,
    name: Name,
    attempt: usize,
    server: usize,
    questions: Vec<Question>,
    exists: bool,
    last_trouble: Option<String>,
    over: Option<Result<Vec<IpAddr>, LookupError>>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(config: &'a ResolverConfig, host: &'a str) -> Self {
        Self {
            config,
            host,
            candidates: config.candidates(host),
            candidate: 0,
            name: Name::root(),
            attempt: 0,
            server: 0,
            questions: Vec::new(),
            exists: false,
            last_trouble: None,
            over: None,
        }
    }

    /// What to do next. To be called at first and after every step.
    pub(crate) fn step(&mut self) -> LookupStep {
        if !self.questions.is_empty() {
            if let Some(step) = self.retry_truncated() {
                return step;
            }
            self.conclude();
        }
        if let Some(result) = self.over.take() {
            return LookupStep::Done(result);
        }
        match self.ask() {
            Ok(step) => step,
            Err(error) => LookupStep::Done(Err(error)),
        }
    }

    /// A message that came from the server that was asked.
    pub(crate) fn answer(&mut self, message: &[u8], over_stream: bool) -> Wait {
        if let Ok(message) = Message::from_vec(message) {
            self.accept(&message, over_stream);
        }
        let pending = |question: &Question| matches!(question.answer, DnsAnswer::Pending);
        let found = |question: &Question| matches!(question.answer, DnsAnswer::Addresses(_));
        if !self.questions.iter().any(pending) {
            Wait::Over
        } else if self.questions.iter().any(found) {
            Wait::Briefly(RESOLUTION_DELAY)
        } else {
            Wait::On
        }
    }

    /// The step came to nothing more: its time is up or the server is out of reach.
    pub(crate) fn fail(&mut self, trouble: &str) {
        self.last_trouble = Some(trouble.to_owned());
        for question in &mut self.questions {
            // What TCP could not bring will not come.
            if matches!(question.answer, DnsAnswer::Truncated) {
                question.answer = DnsAnswer::Pending;
            }
        }
    }

    pub(crate) fn truncated(&self) -> usize {
        self.questions
            .iter()
            .filter(|question| matches!(question.answer, DnsAnswer::Truncated))
            .count()
    }

    fn ask(&mut self) -> Result<LookupStep, LookupError> {
        let bad_name = || LookupError::BadName(self.host.to_owned());
        let mut name =
            Name::from_ascii(&self.candidates[self.candidate]).map_err(|_| bad_name())?;
        name.set_fqdn(true);
        self.questions.clear();
        let mut queries = Vec::new();
        for record_type in [RecordType::A, RecordType::AAAA] {
            let (id, query) = query(&name, record_type).ok_or_else(bad_name)?;
            queries.push(query);
            self.questions.push(Question { id, record_type, answer: DnsAnswer::Pending });
        }
        self.name = name;
        Ok(LookupStep::Datagrams { server: self.config.servers[self.server], queries })
    }

    /// The next question whose answer did not fit into a datagram.
    fn retry_truncated(&mut self) -> Option<LookupStep> {
        let question = self
            .questions
            .iter_mut()
            .find(|question| matches!(question.answer, DnsAnswer::Truncated))?;
        let (id, query) = query(&self.name, question.record_type)?;
        question.id = id;
        Some(LookupStep::Stream { server: self.config.servers[self.server], query })
    }

    fn accept(&mut self, message: &Message, over_stream: bool) {
        let [query] = &message.queries[..] else {
            return;
        };
        let Some(question) = self.questions.iter_mut().find(|question| {
            question.id == message.metadata.id
                && question.record_type == query.query_type
                && matches!(question.answer, DnsAnswer::Pending | DnsAnswer::Truncated)
        }) else {
            return;
        };
        if message.metadata.message_type != MessageType::Response
            || query.query_class != DNSClass::IN
            || !query.name.eq_ignore_root(&self.name)
        {
            return;
        }
        question.answer = if message.metadata.truncation && !over_stream {
            DnsAnswer::Truncated
        } else {
            match message.metadata.response_code {
                ResponseCode::NoError => {
                    let addresses = addresses(message, &self.name);
                    if addresses.is_empty() {
                        DnsAnswer::None { exists: true }
                    } else {
                        DnsAnswer::Addresses(addresses)
                    }
                }
                ResponseCode::NXDomain => DnsAnswer::None { exists: false },
                code => DnsAnswer::Refused(code),
            }
        };
    }

    fn conclude(&mut self) {
        let mut found = Vec::new();
        let mut told = true;
        for question in std::mem::take(&mut self.questions) {
            match question.answer {
                DnsAnswer::Addresses(addresses) => found.extend(addresses),
                DnsAnswer::None { exists } => self.exists |= exists,
                DnsAnswer::Refused(code) => {
                    told = false;
                    self.last_trouble = Some(code.to_string());
                }
                DnsAnswer::Pending | DnsAnswer::Truncated => told = false,
            }
        }
        if !found.is_empty() {
            self.over = Some(Ok(in_order(found)));
        } else if told {
            self.candidate += 1;
            (self.attempt, self.server) = (0, 0);
            if self.candidate == self.candidates.len() {
                let host = self.host.to_owned();
                self.over = Some(Err(if self.exists {
                    LookupError::NoAddress(host)
                } else {
                    LookupError::NoSuchName(host)
                }));
            }
        } else {
            self.server += 1;
            if self.server == self.config.servers.len() {
                self.server = 0;
                self.attempt += 1;
            }
            if self.attempt == self.config.attempts {
                self.over = Some(Err(LookupError::Servers {
                    host: self.host.to_owned(),
                    last: self.last_trouble.take().unwrap_or_default(),
                }));
            }
        }
    }
}

/// IPv4 first: both families are unknown to be reachable, and a host without
/// IPv6 connectivity is the likelier one. Within a family, in the order told.
pub(crate) fn in_order(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

fn query(name: &Name, record_type: RecordType) -> Option<(u16, Vec<u8>)> {
    // With a random id.
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), record_type));
    Some((message.metadata.id, message.to_vec().ok()?))
}

/// The addresses in an answer to a question for `name`, through its aliases.
fn addresses(message: &Message, name: &Name) -> Vec<IpAddr> {
    let mut owner = name;
    for _ in 0..=ALIASES_MAX {
        let of_owner = || {
            message.answers.iter().filter(|record| {
                record.dns_class == DNSClass::IN && record.name.eq_ignore_root(owner)
            })
        };
        let found: Vec<_> = of_owner()
            .filter_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::from(address.0)),
                RData::AAAA(address) => Some(IpAddr::from(address.0)),
                _ => None,
            })
            .collect();
        if !found.is_empty() {
            return found;
        }
        let Some(alias) = of_owner().find_map(|record| match &record.data {
            RData::CNAME(alias) => Some(&alias.0),
            _ => None,
        }) else {
            break;
        };
        owner = alias;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{
        Record,
        rdata::{A, AAAA, CNAME},
    };
    use proptest::prelude::*;

    fn config(servers: usize) -> ResolverConfig {
        ResolverConfig {
            servers: (0..servers)
                .map(|n| ([127, 0, 0, 1], 1000 + u16::try_from(n).unwrap()).into())
                .collect(),
            search: vec!["x".into()],
            attempts: 2,
            ..ResolverConfig::default()
        }
    }

    fn queries(step: &LookupStep) -> (u16, Vec<Message>) {
        match step {
            LookupStep::Datagrams { server, queries } => {
                (server.port(), queries.iter().map(|q| Message::from_vec(q).unwrap()).collect())
            }
            LookupStep::Stream { server, query } => {
                (server.port(), vec![Message::from_vec(query).unwrap()])
            }
            LookupStep::Done(result) => panic!("done: {result:?}"),
        }
    }

    fn reply(query: &Message, code: ResponseCode, records: &[(&str, RData)]) -> Message {
        let mut reply = query.clone();
        reply.metadata.message_type = MessageType::Response;
        reply.metadata.response_code = code;
        for (name, data) in records {
            let mut name = Name::from_ascii(name).unwrap();
            name.set_fqdn(true);
            reply.add_answer(Record::from_rdata(name, 1, data.clone()));
        }
        reply
    }

    fn a(last: u8) -> RData {
        RData::A(A([192, 0, 2, last].into()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_families_are_asked_for_and_ipv4_comes_first() {
        let config = config(1);
        let mut lookup = Lookup::new(&config, "www.example");
        let (server, asked) = queries(&lookup.step());
        assert_eq!(server, 1000);
        assert!(asked[0].metadata.recursion_desired);
        let six = RData::AAAA(AAAA("2001:db8::1".parse().unwrap()));
        let answer = reply(&asked[1], ResponseCode::NoError, &[("WWW.example", six)]);
        assert_eq!(
            lookup.answer(&answer.to_vec().unwrap(), false),
            Wait::Briefly(RESOLUTION_DELAY)
        );
        let records = [
            ("www.example", RData::CNAME(CNAME(Name::from_ascii("b.example.").unwrap()))),
            ("unrelated.example", a(9)),
            ("b.example", a(1)),
            ("b.example", a(2)),
        ];
        let answer = reply(&asked[0], ResponseCode::NoError, &records);
        assert_eq!(lookup.answer(&answer.to_vec().unwrap(), false), Wait::Over);
        assert_eq!(
            lookup.step(),
            LookupStep::Done(Ok(vec![ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1")]))
        );
    }

    #[test]
    fn names_that_do_not_exist_lead_to_the_next_candidate() {
        let config = config(1);
        let mut lookup = Lookup::new(&config, "short");
        for (candidate, code) in
            [("short.x.", ResponseCode::NXDomain), ("short.", ResponseCode::NoError)]
        {
            let (_, asked) = queries(&lookup.step());
            assert_eq!(asked[0].queries[0].name.to_string(), candidate);
            for query in &asked {
                lookup.answer(&reply(query, code, &[]).to_vec().unwrap(), false);
            }
        }
        assert_eq!(lookup.step(), LookupStep::Done(Err(LookupError::NoAddress("short".into()))));
    }

    #[test]
    fn servers_that_fail_or_are_silent_give_way() {
        let config = config(2);
        let mut lookup = Lookup::new(&config, "a.b");
        let mut asked_servers = Vec::new();
        loop {
            let step = lookup.step();
            if let LookupStep::Done(result) = step {
                assert_eq!(
                    result.unwrap_err().to_string(),
                    "no name server could answer for 'a.b': Server Failure"
                );
                break;
            }
            let (server, asked) = queries(&step);
            asked_servers.push(server);
            if server == 1000 {
                lookup.fail("silence");
            } else {
                let answer = reply(&asked[0], ResponseCode::ServFail, &[]);
                assert_eq!(lookup.answer(&answer.to_vec().unwrap(), false), Wait::On);
            }
        }
        assert_eq!(asked_servers, [1000, 1001, 1000, 1001]);
    }

    #[test]
    fn half_an_answer_is_enough_when_the_other_half_does_not_come() {
        let config = config(1);
        let mut lookup = Lookup::new(&config, "a.b");
        let (_, asked) = queries(&lookup.step());
        let answer = reply(&asked[0], ResponseCode::NoError, &[("a.b", a(1))]);
        lookup.answer(&answer.to_vec().unwrap(), false);
        lookup.fail("silence");
        assert_eq!(lookup.step(), LookupStep::Done(Ok(vec![ip("192.0.2.1")])));
    }

    #[test]
    fn what_does_not_fit_a_datagram_is_asked_for_over_tcp() {
        let config = config(1);
        let mut lookup = Lookup::new(&config, "a.b");
        let (_, asked) = queries(&lookup.step());
        for query in &asked {
            let mut answer = reply(query, ResponseCode::NoError, &[]);
            answer.metadata.truncation = true;
            lookup.answer(&answer.to_vec().unwrap(), false);
        }
        let step = lookup.step();
        assert!(matches!(step, LookupStep::Stream { .. }));
        let (_, asked) = queries(&step);
        let answer = reply(&asked[0], ResponseCode::NoError, &[("a.b", a(1))]);
        lookup.answer(&answer.to_vec().unwrap(), true);
        assert!(matches!(lookup.step(), LookupStep::Stream { .. }));
        lookup.fail("reset");
        assert_eq!(lookup.step(), LookupStep::Done(Ok(vec![ip("192.0.2.1")])));
    }

    #[test]
    fn answers_to_other_questions_are_none() {
        let config = config(1);
        let mut lookup = Lookup::new(&config, "a.b");
        let (_, asked) = queries(&lookup.step());
        let good = reply(&asked[0], ResponseCode::NoError, &[("a.b", a(1))]);
        let mut foreign_id = good.clone();
        foreign_id.metadata.id ^= 1;
        let mut foreign_name = good.clone();
        foreign_name.queries[0].name = Name::from_ascii("c.d.").unwrap();
        let mut query_again = good.clone();
        query_again.metadata.message_type = MessageType::Query;
        for message in [foreign_id, foreign_name, query_again] {
            // The other family's id may be the changed one, once in 65,536 runs.
            if asked[1].metadata.id != message.metadata.id {
                assert_eq!(lookup.answer(&message.to_vec().unwrap(), false), Wait::On);
            }
        }
        let truth = lookup.answer(&good.to_vec().unwrap(), false);
        assert_eq!(truth, Wait::Briefly(RESOLUTION_DELAY));
    }

    #[test]
    fn aliases_in_a_circle_end() {
        let config = config(1);
        let mut lookup = Lookup::new(&config, "a.b");
        let (_, asked) = queries(&lookup.step());
        let alias = |to: &str| RData::CNAME(CNAME(Name::from_ascii(to).unwrap()));
        let records = [("a.b", alias("c.d.")), ("c.d", alias("a.b."))];
        let answer = reply(&asked[0], ResponseCode::NoError, &records);
        assert_eq!(lookup.answer(&answer.to_vec().unwrap(), false), Wait::On);
    }

    #[test]
    fn a_host_that_cannot_be_a_name_is_told() {
        let config = config(1);
        let host = "a".repeat(64);
        assert_eq!(
            Lookup::new(&config, &host).step(),
            LookupStep::Done(Err(LookupError::BadName(host.clone())))
        );
    }

    proptest! {
        #[test]
        fn a_lookup_ends_whatever_is_answered(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..10), flip in any::<prop::sample::Index>()) {
            let config = config(2);
            let mut lookup = Lookup::new(&config, "a.b");
            for round in 0..20 {
                match lookup.step() {
                    LookupStep::Done(_) => return Ok(()),
                    LookupStep::Datagrams { queries, .. } => {
                        for bytes in &noise {
                            lookup.answer(bytes, false);
                        }
                        let mut nearly = queries[0].clone();
                        nearly[2] |= 0x80;
                        let at = flip.index(nearly.len());
                        nearly[at] ^= 0x40;
                        lookup.answer(&nearly, false);
                    }
                    LookupStep::Stream { .. } => lookup.fail("none"),
                }
                prop_assert!(round < 19);
            }
        }
    }
}
