//! Looks one user up in a file of SQLite on the thread that asks. It must not wait, nor say what an error means: what can't be
//! told at once is asked of a lane.
//!
//! A lane has a thread of its own, and the way there and back costs a call several times what its row does. One row by its key
//! needs no thread: in WAL mode a reader waits for no writer, and the pages are in memory, here or in the system's cache. The
//! few locks that a reader may meet (a file that is recovered after a crash, say) are not waited for here.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, OptionalExtension as _, Row};

use super::statements::GET;
use super::{User, UserId};

/// Connections to look with.
#[derive(Debug)]
pub(super) struct Glances {
    file: PathBuf,
    /// One that has failed is closed, until it is mended.
    connections: Vec<Mutex<Option<Connection>>>,
    cache_kib: u32,
}

/// This can't be told at once.
#[derive(Debug)]
pub(super) struct Unclear;

impl Glances {
    /// All of them closed still.
    pub(super) fn closed(file: &Path, count: usize, cache_kib: u32) -> Self {
        Self {
            file: file.to_owned(),
            connections: (0..count).map(|_| Mutex::new(None)).collect(),
            cache_kib,
        }
    }

    /// The user with this id, if there is one.
    pub(super) fn user(&self, id: UserId) -> Result<Option<User>, Unclear> {
        let open = |slot| free(slot).filter(|slot| slot.is_some());
        let mut slot = self.connections.iter().find_map(open).ok_or(Unclear)?;
        let connection = slot.as_ref().ok_or(Unclear)?;
        look_up(connection, id).map_err(|error| {
            if is_lasting(&error) {
                *slot = None;
            }
            Unclear
        })
    }

    #[cfg(test)]
    pub(super) fn close(&self) {
        for mut slot in self.connections.iter().filter_map(free) {
            *slot = None;
        }
    }

    /// Whether none is closed. One that is in use is open.
    pub(super) fn are_open(&self) -> bool {
        self.connections.iter().filter_map(free).all(|slot| slot.is_some())
    }

    /// Opens what is closed, which may take a while.
    pub(super) fn mend(&self) {
        for mut slot in self.connections.iter().filter_map(free) {
            if slot.is_some() {
                continue;
            }
            match open(&self.file, self.cache_kib) {
                Ok(connection) => *slot = Some(connection),
                Err(error) => {
                    tracing::debug!(%error, "opening the file to look users up; they are asked of the lanes until it opens");
                    return;
                }
            }
        }
    }
}

fn free(slot: &Mutex<Option<Connection>>) -> Option<MutexGuard<'_, Option<Connection>>> {
    match slot.try_lock() {
        Ok(slot) => Some(slot),
        // A connection is whole between two looks, and so after one that panicked.
        Err(TryLockError::Poisoned(slot)) => Some(slot.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

fn open(file: &Path, cache_kib: u32) -> Result<Connection, Error> {
    // The mutex around it is enough.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    // Negative numbers are kibibytes.
    connection.pragma_update(None, "cache_size", -i64::from(cache_kib))?;
    Ok(connection)
}

fn look_up(connection: &Connection, id: UserId) -> Result<Option<User>, Error> {
    // Prepared once; SQLite prepares it again by itself when the schema has changed.
    let mut statement = connection.prepare_cached(GET)?;
    statement.query_row([&id.to_bytes()[..]], user).optional()
}

fn user(row: &Row<'_>) -> Result<User, Error> {
    Ok(User {
        id: UserId::from_bytes(row.get(0)?),
        email: row.get(1)?,
        display_name: row.get(2)?,
        create_time: time(row, 3)?,
        update_time: time(row, 4)?,
        version: row.get(5)?,
    })
}

fn time(row: &Row<'_>, column: usize) -> Result<Timestamp, Error> {
    Timestamp::from_microsecond(row.get(column)?)
        .map_err(|error| Error::FromSqlConversionFailure(column, Type::Integer, error.into()))
}

/// Whether the connection itself is of no more use, rather than this one look.
fn is_lasting(error: &Error) -> bool {
    // What is wrong with a statement or with a row is so on any connection; SQLite calls a missing table or column Unknown.
    error.sqlite_error_code().is_some_and(|code| {
        !matches!(
            code,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SchemaChanged | ErrorCode::Unknown
        )
    })
}
