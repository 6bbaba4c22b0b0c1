//! What an arm runs and how far it is, read from its Deployment and that one's ReplicaSets. Pure but for the reading.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::ResourceExt as _;
use serin_core::rollout::{Arm, Revision};

use crate::api::REVISION_ANNOTATION;

/// Set by the Deployment controller on a Deployment and on each of its ReplicaSets.
const DEPLOYMENT_REVISION: &str = "deployment.kubernetes.io/revision";
/// Set by the Deployment controller on a ReplicaSet and its pods.
pub(super) const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// The longest name of a revision.
const LONGEST_NAME: usize = 200;

/// The arm as the core sees it.
pub(super) fn arm(deployment: &Deployment, replica_sets: &[impl Borrow<ReplicaSet>]) -> Arm {
    let current = current(deployment, replica_sets);
    let spec = deployment.spec.as_ref();
    let status = deployment.status.as_ref();
    let desired = spec.and_then(|s| s.replicas).unwrap_or(1);
    let count = |n: Option<i32>| n.unwrap_or(0);
    let settled = caught_up(deployment)
        && current.is_some()
        && status.is_some_and(|s| {
            let all = [s.updated_replicas, s.available_replicas, s.replicas];
            all.iter().all(|n| count(*n) == desired)
        });
    Arm {
        revision: current.map(revision),
        desired,
        ready: current.map_or(0, |rs| count(rs.status.as_ref().and_then(|s| s.ready_replicas))),
        ready_any: count(status.and_then(|s| s.ready_replicas)),
        settled,
    }
}

/// The labels by which a Deployment finds its pods.
pub(super) fn selector(deployment: &Deployment) -> BTreeMap<String, String> {
    deployment
        .spec
        .as_ref()
        .and_then(|s| s.selector.match_labels.clone())
        .unwrap_or_default()
}

fn caught_up(deployment: &Deployment) -> bool {
    let observed = deployment
        .status
        .as_ref()
        .and_then(|s| s.observed_generation)
        .unwrap_or(0);
    deployment
        .metadata
        .generation
        .is_some_and(|generation| observed >= generation)
}

/// The ReplicaSet of the Deployment's present template; `None` while the Deployment controller has not caught up.
fn current<'a>(deployment: &Deployment, replica_sets: &'a [impl Borrow<ReplicaSet>]) -> Option<&'a ReplicaSet> {
    if !caught_up(deployment) {
        return None;
    }
    let uid = deployment.metadata.uid.as_deref()?;
    let number = deployment.annotations().get(DEPLOYMENT_REVISION)?;
    replica_sets.iter().map(Borrow::borrow).find(|rs: &&ReplicaSet| {
        let owned = rs
            .owner_references()
            .iter()
            .any(|owner| owner.uid == uid && owner.controller == Some(true));
        owned && rs.annotations().get(DEPLOYMENT_REVISION) == Some(number)
    })
}

fn revision(rs: &ReplicaSet) -> Revision {
    let hash = rs
        .labels()
        .get(POD_TEMPLATE_HASH)
        .cloned()
        .unwrap_or_else(|| rs.name_any());
    let template = rs
        .spec
        .as_ref()
        .and_then(|s| s.template.as_ref())
        .and_then(|t| t.metadata.as_ref());
    let name = template
        .and_then(|m| m.annotations.as_ref())
        .and_then(|a| a.get(REVISION_ANNOTATION))
        // It stands in status, events, queries and commits: what is longer is no name.
        .filter(|name| name.len() <= LONGEST_NAME)
        .cloned();
    Revision {
        name: name.unwrap_or_else(|| hash.clone()),
        hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(generation: i64, observed: i64, number: &str) -> Deployment {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web", "uid": "u1", "generation": generation, "annotations": {DEPLOYMENT_REVISION: number}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {}},
            "status": {"observedGeneration": observed, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2},
        }))
        .unwrap()
    }

    fn replica_set(number: &str, name: Option<&str>) -> ReplicaSet {
        let annotations = name
            .map(|n| serde_json::json!({REVISION_ANNOTATION: n}))
            .unwrap_or_default();
        serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": format!("web-h{number}"), "labels": {POD_TEMPLATE_HASH: format!("h{number}")},
                "annotations": {DEPLOYMENT_REVISION: number},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u1", "controller": true}],
            },
            "spec": {"selector": {}, "template": {"metadata": {"annotations": annotations}}},
            "status": {"replicas": 2, "readyReplicas": 1},
        }))
        .unwrap()
    }

    #[test]
    fn reads_the_revision_of_the_present_template() {
        let sets = [replica_set("1", Some("1.0.0")), replica_set("2", Some("1.1.0"))];
        let arm = arm(&deployment(3, 3, "2"), &sets);
        assert_eq!(
            arm.revision,
            Some(Revision {
                name: "1.1.0".into(),
                hash: "h2".into()
            })
        );
        assert_eq!((arm.desired, arm.ready, arm.ready_any, arm.settled), (2, 1, 2, true));
    }

    #[test]
    fn names_a_revision_by_its_hash_when_the_config_repository_did_not() {
        let arm = arm(&deployment(3, 3, "1"), &[replica_set("1", None)]);
        assert_eq!(
            arm.revision,
            Some(Revision {
                name: "h1".into(),
                hash: "h1".into()
            })
        );
    }

    #[test]
    fn a_huge_annotation_is_no_name() {
        let huge = "1".repeat(200_000);
        let arm = arm(&deployment(3, 3, "1"), &[replica_set("1", Some(&huge))]);
        assert_eq!(arm.revision.map(|r| r.name).as_deref(), Some("h1"));
    }

    #[test]
    fn knows_no_revision_while_the_deployment_controller_is_behind() {
        let arm = arm(&deployment(4, 3, "2"), &[replica_set("2", Some("1.1.0"))]);
        assert_eq!((arm.revision, arm.settled), (None, false));
    }
}
