//! Small pieces of sentences.

use crate::format;

/// How many of something: `1 URL`, `1,000 URLs`.
pub(crate) fn counted(n: u64, noun: &str) -> String {
    let ending = if n == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", format::count(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "URL"), "1 URL");
        assert_eq!(counted(0, "block"), "0 blocks");
        assert_eq!(counted(1_000, "URL"), "1,000 URLs");
    }
}
