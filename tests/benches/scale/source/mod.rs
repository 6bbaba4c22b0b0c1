//! A Prometheus that has never scraped anything: it answers with as many series, labels and samples as one that scrapes the
//! proxies of all rollouts would, computed from the time alone. It must not know who asks.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serin::linkerd::latency::LATENCY_BOUNDS_MS;

use crate::objects::{Arm, IN_NAMESPACE, PORT, Rollout, STABLE_PODS, namespace};
use crate::selector::{Matcher, Selector};

/// Calls a second of one of stable's pods, and of the canary's: 5 % of all.
const STABLE_RATE: i64 = 95;
const CANARY_RATE: i64 = 10;
const SCRAPE_MS: i64 = 10_000;
/// Of ten calls of a bad canary so many fail.
const BAD_OF_TEN: i64 = 6;
/// What Linkerd takes for a failure.
const UNAVAILABLE: &str = "14";

/// The source. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    count: usize,
    /// When all proxies began, in milliseconds.
    began: i64,
    bad: RwLock<HashMap<Rollout, i64>>,
    asked: Mutex<Vec<Asked>>,
}

/// A query that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) took: Duration,
    pub(crate) bytes: usize,
    pub(crate) series: usize,
    /// Why it was not understood.
    pub(crate) problem: Option<String>,
}

impl Source {
    pub(crate) fn new(count: usize, now_ms: i64) -> Self {
        Self(Arc::new(Inner {
            count,
            began: now_ms - 3_600_000,
            bad: RwLock::default(),
            asked: Mutex::default(),
        }))
    }

    /// Serves it for as long as the runtime runs.
    pub(crate) fn serve(&self, listener: tokio::net::TcpListener) {
        let app = Router::new()
            .route("/api/v1/query", post(query))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
    }

    /// From this time on, in milliseconds, most calls of this rollout's canary fail.
    pub(crate) fn turn_bad(&self, rollouts: impl IntoIterator<Item = Rollout>, at_ms: i64) {
        let mut bad = self.0.bad.write().unwrap_or_else(PoisonError::into_inner);
        for of in rollouts {
            bad.entry(of).or_insert(at_ms);
        }
    }

    /// The queries so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, query: &str, at_ms: i64) -> Result<(Vec<u8>, usize), String> {
        let selector = Selector::parse(query)?;
        let mut out = Out {
            body: br#"{"status":"success","data":{"resultType":"matrix","result":["#.to_vec(),
            series: 0,
        };
        let from_ms = at_ms - selector.range_ms;
        for of in self.candidates(&selector) {
            let bad = *self
                .0
                .bad
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&of)
                .unwrap_or(&i64::MAX);
            let of = One {
                of,
                bad,
                began: self.0.began,
                names: Names::of(of),
            };
            of.write(&selector, (from_ms, at_ms), &mut out);
        }
        out.body.extend_from_slice(b"]}}");
        Ok((out.body, out.series))
    }

    /// The rollouts whose namespaces fit.
    fn candidates(&self, selector: &Selector) -> Vec<Rollout> {
        let by = ["namespace", "dst_namespace", "parent_namespace", "backend_namespace"];
        let named = selector.matchers.iter().filter(|m| by.contains(&m.label.as_str()));
        let only = named.filter_map(Matcher::only).min_by_key(|values| values.len());
        let groups = (0..self.0.count.div_ceil(IN_NAMESPACE))
            .filter(|group| only.is_none_or(|values| values.contains(&namespace(*group))));
        groups
            .flat_map(|group| group * IN_NAMESPACE..(group + 1) * IN_NAMESPACE)
            .filter(|number| *number < self.0.count)
            .map(Rollout)
            .collect()
    }
}

async fn query(State(source): State<Source>, body: Bytes) -> (StatusCode, Vec<u8>) {
    let began = Instant::now();
    let answer = asked(&body).and_then(|(query, at)| source.answer(&query, at));
    let (status, body, series, problem) = match answer {
        Ok((body, series)) => (StatusCode::OK, body, series, None),
        Err(problem) => {
            let body = serde_json::json!({ "status": "error", "errorType": "bad_data", "error": problem });
            (StatusCode::BAD_REQUEST, body.to_string().into_bytes(), 0, Some(problem))
        }
    };
    let asked = Asked {
        took: began.elapsed(),
        bytes: body.len(),
        series,
        problem,
    };
    source
        .0
        .asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked);
    (status, body)
}

