//! Users' own metrics, from the spec to the core's: each mistake by its field's path. Must not know a server.

use serin_core::analysis::sequential::Role;
use serin_core::analysis::{CustomCounts, CustomKind, CustomMetric, CustomValue, SuccessObjective};
use serin_core::rollout::FieldError;

use super::parse::parse_share;
use super::rollout::{JudgingSpec, MetricSpec, RouteKindSpec};
use crate::linkerd::outbound::{self, OUTBOUND};
use crate::query::{CounterQuery, ValueQuery};

/// What a pair of counters is held to when the spec does not say.
const TOLERANCE: &str = "0.2%";
const PASS_TOLERANCE: &str = "0.5%";
/// Breaches in a row that fail, when the spec does not say.
const BREACHES: i32 = 3;

/// Parses the metrics; those that make no sense are left out, and each mistake is among the errors.
pub(super) fn parse(specs: &[MetricSpec], errors: &mut Vec<FieldError>) -> Vec<CustomMetric> {
    let mut metrics: Vec<CustomMetric> = Vec::with_capacity(specs.len());
    for (place, spec) in specs.iter().enumerate() {
        let mut reader = Reader { place, errors };
        reader.name(&spec.name, &metrics);
        if let Some(kind) = reader.kind(spec) {
            let role = if spec.dry_run { Role::DryRun } else { Role::Judged };
            metrics.push(CustomMetric {
                name: spec.name.clone(),
                role,
                kind,
            });
        }
    }
    metrics
}

/// The clients' view of success, held to the margins of `success`; none where the route has no metrics of its own.
pub(super) fn outbound(kind: RouteKindSpec, success: &SuccessObjective, judging: JudgingSpec) -> Option<CustomMetric> {
    let role = match judging {
        JudgingSpec::Judged => Role::Judged,
        JudgingSpec::DryRun => Role::DryRun,
        JudgingSpec::Off => return None,
    };
    let [bad, total] = match kind {
        RouteKindSpec::GrpcRoute => outbound::grpc_route(),
        RouteKindSpec::HttpRoute | RouteKindSpec::PolicyHttpRoute => outbound::http_route(),
        RouteKindSpec::TrafficSplit => return None,
    };
    Some(CustomMetric {
        name: OUTBOUND.to_owned(),
        role,
        kind: CustomKind::Counts(CustomCounts {
            bad,
            total,
            verb: Some("failed as clients saw it".to_owned()),
            objective: None,
            tolerance: success.tolerance,
            pass_tolerance: success.pass_tolerance,
        }),
    })
}

/// Reads one metric.
struct Reader<'a> {
    place: usize,
    errors: &'a mut Vec<FieldError>,
}

