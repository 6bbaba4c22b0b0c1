//! A stand-in for Prometheus that has never scraped anything: it answers as one that scrapes the proxies of all rollouts would,
//! computed from the time alone, and one question it leaves open. It must not know what is decided.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State, routing::post};
use jiff::Timestamp;
use lab::clock::now;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

use super::objects::{Arm, COUNT, NAMESPACE, PORT, Rollout, SLOW};

const SCRAPE_MS: i64 = 2_000;
/// Calls a second of an arm's pod: enough for a verdict in one tick.
const STABLE_RATE: i64 = 19_000;
const CANARY_RATE: i64 = 1_000;
/// What Linkerd takes for a failure.
const UNAVAILABLE: &str = "14";
/// How long the slow question takes.
const SLOWLY: Duration = Duration::from_secs(30);

/// The stand-in. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// When all proxies began.
    began: Timestamp,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// Clients call since then.
    open: Option<Timestamp>,
    /// Those whose canary fails every second call, since then.
    bad: BTreeMap<Rollout, Timestamp>,
    waits: Vec<Wait>,
}

/// Somebody waited for the slow question's answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) from: Timestamp,
    /// Until it was given up, or answered.
    pub(super) to: Option<Timestamp>,
}

impl Source {
    /// Serves it for as long as the runtime runs.
    pub(super) fn serve(listener: TcpListener) -> anyhow::Result<(Self, SocketAddr)> {
        let address = listener.local_addr()?;
        let source = Self(Arc::new(Inner {
            began: now() - Duration::from_mins(60),
            told: Mutex::default(),
        }));
        let app = Router::new()
            .route("/api/v1/query", post(query))
            .with_state(source.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok((source, address))
    }

    /// From now on clients call. Until then nobody did.
    pub(super) fn open(&self) {
        self.told().open.get_or_insert(now());
    }

    /// From now on clients call this rollout, and its canary fails.
    pub(super) fn turn_bad(&self, of: Rollout) {
        self.told().bad.entry(of).or_insert(now());
    }

    /// When somebody waited for the slow answer.
    pub(super) fn waits(&self) -> Vec<Wait> {
        self.told().waits.clone()
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All series of the metrics that a selector asks for: whose they are, and who was meant, is for the asker to tell.
    fn matrix(&self, query: &str, at: Timestamp) -> Vec<Value> {
        let told = self.told();
        let mut all = Vec::new();
        for of in (0..COUNT).map(Rollout).filter(|of| of.is_on_trial()) {
            for arm in Arm::BOTH {
                let bad = told.bad.get(&of).copied();
                let calls = Calls {
                    rate: match arm {
                        Arm::Stable => STABLE_RATE,
                        Arm::Canary => CANARY_RATE,
                    },
                    since: bad.or(told.open),
                    fail: arm == Arm::Canary && bad.is_some(),
                };
                let pod = Pod { of, arm };
                if query.contains("proxy_build_info") {
                    all.push(pod.series("proxy_build_info", &json!({ "version": "v1" }), at, |_| 1));
                    let began = self.0.began.as_second();
                    all.push(pod.series("process_start_time_seconds", &json!({}), at, |_| began));
                }
                if query.contains("response_total") {
                    let answered = |class: &str, status: &str| json!({ "classification": class, "grpc_status": status, "status_code": "200" });
                    let good = answered("success", "0");
                    all.push(pod.series("response_total", &good, at, |ms| calls.until(ms, false)));
                    let failed = answered("failure", UNAVAILABLE);
                    all.push(pod.series("response_total", &failed, at, |ms| calls.until(ms, true)));
                }
                if query.contains("response_latency_ms_bucket") {
                    let every = |ms| calls.until(ms, false) + calls.until(ms, true);
                    all.push(pod.series("response_latency_ms_bucket", &json!({ "le": "+Inf" }), at, every));
                }
            }
        }
        all
    }
}

async fn query(State(source): State<Source>, form: String) -> String {
    let field = |name: &str| {
        let url = reqwest::Url::parse(&format!("http://form/?{form}")).ok()?;
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let query = field("query").unwrap_or_default();
    let at = field("time").and_then(|time| time.parse::<f64>().ok());
    if query.contains(SLOW) {
        let _waits = Waits::begin(&source);
        sleep(SLOWLY).await;
    }
    let result = match at {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds of this century")]
        Some(at) => {
            let at = Timestamp::from_millisecond((at * 1_000.0) as i64).unwrap_or_default();
            json!({ "resultType": "matrix", "result": source.matrix(&query, at) })
        }
        // What the page wants to know.
        None => json!({ "resultType": "vector", "result": [] }),
    };
    json!({ "status": "success", "data": result }).to_string()
}

/// One who waits; the end is noted when the answer is given, or when nobody waits for it any more.
struct Waits<'a> {
    source: &'a Source,
    place: usize,
}

impl<'a> Waits<'a> {
    fn begin(source: &'a Source) -> Self {
        let mut told = source.told();
        let place = told.waits.len();
        told.waits.push(Wait { from: now(), to: None });
        drop(told);
        Self { source, place }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(wait) = self.source.told().waits.get_mut(self.place) {
            wait.to = Some(now());
        }
    }
}

/// What a pod answered.
#[derive(Clone, Copy)]
struct Calls {
    rate: i64,
    since: Option<Timestamp>,
    fail: bool,
}

impl Calls {
    /// Up to a time in milliseconds.
    fn until(self, ms: i64, failed: bool) -> i64 {
        let since = self.since.map_or(i64::MAX, Timestamp::as_millisecond);
        let calls = self.rate * ms.saturating_sub(since).max(0) / 1_000;
        let failures = if self.fail { calls / 2 } else { 0 };
        if failed { failures } else { calls - failures }
    }
}

/// An arm's only pod.
#[derive(Clone, Copy)]
struct Pod {
    of: Rollout,
    arm: Arm,
}

impl Pod {
    /// Its samples of the last intervals, by what was counted at a time in milliseconds.
    fn series(self, name: &str, more: &Value, at: Timestamp, count: impl Fn(i64) -> i64) -> Value {
        let (deployment, hash) = (self.of.deployment(self.arm), self.of.hash(self.arm));
        let mut labels = json!({
            "__name__": name, "namespace": NAMESPACE, "deployment": deployment, "pod_template_hash": hash,
            "pod": format!("{deployment}-{hash}-0"), "instance": format!("{deployment}:4191"), "job": "linkerd-proxy",
            "direction": "inbound", "srv_port": PORT.to_string(), "route_name": "default", "tls": "true",
        });
        if let (Some(labels), Some(more)) = (labels.as_object_mut(), more.as_object()) {
            labels.extend(more.clone());
        }
        let last = at.as_millisecond().div_euclid(SCRAPE_MS) * SCRAPE_MS;
        let values: Vec<_> = (0..30)
            .rev()
            .map(|back| last - back * SCRAPE_MS)
            .map(|ms| json!([ms / 1_000, count(ms).to_string()]))
            .collect();
        json!({ "metric": labels, "values": values })
    }
}