/// The query of a form, and its time in milliseconds.
fn asked(body: &[u8]) -> Result<(String, i64), String> {
    let text = std::str::from_utf8(body).map_err(|e| e.to_string())?;
    let url = reqwest::Url::parse(&format!("http://form/?{text}")).map_err(|e| e.to_string())?;
    let field = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let query = field("query").ok_or("there is no query")?;
    let time = field("time").ok_or("there is no time")?;
    let (seconds, thousandths) = time.split_once('.').unwrap_or((&time, "0"));
    let parse = |text: &str| text.parse::<i64>().map_err(|e| e.to_string());
    Ok((query, parse(seconds)? * 1_000 + parse(thousandths)?))
}

struct Out {
    body: Vec<u8>,
    series: usize,
}

/// One rollout's series.
struct One {
    of: Rollout,
    /// Since when its canary is bad.
    bad: i64,
    began: i64,
    names: Names,
}

struct Names {
    namespace: String,
    service: String,
    arms: [ArmNames; 2],
}

struct ArmNames {
    arm: Arm,
    deployment: String,
    hash: String,
    service: String,
}

impl Names {
    fn of(of: Rollout) -> Self {
        let arm = |arm, suffix: &str| ArmNames {
            arm,
            deployment: of.deployment(arm),
            hash: of.hash(arm),
            service: format!("{}-{suffix}", of.name()),
        };
        Self {
            namespace: of.namespace(),
            service: of.name(),
            arms: [arm(Arm::Stable, "stable"), arm(Arm::Canary, "canary")],
        }
    }
}

type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// What a series counts: `calls` a second, of which so many out of a thousand are counted.
#[derive(Clone, Copy)]
enum Counts {
    Constant(i64),
    Good { rate: i64, bad: i64, per_mille: i64 },
    Bad { rate: i64, bad: i64 },
}

impl Counts {
    fn at(self, began: i64, at: i64) -> i64 {
        let calls = |rate: i64, ms: i64| rate * ms.max(0) / 1_000;
        match self {
            Self::Constant(value) => value,
            Self::Good { rate, bad, per_mille } => {
                let good = calls(rate, at.min(bad) - began) + calls(rate * (10 - BAD_OF_TEN), at - bad.min(at)) / 10;
                good * per_mille / 1_000
            }
            Self::Bad { rate, bad } => calls(rate * BAD_OF_TEN, at - bad) / 10,
        }
    }
}

impl One {
    fn write(&self, selector: &Selector, span: (i64, i64), out: &mut Out) {
        for arm in &self.names.arms {
            if arm.arm == Arm::Canary && !self.of.is_progressing() {
                continue;
            }
            let fits = |label: &str, value: &str| {
                let about = selector.matchers.iter().filter(|m| m.label == label);
                about.into_iter().all(|m| m.fits(value))
            };
            // The arm's own pods.
            if fits("namespace", &self.names.namespace)
                && fits("deployment", &arm.deployment)
                && fits("pod_template_hash", &arm.hash)
            {
                let pods = if arm.arm == Arm::Stable { STABLE_PODS } else { 1 };
                for pod in 0..pods {
                    self.pod(arm, pod, selector, span, out);
                }
            }
            // Its client's.
            if fits("dst_deployment", &arm.deployment) && fits("backend_name", &arm.service) {
                self.client(arm, selector, span, out);
            }
        }
    }

    fn rate(arm: &ArmNames) -> i64 {
        match arm.arm {
            Arm::Stable => STABLE_RATE,
            Arm::Canary => CANARY_RATE,
        }
    }

    /// From when on the arm is bad.
    fn bad(&self, arm: &ArmNames) -> i64 {
        match arm.arm {
            Arm::Stable => i64::MAX,
            Arm::Canary => self.bad,
        }
    }

