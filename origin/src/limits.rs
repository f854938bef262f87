//! Every limit and default of the origin, in one place.

use std::time::Duration;

/// Longest request head (request line and header section), in bytes. A URL
/// may have 16 KiB; the rest is for header fields.
pub(crate) const REQUEST_HEAD_MAX_BYTES: usize = 32 * 1024;
pub(crate) const REQUEST_HEADERS_MAX: usize = 100;
/// Largest request body that is read and thrown away.
pub(crate) const REQUEST_BODY_MAX_BYTES: u64 = 1024 * 1024;
/// A connection's read buffer at first; it grows for long heads only.
pub(crate) const READ_BUFFER_BYTES: usize = 1024;
/// Most connections open at a time; more wait in the kernel's queue.
pub(crate) const CONNECTIONS_MAX: usize = 65_536;
/// Connections that the kernel holds until they are accepted (`net.core.somaxconn` may lower it).
pub(crate) const BACKLOG: i32 = 4096;
pub(crate) const THREADS_MAX: usize = 256;

/// Size of a body when the URL names none.
pub(crate) const SIZE_DEFAULT_BYTES: u64 = 64;
/// Largest body that a URL can ask for.
pub(crate) const SIZE_MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// Longest delay that a URL can ask for; a lognormal sample is cut there.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(60);
/// Largest sigma of a lognormal delay.
pub(crate) const SIGMA_MAX: f64 = 4.0;
pub(crate) const REDIRECTS_MAX: u32 = 1000;
/// Most extra header fields, interim responses, and visits to a URL that
/// `busy` can ask to be turned away.
pub(crate) const REPEATS_MAX: u32 = 1_000_000;
/// Longest extra header line.
pub(crate) const HEADER_LINE_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Highest rate of a slow response, in bytes a second.
pub(crate) const SLOW_MAX_BYTES_PER_S: u32 = 10_000_000;
/// Longest `Retry-After`, in seconds.
pub(crate) const RETRY_AFTER_MAX_S: u32 = 86_400;
/// URLs whose visits are counted; one past that is never busy.
pub(crate) const VISITS_MAX: usize = 65_536;
/// Longest piece of a bad parameter that an error message repeats, in characters.
pub(crate) const ECHO_MAX_CHARS: usize = 60;

/// How long a connection may make no progress: an idle one, a request head
/// that does not end, a client that does not read.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stalled response keeps its connection open.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(3600);
/// How long a refused client may go on sending before its connection ends.
pub(crate) const LINGER_MAX: Duration = Duration::from_secs(1);
/// Pause after the system had no descriptor left for a connection.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A response piece up to this size is copied beside its head, so that a
/// small response is one plain write; larger ones are gathered, not copied.
pub(crate) const INLINE_MAX_BYTES: u64 = 1024;
/// Most bytes that one gathering write is offered.
pub(crate) const WRITE_MAX_BYTES: u64 = 256 * 1024;
/// Writes of a slow response in a second, at most.
pub(crate) const SLOW_WRITES_PER_S: u32 = 100;
