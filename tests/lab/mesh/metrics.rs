//! A proxy's counters, and their text for Prometheus: names, labels and bounds are Linkerd's. It must not know what is
//! counted, nor when.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::StatusCode;
use jiff::Timestamp;

use super::{
    classify::{Broken, Class, code_name},
    policy::Family,
};

const LATENCY_MS: [u32; 25] = [
    1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 2000, 3000, 4000, 5000, 10_000, 20_000, 30_000,
    40_000, 50_000,
];
/// Requests have some of these bounds only.
const BACKEND_SECONDS: [f64; 7] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0];
const REQUEST_SECONDS: [f64; 4] = [0.05, 0.5, 1.0, 10.0];

/// All counters of one proxy.
#[derive(Debug)]
pub(super) struct Metrics {
    started: Timestamp,
    /// By their labels.
    http: Mutex<BTreeMap<String, Arc<HttpSeries>>>,
    requests: Mutex<BTreeMap<(Family, String), Arc<RouteSeries>>>,
    backends: Mutex<BTreeMap<(Family, String), Arc<RouteSeries>>>,
}

/// `request_total`, `response_total` and `response_latency_ms` of one direction and one endpoint.
#[derive(Debug, Default)]
pub(super) struct HttpSeries(Mutex<Http>);

#[derive(Debug, Default)]
struct Http {
    requests: u64,
    by_status: BTreeMap<Option<u16>, HttpStatus>,
}

#[derive(Debug, Default)]
struct HttpStatus {
    latency: Histogram<25>,
    classes: BTreeMap<Class, u64>,
}

/// The counters of a route, or of one backend of a route.
#[derive(Debug, Default)]
pub(super) struct RouteSeries(Mutex<Route>);

#[derive(Debug, Default)]
struct Route {
    requests: u64,
    duration: Histogram<7>,
    /// By the labels of status and error.
    statuses: BTreeMap<(String, &'static str), u64>,
}

/// Values below each bound, counted apart; what is above all bounds is only in the total.
#[derive(Debug)]
struct Histogram<const N: usize> {
    counts: [u64; N],
    total: u64,
    sum: f64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            counts: [0; N],
            total: 0,
            sum: 0.0,
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn add(&mut self, value: f64, bounds: &[f64; N]) {
        self.total += 1;
        self.sum += value;
        let within = |(_, bound): &(&mut u64, &f64)| value <= **bound;
        if let Some((count, _)) = self.counts.iter_mut().zip(bounds).find(within) {
            *count += 1;
        }
    }

    fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HttpSeries {
    pub(super) fn request(&self) {
        lock(&self.0).requests += 1;
    }

    /// The first frame of an answer.
    pub(super) fn first_frame(&self, http: StatusCode, after: Duration) {
        let mut inner = lock(&self.0);
        let latency = &mut inner.by_status.entry(Some(http.as_u16())).or_default().latency;
        // Linkerd counts whole milliseconds.
        let ms = after.as_millis().try_into().unwrap_or(u32::MAX);
        latency.add(f64::from(ms), &LATENCY_MS.map(f64::from));
    }

    /// The end of an answer; without a status there was not even a beginning.
    pub(super) fn response(&self, http: Option<StatusCode>, class: Class) {
        let status = http.map(|http| http.as_u16());
        *lock(&self.0)
            .by_status
            .entry(status)
            .or_default()
            .classes
            .entry(class)
            .or_default() += 1;
    }
}

impl RouteSeries {
    pub(super) fn request(&self) {
        lock(&self.0).requests += 1;
    }

    pub(super) fn response(&self, status: String, error: Option<Broken>, duration: Option<Duration>) {
        let mut inner = lock(&self.0);
        if let Some(duration) = duration {
            inner.duration.add(duration.as_secs_f64(), &BACKEND_SECONDS);
        }
        *inner
            .statuses
            .entry((status, error.map_or("", Broken::label)))
            .or_default() += 1;
    }
}

impl Metrics {
    pub(super) fn new(started: Timestamp) -> Self {
        Self {
            started,
            http: Mutex::default(),
            requests: Mutex::default(),
            backends: Mutex::default(),
        }
    }

