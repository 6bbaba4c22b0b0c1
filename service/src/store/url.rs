//! Which database, as DATABASE_URL names it. It must not tell its password to anybody.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

/// The database to use. Its text form has no password.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A server.
    Postgres(Box<PgConnectOptions>),
    /// A file of this machine, or this process's memory.
    Sqlite(SqliteFile),
}

/// Where SQLite keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqliteFile {
    /// Gone with the process, unknown to others.
    Memory,
    /// Shared by all processes that open it.
    Path(PathBuf),
}

/// Why a text names no database. It does not repeat the text, which may hold a password.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DatabaseUrlError {
    /// Another kind of database, or no URL at all.
    #[error(
        "not a database that is supported: use postgres://user:password@host:5432/database, sqlite:///folder/users.db or sqlite::memory:"
    )]
    Scheme,
    /// A PostgreSQL URL that is not one.
    #[error("not a PostgreSQL URL ({0}): use postgres://user:password@host:5432/database")]
    Postgres(String),
    /// No file is named.
    #[error("names no file: use sqlite:///folder/users.db, or sqlite::memory: to keep nothing")]
    NoFile,
    /// SQLite's own parameters would change what the service relies on.
    #[error("has parameters after `?`, which are set by the service")]
    Parameters,
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let options = text.parse::<PgConnectOptions>();
            return options
                .map(|options| Self::Postgres(Box::new(options)))
                .map_err(|error| DatabaseUrlError::Postgres(innermost(&error)));
        }
        let file = text.strip_prefix("sqlite:").ok_or(DatabaseUrlError::Scheme)?;
        let file = file.strip_prefix("//").unwrap_or(file);
        if file.contains('?') {
            return Err(DatabaseUrlError::Parameters);
        }
        match file {
            "" => Err(DatabaseUrlError::NoFile),
            ":memory:" => Ok(Self::Sqlite(SqliteFile::Memory)),
            file => Ok(Self::Sqlite(SqliteFile::Path(Path::new(file).to_owned()))),
        }
    }
}

/// The reason alone, such as `invalid port number`.
fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(options) => {
                let (host, port) = (options.get_host(), options.get_port());
                let database = options.get_database().unwrap_or_default();
                write!(f, "postgres://{}:***@{host}:{port}/{database}", options.get_username())
            }
            Self::Sqlite(SqliteFile::Memory) => f.write_str("sqlite::memory:"),
            Self::Sqlite(SqliteFile::Path(path)) => write!(f, "sqlite://{}", path.display()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<DatabaseUrl>().unwrap().to_string()
    }

    #[test]
    fn a_url_names_a_server_a_file_or_memory() {
        assert_eq!(shown("sqlite::memory:"), "sqlite::memory:");
        assert_eq!(shown("sqlite:users.db"), "sqlite://users.db");
        assert_eq!(shown("sqlite:///data/users.db"), "sqlite:///data/users.db");
        assert_eq!(shown("postgresql://app@db/users"), "postgres://app:***@db:5432/users");
    }

    #[test]
    fn the_password_is_told_to_nobody() {
        let text = "postgres://app:s3cret@db.example.com:5433/users?password=s3cret";
        let url: DatabaseUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), "postgres://app:***@db.example.com:5433/users");
        assert!(!format!("{url:?}").contains("s3cret"));
        let refused = "postgres://app:s3cret@db:port/users"
            .parse::<DatabaseUrl>()
            .unwrap_err();
        assert!(!refused.to_string().contains("s3cret"), "{refused}");
        assert!(refused.to_string().contains("port"), "{refused}");
    }

    #[test]
    fn what_names_no_database_is_refused() {
        for (text, error) in [
            ("", DatabaseUrlError::Scheme),
            ("mysql://db/users", DatabaseUrlError::Scheme),
            ("/data/users.db", DatabaseUrlError::Scheme),
            ("sqlite:", DatabaseUrlError::NoFile),
            ("sqlite:users.db?mode=ro", DatabaseUrlError::Parameters),
        ] {
            assert_eq!(
                text.parse::<DatabaseUrl>().map(|url| url.to_string()),
                Err(error),
                "{text}"
            );
        }
    }
}
