//! The one vocabulary of what is compared: models, clients, and arms made of
//! them: `[P"x"]MODEL[":"C]["@"CLIENT]["/"W"w"]`, with braces that sweep.

use std::{collections::BTreeSet, fmt, num::NonZeroU32, str::FromStr};

use crate::limits::{CONCURRENCY_MAX, FETCHERS_MAX};

const ARMS_MAX: usize = 256;

/// How one process waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Model {
    /// Blocking, one URL at a time.
    Sequential,
    /// Blocking, a thread per URL in flight.
    Threads,
    /// One thread, one event loop.
    Async,
    /// tokio's work-stealing runtime.
    AsyncMt,
}

impl Model {
    /// Every model, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Sequential, Self::Threads, Self::Async, Self::AsyncMt];

    /// The name in arms, JSON and documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Threads => "threads",
            Self::Async => "async",
            Self::AsyncMt => "async-mt",
        }
    }

    /// Whether waiting blocks the thread that waits.
    pub const fn is_blocking(self) -> bool {
        matches!(self, Self::Sequential | Self::Threads)
    }

    /// Whether it takes a concurrency; without one it has one URL in flight.
    pub const fn takes_concurrency(self) -> bool {
        !matches!(self, Self::Sequential)
    }

    /// So many processes of it, with so many URLs in flight each, in everyday words.
    pub fn label(self, processes: u32, concurrency: u32) -> String {
        let (p, c) = (processes, concurrency);
        match (self, p > 1) {
            (Self::Sequential, false) => "one URL after the other".to_owned(),
            (Self::Sequential, true) => format!("{p} processes, one URL each"),
            (Self::Threads, false) => format!("{c} threads, one URL each"),
            (Self::Threads, true) => format!("{p} processes of {c} threads"),
            (Self::Async, false) => format!("one event loop, {c} in flight"),
            (Self::Async, true) => format!("{p} event loops, {c} in flight each"),
            (Self::AsyncMt, false) => format!("loop on all cores, {c} in flight"),
            (Self::AsyncMt, true) => format!("{p} loops on all cores, {c} each"),
        }
    }
}

/// What is known of an HTTP stack before it runs.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientProperties {
    /// The name in arms, JSON and documentation.
    pub name: &'static str,
    /// The models under which it runs; at least one.
    pub models: &'static [Model],
    /// Whether it fetches: one that does not shows what the machinery alone costs.
    pub fetches: bool,
    /// Whether fanout itself opens, keeps and counts its connections. Other
    /// clients leave that to a library.
    pub owns_connections: bool,
    /// Whether it may open a connection for every request, so that many are no fault.
    pub closes_connections: bool,
    /// The fetcher of another maker that has it, by its name; `None`: fanout's own.
    pub fetcher: Option<&'static str>,
    /// In everyday words, after the model's; empty where there is nothing to say.
    pub label: &'static str,
}

/// An HTTP stack. Clients are open: besides those that are built in, a fetcher
/// may declare one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(&'static ClientProperties);

impl Client {
    /// One sans-IO HTTP/1.1 core under every model.
    pub const CORE: Self = Self(&ClientProperties {
        name: "core",
        models: &Model::ALL,
        fetches: true,
        owns_connections: true,
        closes_connections: false,
        fetcher: None,
        label: "",
    });
    /// What people use for blocking requests.
    pub const UREQ: Self = Self(&ClientProperties {
        name: "ureq",
        models: &[Model::Sequential, Model::Threads],
        fetches: true,
        owns_connections: false,
        closes_connections: false,
        fetcher: None,
        label: "ureq",
    });
    /// What people use for requests on an event loop.
    pub const REQWEST: Self = Self(&ClientProperties {
        name: "reqwest",
        models: &[Model::Async, Model::AsyncMt],
        fetches: true,
        owns_connections: false,
        closes_connections: false,
        fetcher: None,
        label: "reqwest",
    });
    /// Completes without fetching: the machinery alone.
    pub const NULL: Self = Self(&ClientProperties {
        name: "null",
        models: &Model::ALL,
        fetches: false,
        owns_connections: false,
        closes_connections: false,
        fetcher: None,
        label: "fetches nothing",
    });

    /// Those that are built in, in the order of the documentation.
    pub const BUILT_IN: [Self; 4] = [Self::CORE, Self::UREQ, Self::REQWEST, Self::NULL];

    /// A client that is not built in, as a fetcher declares it. Its properties
    /// stay in memory until the process ends.
    #[must_use]
    pub fn declared(properties: ClientProperties) -> Self {
        Self(Box::leak(Box::new(properties)))
    }

