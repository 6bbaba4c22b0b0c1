//! What can be set from outside, by flag or environment, and what is refused.
//! It must not know what the values do.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use jiff::SignedDuration;
use tonic::Code;

use crate::identity::{Identity, Name};
use crate::store::{DatabaseUrl, DatabaseUrlError};

/// The gRPC service user.UserService.
#[derive(Clone, Debug, Parser)]
#[command(name = "user-service", version)]
pub struct Config {
    /// Port of gRPC: user.UserService, health and reflection. 0 picks a free one.
    #[arg(long, env = "GRPC_PORT", default_value_t = 50051)]
    pub grpc_port: u16,

    /// Port of HTTP: /health, /ready and /metrics. 0 picks a free one.
    #[arg(long, env = "HTTP_PORT", default_value_t = 8080)]
    pub http_port: u16,

    /// Address to listen on, for both ports.
    #[arg(long, env = "BIND_ADDRESS", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,

    /// Version of the program, told to clients and metrics.
    #[arg(long, env = "SERVICE_VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    pub service_version: Name,

    /// Revision that was deployed (image and configuration), told to clients and metrics.
    #[arg(long, env = "SERVICE_REVISION", default_value = "unknown")]
    pub service_revision: Name,

    /// This process among all of its revision, told to clients: the pod's name, which Kubernetes sets.
    #[arg(long, env = "HOSTNAME", default_value = "localhost")]
    pub service_instance: Name,

    #[command(flatten)]
    pub database: DatabaseConfig,

    #[command(flatten)]
    pub limits: LimitsConfig,

    #[command(flatten)]
    pub faults: FaultConfig,

    #[command(flatten)]
    pub shutdown: ShutdownConfig,

    #[command(flatten)]
    pub log: LogConfig,

    #[command(flatten)]
    pub traces: TraceConfig,

    /// How much /metrics tells.
    #[arg(long, env = "METRICS", value_enum, default_value_t = MetricsDetail::Full)]
    pub metrics: MetricsDetail,

    /// Ask the service that runs here whether it is ready, and end with 0 if it is: the health check of a container.
    #[arg(long)]
    pub health: bool,

    /// All of the above, for the log.
    #[arg(skip)]
    settings: String,
}

/// Where users are kept.
#[derive(Clone, Debug, Args)]
pub struct DatabaseConfig {
    /// postgres://user:password@host:5432/database, a file that pods may share (sqlite:///folder/users.db), or sqlite::memory:.
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "sqlite:users.db",
        hide_env_values = true
    )]
    pub database_url: Secret,

    /// The most connections to the database; a file of SQLite takes 4 to read and 1 to write.
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub database_connections: u32,

    /// Whether to bring the database's schema to this version's at the start.
    #[arg(long, env = "DATABASE_MIGRATE", value_enum, default_value_t = Migrate::Apply)]
    pub database_migrate: Migrate,
}

/// What to do about a schema that is older than this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Migrate {
    /// Bring it further. Older versions go on working.
    Apply,
    /// Leave it: somebody else does it. What needs the newer schema fails until then.
    Leave,
}

/// What one process takes upon itself.
#[derive(Clone, Debug, Args)]
pub struct LimitsConfig {
    /// How many calls of user.UserService may be in flight; more are refused with RESOURCE_EXHAUSTED at once.
    #[arg(long, env = "MAX_CONCURRENT_CALLS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_concurrent_calls: u32,

    /// The largest request, in bytes.
    #[arg(long, env = "MAX_MESSAGE_BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1024..))]
    pub max_message_bytes: u32,

    /// After so long (10 % more or less) a client is asked to connect again, so that it meets new pods; 0s for never.
    #[arg(long, env = "MAX_CONNECTION_AGE", default_value = "5m", value_parser = parse_duration)]
    pub max_connection_age: Duration,

