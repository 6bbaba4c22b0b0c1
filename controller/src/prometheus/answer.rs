//! Prometheus's answer to a query, decoded by ourselves: `warnings` mean that the answer is partial, and must not be
//! lost. Must not know how the answer came here.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::labels::{Labels, Names};
use super::pieces::{Pieces, TooLong};
use super::raw::{Raw, number};

/// One raw sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Milliseconds since the epoch.
    pub(super) at: i64,
    /// As Prometheus has it: NaN is possible.
    pub(super) value: f64,
}

/// One series of a range selector's answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Series {
    /// Its labels, the metric's name among them: all of them, or those that counting reads.
    pub(super) labels: Labels,
    /// In order of time.
    pub(super) samples: Vec<Sample>,
}

impl Series {
    /// A label's value; empty when it is absent, as in PromQL.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name)
    }

    /// For tests: a series with these labels, and these values at these milliseconds.
    #[cfg(test)]
    pub(super) fn of(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Self {
        let sample = |(at, value): &(i64, f64)| Sample { at: *at, value: *value };
        Self {
            labels: Names::default().labels(labels.iter().copied()),
            samples: samples.iter().map(sample).collect(),
        }
    }
}

/// One value of an instant query's answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Point {
    /// All its labels; none for a scalar.
    pub(super) labels: BTreeMap<String, String>,
    /// As Prometheus has it: NaN is possible.
    pub(super) value: f64,
}

/// Why an answer can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Prometheus says that the query failed.
    Failed { kind: String, message: String },
    /// It could not see everything.
    Partial(Vec<String>),
    /// It is no answer of Prometheus.
    Malformed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "R: DeserializeOwned")]
struct Answer<R> {
    status: String,
    data: Option<Data<R>>,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "R: DeserializeOwned")]
struct Data<R> {
    result_type: String,
    result: R,
}

#[derive(Deserialize)]
struct RawPoint {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

/// The raw samples of a range selector, or the values of an instant, read while they come: each series is handed on as soon as its
/// text is whole.
///
/// What was handed on counts only when [`Reader::finish`] says that all of the answer was one.
#[derive(Debug)]
pub(super) struct Reader {
    pieces: Pieces,
    wrong: Option<String>,
    is: Kind,
}

/// What an answer is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Raw samples.
    Matrix,
    /// Values of one instant.
    Vector,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Matrix => "matrix",
            Self::Vector => "vector",
        }
    }
}

impl Reader {
    /// Of an answer that is to be this.
    pub(super) fn of(is: Kind) -> Self {
        Self {
            pieces: Pieces::default(),
            wrong: None,
            is,
        }
    }

    /// Reads on.
    pub(super) fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(Raw<'_>)) -> Result<(), Unusable> {
        let wrong = &mut self.wrong;
        let read = self.pieces.feed(bytes, &mut |piece| {
            if wrong.is_some() {
                return;
            }
            match Raw::read(piece) {
                Ok(raw) => each(raw),
                Err(problem) => *wrong = Some(problem),
            }
        });
        read.map_err(|TooLong| Unusable::Malformed("a part of it is longer than any of Prometheus's".to_owned()))
    }

    /// Whether all of it was an answer.
    pub(super) fn finish(self) -> Result<(), Unusable> {
        let (rest, cut) = self.pieces.rest();
        let data: Data<Length> = data(&rest)?;
        if data.result_type != self.is.word() {
            return Err(Unusable::Malformed(format!(
                "it is a {}, not a {}",
                data.result_type,
                self.is.word()
            )));
        }
        if data.result.0 != Some(cut) {
            return Err(Unusable::Malformed("there are no series in it".to_owned()));
        }
        self.wrong.map_or(Ok(()), |wrong| Err(Unusable::Malformed(wrong)))
    }
}

/// The raw samples of a range selector.
pub(super) fn decode(body: &[u8]) -> Result<Vec<Series>, Unusable> {
    let (mut reader, mut names, mut all) = (Reader::of(Kind::Matrix), Names::default(), Vec::new());
    reader.feed(body, &mut |raw| all.push(raw.whole(&mut names)))?;
    reader.finish()?;
    Ok(all)
}

/// The values of an instant query: of a vector, or the only one of a scalar.
pub(super) fn decode_instant(body: &[u8]) -> Result<Vec<Point>, Unusable> {
    let data: Data<serde_json::Value> = data(body)?;
    let malformed = |e: serde_json::Error| Unusable::Malformed(e.to_string());
    match data.result_type.as_str() {
        "vector" => {
            let raw: Vec<RawPoint> = serde_json::from_value(data.result).map_err(malformed)?;
            let point = |RawPoint { metric, value }| {
                Ok(Point {
                    labels: metric,
                    value: number(&value.1).map_err(Unusable::Malformed)?,
                })
            };
            raw.into_iter().map(point).collect()
        }
        "scalar" => {
            let (_, value): (f64, String) = serde_json::from_value(data.result).map_err(malformed)?;
            Ok(vec![Point {
                labels: BTreeMap::new(),
                value: number(&value).map_err(Unusable::Malformed)?,
            }])
        }
        other => Err(Unusable::Malformed(format!(
            "it is a {other}, not values of one instant"
        ))),
    }
}

