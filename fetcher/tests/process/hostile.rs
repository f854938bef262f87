//! Hostile servers: whatever the origin can do wrong, under every model and
//! client. Each ends as a known outcome, within its deadline, in little memory,
//! and the fetcher goes on as if nothing had been.
//!
//! The table of docs/reliability.md is made from [`MISCHIEF`], and held to it.

use std::{
    fs,
    sync::LazyLock,
    time::{Duration, Instant},
};

use fanout_origin::{OriginServer, ServerSettings};
use fanout_proto::{arm::Client, completion::Outcome, setup::Setup};
use libtest_mimic::Trial;

use crate::{
    fetcher::{ALL, Arm, Fetcher, Gathered, PATIENCE, name, setup},
    trial,
};

/// A body may have so much in these tests.
const BODY_MAX_BYTES: u64 = 1 << 20;
/// Redirects that are followed.
const REDIRECTS: u32 = 5;
/// When a server that keeps one waiting is given up.
const DEADLINE: Duration = Duration::from_millis(400);
/// The same where only some clients wait for it.
const ENDLESS_DEADLINE: Duration = Duration::from_secs(5);
/// How much later a fetch may end on a machine that is busy with other things.
const SLACK: Duration = Duration::from_secs(20);
/// Most memory of a fetcher, its program included.
const MEMORY_MAX_KIB: u64 = 32 * 1024;
/// Most that it may grow by once it is ready: what parts of the program are
/// read in for the first time counts, and buffers for each URL in flight.
const GROWTH_MAX_KIB: u64 = 8 * 1024;

/// What a server does wrong, and what each client makes of it.
struct Mischief {
    what: &'static str,
    /// After the base URL; with a host of its own where TLS goes wrong.
    at: At,
    core: &'static [Outcome],
    ureq: &'static [Outcome],
    reqwest: &'static [Outcome],
}