    /// The series of an endpoint, by labels of [`super::labels`].
    pub(super) fn http(&self, labels: &str) -> Arc<HttpSeries> {
        get(&self.http, labels.to_owned())
    }

    /// The series of a route.
    pub(super) fn route(&self, family: Family, route: &str) -> Arc<RouteSeries> {
        get(&self.requests, (family, format!("{route},hostname=\"\"")))
    }

    /// The series of one backend of a route.
    pub(super) fn backend(&self, family: Family, route: &str, backend: &str) -> Arc<RouteSeries> {
        get(&self.backends, (family, format!("{route},{backend}")))
    }

    /// The whole text.
    pub(super) fn render(&self, now: Timestamp) -> String {
        let mut text = String::new();
        self.render_http(&mut text);
        text.head("proxy_build_info", "gauge", "Proxy build info.");
        text.line(
            "proxy_build_info",
            "",
            r#"git_sha="",profile="lab",vendor="",version="0.0.0-lab""#,
            1,
        );
        for family in [Family::Grpc, Family::Http] {
            self.render_routes(&mut text, family);
        }
        self.render_process(&mut text, now);
        text.push_str("# EOF\n");
        text
    }

    fn render_http(&self, text: &mut String) {
        let all: Vec<_> = lock(&self.http)
            .iter()
            .map(|(k, v)| (k.clone(), Arc::clone(v)))
            .collect();
        text.head("request_total", "counter", "Total count of HTTP requests.");
        for (labels, series) in &all {
            let requests = lock(&series.0).requests;
            // A real proxy has no line before the first one either.
            if requests > 0 {
                text.line("request_total", "", labels, requests);
            }
        }
        let help = "Elapsed times between a request's headers being received and its response stream completing";
        text.head("response_latency_ms", "histogram", help);
        for (labels, series) in &all {
            for (status, HttpStatus { latency, .. }) in &lock(&series.0).by_status {
                let (Some(status), 1..) = (status, latency.total) else {
                    continue;
                };
                let labels = format!("{labels},status_code=\"{status}\"");
                for (bound, count) in LATENCY_MS.iter().zip(latency.cumulative()) {
                    text.line(
                        "response_latency_ms",
                        "_bucket",
                        &format!("{labels},le=\"{bound}\""),
                        count,
                    );
                }
                text.line(
                    "response_latency_ms",
                    "_bucket",
                    &format!("{labels},le=\"+Inf\""),
                    latency.total,
                );
                text.line("response_latency_ms", "_count", &labels, latency.total);
                text.line("response_latency_ms", "_sum", &labels, latency.sum);
            }
        }
        text.head("response_total", "counter", "Total count of HTTP responses.");
        for (labels, series) in &all {
            for (status, HttpStatus { classes, .. }) in &lock(&series.0).by_status {
                let status = status
                    .map(|status| format!("status_code=\"{status}\","))
                    .unwrap_or_default();
                for (class, count) in classes {
                    text.line(
                        "response_total",
                        "",
                        &format!("{labels},{status}{}", class.labels()),
                        count,
                    );
                }
            }
        }
    }

