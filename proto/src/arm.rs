//! Arms: `[P"x"]MODEL[":"C]["@"CLIENT]["/"W"w"]`, with braces that sweep.

use std::{collections::BTreeSet, fmt, num::NonZeroU32};

use crate::{
    limits::{CONCURRENCY_MAX, FETCHERS_MAX},
    setup::{Client, Model},
};

/// Arms that one study may compare.
const ARMS_MAX: usize = 256;

/// One arrangement under study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arm {
    /// P: fetchers, each a process.
    pub processes: NonZeroU32,
    /// How each fetcher waits.
    pub model: Model,
    /// C: URLs in flight in each fetcher; 1 under [`Model::Sequential`].
    pub concurrency: NonZeroU32,
    /// The HTTP stack.
    pub client: Client,
    /// Workers to spread the fetchers over; `None`: all there are.
    pub workers: Option<NonZeroU32>,
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.processes.get() > 1 {
            write!(f, "{}x", self.processes)?;
        }
        write!(f, "{}", self.model)?;
        if self.model != Model::Sequential {
            write!(f, ":{}", self.concurrency)?;
        }
        if self.client != Client::Core {
            write!(f, "@{}", self.client)?;
        }
        if let Some(workers) = self.workers {
            write!(f, "/{workers}w")?;
        }
        Ok(())
    }
}

/// An arm that does not parse or makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("arm '{spec}': {reason}{}", mend.as_ref().map(|m| format!("; {m}")).unwrap_or_default())]
pub struct ArmError {
    spec: String,
    reason: String,
    mend: Option<String>,
}

const GRAMMAR: &str = "an arm is [Px]MODEL[:C][@CLIENT][/Ww], for example async:32, 4xthreads:8@ureq or {1,2,4}xasync:16";

impl Arm {
    /// URLs in flight in all fetchers together: P × C.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        u64::from(self.processes.get()) * u64::from(self.concurrency.get())
    }

    /// Parses one spec, which may sweep, into its arms; `concurrency` holds
    /// where the spec names none.
    ///
    /// # Errors
    ///
    /// [`ArmError`] with the reason and, where there is one, the nearest arm that works.
    pub fn parse_sweep(spec: &str, concurrency: NonZeroU32) -> Result<Vec<Self>, ArmError> {
        expand(spec)?
            .iter()
            .map(|one| Self::parse(one, concurrency))
            .collect()
    }

    /// Parses several specs; an arm that comes up twice counts once.
    ///
    /// # Errors
    ///
    /// As [`Arm::parse_sweep`].
    pub fn parse_all<S: AsRef<str>>(
        specs: &[S],
        concurrency: NonZeroU32,
    ) -> Result<Vec<Self>, ArmError> {
        let mut arms = Vec::new();
        let mut names = BTreeSet::new();
        for spec in specs {
            for arm in Self::parse_sweep(spec.as_ref(), concurrency)? {
                if names.insert(arm.to_string()) {
                    arms.push(arm);
                }
                if arms.len() > ARMS_MAX {
                    return Err(ArmError {
                        spec: spec.as_ref().to_owned(),
                        reason: format!("this makes more than {ARMS_MAX} arms"),
                        mend: Some("narrow the sweeps".to_owned()),
                    });
                }
            }
        }
        Ok(arms)
    }

    /// Parses one arm without braces.
    ///
    /// # Errors
    ///
    /// As [`Arm::parse_sweep`].
    pub fn parse(spec: &str, concurrency: NonZeroU32) -> Result<Self, ArmError> {
        let fail = |reason: String, mend: Option<String>| ArmError {
            spec: spec.to_owned(),
            reason,
            mend,
        };
        let number = |text: &str, what: &str, max: u32| {
            text.parse::<NonZeroU32>()
                .ok()
                .filter(|n| n.get() <= max && !text.starts_with('+'))
                .ok_or_else(|| {
                    fail(
                        format!("{what} is '{text}', not a number from 1 to {max}"),
                        None,
                    )
                })
        };
        if spec.trim().is_empty() {
            return Err(fail("it is empty".to_owned(), Some(GRAMMAR.to_owned())));
        }
        let mut rest = spec.trim();
        let mut workers = None;
        if let Some((before, after)) = rest.rsplit_once('/') {
            let count = after.strip_suffix('w').ok_or_else(|| {
                fail(
                    format!("'/{after}' does not end in w"),
                    Some(GRAMMAR.to_owned()),
                )
            })?;
            workers = Some(number(count, "the number of workers", FETCHERS_MAX)?);
            rest = before;
        }
        let mut client = Client::Core;
        if let Some((before, after)) = rest.split_once('@') {
            client = after
                .parse()
                .map_err(|error: crate::setup::UnknownName| fail(error.to_string(), None))?;
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
                .ok_or_else(|| fail("no model is named".to_owned(), Some(GRAMMAR.to_owned())))?;
            processes = number(count, "the number of processes", FETCHERS_MAX)?;
            rest = model;
        }
        let model: Model = rest.parse().map_err(|error: crate::setup::UnknownName| {
            fail(error.to_string(), Some(GRAMMAR.to_owned()))
        })?;
        let mut arm = Self {
            processes,
            model,
            concurrency: own_concurrency.unwrap_or(concurrency),
            client,
            workers,
        };
        if model == Model::Sequential {
            arm.concurrency = NonZeroU32::MIN;
            if let Some(c) = own_concurrency {
                let nearest = Self {
                    processes: NonZeroU32::new(
                        processes.get().saturating_mul(c.get()).min(FETCHERS_MAX),
                    )
                    .unwrap_or(NonZeroU32::MIN),
                    ..arm
                };
                return Err(fail(
                    "sequential has one URL in flight, so it takes no :C".to_owned(),
                    Some(format!(
                        "for {c} at a time use {nearest} (as many processes) or threads:{c}"
                    )),
                ));
            }
        }
        if !client.runs_under(model) {
            let (other_model, other_client, how) = match client {
                Client::Reqwest => (Model::Async, Client::Ureq, "needs an event loop"),
                Client::Ureq => (
                    Model::Threads,
                    Client::Reqwest,
                    "blocks the thread that waits",
                ),
                Client::Core | Client::Null => (Model::Async, Client::Core, "runs anywhere"),
            };
            let with_model = Self {
                model: other_model,
                concurrency: own_concurrency.unwrap_or(concurrency),
                ..arm
            };
            let with_client = Self {
                client: other_client,
                ..arm
            };
            return Err(fail(
                format!("{client} {how}, and {model} is not that"),
                Some(format!("use {with_client} or {with_model}")),
            ));
        }
        if let Some(workers) = workers
            && workers > processes
        {
            return Err(fail(
                format!("{processes} fetcher(s) cannot be spread over {workers} workers"),
                Some(format!(
                    "use {}",
                    Self {
                        processes: workers,
                        ..arm
                    }
                )),
            ));
        }
        Ok(arm)
    }
}

