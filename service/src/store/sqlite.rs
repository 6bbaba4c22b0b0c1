//! How a file of SQLite is opened and shared. It must not know what is asked.
//!
//! In WAL mode readers and one writer do not wait for each other, in this process or in another one. So there are a few
//! connections to read and one to write: writers of this process queue here, in the order in which they came, and only
//! those of other processes meet at the file's lock, for which SQLite waits (`BUSY`). A user is looked up without any of them
//! where that is possible (`glance`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Error};
use tokio::sync::{Mutex, MutexGuard};

use super::error::{Tries, is_unavailable};
use super::glance::{Glances, Unclear};
use super::url::SqliteFile;
use super::{User, UserId};

/// How long a writer waits for those of other processes.
const BUSY: Duration = Duration::from_secs(2);
/// The most connections that are of use: reads take microseconds.
const READERS: u32 = 4;
/// Kibibytes for each connection; the rest is the system's page cache.
const CACHE: u32 = 1024;

/// The connections. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Lanes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// First, as fields are dropped in this order: those who only read can't tidy up as the last one does that closes the file.
    glances: Glances,
    options: SqliteConnectOptions,
    writer: Mutex<Held>,
    /// None in memory, where a second connection would be a second database.
    readers: Vec<Mutex<Held>>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Held {
    connection: SqliteConnection,
    broken: bool,
}

/// A connection that nobody else uses meanwhile.
pub(super) struct Lane<'a> {
    held: MutexGuard<'a, Held>,
    in_memory: bool,
}

impl Lane<'_> {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.held.connection
    }

    /// After an error that may be the connection's own, the next one to use it gets a new one.
    pub(super) fn judge<T>(&mut self, answer: &Result<T, Error>) {
        // What is in memory is gone with its connection.
        if !self.in_memory && answer.as_ref().is_err_and(is_unavailable) {
            self.held.broken = true;
        }
    }
}

impl Lanes {
    pub(super) async fn open(file: &SqliteFile, connections: u32) -> Result<Self, Error> {
        let (options, readers, path) = match file {
            SqliteFile::Memory => (SqliteConnectOptions::new().in_memory(true), 0, Path::new("")),
            SqliteFile::Path(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // A crash of this process loses nothing; one of the machine may lose the last moments, never consistency.
                    .synchronous(SqliteSynchronous::Normal)
                    // Negative numbers are kibibytes.
                    .pragma("cache_size", format!("-{CACHE}"));
                (options, connections.clamp(1, READERS), path.as_path())
            }
        };
        let options = options.busy_timeout(BUSY).disable_statement_logging();
        let writer = Mutex::new(connect(&options).await?);
        let mut lanes = Vec::new();
        for _ in 0..readers {
            lanes.push(Mutex::new(connect(&options).await?));
        }
        let lanes = Self(Arc::new(Shared {
            glances: Glances::closed(path, lanes.len(), CACHE),
            options,
            writer,
            readers: lanes,
            next: AtomicUsize::new(0),
        }));
        lanes.mend().await;
        Ok(lanes)
    }

    /// The user with this id, if there is one and that can be told without a lane.
    pub(super) fn glance(&self, id: UserId) -> Result<Option<User>, Unclear> {
        self.0.glances.user(id)
    }

    /// As if each of their connections had failed.
    #[cfg(test)]
    pub(super) fn close_glances(&self) {
        self.0.glances.close();
    }

    /// Makes glances possible again after an error.
    pub(super) async fn mend(&self) {
        if self.0.glances.are_open() {
            return;
        }
        let shared = Arc::clone(&self.0);
        // Until the next time, lanes do what glances can't.
        if let Err(error) = tokio::task::spawn_blocking(move || shared.glances.mend()).await {
            tracing::debug!(%error, "opening the file to look users up");
        }
    }

    /// The connection to write with.
    pub(super) async fn writer(&self) -> Result<Lane<'_>, Error> {
        self.lane(self.0.writer.lock().await).await
    }

    /// A connection to read with: a free one if there is one.
    pub(super) async fn reader(&self) -> Result<Lane<'_>, Error> {
        let Shared {
            readers, writer, next, ..
        } = &*self.0;
        let first = next.fetch_add(1, Ordering::Relaxed) % readers.len().max(1);
        let mut in_turn = readers.iter().cycle().skip(first).take(readers.len());
        if let Some(free) = in_turn.find_map(|reader| reader.try_lock().ok()) {
            return self.lane(free).await;
        }
        self.lane(readers.get(first).unwrap_or(writer).lock().await).await
    }

    async fn lane<'a>(&self, mut held: MutexGuard<'a, Held>) -> Result<Lane<'a>, Error> {
        if held.broken {
            *held = connect(&self.0.options).await?;
        }
        Ok(Lane {
            held,
            in_memory: self.0.readers.is_empty(),
        })
    }
}

/// Opens the file. The change to WAL mode, the first time, needs it alone and does not wait by itself.
async fn connect(options: &SqliteConnectOptions) -> Result<Held, Error> {
    let mut tries = Tries::of_a_write();
    loop {
        match options.connect().await {
            Ok(connection) => {
                return Ok(Held {
                    connection,
                    broken: false,
                });
            }
            Err(error) if tries.another(&error).await => {}
            Err(error) => return Err(error),
        }
    }
}
