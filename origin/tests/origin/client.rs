//! A client that hides nothing.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    num::NonZeroUsize,
    time::Duration,
};

use fanout_origin::{OriginServer, ServerSettings, Stats};

/// Long enough for any machine; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// An origin on a free port.
pub(crate) fn origin() -> OriginServer {
    origin_with(&ServerSettings::default())
}

pub(crate) fn origin_with(settings: &ServerSettings) -> OriginServer {
    let any = "127.0.0.1:0".parse().unwrap();
    OriginServer::start(any, None, settings).unwrap()
}

pub(crate) fn threads(count: usize) -> ServerSettings {
    ServerSettings { threads: NonZeroUsize::new(count).unwrap(), ..ServerSettings::default() }
}

/// One connection.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
}

/// A head and a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            (found == name).then_some(value)
        })
    }
}

pub(crate) fn connect(origin: &OriginServer) -> TcpStream {
    let stream = TcpStream::connect(origin.http_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl Client {
    pub(crate) fn new(origin: &OriginServer) -> Self {
        Self { stream: connect(origin) }
    }

    /// Whether nothing at all comes for a moment.
    pub(crate) fn hears_nothing(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        let heard = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(heard, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn ask(&mut self, target: &str) {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.ask(target);
        self.response()
    }

    /// Reads the head byte by byte, so that nothing after it is taken.
    pub(crate) fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// Reads a response that has a Content-Length.
    pub(crate) fn response(&mut self) -> Response {
        let mut response = Response { head: self.head(), body: Vec::new() };
        let length = response.field("Content-Length").unwrap().parse().unwrap();
        response.body.resize(length, 0);
        self.stream.read_exact(&mut response.body).unwrap();
        response
    }

    /// Reads to the connection's end.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        String::from_utf8(rest).unwrap()
    }

    /// Reads until the connection is reset.
    pub(crate) fn reset(&mut self) -> String {
        let mut rest = Vec::new();
        let error = self.stream.read_to_end(&mut rest).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        String::from_utf8(rest).unwrap()
    }
}

/// Waits until the counters are as they should be: what a client has seen
/// and what the server has noticed may be a moment apart.
pub(crate) fn eventually(origin: &OriginServer, what: impl Fn(&Stats) -> bool) -> Stats {
    let mut stats = origin.stats();
    for _ in 0..4000 {
        if what(&stats) {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(5));
        stats = origin.stats();
    }
    panic!("the counters never got there: {stats:#?}");
}
