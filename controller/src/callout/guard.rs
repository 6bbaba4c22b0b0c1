//! Where receivers that a rollout names may be: outside of the cluster and of its machines. Whoever may edit a rollout must not have
//! Serin call what only Serin can reach. It must not know what is sent.
//!
//! # Guarantees
//! Addresses are looked at when a connection is made, after a name was resolved, and the connection goes to the very addresses that
//! were looked at: a name that says something else the next time gains nothing. No redirect is followed, and no proxy of the
//! surroundings is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url};

/// Which addresses may be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// These too, though they are inside.
    pub allow: Vec<IpNet>,
    /// Not these, though they are outside: clusters with public addresses.
    pub deny: Vec<IpNet>,
}

/// An address that may not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is {address}, and addresses of the cluster and its machines are not called for a rollout; whoever runs Serin may add it to `notify.allow` of Serin's chart"
)]
pub struct Inside {
    host: String,
    address: IpAddr,
}

impl Guard {
    /// One that permits everything: for receivers of the controller's own configuration.
    pub fn open() -> Self {
        let any = |address: IpAddr| IpNet::new(address, 0).into_iter();
        let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        Self {
            allow: all.into_iter().flat_map(any).collect(),
            deny: Vec::new(),
        }
    }

    /// Whether an address may be called.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = plain(address);
        let has = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        has(&self.allow) || !(is_inside(address) || has(&self.deny))
    }

    /// The addresses of a host that may be called.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<_> = tokio::net::lookup_host((bare, port)).await?.collect();
        let permitted: Vec<_> = found.iter().copied().filter(|found| self.permits(found.ip())).collect();
        match (permitted.is_empty(), found.first()) {
            (true, Some(first)) => Err(Box::new(Inside {
                host: host.to_owned(),
                address: first.ip(),
            })),
            (true, None) => Err(format!("{host} has no address").into()),
            (false, _) => Ok(permitted),
        }
    }

    /// Refuses an address that is written out: it is never resolved.
    ///
    /// # Errors
    /// When it may not be called.
    pub fn check(&self, url: &Url) -> Result<(), Inside> {
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(address) if !self.permits(address) => Err(Inside {
                host: host.to_owned(),
                address,
            }),
            _ => Ok(()),
        }
    }

    /// A client that calls nothing else.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn client(&self) -> reqwest::Result<Client> {
        super::builder().no_proxy().dns_resolver(Resolver(self.clone())).build()
    }
}

struct Resolver(Guard);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            // The port is put in by who connects.
            let addresses = guard.resolve(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// An IPv4 address that is written as an IPv6 one leads to the same machine.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let octets = v6.octets();
    let embedded = match octets {
        // NAT64, and 6to4.
        [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] | [0x20, 0x02, a, b, c, d, ..] => {
            Some(Ipv4Addr::new(a, b, c, d))
        }
        // The old form of mapped ones; ::1 and :: are their own.
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if a != 0 => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    };
    embedded.map_or(address, IpAddr::V4)
}

/// Whether an address is of a cluster, a machine, a private network, or of nobody.
fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_inside_v4(v4),
        IpAddr::V6(v6) => is_inside_v6(v6),
    }
}

fn is_inside_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = (a, b, c) == (192, 0, 0);
    let benchmarks = a == 198 && (18..20).contains(&b);
    v4.is_private()
        || v4.is_loopback()
        // Metadata services of clouds are here.
        || v4.is_link_local()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || protocols
        || benchmarks
}

fn is_inside_v6(v6: Ipv6Addr) -> bool {
    let first = v6.segments()[0];
    let site_local = first & 0xffc0 == 0xfec0;
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || v6.is_unicast_link_local()
        || v6.is_unique_local()
        || site_local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(guard: &Guard, address: &str) -> bool {
        guard.permits(address.parse().unwrap())
    }

    #[test]
    fn nothing_inside_of_a_cluster_or_beside_it_is_called() {
        let guard = Guard::default();
        for inside in [
            "127.0.0.1",
            "10.96.0.1",
            "172.16.0.9",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
        ] {
            assert!(!permits(&guard, inside), "{inside}");
        }
        for outside in [
            "93.184.216.34",
            "172.32.0.1",
            "100.128.0.1",
            "2606:2800:220:1::1",
            "64:ff9b::5db8:d822",
        ] {
            assert!(permits(&guard, outside), "{outside}");
        }
    }

    #[test]
    fn the_controllers_configuration_widens_and_narrows_it() {
        let guard = Guard {
            allow: vec!["10.96.0.0/12".parse().unwrap()],
            deny: vec!["93.184.216.0/24".parse().unwrap()],
        };
        assert!(permits(&guard, "10.96.3.4") && permits(&guard, "::ffff:10.96.3.4"));
        assert!(!permits(&guard, "10.0.0.1"));
        assert!(!permits(&guard, "93.184.216.34"));
    }

    #[test]
    fn an_address_that_is_written_out_is_looked_at_however_it_is_written() {
        let guard = Guard::default();
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]:9093/",
            "https://169.254.169.254/latest",
        ] {
            assert!(guard.check(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
        assert!(guard.check(&Url::parse("https://hooks.example.com/").unwrap()).is_ok());
    }

    #[tokio::test]
    async fn a_name_is_looked_at_when_it_is_resolved() {
        let error = Guard::default().resolve("localhost", 80).await.unwrap_err();
        assert!(error.downcast_ref::<Inside>().is_some(), "{error}");
        let widened = Guard {
            allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            deny: vec![],
        };
        assert!(!widened.resolve("localhost", 80).await.unwrap().is_empty());
    }
}
