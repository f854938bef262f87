//! The origin: the HTTP/1.1 server that fanout's studies run against.
//!
//! Any path answers; the query says how: how long the response is held back, how large it is, how
//! it is framed, and what goes wrong with it (docs/origin.md is the reference). Random delays and
//! sizes depend on the seed and on the URL's path and query only, so that every arm of a study, in
//! any order and over any connection, meets the same server.
//!
//! It writes its responses byte by byte itself, for two reasons: it must not be what limits a
//! study, and it must be able to misbehave in ways that no HTTP library lets a server misbehave in.
//! There is no `Date` field: the same URL gets the same bytes.
//!
//! # Structure
//!
//! Decisions are pure: `request` reads a head, `query` and `spec` read what the URL asks for into a
//! `behaviour`, `seeded_rng` makes it reproducible, `response` and `content` render it as
//! references to shared blocks, `decide` puts these together and `cursor` says what to send next.
//! `accept` and `connection` only carry that out, on the threads of a `server`; `timer` waits
//! precisely; `stats` counts. A new misbehaviour is a type in `behaviour`, a parameter in `query`
//! and a few lines in `response`.

mod accept;
mod behaviour;
mod cli;
mod connection;
mod content;
mod cursor;
mod decide;
mod limits;
mod number;
mod query;
mod request;
mod response;
mod seeded_rng;
mod server;
mod spec;
mod stats;
mod thread;
mod timer;
mod tls;
mod url_list;
mod visits;

pub use cli::{OriginArgs, run};
pub use server::{OriginServer, ServerError};
pub use stats::Stats;
pub use thread::ServerSettings;
pub use url_list::{BUILTIN_DELAY_MEAN, UrlsArgs, builtin, builtin_at_once, run_urls};
