//! A network namespace for each meshed pod, with the redirects that Linkerd's init container makes: what the pod calls goes to its
//! proxy first, and what calls the pod too. All of it is in a network of the lab's own, which `tests/linkerd.sh` makes; the machine's
//! is never touched. It must not know which proxy listens there.

use std::{
    env,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{net::TcpStream, sync::oneshot};

use crate::{kubelet::sidecar::PodInfo, net::Net, process::Program};

/// Where a proxy takes what its pod calls.
pub const OUTBOUND: u16 = 4140;
/// Where a proxy takes what calls its pod.
pub const INBOUND: u16 = 4143;
/// The proxy's own ports, for which nothing is redirected: control and metrics.
pub const OWN: [u16; 2] = [4190, 4191];
/// Where the mesh's API is, on the gateway; and on loopback within each namespace, as a proxy asks for no TLS there only.
pub const CONTROL: u16 = 8086;
/// What this group sends is not redirected: it is the proxies'. Linkerd tells them by their user, and so they may not read the lab's
/// folder; here they may.
pub const GROUP: u32 = 2102;

/// Names the network that apart.sh made.
const APART: &str = "SERIN_APART";
/// Where ip(8) keeps the networks that it made.
const NETWORKS: &str = "/run/netns";
const DEADLINE: Duration = Duration::from_secs(30);

/// Stands before everything that is done here: fails at the first command that does.
const STRICT: &str = "-ec";
/// The lab's switch, and its address on it.
const BRIDGE: &str = r#"
ip link add "$1" type bridge
ip addr add "$2/16" dev "$1"
ip link set "$1" up
"#;
/// A pod's own network: one cable to the switch.
const POD: &str = r#"
ip netns add "$1"
ip link add "$2" type veth peer name eth0 netns "$1"
ip link set "$2" master "$3" up
ip -n "$1" link set lo up
ip -n "$1" addr add "$4/16" dev eth0
ip -n "$1" link set eth0 up
ip -n "$1" route add default via "$5"
mkdir -p "/etc/netns/$1"
ln -sf "$6" "/etc/netns/$1/hosts"
ip netns exec "$1" sh -ec 'echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet; exec iptables-restore'
"#;

/// The networks of one lab's pods.
#[derive(Debug)]
pub struct Namespaces {
    bridge: String,
    gateway: Ipv4Addr,
    hosts: PathBuf,
}

impl Namespaces {
    /// Makes the switch. `hosts`, a file in the form of /etc/hosts, is every pod's own.
    pub async fn start(net: &Net, hosts: &Path) -> anyhow::Result<Arc<Self>> {
        is_apart()?;
        let gateway = net
            .gateway()
            .context("making the pods' networks: this lab's pods are on loopback")?;
        let bridge = format!("serin{}", net.number());
        fs::write(hosts, "127.0.0.1 localhost\n").with_context(|| format!("writing {}", hosts.display()))?;
        run(BRIDGE, &[&bridge, &gateway.to_string()], "").await.context(
            "making the pods' switch; it takes root, and the programs ip and iptables (tests/lab/setup/network.sh)",
        )?;
        let hosts = hosts.to_owned();
        Ok(Arc::new(Self { bridge, gateway, hosts }))
    }

    /// Where pods reach what is not a pod.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// The file that is every pod's /etc/hosts.
    pub fn hosts(&self) -> &Path {
        &self.hosts
    }

    /// Makes the pod's network and names it. One that is not in the mesh stays in the lab's, with an address on the switch.
    pub async fn add(&self, pod: &PodInfo) -> anyhow::Result<Option<String>> {
        let address = pod.ip.to_string();
        let making = || format!("making the network of pod {}", pod.name);
        if !pod.is_meshed() {
            let script = "ip addr add \"$1/32\" dev \"$2\"";
            run(script, &[&address, &self.bridge], "").await.with_context(making)?;
            return Ok(None);
        }
        let (namespace, cable) = names(pod.ip);
        let hosts = self.hosts.to_string_lossy();
        let gateway = self.gateway.to_string();
        let args = [&namespace, &cable, &self.bridge, &address, &gateway, &*hosts];
        run(POD, &args, &redirects(self.gateway)).await.with_context(making)?;
        Ok(Some(namespace))
    }

    /// Takes the pod's network away. What can't be taken away goes with the lab.
    pub async fn remove(&self, pod: &PodInfo) {
        let (namespace, _) = names(pod.ip);
        let gone = if pod.network.is_some() {
            run("ip netns del \"$1\"; rm -rf \"/etc/netns/$1\"", &[&namespace], "").await
        } else {
            let script = "ip addr del \"$1/32\" dev \"$2\"";
            run(script, &[&pod.ip.to_string(), &self.bridge], "").await
        };
        if let Err(error) = gone {
            tracing::debug!(
                pod = pod.name,
                error = format!("{error:#}"),
                "taking a pod's network away"
            );
        }
    }
}

/// Connects as a program in the pod at this address does: the redirects hold, so its proxy takes the connection and sees where it was
/// meant to go.
pub(crate) async fn connect_from(pod: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let (namespace, _) = names(pod);
    let (tell, told) = oneshot::channel();
    // In a thread of its own, which ends in that network: none that others use may stay there.
    thread::spawn(move || tell.send(connect_within(&namespace, to)));
    let stream = told.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Moves this thread into the network for good. A connection stays in the network that it was made in.
fn connect_within(namespace: &str, to: SocketAddr) -> io::Result<std::net::TcpStream> {
    let network = File::open(Path::new(NETWORKS).join(namespace))?;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    std::net::TcpStream::connect_timeout(&to, DEADLINE)
}

/// A pod's namespace, and the switch's end of its cable: no more than 15 characters.
fn names(ip: Ipv4Addr) -> (String, String) {
    let [_, number, third, fourth] = ip.octets();
    (
        format!("serin-{number}-{third}-{fourth}"),
        format!("s{number}-{third}-{fourth}"),
    )
}

/// The rules of Linkerd's init container, and the way to the mesh's API.
fn redirects(gateway: Ipv4Addr) -> String {
    let [control, metrics] = OWN;
    format!(
        "*nat\n\
         -A PREROUTING -p tcp -m multiport --dports {control},{metrics} -j RETURN\n\
         -A PREROUTING -p tcp -j REDIRECT --to-ports {INBOUND}\n\
         -A OUTPUT -d 127.0.0.1/32 -p tcp --dport {CONTROL} -j DNAT --to-destination {gateway}:{CONTROL}\n\
         -A OUTPUT -m owner --gid-owner {GROUP} -j RETURN\n\
         -A OUTPUT -o lo -j RETURN\n\
         -A OUTPUT -p tcp -j REDIRECT --to-ports {OUTBOUND}\n\
         -A POSTROUTING -s 127.0.0.0/8 -o eth0 -j MASQUERADE\n\
         COMMIT\n"
    )
}

/// That this process is in the very network that apart.sh made: in the machine's own a mistake would be everybody's.
fn is_apart() -> anyhow::Result<()> {
    let link = "/proc/self/ns/net";
    let here = fs::read_link(link).with_context(|| format!("reading {link}"))?;
    if env::var_os(APART).is_none_or(|made| made.as_os_str() != here.as_os_str()) {
        bail!(
            "the pods' networks would be made in the machine's own network; run `make test-linkerd`, which makes another first"
        );
    }
    Ok(())
}

async fn run(script: &str, args: &[&str], input: &str) -> anyhow::Result<()> {
    let program = Program::new("sh")
        .args([STRICT, script, "sh"])
        .args(args.iter().copied());
    let output = program.output_with_input(input.as_bytes(), DEADLINE).await?;
    output.text().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_names_fit_where_the_system_takes_them() {
        let (namespace, cable) = names(Ipv4Addr::new(10, 250, 255, 254));
        assert_eq!(
            (namespace.as_str(), cable.as_str()),
            ("serin-250-255-254", "s250-255-254")
        );
        assert!(cable.len() < 16);
    }

    #[tokio::test]
    async fn the_machines_own_network_is_never_touched() {
        let net = Net::choose_for_namespaces().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let refused = Namespaces::start(&net, &dir.path().join("hosts")).await.unwrap_err();
        let refused = format!("{refused:#}");
        assert!(
            refused.contains("make test-linkerd") || refused.contains("root"),
            "{refused}"
        );
    }
}
