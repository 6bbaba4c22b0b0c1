//! A condition of a status, as Kubernetes writes it: [`metav1.Condition`] with words that are kept once. Must not know which there are.
//!
//! [`metav1.Condition`]: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/#condition-v1-meta

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::word::Word;

/// Whether something is so, since when, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// When `status` changed last.
    pub last_transition_time: Time,
    /// Why, in words: 1,024 bytes at most.
    pub message: Word,
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Why, in one word.
    pub reason: Word,
    /// `True`, `False` or `Unknown`.
    pub status: Word,
    /// Its name.
    #[serde(rename = "type")]
    pub type_: Word,
}

/// A list of them, one of each type.
pub(super) fn list(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<meta::Condition>();
    json_schema!({ "type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn is_written_as_kubernetes_writes_it() {
        let theirs = meta::Condition {
            last_transition_time: Time(Timestamp::from_second(1_790_000_000).unwrap()),
            message: "every field makes sense".to_owned(),
            observed_generation: Some(3),
            reason: "Parsed".to_owned(),
            status: "True".to_owned(),
            type_: "SpecValid".to_owned(),
        };
        let text = serde_json::to_string(&theirs).unwrap();
        let ours: Condition = serde_json::from_str(&text).unwrap();
        assert_eq!(
            serde_json::to_value(&ours).unwrap(),
            serde_json::to_value(&theirs).unwrap()
        );
        assert!(ours.type_ == "SpecValid" && ours.last_transition_time == theirs.last_transition_time);
    }
}
