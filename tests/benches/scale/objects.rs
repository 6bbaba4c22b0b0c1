//! What stands in a cluster for one rollout, as JSON: two Deployments with their ReplicaSets, three Services, a route, and the
//! rollout. Pure; it must not know who creates them.

use std::sync::OnceLock;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};
use serin::api::{FIELD_MANAGER, FINALIZER, REVISION_ANNOTATION};
use serin::traffic::{Kind, RouteSpec, canary_service, stable_service};
use serin_core::Weight;

/// Rollouts that share a namespace and a config repository.
pub(crate) const IN_NAMESPACE: usize = 100;

/// What the rollouts of a run have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// One of so many is progressing.
    pub(crate) progressing: usize,
    /// The length of a tick, and between two scrapes.
    pub(crate) interval: SignedDuration,
    pub(crate) scrape: SignedDuration,
    /// Between weight 0 and no pods.
    pub(crate) drain: SignedDuration,
}

/// That of `make bench-scale`.
pub(crate) const SCALE: Shape = Shape {
    progressing: 10,
    interval: SignedDuration::from_secs(20),
    scrape: SignedDuration::from_secs(10),
    drain: SignedDuration::from_secs(30),
};

/// That of `make soak`: all are on trial, ten times as fast.
pub(crate) const SOAK: Shape = Shape {
    progressing: 1,
    interval: SignedDuration::from_secs(2),
    scrape: SignedDuration::from_secs(1),
    drain: SignedDuration::from_secs(1),
};

static CHOSEN: OnceLock<Shape> = OnceLock::new();

/// The shape of this run, which is chosen before anything is made.
pub(crate) fn choose(shape: Shape) {
    // A second choice would be another run's.
    let _ = CHOSEN.set(shape);
}

/// It.
pub(crate) fn shape() -> Shape {
    *CHOSEN.get().unwrap_or(&SCALE)
}
/// The canary's share while it progresses.
const WEIGHT: i64 = 5;
pub(crate) const PORT: u16 = 50051;
/// Stable's pods.
pub(crate) const STABLE_PODS: usize = 2;

/// One of the rollouts, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Rollout(pub(crate) usize);

/// An arm of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arm {
    Stable,
    Canary,
}

impl Rollout {
    pub(crate) fn namespace(self) -> String {
        namespace(self.0 / IN_NAMESPACE)
    }

    pub(crate) fn name(self) -> String {
        format!("svc-{:02}", self.0 % IN_NAMESPACE)
    }

    /// The rollout of this name; `None` for what is no name of one.
    pub(crate) fn of(namespace: &str, name: &str) -> Option<Self> {
        let group: usize = namespace.strip_prefix("team-")?.parse().ok()?;
        let digits: String = name.strip_prefix("svc-")?.chars().take(2).collect();
        Some(Self(group * IN_NAMESPACE + digits.parse::<usize>().ok()?))
    }

    pub(crate) fn is_progressing(self) -> bool {
        self.0.is_multiple_of(shape().progressing)
    }

    pub(crate) fn deployment(self, arm: Arm) -> String {
        match arm {
            Arm::Stable => self.name(),
            Arm::Canary => format!("{}-canary", self.name()),
        }
    }

    /// The hash of the arm's pod template.
    pub(crate) fn hash(self, arm: Arm) -> String {
        let arm = match arm {
            Arm::Stable => 0x5a,
            Arm::Canary => 0xca,
        };
        format!("{arm:x}{:06x}", self.0)
    }

    /// What the arm runs.
    pub(crate) fn revision(self, arm: Arm) -> &'static str {
        match arm {
            Arm::Canary if self.is_progressing() => "1.1.0",
            _ => "1.0.0",
        }
    }

    fn replicas(self, arm: Arm) -> usize {
        match arm {
            Arm::Stable => STABLE_PODS,
            Arm::Canary => usize::from(self.is_progressing()),
        }
    }
}

pub(crate) fn namespace(number: usize) -> String {
    format!("team-{number:03}")
}

/// No Service here has an address: for each that wants one the API server reads all that are taken, and half an hour would go by
/// until 30,000 stood there. Serin does not read them.
const NO_ADDRESS: &str = "None";

/// A Service of the service's clients.
pub(crate) fn apex(of: Rollout) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": of.name(), "namespace": of.namespace(), "labels": { "app.kubernetes.io/name": of.name() } },
        "spec": {
            "clusterIP": NO_ADDRESS, "selector": { "app": of.name(), "arm": "stable" },
            "ports": [{ "name": "grpc", "port": PORT, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c" }],
        },
    })
}

/// A Service of one arm, as Serin generates it.
pub(crate) fn arm_service(of: Rollout, arm: Arm, owner: &OwnerReference) -> Value {
    let (name, selector) = match arm {
        Arm::Stable => (stable_service(&of.name()), json!({ "app": of.name(), "arm": "stable" })),
        Arm::Canary => (
            canary_service(&of.name()),
            json!({ "app": of.name(), "arm": "canary", "pod-template-hash": of.hash(Arm::Canary) }),
        ),
    };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": of.namespace(), "labels": { "app.kubernetes.io/managed-by": "serin" },
            "ownerReferences": [owner],
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": NO_ADDRESS, "selector": selector,
            "ports": [{ "name": "grpc", "port": PORT, "protocol": "TCP", "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c" }],
        },
    })
}

