//! What the service counts about itself, and its text form. It must not know who asks for it.
//!
//! Every label is a closed enum (or fixed at start): callers cannot create series.

use std::fmt::{self, Write as _};
use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::{CounterWithExemplar, HistogramWithExemplars};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

use crate::config::MetricsDetail;
use crate::identity::Identity;

/// The content type of [`Metrics::encode`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Before the names that no other service has.
const PREFIX: &str = "user_service";

/// From well under a healthy call to well over every sensible objective, in seconds.
const LATENCY_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A method of user.UserService.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    CreateUser,
    GetUser,
    UpdateUser,
    DeleteUser,
    ListUsers,
    /// One that the contract does not have (yet, or any more).
    Unknown,
}

impl Method {
    pub(crate) const KNOWN: [Self; 5] = [
        Self::CreateUser,
        Self::GetUser,
        Self::UpdateUser,
        Self::DeleteUser,
        Self::ListUsers,
    ];

    /// The method that a request's path calls; `None` if it is not one of user.UserService.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        let name = path
            .strip_prefix('/')?
            .strip_prefix(user_proto::SERVICE_NAME)?
            .strip_prefix('/')?;
        Some(
            Self::KNOWN
                .into_iter()
                .find(|method| method.as_str() == name)
                .unwrap_or(Self::Unknown),
        )
    }

    /// As OpenTelemetry names a span of it.
    pub(crate) fn full_name(self) -> &'static str {
        match self {
            Self::CreateUser => "user.UserService/CreateUser",
            Self::GetUser => "user.UserService/GetUser",
            Self::UpdateUser => "user.UserService/UpdateUser",
            Self::DeleteUser => "user.UserService/DeleteUser",
            Self::ListUsers => "user.UserService/ListUsers",
            Self::Unknown => "user.UserService/_OTHER",
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::CreateUser => "CreateUser",
            Self::GetUser => "GetUser",
            Self::UpdateUser => "UpdateUser",
            Self::DeleteUser => "DeleteUser",
            Self::ListUsers => "ListUsers",
            Self::Unknown => "Unknown",
        }
    }
}

impl EncodeLabelValue for Method {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.as_str())
    }
}

/// A status code under the name that other gRPC implementations use in this metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CodeName(Code);

impl EncodeLabelValue for CodeName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self.0 {
            Code::Ok => "OK",
            Code::Cancelled => "Canceled",
            Code::Unknown => "Unknown",
            Code::InvalidArgument => "InvalidArgument",
            Code::DeadlineExceeded => "DeadlineExceeded",
            Code::NotFound => "NotFound",
            Code::AlreadyExists => "AlreadyExists",
            Code::PermissionDenied => "PermissionDenied",
            Code::ResourceExhausted => "ResourceExhausted",
            Code::FailedPrecondition => "FailedPrecondition",
            Code::Aborted => "Aborted",
            Code::OutOfRange => "OutOfRange",
            Code::Unimplemented => "Unimplemented",
            Code::Internal => "Internal",
            Code::Unavailable => "Unavailable",
            Code::DataLoss => "DataLoss",
            Code::Unauthenticated => "Unauthenticated",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandledLabels {
    grpc_method: Method,
    grpc_code: CodeName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    grpc_method: Method,
}

/// Leads from a number to one of the traces behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exemplar {
    trace_id: String,
}

type Latency = HistogramWithExemplars<Exemplar>;

/// A kind of fault that was injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    Error,
    Latency,
}

impl EncodeLabelValue for Fault {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Error => "error",
            Self::Latency => "latency",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    kind: Fault,
}

/// All counters of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    handled: Family<HandledLabels, CounterWithExemplar<Exemplar>>,
    handling: Family<MethodLabels, Latency, fn() -> Latency>,
    in_flight: Gauge,
    faults: Family<FaultLabels, Counter>,
    pub(crate) calls_shed: Counter,
    pub(crate) connections_accepted: Counter,
    pub(crate) users_created: Counter,
    pub(crate) users_updated: Counter,
    pub(crate) users_deleted: Counter,
}

