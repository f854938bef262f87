//! What browsers, probes and Prometheus see. It only shows: nothing can be
//! started, changed or ended here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use fanout_proto::control::{JobState, Status, WorkerStatus};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use maud::{DOCTYPE, Markup, html};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;
use tracing::{debug, warn};

use super::{
    data::STUDY_FILES,
    metrics::{self, ProcessUsage},
    state::ServerState,
};
use crate::{
    accept::{self, Peer, PeerInfo, RefusalLog, Rules, Speaks},
    fleet::Token,
};

/// Browsers, probes and Prometheus together.
const CONNECTIONS_MAX: usize = 256;
/// A request's header comes within this time.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// A connection, however much it is used, ends within this time.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(300);
/// Fields of a request's header.
const HEADERS_MAX: usize = 64;
/// A request's header, and what is written at a time.
const HEADER_MAX_BYTES: usize = 32 * 1024;
/// Studies on the page; all are in the directory.
const STUDIES_SHOWN: usize = 200;
/// Nothing but what the page itself holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;\
color:#222;background:#fff}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .75rem .25rem 0;\
border-bottom:1px solid #ddd;vertical-align:top}code{font-size:.9em;overflow-wrap:anywhere}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}a{color:#8bf}}";

#[derive(Debug)]
struct Pages {
    state: Arc<ServerState>,
    token: Option<Token>,
    /// Names under which a browser on this machine may ask; `None`: any.
    hosts: Option<[&'static str; 3]>,
    refusals: RefusalLog,
}

pub(super) async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<ServerState>,
    token: Option<Token>,
    refusals: RefusalLog,
    shutdown: CancellationToken,
) {
    // On loopback a page of somewhere else could ask through a name that it makes point here.
    let hosts = address.ip().is_loopback().then_some(["localhost", "127.0.0.1", "[::1]"]);
    let router = router(Arc::new(Pages { state, token, hosts, refusals: refusals.clone() }));
    let rules = Rules {
        speaks: Speaks::Http1,
        connections_max: CONNECTIONS_MAX,
        admit_within: HEADER_DEADLINE,
    };
    let (let_in, mut inside) = mpsc::channel(1);
    let connections = TaskTracker::new();
    let serve = async {
        while let Some(peer) = inside.recv().await {
            connections.spawn(connection(peer, router.clone(), shutdown.clone()));
        }
    };
    tokio::join!(
        accept::accept_connections(listener, rules, let_in, refusals, shutdown.clone()),
        serve
    );
    connections.close();
    connections.wait().await;
}

/// One connection: a header has its deadline and its limits, the whole has one, too.
async fn connection(peer: Peer, router: Router, shutdown: CancellationToken) {
    let info = peer.info();
    let pages = service_fn(move |mut request: hyper::Request<Incoming>| {
        // The header has come; what follows is bounded by the whole's deadline.
        info.admit();
        request.extensions_mut().insert(info.clone());
        router.clone().call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_MAX_BYTES)
        .serve_connection(TokioIo::new(peer), pages);
    tokio::pin!(served);
    let ended = async {
        tokio::select! {
            served = &mut served => return served,
            () = shutdown.cancelled() => served.as_mut().graceful_shutdown(),
        }
        served.await
    };
    match timeout(CONNECTION_DEADLINE, ended).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection to the pages broke"),
        Err(_) => debug!("a connection to the pages took too long"),
    }
}

fn router(pages: Arc<Pages>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/studies/{study}/{file}", get(study_file))
        .route("/metrics", get(metrics_text))
        .layer(middleware::from_fn_with_state(pages.clone(), show_token))
        // A probe has no token, and learns nothing but that a coordinator is there.
        .route("/healthz", get(async || "ok\n"))
        .layer(middleware::from_fn_with_state(pages.clone(), known_host))
        .with_state(pages)
}

async fn known_host(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    if let Some(hosts) = &pages.hosts {
        let host = request.headers().get(header::HOST);
        let host = host.and_then(|value| value.to_str().ok()?.parse::<Authority>().ok());
        if !host.is_some_and(|host| hosts.contains(&host.host())) {
            note(&pages, &request, "a page under another name than localhost");
            let reason = "this address answers to localhost only\n";
            return (StatusCode::MISDIRECTED_REQUEST, reason).into_response();
        }
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn note(pages: &Pages, request: &Request, reason: &'static str) {
    if let Some(peer) = request.extensions().get::<PeerInfo>() {
        pages.refusals.note(peer.ip(), reason, "");
    }
}

async fn show_token(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let token = pages.token.as_ref();
    if token.is_none_or(|token| shows(token, request.headers())) {
        return next.run(request).await;
    }
    // A browser asks without one first.
    if request.headers().contains_key(header::AUTHORIZATION) {
        note(&pages, &request, "a page with a wrong token");
    }
    let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"fanout\", charset=\"UTF-8\"")];
    let reason = "the coordinator's token is asked for: as the password, or as a Bearer token\n";
    (StatusCode::UNAUTHORIZED, ask, reason).into_response()
}

/// Programs show the token as it is, browsers as a password under any name.
fn shows(token: &Token, headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION);
    let Some(value) = value.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let password = || {
        let decoded = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
        let pair = String::from_utf8(decoded).ok()?;
        pair.split_once(':').map(|(_, password)| format!("Bearer {password}"))
    };
    token.fits(Some(value)) || password().is_some_and(|value| token.fits(Some(&value)))
}

