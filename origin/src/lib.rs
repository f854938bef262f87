//! The origin: the HTTP/1.1 server that fanout's studies run against.
//!
//! Any path answers; the query says how: how long the response is held back,
//! how large it is, how it is framed, and what goes wrong with it
//! (docs/origin.md is the reference). Random delays and sizes depend on the
//! seed and on the URL's path and query only, so that every arm of a study,
//! in any order and over any connection, meets the same server.
//!
//! It writes its responses byte by byte itself, for two reasons: it must
//! not be what limits a study, and it must be able to misbehave in ways that
//! no HTTP library lets a server misbehave in. There is no `Date` field:
//! the same URL gets the same bytes.
//!
//! # Structure
//!
//! Decisions are pure: `request` reads a head, `query` and `spec` read what
//! the URL asks for, `draw` makes it reproducible, `response` and `content`
//! render it as references to shared blocks, `exchange` puts these together.
//! `connection` and `server` only carry that out; `timer` waits precisely;
//! `stats` counts. A new misbehaviour is a parameter in `query` and a few
//! lines in `response`.

mod cli;
mod connection;
mod content;
mod draw;
mod exchange;
mod limits;
mod query;
mod request;
mod response;
mod server;
mod spec;
mod stats;
mod timer;
mod tls;
mod url_list;
mod visits;
mod watch;

pub use cli::{OriginArgs, run};
pub use query::QueryError;
pub use server::{Listeners, Origin, Settings, StartError, StopError};
pub use spec::SpecError;
pub use stats::Stats;
pub use tls::TlsError;
pub use url_list::{UrlsArgs, UrlsError, builtin, run_urls};
