//! When the surroundings ask this process to stop. It must not know what stopping means.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Listens from now on for SIGTERM and SIGINT; the future is ready once one has come.
pub fn termination() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "asked to stop");
    })
}