    /// The name in arms, JSON and documentation.
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// What is known of it.
    pub const fn properties(self) -> &'static ClientProperties {
        self.0
    }

    /// Whether this client can wait as `model` waits.
    pub fn runs_under(self, model: Model) -> bool {
        self.0.models.contains(&model)
    }

    /// Whether an arm that names no client has this one.
    pub fn is_default(self) -> bool {
        self == Self::CORE
    }

    /// Why it does not run under every model.
    fn needs(self) -> &'static str {
        match self.0.models.iter().any(|model| model.is_blocking()) {
            true => "blocks the thread that waits",
            false => "needs an event loop",
        }
    }

    /// The model nearest to `model` under which it runs.
    fn nearest_model(self, model: Model) -> Model {
        let mut models = self.0.models.iter().filter(|m| m.takes_concurrency());
        *models.next().or(self.0.models.first()).unwrap_or(&model)
    }
}

/// A name that is none of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} '{name}'; there are {}", known.join(", "))]
pub struct UnknownName {
    /// What kind of thing was named.
    pub what: &'static str,
    /// The name given.
    pub name: String,
    /// The names that exist.
    pub known: Vec<&'static str>,
}

macro_rules! by_name {
    ($type:ty, $what:literal, $all:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let mut all = $all.into_iter();
                all.find(|known| known.name() == text).ok_or_else(|| UnknownName {
                    what: $what,
                    name: text.to_owned(),
                    known: $all.iter().map(|known| known.name()).collect(),
                })
            }
        }
    };
}
by_name!(Model, "model", Model::ALL);
by_name!(Client, "client", Client::BUILT_IN);

/// What of an arm may vary while the rest stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArmFactor {
    /// P.
    Processes,
    /// C.
    Concurrency,
    /// W.
    Workers,
}

/// One arrangement under study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arm {
    /// P: fetchers, each a process.
    pub processes: NonZeroU32,
    /// How each fetcher waits.
    pub model: Model,
    /// C: URLs in flight in each fetcher; 1 under a model that takes none.
    pub concurrency: NonZeroU32,
    /// The HTTP stack.
    pub client: Client,
    /// Workers to spread the fetchers over; `None`: all there are.
    pub workers: Option<NonZeroU32>,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, None)
    }
}

/// An arm that does not parse or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("arm '{spec}': {reason}{}", hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct ArmError {
    spec: String,
    reason: String,
    hint: Option<String>,
}

/// What the words of a spec mean: the concurrency of an arm that names none, and clients that are not
/// built in.
#[derive(Debug, Clone, Copy)]
pub struct Vocabulary<'a> {
    /// Holds where a spec has no `:C`.
    pub concurrency: NonZeroU32,
    /// What fetchers of other makers declared.
    pub declared: &'a [Client],
}

impl From<NonZeroU32> for Vocabulary<'_> {
    fn from(concurrency: NonZeroU32) -> Self {
        Self { concurrency, declared: &[] }
    }
}

impl Vocabulary<'_> {
    fn clients(&self) -> impl Iterator<Item = Client> {
        Client::BUILT_IN.into_iter().chain(self.declared.iter().copied())
    }

    fn client(&self, name: &str) -> Result<Client, UnknownName> {
        let known = || self.clients().map(Client::name).collect();
        let of_that_name = |client: &Client| client.name() == name;
        self.clients().find(of_that_name).ok_or_else(|| UnknownName {
            what: "client",
            name: name.to_owned(),
            known: known(),
        })
    }

    /// Another client of people's that runs under `model`.
    fn alternative(&self, model: Model) -> Client {
        let mut others = self.clients().filter(|other| !other.is_default());
        others.find(|other| other.runs_under(model)).unwrap_or(Client::CORE)
    }
}

const GRAMMAR: &str = "an arm is [Px]MODEL[:C][@CLIENT][/Ww], for example async:32, 4xthreads:8@ureq or {1,2,4}xasync:16";

impl Arm {
    /// URLs in flight in all fetchers together: P × C.
    pub fn in_flight(&self) -> u64 {
        u64::from(self.processes.get()) * u64::from(self.concurrency.get())
    }

    /// The name that it shares with arms that differ in `factor` only, with `N`
    /// for what varies: `Nxasync:16`.
    pub fn family(&self, factor: ArmFactor) -> String {
        let mut name = String::new();
        // A String takes whatever is written.
        let _ = self.write(&mut name, Some(factor));
        name
    }

