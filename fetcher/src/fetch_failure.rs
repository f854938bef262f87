//! Why a URL could not be fetched.

use std::{borrow::Cow, io, time::Duration};

use fanout_proto::completion::Outcome;
use rustix::io::Errno;

/// A failed fetch: its kind, and what happened, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchFailure {
    /// The kind; never [`Outcome::Ok`].
    pub(crate) outcome: Outcome,
    pub(crate) detail: Cow<'static, str>,
}

impl FetchFailure {
    pub(crate) fn new(outcome: Outcome, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome, detail: detail.into() }
    }

    pub(crate) fn protocol(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Outcome::Protocol, detail)
    }

    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self::new(Outcome::Timeout, format!("no whole response within {limit:?}"))
    }

    pub(crate) fn connect_timed_out(outcome: Outcome, stage: &str, limit: Duration) -> Self {
        Self::new(outcome, format!("{stage} took longer than {limit:?}"))
    }

    pub(crate) fn in_exchange(error: &io::Error) -> Self {
        let outcome = match tls_error(error) {
            Some(_) => Outcome::Tls,
            None => lack_or(error, Outcome::Closed),
        };
        Self::new(outcome, error.to_string())
    }

    pub(crate) fn in_connect(error: &io::Error) -> Self {
        Self::new(lack_or(error, Outcome::Connect), error.to_string())
    }

    pub(crate) fn in_handshake(error: &io::Error) -> Self {
        Self::new(lack_or(error, Outcome::Tls), format!("TLS handshake: {error}"))
    }
}

/// The TLS error inside `error`, if that is what it is, however often wrapped.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<io::Error>() {
        Some(wrapped) => tls_error(wrapped),
        None => inner.downcast_ref(),
    }
}

/// [`Outcome::Resource`] if this process lacks what it needs, else `otherwise`.
fn lack_or(error: &io::Error, otherwise: Outcome) -> Outcome {
    match Errno::from_io_error(error) {
        // Descriptors, local ports, buffers and memory.
        Some(
            Errno::MFILE
            | Errno::NFILE
            | Errno::ADDRNOTAVAIL
            | Errno::ADDRINUSE
            | Errno::NOBUFS
            | Errno::NOMEM,
        ) => Outcome::Resource,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        let of = |errno: Errno| io::Error::from(errno);
        assert_eq!(FetchFailure::in_connect(&of(Errno::MFILE)).outcome, Outcome::Resource);
        assert_eq!(FetchFailure::in_connect(&of(Errno::CONNREFUSED)).outcome, Outcome::Connect);
        assert_eq!(FetchFailure::in_exchange(&of(Errno::CONNRESET)).outcome, Outcome::Closed);
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert_eq!(FetchFailure::in_exchange(&tls).outcome, Outcome::Tls);
        let wrapped = io::Error::other(io::Error::other(tls));
        assert_eq!(FetchFailure::in_exchange(&wrapped).outcome, Outcome::Tls);
    }
}
