//! How a process is waited for that is to listen. It must not know what it listens for.

use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;

use super::Child;
use crate::wait::eventually;

impl Child {
    /// Waits until the process accepts connections at this address.
    ///
    /// # Errors
    /// When it ends before, or does not listen in this time.
    pub async fn listens(&self, address: &str, deadline: Duration) -> anyhow::Result<()> {
        let listens = eventually("a process listens", deadline, async || {
            TcpStream::connect(address)
                .await
                .map(drop)
                .with_context(|| format!("connecting to {address}; see {}", self.log_path()))
        });
        tokio::select! {
            listens = listens => listens,
            _ = self.wait() => Err(self.obituary()),
        }
    }
}
