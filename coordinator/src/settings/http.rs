//! What HTTP looks like.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fanout_proto::setup::{HttpSettings, Method};

use crate::{
    exit::Failure,
    settings::parse::{duration_text, size, size_text, timeout, value, within},
};

/// What HTTP looks like.
#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct HttpArgs {
    /// One whole exchange, connecting, redirects and the body included.
    #[arg(long, value_name = "DURATION", default_value_t = duration_text(HttpSettings::default().timeout))]
    pub(crate) timeout: String,
    /// Resolving, connecting and the TLS handshake.
    #[arg(long, value_name = "DURATION", default_value_t = duration_text(HttpSettings::default().connect_timeout))]
    pub(crate) connect_timeout: String,
    /// Largest body, in bytes (k, M, G); a larger one ends as too_large.
    #[arg(long, value_name = "SIZE", default_value_t = size_text(HttpSettings::default().max_body_bytes))]
    pub(crate) max_body: String,
    /// Redirects to follow; 0 takes the redirect itself as the response.
    #[arg(long, value_name = "N", default_value_t = HttpSettings::default().redirects)]
    pub(crate) redirects: u32,
    /// A header to send; may be given again.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// The User-Agent header [default: fanout and its version, with --contact if given].
    #[arg(long, value_name = "TEXT")]
    pub(crate) user_agent: Option<String>,
    /// Accept any certificate.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// PEM certificates to trust instead of the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) cacert: Option<PathBuf>,
    /// The request method.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) method: MethodArg,
    /// Ask for compressed bodies (gzip, br, zstd) and decode them.
    #[arg(long)]
    pub(crate) decompress: bool,
    /// Open a new connection for every request.
    #[arg(long)]
    pub(crate) no_keepalive: bool,
}

/// `--method`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodArg {
    /// The whole body is read.
    #[default]
    #[value(name = "GET", alias = "get")]
    Get,
    /// Header only.
    #[value(name = "HEAD", alias = "head")]
    Head,
}

pub(super) fn http_settings(args: &HttpArgs) -> Result<HttpSettings, Failure> {
    let headers =
        args.headers.iter().map(|header| parse_header(header)).collect::<Result<_, _>>()?;
    let ca_certificates = match &args.cacert {
        None => bytes::Bytes::new(),
        Some(path) => certificates(path)?,
    };
    Ok(HttpSettings {
        method: match args.method {
            MethodArg::Get => Method::Get,
            MethodArg::Head => Method::Head,
        },
        timeout: timeout("--timeout", &args.timeout)?,
        connect_timeout: timeout("--connect-timeout", &args.connect_timeout)?,
        max_body_bytes: size("--max-body", &args.max_body)?,
        redirects: within("--redirects", args.redirects, 0..=100, "can be followed")?,
        headers,
        insecure: args.insecure,
        ca_certificates,
        decompress: args.decompress,
        no_keepalive: args.no_keepalive,
        ..HttpSettings::default()
    })
}

/// What the User-Agent header says: fanout, and whom to turn to (RFC 9110,
/// section 10.1.5 has the comment's form).
pub(super) fn user_agent(typed: Option<&str>, contact: Option<&str>) -> Result<String, Failure> {
    if let Some(text) = typed {
        if text.is_empty() || !is_header_value(text) {
            return Err(value("--user-agent", text, "visible ASCII and spaces are needed"));
        }
        return Ok(text.to_owned());
    }
    let own = HttpSettings::default().user_agent;
    let Some(contact) = contact else {
        return Ok(own);
    };
    let is_plain =
        contact.bytes().all(|byte| byte.is_ascii_graphic() && !b"()\\\"".contains(&byte));
    let leads_somewhere = match contact.split_once(':') {
        Some(("http" | "https", rest)) => rest.len() > 2 && rest.starts_with("//"),
        Some(("mailto", address)) => is_address(address),
        _ => is_address(contact),
    };
    if !is_plain || !leads_somewhere {
        return Err(value(
            "--contact",
            contact,
            "give a mail address like you@example.org, or a page like https://example.org/fanout",
        ));
    }
    Ok(format!("{own} (+{contact})"))
}

fn is_address(text: &str) -> bool {
    text.split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}

pub(crate) fn certificates(path: &Path) -> Result<bytes::Bytes, Failure> {
    let pem = std::fs::read(path)
        .map_err(|error| Failure::usage(format!("--cacert {}: {error}", path.display())))?;
    if !pem.windows(27).any(|w| w == b"-----BEGIN CERTIFICATE-----") {
        return Err(value("--cacert", path.display(), "it holds no PEM certificate"));
    }
    Ok(pem.into())
}

const OWN_HEADERS: [&str; 8] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "user-agent",
    "expect",
    "upgrade",
];

fn is_header_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte))
}

fn parse_header(text: &str) -> Result<(String, String), Failure> {
    let fail = |hint: &str| value("--header", text, hint);
    let (name, content) = text.split_once(':').ok_or_else(|| fail("write it as 'Name: value'"))?;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err(fail("the name may hold letters, digits and -_ only"));
    }
    if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(fail(match name.to_ascii_lowercase().as_str() {
            "user-agent" => "use --user-agent",
            "accept-encoding" => "use --decompress",
            "connection" => "use --no-keepalive",
            _ => "fanout sets this one itself",
        }));
    }
    if !is_header_value(content) {
        return Err(fail("the value may hold visible ASCII and spaces only"));
    }
    Ok((name.to_owned(), content.trim().to_owned()))
}