    /// Its name, with `N` in the place of what varies.
    fn write(&self, to: &mut dyn fmt::Write, varies: Option<ArmFactor>) -> fmt::Result {
        match varies {
            Some(ArmFactor::Processes) => to.write_str("Nx")?,
            _ if self.processes.get() > 1 => write!(to, "{}x", self.processes)?,
            _ => {}
        }
        write!(to, "{}", self.model)?;
        match varies {
            Some(ArmFactor::Concurrency) => to.write_str(":N")?,
            _ if self.model.takes_concurrency() => write!(to, ":{}", self.concurrency)?,
            _ => {}
        }
        if !self.client.is_default() {
            write!(to, "@{}", self.client)?;
        }
        match (varies, self.workers) {
            (Some(ArmFactor::Workers), _) => to.write_str("/Nw"),
            (_, Some(workers)) => write!(to, "/{workers}w"),
            (_, None) => Ok(()),
        }
    }

    /// Parses one spec, which may sweep, into its arms. A concurrency is enough of a vocabulary where
    /// only built-in clients may be named.
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use fanout_proto::arm::Arm;
    ///
    /// let arms = Arm::parse_sweep("{1,4}xasync@reqwest", NonZeroU32::new(32).unwrap())?;
    /// let names: Vec<_> = arms.iter().map(Arm::to_string).collect();
    /// assert_eq!(names, ["async:32@reqwest", "4xasync:32@reqwest"]);
    /// # Ok::<(), fanout_proto::arm::ArmError>(())
    /// ```
    pub fn parse_sweep<'a>(
        spec: &str,
        words: impl Into<Vocabulary<'a>>,
    ) -> Result<Vec<Self>, ArmError> {
        let words = words.into();
        expand(spec)?.iter().map(|one| Self::parse(one, words)).collect()
    }

    /// Parses several specs; an arm that comes up twice counts once.
    pub fn parse_all<'a, S: AsRef<str>>(
        specs: &[S],
        words: impl Into<Vocabulary<'a>>,
    ) -> Result<Vec<Self>, ArmError> {
        let words = words.into();
        let mut arms = Vec::new();
        let mut names = BTreeSet::new();
        for spec in specs {
            for arm in Self::parse_sweep(spec.as_ref(), words)? {
                if names.insert(arm.to_string()) {
                    arms.push(arm);
                }
                if arms.len() > ARMS_MAX {
                    return Err(ArmError {
                        spec: spec.as_ref().to_owned(),
                        reason: format!("this makes more than {ARMS_MAX} arms"),
                        hint: Some("narrow the sweeps".to_owned()),
                    });
                }
            }
        }
        Ok(arms)
    }

    /// Parses one arm without braces.
    pub fn parse<'a>(spec: &str, words: impl Into<Vocabulary<'a>>) -> Result<Self, ArmError> {
        let words = words.into();
        let read = Self::read(spec, words).and_then(|(arm, own_concurrency)| {
            arm.check(own_concurrency, words)?;
            Ok(arm)
        });
        read.map_err(|flaw| ArmError { spec: spec.to_owned(), ..flaw })
    }

    /// Takes a spec apart; answers with the concurrency that it names itself, too.
    fn read(spec: &str, words: Vocabulary<'_>) -> Result<(Self, Option<NonZeroU32>), ArmError> {
        let mut rest = spec.trim();
        if rest.is_empty() {
            return Err(ArmError::of_grammar("it is empty".to_owned()));
        }
        let mut workers = None;
        if let Some((before, after)) = rest.rsplit_once('/') {
            let count = after
                .strip_suffix('w')
                .ok_or_else(|| ArmError::of_grammar(format!("'/{after}' does not end in w")))?;
            workers = Some(number(count, "the number of workers", FETCHERS_MAX)?);
            rest = before;
        }
        let mut client = Client::CORE;
        if let Some((before, after)) = rest.split_once('@') {
            client = words.client(after).map_err(|error| ArmError::new(error.to_string(), None))?;
            rest = before;
        }
        let mut own_concurrency = None;
        if let Some((before, after)) = rest.split_once(':') {
            own_concurrency = Some(number(after, "the concurrency", CONCURRENCY_MAX)?);
            rest = before;
        }
        let mut processes = NonZeroU32::MIN;
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            let (count, model) = rest
                .split_once('x')
                .ok_or_else(|| ArmError::of_grammar("no model is named".to_owned()))?;
            processes = number(count, "the number of processes", FETCHERS_MAX)?;
            rest = model;
        }
        let model: Model =
            rest.parse().map_err(|error: UnknownName| ArmError::of_grammar(error.to_string()))?;
        let arm = Self {
            processes,
            model,
            concurrency: match model.takes_concurrency() {
                true => own_concurrency.unwrap_or(words.concurrency),
                false => NonZeroU32::MIN,
            },
            client,
            workers,
        };
        Ok((arm, own_concurrency))
    }

    fn check(&self, own: Option<NonZeroU32>, words: Vocabulary<'_>) -> Result<(), ArmError> {
        let Self { processes, model, client, .. } = *self;
        if let Some(c) = own.filter(|_| !model.takes_concurrency()) {
            let many = processes.saturating_mul(c).get().min(FETCHERS_MAX);
            let nearest =
                Self { processes: NonZeroU32::new(many).unwrap_or(NonZeroU32::MIN), ..*self };
            return Err(ArmError::new(
                format!("{model} has one URL in flight, so it takes no :C"),
                Some(format!("for {c} at a time use {nearest} (as many processes) or threads:{c}")),
            ));
        }
        if !client.runs_under(model) {
            let with_client = Self { client: words.alternative(model), ..*self };
            let with_model = Self {
                model: client.nearest_model(model),
                concurrency: own.unwrap_or(words.concurrency),
                ..*self
            };
            return Err(ArmError::new(
                format!("{client} {}, and {model} is not that", client.needs()),
                Some(format!("use {with_client} or {with_model}")),
            ));
        }
        match self.workers {
            Some(workers) if workers > processes => Err(ArmError::new(
                format!("{processes} fetcher(s) cannot be spread over {workers} workers"),
                Some(format!("use {}", Self { processes: workers, ..*self })),
            )),
            _ => Ok(()),
        }
    }
}

