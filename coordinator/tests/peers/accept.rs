//! Peers that do not speak what the port speaks, or nothing.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::transport::{Identity, ServerTlsConfig};

use crate::made_up::{Coordinator, MadeUp, PATIENCE};

/// What comes back for these bytes, to the connection's end.
async fn answer(coordinator: &Coordinator, bytes: &[u8]) -> Vec<u8> {
    let address = coordinator.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A reset ends a connection as well.
    let _ = read.expect("the connection is closed");
    answer
}

#[tokio::test]
async fn each_wrong_protocol_is_answered_in_its_own_words_and_closed() {
    let mut coordinator = Coordinator::start().await;
    let http = answer(&coordinator, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let http = String::from_utf8(http).unwrap();
    assert!(http.starts_with("HTTP/1.1 400 "), "{http}");
    assert!(http.ends_with("this port speaks gRPC; the pages are on another one\n"));
    let tls = answer(&coordinator, b"\x16\x03\x01\x00\x05hello").await;
    assert_eq!(tls[..1], [0x15], "a TLS alert");
    assert_eq!(answer(&coordinator, b"SSH-2.0-x\r\n").await, b"");
    assert_eq!(answer(&coordinator, &[0; 4096]).await, b"");
    let _honest = MadeUp::attach(&coordinator.url, "honest").await;
    coordinator.gather(1).await;
    coordinator.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_tls_port_says_so_in_plain_text_and_waits_for_no_handshake() {
    // Another test may have done it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let tls = ServerTlsConfig::new().identity(identity);
    let coordinator = Coordinator::start_with(Some(tls)).await;
    for asked in
        [&b"POST /fanout.v1.Fleet/Attach HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let said = answer(&coordinator, asked).await;
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("use https://"), "{said:?}");
    }
    assert_eq!(answer(&coordinator, b"\0\0\0").await, b"");
    // A handshake that begins, and then nothing comes.
    answer(&coordinator, b"\x16\x03\x01\x02\x00\x01").await;
    coordinator.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_stops_half_way_is_closed_in_time() {
    let coordinator = Coordinator::start().await;
    assert_eq!(answer(&coordinator, b"").await, b"");
    assert_eq!(answer(&coordinator, b"PRI * HT").await, b"");
    // HTTP/2 begins, and then nothing comes.
    let settings = answer(&coordinator, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(settings.get(3), Some(&4), "{settings:?}");
    coordinator.end().await;
}

#[tokio::test]
async fn a_thousand_silent_connections_keep_nobody_out() {
    let mut coordinator = Coordinator::start().await;
    let address = coordinator.url.strip_prefix("http://").unwrap().to_owned();
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        match TcpStream::connect(&address).await {
            Ok(stream) => silent.push(stream),
            // This process's own limit of open files.
            Err(_) => break,
        }
    }
    assert!(silent.len() > 100);
    silent.truncate(silent.len() - 8);
    let _honest = MadeUp::attach(&coordinator.url, "honest").await;
    coordinator.gather(1).await;
    drop(silent);
    coordinator.end().await;
}
