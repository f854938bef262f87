//! One URL's fetch, redirects included: what to ask, of whom, and what came
//! of it. It owns no socket and knows no clock.

use fanout_proto::setup::{HttpSettings, Method};

use super::{
    body::{BodyProgress, BodySink},
    redirect_chain::RedirectChain,
    request::{Headers, RequestTemplate},
    response::Response,
    target::Target,
};
use crate::{exit_reason::SetupError, fetch_failure::FetchFailure};

/// A redirect's body up to this length is read to its end, for the sake of
/// the connection; before a longer one the connection is given up.
pub(crate) const DRAIN_MAX_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct FetchPlan {
    template: RequestTemplate,
    method: Method,
    redirects: u32,
    max_body_bytes: u64,
    decompress: bool,
    no_keepalive: bool,
}

impl FetchPlan {
    pub(crate) fn new(http: &HttpSettings) -> Result<Self, SetupError> {
        Ok(Self {
            template: RequestTemplate::new(http.method, &Headers::new(http)?),
            method: http.method,
            redirects: http.redirects,
            max_body_bytes: http.max_body_bytes,
            decompress: http.decompress,
            no_keepalive: http.no_keepalive,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeProgress {
    More,
    Over {
        /// Whether the connection can serve another request.
        keep: bool,
    },
}

/// The state of a fetch. One value serves a slot's URLs one after another.
///
/// ```text
/// start ─► request on a connection ─► receive* ─► Over ─► follow? ─► request …
///                   ▲                    │                   │
///                   └── lost on a kept ──┘                   └─► done
///                       connection
/// ```
pub(crate) struct FetchState {
    chain: RedirectChain,
    pub(crate) response: Response,
    sink: BodySink,
    /// The last response's, if there was a response.
    pub(crate) status: Option<u16>,
    /// How long the last response, of a busy server, asks to leave it alone.
    pub(crate) retry_after_s: Option<u32>,
    persistent: bool,
    location: Option<Box<[u8]>>,
}

impl FetchState {
    pub(crate) fn new(plan: &FetchPlan) -> Self {
        Self {
            chain: RedirectChain::default(),
            response: Response::new(),
            sink: BodySink::new(plan.max_body_bytes),
            status: None,
            retry_after_s: None,
            persistent: false,
            location: None,
        }
    }

    pub(crate) fn start(&mut self, url: &[u8]) -> Result<(), FetchFailure> {
        self.status = None;
        self.retry_after_s = None;
        self.location = None;
        self.response = Response::new();
        self.sink.restart();
        self.chain.start(url)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.chain.target
    }

    /// Begins an exchange: appends its request to `out`.
    pub(crate) fn request(&mut self, plan: &FetchPlan, out: &mut Vec<u8>) {
        self.response = Response::new();
        plan.template.write(&self.chain.target, self.chain.is_at_first_origin(), out);
    }

    pub(crate) fn receive(
        &mut self,
        plan: &FetchPlan,
        mut bytes: &[u8],
    ) -> Result<ExchangeProgress, FetchFailure> {
        if self.response.awaits_head() {
            let Some((head, used)) = self.response.head(plan.method, bytes)? else {
                return Ok(ExchangeProgress::More);
            };
            bytes = &bytes[used..];
            self.status = Some(head.status);
            self.retry_after_s = head.retry_after_s;
            self.persistent = head.persistent && !plan.no_keepalive;
            self.sink.restart();
            let length = head.length();
            self.location = head.location.filter(|_| plan.redirects > 0);
            if self.location.is_some() {
                if length.is_some_and(|length| length > DRAIN_MAX_BYTES) {
                    return Ok(ExchangeProgress::Over { keep: false });
                }
            } else {
                if let Some(length) = length {
                    self.sink.check_length(length)?;
                }
                if let Some(coding) = head.coding.filter(|_| plan.decompress) {
                    self.sink.decode(coding)?;
                }
            }
        }
        let sink = &mut self.sink;
        let is_redirect = self.location.is_some();
        let body = self.response.body(bytes, |data| {
            if is_redirect {
                sink.skip(data);
                return Ok(());
            }
            sink.push(data)
        })?;
        match body {
            BodyProgress::Over { excess } => {
                self.sink.finish()?;
                Ok(ExchangeProgress::Over { keep: self.persistent && excess == 0 })
            }
            BodyProgress::More if is_redirect && self.sink.received() > DRAIN_MAX_BYTES => {
                Ok(ExchangeProgress::Over { keep: false })
            }
            BodyProgress::More => Ok(ExchangeProgress::More),
        }
    }

    pub(crate) fn end(&mut self, plan: &FetchPlan) -> Result<(), FetchFailure> {
        if let Err(failure) = self.response.end(plan.method) {
            self.sink.cut()?;
            return Err(failure);
        }
        self.sink.finish()
    }

    /// After an exchange is over: whether a redirect leads to another one.
    pub(crate) fn follow(&mut self, plan: &FetchPlan) -> Result<bool, FetchFailure> {
        let Some(location) = self.location.take() else {
            return Ok(false);
        };
        self.chain.follow(&location, plan.redirects)?;
        Ok(true)
    }

    /// Bytes of the last response's body, before content decoding; of a
    /// redirect's, as many as were read.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.sink.received()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanout_proto::completion::Outcome;

    fn plan(change: impl FnOnce(&mut HttpSettings)) -> FetchPlan {
        let mut http = HttpSettings {
            headers: vec![("Authorization".into(), "secret".into())],
            ..HttpSettings::default()
        };
        change(&mut http);
        FetchPlan::new(&http).unwrap()
    }

    fn started(plan: &FetchPlan, url: &str) -> FetchState {
        let mut fetch = FetchState::new(plan);
        fetch.start(url.as_bytes()).unwrap();
        fetch
    }

    /// One exchange: the request that was sent, and what the answer led to.
    fn exchange(
        fetch: &mut FetchState,
        plan: &FetchPlan,
        answer: &str,
    ) -> (String, Result<ExchangeProgress, FetchFailure>) {
        let mut request = Vec::new();
        fetch.request(plan, &mut request);
        (String::from_utf8(request).unwrap(), fetch.receive(plan, answer.as_bytes()))
    }

    fn redirect(location: &str, body: usize) -> String {
        format!(
            "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: {body}\r\n\r\n{}",
            "x".repeat(body)
        )
    }

    const KEPT: Result<ExchangeProgress, FetchFailure> = Ok(ExchangeProgress::Over { keep: true });
    const GIVEN_UP: Result<ExchangeProgress, FetchFailure> =
        Ok(ExchangeProgress::Over { keep: false });

    #[test]
    fn a_redirect_is_followed_and_secrets_are_not_told() {
        let plan = plan(|_| ());
        let mut fetch = started(&plan, "http://a/1");
        let (request, progress) = exchange(&mut fetch, &plan, &redirect("http://b/2", 10));
        assert!(request.contains("secret"));
        assert_eq!(progress, KEPT);
        assert_eq!(fetch.follow(&plan), Ok(true));
        let (request, _) = exchange(&mut fetch, &plan, &redirect("http://a/3", 0));
        assert!(request.starts_with("GET /2 HTTP/1.1\r\nhost: b\r\n"));
        assert!(!request.contains("secret"));
        assert_eq!(fetch.follow(&plan), Ok(true));
        let (request, progress) =
            exchange(&mut fetch, &plan, "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nabc");
        assert!(request.contains("secret"), "back at the first host");
        assert_eq!(progress, KEPT);
        assert_eq!(fetch.follow(&plan), Ok(false));
        assert_eq!((fetch.status, fetch.body_bytes()), (Some(404), 3));
    }

    #[test]
    fn redirects_end() {
        let plan = plan(|http| http.redirects = 1);
        let mut fetch = started(&plan, "http://a/");
        exchange(&mut fetch, &plan, &redirect("/", 0)).1.unwrap();
        assert_eq!(fetch.follow(&plan), Ok(true));
        exchange(&mut fetch, &plan, &redirect("/", 0)).1.unwrap();
        assert_eq!(fetch.follow(&plan).unwrap_err().outcome, Outcome::RedirectLimit);
        assert_eq!(fetch.status, Some(302));
    }

    #[test]
    fn without_redirects_the_redirect_is_the_response() {
        let plan = plan(|http| http.redirects = 0);
        let mut fetch = started(&plan, "http://a/");
        assert_eq!(exchange(&mut fetch, &plan, &redirect("ftp://b/", 5)).1, KEPT);
        assert_eq!(fetch.follow(&plan), Ok(false));
        assert_eq!((fetch.status, fetch.body_bytes()), (Some(302), 5));
    }

    #[test]
    fn a_redirect_to_what_cannot_be_fetched_is_told() {
        let plan = plan(|_| ());
        let mut fetch = started(&plan, "http://a/");
        exchange(&mut fetch, &plan, &redirect("ftp://b/", 0)).1.unwrap();
        let failure = fetch.follow(&plan).unwrap_err();
        assert_eq!(failure.outcome, Outcome::BadRedirect);
        assert_eq!(
            failure.detail,
            "redirected to 'ftp://b/': the scheme 'ftp' is neither http nor https"
        );
    }

    #[test]
    fn a_busy_server_is_heard_out_and_only_by_its_own_url() {
        let plan = plan(|_| ());
        let mut fetch = started(&plan, "http://a/");
        let answer = "HTTP/1.1 503 x\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(exchange(&mut fetch, &plan, answer).1, KEPT);
        assert_eq!((fetch.status, fetch.retry_after_s), (Some(503), Some(7)));
        fetch.start(b"http://a/").unwrap();
        assert_eq!(fetch.retry_after_s, None);
    }

    #[test]
    fn long_bodies_of_redirects_are_not_read() {
        let plan = plan(|http| http.max_body_bytes = 10);
        let mut fetch = started(&plan, "http://a/");
        let head = "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 70000\r\n\r\n";
        assert_eq!(exchange(&mut fetch, &plan, head).1, GIVEN_UP);
        assert_eq!(fetch.follow(&plan), Ok(true));
    }

    #[test]
    fn no_limit_is_for_the_bodies_of_redirects() {
        let plan = plan(|http| http.max_body_bytes = 10);
        let mut fetch = started(&plan, "http://a/");
        assert_eq!(exchange(&mut fetch, &plan, &redirect("/", 20)).1, KEPT);
        assert_eq!(fetch.follow(&plan), Ok(true));
    }

    #[test]
    fn a_body_above_the_limit_is_refused_by_its_length_or_as_it_comes() {
        let plan = plan(|http| http.max_body_bytes = 4);
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n",
            "HTTP/1.1 200 OK\r\n\r\nabcde",
        ] {
            let mut fetch = started(&plan, "http://a/");
            let failure = exchange(&mut fetch, &plan, answer).1.unwrap_err();
            assert_eq!(failure.outcome, Outcome::TooLarge);
        }
    }

    #[test]
    fn a_connection_with_bytes_left_over_is_not_kept() {
        let plan = plan(|_| ());
        let mut fetch = started(&plan, "http://a/");
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabc";
        assert_eq!(exchange(&mut fetch, &plan, answer).1, GIVEN_UP);
    }

    #[test]
    fn without_keep_alive_no_connection_is_kept() {
        let plan = plan(|http| http.no_keepalive = true);
        let mut fetch = started(&plan, "http://a/");
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
        assert_eq!(exchange(&mut fetch, &plan, answer).1, GIVEN_UP);
    }

    #[test]
    fn codings_are_undone_only_if_asked_for() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd";
        let as_it_is = plan(|_| ());
        let mut fetch = started(&as_it_is, "http://a/");
        assert_eq!(exchange(&mut fetch, &as_it_is, answer).1, KEPT);
        let undone = plan(|http| http.decompress = true);
        let mut fetch = started(&undone, "http://a/");
        let failure = exchange(&mut fetch, &undone, answer).1.unwrap_err();
        assert_eq!(failure.outcome, Outcome::Decode);
        assert_eq!((fetch.status, fetch.body_bytes()), (Some(200), 4));
    }
}