impl ArmError {
    /// For [`Arm::parse`], which knows the spec.
    fn new(reason: String, hint: Option<String>) -> Self {
        Self { spec: String::new(), reason, hint }
    }

    fn of_grammar(reason: String) -> Self {
        Self::new(reason, Some(GRAMMAR.to_owned()))
    }
}

fn number(text: &str, what: &str, max: u32) -> Result<NonZeroU32, ArmError> {
    let number = text.parse::<NonZeroU32>().ok();
    number.filter(|n| n.get() <= max && !text.starts_with('+')).ok_or_else(|| {
        ArmError::new(format!("{what} is '{text}', not a number from 1 to {max}"), None)
    })
}

/// Expands every brace: `{1,2}xasync:{4,8}` makes four.
fn expand(spec: &str) -> Result<Vec<String>, ArmError> {
    let fail = |reason: &str| ArmError {
        spec: spec.to_owned(),
        reason: reason.to_owned(),
        hint: Some("braces sweep over values, as in {1,2,4}xasync:16".to_owned()),
    };
    let mut done = vec![String::new()];
    let mut rest = spec;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}').ok_or_else(|| fail("a { is never closed"))?;
        if inside.contains('{') {
            return Err(fail("braces stand within braces"));
        }
        if before.contains('}') {
            return Err(fail("a } was never opened"));
        }
        let values: Vec<&str> = inside.split(',').map(str::trim).collect();
        if values.iter().any(|value| value.is_empty()) {
            return Err(fail("a value between the braces is empty"));
        }
        done = done
            .iter()
            .flat_map(|start| values.iter().map(move |value| format!("{start}{before}{value}")))
            .collect();
        if done.len() > ARMS_MAX {
            return Err(fail("the braces make too many arms"));
        }
        rest = after;
    }
    if rest.contains('}') {
        return Err(fail("a } was never opened"));
    }
    for one in &mut done {
        one.push_str(rest);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const C: NonZeroU32 = NonZeroU32::new(32).unwrap();

    fn names(spec: &str) -> Vec<String> {
        Arm::parse_sweep(spec, C).unwrap().iter().map(Arm::to_string).collect()
    }

    fn error(spec: &str) -> String {
        Arm::parse_sweep(spec, C).unwrap_err().to_string()
    }

    #[test]
    fn arms_get_their_full_names() {
        assert_eq!(names("async"), ["async:32"]);
        assert_eq!(names("1xasync:8@core"), ["async:8"]);
        assert_eq!(names("32xsequential"), ["32xsequential"]);
        assert_eq!(names("4xasync-mt:8@reqwest/2w"), ["4xasync-mt:8@reqwest/2w"]);
        assert_eq!(names("sequential@ureq"), ["sequential@ureq"]);
    }

    #[test]
    fn braces_sweep() {
        assert_eq!(names("{1,2,4}xasync:16"), ["async:16", "2xasync:16", "4xasync:16"]);
        assert_eq!(
            names("{2, 4}xthreads:{8,16}"),
            ["2xthreads:8", "2xthreads:16", "4xthreads:8", "4xthreads:16"]
        );
        assert_eq!(names("4xasync:16/{1,2,4}w").len(), 3);
        assert_eq!(names("{threads,async}:4"), ["threads:4", "async:4"]);
        let twice = Arm::parse_all(&["async:32", "async"], C).unwrap();
        assert_eq!(twice.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_nearest_arm() {
        assert_eq!(
            error("threads:8@reqwest"),
            "arm 'threads:8@reqwest': reqwest needs an event loop, and threads is not that; \
             use threads:8@ureq or async:8@reqwest"
        );
        assert_eq!(
            error("sequential:4"),
            "arm 'sequential:4': sequential has one URL in flight, so it takes no :C; \
             for 4 at a time use 4xsequential (as many processes) or threads:4"
        );
        assert!(error("async@ureq").contains("use async:32@reqwest or threads:32@ureq"));
        assert!(error("2xasync/4w").contains("use 4xasync:32/4w"));
        assert!(error("sequential@reqwest").contains("use sequential@ureq or async:32@reqwest"));
    }

    #[test]
    fn what_does_not_parse_says_where() {
        assert!(error("").contains("it is empty"));
        assert!(error("fibers:3").contains("there is no model 'fibers'"));
        assert!(error("async:0").contains("the concurrency is '0'"));
        assert!(error("0xasync").contains("the number of processes is '0'"));
        assert!(error("async@curl").contains("there is no client 'curl'"));
        assert!(error("async/3").contains("does not end in w"));
        assert!(error("{1,2xasync").contains("never closed"));
        assert!(error("1}xasync").contains("never opened"));
        assert!(error("{1,}xasync").contains("is empty"));
        assert!(error("{1,{2}}xasync").contains("within braces"));
        assert!(error("12").contains("no model"));
        assert!(error("async:99999999999").contains("1 to 65536"));
        assert!(
            Arm::parse_all(
                &["{1,2,3,4,5,6,7,8,9}xasync:{1,2,3,4,5,6,7,8,9}@{core,null,reqwest,core}"],
                C
            )
            .is_err()
        );
    }

    #[test]
    fn a_family_has_n_for_what_varies() {
        let arm = Arm::parse("4xasync:16@reqwest/2w", C).unwrap();
        let families = [ArmFactor::Processes, ArmFactor::Concurrency, ArmFactor::Workers];
        let names = families.map(|factor| arm.family(factor));
        assert_eq!(
            names,
            ["Nxasync:16@reqwest/2w", "4xasync:N@reqwest/2w", "4xasync:16@reqwest/Nw"]
        );
    }

    #[test]
    fn a_client_may_be_declared() {
        let curl = Client::declared(ClientProperties {
            name: "curl",
            models: &[Model::Async],
            fetches: true,
            owns_connections: false,
            closes_connections: false,
            fetcher: None,
            label: "libcurl",
        });
        let arm = Arm { client: curl, ..Arm::parse("async:8", C).unwrap() };
        assert_eq!(arm.to_string(), "async:8@curl");
        assert!(arm.check(None, C.into()).is_ok());
        let wrong = Arm { model: Model::Threads, ..arm };
        assert_eq!(
            ArmError { spec: "x".to_owned(), ..wrong.check(None, C.into()).unwrap_err() }
                .to_string(),
            "arm 'x': curl needs an event loop, and threads is not that; use threads:8@ureq or async:32@curl"
        );
    }

    #[test]
    fn names_are_read_back() {
        for model in Model::ALL {
            assert_eq!(model.name().parse(), Ok(model));
        }
        assert_eq!(
            "fibers".parse::<Model>().unwrap_err().to_string(),
            "there is no model 'fibers'; there are sequential, threads, async, async-mt"
        );
    }

    proptest! {
        #[test]
        fn a_name_parses_to_its_arm(p in 1_u32..100, model in prop::sample::select(Model::ALL.to_vec()), c in 1_u32..100, client in prop::sample::select(Client::BUILT_IN.to_vec()), w in prop::option::of(1_u32..4)) {
            let arm = Arm {
                processes: NonZeroU32::new(p).unwrap(),
                model,
                concurrency: if model == Model::Sequential { NonZeroU32::MIN } else { NonZeroU32::new(c).unwrap() },
                client,
                workers: w.and_then(NonZeroU32::new).filter(|w| w.get() <= p),
            };
            prop_assume!(client.runs_under(model));
            prop_assert_eq!(Arm::parse(&arm.to_string(), C), Ok(arm));
        }

        #[test]
        fn any_text_is_arms_or_an_error(text in ".{0,40}") {
            let _ = Arm::parse_sweep(&text, C);
        }
    }
}
