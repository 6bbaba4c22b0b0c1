//! What stands in a cluster for one of many rollouts, as JSON. Pure; it must not know who writes it.

use jiff::Timestamp;
use lab::remembered;
use serde_json::{Value, json};
use serin::{
    api::{FINALIZER, REVISION_ANNOTATION},
    traffic::{Kind, RouteSpec, canary_service, stable_service},
};
use serin_core::{
    Weight,
    analysis::{Baseline, PodCounts},
    rollout::{Commit, Phase, RestNote, Revision},
};

pub(super) const COUNT: usize = 200;
/// One of so many is on trial, the others are at rest.
const ON_TRIAL: usize = 4;
pub(super) const NAMESPACE: &str = "crowd";
pub(super) const PORT: u16 = 50051;
const WEIGHT: i64 = 5;
pub(super) const NEXT_WEIGHT: i64 = 50;
pub(super) const STABLE_REVISION: &str = "1.0.0";
pub(super) const CANARY_REVISION: &str = "1.1.0";
/// A metric that Prometheus takes long to answer for.
pub(super) const SLOW: &str = "slow_to_answer";

/// One of the rollouts, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rollout(pub(super) usize);

/// What happens to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its user asks Prometheus something that takes long.
    Hangs,
    /// Its spec makes no sense, in the middle of a trial.
    Errs,
    /// Its canary turns bad, and there is nothing in its repository that git can read.
    Garbage,
    /// Its canary turns bad.
    Bad,
    /// Its canary is good.
    Good,
    /// Nothing is on trial.
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arm {
    Stable,
    Canary,
}

impl Arm {
    pub(super) const BOTH: [Self; 2] = [Self::Stable, Self::Canary];

    fn label(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}

impl Rollout {
    /// The bad ones are the first to be looked at.
    pub(super) fn role(self) -> Role {
        match self.0 {
            0 => Role::Hangs,
            4 => Role::Errs,
            8 => Role::Garbage,
            n if !n.is_multiple_of(ON_TRIAL) => Role::Rest,
            n if n.is_multiple_of(5) => Role::Bad,
            _ => Role::Good,
        }
    }

    pub(super) fn is_on_trial(self) -> bool {
        self.role() != Role::Rest
    }

    pub(super) fn name(self) -> String {
        format!("web-{:03}", self.0)
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        name.strip_prefix("web-")?.parse().ok().map(Self)
    }

    pub(super) fn deployment(self, arm: Arm) -> String {
        match arm {
            Arm::Stable => self.name(),
            Arm::Canary => format!("{}-canary", self.name()),
        }
    }

    /// The hash of the arm's pod template.
    pub(super) fn hash(self, arm: Arm) -> String {
        format!("{}{:03}", arm.label(), self.0)
    }

    fn revision(self, arm: Arm) -> Revision {
        let name = match arm {
            Arm::Canary if self.is_on_trial() => CANARY_REVISION,
            _ => STABLE_REVISION,
        };
        Revision {
            name: name.to_owned(),
            hash: self.hash(arm),
        }
    }

    fn replicas(self, arm: Arm) -> usize {
        usize::from(arm == Arm::Stable || self.is_on_trial())
    }

    fn labels(self, arm: Arm) -> Value {
        json!({ "app": self.name(), "arm": arm.label() })
    }

    pub(super) fn apex(self) -> Value {
        service(&self.name(), &self.labels(Arm::Stable))
    }

    /// An arm's Service, as Serin makes it.
    pub(super) fn arm_service(self, arm: Arm) -> Value {
        let mut selector = self.labels(arm);
        match arm {
            Arm::Stable => service(&stable_service(&self.name()), &selector),
            Arm::Canary => {
                if let Some(labels) = selector.as_object_mut() {
                    labels.insert("pod-template-hash".to_owned(), json!(self.hash(arm)));
                }
                service(&canary_service(&self.name()), &selector)
            }
        }
    }

    fn template(self, arm: Arm, hash: Option<String>) -> Value {
        let mut labels = self.labels(arm);
        if let (Some(labels), Some(hash)) = (labels.as_object_mut(), hash) {
            labels.insert("pod-template-hash".to_owned(), json!(hash));
        }
        json!({
            "metadata": { "labels": labels, "annotations": { REVISION_ANNOTATION: self.revision(arm).name } },
            "spec": { "containers": [{
                "name": "app", "image": "registry.example.com/web:1", "ports": [{ "name": "grpc", "containerPort": PORT }],
            }] },
        })
    }

    pub(super) fn arm_deployment(self, arm: Arm) -> Value {
        json!({
            "metadata": { "name": self.deployment(arm), "annotations": { "deployment.kubernetes.io/revision": "1" } },
            "spec": {
                "replicas": self.replicas(arm), "selector": { "matchLabels": self.labels(arm) },
                "template": self.template(arm, None),
            },
        })
    }

