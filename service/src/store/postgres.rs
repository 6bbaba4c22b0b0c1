//! How PostgreSQL is reached. It must not know what is asked.

use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

/// How long a call waits for a connection: well below what clients give a call, so that they hear why it failed.
const ACQUIRE: Duration = Duration::from_secs(1);
/// Connections are renewed, so that they follow a failover behind one name.
const LIFETIME: Duration = Duration::from_mins(30);
const IDLE: Duration = Duration::from_mins(5);
/// No statement here is slow: one that is must not hold its connection.
const STATEMENT: &str = "5s";

/// A pool that connects when it is needed.
pub(super) fn pool(options: &PgConnectOptions, connections: u32) -> PgPool {
    let options = options
        .clone()
        .application_name("user-service")
        .options([("statement_timeout", STATEMENT)])
        .disable_statement_logging();
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
        .max_lifetime(LIFETIME)
        .idle_timeout(IDLE)
        // It would cost each call a round trip; reads that meet a dead connection are made again.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}
