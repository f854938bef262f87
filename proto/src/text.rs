//! Texts from peers, for people: they end up in logs, on terminals, on pages.

use crate::limits::REASON_MAX_BYTES;

/// `text` without control characters, cut at a character's edge to at most `max_bytes`.
pub fn plain(text: &str, max_bytes: usize) -> String {
    let cut = &text[..text.floor_char_boundary(max_bytes)];
    let shown = |c: char| if is_plain(c) { c } else { ' ' };
    let plain: String = cut.chars().map(shown).collect();
    plain
}

/// A peer's reason for something, made harmless.
pub fn reason(text: &str) -> String {
    plain(text, REASON_MAX_BYTES)
}

/// Whether `c` changes nothing but its own place: no control character, and
/// none that turns the direction of what follows.
pub fn is_plain(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// An error with all its causes: a transport's own words are only "transport error".
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_turns_a_line_goes() {
        assert_eq!(plain("a\x1b[2Jb\nc\u{202e}d", 100), "a [2Jb c d");
        assert_eq!(plain("äöü", 3), "ä");
        assert_eq!(reason(&"x".repeat(REASON_MAX_BYTES + 1)).len(), REASON_MAX_BYTES);
    }
}
