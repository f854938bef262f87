//! Small servers that do what a test wants.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What follows a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Keep,
    Close,
    /// The connection is cut with a reset.
    Reset,
    /// Nothing more happens, until the client goes.
    Stall,
}

/// A server; its threads end with the process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Calls `answer` with each request's head and where its answer goes.
    pub(crate) fn start(
        answer: impl Fn(&str, &mut dyn Write) -> io::Result<After> + Send + Sync + 'static,
    ) -> Self {
        Self::start_on("127.0.0.1:0", answer).unwrap()
    }

    /// A server at this address; `None` where there is no such address.
    pub(crate) fn start_on(
        address: &str,
        answer: impl Fn(&str, &mut dyn Write) -> io::Result<After> + Send + Sync + 'static,
    ) -> Option<Self> {
        let listener = TcpListener::bind(address).ok()?;
        Some(Self::listen("http", listener, answer, |stream| Ok(Box::new(stream))))
    }

    pub(crate) fn start_tls(
        config: Arc<ServerConfig>,
        answer: impl Fn(&str, &mut dyn Write) -> io::Result<After> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::listen("https", listener, answer, move |stream| {
            let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            Ok(Box::new(StreamOwned::new(connection, stream)))
        })
    }

    fn listen(
        scheme: &'static str,
        listener: TcpListener,
        answer: impl Fn(&str, &mut dyn Write) -> io::Result<After> + Send + Sync + 'static,
        wrap: impl Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + Sync + 'static,
    ) -> Self {
        let server = Self {
            address: listener.local_addr().unwrap(),
            scheme,
            connections: Arc::default(),
            heads: Arc::default(),
        };
        let (connections, heads) = (server.connections.clone(), server.heads.clone());
        let shared = Arc::new((answer, wrap));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (heads, shared) = (heads.clone(), shared.clone());
                thread::spawn(move || {
                    // A client that goes away is no concern of the server.
                    let _ = serve(stream, &heads, &shared.0, &shared.1);
                });
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub(crate) fn url_by_name(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.address.port())
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

fn serve(
    stream: TcpStream,
    heads: &Mutex<Vec<String>>,
    answer: &impl Fn(&str, &mut dyn Write) -> io::Result<After>,
    wrap: &impl Fn(TcpStream) -> io::Result<Box<dyn Stream>>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let raw = stream.try_clone()?;
    let mut reader = BufReader::new(wrap(stream)?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        heads.lock().unwrap().push(head.clone());
        match answer(&head, reader.get_mut())? {
            After::Keep => {}
            After::Close => return Ok(()),
            After::Reset => {
                rustix::net::sockopt::set_socket_linger(&raw, Some(Duration::ZERO))?;
                return Ok(());
            }
            After::Stall => {
                let _ = reader.read(&mut [0])?;
                return Ok(());
            }
        }
    }
}

/// Writes a whole response with a length.
pub(crate) fn respond(
    out: &mut dyn Write,
    status: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<After> {
    write!(out, "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len())?;
    out.write_all(body)?;
    Ok(After::Keep)
}

/// The request's path.
pub(crate) fn path(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}