    /// The present ReplicaSet of a Deployment with this uid.
    pub(super) fn replica_set(self, arm: Arm, uid: &str) -> Value {
        let (hash, deployment) = (self.hash(arm), self.deployment(arm));
        let template = self.template(arm, Some(hash.clone()));
        let labels = template.pointer("/metadata/labels").cloned().unwrap_or_default();
        json!({
            "metadata": {
                "name": format!("{deployment}-{hash}"), "labels": labels,
                "annotations": { "deployment.kubernetes.io/revision": "1" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment, "uid": uid, "controller": true,
                }],
            },
            "spec": { "replicas": self.replicas(arm), "selector": { "matchLabels": labels }, "template": template },
        })
    }

    /// What the Deployment controller would say of either.
    pub(super) fn pods(self, arm: Arm) -> Value {
        let all = self.replicas(arm);
        json!({ "status": { "observedGeneration": 1, "replicas": all, "readyReplicas": all, "availableReplicas": all } })
    }

    /// The same, of a Deployment.
    pub(super) fn deployment_pods(self, arm: Arm) -> Value {
        let mut pods = self.pods(arm);
        if let Some(status) = pods.pointer_mut("/status").and_then(Value::as_object_mut) {
            status.insert("updatedReplicas".to_owned(), json!(self.replicas(arm)));
        }
        pods
    }

    fn spec(self, repository: &str) -> Value {
        let mut analysis = json!({
            "interval": "4s", "scrapeInterval": "2s", "latency": [], "latencyAgainstStable": "Off", "outbound": "Off",
        });
        if let (Role::Hangs, Some(fields)) = (self.role(), analysis.as_object_mut()) {
            let metric = json!({ "name": "slow", "query": format!("max({SLOW})"), "max": 1 });
            fields.insert("metrics".to_owned(), json!([metric]));
        }
        json!({
            "service": { "name": self.name(), "port": PORT },
            "stable": { "deployment": self.deployment(Arm::Stable) },
            "canary": { "deployment": self.deployment(Arm::Canary), "drain": "1s" },
            "plan": { "blindDeadline": "10m", "steps": [
                { "weight": WEIGHT, "hold": "1s", "atMost": "1h" },
                { "weight": NEXT_WEIGHT, "hold": "1h", "atMost": "2h" },
                { "weight": 100, "hold": "1h" },
            ] },
            "analysis": analysis,
            "git": { "repository": repository, "branch": "main", "path": self.name() },
        })
    }

    /// The rollout. One that errs was edited by somebody: its steps go down.
    pub(super) fn rollout(self, repository: &str) -> Value {
        let mut spec = self.spec(repository);
        if let (Role::Errs, Some(weight)) = (self.role(), spec.pointer_mut("/plan/steps/1/weight")) {
            *weight = json!(1);
        }
        json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": { "name": self.name(), "finalizers": [FINALIZER] },
            "spec": spec,
        })
    }

    /// The route of a rollout with this uid, with the canary's share.
    pub(super) fn route(self, uid: &str) -> anyhow::Result<Value> {
        let owner = json!({
            "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout", "name": self.name(), "uid": uid, "controller": true,
        });
        let spec = RouteSpec {
            kind: Kind::GrpcRoute,
            namespace: NAMESPACE.to_owned(),
            name: self.name(),
            adopted: false,
            apex: self.name(),
            port: PORT,
            stable_service: stable_service(&self.name()),
            canary_service: canary_service(&self.name()),
            testers: None,
            owner: serde_json::from_value(owner)?,
        };
        let weight = Weight::try_from(WEIGHT).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Kind::GrpcRoute.generated(&spec, weight))
    }

    /// Its status, as a controller left it: in its first step with the weight on the route, or at rest.
    pub(super) fn status(self, repository: &str, commit: Option<&str>, now: Timestamp) -> anyhow::Result<Value> {
        let arms = Arm::BOTH.map(|arm| self.revision(arm));
        let [_, canary] = arms.clone();
        if !self.is_on_trial() {
            return Ok(remembered::status(Phase::Idle(RestNote::Quiet), canary, Some(now)));
        }
        let commit = commit.map(|id| Commit {
            id: id.to_owned(),
            author: "Jenkins <jenkins@example.com>".to_owned(),
            subject: subject(self),
        });
        let phase = remembered::first_step(self.spec(repository), arms, commit, &quiet(), now)?;
        Ok(remembered::status(phase, canary, None))
    }
}

/// The subject of the commit that brought its canary.
pub(super) fn subject(of: Rollout) -> String {
    format!("Canary of {}", of.name())
}

fn service(name: &str, selector: &Value) -> Value {
    let port = json!({ "name": "grpc", "port": PORT, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c" });
    json!({
        "metadata": { "name": name, "labels": { "app.kubernetes.io/managed-by": "serin" } },
        "spec": { "selector": selector, "ports": [port] },
    })
}

/// Stable's last minutes, in which nothing failed.
fn quiet() -> Baseline {
    let pod = PodCounts {
        requests: 4_000,
        ..PodCounts::default()
    };
    Baseline {
        tick_ms: 4_000,
        ticks: vec![vec![pod]; 30],
        ..Baseline::default()
    }
}
