//! Numbers: as text, and between the widths of memory and of the wire.

/// A length in memory as the 64 bits that sizes are counted in.
pub(crate) fn to_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits into 64 bits")
}

/// The length of something that is in memory.
pub(crate) fn to_usize(length: u64) -> usize {
    usize::try_from(length).expect("a length in memory fits")
}

pub(crate) fn whole(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A plain decimal number: digits, at most one point, no sign, no exponent.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (plain && text.len() <= 20).then(|| text.parse().ok()).flatten()
}
