//! Why a reconcile did not come to its end, and how long the API server is waited for. It must not know what was being done.

use std::time::Duration;

/// The longest wait for any answer of the API server once a request has its turn; the lease must last longer before a write is
/// begun.
pub(super) const API_TIMEOUT: Duration = Duration::from_secs(5);
/// The same, and the wait for its turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a reconcile did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or did not answer.
    #[error("{doing}: the API server says: {source}")]
    Api {
        /// What was being done, to what.
        doing: String,
        /// The API server's words.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{doing}: the API server did not answer in {PATIENCE:?}; it is tried again")]
    Timeout {
        /// What was being done, to what.
        doing: String,
    },
    /// The route could not be read or written.
    #[error(transparent)]
    Traffic(#[from] crate::traffic::Error),
    /// Status holds a memory that this version can't read.
    #[error(
        "reading status.machine: {0}; was it written by a newer version? Remove it only when no revision is on trial"
    )]
    Memory(#[source] serde_json::Error),
    /// A bug: of this rollout's reconcile, and of no other.
    #[error("reconciling panicked, which is a bug of Serin's; please report it with the log: {0}")]
    Panicked(String),
    /// Another replica may lead by now.
    #[error("the lease runs out; nothing is written any more")]
    NotLeading,
}

/// One call of the API server, in time. It is on the heap: a reconcile has room for all calls that it could come to, and a thousand of
/// them wait for their samples at once.
pub(super) fn call<T>(
    doing: impl Fn() -> String,
    call: impl Future<Output = kube::Result<T>>,
) -> impl Future<Output = Result<T, Error>> {
    let call = Box::pin(tokio::time::timeout(PATIENCE, call));
    async move {
        match call.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(Error::Api {
                doing: doing(),
                source: Box::new(source),
            }),
            Err(_) => Err(Error::Timeout { doing: doing() }),
        }
    }
}

/// Whether the error says that the object was written by somebody else meanwhile.
pub(super) fn is_conflict(error: &Error) -> bool {
    status_code(error) == Some(409)
}

/// Whether the error says that Serin's account lacks a permission.
pub(super) fn is_forbidden(error: &Error) -> bool {
    status_code(error) == Some(403)
}

fn status_code(error: &Error) -> Option<u16> {
    let Error::Api { source, .. } = error else { return None };
    match &**source {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
