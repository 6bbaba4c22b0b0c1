//! The first looks after a shard came to this process: whose traffic was being taken away goes first, and nobody else begins before
//! those were looked at and what looks read is there. It must not know what is decided.
//!
//! # Guarantees
//! Nobody waits for longer than the given time, whatever hangs.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;

use super::desk::Key;

/// The order of a start.
#[derive(Debug)]
pub(super) struct Start {
    /// Rollouts on their way back that were not looked at yet.
    back: watch::Sender<HashSet<Key>>,
    open: watch::Sender<bool>,
}

impl Start {
    /// Of a shard in which these rollouts are on their way back.
    pub(super) fn new(back: HashSet<Key>) -> Self {
        Self {
            back: watch::channel(back).0,
            open: watch::channel(false).0,
        }
    }

    /// Comes back when this rollout may be looked at.
    pub(super) async fn turn(&self, key: &Key) {
        let is_back = self.back.borrow().contains(key);
        if !is_back {
            // The sender lives as long as this does; a room that closes opens it, and who waited finds the room closed.
            drop(self.open.subscribe().wait_for(|open| *open).await);
        }
    }

    /// A look has come to its end, whichever.
    pub(super) fn looked(&self, key: &Key) {
        self.back.send_if_modified(|back| back.remove(key));
    }

    /// Lets everybody go on when those on their way back were looked at and `settled` has come to its end, or after this time.
    pub(super) async fn open_after(&self, settled: impl Future<Output = ()>, at_most: Duration) {
        let mut back = self.back.subscribe();
        let looked = async {
            drop(back.wait_for(HashSet::is_empty).await);
        };
        let both = async { tokio::join!(looked, settled) };
        if tokio::time::timeout(at_most, both).await.is_err() {
            let rollbacks = self.back.borrow().len();
            tracing::warn!(
                rollbacks,
                "not all rollbacks were looked at, or not all objects are there, {at_most:?} after the shard came; the others go on"
            );
        }
        self.open();
    }

    /// Lets everybody go on.
    pub(super) fn open(&self) {
        self.open.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn key(name: &str) -> Key {
        Key::new(name).within("prod")
    }

    async fn is_there_yet(mut future: std::pin::Pin<&mut impl Future>) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn rollbacks_go_first_and_others_when_those_were_looked_at_and_all_is_there() {
        let start = Start::new(HashSet::from([key("back"), key("too")]));
        start.turn(&key("back")).await;
        let (there, settled) = tokio::sync::oneshot::channel::<()>();
        let mut opens = pin!(start.open_after(async { drop(settled.await) }, LONG));
        let late = key("other");
        let mut other = pin!(start.turn(&late));
        assert!(!is_there_yet(opens.as_mut()).await && !is_there_yet(other.as_mut()).await);
        start.looked(&key("back"));
        start.looked(&key("other"));
        there.send(()).unwrap();
        assert!(!is_there_yet(opens.as_mut()).await && !is_there_yet(other.as_mut()).await);
        start.looked(&key("too"));
        opens.await;
        other.await;
        start.turn(&key("later")).await;
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let start = Start::new(HashSet::from([key("back")]));
        start.open_after(std::future::pending(), Duration::from_millis(1)).await;
        start.turn(&key("other")).await;
    }
}
