//! Which addresses `http` steps may reach: those of the public internet, and
//! what the operator lists.
//!
//! Everything else (loopback, private networks, the addresses that clouds
//! serve credentials on, …) is refused, so that a flow cannot be used to look
//! around in the network of the worker.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Networks and hosts that may be reached although they are not public.
///
/// Read from a comma-separated list of addresses, networks and host names,
/// such as `10.1.0.0/16, ::1, intranet.example`. An empty list is one, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowList {
    networks: Vec<Network>,
    /// In lower case, without a dot at the end.
    hosts: Vec<String>,
}

/// Why a text is not an [`AllowList`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is neither an address, nor a network such as `10.0.0.0/8`, nor the name of a host"
)]
pub(crate) struct InvalidAllowList {
    entry: String,
}

impl AllowList {
    /// Reads a comma-separated list.
    ///
    /// # Errors
    /// Fails at the first entry that is no address, network or host name.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidAllowList> {
        let mut list = Self::default();
        for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            if let Some(network) = Network::parse(entry) {
                list.networks.push(network);
            } else if is_host_name(entry) {
                list.hosts.push(plain_host(entry));
            } else {
                return Err(InvalidAllowList {
                    entry: entry.to_owned(),
                });
            }
        }
        Ok(list)
    }

    /// Whether a connection to this address may be made.
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        let reached = reached_address(address);
        let listed = |network: &Network| network.contains(address) || network.contains(reached);
        self.networks.iter().any(listed) || is_public(reached)
    }

    /// Whether the host is listed by its name: then it may be reached at
    /// whatever addresses it has.
    pub(crate) fn permits_host(&self, host: &str) -> bool {
        let host = plain_host(host);
        self.hosts.contains(&host)
    }
}

impl FromStr for AllowList {
    type Err = InvalidAllowList;

    fn from_str(text: &str) -> Result<Self, InvalidAllowList> {
        Self::parse(text)
    }
}

fn plain_host(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A name whose last part is a number would be a mistyped address.
    let numeric_end = |text: &str| {
        text.rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 253 && text.split('.').all(label) && !numeric_end(text)
}

/// Addresses whose first bits are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base.parse().ok()?, Some(prefix.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let width = match base {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let prefix = prefix.unwrap_or(width);
        (prefix <= width).then_some(Self { base, prefix })
    }

    const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Self {
        let base = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        Self { base, prefix }
    }

    const fn v6(first: u16, second: u16, third: u16, prefix: u8) -> Self {
        let base = IpAddr::V6(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0));
        Self { base, prefix }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differing = base.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differing = base.to_bits() ^ address.to_bits();
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

/// The IPv4 address that an IPv6 address stands for (mapped, NAT64, 6to4),
/// since that is where packets to it end; any other address as it is.
fn reached_address(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return IpAddr::V4(mapped);
    }
    let joined = |high: u16, low: u16| {
        IpAddr::V4(Ipv4Addr::from_bits(
            (u32::from(high) << 16) | u32::from(low),
        ))
    };
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => joined(high, low),
        _ => address,
    }
}

/// The networks of the IANA registries of special-purpose addresses that are
/// not, or not certainly, the public internet.
const SPECIAL: &[Network] = &[
    Network::v4(0, 0, 0, 0, 8),
    Network::v4(10, 0, 0, 0, 8),
    Network::v4(100, 64, 0, 0, 10),
    Network::v4(127, 0, 0, 0, 8),
    Network::v4(169, 254, 0, 0, 16),
    Network::v4(172, 16, 0, 0, 12),
    Network::v4(192, 0, 0, 0, 24),
    Network::v4(192, 0, 2, 0, 24),
    Network::v4(192, 88, 99, 0, 24),
    Network::v4(192, 168, 0, 0, 16),
    Network::v4(198, 18, 0, 0, 15),
    Network::v4(198, 51, 100, 0, 24),
    Network::v4(203, 0, 113, 0, 24),
    Network::v4(224, 0, 0, 0, 4),
    Network::v4(240, 0, 0, 0, 4),
    // Teredo, benchmarking, ORCHID and what else stands in 2001::/23.
    Network::v6(0x2001, 0, 0, 23),
    Network::v6(0x2001, 0xdb8, 0, 32),
    Network::v6(0x3fff, 0, 0, 20),
];

/// All of IPv6 that is handed out for the public internet.
const GLOBAL_UNICAST: Network = Network::v6(0x2000, 0, 0, 3);

fn is_public(address: IpAddr) -> bool {
    let special = SPECIAL.iter().any(|network| network.contains(address));
    let global = address.is_ipv4() || GLOBAL_UNICAST.contains(address);
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(list: &str, address: &str) -> bool {
        let list = AllowList::parse(list).unwrap();
        list.permits(address.parse().unwrap())
    }

    #[test]
    fn public_addresses_are_reached_without_a_list() {
        for public in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "2606:4700::1111",
            "2002:0101:0101::1",
            "64:ff9b::101:101",
        ] {
            assert!(permits("", public), "{public}");
        }
    }

    #[test]
    fn every_form_of_an_inner_address_is_refused() {
        for inner in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:db8::1",
            "100::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!permits("", inner), "{inner}");
        }
    }

    #[test]
    fn a_listed_network_is_reached_and_its_neighbours_are_not() {
        let list = "10.1.0.0/16, 127.0.0.1 ,fd00::/8,";
        for allowed in ["10.1.2.3", "127.0.0.1", "::ffff:10.1.2.3", "fd00::5"] {
            assert!(permits(list, allowed), "{allowed}");
        }
        for refused in ["10.2.0.1", "127.0.0.2", "fc00::5", "::1"] {
            assert!(!permits(list, refused), "{refused}");
        }
    }

    #[test]
    fn a_host_is_listed_by_name_in_any_case() {
        let list = AllowList::parse("Intranet.Example,localhost").unwrap();
        assert!(list.permits_host("intranet.example."));
        assert!(list.permits_host("LOCALHOST"));
        assert!(!list.permits_host("sub.intranet.example"));
    }

    #[test]
    fn an_entry_that_is_nothing_is_named() {
        for wrong in ["10.0.0.0/33", "10.0.0", "::1/129", "a b", "http://x", "*.x"] {
            let error = AllowList::parse(&format!("localhost,{wrong}")).unwrap_err();
            assert!(error.to_string().contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
