//! What HTTP looks like: each setting with its default, on the wire and in a
//! study's record. The fields' first lines describe the record, too.

use std::time::Duration;

use crate::{WireError, in_range, limits::TIMEOUT_MAX, time::micros, wire};

/// The request method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "record", serde(rename_all = "UPPERCASE"))]
pub enum Method {
    /// The whole body is read.
    #[default]
    Get,
    /// Header only.
    Head,
}

/// What HTTP looked like in every arm.
///
/// A field that comes later needs `serde(default)`: older records lack it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema))]
pub struct HttpSettings {
    /// `GET` or `HEAD`.
    #[cfg_attr(feature = "record", schemars(with = "String"))]
    pub method: Method,
    /// One whole exchange.
    // Connecting, redirects and the body included.
    #[cfg_attr(feature = "record", serde(rename = "timeout_s", with = "record::seconds"))]
    #[cfg_attr(feature = "record", schemars(with = "f64"))]
    pub timeout: Duration,
    /// Resolving, connecting, TLS handshake.
    #[cfg_attr(feature = "record", serde(rename = "connect_timeout_s", with = "record::seconds"))]
    #[cfg_attr(feature = "record", schemars(with = "f64"))]
    pub connect_timeout: Duration,
    /// Largest body.
    // One with more bytes ends as `too_large`.
    pub max_body_bytes: u64,
    /// Redirects followed.
    // One more ends as `redirect_limit`. 0 follows none: the redirect itself is then the response.
    pub redirects: u32,
    /// Names of headers of one's own; values may be secret and are not kept.
    // The values are here, and travel with a setup; in a record that was read back they are empty.
    #[cfg_attr(feature = "record", serde(with = "record::names"))]
    #[cfg_attr(feature = "record", schemars(with = "Vec<String>"))]
    pub headers: Vec<(String, String)>,
    /// User-Agent.
    pub user_agent: String,
    /// Any certificate was accepted.
    pub insecure: bool,
    /// Own roots were used.
    // PEM certificates that replace the system's roots; empty keeps those. In a
    // record that was read back they say only whether there were any.
    #[cfg_attr(feature = "record", serde(rename = "cacert", with = "record::given"))]
    #[cfg_attr(feature = "record", schemars(with = "bool"))]
    pub ca_certificates: bytes::Bytes,
    /// Compressed bodies were asked for and decoded.
    // gzip, br and zstd.
    pub decompress: bool,
    /// A new connection for every request.
    pub no_keepalive: bool,
    /// Connect to public addresses only. It is the worker's own policy: it does
    /// not travel with a setup, and no coordinator can lift it.
    #[cfg_attr(feature = "record", serde(skip))]
    pub deny_private: bool,
}

/// What readers call the recorded fields, in the order in which they see them.
#[cfg(feature = "record")]
pub const LABELS: [(&str, &str); 11] = [
    ("method", "method"),
    ("timeout_s", "timeout"),
    ("connect_timeout_s", "timeout of connecting"),
    ("max_body_bytes", "largest body"),
    ("redirects", "redirects followed"),
    ("headers", "own headers"),
    ("user_agent", "User-Agent"),
    ("insecure", "any certificate accepted"),
    ("cacert", "own root certificates"),
    ("decompress", "compressed bodies"),
    ("no_keepalive", "new connection per request"),
];

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            method: Method::Get,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_body_bytes: 64 * 1024 * 1024,
            redirects: 10,
            headers: Vec::new(),
            user_agent: concat!("fanout/", env!("CARGO_PKG_VERSION")).to_owned(),
            insecure: false,
            ca_certificates: bytes::Bytes::new(),
            decompress: false,
            no_keepalive: false,
            deny_private: false,
        }
    }
}

impl HttpSettings {
    /// The same without the values of headers, which may be secret.
    pub fn without_secrets(&self) -> Self {
        let names = self.headers.iter().map(|(name, _)| name.clone());
        Self { headers: names.map(|name| (name, String::new())).collect(), ..self.clone() }
    }

    pub(crate) fn to_wire(&self) -> wire::Setup {
        let header = |(name, value): &(String, String)| wire::Header {
            name: name.clone(),
            value: value.clone(),
        };
        wire::Setup {
            method: match self.method {
                Method::Get => wire::Method::Get,
                Method::Head => wire::Method::Head,
            }
            .into(),
            timeout_us: micros(self.timeout),
            connect_timeout_us: micros(self.connect_timeout),
            max_body_bytes: self.max_body_bytes,
            redirects: self.redirects,
            headers: self.headers.iter().map(header).collect(),
            user_agent: self.user_agent.clone(),
            insecure: self.insecure,
            ca_certificates: self.ca_certificates.clone(),
            decompress: self.decompress,
            no_keepalive: self.no_keepalive,
            ..wire::Setup::default()
        }
    }

    /// Takes the fields of HTTP out of a setup.
    pub(crate) fn take_from(setup: &mut wire::Setup) -> Result<Self, WireError> {
        let headers = std::mem::take(&mut setup.headers);
        Ok(Self {
            method: match wire::Method::try_from(setup.method) {
                Ok(wire::Method::Get) => Method::Get,
                Ok(wire::Method::Head) => Method::Head,
                Ok(wire::Method::Unspecified) | Err(_) => {
                    return Err(WireError::Unknown("method", setup.method.into()));
                }
            },
            timeout: timeout("timeout", setup.timeout_us)?,
            connect_timeout: timeout("connect_timeout", setup.connect_timeout_us)?,
            max_body_bytes: setup.max_body_bytes,
            redirects: setup.redirects,
            headers: headers.into_iter().map(|h| (h.name, h.value)).collect(),
            user_agent: std::mem::take(&mut setup.user_agent),
            insecure: setup.insecure,
            ca_certificates: std::mem::take(&mut setup.ca_certificates),
            decompress: setup.decompress,
            no_keepalive: setup.no_keepalive,
            deny_private: false,
        })
    }
}

fn timeout(field: &'static str, us: u64) -> Result<Duration, WireError> {
    in_range(field, us, 1..=micros(TIMEOUT_MAX), "1 µs to 1 h")?;
    Ok(Duration::from_micros(us))
}

/// How fields stand in a record where that is not how they are used.
#[cfg(feature = "record")]
mod record {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) mod seconds {
        use super::*;
        use std::time::Duration;

        pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_f64(value.as_secs_f64())
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Duration, D::Error> {
            Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(D::Error::custom)
        }
    }

    /// Headers as their names.
    pub(super) mod names {
        use super::*;

        type Headers = Vec<(String, String)>;

        pub(crate) fn serialize<S: Serializer>(
            headers: &Headers,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            to.collect_seq(headers.iter().map(|(name, _)| name))
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Headers, D::Error> {
            let names = Vec::deserialize(from)?;
            Ok(names.into_iter().map(|name| (name, String::new())).collect())
        }
    }

    /// Bytes as whether there are any.
    pub(super) mod given {
        use super::*;
        use bytes::Bytes;

        pub(crate) fn serialize<S: Serializer>(value: &Bytes, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_bool(!value.is_empty())
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
            Ok(match bool::deserialize(from)? {
                true => Bytes::from_static(b"not kept"),
                false => Bytes::new(),
            })
        }
    }
}