fn data<R: DeserializeOwned>(body: &[u8]) -> Result<Data<R>, Unusable> {
    let answer: Answer<R> = serde_json::from_slice(body).map_err(|e| Unusable::Malformed(e.to_string()))?;
    if answer.status != "success" {
        return Err(Unusable::Failed {
            kind: answer.error_type,
            message: answer.error,
        });
    }
    if !answer.warnings.is_empty() {
        return Err(Unusable::Partial(answer.warnings));
    }
    answer
        .data
        .ok_or_else(|| Unusable::Malformed("there is no data in it".to_owned()))
}

/// How many elements an array has; `None`: it is none.
struct Length(Option<usize>);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counts;
        impl<'de> Visitor<'de> for Counts {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of series")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Length, A::Error> {
                let mut length = 0;
                // In place of each series stands a null; anything else is none.
                let mut only_series = true;
                while let Some(element) = seq.next_element::<Option<IgnoredAny>>()? {
                    only_series &= element.is_none();
                    length += 1;
                }
                Ok(Length(only_series.then_some(length)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Length, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Length(None))
            }

            fn visit_unit<E>(self) -> Result<Length, E> {
                Ok(Length(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Length, E> {
                Ok(Length(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Length, E> {
                Ok(Length(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Length, E> {
                Ok(Length(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Length, E> {
                Ok(Length(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Length, E> {
                Ok(Length(None))
            }
        }
        deserializer.deserialize_any(Counts)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(value: &serde_json::Value) -> Result<Vec<Series>, Unusable> {
        decode(value.to_string().as_bytes())
    }

    fn matrix(result: &serde_json::Value) -> serde_json::Value {
        json!({"status": "success", "data": {"resultType": "matrix", "result": result}})
    }

    #[test]
    fn reads_series_with_times_to_the_millisecond() {
        let got = answer(&matrix(&json!([
            {"metric": {"__name__": "up", "pod": "a"}, "values": [[1_435_781_430.781, "1"], [1_435_781_445.782, "123456789012"]]}
        ])))
        .unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].label("pod"), "a");
        assert_eq!(got[0].label("absent"), "");
        assert_eq!(
            got[0].samples[0],
            Sample {
                at: 1_435_781_430_781,
                value: 1.0
            }
        );
        assert_eq!(
            got[0].samples[1],
            Sample {
                at: 1_435_781_445_782,
                value: 123_456_789_012.0
            }
        );
    }

    #[test]
    fn reads_the_values_of_one_instant() {
        let instant =
            |data: serde_json::Value| decode_instant(json!({"status": "success", "data": data}).to_string().as_bytes());
        let got = instant(json!({"resultType": "vector", "result": [{"metric": {"pod": "a"}, "value": [1.5, "7"]}]}))
            .unwrap();
        assert_eq!(got[0].labels.get("pod").map(String::as_str), Some("a"));
        assert!((got[0].value - 7.0).abs() < f64::EPSILON);
        let got = instant(json!({"resultType": "scalar", "result": [1.5, "3"]})).unwrap();
        assert!((got[0].value - 3.0).abs() < f64::EPSILON);
        assert!(matches!(
            instant(json!({"resultType": "matrix", "result": []})),
            Err(Unusable::Malformed(_))
        ));
    }

    #[test]
    fn an_empty_answer_is_an_answer() {
        assert_eq!(answer(&matrix(&json!([]))), Ok(vec![]));
    }

    #[test]
    fn keeps_numbers_that_are_none_for_the_counter_to_judge() {
        let got = answer(&matrix(
            &json!([{"metric": {}, "values": [[1, "NaN"], [2, "+Inf"], [3, "-Inf"]]}]),
        ))
        .unwrap();
        assert!(got[0].samples[0].value.is_nan());
        assert!(got[0].samples[1].value.is_infinite());
        assert!(got[0].samples[2].value.is_infinite());
    }

    #[test]
    fn a_warning_makes_the_answer_partial_however_whole_it_looks() {
        let mut body = matrix(&json!([{"metric": {}, "values": [[1, "1"]]}]));
        body["warnings"] = json!(["store 2 is away"]);
        assert_eq!(
            answer(&body),
            Err(Unusable::Partial(vec!["store 2 is away".to_owned()]))
        );
    }

    #[test]
    fn remarks_that_are_no_warnings_do_no_harm() {
        let mut body = matrix(&json!([]));
        body["infos"] = json!(["PromQL info: metric might not be a counter"]);
        assert_eq!(answer(&body), Ok(vec![]));
    }

    #[test]
    fn says_what_prometheus_says_when_it_refuses() {
        let body = json!({"status": "error", "errorType": "bad_data", "error": "parse error"});
        let failed = Unusable::Failed {
            kind: "bad_data".to_owned(),
            message: "parse error".to_owned(),
        };
        assert_eq!(answer(&body), Err(failed));
    }

    #[test]
    fn whatever_else_comes_is_malformed() {
        for body in [
            json!({"status": "success"}),
            json!({"status": "success", "data": {"resultType": "vector", "result": []}}),
            matrix(&json!([{"metric": {}, "values": [[1, "many"]]}])),
            matrix(&json!([{"metric": {}, "values": [["soon", "1"]]}])),
            matrix(&json!("nothing")),
            json!([]),
        ] {
            assert!(matches!(answer(&body), Err(Unusable::Malformed(_))), "{body}");
        }
        assert!(matches!(decode(b"<html>"), Err(Unusable::Malformed(_))));
    }
}
