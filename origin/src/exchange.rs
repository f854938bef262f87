//! From a request's bytes to a rendered response: every decision about an
//! exchange, without a socket or a clock.

use std::time::Duration;

use crate::{
    draw::Draw,
    query,
    request::{self, Refusal, Request},
    response::{After, Manner, Response},
    visits::Visits,
};

/// What to do with the bytes that a connection has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The head is not complete: read on.
    ReadOn,
    /// The response is rendered.
    Respond(Exchange),
    /// The counters are asked for.
    Stats(StatsRequest),
}

/// An exchange whose response is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// What to take in first.
    pub(crate) intake: Intake,
    /// How long to hold the response back; `None` where no delay was asked for.
    pub(crate) delay: Option<Duration>,
}

/// A request for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StatsRequest {
    /// What to take in first.
    pub(crate) intake: Intake,
    /// Start counting anew, afterwards.
    pub(crate) reset: bool,
    /// How to answer.
    pub(crate) manner: Manner,
}

/// Bytes that belong to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intake {
    /// Length of the head.
    pub(crate) head_length: usize,
    /// Length of the body, which nobody looks at.
    pub(crate) body_length: u64,
    /// The client waits for a 100 before it sends the body.
    pub(crate) expects_continue: bool,
}

/// Decides about the request at the start of `received`, and renders its
/// response unless the counters are asked for. `reused`: the connection has
/// served a request before. `visits` counts those to URLs that are `busy` at first.
pub(crate) fn decide(
    received: &[u8],
    seed: u64,
    reused: bool,
    visits: &Visits,
    response: &mut Response,
) -> Decision {
    let request = match request::parse(received) {
        Ok(Some(request)) => request,
        Ok(None) => return Decision::ReadOn,
        Err(refusal) => return refuse(refusal, received.len(), response),
    };
    let manner = Manner {
        head_only: request.head_only,
        http10: request.http10,
        keep_alive: request.keep_alive,
        reused,
    };
    let intake = Intake {
        head_length: request.head_length,
        body_length: request.body_length,
        expects_continue: request.expects_continue,
    };
    let (path, query) = request.path_and_query();
    if let "/stats" | "/stats/reset" = path {
        let reset = path == "/stats/reset";
        return Decision::Stats(StatsRequest {
            intake,
            reset,
            manner,
        });
    }
    let delay = respond(&request, (path, query), (seed, visits), manner, response);
    Decision::Respond(Exchange { intake, delay })
}

fn respond(
    request: &Request<'_>,
    (path, query): (&str, &str),
    (seed, visits): (u64, &Visits),
    manner: Manner,
    response: &mut Response,
) -> Option<Duration> {
    let asked = match query::parse(query) {
        Ok(asked) => asked,
        Err(error) => {
            let body = format!("{error}\n");
            response.render_own(400, "text/plain", body.as_bytes(), manner);
            return None;
        }
    };
    let asked = match asked.busy {
        Some(_) => asked.on_visit(visits.count(request.path_and_query)),
        None => asked,
    };
    let fixed = asked.size.is_fixed() && asked.delay.is_none_or(|delay| delay.is_fixed());
    // Nothing is drawn where nothing is random.
    let mut draw = match fixed {
        true => Draw::new(seed),
        false => Draw::of_url(seed, request.path_and_query),
    };
    let delay = asked.delay.map(|delay| delay.sample(&mut draw));
    let size = asked.size.sample(&mut draw);
    response.render(&asked, size, manner, (path, query));
    delay
}

fn refuse(refusal: Refusal, received: usize, response: &mut Response) -> Decision {
    let manner = Manner {
        head_only: false,
        http10: false,
        keep_alive: false,
        reused: false,
    };
    let body = format!("{refusal}\n");
    response.render_own(refusal.status(), "text/plain", body.as_bytes(), manner);
    response.after = After::Refuse;
    Decision::Respond(Exchange {
        intake: Intake {
            head_length: received,
            body_length: 0,
            expects_continue: false,
        },
        delay: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decided(target: &str, seed: u64) -> (Decision, Response) {
        let mut response = Response::new();
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let decision = decide(
            head.as_bytes(),
            seed,
            false,
            &Visits::default(),
            &mut response,
        );
        (decision, response)
    }

    fn sample(target: &str, seed: u64) -> (Option<Duration>, u64) {
        match decided(target, seed) {
            (Decision::Respond(exchange), response) => (exchange.delay, response.body_bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_url_draws_the_same_on_any_connection() {
        let url = "/7?delay=lognormal:7ms:0.5&size=1k..64k";
        assert_eq!(sample(url, 1), sample(url, 1));
        assert_ne!(sample(url, 1), sample(url, 2));
        assert_ne!(
            sample(url, 1),
            sample("/8?delay=lognormal:7ms:0.5&size=1k..64k", 1)
        );
        let absolute = format!("http://other:1{url}");
        assert_eq!(sample(url, 1), sample(&absolute, 1));
    }

    #[test]
    fn samples_do_not_change_between_versions() {
        // Studies are compared across versions by their seed. The figures come
        // from the definition of the generator, computed apart from this code.
        let url = "/7?delay=1ms..20ms&size=1k..64k";
        assert_eq!(
            sample(url, 42),
            (Some(Duration::from_nanos(18_543_154)), 13_107)
        );
    }

    #[test]
    fn a_bad_query_is_answered_with_its_name_and_the_connection_lives() {
        let (decision, response) = decided("/?sise=4", 0);
        assert!(matches!(
            decision,
            Decision::Respond(Exchange { delay: None, .. })
        ));
        assert_eq!(response.status, Some(400));
        assert_eq!(response.after, After::KeepAlive);
    }

    #[test]
    fn a_refusal_ends_the_connection() {
        let mut response = Response::new();
        let decision = decide(
            b"no http\r\n\r\n",
            0,
            false,
            &Visits::default(),
            &mut response,
        );
        assert!(matches!(decision, Decision::Respond(_)));
        assert_eq!(response.after, After::Refuse);
        assert_eq!(response.status, Some(400));
    }

    #[test]
    fn counters_have_paths_of_their_own() {
        let reset = |target| match decided(target, 0).0 {
            Decision::Stats(request) => Some(request.reset),
            _ => None,
        };
        assert_eq!(reset("/stats"), Some(false));
        assert_eq!(reset("/stats/reset"), Some(true));
        assert_eq!(reset("/statsx"), None);
    }

    proptest! {
        #[test]
        fn any_url_is_answered(target in "/[!-~]{0,100}", seed: u64) {
            let (decision, response) = decided(&target, seed);
            if let Decision::Respond(exchange) = decision {
                prop_assert!(exchange.delay.is_none_or(|d| d <= crate::limits::DELAY_MAX));
                prop_assert!(response.status.is_some() || response.after != After::KeepAlive);
            }
        }
    }
}
