//! From a URL along its redirects.

use fanout_proto::completion::Outcome;

use super::target::{Target, UrlOrigin};
use crate::fetch_failure::FetchFailure;

/// Whether a status together with a Location field is a redirect to follow.
///
/// Methods here are GET and HEAD, which every one of these keeps.
pub(crate) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// Where a fetch is on its way from a URL to what that leads to.
#[derive(Debug, Default)]
pub(crate) struct RedirectChain {
    /// Where the next request goes.
    pub(crate) target: Target,
    /// The URL's own origin, once a redirect has led away from the URL.
    first_origin: Option<Box<UrlOrigin>>,
    pub(crate) followed: u32,
}

impl RedirectChain {
    pub(crate) fn start(&mut self, url: &[u8]) -> Result<(), FetchFailure> {
        self.first_origin = None;
        self.followed = 0;
        self.target
            .set(url)
            .map_err(|error| FetchFailure::protocol(format!("the URL cannot be fetched: {error}")))
    }

    /// Whether that is where the URL itself leads, and so where confidential headers may go.
    pub(crate) fn is_at_first_origin(&self) -> bool {
        self.first_origin.as_ref().is_none_or(|origin| self.target.is_at(origin))
    }

    pub(crate) fn follow(&mut self, location: &[u8], limit: u32) -> Result<(), FetchFailure> {
        if self.followed >= limit {
            return Err(FetchFailure::new(
                Outcome::RedirectLimit,
                format!("more than {limit} redirects"),
            ));
        }
        let next = self.target.redirected(location).map_err(|error| {
            let shown = &location[..location.len().min(100)];
            FetchFailure::new(
                Outcome::BadRedirect,
                format!("redirected to '{}': {error}", String::from_utf8_lossy(shown)),
            )
        })?;
        let previous = std::mem::replace(&mut self.target, next);
        self.first_origin.get_or_insert_with(|| Box::new(previous.origin()));
        self.followed += 1;
        Ok(())
    }
}
