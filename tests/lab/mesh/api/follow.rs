//! Streams that tell a client what is in the table, and again whenever that changes. It must not know what is told.

use std::ops::ControlFlow;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::mesh::{fabric::Tables, table::Table};

/// What a client that reads nothing may be behind.
const BEHIND: usize = 100;

pub(super) type Told<T> = ReceiverStream<Result<T, Status>>;

/// Asks `tell` at each table for what is to be sent, until it breaks off, the client is gone, or the mesh ends.
pub(super) fn told<T, F>(mut tables: Tables, mut tell: F) -> Told<T>
where
    T: Send + 'static,
    F: FnMut(&Table) -> ControlFlow<(), Vec<T>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(BEHIND);
    tokio::spawn(async move {
        loop {
            let table = tokio::select! {
                () = sender.closed() => return,
                table = tables.next() => table,
            };
            let Some(table) = table else { return };
            let ControlFlow::Continue(messages) = tell(&table) else {
                return;
            };
            for message in messages {
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Tells one thing whenever it is not what was told last; ends when it is gone.
pub(super) fn latest<S, T, L, M>(tables: Tables, look: L, message: M) -> Told<T>
where
    S: PartialEq + Send + 'static,
    T: Send + 'static,
    L: Fn(&Table) -> Option<S> + Send + 'static,
    M: Fn(&S) -> T + Send + 'static,
{
    let mut last: Option<S> = None;
    told(tables, move |table| {
        let Some(now) = look(table) else {
            return ControlFlow::Break(());
        };
        if last.as_ref() == Some(&now) {
            return ControlFlow::Continue(Vec::new());
        }
        let messages = vec![message(&now)];
        last = Some(now);
        ControlFlow::Continue(messages)
    })
}
