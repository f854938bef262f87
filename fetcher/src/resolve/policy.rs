//! Which addresses may be connected to.
//!
//! A worker that takes lists from others must not be a way into the network
//! that it stands in. So addresses are judged, not names: a name's, after it
//! was resolved and before anything connects, on every redirect too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::LookupError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Policy {
    #[default]
    Any,
    /// Only those that lead into the public internet.
    PublicOnly,
}

impl Policy {
    pub(crate) fn new(deny_private: bool) -> Self {
        if deny_private { Self::PublicOnly } else { Self::Any }
    }

    pub(crate) fn allows(self, address: IpAddr) -> bool {
        self == Self::Any || is_public(address)
    }

    /// Those of a host's addresses that may be connected to.
    pub(super) fn admit(
        self,
        host: &str,
        mut addresses: Vec<IpAddr>,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let first = addresses.first().copied();
        addresses.retain(|address| self.allows(*address));
        match first {
            Some(address) if addresses.is_empty() => {
                Err(LookupError::Denied { host: host.to_owned(), address })
            }
            _ => Ok(addresses),
        }
    }
}

/// Neither loopback, nor link-local (where clouds keep their metadata), nor private, nor anything
/// else that the IANA special-purpose address registries (RFC 6890) do not call globally reachable.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    /// Azure's platform service: a public address that every virtual machine
    /// there finds on its own host.
    const AZURE_HOST: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        // This network, private, loopback.
        (0 | 10 | 127, _, _) => true,
        // Shared by a carrier's customers (RFC 6598).
        (100, 64..=127, _) => true,
        (169, 254, _) | (172, 16..=31, _) | (192, 168, _) => true,
        // Protocol assignments, documentation, 6to4 relays, benchmarks.
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 18 | 19, _) => true,
        (198, 51, 100) | (203, 0, 113) => true,
        // Multicast, reserved, broadcast.
        (224.., _, _) => true,
        _ => address == AZURE_HOST,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // IPv4 in another dress: mapped, and behind a translator (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(v4(high, low))
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Teredo, other protocol assignments, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast is all that is handed out; the rest is loopback, unique
        // local, link-local, multicast, or not handed out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public_in_any_dress() {
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            let address = special.parse().unwrap();
            assert!(!Policy::PublicOnly.allows(address), "{special}");
            assert!(Policy::Any.allows(address));
        }
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "64:ff9b::808:808",
            "::ffff:1.1.1.1",
        ] {
            assert!(Policy::PublicOnly.allows(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_host_with_one_public_address_is_reached_there_only() {
        let list = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let policy = Policy::PublicOnly;
        assert_eq!(
            policy.admit("a.example", list(&["10.0.0.1", "1.1.1.1"])),
            Ok(list(&["1.1.1.1"]))
        );
        assert_eq!(
            policy.admit("a.example", list(&["10.0.0.1", "::1"])).unwrap_err().to_string(),
            "this worker does not fetch from private addresses, and 'a.example' is at 10.0.0.1"
        );
    }
}