    fn render_routes(&self, text: &mut String, family: Family) {
        // In a profile's mode there are no such metrics.
        let of = |map: &Mutex<BTreeMap<(Family, String), Arc<RouteSeries>>>| -> Vec<(String, Arc<RouteSeries>)> {
            let map = lock(map);
            let mine = map.iter().filter(|((f, _), _)| *f == family);
            mine.map(|((_, labels), series)| (labels.clone(), Arc::clone(series)))
                .collect()
        };
        let (requests, backends) = (of(&self.requests), of(&self.backends));
        if requests.is_empty() && backends.is_empty() {
            return;
        }
        let (prefix, status_label) = match family {
            Family::Grpc => ("outbound_grpc_route", "grpc_status"),
            Family::Http => ("outbound_http_route", "http_status"),
            Family::Profile => return,
        };
        let name = |rest: &str| format!("{prefix}_{rest}");
        let durations =
            |text: &mut String, name: &str, help: &str, all: &[(String, Arc<RouteSeries>)], bounds: &[f64]| {
                text.head(name, "histogram", help);
                for (labels, series) in all {
                    let duration = &lock(&series.0).duration;
                    text.line(name, "_sum", labels, duration.sum);
                    text.line(name, "_count", labels, duration.total);
                    for (bound, count) in BACKEND_SECONDS.iter().zip(duration.cumulative()) {
                        if bounds.contains(bound) {
                            text.line(name, "_bucket", &format!("le=\"{bound:?}\",{labels}"), count);
                        }
                    }
                    text.line(name, "_bucket", &format!("le=\"+Inf\",{labels}"), duration.total);
                }
            };
        let help = "The time between request initialization and response completion.";
        durations(
            text,
            &name("request_duration_seconds"),
            help,
            &requests,
            &REQUEST_SECONDS,
        );
        text.head(
            &name("backend_requests"),
            "counter",
            "The total number of requests dispatched.",
        );
        for (labels, series) in &backends {
            text.line(&name("backend_requests"), "_total", labels, lock(&series.0).requests);
        }
        let help = "The time between request completion and response completion.";
        durations(
            text,
            &name("backend_response_duration_seconds"),
            help,
            &backends,
            &BACKEND_SECONDS,
        );
        let statuses = |text: &mut String, name: &str, help: &str, all: &[(String, Arc<RouteSeries>)]| {
            text.head(name, "counter", help);
            for (labels, series) in all {
                for ((status, error), count) in &lock(&series.0).statuses {
                    let labels = format!("{labels},{status_label}=\"{status}\",error=\"{error}\"");
                    text.line(name, "_total", &labels, count);
                }
            }
        };
        statuses(
            text,
            &name("backend_response_statuses"),
            "Completed responses.",
            &backends,
        );
        let help = "Completed request-response streams.";
        statuses(text, &name("request_statuses"), help, &requests);
    }

    fn render_process(&self, text: &mut String, now: Timestamp) {
        let help = "Time that the process started (in seconds since the UNIX epoch).";
        text.head("process_start_time_seconds", "gauge", help);
        text.line("process_start_time_seconds", "", "", seconds(self.started));
        text.head(
            "process_clock_time_seconds",
            "gauge",
            "Current system time for this process.",
        );
        text.line("process_clock_time_seconds", "", "", seconds(now));
        let help = "Total time since the process started (in seconds)";
        text.head("process_uptime_seconds", "counter", help);
        let uptime = seconds(now) - seconds(self.started);
        text.line("process_uptime_seconds", "_total", "", uptime.max(0.0));
    }
}

/// The status label of a route's series.
pub(super) fn status_label(family: Family, http: Option<StatusCode>, grpc: Option<u32>) -> String {
    match family {
        Family::Grpc => grpc.map_or("UNKNOWN", code_name).to_owned(),
        Family::Http | Family::Profile => http.map(|http| http.as_str().to_owned()).unwrap_or_default(),
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

fn get<K: Ord, V: Default>(map: &Mutex<BTreeMap<K, Arc<V>>>, key: K) -> Arc<V> {
    Arc::clone(lock(map).entry(key).or_default())
}

/// Lines of the text format. Writing to a String can't fail.
trait Text {
    fn head(&mut self, name: &str, kind: &str, help: &str);
    fn line(&mut self, name: &str, suffix: &str, labels: &str, value: impl std::fmt::Display);
}

impl Text for String {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = if labels.is_empty() {
            writeln!(self, "{name}{suffix} {value}")
        } else {
            writeln!(self, "{name}{suffix}{{{labels}}} {value}")
        };
    }
}

#[cfg(test)]
mod tests;
