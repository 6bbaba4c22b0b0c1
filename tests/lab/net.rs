//! Addresses and ports of one lab: a network 127.N.0.0/16 of its own, so that two labs on one machine never meet. It must not
//! know who listens where.

use std::{
    env,
    fs::{self, File, TryLockError},
    net::{Ipv4Addr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context as _, anyhow, bail};
use rand::seq::SliceRandom as _;
use tokio::net::TcpListener;

/// The third and fourth byte of an address as one number; pods begin at N.1.
const FIRST_POD: u16 = 0x0100;
/// Below the range that the system hands out to outgoing connections, so that nothing takes a port between its choice and its use.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// One lab's network. Clones share it; the last one gives the number back.
#[derive(Debug, Clone)]
pub struct Net(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    number: u8,
    /// The first byte of pods' addresses.
    pods: u8,
    next_pod: AtomicU16,
    next_port: AtomicU16,
    /// Locked as long as it is open; the system unlocks it when the lab dies.
    _lock: File,
}

impl Net {
    /// Takes a network number that no other lab on this machine holds.
    pub fn choose() -> anyhow::Result<Self> {
        Self::choose_of((16..=250).collect(), 127)
    }

    /// As [`Self::choose`], with pods in 10.N.0.0/16, which exists in network namespaces of the lab's own only.
    pub fn choose_for_namespaces() -> anyhow::Result<Self> {
        // The others are of Services.
        Self::choose_of((16..=95).chain(112..=250).collect(), 10)
    }

    fn choose_of(mut numbers: Vec<u8>, pods: u8) -> anyhow::Result<Self> {
        numbers.shuffle(&mut rand::rng());
        for number in numbers {
            if let Some(lock) = lock(number)? {
                return Ok(Self(Arc::new(Inner {
                    number,
                    pods,
                    next_pod: AtomicU16::new(FIRST_POD),
                    next_port: AtomicU16::new(0),
                    _lock: lock,
                })));
            }
        }
        bail!("choosing a network for the lab: all of 127.16.0.0 to 127.250.0.0 are held by other labs; stop some")
    }

    /// N in 127.N.0.0/16.
    pub fn number(&self) -> u8 {
        self.0.number
    }

    /// Where everything listens that is not a pod: 127.N.0.1.
    pub fn infra(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0.number, 0, 1)
    }

    /// Where pods in namespaces find what is not a pod: 10.N.0.1. None when pods have loopback addresses.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        (self.0.pods != 127).then(|| Ipv4Addr::new(self.0.pods, self.0.number, 0, 1))
    }

    /// The next address for a pod. Addresses come again only after all 65,000 others.
    pub fn pod_address(&self) -> Ipv4Addr {
        loop {
            let [third, fourth] = self.0.next_pod.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            if third != 0 && fourth != 0 && fourth != 255 {
                return Ipv4Addr::new(self.0.pods, self.0.number, third, fourth);
            }
        }
    }

    /// A port on the infra address that nobody listens on and that is not given out again soon.
    ///
    /// It asks by connecting: a listener made only to ask would, for a moment, be inherited by a process that is being
    /// spawned, and the port be taken just when it is used.
    pub fn free_port(&self) -> anyhow::Result<u16> {
        for _ in PORTS {
            let step = self.0.next_port.fetch_add(1, Ordering::Relaxed);
            let port = PORTS.start + step % (PORTS.end - PORTS.start);
            if TcpStream::connect((self.infra(), port)).is_err() {
                return Ok(port);
            }
        }
        bail!(
            "finding a free port on {}: something listens on all of {PORTS:?}",
            self.infra()
        )
    }

    /// A listener of this process on a free port of the infra address.
    pub async fn listen(&self) -> anyhow::Result<TcpListener> {
        let mut last = None;
        for _ in 0..16 {
            match TcpListener::bind((self.infra(), self.free_port()?)).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| anyhow!("no port was tried"), Into::into))
            .with_context(|| format!("listening on {}", self.infra()))
    }
}

/// The lock file's handle, or none when another lab holds this number.
fn lock(number: u8) -> anyhow::Result<Option<File>> {
    let path = env::temp_dir().join(format!("serin-lab-net-{number}.lock"));
    let opened = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    // Another user's file: the number is theirs.
    let Ok(file) = opened else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_labs_have_different_networks() {
        let (one, two) = (Net::choose().unwrap(), Net::choose().unwrap());
        assert_ne!(one.number(), two.number());
    }

    #[test]
    fn a_number_comes_back_when_its_lab_ends() {
        let net = Net::choose().unwrap();
        let number = net.number();
        assert!(lock(number).unwrap().is_none());
        drop(net);
        assert!(lock(number).unwrap().is_some());
    }

    #[test]
    fn pods_have_addresses_of_their_own_outside_of_the_infra_range() {
        let net = Net::choose().unwrap();
        let addresses: std::collections::BTreeSet<_> = (0..2000).map(|_| net.pod_address()).collect();
        assert_eq!(addresses.len(), 2000);
        assert!(
            addresses
                .iter()
                .all(|a| a.octets()[1] == net.number() && a.octets()[2] >= 1)
        );
    }

    #[test]
    fn pods_in_namespaces_are_not_on_loopback_nor_where_services_are() {
        let net = Net::choose_for_namespaces().unwrap();
        let [first, second, third, _] = net.pod_address().octets();
        assert_eq!((first, second, third), (10, net.number(), 1));
        assert!(!(96..=111).contains(&second));
        assert_eq!(net.gateway(), Some(Ipv4Addr::new(10, net.number(), 0, 1)));
        assert!(net.infra().is_loopback());
        drop(net);
        assert_eq!(Net::choose().unwrap().gateway(), None);
    }

    #[test]
    fn a_free_port_is_not_given_twice() {
        let net = Net::choose().unwrap();
        assert_ne!(net.free_port().unwrap(), net.free_port().unwrap());
    }
}