async fn metrics_text(State(pages): State<Arc<Pages>>) -> Response {
    let state = &pages.state;
    let finished = state.jobs.finished_counts();
    let text = metrics::text(&state.status(), finished, ProcessUsage::now());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn study_file(
    State(pages): State<Arc<Pages>>,
    Path((study, file)): Path<(String, String)>,
) -> Response {
    let path = pages.state.jobs.data().study_file(&study, &file);
    let kind = STUDY_FILES.iter().find(|(name, _)| *name == file);
    let (Some(path), Some((_, kind))) = (path, kind) else {
        return (StatusCode::NOT_FOUND, "no such study\n").into_response();
    };
    match tokio::fs::read(path).await {
        Ok(content) => ([(header::CONTENT_TYPE, *kind)], content).into_response(),
        Err(error) => {
            warn!(study, file, %error, "cannot read a study's file");
            (StatusCode::INTERNAL_SERVER_ERROR, "it cannot be read\n").into_response()
        }
    }
}

async fn front(State(pages): State<Arc<Pages>>) -> Html<String> {
    Html(page(&pages.state.status(), &pages.state.jobs.data().studies()).into_string())
}

fn page(status: &Status, studies: &[String]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "fanout" }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { "fanout" }
                h2 { "Studies" }
                (studies_table(studies))
                h2 { "Jobs" }
                (jobs_table(status))
                h2 { "Workers" }
                (workers_table(&status.workers))
                p { "fanout " (status.version) " · " a href="/metrics" { "metrics" } }
            }
        }
    }
}

fn studies_table(studies: &[String]) -> Markup {
    html! {
        @if studies.is_empty() {
            p { "None yet: " code { "coordinator study --coordinator URL" } " makes one." }
        } @else {
            table {
                @for study in studies.iter().take(STUDIES_SHOWN) {
                    tr {
                        td { a href={ "/studies/" (study) "/report.html" } { (study) } }
                        td { a href={ "/studies/" (study) "/study.json" } { "study.json" } }
                        td { a href={ "/studies/" (study) "/trials.csv" } { "trials.csv" } }
                    }
                }
            }
            @if studies.len() > STUDIES_SHOWN {
                p { "… and " (studies.len() - STUDIES_SHOWN) " older ones in the data directory." }
            }
        }
    }
}

fn jobs_table(status: &Status) -> Markup {
    html! {
        @if status.jobs.is_empty() {
            p { "None." }
        } @else {
            table {
                tr { th { "job" } th { "state" } th { "command" } }
                @for job in status.jobs.iter().rev() {
                    tr {
                        td { (job.job.id) }
                        td { (state(&job.state)) }
                        td { code { (job.job.arguments.join(" ")) } }
                    }
                }
            }
        }
    }
}

fn state(state: &JobState) -> String {
    match state {
        JobState::Waiting(0) => "next".to_owned(),
        JobState::Waiting(ahead) => format!("waits, {ahead} before it"),
        JobState::Running(p) => format!("runs {} {}/{}", p.what, p.done(), p.total),
        JobState::Finished(end) if end.message.is_empty() => {
            format!("over, exit {}", end.exit_code)
        }
        JobState::Finished(end) => format!("over, exit {}: {}", end.exit_code, end.message),
    }
}

fn workers_table(workers: &[WorkerStatus]) -> Markup {
    html! {
        @if workers.is_empty() {
            p { "None: " code { "worker --coordinator URL" } " attaches one." }
        } @else {
            table {
                tr { th { "worker" } th { "name" } th { "slots" } th { "processors" } th { "silent" } }
                @for worker in workers {
                    tr {
                        td { (worker.id) }
                        td { (worker.name) }
                        td { (worker.slots) }
                        td { (worker.facts.cpus.len()) }
                        td { (format!("{:.1} s", worker.silent.as_secs_f64())) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanout_proto::{
        control::{JobDescription, JobKind, JobStatus},
        id::JobId,
    };

    #[test]
    fn what_clients_sent_is_text_on_the_page() {
        let status = Status {
            version: "1".to_owned(),
            uptime: Duration::ZERO,
            queue_max: 1,
            workers: Vec::new(),
            jobs: vec![JobStatus {
                job: JobDescription {
                    id: JobId(1),
                    kind: JobKind::Fetch,
                    arguments: vec!["<script>".to_owned()],
                    list: None,
                },
                state: JobState::Waiting(2),
                study: String::new(),
            }],
        };
        let text = page(&status, &["2026-1".to_owned()]).into_string();
        assert!(text.contains("&lt;script&gt;") && !text.contains("<script>"));
        assert!(text.contains("href=\"/studies/2026-1/report.html\""));
        assert!(text.contains("waits, 2 before it"));
    }

    #[test]
    fn the_token_is_taken_as_bearer_and_as_password() {
        let token = Token::new("s3cret");
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            shows(&token, &headers)
        };
        assert!(with("Bearer s3cret"));
        assert!(with(&format!("Basic {}", STANDARD.encode("me:s3cret"))));
        assert!(!with(&format!("Basic {}", STANDARD.encode("s3cret:me"))));
        assert!(!with("Basic !"));
        assert!(!with("Bearer other"));
        assert!(!shows(&token, &HeaderMap::new()));
    }
}
