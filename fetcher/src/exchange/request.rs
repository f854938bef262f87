//! What is asked: the head of a request.

use fanout_proto::setup::{HttpSettings, Method};
use http::{HeaderName, HeaderValue, header};

use super::{body::ACCEPT_ENCODING, target::Target};
use crate::exit_reason::SetupError;

/// Most bytes of own headers together; a request must fit into one buffer.
const HEADERS_MAX_BYTES: usize = 16 * 1024;

/// Headers that are told to the host of the URL only, never to one that a redirect leads to.
const CONFIDENTIAL: [HeaderName; 4] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION, header::HOST];

fn bad_value(name: &HeaderName) -> SetupError {
    SetupError(format!("the value of the header '{name}' holds bytes that a header cannot carry"))
}

/// The headers of a study, checked, in the order in which they are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Headers {
    /// With User-Agent and Accept; own headers replace those of the same name.
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Headers {
    pub(crate) fn new(http: &HttpSettings) -> Result<Self, SetupError> {
        let mut fields = Vec::new();
        for (name, value) in &http.headers {
            let name = HeaderName::try_from(name).map_err(|_| {
                let are = "letters, digits and hyphens are";
                SetupError(format!("'{name}' is not a header name; {are}"))
            })?;
            let value = HeaderValue::try_from(value).map_err(|_| bad_value(&name))?;
            if [
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
                header::CONNECTION,
                header::UPGRADE,
                header::EXPECT,
                header::TE,
                header::TRAILER,
            ]
            .contains(&name)
            {
                return Err(SetupError(format!(
                    "the header '{name}' describes a body or a hop, which is the fetcher's own \
                     business; leave it out"
                )));
            }
            fields.push((name, value));
        }
        let own = fields.len();
        let mut add = |name: HeaderName, value: &str| {
            if fields[..own].iter().all(|(known, _)| *known != name) {
                let value = HeaderValue::try_from(value).map_err(|_| bad_value(&name))?;
                fields.push((name, value));
            }
            Ok(())
        };
        if !http.user_agent.is_empty() {
            add(header::USER_AGENT, &http.user_agent)?;
        }
        add(header::ACCEPT, "*/*")?;
        if http.decompress {
            add(header::ACCEPT_ENCODING, ACCEPT_ENCODING)?;
        }
        if http.no_keepalive {
            add(header::CONNECTION, "close")?;
        }
        let lengths = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        let length: usize = lengths.sum();
        if length > HEADERS_MAX_BYTES {
            return Err(SetupError(format!(
                "own headers take {length} bytes; {HEADERS_MAX_BYTES} is the most"
            )));
        }
        Ok(Self { fields })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> + Clone {
        self.fields.iter()
    }

    /// Every field that a host may see to which only a redirect leads.
    pub(crate) fn public(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> + Clone {
        self.iter().filter(|(name, _)| !CONFIDENTIAL.contains(name))
    }
}

/// Everything of a request that does not depend on its URL, laid out once.
#[derive(Debug, Clone)]
pub(crate) struct RequestTemplate {
    method: &'static [u8],
    to_first_host: FieldBlock,
    to_other_hosts: FieldBlock,
}

#[derive(Debug, Clone)]
struct FieldBlock {
    bytes: Vec<u8>,
    names_host: bool,
    authorizes: bool,
}

impl FieldBlock {
    fn new<'a>(fields: impl Iterator<Item = &'a (HeaderName, HeaderValue)> + Clone) -> Self {
        let mut bytes = Vec::new();
        for (name, value) in fields.clone() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        let has = |wanted: HeaderName| fields.clone().any(|(name, _)| *name == wanted);
        Self { bytes, names_host: has(header::HOST), authorizes: has(header::AUTHORIZATION) }
    }
}

impl RequestTemplate {
    pub(crate) fn new(method: Method, headers: &Headers) -> Self {
        Self {
            method: match method {
                Method::Get => b"GET ",
                Method::Head => b"HEAD ",
            },
            to_first_host: FieldBlock::new(headers.iter()),
            to_other_hosts: FieldBlock::new(headers.public()),
        }
    }

    /// Appends the request for `target`. `first_host` is false where only a
    /// redirect leads: confidential headers are then left out.
    pub(crate) fn write(&self, target: &Target, first_host: bool, out: &mut Vec<u8>) {
        let fields = if first_host { &self.to_first_host } else { &self.to_other_hosts };
        out.extend_from_slice(self.method);
        target.write_path(out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if !fields.names_host {
            out.extend_from_slice(b"host: ");
            out.extend_from_slice(target.authority().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !fields.authorizes
            && let Some(credentials) = target.basic_credentials()
        {
            out.extend_from_slice(b"authorization: Basic ");
            out.extend_from_slice(credentials.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&fields.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(headers: &[(&str, &str)]) -> HttpSettings {
        HttpSettings {
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            user_agent: "fanout/test".into(),
            ..HttpSettings::default()
        }
    }

    fn request(http: &HttpSettings, url: &str, first_host: bool) -> String {
        let template = RequestTemplate::new(http.method, &Headers::new(http).unwrap());
        let mut target = Target::default();
        target.set(url.as_bytes()).unwrap();
        let mut out = Vec::new();
        template.write(&target, first_host, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_plain_request_is_short() {
        assert_eq!(
            request(&settings(&[]), "http://127.0.0.1:1/a?b", true),
            "GET /a?b HTTP/1.1\r\nhost: 127.0.0.1:1\r\n\
             user-agent: fanout/test\r\naccept: */*\r\n\r\n"
        );
    }

    #[test]
    fn settings_show() {
        let http = HttpSettings {
            method: Method::Head,
            decompress: true,
            no_keepalive: true,
            ..settings(&[("X-A", "1"), ("accept", "text/html"), ("User-Agent", "me")])
        };
        assert_eq!(
            request(&http, "https://u:p@h/", true),
            "HEAD / HTTP/1.1\r\nhost: h\r\nauthorization: Basic dTpw\r\n\
             x-a: 1\r\naccept: text/html\r\nuser-agent: me\r\n\
             accept-encoding: gzip, br, zstd\r\nconnection: close\r\n\r\n"
        );
    }

    #[test]
    fn secrets_stay_with_the_first_host() {
        let http = settings(&[
            ("Authorization", "secret"),
            ("Cookie", "secret"),
            ("Host", "secret"),
            ("X-Public", "1"),
        ]);
        assert!(request(&http, "http://u:p@h/", true).contains("host: secret"));
        assert!(!request(&http, "http://u:p@h/", true).contains("Basic"));
        assert_eq!(
            request(&http, "http://h/", false),
            "GET / HTTP/1.1\r\nhost: h\r\nx-public: 1\r\n\
             user-agent: fanout/test\r\naccept: */*\r\n\r\n"
        );
    }

    #[test]
    fn headers_that_cannot_be_sent_are_refused() {
        let refused = |name: &str, value: &str| {
            Headers::new(&settings(&[(name, value)])).unwrap_err().to_string()
        };
        assert!(refused("a b", "").contains("not a header name"));
        assert!(refused("a", "b\r\nc: d").contains("cannot carry"));
        assert!(refused("Content-Length", "1").contains("leave it out"));
        assert!(refused("a", &"x".repeat(20_000)).contains("16384 is the most"));
    }
}
