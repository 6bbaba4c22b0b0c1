//! A Prometheus that has never scraped anything: it answers with as many series, labels and samples as one that scrapes the proxies
//! of all rollouts on trial would, computed from the time alone. It must not know who asks.
//!
//! Rollouts at rest have no series here: nobody should ask for them.

mod series;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};

use crate::objects::Rollout;
use crate::selector::{Question, Selector};
use lab::clock::now;
use series::Series;

/// The source. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Source(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// When all proxies but canaries' began, in milliseconds.
    began: i64,
    /// Between two scrapes, in milliseconds.
    scrape: i64,
    trials: RwLock<BTreeMap<Rollout, Trial>>,
    asked: Mutex<Vec<Asked>>,
}

/// A rollout on trial.
#[derive(Debug)]
struct Trial {
    /// Since when its canary is bad, in milliseconds.
    bad: i64,
    series: Vec<Series>,
}

/// A query that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// When the answer was ready.
    pub(crate) at: Timestamp,
    pub(crate) took: Duration,
    pub(crate) bytes: usize,
    pub(crate) series: usize,
    /// Series among them that count failures.
    pub(crate) failures: usize,
    /// Why it was not understood.
    pub(crate) problem: Option<String>,
}

struct Answer {
    body: Vec<u8>,
    series: usize,
    failures: usize,
}

impl Source {
    /// One that has been there for an hour, and scrapes so often.
    pub(crate) fn new(scrape: SignedDuration) -> Self {
        Self(Arc::new(Inner {
            began: now().as_millisecond() - 3_600_000,
            scrape: i64::try_from(scrape.as_millis()).unwrap_or(i64::MAX),
            trials: RwLock::default(),
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

    /// A canary of this hash is on trial from now on; its proxies began then, or with all others.
    pub(crate) fn begin(&self, of: Rollout, canary_hash: &str, began: Option<Timestamp>) {
        let canary = began.map_or(self.0.began, Timestamp::as_millisecond);
        let series = series::of_rollout(of, canary_hash, (self.0.began, canary));
        self.write().insert(of, Trial { bad: i64::MAX, series });
    }

    /// From this time on, in milliseconds, most calls of this rollout's canary fail.
    pub(crate) fn turn_bad(&self, rollouts: impl IntoIterator<Item = Rollout>, at_ms: i64) {
        let mut trials = self.write();
        for of in rollouts {
            if let Some(trial) = trials.get_mut(&of) {
                trial.bad = trial.bad.min(at_ms);
            }
        }
    }

    /// How many queries were answered so far.
    pub(crate) fn answered(&self) -> usize {
        self.asked().len()
    }

    /// The queries after so many.
    pub(crate) fn asked_since(&self, answered: usize) -> Vec<Asked> {
        self.asked().iter().skip(answered).cloned().collect()
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Rollout, Trial>> {
        self.0.trials.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Rollout, Trial>> {
        self.0.trials.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, query: &str, at_ms: i64) -> Result<Answer, String> {
        Ok(match Question::parse(query)? {
            Question::Samples(selector) => self.samples(&selector, at_ms),
            Question::Buckets { by, selector } => self.buckets(&by, &selector, at_ms),
        })
    }

    /// All series of the selector that there are by then, with the rollout's time of turning bad.
    fn each(&self, selector: &Selector, to: i64, mut each: impl FnMut(&Series, i64)) {
        let names = selector.only("__name__");
        for trial in self.read().values() {
            let named = trial
                .series
                .iter()
                .filter(|one| names.is_none_or(|names| names.contains(one.name)));
            let there = named.filter(|one| one.is_there(to, trial.bad));
            for one in there.filter(|one| selector.fits(|label| one.label(label))) {
                each(one, trial.bad);
            }
        }
    }

    /// Raw samples.
    fn samples(&self, selector: &Selector, to: i64) -> Answer {
        let mut body = br#"{"status":"success","data":{"resultType":"matrix","result":["#.to_vec();
        let (scrape, from) = (self.0.scrape, to - selector.range_ms);
        let (mut count, mut failures) = (0, 0);
        self.each(selector, to, |series, bad| {
            let offset = series.offset * scrape / 1_000;
            let first = (from.max(series.began) - offset).div_euclid(scrape) * scrape + offset + scrape;
            let comma = if count == 0 { "" } else { "," };
            count += 1;
            failures += usize::from(series.is_of_failures());
            // Writing to a Vec can't fail.
            let _ = write!(body, "{comma}{{\"metric\":{{{}}},\"values\":[", series.text);
            let (mut at, mut comma) = (first, "");
            while at <= to {
                let value = series.at(at, bad);
                let _ = write!(body, "{comma}[{}.{:03},\"{value}\"]", at / 1_000, at % 1_000);
                (at, comma) = (at + scrape, ",");
            }
            body.extend_from_slice(b"]}");
        });
        body.extend_from_slice(b"]}}");
        Answer {
            body,
            series: count,
            failures,
        }
    }

    /// How much counters rose in the window, summed.
    fn buckets(&self, by: &[String], selector: &Selector, to: i64) -> Answer {
        let mut sums: BTreeMap<Vec<String>, i64> = BTreeMap::new();
        self.each(selector, to, |series, bad| {
            let key = by.iter().map(|label| series.label(label).to_owned()).collect();
            let rose = series.at(to, bad) - series.at(to - selector.range_ms, bad);
            *sums.entry(key).or_default() += rose;
        });
        let result: Vec<_> = sums
            .iter()
            .map(|(key, sum)| {
                let metric: serde_json::Map<_, _> =
                    by.iter().cloned().zip(key.iter().cloned().map(Into::into)).collect();
                serde_json::json!({ "metric": metric, "value": [to / 1_000, sum.to_string()] })
            })
            .collect();
        let body = serde_json::json!({ "status": "success", "data": { "resultType": "vector", "result": result } });
        Answer {
            body: body.to_string().into_bytes(),
            series: sums.len(),
            failures: 0,
        }
    }
}

async fn query(State(source): State<Source>, body: Bytes) -> (StatusCode, Vec<u8>) {
    let began = Instant::now();
    let answer = asked(&body).and_then(|(query, at)| source.answer(&query, at));
    let (status, answer, problem) = match answer {
        Ok(answer) => (StatusCode::OK, answer, None),
        Err(problem) => {
            let body = serde_json::json!({ "status": "error", "errorType": "bad_data", "error": problem });
            let body = body.to_string().into_bytes();
            let (series, failures) = (0, 0);
            let answer = Answer { body, series, failures };
            (StatusCode::BAD_REQUEST, answer, Some(problem))
        }
    };
    let asked = Asked {
        at: now(),
        took: began.elapsed(),
        bytes: answer.body.len(),
        series: answer.series,
        failures: answer.failures,
        problem,
    };
    source.asked().push(asked);
    (status, answer.body)
}

/// The query of a form, and its time in milliseconds: now, if it names none.
fn asked(body: &[u8]) -> Result<(String, i64), String> {
    let text = std::str::from_utf8(body).map_err(|e| e.to_string())?;
    let url = reqwest::Url::parse(&format!("http://form/?{text}")).map_err(|e| e.to_string())?;
    let field = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let query = field("query").ok_or("there is no query")?;
    let Some(time) = field("time") else {
        return Ok((query, now().as_millisecond()));
    };
    let (seconds, thousandths) = time.split_once('.').unwrap_or((&time, "0"));
    let parse = |text: &str| text.parse::<i64>().map_err(|e| e.to_string());
    Ok((query, parse(seconds)? * 1_000 + parse(thousandths)?))
}