fn template(of: Rollout, arm: Arm) -> Value {
    let (label, name) = (label(arm), of.name());
    let probe = json!({ "grpc": { "port": PORT }, "periodSeconds": 5 });
    json!({
        "metadata": {
            "labels": { "app": name, "arm": label, "app.kubernetes.io/name": name, "app.kubernetes.io/component": label },
            "annotations": {
                REVISION_ANNOTATION: of.revision(arm), "linkerd.io/inject": "enabled",
                "checksum/config": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            },
        },
        "spec": {
            "serviceAccountName": "default",
            "containers": [{
                "name": "app", "image": format!("registry.example.com/{name}:{}", of.revision(arm)),
                "ports": [{ "name": "grpc", "containerPort": PORT }],
                "env": (0..8).map(|i| json!({ "name": format!("SETTING_{i}"), "value": format!("value-{i}") })).collect::<Vec<_>>(),
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
                "readinessProbe": probe, "livenessProbe": probe, "startupProbe": probe,
                "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
}

fn label(arm: Arm) -> &'static str {
    match arm {
        Arm::Stable => "stable",
        Arm::Canary => "canary",
    }
}

/// An arm's Deployment.
pub(crate) fn deployment(of: Rollout, arm: Arm) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": of.deployment(arm), "namespace": of.namespace(), "labels": { "app.kubernetes.io/name": of.name() },
            "annotations": { "deployment.kubernetes.io/revision": "3" },
        },
        "spec": {
            "replicas": of.replicas(arm), "selector": { "matchLabels": { "app": of.name(), "arm": label(arm) } },
            "template": template(of, arm),
        },
    })
}

/// What the Deployment controller would say of it.
pub(crate) fn deployment_status(of: Rollout, arm: Arm) -> Value {
    caught_up(of.replicas(arm), 1)
}

/// What it would say of a Deployment of so many pods, as it is since this generation.
pub(crate) fn caught_up(replicas: usize, generation: i64) -> Value {
    json!({ "status": {
        "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
        "availableReplicas": replicas,
        "conditions": [
            { "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": "Deployment has minimum availability." },
            { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": "ReplicaSet has successfully progressed." },
        ],
    } })
}

/// The Deployment's present ReplicaSet.
pub(crate) fn replica_set(of: Rollout, arm: Arm, uid: &str) -> Value {
    set(of, arm, (uid, "3"), &of.hash(arm), template(of, arm))
}

/// The canary's of this number, which runs what stable does.
pub(crate) fn rest_set(of: Rollout, uid: &str, number: &str) -> Value {
    let mut template = template(of, Arm::Canary);
    let annotations = template
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.insert(REVISION_ANNOTATION.to_owned(), json!(of.revision(Arm::Stable)));
    }
    let hash = format!("0e{:06x}", of.0);
    set(of, Arm::Canary, (uid, number), &hash, template)
}

fn set(of: Rollout, arm: Arm, (uid, number): (&str, &str), hash: &str, mut template: Value) -> Value {
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.insert("pod-template-hash".to_owned(), json!(hash));
    }
    let labels = template.pointer("/metadata/labels").cloned().unwrap_or_default();
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", of.deployment(arm)), "namespace": of.namespace(), "labels": labels,
            "annotations": { "deployment.kubernetes.io/revision": number, "deployment.kubernetes.io/desired-replicas": "2" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": of.deployment(arm), "uid": uid, "controller": true,
            }],
        },
        "spec": {
            "replicas": of.replicas(arm),
            "selector": { "matchLabels": { "app": of.name(), "arm": label(arm), "pod-template-hash": hash } },
            "template": template,
        },
    })
}

pub(crate) fn replica_set_status(of: Rollout, arm: Arm) -> Value {
    let replicas = of.replicas(arm);
    json!({ "status": { "observedGeneration": 1, "replicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas } })
}

/// The route, with the canary's share where it has one.
pub(crate) fn route(of: Rollout, owner: &OwnerReference) -> anyhow::Result<Value> {
    let spec = RouteSpec {
        kind: Kind::GrpcRoute,
        namespace: of.namespace(),
        name: of.name(),
        adopted: false,
        apex: of.name(),
        port: PORT,
        stable_service: stable_service(&of.name()),
        canary_service: canary_service(&of.name()),
        testers: None,
        owner: owner.clone(),
    };
    let weight = if of.is_progressing() { WEIGHT } else { 0 };
    Ok(Kind::GrpcRoute.generated(&spec, Weight::try_from(weight).map_err(|e| anyhow::anyhow!("{e}"))?))
}

/// What the route says, with the canary's share.
pub(crate) fn route_spec(of: Rollout) -> anyhow::Result<Value> {
    let route = route(of, &OwnerReference::default())?;
    Ok(route.get("spec").cloned().unwrap_or_default())
}

pub(crate) fn spec(of: Rollout, repository: &str) -> Value {
    let Shape {
        interval,
        scrape,
        drain,
        ..
    } = shape();
    let text = |duration: SignedDuration| format!("{}s", duration.as_secs());
    json!({
        "service": { "name": of.name(), "port": PORT },
        "stable": { "deployment": of.deployment(Arm::Stable) },
        "canary": { "deployment": of.deployment(Arm::Canary), "drain": text(drain) },
        // Longer than the bench: what progresses goes on doing so.
        "plan": { "steps": [{ "weight": WEIGHT, "hold": "6h", "atMost": "12h" }, { "weight": 100, "hold": "10m" }] },
        "analysis": { "interval": text(interval), "scrapeInterval": text(scrape) },
        "git": {
            "repository": repository, "branch": "main", "path": of.name(),
            "helm": { "file": "values.yaml", "stable": "stable", "canary": "canary" },
        },
    })
}

/// The rollout itself.
pub(crate) fn rollout(of: Rollout, repository: &str) -> Value {
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": { "name": of.name(), "namespace": of.namespace(), "finalizers": [FINALIZER] },
        "spec": spec(of, repository),
    })
}

/// Whoever writes as Serin does.
pub(crate) const WRITER: &str = FIELD_MANAGER;
