//! TrafficSplit of split.smi-spec.io. Pure JSON.
//!
//! Linkerd's adaptor writes it into the apex's ServiceProfile: a weight of 0 is dropped there, all zeros mean the apex, a
//! backend without a weight crashes it, and weights above some 429,000 overflow. So both weights are always said, never both
//! zero, and 99,999 is the largest.

use serde_json::{Value, json};
use serin_core::Weight;
use serin_core::analysis::Sides;

use super::kind::{Kind, LEAST_BESIDE, Rules, Weights, written, written_beside};
use super::live::sides;
use super::spec::{RouteSpec, metadata};

/// The kind. Both versions are the same object but for the weights: numbers, and in v1alpha1 quantities too.
pub(super) struct Split;

/// An arm's entry.
struct Entry {
    index: usize,
    /// In thousandths: a quantity may be as small.
    milli: Option<i64>,
    is_text: bool,
}

impl Rules for Split {
    fn generated(&self, spec: &RouteSpec, (stable, canary): Weights) -> Value {
        let resource = Kind::TrafficSplit.resource();
        json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata(&spec.namespace, &spec.name, &spec.owner),
            "spec": {
                "service": spec.apex,
                "backends": [
                    { "service": spec.stable_service, "weight": stable },
                    { "service": spec.canary_service, "weight": canary },
                ],
            },
        })
    }

    fn weights(&self, spec: &RouteSpec, live: &Value) -> Option<Weights> {
        let (stable, canary) = pair(spec, live)?;
        // An entry without a weight has none for the adaptor either.
        let (stable, canary) = (stable.milli.unwrap_or(0), canary.milli.unwrap_or(0));
        if stable % 1_000 == 0 && canary % 1_000 == 0 {
            return Some((stable / 1_000, canary / 1_000));
        }
        Some((stable, canary))
    }

    fn reweigh(&self, spec: &RouteSpec, live: &Value, weight: Weight) -> Vec<Value> {
        let Some((stable, canary)) = pair(spec, live) else {
            if spec.adopted {
                return Vec::new();
            }
            let whole = self.generated(spec, written(weight));
            return vec![json!({ "op": "add", "path": "/spec/backends", "value": whole.pointer("/spec/backends") })];
        };
        let together = stable.milli.unwrap_or(0).saturating_add(canary.milli.unwrap_or(0)) / 1_000;
        let wanted = if spec.adopted && others(spec, live) > 0 && together > 0 {
            written_beside(weight, together)
        } else {
            written(weight)
        };
        if (stable.milli, canary.milli) == (Some(wanted.0 * 1_000), Some(wanted.1 * 1_000)) {
            return Vec::new();
        }
        let both = [
            (&stable, &spec.stable_service, wanted.0),
            (&canary, &spec.canary_service, wanted.1),
        ];
        let path = |entry: &Entry, field: &str| format!("/spec/backends/{}/{field}", entry.index);
        let tests = both
            .iter()
            .map(|(entry, name, _)| json!({ "op": "test", "path": path(entry, "service"), "value": name }));
        let writes = both.iter().map(|(entry, _, weight)| {
            // A text stays a text: some installations' schema takes nothing else.
            let value = if entry.is_text {
                json!(weight.to_string())
            } else {
                json!(weight)
            };
            json!({ "op": "add", "path": path(entry, "weight"), "value": value })
        });
        tests.chain(writes).collect()
    }

    fn sides(&self, spec: &RouteSpec, live: &Value) -> Sides {
        // The apex's own pods are stable's.
        sides(false, backends(live).any(|(_, _, service)| service == spec.apex))
    }

    fn misfit(&self, spec: &RouteSpec, live: &Value) -> Option<String> {
        let of = live
            .pointer("/spec/service")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let host = of.split('.').next().unwrap_or_default();
        if host != spec.apex {
            return Some(format!("its spec.service is {of:?}, not the apex {}", spec.apex));
        }
        let named = |service: &str| entries(live, service).len();
        for service in [&spec.stable_service, &spec.canary_service] {
            match named(service) {
                0 => return Some(format!("it names no backend {service}; name both arms' Services in it")),
                1 => {}
                _ => return Some(format!("it names {service} more than once; name it once")),
            }
        }
        let (stable, canary) = pair(spec, live)?;
        let together = stable.milli.unwrap_or(0).saturating_add(canary.milli.unwrap_or(0)) / 1_000;
        (others(spec, live) > 0 && together < LEAST_BESIDE).then(|| {
            format!(
                "{} and {} have a weight of {together} together beside other backends; multiply all weights so that they have \
                 at least {LEAST_BESIDE}, or a percent can't be said without changing the others' share",
                spec.stable_service, spec.canary_service
            )
        })
    }

    fn generated_fields(&self) -> &'static [&'static str] {
        &["/spec/service", "/spec/backends"]
    }
}

fn backends(live: &Value) -> impl Iterator<Item = (usize, &Value, &str)> {
    let list = live.pointer("/spec/backends").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, backend)| Some((index, backend, backend.get("service")?.as_str()?)))
}

fn entries(live: &Value, service: &str) -> Vec<Entry> {
    let of = backends(live).filter(|(_, _, name)| *name == service);
    of.map(|(index, backend, _)| {
        let weight = backend.get("weight");
        Entry {
            index,
            milli: weight.and_then(milli),
            is_text: weight.is_some_and(Value::is_string),
        }
    })
    .collect()
}

fn pair(spec: &RouteSpec, live: &Value) -> Option<(Entry, Entry)> {
    let first = |service: &str| entries(live, service).into_iter().next();
    Some((first(&spec.stable_service)?, first(&spec.canary_service)?))
}

/// What the backends weigh that are not the arms.
fn others(spec: &RouteSpec, live: &Value) -> i64 {
    backends(live)
        .filter(|(_, _, name)| *name != spec.stable_service && *name != spec.canary_service)
        .filter_map(|(_, backend, _)| milli(backend.get("weight")?))
        .fold(0, i64::saturating_add)
}

/// A weight in thousandths: a number, or a quantity such as `"90"`, `"500m"` or `"1k"`.
fn milli(weight: &Value) -> Option<i64> {
    if let Some(whole) = weight.as_i64() {
        return whole.checked_mul(1_000);
    }
    let text = match weight {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let (number, per) = match text.strip_suffix('m') {
        Some(number) => (number, 1),
        None => text
            .strip_suffix('k')
            .map_or((text.as_str(), 1_000), |n| (n, 1_000_000)),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 3 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let part: i64 = format!("{part:0<3}").parse().ok()?;
    whole.checked_mul(per)?.checked_add(part.checked_mul(per)? / 1_000)
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
