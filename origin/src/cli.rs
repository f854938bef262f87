//! The command: `origin`, and `coordinator origin`.

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{server::OriginServer, spec::Delay, thread::ServerSettings};

const AFTER_HELP: &str = "\
Every path answers; the query says how. Without a query: status 200, 64 bytes.

  curl -i 'http://127.0.0.1:8080/?size=20'
  curl -i 'http://127.0.0.1:8080/7?delay=lognormal:20ms:0.5&size=1k..64k'
  curl -iL 'http://127.0.0.1:8080/?redirect=3&gzip' --compressed
  curl 'http://127.0.0.1:8080/stats'

See --help for the whole language.";

const AFTER_LONG_HELP: &str = "\
Every path answers; the query says how. Without a query: status 200, 64 bytes of text.
Random delays and sizes depend on --seed and on the URL's path and query only: the same
URL always gets the same ones.

  what is served
    delay=5ms | 800us | 1ms..20ms | lognormal:20ms:0.5   before the response (at most 60s)
    size=64 | 4k | 1M | 1k..64k                          of the body (at most 1G)
    status=503    retry-after=2    interim=3 (102s before)
    busy=2 (503, or the status given, for the first 2 requests of a URL; then 200)
    headers=10 (fields more)       header-size=1M (a long one)
    chunked | close (body to the connection's end)
    gzip | br | zstd    bomb (with one of them: zeros, up to 16,000 bytes in one)
    redirect=3 (a chain, the rest kept) | redirect=loop | redirect-to=URL
    slow=10 (bytes of the body a second) | slow-head=10 (of all) | split (byte by byte)
    idle-close (closes after the response, unannounced)

  what goes wrong (one of)
    stall | reset | truncate, each with =before, in-head, after-head, in-body or after
    endless[=body|head]    length-lie[=short|long]    extra (a second response)
    bad-chunk[=size|huge|no-crlf|endless|trailers]
    bad-head[=garbage|none|nul|control|cr|two-lengths|space|switch]
    if-reused (only on a connection that has served a request before)

  what goes wrong with TLS, by the name asked for (all lead to this machine)
    https://expired.localhost:PORT/    wrong-name | self-signed | unknown-issuer
    https://stall.localhost:PORT/      reset | close | plain (no TLS at all)

  what was served
    /stats          counters in JSON            /stats/reset    the same, then anew

Examples:
  origin                                          serve on 127.0.0.1:8080
  origin --listen 127.0.0.1:0                     on a free port; the first line says which
  origin --tls-listen 127.0.0.1:8443 --write-certificate origin.pem
  curl --cacert origin.pem 'https://localhost:8443/?size=1k'
  curl --cacert origin.pem 'https://expired.localhost:8443/'     curl: (60) … certificate has expired
  curl -i 'http://127.0.0.1:8080/7?delay=lognormal:20ms:0.5&size=1k..64k'
  curl -iL 'http://127.0.0.1:8080/?redirect=3&gzip' --compressed
  curl 'http://127.0.0.1:8080/?truncate'          curl: (18) … bytes remaining to read";

/// Serve HTTP with delays, sizes and faults that each URL chooses.
///
/// Prints its base URLs, one a line, HTTP first, as soon as it serves. Ctrl-C or SIGTERM ends it.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = AFTER_HELP, after_long_help = AFTER_LONG_HELP)]
pub struct OriginArgs {
    /// Serve HTTP here; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub listen: SocketAddr,

    /// Serve HTTPS here too, with certificates made at the start
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub tls_listen: Option<SocketAddr>,

    /// Write the authority's certificate to FILE, for clients to trust (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub write_certificate: Option<PathBuf>,

    /// Draw random delays and sizes from this seed and the URL
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Serve on so many threads
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,

    /// Close connections that make no progress for so long
    #[arg(long, value_name = "D", default_value = "60s", value_parser = idle_timeout)]
    pub idle_timeout: Duration,

    /// End when standard input ends, so that a parent's death is noticed
    #[arg(long, hide = true)]
    pub exit_with_stdin: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "give an IP address and a port, such as 127.0.0.1:8080, [::1]:0 or 0.0.0.0:80".to_owned()
    })
}

fn idle_timeout(text: &str) -> Result<Duration, String> {
    match text.parse::<Delay>() {
        Ok(Delay::Fixed(limit)) if !limit.is_zero() => Ok(limit),
        Ok(_) => Err("give a time above zero, such as 500ms or 60s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Serves until a signal, or the end of standard input if that was asked for. Prints the base URLs
/// on standard output and errors on standard error; everything else is logged. The exit code is 0
/// after a signal, 2 if it cannot serve as asked, 1 if it fails later.
pub fn run(args: &OriginArgs) -> ExitCode {
    fanout_program::raise_file_limit();
    let origin = match start(args) {
        Ok(origin) => origin,
        Err(error) => {
            eprintln!("error: the origin cannot serve: {error}");
            return ExitCode::from(2);
        }
    };
    let served = serve(&origin, args.exit_with_stdin)
        .map_err(|error| format!("the origin cannot go on: {error}"));
    match served.and_then(|()| origin.stop().map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &OriginArgs) -> Result<OriginServer, Box<dyn Error>> {
    let settings =
        ServerSettings { seed: args.seed, threads: args.threads, idle_timeout: args.idle_timeout };
    let origin = OriginServer::start(args.listen, args.tls_listen, &settings)?;
    for address in std::iter::once(origin.http_addr()).chain(origin.https_addr()) {
        if !address.ip().is_loopback() {
            tracing::warn!("listening on {address}: other machines can reach this origin");
        }
    }
    if let (Some(path), Some(pem)) = (&args.write_certificate, origin.certificate_pem()) {
        std::fs::write(path, pem).map_err(|error| {
            let path = path.display();
            format!("the certificate cannot be written to {path}: {error}")
        })?;
    }
    Ok(origin)
}

/// Says where the origin serves, and waits for a reason to end.
fn serve(origin: &OriginServer, exit_with_stdin: bool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // Not before the signals are taken: the reader of the URLs may send one.
        let mut stdout = io::stdout().lock();
        for url in origin.base_urls() {
            writeln!(stdout, "{url}")?;
        }
        stdout.flush()?;
        drop(stdout);
        let stop = origin.stop_token();
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            () = stop.cancelled() => Ok(()),
            result = stdin_ends(), if exit_with_stdin => result,
        }
    })
}

/// Waits for the end of standard input, on a thread that the process's end may leave behind.
async fn stdin_ends() -> io::Result<()> {
    let (tell, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(|| tell.send(io::copy(&mut io::stdin(), &mut io::sink()).map(drop)));
    ended.await.unwrap_or(Ok(()))
}