impl Reader<'_> {
    fn wrong(&mut self, field: &str, problem: impl Into<String>) {
        let path = format!("spec.analysis.metrics[{}].{field}", self.place);
        self.errors.push(FieldError::new(path, problem));
    }

    fn name(&mut self, name: &str, before: &[CustomMetric]) {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(letters) || name.starts_with('-') || name.ends_with('-') {
            self.wrong("name", format!("{name:?} is no name; use a to z, 0 to 9 and -"));
        } else if name == "success-rate" || name == OUTBOUND || name.starts_with("latency-") {
            self.wrong(
                "name",
                format!("{name} is the name of a metric of Serin's own; choose another"),
            );
        } else if before.iter().any(|metric| metric.name == name) {
            self.wrong(
                "name",
                format!("there are two metrics {name}; each needs a name of its own"),
            );
        }
    }

    fn kind(&mut self, spec: &MetricSpec) -> Option<CustomKind> {
        match (&spec.bad, &spec.total, &spec.query) {
            (Some(bad), Some(total), None) => {
                let value_only = [
                    ("min", spec.min.is_some()),
                    ("max", spec.max.is_some()),
                    ("breaches", spec.breaches.is_some()),
                ];
                self.none_of(
                    &value_only,
                    "it goes with `query`; counters are judged by `tolerance` and `objective`",
                );
                self.counts(spec, bad, total)
            }
            (None, None, Some(query)) => {
                let counts_only = [
                    ("objective", spec.objective.is_some()),
                    ("tolerance", spec.tolerance.is_some()),
                    ("passTolerance", spec.pass_tolerance.is_some()),
                ];
                self.none_of(
                    &counts_only,
                    "it goes with `bad` and `total`; a value is judged by `min` and `max`",
                );
                self.value(spec, query)
            }
            (bad, total, Some(_)) if bad.is_some() || total.is_some() => {
                self.wrong(
                    "query",
                    "a metric is either counters (`bad` and `total`) or one value (`query`), not both",
                );
                None
            }
            (Some(_), None, _) => {
                self.wrong(
                    "total",
                    "it is missing; write the counter of all that `bad` counts the bad ones of",
                );
                None
            }
            (None, Some(_), _) => {
                self.wrong("bad", "it is missing; write the counter of the bad ones among `total`");
                None
            }
            _ => {
                self.wrong(
                    "query",
                    "it is missing; write `bad` and `total` (counters), or `query` (one value)",
                );
                None
            }
        }
    }

    fn none_of(&mut self, fields: &[(&str, bool)], problem: &str) {
        for (field, _) in fields.iter().filter(|(_, there)| *there) {
            self.wrong(field, problem);
        }
    }

    fn counts(&mut self, spec: &MetricSpec, bad: &str, total: &str) -> Option<CustomKind> {
        let mut fine = true;
        for (field, text) in [("bad", bad), ("total", total)] {
            if let Err(problem) = CounterQuery::parse(text) {
                self.wrong(field, problem.to_string());
                fine = false;
            }
        }
        let objective = match &spec.objective {
            None => Some(None),
            Some(text) => self.share("objective", text).map(Some),
        };
        let tolerance = self.share("tolerance", spec.tolerance.as_deref().unwrap_or(TOLERANCE));
        let pass_tolerance = self.share(
            "passTolerance",
            spec.pass_tolerance.as_deref().unwrap_or(PASS_TOLERANCE),
        );
        let counts = CustomCounts {
            bad: bad.to_owned(),
            total: total.to_owned(),
            verb: None,
            objective: objective?,
            tolerance: tolerance?,
            pass_tolerance: pass_tolerance?,
        };
        fine.then_some(CustomKind::Counts(counts))
    }

    fn share(&mut self, field: &str, text: &str) -> Option<f64> {
        parse_share(text).map_err(|problem| self.wrong(field, problem)).ok()
    }

    fn value(&mut self, spec: &MetricSpec, text: &str) -> Option<CustomKind> {
        let query = ValueQuery::parse(text)
            .map_err(|problem| self.wrong("query", problem.to_string()))
            .ok();
        let mut fine = true;
        match (spec.min, spec.max) {
            (None, None) => {
                self.wrong(
                    "max",
                    "it is missing; give `min`, `max` or both, or the value means nothing",
                );
                fine = false;
            }
            (Some(min), Some(max)) if min > max => {
                self.wrong("min", format!("{min} is above max, {max}: no value would be right"));
                fine = false;
            }
            _ => {}
        }
        let breaches = spec.breaches.unwrap_or(BREACHES);
        let Some(breaches) = u32::try_from(breaches).ok().filter(|breaches| *breaches > 0) else {
            self.wrong("breaches", format!("{breaches} breaches fail nothing; give at least 1"));
            return None;
        };
        let value = CustomValue {
            query: text.to_owned(),
            min: spec.min,
            max: spec.max,
            breaches,
            per_arm: query?.tells_arms_apart(),
        };
        fine.then_some(CustomKind::Value(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_view_can_be_asked_for_each_arm() {
        let success = SuccessObjective {
            objective: 0.99,
            tolerance: 0.002,
            pass_tolerance: 0.005,
            role: Role::Judged,
        };
        for kind in [
            RouteKindSpec::GrpcRoute,
            RouteKindSpec::HttpRoute,
            RouteKindSpec::PolicyHttpRoute,
        ] {
            let metric = outbound(kind, &success, JudgingSpec::DryRun).unwrap();
            let counts = metric.counts().unwrap();
            for query in [&counts.bad, &counts.total] {
                assert!(CounterQuery::parse(query).is_ok(), "{query}");
            }
        }
        assert_eq!(
            outbound(RouteKindSpec::TrafficSplit, &success, JudgingSpec::DryRun),
            None
        );
        assert_eq!(outbound(RouteKindSpec::GrpcRoute, &success, JudgingSpec::Off), None);
    }

    const PAIR: &str = r#"{name: checkout, bad: 'bad{pod=~"{{pods}}"}', total: 'sum(all{pod=~"{{pods}}"})'"#;

    fn parsed(yaml: &[&str]) -> Result<Vec<CustomMetric>, Vec<String>> {
        let specs: Vec<MetricSpec> = yaml.iter().map(|one| serde_saphyr::from_str(one).unwrap()).collect();
        let mut errors = Vec::new();
        let metrics = parse(&specs, &mut errors);
        if errors.is_empty() {
            Ok(metrics)
        } else {
            Err(errors.iter().map(ToString::to_string).collect())
        }
    }

    fn wrong(yaml: &str) -> String {
        parsed(&[yaml]).unwrap_err().join("; ")
    }

    #[test]
    fn pairs_of_counters_and_values_are_read() {
        let pair = format!("{PAIR}, tolerance: 0.1%, objective: 99.9%}}");
        let value = "{name: memory, query: 'max(memory{pod=~\"{{pods}}\"})', max: 500000000, dryRun: true}";
        let metrics = parsed(&[&pair, value]).unwrap();
        let counts = metrics[0].counts().unwrap();
        assert!((counts.tolerance - 0.001).abs() < 1e-12 && (counts.pass_tolerance - 0.005).abs() < 1e-12);
        assert!((counts.objective.unwrap() - 0.999).abs() < 1e-12);
        let memory = metrics[1].value().unwrap();
        assert_eq!(
            (memory.max, memory.breaches, memory.per_arm),
            (Some(500_000_000.0), 3, true)
        );
        assert_eq!((metrics[0].role, metrics[1].role), (Role::Judged, Role::DryRun));
    }

    #[test]
    fn every_mistake_is_named_by_its_field() {
        for (yaml, says) in [
            (
                format!("{PAIR}, query: up, max: 1}}"),
                "spec.analysis.metrics[0].query: a metric is either",
            ),
            ("{name: a, bad: x}".to_owned(), "metrics[0].total: it is missing"),
            ("{name: a, total: x}".to_owned(), "metrics[0].bad: it is missing"),
            ("{name: a}".to_owned(), "metrics[0].query: it is missing"),
            (format!("{PAIR}, max: 1}}"), "metrics[0].max: it goes with `query`"),
            (
                "{name: a, query: up, max: 1, tolerance: 1%}".to_owned(),
                "metrics[0].tolerance: it goes with `bad`",
            ),
            ("{name: a, query: up}".to_owned(), "metrics[0].max: it is missing"),
            (
                "{name: a, query: up, min: 2, max: 1}".to_owned(),
                "metrics[0].min: 2 is above max, 1",
            ),
            (
                "{name: a, query: up, max: 1, breaches: 0}".to_owned(),
                "metrics[0].breaches: 0 breaches",
            ),
            (
                "{name: a, query: 'up{pod=\"{{pod}}\"}', max: 1}".to_owned(),
                "metrics[0].query: `{{pod}}` is no variable",
            ),
            (
                "{name: a, bad: 'b{pod=~\"{{pods}}\"}', total: all}".to_owned(),
                "metrics[0].total: it says the same of both arms",
            ),
            (
                "{name: a, bad: '9lives{pod=~\"{{pods}}\"}', total: 'all{pod=~\"{{pods}}\"}'}".to_owned(),
                "metrics[0].bad: it can't be counted exactly",
            ),
            (
                format!("{PAIR}, objective: 101%}}"),
                "metrics[0].objective: `101%` is no percentage",
            ),
            (
                "{name: latency-mine, query: up, max: 1}".to_owned(),
                "metrics[0].name: latency-mine is the name",
            ),
            (
                "{name: Mine, query: up, max: 1}".to_owned(),
                "metrics[0].name: \"Mine\" is no name",
            ),
        ] {
            let said = wrong(&yaml);
            assert!(said.contains(says), "{yaml}: {said}");
        }
        let twice = "{name: a, query: up, max: 1}";
        assert!(parsed(&[twice, twice]).unwrap_err()[0].starts_with("spec.analysis.metrics[1].name: there are two"));
    }
}
