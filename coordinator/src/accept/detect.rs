//! What a connection begins with, and what to answer when that is not what the port speaks. Pure.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Grpc,
    GrpcInTls,
    Http1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Tls,
    Unknown,
}

/// The first bytes that every HTTP/2 client sends (RFC 9113 section 3.4), up
/// to where no other version can be meant.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n";
/// Bytes that tell everything apart.
pub(crate) const DETECT_BYTES: usize = HTTP2.len();

impl Protocol {
    /// Tells what `bytes` begin; `None` until more have come.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        // A handshake record (RFC 8446 section 5.1).
        if first == 0x16 {
            return Some(Self::Tls);
        }
        if bytes.starts_with(HTTP2) {
            return Some(Self::Http2);
        }
        if HTTP2.starts_with(bytes) {
            return None;
        }
        let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase());
        let length = method.count();
        match bytes.get(length) {
            // Whatever it is, it is told that in HTTP.
            _ if length >= DETECT_BYTES => Some(Self::Http1),
            Some(b' ') if length > 0 => Some(Self::Http1),
            Some(_) => Some(Self::Unknown),
            None => None,
        }
    }
}

impl Speaks {
    pub(crate) fn check(self, protocol: Protocol) -> Result<(), &'static str> {
        match (self, protocol) {
            (Self::Grpc, Protocol::Http2)
            | (Self::GrpcInTls, Protocol::Tls)
            | (Self::Http1, Protocol::Http1) => Ok(()),
            (Self::Grpc | Self::Http1, Protocol::Tls) => {
                Err("TLS to a port that speaks plain text")
            }
            (Self::GrpcInTls, _) => Err("plain text to a port that speaks TLS"),
            (Self::Grpc, Protocol::Http1) => Err("HTTP/1 to the gRPC port"),
            (Self::Http1, Protocol::Http2) => Err("HTTP/2 to the pages, which speak HTTP/1.1"),
            (Self::Grpc | Self::Http1, Protocol::Unknown) => Err("what came is no HTTP"),
        }
    }

    /// What a peer that speaks something else is told, in its own words.
    pub(crate) fn answer(self, protocol: Protocol) -> Vec<u8> {
        let text = match self {
            Self::Grpc => "this port speaks gRPC; the pages are on another one",
            Self::GrpcInTls => "this port speaks gRPC in TLS: use https://",
            Self::Http1 => "the pages speak HTTP/1.1",
        };
        match protocol {
            Protocol::Http1 => format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{text}\n",
                text.len() + 1
            )
            .into_bytes(),
            Protocol::Http2 => http2_goodbye(text),
            // A fatal alert: protocol_version (RFC 8446 section 6).
            Protocol::Tls => vec![0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46],
            Protocol::Unknown => Vec::new(),
        }
    }
}

/// Empty SETTINGS, which must come first, and GOAWAY with the reason in words
/// (RFC 9113 sections 6.5 and 6.8).
fn http2_goodbye(text: &str) -> Vec<u8> {
    const HTTP_1_1_REQUIRED: u32 = 0xd;
    let mut bytes = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
    let length = u32::try_from(8 + text.len()).unwrap_or(8);
    bytes.extend_from_slice(&length.to_be_bytes()[1..]);
    bytes.extend_from_slice(&[7, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&0_u32.to_be_bytes());
    bytes.extend_from_slice(&HTTP_1_1_REQUIRED.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn protocols_are_known_by_their_first_bytes() {
        let of = |bytes: &[u8]| Protocol::of(bytes);
        assert_eq!(of(b""), None);
        assert_eq!(of(b"PRI * HTTP"), None);
        assert_eq!(of(b"PRI * HTTP/2.0\r\n\r\nSM"), Some(Protocol::Http2));
        assert_eq!(of(b"PRI /x HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(of(b"P"), None);
        assert_eq!(of(b"PO"), None);
        assert_eq!(of(b"POST / HTTP/1.1"), Some(Protocol::Http1));
        assert_eq!(of(b"GET "), Some(Protocol::Http1));
        assert_eq!(of(b"\x16\x03\x01"), Some(Protocol::Tls));
        assert_eq!(of(b"SSH-2.0"), Some(Protocol::Unknown));
        assert_eq!(of(b"\0"), Some(Protocol::Unknown));
        assert_eq!(of(&[b'A'; 15]), None);
        assert_eq!(of(&[b'A'; 16]), Some(Protocol::Http1));
        assert_eq!(of(&[b'A'; 64]), Some(Protocol::Http1));
    }

    #[test]
    fn each_port_takes_its_own_only() {
        use Protocol as O;
        for (speaks, own) in
            [(Speaks::Grpc, O::Http2), (Speaks::GrpcInTls, O::Tls), (Speaks::Http1, O::Http1)]
        {
            for protocol in [O::Http1, O::Http2, O::Tls, O::Unknown] {
                assert_eq!(speaks.check(protocol).is_ok(), protocol == own);
            }
        }
    }

    proptest! {
        #[test]
        fn enough_bytes_always_tell(bytes in prop::collection::vec(any::<u8>(), DETECT_BYTES..64)) {
            prop_assert!(Protocol::of(&bytes).is_some());
        }

        #[test]
        fn more_bytes_never_change_the_answer(bytes in prop::collection::vec(prop_oneof![any::<u8>(), b'A'..=b'Z', prop::sample::select(HTTP2.to_vec())], 1..40), cut in 1_usize..40) {
            let cut = cut.min(bytes.len());
            if let Some(early) = Protocol::of(&bytes[..cut]) {
                prop_assert_eq!(Protocol::of(&bytes), Some(early));
            }
        }
    }
}
