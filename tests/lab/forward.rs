//! A TCP forwarder that tests can cut and heal: what stands between the controller and a part that is to fail. It must not
//! know what is said on the wire.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What happens to those who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Everything is forwarded.
    Open,
    /// Connections are dropped and refused, as if the other side had died.
    Cut,
    /// Connections stay, but nothing is forwarded, as if packets were lost.
    Silent,
}

/// A forwarder. It ends when it is dropped.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    line: Arc<watch::Sender<Line>>,
    held: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Forward {
    /// Forwards connections to `address` on to `target`.
    pub async fn start(address: SocketAddr, target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on {address}"))?;
        let address = listener.local_addr()?;
        let (line, watched) = watch::channel(Line::Open);
        let held = Arc::default();
        let watched = Watched {
            line: watched,
            held: Arc::clone(&held),
        };
        let task = tokio::spawn(run(listener, address, target, watched));
        Ok(Self {
            address,
            line: Arc::new(line),
            held,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops all connections and refuses new ones.
    pub fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }

    /// Holds everything back without a word.
    pub fn silence(&self) {
        self.line.send_replace(Line::Silent);
    }

    /// On how many connections something was sent since the line is silent, and is held back.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Forwards again.
    pub fn heal(&self) {
        self.line.send_replace(Line::Open);
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The line as connections see it.
#[derive(Debug, Clone)]
struct Watched {
    line: watch::Receiver<Line>,
    /// How many wait for it to be open.
    held: Arc<AtomicUsize>,
}

impl Watched {
    /// Waits until the line is open; an error when there is no forwarder any more.
    async fn open(&mut self) -> Result<(), watch::error::RecvError> {
        let is_open = |line: &Line| *line == Line::Open;
        if is_open(&self.line.borrow()) {
            return Ok(());
        }
        let _held = Held::new(&self.held);
        self.line.wait_for(is_open).await.map(drop)
    }
}

/// Counts one who waits, also where it is cut off.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run(listener: TcpListener, address: SocketAddr, target: SocketAddr, watched: Watched) {
    let mut line = watched.line.clone();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let state = *line.borrow_and_update();
        if state == Line::Cut {
            // Without a listener the system itself refuses.
            listener = None;
            connections.shutdown().await;
        } else if listener.is_none() {
            // The address is the lab's own, so it can only be taken by accident and for a moment.
            listener = TcpListener::bind(address).await.ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None if state == Line::Cut => std::future::pending().await,
                None => Err(std::io::ErrorKind::AddrInUse.into()),
            }
        };
        tokio::select! {
            changed = line.changed() => if changed.is_err() { return },
            accepted = accepted => match accepted {
                Ok((client, _)) => { connections.spawn(serve(client, target, watched.clone())); }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn serve(mut client: TcpStream, target: SocketAddr, mut line: Watched) {
    if line.open().await.is_err() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::join!(
        pump(&mut from_client, &mut to_server, line.clone()),
        pump(&mut from_server, &mut to_client, line)
    );
}

/// Copies one direction until its end; holds while the line is silent.
async fn pump<R, W>(from: &mut R, to: &mut W, mut line: Watched)
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 || line.open().await.is_err() {
            break;
        }
        if to.write_all(buffer.get(..count).unwrap_or_default()).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"ping");
        Ok(())
    }

    #[tokio::test]
    async fn a_cut_line_refuses_and_a_healed_one_works_again() {
        let forward = Forward::start("127.0.0.1:0".parse().unwrap(), echo().await)
            .await
            .unwrap();
        let mut stream = TcpStream::connect(forward.address()).await.unwrap();
        exchange(&mut stream).await.unwrap();
        forward.cut();
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest))
            .await
            .unwrap();
        assert!(TcpStream::connect(forward.address()).await.is_err());
        forward.heal();
        let again = async {
            loop {
                if let Ok(mut stream) = TcpStream::connect(forward.address()).await {
                    return exchange(&mut stream).await;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), again).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_silent_line_answers_after_it_is_healed() {
        let forward = Forward::start("127.0.0.1:0".parse().unwrap(), echo().await)
            .await
            .unwrap();
        let mut stream = TcpStream::connect(forward.address()).await.unwrap();
        exchange(&mut stream).await.unwrap();
        forward.silence();
        assert_eq!(forward.held(), 0);
        assert!(
            timeout(Duration::from_millis(100), exchange(&mut stream))
                .await
                .is_err()
        );
        assert_eq!(forward.held(), 1);
        forward.heal();
        let mut answer = [0; 4];
        timeout(Duration::from_secs(5), stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
    }
}
