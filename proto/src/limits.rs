//! Every limit of the wire and of the way of a URL, in one place.

/// Longest URL, in bytes. RFC 9110 section 4.1 asks for at least 8,000.
pub const URL_MAX_BYTES: usize = 16 * 1024;
/// Most URLs in one lease batch or completions in one batch.
pub const BATCH_MAX_URLS: usize = 4096;
/// Most bytes of URL text in one lease batch.
pub const BATCH_MAX_BYTES: usize = 256 * 1024;
/// Largest frame between worker and fetcher; well under gRPC's 4 MiB.
pub const FRAME_MAX_BYTES: usize = 1024 * 1024;
/// Most URLs that one fetcher may hold.
pub const CREDIT_MAX_URLS: u32 = 65_536;
/// Most URLs in flight in one fetcher.
pub const CONCURRENCY_MAX: u32 = 65_536;
/// Most fetchers in one trial.
pub const FETCHERS_MAX: u32 = 4096;
/// Longest detail text that a failure carries, in bytes.
pub const DETAIL_MAX_BYTES: usize = 240;
/// Most failure details in one batch; failures past that carry none.
pub const DETAILS_MAX: usize = 64;
/// Longest name of a worker, and longest fact about its machine, in bytes.
pub const NAME_MAX_BYTES: usize = 128;
/// Processors that a worker may name.
pub const CPUS_MAX: usize = 4096;
/// Longest reason that a peer gives for something, in bytes; more is cut off.
pub const REASON_MAX_BYTES: usize = 2048;
/// Longest time that a fetcher may tell: no trial runs for ten years.
pub const TIME_MAX: std::time::Duration = std::time::Duration::from_secs(10 * 366 * 24 * 3600);
/// Most bytes that a body can have: a response of a mebibyte a second would take ten years.
pub const BODY_MAX_BYTES: u64 = 1 << 48;
/// Completions leave a fetcher at the latest this long after the first of a batch.
pub const FLUSH_AFTER: std::time::Duration = std::time::Duration::from_millis(20);
/// Largest response header section, in bytes.
pub const HEADER_MAX_BYTES: usize = 64 * 1024;
/// Most header fields in one response.
pub const HEADERS_MAX: usize = 128;
/// Longest timeout that can be set: the histograms end there.
pub const TIMEOUT_MAX: std::time::Duration = std::time::Duration::from_secs(3600);
/// Most bytes of a list, of a journal or of results in one message between client and coordinator.
pub const PART_MAX_BYTES: usize = 64 * 1024;
/// Most arguments of a submission.
pub const ARGUMENTS_MAX: usize = 4096;
/// Most bytes of a submission's arguments and certificates together.
pub const SUBMISSION_MAX_BYTES: usize = 1024 * 1024;
/// Most bytes of a submitted list; it is kept on disk.
pub const LIST_MAX_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// Most URLs in a list, repeats counted: the ledger keeps a bit for each.
pub const URLS_MAX: u64 = 1 << 33;
