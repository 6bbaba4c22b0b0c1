//! What can be set from outside, by flag or environment, and what is refused.
//! It must not know what the values do.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use jiff::SignedDuration;
use tonic::Code;

use crate::identity::{Identity, Name};

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
    pub faults: FaultConfig,

    #[command(flatten)]
    pub shutdown: ShutdownConfig,

    #[command(flatten)]
    pub log: LogConfig,
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

/// Form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Config {
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
        Config::try_parse_from([&["user-service"], flags].concat()).map_err(|error| error.to_string())
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