    /// What the scrape adds to each series of a pod.
    fn scraped<'a>(&'a self, deployment: &'a str, hash: &'a str, pod: usize) -> Labels<'a> {
        let [high, low] = [self.of.0 / 200, self.of.0 % 200];
        vec![
            ("control_plane_ns", "linkerd".into()),
            ("deployment", deployment.into()),
            ("instance", format!("10.{}.{}.{}:4191", high, low, pod + 1).into()),
            ("job", "linkerd-proxy".into()),
            ("namespace", self.names.namespace.as_str().into()),
            ("pod", format!("{deployment}-{hash}-{pod:05x}").into()),
            ("pod_template_hash", hash.into()),
            ("workload_ns", self.names.namespace.as_str().into()),
        ]
    }

    fn inbound(&self) -> Labels<'_> {
        let ns = &self.names.namespace;
        vec![
            ("authority", "".into()),
            (
                "client_id",
                format!("default.{ns}.serviceaccount.identity.linkerd.cluster.local").into(),
            ),
            ("direction", "inbound".into()),
            ("route_group", "".into()),
            ("route_kind", "default".into()),
            ("route_name", "default".into()),
            ("srv_group", "policy.linkerd.io".into()),
            ("srv_kind", "server".into()),
            ("srv_name", "grpc".into()),
            ("srv_port", PORT.to_string().into()),
            ("target_addr", format!("0.0.0.0:{PORT}").into()),
            ("target_ip", "0.0.0.0".into()),
            ("target_port", PORT.to_string().into()),
            ("tls", "true".into()),
        ]
    }

    fn pod(&self, arm: &ArmNames, pod: usize, selector: &Selector, span: (i64, i64), out: &mut Out) {
        let (rate, bad) = (Self::rate(arm), self.bad(arm));
        let scraped = self.scraped(&arm.deployment, &arm.hash, pod);
        let offset = self.offset(pod);
        let mut series = |name: &'static str, more: Labels<'_>, counts| {
            let mut labels: Labels<'_> = vec![("__name__", name.into())];
            labels.extend(more);
            labels.extend(scraped.iter().cloned());
            self.series(&labels, counts, offset, selector, span, out);
        };
        series(
            "proxy_build_info",
            vec![("git_sha", "abcdef0".into()), ("version", "v2.300.0".into())],
            Counts::Constant(1),
        );
        series(
            "process_start_time_seconds",
            vec![],
            Counts::Constant(self.began / 1_000),
        );
        let answered = |class: &'static str, status: &'static str| {
            let mut labels = self.inbound();
            labels.extend([
                ("classification", class.into()),
                ("error", "".into()),
                ("grpc_status", status.into()),
                ("status_code", "200".into()),
            ]);
            labels
        };
        series(
            "response_total",
            answered("success", "0"),
            Counts::Good {
                rate,
                bad,
                per_mille: 1_000,
            },
        );
        if span.1 > bad {
            series(
                "response_total",
                answered("failure", UNAVAILABLE),
                Counts::Bad { rate, bad },
            );
        }
        for ms in LATENCY_BOUNDS_MS.iter().map(|ms| Some(*ms)).chain([None]) {
            let mut labels = self.inbound();
            labels.push(("le", ms.map_or(Cow::Borrowed("+Inf"), |ms| format!("{ms}.0").into())));
            labels.push(("status_code", "200".into()));
            // Answers take their time whether they fail or not.
            let calls = Counts::Good {
                rate,
                bad: i64::MAX,
                per_mille: within(ms),
            };
            series("response_latency_ms_bucket", labels, calls);
        }
    }

    fn client(&self, arm: &ArmNames, selector: &Selector, span: (i64, i64), out: &mut Out) {
        let (rate, bad) = (Self::rate(arm), self.bad(arm));
        let scraped = self.scraped("clients", "c11e27", 9);
        let offset = self.offset(9);
        let mut series = |name: &'static str, more: Labels<'_>, counts| {
            let mut labels: Labels<'_> = vec![("__name__", name.into())];
            labels.extend(more);
            labels.extend(scraped.iter().cloned());
            self.series(&labels, counts, offset, selector, span, out);
        };
        let ns = &self.names.namespace;
        let pods = if arm.arm == Arm::Stable { STABLE_PODS } else { 1 };
        for pod in 0..pods {
            let labels = vec![
                (
                    "authority",
                    format!("{}.{ns}.svc.cluster.local:{PORT}", self.names.service).into(),
                ),
                ("direction", "outbound".into()),
                ("dst_deployment", arm.deployment.as_str().into()),
                ("dst_namespace", ns.as_str().into()),
                ("dst_pod", format!("{}-{}-{pod:05x}", arm.deployment, arm.hash).into()),
                ("dst_pod_template_hash", arm.hash.as_str().into()),
                ("dst_service", arm.service.as_str().into()),
                ("dst_serviceaccount", "default".into()),
                (
                    "server_id",
                    format!("default.{ns}.serviceaccount.identity.linkerd.cluster.local").into(),
                ),
                (
                    "target_addr",
                    format!("10.9.{}.{}:{PORT}", self.of.0 % 200, pod + 1).into(),
                ),
                ("target_ip", format!("10.9.{}.{}", self.of.0 % 200, pod + 1).into()),
                ("target_port", PORT.to_string().into()),
                ("tls", "true".into()),
            ];
            series(
                "request_total",
                labels,
                Counts::Good {
                    rate,
                    bad: i64::MAX,
                    per_mille: 1_000,
                },
            );
        }
        let pods = i64::try_from(pods).unwrap_or(1);
        let backend = |status: &'static str| {
            vec![
                ("backend_group", "core".into()),
                ("backend_kind", "Service".into()),
                ("backend_name", arm.service.as_str().into()),
                ("backend_namespace", ns.as_str().into()),
                ("backend_port", PORT.to_string().into()),
                ("backend_section_name", "".into()),
                ("error", "".into()),
                ("grpc_status", status.into()),
                ("parent_group", "core".into()),
                ("parent_kind", "Service".into()),
                ("parent_name", self.names.service.as_str().into()),
                ("parent_namespace", ns.as_str().into()),
                ("parent_port", PORT.to_string().into()),
                ("parent_section_name", "".into()),
                ("route_group", "gateway.networking.k8s.io".into()),
                ("route_kind", "GRPCRoute".into()),
                ("route_name", self.names.service.as_str().into()),
                ("route_namespace", ns.as_str().into()),
            ]
        };
        let metric = "outbound_grpc_route_backend_response_statuses_total";
        let rate = rate * pods;
        series(
            metric,
            backend("OK"),
            Counts::Good {
                rate,
                bad,
                per_mille: 1_000,
            },
        );
        if span.1 > bad {
            series(metric, backend("UNAVAILABLE"), Counts::Bad { rate, bad });
        }
    }

    /// When in each interval the pod is scraped: targets are spread over it.
    fn offset(&self, pod: usize) -> i64 {
        i64::try_from((self.of.0 * 7 + pod * 3) % 100).unwrap_or(0) * SCRAPE_MS / 100
    }

    fn series(
        &self,
        labels: &Labels<'_>,
        counts: Counts,
        offset: i64,
        selector: &Selector,
        (from, to): (i64, i64),
        out: &mut Out,
    ) {
        let value = |name: &str| {
            labels
                .iter()
                .find(|(label, _)| *label == name)
                .map_or("", |(_, value)| value)
        };
        if !selector
            .matchers
            .iter()
            .all(|matcher| matcher.fits(value(&matcher.label)))
        {
            return;
        }
        let body = &mut out.body;
        body.extend_from_slice(if out.series == 0 {
            b"{\"metric\":{"
        } else {
            b",{\"metric\":{"
        });
        out.series += 1;
        let mut first = true;
        for (label, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            // No name or value here has anything to escape, and writing to a Vec can't fail.
            let _ = write!(
                body,
                "{}\"{label}\":\"{value}\"",
                if std::mem::take(&mut first) { "" } else { "," }
            );
        }
        body.extend_from_slice(b"},\"values\":[");
        let mut at = (from - offset).div_euclid(SCRAPE_MS) * SCRAPE_MS + offset + SCRAPE_MS;
        let mut first = true;
        while at <= to {
            let value = counts.at(self.began, at);
            let comma = if std::mem::take(&mut first) { "" } else { "," };
            let _ = write!(body, "{comma}[{}.{:03},\"{value}\"]", at / 1_000, at % 1_000);
            at += SCRAPE_MS;
        }
        body.extend_from_slice(b"]}");
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