impl Metrics {
    pub(crate) fn new(identity: &Identity, detail: MetricsDetail) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            handled: Family::default(),
            handling: Family::new_with_constructor(|| Latency::new(LATENCY_BUCKETS.into_iter())),
            in_flight: Gauge::default(),
            faults: Family::default(),
            calls_shed: Counter::default(),
            connections_accepted: Counter::default(),
            users_created: Counter::default(),
            users_updated: Counter::default(),
            users_deleted: Counter::default(),
        };
        metrics.register(identity);
        if detail == MetricsDetail::Full {
            metrics.register_details();
        }
        // A series that appears with its first count has no increase for `rate()` to see.
        for grpc_method in Method::KNOWN {
            drop(metrics.handled.get_or_create(&HandledLabels {
                grpc_method,
                grpc_code: CodeName(Code::Ok),
            }));
            drop(metrics.handling.get_or_create(&MethodLabels { grpc_method }));
        }
        metrics
    }

    /// What everybody needs: whether calls succeed, and whose they are.
    fn register(&mut self, identity: &Identity) {
        let Self {
            registry,
            handled,
            in_flight,
            ..
        } = self;
        registry.register(
            "grpc_server_handled",
            "Calls of user.UserService that ended, by method and status code",
            handled.clone(),
        );
        registry.register(
            "grpc_server_in_flight",
            "Calls of user.UserService that are being answered",
            in_flight.clone(),
        );
        let build = Info::new(vec![
            ("version", identity.version.as_str().to_owned()),
            ("revision", identity.revision.as_str().to_owned()),
        ]);
        let registry = registry.sub_registry_with_prefix(PREFIX);
        registry.register("build", "Which version and revision this process is", build);
    }

    fn register_details(&mut self) {
        let Self {
            registry,
            handled: _,
            handling,
            in_flight: _,
            faults,
            calls_shed,
            connections_accepted,
            users_created,
            users_updated,
            users_deleted,
        } = self;
        registry.register_with_unit(
            "grpc_server_handling",
            "Time from a call's arrival to its end, by method",
            Unit::Seconds,
            handling.clone(),
        );
        let registry = registry.sub_registry_with_prefix(PREFIX);
        registry.register("faults_injected", "Faults on purpose, by kind", faults.clone());
        registry.register(
            "calls_shed",
            "Calls refused as too many were in flight",
            calls_shed.clone(),
        );
        registry.register(
            "connections_accepted",
            "Connections of clients, on the gRPC port",
            connections_accepted.clone(),
        );
        registry.register("users_created", "Users created", users_created.clone());
        registry.register("users_updated", "Users changed", users_updated.clone());
        registry.register("users_deleted", "Users deleted", users_deleted.clone());
    }

    pub(crate) fn call_started(&self) {
        self.in_flight.inc();
    }

    /// `trace_id` is that of a trace which somebody can look up.
    pub(crate) fn call_ended(&self, grpc_method: Method, code: Code, started: Instant, trace_id: Option<String>) {
        let exemplar = trace_id.map(|trace_id| Exemplar { trace_id });
        self.in_flight.dec();
        self.handled
            .get_or_create(&HandledLabels {
                grpc_method,
                grpc_code: CodeName(code),
            })
            .inc_by(1, exemplar.clone(), None);
        self.handling.get_or_create(&MethodLabels { grpc_method }).observe(
            started.elapsed().as_secs_f64(),
            exemplar,
            None,
        );
    }

    pub(crate) fn fault_injected(&self, kind: Fault) {
        self.faults.get_or_create(&FaultLabels { kind }).inc();
    }

    /// How many calls of user.UserService are being answered.
    pub(crate) fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Everything counted so far, as OpenMetrics text.
    pub(crate) fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        with(MetricsDetail::Full)
    }

    fn with(detail: MetricsDetail) -> Metrics {
        let identity = Identity {
            version: "1.2.0".parse().unwrap(),
            revision: "1.2.0-b".parse().unwrap(),
            instance: "pod-1".parse().unwrap(),
        };
        Metrics::new(&identity, detail)
    }

    #[test]
    fn basic_metrics_tell_whether_calls_succeed_and_full_ones_how_long_and_what_for() {
        let families = |detail| {
            let text = with(detail).encode().unwrap();
            let names = text
                .lines()
                .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let basic = families(MetricsDetail::Basic);
        assert_eq!(
            basic,
            ["grpc_server_handled", "grpc_server_in_flight", "user_service_build"]
        );
        let full = families(MetricsDetail::Full);
        assert!(basic.iter().all(|family| full.contains(family)), "{full:?}");
        for family in ["grpc_server_handling_seconds", "user_service_users_created"] {
            assert!(full.iter().any(|found| found == family), "{full:?}");
        }
    }

    #[test]
    fn names_and_labels_are_those_of_the_contract() {
        let metrics = metrics();
        metrics.call_started();
        metrics.call_ended(Method::GetUser, Code::NotFound, Instant::now(), None);
        metrics.users_created.inc();
        metrics.fault_injected(Fault::Error);
        let text = metrics.encode().unwrap();
        for line in [
            "grpc_server_handled_total{grpc_method=\"GetUser\",grpc_code=\"NotFound\"} 1",
            "grpc_server_handling_seconds_count{grpc_method=\"GetUser\"} 1",
            "grpc_server_in_flight 0",
            "user_service_build_info{version=\"1.2.0\",revision=\"1.2.0-b\"} 1",
            "user_service_faults_injected_total{kind=\"error\"} 1",
            "user_service_users_created_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn successes_of_each_method_are_there_from_the_start() {
        let text = metrics().encode().unwrap();
        for method in Method::KNOWN {
            let line = format!(
                "grpc_server_handled_total{{grpc_method=\"{}\",grpc_code=\"OK\"}} 0",
                method.as_str()
            );
            assert!(text.contains(&line), "{line}");
        }
    }

    #[test]
    fn known_methods_are_those_of_the_contract() {
        use user_proto::user_service_server::SERVICE_NAME;
        for method in Method::KNOWN {
            assert_eq!(
                Method::of_path(&format!("/{SERVICE_NAME}/{}", method.as_str())),
                Some(method)
            );
        }
        assert_eq!(Method::of_path("/user.UserService/Fly"), Some(Method::Unknown));
        assert_eq!(Method::of_path("/grpc.health.v1.Health/Check"), None);
        assert_eq!(Method::of_path("/user.UserServiceV2/GetUser"), None);
    }
}