/// Expands every brace: `{1,2}xasync:{4,8}` makes four.
fn expand(spec: &str) -> Result<Vec<String>, ArmError> {
    let fail = |reason: &str| ArmError {
        spec: spec.to_owned(),
        reason: reason.to_owned(),
        mend: Some("braces sweep over values, as in {1,2,4}xasync:16".to_owned()),
    };
    let mut done = vec![String::new()];
    let mut rest = spec;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after
            .split_once('}')
            .ok_or_else(|| fail("a { is never closed"))?;
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
            .flat_map(|start| {
                values
                    .iter()
                    .map(move |value| format!("{start}{before}{value}"))
            })
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
        Arm::parse_sweep(spec, C)
            .unwrap()
            .iter()
            .map(Arm::to_string)
            .collect()
    }

    fn error(spec: &str) -> String {
        Arm::parse_sweep(spec, C).unwrap_err().to_string()
    }

    #[test]
    fn arms_get_their_full_names() {
        assert_eq!(names("async"), ["async:32"]);
        assert_eq!(names("1xasync:8@core"), ["async:8"]);
        assert_eq!(names("32xsequential"), ["32xsequential"]);
        assert_eq!(
            names("4xasync-mt:8@reqwest/2w"),
            ["4xasync-mt:8@reqwest/2w"]
        );
        assert_eq!(names("sequential@ureq"), ["sequential@ureq"]);
    }

    #[test]
    fn braces_sweep() {
        assert_eq!(
            names("{1,2,4}xasync:16"),
            ["async:16", "2xasync:16", "4xasync:16"]
        );
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

    proptest! {
        #[test]
        fn a_name_parses_to_its_arm(p in 1_u32..100, model in prop::sample::select(Model::ALL.to_vec()), c in 1_u32..100, client in prop::sample::select(Client::ALL.to_vec()), w in prop::option::of(1_u32..4)) {
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
