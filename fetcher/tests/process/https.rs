//! TLS: whom to trust, and how long to wait.

use std::{fs, sync::Arc, thread};

use fanout_proto::completion::Outcome;
use libtest_mimic::Trial;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::{
    fetcher::{ALL, Arm, Fetcher, fetch, name, setup, verdict},
    http::most_connections,
    server::{Server, path, respond},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    ALL.into_iter()
        .flat_map(|arm| {
            [
                trial(format!("https::trust::{}", name(arm)), move || trust(arm)),
                trial(format!("https::keep_alive::{}", name(arm)), move || {
                    keep_alive(arm);
                }),
                trial(format!("https::system_roots::{}", name(arm)), move || system_roots(arm)),
            ]
        })
        .collect()
}

/// A server's configuration for these names, and the PEM of who vouches for it.
fn identity(names: &[&str]) -> (Arc<ServerConfig>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (Arc::new(config), authority.pem())
}

fn trust(arm: Arm) {
    let (config, authority) = identity(&["127.0.0.1", "localhost"]);
    let server = Server::start_tls(config, |_, out| respond(out, "200 OK", "", &[b'x'; 50_000]));
    let (url, by_name) = (server.url("/"), server.url_by_name("/"));

    let mut setup = setup(arm);
    let stranger = verdict(&setup, &url);
    assert_eq!((stranger.0, stranger.1), (Outcome::Tls, None), "{}", stranger.3);

    setup.http.insecure = true;
    let anyone = verdict(&setup, &url);
    assert_eq!((anyone.0, anyone.2), (Outcome::Ok, 50_000), "{}", anyone.3);

    setup.http.insecure = false;
    setup.http.ca_certificates = authority.into();
    for url in [url, by_name] {
        let trusted = verdict(&setup, &url);
        assert_eq!((trusted.0, trusted.2), (Outcome::Ok, 50_000), "{}", trusted.3);
    }

    // Vouched for, but somebody else.
    let (config, authority) = identity(&["somebody.example"]);
    let server = Server::start_tls(config, |_, out| respond(out, "200 OK", "", b"x"));
    setup.http.ca_certificates = authority.into();
    let impostor = verdict(&setup, &server.url("/"));
    assert_eq!(impostor.0, Outcome::Tls, "{}", impostor.3);

    // Not TLS at all.
    let plain = Server::start(|_, out| respond(out, "200 OK", "", b"x"));
    let url = plain.url("/").replace("http:", "https:");
    // What the greeting makes of itself as a request has no end, so it waits.
    setup.http.timeout = std::time::Duration::from_millis(300);
    setup.http.connect_timeout = setup.http.timeout;
    let found = verdict(&setup, &url);
    assert!(matches!(found.0, Outcome::Tls | Outcome::Connect | Outcome::Timeout), "{found:?}");
}

fn keep_alive(arm: Arm) {
    let (config, authority) = identity(&["127.0.0.1"]);
    let server = Server::start_tls(config, |_, out| respond(out, "200 OK", "", b"x"));
    let mut setup = setup(arm);
    setup.http.ca_certificates = authority.into();
    let life = fetch(&setup, &vec![server.url("/"); 40]);
    for found in life.gathered.by_id().values() {
        assert_eq!(found.0, Outcome::Ok, "{}", found.3);
    }
    assert!(server.connections() <= most_connections(&setup));
}

/// The system's certificates stand in a pipe: who reads them waits for somebody to write them.
fn system_roots(arm: Arm) {
    let (config, authority) = identity(&["127.0.0.1"]);
    let secure = Server::start_tls(config, |_, out| respond(out, "200 OK", "", b"x"));
    let there = secure.url("/");
    let plain = Server::start(move |head, out| match path(head) {
        "/to-https" => respond(out, "302 x", &format!("location: {there}\r\n"), b""),
        _ => respond(out, "200 OK", "", b"x"),
    });
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots.pem");
    mkfifoat(CWD, &roots, Mode::RUSR | Mode::WUSR).unwrap();
    let write = || {
        let roots = roots.clone();
        let authority = authority.clone();
        thread::spawn(move || fs::write(roots, authority).unwrap())
    };
    let mut setup = setup(arm);

    // A list without https reads them when a redirect leads there, and only once.
    let mut fetcher = Fetcher::ready_where_roots_are(&roots, &setup);
    fetcher.lease([(0, plain.url("/"))]);
    fetcher.go();
    assert_eq!(fetcher.completions(1).by_id()[&0].0, Outcome::Ok);
    fetcher.lease((1..20).map(|id| (id, plain.url("/to-https"))));
    let written = write();
    for (outcome, _, _, detail) in fetcher.completions(19).by_id().values() {
        assert_eq!(*outcome, Outcome::Ok, "{detail}");
    }
    written.join().unwrap();
    fetcher.hold();
    fetcher.exit();

    // A list with https reads them before Ready.
    setup.https = true;
    let written = write();
    let mut fetcher = Fetcher::ready_where_roots_are(&roots, &setup);
    written.join().unwrap();
    fetcher.lease([(0, secure.url("/"))]);
    fetcher.go();
    assert_eq!(fetcher.completions(1).by_id()[&0].0, Outcome::Ok);
    fetcher.hold();
    fetcher.exit();
}
