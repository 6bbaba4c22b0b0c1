//! The text of one series, read without a copy of it. Must not know where it stood.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::answer::{Sample, Series};
use super::labels::Names;

/// The labels of a series, borrowed from its text.
type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// One series as it stands in the answer, or one value of an instant as a series of a single sample.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    /// All its labels.
    pub(super) labels: Pairs<'a>,
    /// In order of time.
    pub(super) samples: Vec<Sample>,
    /// How long its text was.
    pub(super) bytes: usize,
}

impl Raw<'_> {
    /// A label's value; empty when it is absent, as in PromQL.
    pub(super) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// Reads the text of a series.
    pub(super) fn read(text: &[u8]) -> Result<Raw<'_>, String> {
        let RawSeries {
            labels,
            mut samples,
            value,
        } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        samples.extend(value);
        Ok(Raw {
            labels,
            samples,
            bytes: text.len(),
        })
    }

    /// The series with all its labels.
    pub(super) fn whole(self, names: &mut Names) -> Series {
        let labels = self.labels.iter().map(|(name, value)| (&**name, &**value));
        Series {
            labels: names.labels(labels),
            samples: self.samples,
        }
    }
}

/// A series; its texts are borrowed where they hold no escapes.
#[derive(Deserialize)]
struct RawSeries<'a> {
    #[serde(borrow, rename = "metric", deserialize_with = "texts")]
    labels: Pairs<'a>,
    /// Absent for native histograms, which no query here asks for.
    #[serde(default, rename = "values", deserialize_with = "samples")]
    samples: Vec<Sample>,
    /// The only one of an instant.
    #[serde(default, deserialize_with = "sample")]
    value: Option<Sample>,
}

struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Reads).map(Self)
    }
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pairs<'de>, D::Error> {
    struct Reads;
    impl<'de> Visitor<'de> for Reads {
        type Value = Pairs<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("labels")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut labels = Vec::with_capacity(32);
            while let Some((Text(name), Text(value))) = map.next_entry()? {
                labels.push((name, value));
            }
            Ok(labels)
        }
    }
    deserializer.deserialize_map(Reads)
}

fn samples<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Sample>, D::Error> {
    struct Reads;
    impl<'de> Visitor<'de> for Reads {
        type Value = Vec<Sample>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("samples")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut samples = Vec::with_capacity(8);
            while let Some((seconds, Text(value))) = seq.next_element::<(f64, Text<'de>)>()? {
                samples.push(Sample {
                    at: millis(seconds),
                    value: number(&value).map_err(de::Error::custom)?,
                });
            }
            samples.sort_by_key(|sample| sample.at);
            samples.shrink_to_fit();
            Ok(samples)
        }
    }
    deserializer.deserialize_seq(Reads)
}

fn sample<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Sample>, D::Error> {
    let (seconds, Text(value)) = <(f64, Text<'de>)>::deserialize(deserializer)?;
    let value = number(&value).map_err(de::Error::custom)?;
    let at = millis(seconds);
    Ok(Some(Sample { at, value }))
}

/// A value as Prometheus writes it.
pub(super) fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` saturates, and no time that Prometheus knows comes near"
)]
fn millis(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}