enum At {
    /// Over HTTP, with this query.
    Http(&'static str),
    /// Over HTTPS, with this query.
    Https(&'static str),
    /// Over HTTPS, at this name below `localhost`.
    Named(&'static str),
    /// Over HTTP, from where a redirect leads to HTTPS.
    Across,
}
use At::{Across, Http, Https, Named};

const fn row(
    what: &'static str,
    at: At,
    core: &'static [Outcome],
    ureq: &'static [Outcome],
    reqwest: &'static [Outcome],
) -> Mischief {
    Mischief { what, at, core, ureq, reqwest }
}

const OK: &[Outcome] = &[Outcome::Ok];
const CLOSED: &[Outcome] = &[Outcome::Closed];
const EITHER: &[Outcome] = &[Outcome::Ok, Outcome::Closed];
const PROTOCOL: &[Outcome] = &[Outcome::Protocol];
const TOO_LARGE: &[Outcome] = &[Outcome::TooLarge];
const TLS: &[Outcome] = &[Outcome::Tls];
const CONNECT: &[Outcome] = &[Outcome::Connect];
const TIMEOUT: &[Outcome] = &[Outcome::Timeout];
const LIMIT: &[Outcome] = &[Outcome::RedirectLimit];
const BAD_REDIRECT: &[Outcome] = &[Outcome::BadRedirect];

#[rustfmt::skip]
const MISCHIEF: &[Mischief] = &[
    row("closes before a response", Http("truncate=before"), CLOSED, CLOSED, CLOSED),
    row("closes within the head", Http("truncate=in-head"), CLOSED, CLOSED, CLOSED),
    row("closes after the head", Http("truncate=after-head"), CLOSED, CLOSED, CLOSED),
    row("closes within the body", Http("truncate"), CLOSED, CLOSED, CLOSED),
    row("closes within a chunk", Http("truncate&chunked"), CLOSED, CLOSED, CLOSED),
    row("resets before a response", Http("reset=before"), CLOSED, CLOSED, CLOSED),
    row("resets within the head", Http("reset=in-head"), CLOSED, CLOSED, CLOSED),
    row("resets after the head", Http("reset=after-head"), CLOSED, CLOSED, CLOSED),
    row("resets within the body", Http("reset=in-body"), CLOSED, CLOSED, CLOSED),
    row("byte by byte, chunked", Http("split&chunked&size=500"), OK, OK, OK),
    row("byte by byte, many fields", Http("split&headers=20&interim=2&size=50"), OK, OK, OK),
    row("byte by byte, compressed", Http("split&gzip&size=5k"), OK, OK, OK),
    row("no HTTP", Http("bad-head=garbage"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("HTTP/0.9", Http("bad-head=none"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("a NUL in a field", Http("bad-head=nul"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("a control character in a field", Http("bad-head=control"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("a lone CR in a field", Http("bad-head=cr"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("a space before a colon", Http("bad-head=space"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("two lengths that differ", Http("bad-head=two-lengths"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("switches protocols unasked", Http("bad-head=switch"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("10,000 header fields", Http("headers=10000"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("a header field of 1 MiB", Http("header-size=1M"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("a head without end", Http("endless=head"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("16 interim responses", Http("interim=16"), OK, OK, OK),
    row("100,000 interim responses", Http("interim=100000"), PROTOCOL, PROTOCOL, OK),
    row("a length below the body's", Http("length-lie&size=9000"), OK, OK, OK),
    row("another response behind the first", Http("extra"), OK, OK, OK),
    row("a chunk size that is no number", Http("bad-chunk=size"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("a chunk size above 64 bits", Http("bad-chunk=huge"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("a chunk without its line end", Http("bad-chunk=no-crlf"), PROTOCOL, PROTOCOL, PROTOCOL),
    row("a body without end", Http("endless"), TOO_LARGE, TOO_LARGE, TOO_LARGE),
    row("chunks without end", Http("endless&chunked"), TOO_LARGE, TOO_LARGE, TOO_LARGE),
    row("a length above the limit", Http("size=1G"), TOO_LARGE, TOO_LARGE, TOO_LARGE),
    row("a gzip bomb of 1 GiB", Http("gzip&bomb&size=1G"), TOO_LARGE, TOO_LARGE, TOO_LARGE),
    row("a brotli bomb of 1 GiB", Http("br&bomb&size=1G"), TOO_LARGE, TOO_LARGE, TOO_LARGE),
    row("a zstd bomb of 1 GiB", Http("zstd&bomb&size=1G"), TOO_LARGE, TOO_LARGE, TOO_LARGE),
    row("redirects in a circle", Http("redirect=loop"), LIMIT, LIMIT, LIMIT),
    row("redirects to `https:`", Across, OK, OK, OK),
    row("redirects to `file:`", Http("redirect-to=file:///etc/passwd"), BAD_REDIRECT, BAD_REDIRECT, BAD_REDIRECT),
    row("redirects to `ftp:`", Http("redirect-to=ftp://127.0.0.1/"), BAD_REDIRECT, BAD_REDIRECT, BAD_REDIRECT),
    row("redirects to `data:`", Http("redirect-to=data:,x"), BAD_REDIRECT, BAD_REDIRECT, BAD_REDIRECT),
    row("redirects to no URL", Http("redirect-to=http://[::1/"), BAD_REDIRECT, BAD_REDIRECT, BAD_REDIRECT),
    row("TLS: a certificate for another name", Named("wrong-name"), TLS, TLS, TLS),
    row("TLS: an expired certificate", Named("expired"), TLS, TLS, TLS),
    row("TLS: a self-signed certificate", Named("self-signed"), TLS, TLS, TLS),
    row("TLS: a certificate by a stranger", Named("unknown-issuer"), TLS, TLS, TLS),
    row("TLS: resets in the handshake", Named("reset"), TLS, CONNECT, CONNECT),
    row("TLS: closes in the handshake", Named("close"), TLS, CONNECT, CONNECT),
    row("TLS: plain HTTP instead", Named("plain"), TLS, TLS, TLS),
    row("TLS: a body that ends without a close alert", Https("close&truncate"), CLOSED, OK, CLOSED),
    row("TLS: resets within the body", Https("reset=in-body"), CLOSED, CLOSED, CLOSED),
    // The last one: a client may keep the connection that is reset, and the next URL would meet that.
    row("resets after the body", Http("reset=after"), EITHER, EITHER, EITHER),
];

/// What keeps some clients busy until their deadline, and others of the same
/// loop with them; so each has a process of its own.
#[rustfmt::skip]
const ENDLESS: &[Mischief] = &[
    row("a chunk size line without end", Http("bad-chunk=endless&slow=100000"), PROTOCOL, PROTOCOL, TIMEOUT),
    row("trailers without end", Http("bad-chunk=trailers"), PROTOCOL, TIMEOUT, PROTOCOL),
];

/// What keeps a client waiting, until its deadline.
#[rustfmt::skip]
const DELAYS: &[Mischief] = &[
    row("never answers", Http("stall=before"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("stalls within the head", Http("stall=in-head"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("stalls after the head", Http("stall"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("stalls within the body", Http("stall=in-body"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("stalls within a chunk", Http("stall=in-body&chunked"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("answers after a minute", Http("delay=60s"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("a head of a byte a second", Http("slow-head=1"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("a body of a byte a second", Http("slow=1"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("interim responses, slowly, without end", Http("interim=1000000&slow-head=100"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("a length above the body's", Http("length-lie=long"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("TLS: stalls in the handshake", Named("stall"), TIMEOUT, TIMEOUT, TIMEOUT),
    row("TLS: stalls within the body", Https("stall=in-body"), TIMEOUT, TIMEOUT, TIMEOUT),
];

/// What goes wrong on a kept connection only.
#[rustfmt::skip]
const STALE: &[Mischief] = &[
    row("closes a kept connection after a response", Http("idle-close"), OK, EITHER, EITHER),
    row("closes a kept connection at a request", Http("truncate=before&if-reused"), OK, EITHER, EITHER),
    row("resets a kept connection at a request", Http("reset=before&if-reused"), OK, EITHER, EITHER),
];

impl Mischief {
    fn url(&self) -> String {
        let https = ORIGIN.https_addr().unwrap();
        match self.at {
            Http(query) => format!("http://{}/?{query}", ORIGIN.http_addr()),
            Https(query) => format!("https://{https}/?{query}"),
            Named(name) => format!("https://{name}.localhost:{}/", https.port()),
            Across => format!("http://{}/?redirect-to=https://{https}/", ORIGIN.http_addr()),
        }
    }

    fn expected(&self, client: Client) -> &'static [Outcome] {
        match client {
            Client::UREQ => self.ureq,
            Client::REQWEST => self.reqwest,
            _ => self.core,
        }
    }
}

/// One origin for all of these; it ends with the process.
static ORIGIN: LazyLock<OriginServer> = LazyLock::new(|| {
    let any = "127.0.0.1:0".parse().unwrap();
    OriginServer::start(any, Some(any), &ServerSettings::default()).unwrap()
});

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![trial("hostile::documented", documented)];
    for arm in ALL {
        let of = |what: &str| format!("hostile::{what}::{}", name(arm));
        trials.push(trial(of("mischief"), move || mischief(arm)));
        trials.push(trial(of("endless"), move || endless(arm)));
        trials.push(trial(of("delays"), move || delays(arm)));
        trials.push(trial(of("stale"), move || stale(arm)));
    }
    trials
}

fn hardened(arm: Arm) -> Setup {
    let mut setup = setup(arm);
    setup.http.max_body_bytes = BODY_MAX_BYTES;
    setup.http.redirects = REDIRECTS;
    setup.http.decompress = true;
    setup.http.ca_certificates = ORIGIN.certificate_pem().unwrap().to_owned().into();
    setup
}

/// What became of these, each within its deadline, in bounded memory, at most
/// C at a time, and after them what is good was fetched as ever.
fn suffer(setup: &Setup, urls: &[String]) -> Suffered {
    let mut fetcher = Fetcher::ready(setup);
    let before_kib = high_water_kib(&fetcher);
    fetcher.lease((0..).zip(urls.iter().cloned()));
    let begin = Instant::now();
    fetcher.go();
    let gathered = fetcher.completions(urls.len());
    assert!(begin.elapsed() < 2 * PATIENCE);
    let good = [
        format!("http://{}/?size=100", ORIGIN.http_addr()),
        format!("https://{}/?size=100&chunked", ORIGIN.https_addr().unwrap()),
    ];
    // A busy machine may need more than one try within a short deadline.
    let tries = (urls.len() as u64..).step_by(good.len()).take(50);
    let served = tries.map(|first| {
        fetcher.lease((first..).zip(good.iter().cloned()));
        let found = fetcher.completions(good.len()).by_id();
        found.values().all(|found| (found.0, found.2) == (Outcome::Ok, 100))
    });
    assert!(served.into_iter().any(|served| served), "it serves no more");
    let (report, _) = fetcher.hold();
    let memory_kib = high_water_kib(&fetcher);
    assert!(memory_kib < MEMORY_MAX_KIB, "{memory_kib} KiB in all");
    let grown_kib = memory_kib - before_kib;
    assert!(grown_kib < GROWTH_MAX_KIB, "{grown_kib} KiB more");
    assert!(report.in_flight_peak <= setup.concurrency.get());
    for completion in &gathered.completions {
        let took = Duration::from_micros(completion.duration_us);
        assert!(took < setup.http.timeout + SLACK, "{took:?}");
        assert!(completion.body_bytes <= BODY_MAX_BYTES);
    }
    fetcher.exit();
    Suffered { gathered, retries: report.counts.stale_retries }
}

struct Suffered {
    gathered: Gathered,
    retries: u64,
}

fn high_water_kib(fetcher: &Fetcher) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", fetcher.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

fn compare<'a>(setup: &Setup, rows: impl IntoIterator<Item = &'a Mischief>, suffered: &Suffered) {
    let found = suffered.gathered.by_id();
    let mut wrong = Vec::new();
    for (id, row) in (0..).zip(rows) {
        let (outcome, status, bytes, detail) = &found[&id];
        if !row.expected(setup.client).contains(outcome) {
            wrong.push(format!("{}: {outcome:?} {status:?} {bytes}: {detail}", row.what));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn mischief(arm: Arm) {
    let setup = hardened(arm);
    let urls: Vec<_> = MISCHIEF.iter().map(Mischief::url).collect();
    compare(&setup, MISCHIEF, &suffer(&setup, &urls));
}

fn endless(arm: Arm) {
    let mut setup = hardened(arm);
    setup.http.timeout = ENDLESS_DEADLINE;
    for row in ENDLESS {
        compare(&setup, [row], &suffer(&setup, &[row.url()]));
    }
}

fn delays(arm: Arm) {
    let mut setup = hardened(arm);
    setup.http.timeout = DEADLINE;
    let urls: Vec<_> = DELAYS.iter().map(Mischief::url).collect();
    compare(&setup, DELAYS, &suffer(&setup, &urls));
}

/// The same for many URLs in a row, so that connections are used again.
fn stale(arm: Arm) {
    const TIMES: usize = 12;
    let setup = hardened(arm);
    for row in STALE {
        let suffered = suffer(&setup, &vec![row.url(); TIMES]);
        let expected = row.expected(setup.client);
        let mut worst = Vec::new();
        for found in suffered.gathered.by_id().values() {
            if !expected.contains(&found.0) {
                worst.push(format!("{:?}: {}", found.0, found.3));
            }
        }
        assert!(worst.is_empty(), "{}: {worst:#?}", row.what);
        if setup.client == Client::CORE && !matches!(row.at, Http("idle-close")) {
            // Each slot's first URL found no connection to use again.
            let slots = u64::from(setup.concurrency.get());
            let least = TIMES as u64 - slots;
            let most = TIMES as u64 - 1;
            assert!((least..=most).contains(&suffered.retries), "{}", suffered.retries);
        }
    }
}

/// Where the table stands, and what is around it.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md");
const BEGIN: &str =
    "<!-- Written by `FANOUT_WRITE_DOCS=1 cargo test -p fanout-fetcher hostile::documented`. -->\n";
const END: &str = "<!-- The end of what is written. -->\n";

/// The page shows what is tested here and nothing else.
fn documented() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (shown, after) = rest.split_once(END).expect("where it ends");
    if std::env::var_os("FANOUT_WRITE_DOCS").is_some() {
        fs::write(PAGE, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    } else {
        assert_eq!(shown, table(), "docs/reliability.md: write the table anew");
    }
}

fn table() -> String {
    let mut table = "\n| a server that | asked for by | core | ureq | reqwest |\n\
                     | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for row in MISCHIEF.iter().chain(ENDLESS).chain(DELAYS).chain(STALE) {
        let by = match row.at {
            Http(query) => format!("`{query}`"),
            Https(query) => format!("`{query}` over HTTPS"),
            Named(name) => format!("`https://{name}.localhost`"),
            Across => "`redirect-to=https://…`".to_owned(),
        };
        let of = |outcomes: &[Outcome]| {
            let names: Vec<_> = outcomes.iter().map(|outcome| outcome.name()).collect();
            names.join(" or ")
        };
        let (core, ureq, reqwest) = (of(row.core), of(row.ureq), of(row.reqwest));
        let what = row.what;
        table += &format!("| {what} | {by} | {core} | {ureq} | {reqwest} |\n");
    }
    table + "\n"
}
