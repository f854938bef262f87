//! What the kernel says of a process, of this machine and of its cgroup.
//!
//! Parsers are pure; readers around them are thin. What cannot be read is
//! `None`, never 0. The few files are read here rather than through a general
//! library: a sample reads two of them a hundred times a second and more, and
//! relative to a directory handle, which no recycled process id can mislead.

pub(crate) mod cgroup;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod process;
pub(crate) mod usage;

/// The text that follows `name` and a colon at a line's start.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A field such as `Pss:   123 kB`, in bytes.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let kib = field(text, name)?.strip_suffix("kB")?.trim_end();
    kib.parse::<u64>().ok()?.checked_mul(1024)
}
