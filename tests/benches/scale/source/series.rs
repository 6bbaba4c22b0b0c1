//! The series that a Prometheus would have of one rollout: of its arms' proxies and of its clients', and what each of them counts at
//! a time. Pure; it must not know what is asked.

use std::fmt::Write as _;

use serin::linkerd::latency::LATENCY_BOUNDS_MS;

use crate::objects::{Arm, PORT, Rollout, STABLE_PODS};

/// Calls a second of one of stable's pods, and of the canary's: 5 % of all.
const STABLE_RATE: i64 = 95;
const CANARY_RATE: i64 = 10;
/// Of ten calls of a bad canary so many fail.
const BAD_OF_TEN: i64 = 6;
/// What Linkerd takes for a failure.
const UNAVAILABLE: &str = "14";
/// The pod that stands for all clients.
const CLIENT: usize = 9;

/// A label, and its value.
type Label = (&'static str, String);

/// One series.
#[derive(Debug)]
pub(super) struct Series {
    /// The metric's.
    pub(super) name: &'static str,
    labels: Vec<Label>,
    /// All labels, as an answer has them.
    pub(super) text: String,
    counts: Counts,
    /// Since when it counts, in milliseconds; whether that is the canary's.
    pub(super) began: i64,
    turns_bad: bool,
    /// How long after the beginning of each interval between two scrapes its proxy is scraped, in thousandths of that interval.
    pub(super) offset: i64,
}

/// What it counts: calls a second, of which so many out of a thousand.
#[derive(Debug, Clone, Copy)]
enum Counts {
    Constant(i64),
    Calls { rate: i64, per_mille: i64 },
    Answers { rate: i64 },
    Failures { rate: i64 },
}

impl Series {
    /// A label's value; empty when it is absent.
    pub(super) fn label(&self, name: &str) -> &str {
        if name == "__name__" {
            return self.name;
        }
        let found = self.labels.iter().find(|(label, _)| *label == name);
        found.map_or("", |(_, value)| value)
    }

    /// Its value at a time, where the canary is bad from another time on.
    pub(super) fn at(&self, at: i64, bad: i64) -> i64 {
        let calls = |rate: i64, from: i64, to: i64| rate * (to - from).max(0) / 1_000;
        let bad = if self.turns_bad { bad.max(self.began) } else { i64::MAX };
        match self.counts {
            Counts::Constant(value) => value,
            Counts::Calls { rate, per_mille } => calls(rate, self.began, at) * per_mille / 1_000,
            Counts::Answers { rate } => {
                calls(rate, self.began, at.min(bad)) + calls(rate * (10 - BAD_OF_TEN), bad.min(at), at) / 10
            }
            Counts::Failures { rate } => calls(rate * BAD_OF_TEN, bad.min(at), at) / 10,
        }
    }

    /// Whether it counts failures.
    pub(super) fn is_of_failures(&self) -> bool {
        matches!(self.counts, Counts::Failures { .. })
    }

    /// Whether there is such a series at all by then: nobody counts failures before the first.
    pub(super) fn is_there(&self, to: i64, bad: i64) -> bool {
        !self.is_of_failures() || (self.turns_bad && to > bad)
    }
}

/// An arm, with its names.
struct Named {
    arm: Arm,
    deployment: String,
    hash: String,
    service: String,
    /// Since when its proxies run.
    began: i64,
}

/// Of one rollout: its names, and the series so far.
struct Made {
    of: Rollout,
    namespace: String,
    service: String,
    all: Vec<Series>,
}

/// All series of a rollout whose canary has this hash. Stable's proxies and the clients' began at the first time, the canary's at the
/// second.
pub(super) fn of_rollout(of: Rollout, canary_hash: &str, (began, canary_began): (i64, i64)) -> Vec<Series> {
    let mut made = Made {
        of,
        namespace: of.namespace(),
        service: of.name(),
        all: Vec::new(),
    };
    let named = |arm, suffix: &str, hash: String, began| Named {
        arm,
        deployment: of.deployment(arm),
        hash,
        service: format!("{}-{suffix}", of.name()),
        began,
    };
    for arm in [
        named(Arm::Stable, "stable", of.hash(Arm::Stable), began),
        named(Arm::Canary, "canary", canary_hash.to_owned(), canary_began),
    ] {
        for pod in 0..arm.pods() {
            made.pod(&arm, pod);
        }
        made.client(&arm);
    }
    made.all
}

impl Named {
    fn pods(&self) -> usize {
        match self.arm {
            Arm::Stable => STABLE_PODS,
            Arm::Canary => 1,
        }
    }

    fn rate(&self) -> i64 {
        match self.arm {
            Arm::Stable => STABLE_RATE,
            Arm::Canary => CANARY_RATE,
        }
    }
}

impl Made {
    fn add(&mut self, arm: &Named, name: &'static str, labels: &[Vec<Label>; 2], pod: usize, counts: Counts) {
        let labels: Vec<_> = labels
            .iter()
            .flatten()
            .filter(|(_, value)| !value.is_empty())
            .cloned()
            .collect();
        // No name or value here has anything to escape.
        let mut text = format!("\"__name__\":\"{name}\"");
        for (label, value) in &labels {
            // Writing to a String can't fail.
            let _ = write!(text, ",\"{label}\":\"{value}\"");
        }
        self.all.push(Series {
            name,
            labels,
            text,
            counts,
            began: arm.began,
            turns_bad: arm.arm == Arm::Canary,
            offset: i64::try_from((self.of.0 * 7 + pod * 3) % 100).unwrap_or(0) * 10,
        });
    }

    /// What the scrape adds to each series of a pod.
    fn scraped(&self, deployment: &str, hash: &str, pod: usize) -> Vec<Label> {
        let [high, low] = [self.of.0 / 200, self.of.0 % 200];
        vec![
            ("control_plane_ns", "linkerd".to_owned()),
            ("deployment", deployment.to_owned()),
            ("instance", format!("10.{high}.{low}.{}:4191", pod + 1)),
            ("job", "linkerd-proxy".to_owned()),
            ("namespace", self.namespace.clone()),
            ("pod", format!("{deployment}-{hash}-{pod:05x}")),
            ("pod_template_hash", hash.to_owned()),
            ("workload_ns", self.namespace.clone()),
        ]
    }

    fn identity(&self) -> String {
        format!(
            "default.{}.serviceaccount.identity.linkerd.cluster.local",
            self.namespace
        )
    }

    fn inbound(&self, more: &[(&'static str, &str)]) -> Vec<Label> {
        let port = PORT.to_string();
        let mut labels: Vec<Label> = [
            ("client_id", self.identity().as_str()),
            ("direction", "inbound"),
            ("route_kind", "default"),
            ("route_name", "default"),
            ("srv_group", "policy.linkerd.io"),
            ("srv_kind", "server"),
            ("srv_name", "grpc"),
            ("srv_port", &port),
            ("target_addr", &format!("0.0.0.0:{port}")),
            ("target_ip", "0.0.0.0"),
            ("target_port", &port),
            ("tls", "true"),
        ]
        .map(|(label, value)| (label, value.to_owned()))
        .into();
        labels.extend(more.iter().map(|(label, value)| (*label, (*value).to_owned())));
        labels
    }

    /// What the proxy of one of the arm's pods says.
    fn pod(&mut self, arm: &Named, pod: usize) {
        let scraped = self.scraped(&arm.deployment, &arm.hash, pod);
        let rate = arm.rate();
        let build = [("git_sha", "abcdef0".to_owned()), ("version", "v2.300.0".to_owned())];
        self.add(
            arm,
            "proxy_build_info",
            &[build.into(), scraped.clone()],
            pod,
            Counts::Constant(1),
        );
        let start = Counts::Constant(arm.began / 1_000);
        self.add(
            arm,
            "process_start_time_seconds",
            &[vec![], scraped.clone()],
            pod,
            start,
        );
        for (class, status, counts) in [
            ("success", "0", Counts::Answers { rate }),
            ("failure", UNAVAILABLE, Counts::Failures { rate }),
        ] {
            let labels = [
                ("classification", class),
                ("grpc_status", status),
                ("status_code", "200"),
            ];
            let labels = self.inbound(&labels);
            self.add(arm, "response_total", &[labels, scraped.clone()], pod, counts);
        }
        for ms in LATENCY_BOUNDS_MS.iter().map(|ms| Some(*ms)).chain([None]) {
            let bound = ms.map_or("+Inf".to_owned(), |ms| format!("{ms}.0"));
            let labels = self.inbound(&[("le", &bound), ("status_code", "200")]);
            // Answers take their time whether they fail or not.
            let per_mille = within(ms);
            let counts = Counts::Calls { rate, per_mille };
            self.add(
                arm,
                "response_latency_ms_bucket",
                &[labels, scraped.clone()],
                pod,
                counts,
            );
        }
    }

    /// What the clients' proxies say of the arm.
    fn client(&mut self, arm: &Named) {
        let scraped = self.scraped("clients", "c11e27", CLIENT);
        let (namespace, port) = (self.namespace.clone(), PORT.to_string());
        for pod in 0..arm.pods() {
            let ip = format!("10.9.{}.{}", self.of.0 % 200, pod + 1);
            let labels = [
                (
                    "authority",
                    format!("{}.{namespace}.svc.cluster.local:{port}", self.service),
                ),
                ("direction", "outbound".to_owned()),
                ("dst_deployment", arm.deployment.clone()),
                ("dst_namespace", namespace.clone()),
                ("dst_pod", format!("{}-{}-{pod:05x}", arm.deployment, arm.hash)),
                ("dst_pod_template_hash", arm.hash.clone()),
                ("dst_service", arm.service.clone()),
                ("dst_serviceaccount", "default".to_owned()),
                ("server_id", self.identity()),
                ("target_addr", format!("{ip}:{port}")),
                ("target_ip", ip),
                ("target_port", port.clone()),
                ("tls", "true".to_owned()),
            ];
            let counts = Counts::Calls {
                rate: arm.rate(),
                per_mille: 1_000,
            };
            self.add(arm, "request_total", &[labels.into(), scraped.clone()], CLIENT, counts);
        }
        let rate = arm.rate() * i64::try_from(arm.pods()).unwrap_or(1);
        for (status, counts) in [
            ("OK", Counts::Answers { rate }),
            ("UNAVAILABLE", Counts::Failures { rate }),
        ] {
            let labels = [
                ("backend_group", "core"),
                ("backend_kind", "Service"),
                ("backend_name", &arm.service),
                ("backend_namespace", &namespace),
                ("backend_port", &port),
                ("grpc_status", status),
                ("parent_group", "core"),
                ("parent_kind", "Service"),
                ("parent_name", &self.service),
                ("parent_namespace", &namespace),
                ("parent_port", &port),
                ("route_group", "gateway.networking.k8s.io"),
                ("route_kind", "GRPCRoute"),
                ("route_name", &self.service),
                ("route_namespace", &namespace),
            ];
            let labels = labels.map(|(label, value)| (label, value.to_owned())).into();
            let metric = "outbound_grpc_route_backend_response_statuses_total";
            self.add(arm, metric, &[labels, scraped.clone()], CLIENT, counts);
        }
    }
}

/// Of a thousand calls so many are answered within this time.
fn within(ms: Option<u64>) -> i64 {
    match ms {
        Some(0..=1) => 50,
        Some(2..=50) => 500,
        Some(51..=200) => 950,
        Some(201..=500) => 995,
        _ => 1_000,
    }
}
