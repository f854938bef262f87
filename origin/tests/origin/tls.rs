//! The same over TLS, with the certificate made at the start.

use std::{
    io::{self, Read},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use fanout_origin::{OriginServer, ServerSettings};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::client::{Client, eventually};

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn origin() -> OriginServer {
    let any = "127.0.0.1:0".parse().unwrap();
    OriginServer::start(any, Some(any), &ServerSettings::default()).unwrap()
}

fn connect(origin: &OriginServer, name: &str) -> Client<Stream> {
    let mut roots = RootCertStore::empty();
    let pem = origin.certificate_pem().unwrap();
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(origin.https_addr().unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    Client { stream: StreamOwned::new(session, socket) }
}

#[test]
fn the_certificate_is_good_for_its_names() {
    let origin = origin();
    for name in ["localhost", "127.0.0.1", "::1", "origin"] {
        let mut client = connect(&origin, name);
        assert_eq!(client.get("/?size=3").text(), "fan", "{name}");
    }
    let mut wrong = connect(&origin, "example.org");
    assert!(io::Write::write(&mut wrong.stream, b"GET").is_err());
    drop(wrong);
    let stats = eventually(&origin, |stats| stats.connections_unused == 1);
    assert_eq!(stats.connections_accepted, 4);
}

#[test]
fn what_is_wrong_is_chosen_by_name() {
    let origin = origin();
    let refusal = |label: &str| {
        let mut client = connect(&origin, &format!("{label}.localhost"));
        let error = io::Write::write(&mut client.stream, b"GET").unwrap_err();
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(what)) => format!("{what:?}"),
            _ => format!("{:?}", error.kind()),
        }
    };
    assert!(refusal("wrong-name").starts_with("NotValidForName"));
    assert!(refusal("expired").starts_with("Expired"));
    assert_eq!(refusal("self-signed"), "UnknownIssuer");
    assert_eq!(refusal("unknown-issuer"), "UnknownIssuer");
    assert_eq!(refusal("reset"), "ConnectionReset");
    assert_eq!(refusal("close"), "UnexpectedEof");
    assert_eq!(refusal("plain"), "InvalidData");
    let stats = eventually(&origin, |stats| stats.connections_unused == 7);
    assert_eq!(stats.connections_accepted, 0);
}

#[test]
fn a_handshake_may_stall() {
    let origin = origin();
    let mut client = connect(&origin, "stall.localhost");
    let socket = &client.stream.sock;
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let error = io::Write::write(&mut client.stream, b"GET").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    // And the origin goes on.
    assert_eq!(connect(&origin, "localhost").get("/").body.len(), 64);
}

#[test]
fn base_urls_name_both_schemes() {
    let origin = origin();
    let https = origin.https_addr().unwrap();
    assert_eq!(
        origin.base_urls(),
        [format!("http://{}", origin.http_addr()), format!("https://{https}")]
    );
}

#[test]
fn requests_follow_each_other_over_tls() {
    let origin = origin();
    let mut client = connect(&origin, "localhost");
    for size in [0usize, 100, 100_000] {
        let target = format!("/?size={size}&delay=100us");
        assert_eq!(client.get(&target).body.len(), size);
    }
    assert_eq!(client.get("/?split&size=40").body.len(), 40);
    client.ask("/?chunked&size=20000");
    assert!(client.head().contains("chunked"));
}

#[test]
fn a_close_is_told_and_a_truncation_is_not() {
    let origin = origin();
    let mut closed = connect(&origin, "localhost");
    closed.ask("/?close&size=5");
    closed.head();
    assert_eq!(closed.rest(), "fanou");
    let mut cut = connect(&origin, "localhost");
    cut.ask("/?truncate&size=10");
    cut.head();
    let mut rest = Vec::new();
    let error = cut.stream.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(rest, b"fanou");
}

#[test]
fn a_reset_reaches_through_tls() {
    let origin = origin();
    let mut client = connect(&origin, "localhost");
    client.ask("/?reset");
    assert_eq!(client.reset(), "");
}

#[test]
fn plain_http_to_the_tls_port_harms_nobody() {
    let origin = origin();
    let mut plain = TcpStream::connect(origin.https_addr().unwrap()).unwrap();
    io::Write::write_all(&mut plain, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    eventually(&origin, |stats| stats.connections_unused == 1);
    assert_eq!(connect(&origin, "localhost").get("/").body.len(), 64);
}
