//! What the clients that are libraries have in common: everything that must be the same in every
//! arm is decided here and not by the library, so that arms differ in the exchange of a request for
//! a response and in nothing else. That is: which redirects are followed and with which headers,
//! how a body is counted, limited and decoded, and what a deadline means.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanout_proto::setup::{HttpSettings, Method};
use http::{HeaderMap, StatusCode, header};

use crate::{
    counters::Counters,
    exchange::{
        body::{BodySink, ContentCoding},
        fetch::DRAIN_MAX_BYTES,
        redirect_chain::{RedirectChain, is_redirect},
        request::Headers,
        retry_after,
        target::Target,
    },
    exit_reason::SetupError,
    fetch_failure::FetchFailure,
    resolve::{LookupError, Policy, Resolver},
    work_queue::Fetched,
};

#[derive(Debug)]
pub(crate) struct LibraryPlan {
    pub(crate) counters: Arc<Counters>,
    pub(crate) method: http::Method,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// To the URL's own origin.
    headers: HeaderMap,
    /// To where only a redirect leads.
    public_headers: HeaderMap,
    redirects: u32,
    max_body_bytes: u64,
    decompress: bool,
    policy: Policy,
}

impl LibraryPlan {
    pub(crate) fn new(http: &HttpSettings, counters: Arc<Counters>) -> Result<Self, SetupError> {
        let headers = Headers::new(http)?;
        let map = |fields: &mut dyn Iterator<Item = &(http::HeaderName, http::HeaderValue)>| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(name, value.clone());
            }
            map
        };
        Ok(Self {
            counters,
            method: match http.method {
                Method::Get => http::Method::GET,
                Method::Head => http::Method::HEAD,
            },
            timeout: http.timeout,
            connect_timeout: http.connect_timeout,
            headers: map(&mut headers.iter()),
            public_headers: map(&mut headers.public()),
            redirects: http.redirects,
            max_body_bytes: http.max_body_bytes,
            decompress: http.decompress,
            policy: Policy::new(http.deny_private),
        })
    }
}

/// Resolves names for a library as under every client: without a helper thread.
#[derive(Debug, Clone)]
pub(crate) struct LibraryResolver(pub(crate) Arc<Resolver>);

/// A library's own connector, whose connections are counted and timed.
#[derive(Debug, Clone)]
pub(crate) struct CountedConnector<C> {
    pub(crate) inner: C,
    pub(crate) counters: Arc<Counters>,
}

#[derive(Default)]
pub(crate) struct LibraryFetch {
    pub(crate) chain: RedirectChain,
    sink: BodySink,
    status: Option<u16>,
    retry_after_s: Option<u32>,
    location: Option<Box<[u8]>>,
    first_byte: Option<Instant>,
    /// Spent on connecting, as far as the library lets it be seen.
    pub(crate) connect: Duration,
}

impl LibraryFetch {
    pub(crate) fn new(plan: &LibraryPlan) -> Self {
        Self { sink: BodySink::new(plan.max_body_bytes), ..Self::default() }
    }

    pub(crate) fn start(&mut self, url: &[u8]) -> Result<(), FetchFailure> {
        self.sink.restart();
        self.status = None;
        self.retry_after_s = None;
        self.location = None;
        self.first_byte = None;
        self.connect = Duration::ZERO;
        self.chain.start(url)
    }

    /// Where the next request goes, and its headers.
    pub(crate) fn request<'a>(
        &self,
        plan: &'a LibraryPlan,
    ) -> Result<(&Target, &'a HeaderMap), FetchFailure> {
        let target = &self.chain.target;
        // A library may connect to an address in the URL without asking the resolver.
        if let Some(address) = target.ip()
            && !plan.policy.allows(address)
        {
            let denied = LookupError::Denied { host: target.host().to_owned(), address };
            return Err(FetchFailure::new(denied.outcome(), denied.to_string()));
        }
        let headers =
            if self.chain.is_at_first_origin() { &plan.headers } else { &plan.public_headers };
        Ok((target, headers))
    }

    pub(crate) fn head(
        &mut self,
        plan: &LibraryPlan,
        now: Instant,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<(), FetchFailure> {
        let status = status.as_u16();
        if status == 101 {
            return Err(FetchFailure::protocol("the server switched protocols unasked"));
        }
        let last = |name| headers.get_all(name).iter().next_back();
        self.first_byte = Some(now);
        self.status = Some(status);
        self.retry_after_s =
            retry_after::seconds(status, |name| headers.get(name).map(|value| value.as_bytes()));
        self.sink.restart();
        self.location = last(header::LOCATION)
            .filter(|_| is_redirect(status) && plan.redirects > 0)
            .map(|value| value.as_bytes().into());
        if self.location.is_none()
            && plan.decompress
            && let Some(coding) = last(header::CONTENT_ENCODING)
                .and_then(|value| ContentCoding::from_field(value.as_bytes()))
        {
            self.sink.decode(coding)?;
        }
        Ok(())
    }

    /// Bytes of the body; whether to leave the rest of it unread.
    pub(crate) fn body(&mut self, bytes: &[u8]) -> Result<bool, FetchFailure> {
        if self.location.is_none() {
            self.sink.push(bytes)?;
            return Ok(false);
        }
        self.sink.skip(bytes);
        Ok(self.sink.received() > DRAIN_MAX_BYTES)
    }

    /// The response is dealt with: whether a redirect leads to another request.
    pub(crate) fn follow(&mut self, plan: &LibraryPlan) -> Result<bool, FetchFailure> {
        match self.location.take() {
            Some(location) => {
                self.chain.follow(&location, plan.redirects)?;
                Ok(true)
            }
            None => {
                self.sink.finish()?;
                Ok(false)
            }
        }
    }

    pub(crate) fn conclude(&self, result: Result<(), FetchFailure>) -> Fetched {
        Fetched {
            status: self.status,
            retry_after_s: self.retry_after_s,
            body_bytes: self.sink.received(),
            connect: self.connect,
            first_byte: self.first_byte,
            ..Fetched::new(result, Instant::now())
        }
    }
}
