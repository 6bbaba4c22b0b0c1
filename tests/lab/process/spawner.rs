//! The thread that all children are spawned on: their death signal is tied to it, so it lives as long as the process does. It
//! must not know what it spawns.

use std::sync::{LazyLock, mpsc};

use anyhow::{Context as _, anyhow};
use tokio::{runtime::Handle, sync::oneshot};

struct Request {
    command: tokio::process::Command,
    runtime: Handle,
    reply: oneshot::Sender<std::io::Result<tokio::process::Child>>,
}

static SPAWNER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<Request>();
    // If no thread can be made, the receiver is dropped with the closure and every request says so.
    let _ = std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
        for Request {
            mut command,
            runtime,
            reply,
        } in requests
        {
            let _entered = runtime.enter();
            // When nobody waits for the child any more it is dropped here; it must not run on.
            if let Err(Ok(mut orphan)) = reply.send(command.spawn()) {
                let _ = orphan.start_kill();
            }
        }
    });
    sender
});

/// Spawns the command on the one thread.
pub(super) async fn spawn(command: tokio::process::Command) -> anyhow::Result<tokio::process::Child> {
    let (reply, answer) = oneshot::channel();
    let request = Request {
        command,
        runtime: Handle::current(),
        reply,
    };
    SPAWNER
        .send(request)
        .map_err(|_| anyhow!("the spawner thread is gone"))?;
    answer
        .await
        .context("the spawner thread is gone")?
        .context("running setpriv (of util-linux)")
}