    /// How long calls may go on, on a connection that is to close by its age.
    #[arg(long, env = "MAX_CONNECTION_AGE_GRACE", default_value = "30s", value_parser = parse_duration)]
    pub max_connection_age_grace: Duration,
}

/// A text that is shown to nobody.
#[derive(Clone)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl DatabaseConfig {
    /// The database to use.
    pub fn url(&self) -> Result<DatabaseUrl, DatabaseUrlError> {
        self.database_url.0.parse()
    }
}

/// Faults on purpose, to rehearse rollbacks. Off unless asked for.
#[derive(Clone, Debug, Args)]
pub struct FaultConfig {
    /// Share of user.UserService calls that fail, from 0 to 1.
    #[arg(long, env = "FAULT_ERROR_RATE", default_value_t = 0.0, value_parser = parse_rate)]
    pub fault_error_rate: f64,

    /// Delay before each user.UserService call, for example 800ms.
    #[arg(long, env = "FAULT_LATENCY", default_value = "0s", value_parser = parse_duration)]
    pub fault_latency: Duration,

    /// The gRPC code of the calls that fail, for example UNIMPLEMENTED.
    #[arg(long, env = "FAULT_CODE", default_value = "UNAVAILABLE", value_parser = parse_code)]
    pub fault_code: Code,

    /// Faults only while this instance gets more user.UserService calls a second than this; 0 for always.
    #[arg(long, env = "FAULT_ABOVE_RATE", default_value_t = 0.0, value_parser = parse_positive)]
    pub fault_above_rate: f64,

    /// Faults only while this file exists: the outage of something that several instances share.
    #[arg(long, env = "FAULT_WHILE")]
    pub fault_while: Option<PathBuf>,

    /// Faults only in the one instance that makes this file: a single bad pod.
    #[arg(long, env = "FAULT_CLAIM")]
    pub fault_claim: Option<PathBuf>,

    /// Makes the choice of calls that fail repeatable.
    #[arg(long, env = "FAULT_SEED")]
    pub fault_seed: Option<u64>,
}

/// The two stages of a stop. Together they must fit into the pod's termination grace period.
#[derive(Clone, Debug, Args)]
pub struct ShutdownConfig {
    /// How long to go on accepting calls after readiness is off, until clients have turned away.
    #[arg(long, env = "SHUTDOWN_DRAIN", default_value = "1s", value_parser = parse_duration)]
    pub shutdown_drain: Duration,

    /// How long calls in flight may take to finish after that.
    #[arg(long, env = "SHUTDOWN_GRACE", default_value = "25s", value_parser = parse_duration)]
    pub shutdown_grace: Duration,
}

/// How the service logs, on standard output.
#[derive(Clone, Debug, Args)]
pub struct LogConfig {
    /// Form of the log's lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// What is logged: a level, or directives such as user_service=debug,info.
    #[arg(long = "log", env = "RUST_LOG", default_value = "info")]
    pub log_filter: String,
}

/// Which calls are traced, and for whom.
#[derive(Clone, Debug, Args)]
pub struct TraceConfig {
    /// Who collects traces, by OTLP over gRPC without TLS, for example http://collector:4317. Nobody unless given.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_parser = parse_endpoint)]
    pub otlp_endpoint: Option<String>,

    /// Share of the calls without a traceparent that are traced, from 0 to 1. The others follow their caller's decision.
    #[arg(long, env = "TRACE_RATIO", default_value_t = 0.01, value_parser = parse_rate)]
    pub trace_ratio: f64,
}

/// What /metrics is to tell: each series costs whoever keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetricsDetail {
    /// Calls by method and code, how many are in flight, and which version and revision this is.
    Basic,
    /// How long calls take with exemplars, what they did to users, connections, calls that were shed, and faults, too.
    Full,
}

