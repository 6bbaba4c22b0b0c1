//! What all proxies share: the routing table, and each other. It must not know where objects come from.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::{
    admin,
    proxy::Proxy,
    table::{Objects, Table},
};
use crate::{kubelet::sidecar::PodInfo, prometheus::PROXY_METRICS_PORT};

/// The mesh without its watches.
#[derive(Debug)]
pub(super) struct Fabric {
    table: watch::Sender<Arc<Table>>,
    followers: Mutex<Vec<mpsc::UnboundedSender<Arc<Table>>>>,
    proxies: RwLock<HashMap<Ipv4Addr, Arc<Proxy>>>,
    /// With a seed, proxies draw the same backends again.
    seed: Option<u64>,
}

/// All tables from one on, in order.
#[derive(Debug)]
pub(super) struct Tables {
    now: Arc<Table>,
    has_begun: bool,
    later: mpsc::UnboundedReceiver<Arc<Table>>,
}

impl Tables {
    /// The last one that was taken; before that the first.
    pub(super) fn now(&self) -> &Table {
        &self.now
    }

    /// The first one, then each later one; none when the mesh has ended.
    pub(super) async fn next(&mut self) -> Option<Arc<Table>> {
        if std::mem::replace(&mut self.has_begun, true) {
            self.now = self.later.recv().await?;
        }
        Some(Arc::clone(&self.now))
    }
}

impl Fabric {
    pub(super) fn new(seed: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            table: watch::Sender::new(Arc::default()),
            followers: Mutex::default(),
            proxies: RwLock::default(),
            seed,
        })
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    /// The table as it is now and every later one: who only watches for changes misses those that come together.
    pub(super) fn follow(&self) -> Tables {
        let mut followers = self.followers();
        let (sender, later) = mpsc::unbounded_channel();
        followers.push(sender);
        Tables {
            now: self.table(),
            has_begun: false,
            later,
        }
    }

    fn followers(&self) -> MutexGuard<'_, Vec<mpsc::UnboundedSender<Arc<Table>>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Objects have changed.
    pub(super) fn publish(&self, objects: &Objects) {
        let table = Arc::new(Table::new(objects));
        {
            let mut followers = self.followers();
            self.table.send_replace(Arc::clone(&table));
            followers.retain(|follower| follower.send(Arc::clone(&table)).is_ok());
        }
        let proxies: Vec<_> = self.read().values().cloned().collect();
        for proxy in proxies {
            proxy.update(&table);
        }
    }

    /// The proxy beside the pod with this address.
    pub(super) fn proxy(&self, ip: IpAddr) -> Option<Arc<Proxy>> {
        let IpAddr::V4(ip) = ip else { return None };
        self.read().get(&ip).cloned()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<Ipv4Addr, Arc<Proxy>>> {
        self.proxies.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Ipv4Addr, Arc<Proxy>>> {
        self.proxies.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a proxy; both its ports are open when this returns.
    pub(super) fn start_proxy(self: &Arc<Self>, pod: &PodInfo, port: u16) {
        let rng = self
            .seed
            .map_or_else(|| rand::rng().random(), |seed| seed ^ u64::from(pod.ip.to_bits()));
        let proxy = Arc::new(Proxy::new(pod.clone(), Arc::clone(self), SmallRng::seed_from_u64(rng)));
        let before = self.write().insert(pod.ip, Arc::clone(&proxy));
        if let Some(before) = before {
            before.stop.cancel();
        }
        match listen(pod.ip, port) {
            Ok(listener) => drop(tokio::spawn(Arc::clone(&proxy).listen(listener))),
            Err(error) => warn!(pod = pod.name, ip = %pod.ip, port, %error, "a proxy can't listen"),
        }
        match listen(pod.ip, PROXY_METRICS_PORT) {
            Ok(listener) => drop(tokio::spawn(admin::serve(proxy, listener))),
            Err(error) => warn!(pod = pod.name, ip = %pod.ip, %error, "a proxy can't show its metrics"),
        }
    }

    /// Ends a pod's proxy and its connections.
    pub(super) fn stop_proxy(&self, ip: Ipv4Addr) {
        if let Some(proxy) = self.write().remove(&ip) {
            proxy.stop.cancel();
        }
    }

    /// Ends all proxies, and whoever follows the table.
    pub(super) fn stop(&self) {
        self.followers().clear();
        self.write().drain().for_each(|(_, proxy)| proxy.stop.cancel());
    }
}

/// At once, so that a pod's first call finds its proxy.
fn listen(ip: Ipv4Addr, port: u16) -> std::io::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind((ip, port))?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
