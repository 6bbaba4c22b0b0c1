//! For tests: a Prometheus that holds raw series and selects them as PromQL does, as far as Serin's own queries go. It must not
//! know what the series mean.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};

use super::Prometheus;

/// The queries that came, as `query=…&time=…` without escapes.
pub(super) type Asked = Arc<Mutex<Vec<String>>>;

/// What is answered.
pub(super) type Reply = (StatusCode, String);

/// A server that answers each query by this function of it.
pub(super) async fn prometheus(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> (Prometheus, Asked) {
    prometheus_within(Duration::from_secs(20), answer).await
}

/// The same, for a client that waits so long.
pub(super) async fn prometheus_within(
    timeout: Duration,
    answer: impl Fn(&str) -> Reply + Send + Sync + 'static,
) -> (Prometheus, Asked) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let asked = Asked::default();
    let (heard, answer) = (Arc::clone(&asked), Arc::new(answer));
    let app = Router::new().route(
        "/api/v1/query",
        post(move |form: String| {
            let form = form.replace('+', " ");
            let form = percent_encoding::percent_decode_str(&form)
                .decode_utf8_lossy()
                .into_owned();
            heard.lock().unwrap().push(form.clone());
            let answer = Arc::clone(&answer);
            async move { answer(&form) }
        }),
    );
    let app = app.layer(axum::extract::DefaultBodyLimit::max(8 << 20));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (Prometheus::with_timeout(&url, timeout).unwrap(), asked)
}

pub(super) fn matrix(result: &Value) -> Reply {
    (
        StatusCode::OK,
        json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string(),
    )
}

/// A stored series.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) labels: BTreeMap<String, String>,
    /// Milliseconds, and what was counted.
    pub(super) samples: Vec<(i64, u64)>,
}

impl Stored {
    pub(super) fn new(name: &str, labels: &[(&str, &str)], samples: &[(i64, u64)]) -> Self {
        let labels = labels.iter().copied().filter(|(_, value)| !value.is_empty());
        let labels = labels.chain([("__name__", name)]);
        Self {
            labels: labels
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            samples: samples.to_vec(),
        }
    }

    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// All that it stores.
#[derive(Debug, Clone, Default)]
pub(super) struct Store(pub(super) Vec<Stored>);

impl Store {
    /// The answer to `query=…&time=…`.
    pub(super) fn reply(&self, form: &str) -> Reply {
        let query = form.strip_prefix("query=").unwrap();
        let (query, time) = query.rsplit_once("&time=").unwrap();
        let (seconds, ms) = time.split_once('.').unwrap();
        let at = seconds.parse::<i64>().unwrap() * 1_000 + ms.parse::<i64>().unwrap();
        matrix(&self.select(query, at))
    }

    /// The raw samples of a range selector.
    pub(super) fn select(&self, query: &str, at: i64) -> Value {
        let (selector, window) = query.strip_suffix("ms]").unwrap().rsplit_once('[').unwrap();
        let since = at - window.parse::<i64>().unwrap();
        let matchers = matchers(selector);
        let found = self.0.iter().filter(|one| matchers.iter().all(|m| m.matches(one)));
        let series = found.filter_map(|one| {
            let samples = one.samples.iter().filter(|(time, _)| *time > since && *time <= at);
            let values: Vec<_> = samples
                .map(|(time, value)| json!([seconds(*time), value.to_string()]))
                .collect();
            (!values.is_empty()).then(|| json!({"metric": one.labels, "values": values}))
        });
        Value::Array(series.collect())
    }
}

#[expect(clippy::cast_precision_loss, reason = "times of tests are small")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

struct Matcher {
    label: String,
    equals: bool,
    /// Values that need no pattern.
    plain: HashSet<String>,
    any: Vec<Vec<char>>,
}

impl Matcher {
    fn matches(&self, series: &Stored) -> bool {
        let value = series.label(&self.label);
        let chars: Vec<char> = value.chars().collect();
        let is_one = self.plain.contains(value) || self.any.iter().any(|pattern| fits(pattern, &chars));
        is_one == self.equals
    }
}

/// `name{label="value",label=~"a|b",label!="c"}`.
fn matchers(selector: &str) -> Vec<Matcher> {
    let (name, mut rest) = selector.strip_suffix('}').unwrap().split_once('{').unwrap();
    let mut all = Vec::new();
    if !name.is_empty() {
        all.push(Matcher {
            label: "__name__".to_owned(),
            equals: true,
            plain: HashSet::from([name.to_owned()]),
            any: vec![],
        });
    }
    while !rest.is_empty() {
        let (label, after) = rest.split_once(['=', '!']).unwrap();
        let equals = rest[label.len()..].starts_with('=');
        let is_pattern = after.starts_with('~');
        let text = after.split_once('"').unwrap().1;
        let mut value = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.push(chars.next().unwrap()),
                c => value.push(c),
            }
        }
        rest = chars.as_str().trim_start_matches(',');
        let (mut plain, mut any) = (HashSet::new(), Vec::new());
        if is_pattern {
            for alternative in value.split('|') {
                if alternative.contains(['\\', '.', '(']) {
                    any.push(alternative.chars().collect());
                } else {
                    plain.insert(alternative.to_owned());
                }
            }
        } else {
            plain.insert(value);
        }
        all.push(Matcher {
            label: label.to_owned(),
            equals,
            plain,
            any,
        });
    }
    all
}

/// Literals, `\` before one, `.` for any, and `(…)?` for what may be there.
fn fits(pattern: &[char], value: &[char]) -> bool {
    match pattern {
        [] => value.is_empty(),
        ['(', rest @ ..] => {
            let end = rest.iter().position(|c| *c == ')').unwrap();
            let (inner, after) = (&rest[..end], &rest[end + 2..]);
            fits(after, value) || fits(&[inner, after].concat(), value)
        }
        ['.', rest @ ..] => !value.is_empty() && fits(rest, &value[1..]),
        ['\\', c, rest @ ..] | [c, rest @ ..] => value.first() == Some(c) && fits(rest, &value[1..]),
    }
}

#[test]
fn selects_as_promql_does() {
    let one = |le: &str| Stored::new("b", &[("le", le), ("ns", "a.b")], &[(1_000, 1), (2_000, 2)]);
    let store = Store(vec![one("500"), one("500.0"), one("5000"), one("+Inf")]);
    let found = |query: &str| {
        let found = store.select(query, 2_000);
        found
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["metric"]["le"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(r#"b{le=~"500(\\.0)?|\\+Inf"}[5000ms]"#), ["500", "500.0", "+Inf"]);
    assert_eq!(found(r#"b{ns=~"a\\.b",le!="500"}[5000ms]"#), ["500.0", "5000", "+Inf"]);
    assert_eq!(found(r#"b{ns="a_b"}[5000ms]"#), [""; 0]);
    assert_eq!(
        store.select(r#"{le="500"}[1000ms]"#, 2_000)[0]["values"],
        json!([[2.0, "2"]])
    );
}