/// Form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// Reads flags and environment; the error says what to write instead.
    pub fn read(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(args)?;
        let mut config = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        // Not by clap, whose message would repeat the value.
        let database = config.database.url().map_err(|error| {
            let message = format!("invalid value for '--database-url <DATABASE_URL>': {error}");
            command.error(ErrorKind::ValueValidation, message)
        })?;
        config.settings = settings(&command, &matches, &database);
        Ok(config)
    }

    /// All settings in one line, without secrets.
    pub fn settings(&self) -> &str {
        &self.settings
    }

    /// Where gRPC listens.
    pub fn grpc_address(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.grpc_port)
    }

    /// Where HTTP listens.
    pub fn http_address(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.http_port)
    }

    /// What this process says that it is.
    pub fn identity(&self) -> Identity {
        Identity {
            version: self.service_version.clone(),
            revision: self.service_revision.clone(),
            instance: self.service_instance.clone(),
        }
    }
}

/// Each variable with the value in force. One that must not be shown has no value here but its own short form.
fn settings(command: &Command, matches: &ArgMatches, database: &DatabaseUrl) -> String {
    let mut settings = Vec::new();
    for argument in command.get_arguments() {
        let (Some(variable), Ok(Some(values))) = (argument.get_env(), matches.try_get_raw(argument.get_id().as_str()))
        else {
            continue;
        };
        let value = match argument.get_id().as_str() {
            "database_url" => database.to_string(),
            _ if argument.is_hide_env_values_set() => "***".to_owned(),
            _ => values
                .map(|value| value.to_string_lossy())
                .collect::<Vec<_>>()
                .join(","),
        };
        settings.push(format!("{}={value}", variable.to_string_lossy()));
    }
    settings.join(" ")
}

fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.0..=1.0).contains(rate))
        .ok_or_else(|| "not a share: use a number from 0 to 1, for example 0.2".to_owned())
}

fn parse_positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate >= 0.0)
        .ok_or_else(|| "not a rate: use a number of calls a second, for example 20".to_owned())
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    text.parse::<http::Uri>()
        .ok()
        .filter(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some())
        .map(|_| text.to_owned())
        .ok_or_else(|| {
            "not an address of a collector: use http://HOST:PORT, for example http://collector:4317".to_owned()
        })
}

