//! From a request's bytes to a rendered response: every decision about an
//! exchange, without a socket or a clock.

use std::time::Duration;

use crate::{
    query,
    request::{self, Intake, Refusal, RequestHead, RequestMode},
    response::{After, RenderedResponse},
    seeded_rng::SeededRng,
    spec::{Delay, Size},
    visits::Visits,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The head is not complete: read on.
    ReadOn,
    /// The response is rendered. It is held back for `delay`; `None` where the
    /// URL asked for no delay.
    Respond { intake: Intake, delay: Option<Duration> },
    /// The counters are asked for, and to `reset` them afterwards.
    Stats { intake: Intake, reset: bool, mode: RequestMode },
}

/// Decides about the request at the start of `received`, and renders its
/// response unless the counters are asked for. `reused`: the connection has
/// served a request before. `visits` counts those to URLs that are `busy` at first.
pub(crate) fn decide(
    received: &[u8],
    seed: u64,
    reused: bool,
    visits: &Visits,
    response: &mut RenderedResponse,
) -> Decision {
    let request = match request::parse(received, reused) {
        Ok(Some(request)) => request,
        Ok(None) => return Decision::ReadOn,
        Err(refusal) => return refuse(refusal, received.len(), response),
    };
    let intake = request.intake;
    if let path @ ("/stats" | "/stats/reset") = request.path_and_query().0 {
        return Decision::Stats { intake, reset: path == "/stats/reset", mode: request.mode };
    }
    let delay = respond(&request, seed, visits, response);
    Decision::Respond { intake, delay }
}

fn respond(
    request: &RequestHead<'_>,
    seed: u64,
    visits: &Visits,
    response: &mut RenderedResponse,
) -> Option<Duration> {
    let (path, query) = request.path_and_query();
    let mut asked = match query::parse(query) {
        Ok(asked) => asked,
        Err(error) => {
            let body = format!("{error}\n");
            response.render_own(400, "text/plain", body.as_bytes(), request.mode);
            return None;
        }
    };
    if asked.busy.is_some() {
        asked = asked.on_visit(visits.count(request.path_and_query));
    }
    let mut rng = match (asked.size, asked.delay) {
        // The URL is not hashed where nothing is random.
        (Size::Fixed(_), None | Some(Delay::Fixed(_))) => SeededRng::new(seed),
        _ => SeededRng::of_url(seed, request.path_and_query),
    };
    let delay = asked.delay.map(|delay| delay.sample(&mut rng));
    let size = asked.size.sample(&mut rng);
    response.render(&asked, size, request.mode, (path, query));
    delay
}

fn refuse(refusal: Refusal, received: usize, response: &mut RenderedResponse) -> Decision {
    let body = format!("{refusal}\n");
    let (status, mode) = (refusal.status(), RequestMode::default());
    response.render_own(status, "text/plain", body.as_bytes(), mode);
    response.after = After::Refuse;
    Decision::Respond { intake: Intake { head_length: received, ..Intake::default() }, delay: None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decided(target: &str, seed: u64) -> (Decision, RenderedResponse) {
        let mut response = RenderedResponse::new();
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let decision = decide(head.as_bytes(), seed, false, &Visits::default(), &mut response);
        (decision, response)
    }

    fn sample(target: &str, seed: u64) -> (Option<Duration>, u64) {
        match decided(target, seed) {
            (Decision::Respond { delay, .. }, response) => (delay, response.body_bytes),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_url_draws_the_same_on_any_connection() {
        let url = "/7?delay=lognormal:7ms:0.5&size=1k..64k";
        assert_eq!(sample(url, 1), sample(url, 1));
        assert_ne!(sample(url, 1), sample(url, 2));
        assert_ne!(sample(url, 1), sample("/8?delay=lognormal:7ms:0.5&size=1k..64k", 1));
        let absolute = format!("http://other:1{url}");
        assert_eq!(sample(url, 1), sample(&absolute, 1));
    }

    #[test]
    fn samples_do_not_change_between_versions() {
        // Studies are compared across versions by their seed. The figures come
        // from the definition of the generator, computed apart from this code.
        let url = "/7?delay=1ms..20ms&size=1k..64k";
        assert_eq!(sample(url, 42), (Some(Duration::from_nanos(18_543_154)), 13_107));
    }

    #[test]
    fn a_bad_query_is_answered_with_its_name_and_the_connection_lives() {
        let (decision, response) = decided("/?sise=4", 0);
        assert!(matches!(decision, Decision::Respond { delay: None, .. }));
        assert_eq!(response.status, Some(400));
        assert_eq!(response.after, After::KeepAlive);
    }

    #[test]
    fn a_refusal_ends_the_connection() {
        let mut response = RenderedResponse::new();
        let decision = decide(b"no http\r\n\r\n", 0, false, &Visits::default(), &mut response);
        assert!(matches!(decision, Decision::Respond { .. }));
        assert_eq!(response.after, After::Refuse);
        assert_eq!(response.status, Some(400));
    }

    #[test]
    fn counters_have_paths_of_their_own() {
        let reset = |target| match decided(target, 0).0 {
            Decision::Stats { reset, .. } => Some(reset),
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
            if let Decision::Respond { delay, .. } = decision {
                prop_assert!(delay.is_none_or(|d| d <= crate::limits::DELAY_MAX));
                prop_assert!(response.status.is_some() || response.after != After::KeepAlive);
            }
        }
    }
}
