//! How long a busy server asks to be left alone (RFC 9110, section 10.2.3).

/// Statuses whose `Retry-After` means the server, not the resource
/// (RFC 6585, section 4; RFC 9110, section 15.6.4).
pub(crate) const fn is_busy(status: u16) -> bool {
    matches!(status, 429 | 503)
}

/// The seconds in a response's `Retry-After`; `field` finds a header field. A
/// date there counts from the response's own `Date` on, so that no clock but
/// the server's has a say; a date without one, and anything else, says nothing.
pub(crate) fn seconds<'a>(
    status: u16,
    field: impl Fn(&'static str) -> Option<&'a [u8]>,
) -> Option<u32> {
    if !is_busy(status) {
        return None;
    }
    let text = |name| std::str::from_utf8(field(name)?).ok().map(str::trim);
    let value = text("retry-after")?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than a century is as good as never.
        return Some(value.parse().unwrap_or(u32::MAX));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let date = httpdate::parse_http_date(text("date")?).ok()?;
    let left = until.duration_since(date).unwrap_or_default();
    Some(u32::try_from(left.as_secs()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(status: u16, retry_after: &str, date: Option<&str>) -> Option<u32> {
        seconds(status, |name| match name {
            "retry-after" => Some(retry_after.as_bytes()),
            "date" => date.map(str::as_bytes),
            other => panic!("{other} does not matter"),
        })
    }

    #[test]
    fn seconds_are_taken_as_they_are() {
        assert_eq!(asked(503, "120", None), Some(120));
        assert_eq!(asked(429, " 0 ", None), Some(0));
        assert_eq!(asked(503, "99999999999999999999", None), Some(u32::MAX));
        assert_eq!(seconds(503, |_| None), None);
    }

    #[test]
    fn only_a_busy_server_is_asked() {
        assert_eq!(asked(200, "120", None), None);
        assert_eq!(asked(301, "120", None), None);
    }

    #[test]
    fn a_date_counts_from_the_servers_own_date() {
        // RFC 9110, section 5.6.7: the three forms that must be understood.
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:51:07 GMT", date), Some(90));
        assert_eq!(asked(503, "Sunday, 06-Nov-94 08:49:38 GMT", date), Some(1));
        assert_eq!(asked(503, "Sun Nov  6 08:49:39 1994", date), Some(2));
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:00:00 GMT", date), Some(0));
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:51:07 GMT", None), None);
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:51:07 GMT", Some("soon")), None);
    }

    #[test]
    fn anything_else_says_nothing() {
        for text in ["", "-1", "1.5", "soon", "1 2", "+3", "\u{e9}"] {
            assert_eq!(asked(503, text, Some("Sun, 06 Nov 1994 08:49:37 GMT")), None);
        }
    }
}