fn parse_code(text: &str) -> Result<Code, String> {
    // The names of the codes, each at its number.
    let names = "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED \
                 RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS \
                 UNAUTHENTICATED";
    let number = names.split_whitespace().position(|name| name == text);
    number
        .filter(|number| *number > 0)
        .and_then(|number| i32::try_from(number).ok())
        .map(Code::from_i32)
        .ok_or_else(|| format!("not a gRPC code of a failure: use one of {names}, but not OK"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "not a duration: use a number with a unit, for example 800ms, 5s or 1m30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Config, String> {
        Config::read([&["user-service"], flags].concat()).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_shown_with_their_values_and_secrets_are_not() {
        let config = parse(&[
            "--database-url=postgres://app:s3cret@db/users",
            "--max-message-bytes=2048",
        ])
        .unwrap();
        let shown = config.settings();
        assert!(
            shown.contains("DATABASE_URL=postgres://app:***@db:5432/users "),
            "{shown}"
        );
        assert!(
            shown.contains("MAX_MESSAGE_BYTES=2048 ") && shown.contains("GRPC_PORT=50051 "),
            "{shown}"
        );
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn a_wrong_url_is_refused_without_being_repeated() {
        let message = parse(&["--database-url=mysql://app:s3cret@db/users"]).unwrap_err();
        assert!(
            message.contains("DATABASE_URL") && message.contains("postgres://"),
            "{message}"
        );
        assert!(!message.contains("s3cret"), "{message}");
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.grpc_address().to_string(), "0.0.0.0:50051");
        assert_eq!(config.http_address().to_string(), "0.0.0.0:8080");
        assert!(config.faults.fault_error_rate <= 0.0 && config.faults.fault_latency.is_zero());
        assert_eq!(config.shutdown.shutdown_drain, Duration::from_secs(1));
        assert_eq!(config.shutdown.shutdown_grace, Duration::from_secs(25));
        assert_eq!(config.log.log_format, LogFormat::Json);
        assert_eq!(config.database.url().unwrap().to_string(), "sqlite://users.db");
        assert_eq!(config.database.database_migrate, Migrate::Apply);
        assert_eq!(config.limits.max_connection_age, Duration::from_mins(5));
    }

    #[test]
    fn durations_have_units() {
        let config = parse(&["--fault-latency", "800ms", "--shutdown-grace", "1m30s"]).unwrap();
        assert_eq!(config.faults.fault_latency, Duration::from_millis(800));
        assert_eq!(config.faults.fault_code, Code::Unavailable);
        assert_eq!(config.shutdown.shutdown_grace, Duration::from_secs(90));
    }

    #[test]
    fn codes_have_names() {
        let config = parse(&["--fault-code", "RESOURCE_EXHAUSTED"]).unwrap();
        assert_eq!(config.faults.fault_code, Code::ResourceExhausted);
    }

    #[test]
    fn wrong_values_are_refused_and_the_message_names_variable_and_remedy() {
        for (flag, value, variable, remedy) in [
            ("--fault-error-rate", "1.5", "FAULT_ERROR_RATE", "from 0 to 1"),
            ("--fault-error-rate", "NaN", "FAULT_ERROR_RATE", "from 0 to 1"),
            ("--fault-error-rate", "20%", "FAULT_ERROR_RATE", "from 0 to 1"),
            ("--fault-code", "TEAPOT", "FAULT_CODE", "UNIMPLEMENTED"),
            ("--fault-code", "OK", "FAULT_CODE", "not OK"),
            ("--fault-above-rate", "NaN", "FAULT_ABOVE_RATE", "calls a second"),
            ("--fault-latency", "800", "FAULT_LATENCY", "with a unit"),
            ("--fault-latency=-1s", "", "FAULT_LATENCY", "with a unit"),
            ("--shutdown-grace", "soon", "SHUTDOWN_GRACE", "with a unit"),
            ("--grpc-port", "65536", "GRPC_PORT", "0..=65535"),
            ("--bind-address", "localhost", "BIND_ADDRESS", "invalid IP address"),
            ("--service-revision", "a b", "SERVICE_REVISION", "printable ASCII"),
            ("--log-format", "xml", "LOG_FORMAT", "json"),
            ("--metrics", "some", "METRICS", "basic"),
            (
                "--database-url",
                "users.db",
                "DATABASE_URL",
                "sqlite:///folder/users.db",
            ),
            (
                "--database-url",
                "postgres://db:port/users",
                "DATABASE_URL",
                "postgres://user:password@host",
            ),
            ("--database-connections", "0", "DATABASE_CONNECTIONS", "1..=200"),
            ("--database-migrate", "back", "DATABASE_MIGRATE", "apply"),
            ("--max-concurrent-calls", "0", "MAX_CONCURRENT_CALLS", "1..=1000000"),
            ("--max-message-bytes", "64KB", "MAX_MESSAGE_BYTES", "invalid digit"),
            (
                "--otlp-endpoint",
                "collector:4317",
                "OTLP_ENDPOINT",
                "http://collector:4317",
            ),
            (
                "--otlp-endpoint",
                "https://collector:4317",
                "OTLP_ENDPOINT",
                "http://collector:4317",
            ),
            ("--trace-ratio", "2", "TRACE_RATIO", "from 0 to 1"),
            ("--max-connection-age", "5", "MAX_CONNECTION_AGE", "with a unit"),
        ] {
            let flags = if value.is_empty() {
                vec![flag]
            } else {
                vec![flag, value]
            };
            let message = parse(&flags).unwrap_err();
            assert!(
                message.contains(variable) && message.contains(remedy),
                "{flag} {value}: {message}"
            );
        }
    }
}
