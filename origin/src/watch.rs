//! Descriptors that the runtime watches.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Watches a descriptor until it can be read.
#[allow(
    deprecated,
    reason = "the successor is unsafe to call, for types that only lend a descriptor; \
              OwnedFd owns the one it names for as long as it is watched"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
