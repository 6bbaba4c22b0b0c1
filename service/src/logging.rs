//! Where log lines go and what they look like. It must not know what is logged.

use thiserror::Error;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// The log could not be set up.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("invalid value '{filter}' for RUST_LOG: {source}; use a level such as info, or target=level,…")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber was there first.
    #[error("setting up the log: {0}")]
    Subscriber(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends this process's log to standard output.
pub fn init(config: &LogConfig) -> Result<(), LoggingError> {
    let LogConfig { log_format, log_filter } = config;
    let filter = EnvFilter::try_new(log_filter).map_err(|source| LoggingError::Filter {
        filter: log_filter.clone(),
        source,
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    match log_format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.try_init(),
    }
    .map_err(LoggingError::Subscriber)
}
