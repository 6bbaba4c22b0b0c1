//! Every line of the preflight, once passing and at least once not, against objects in the API server and against the real
//! Prometheus. `serin check` reads them, as an operator would run it.

mod prometheus;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lab::{
    Lab, binary,
    process::Program,
    site::{CANARY, Environment, SERVICE},
};
use serde_json::{Value, json};

use super::{
    site::environment,
    witness::{ROLLBACK, weights},
};
use crate::story::{SOON, eventually};

const GATEWAY: &str = "gateway.networking.k8s.io/v1";
/// A namespace of clients, which is not the service's.
const CLIENTS: &str = "preflight-clients";

/// What a check printed.
struct Checked {
    lines: Vec<Value>,
    code: Option<i32>,
}

/// Objects around one rollout, and how they are looked at.
struct Ground {
    environment: Environment,
    prometheus: String,
}

/// One change that is taken back afterwards.
enum Change {
    /// `kubectl patch`: what, the patch, and the patch that takes it back. A `/status` after the name is the subresource.
    Patch(String, Value, Value),
    /// `kubectl apply --server-side` as this manager, and `kubectl delete`.
    Make(&'static str, Value),
}

impl Ground {
    async fn kubectl(&self, arguments: &[&str], input: &[u8]) -> anyhow::Result<String> {
        self.environment.site.kubectl(arguments, input).await
    }

    async fn patch(&self, what: &str, patch: &Value) -> anyhow::Result<()> {
        let namespace = if what.starts_with("application/") {
            "argocd".to_owned()
        } else {
            self.environment.namespace()
        };
        let (what, status) = what.strip_suffix("/status").map_or((what, false), |what| (what, true));
        let patch = patch.to_string();
        let mut arguments = vec!["patch", "-n", &namespace, what, "--type=merge", "-p", &patch];
        if status {
            arguments.push("--subresource=status");
        }
        self.kubectl(&arguments, b"").await?;
        Ok(())
    }

    async fn make(&self, manager: &str, object: &Value) -> anyhow::Result<()> {
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager",
            manager,
            "-f",
            "-",
        ];
        self.kubectl(&arguments, object.to_string().as_bytes()).await?;
        Ok(())
    }

    /// Runs `serin check` and reads what it printed.
    async fn check(&self, prometheus: &str) -> anyhow::Result<Checked> {
        let site = &self.environment.site;
        let serin = Program::new(binary("serin")?).env("KUBECONFIG", site.lab.control_plane.kubeconfig_admin());
        let namespace = self.environment.namespace();
        let place = ["check", "-n", &namespace, "-o", "json", "--prometheus-url", prometheus];
        let output = serin.args(place).output(Duration::from_secs(60)).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let documents: Value = serde_json::from_str(&text).with_context(|| format!("serin check printed {text}"))?;
        let lines = documents.pointer("/0/lines").and_then(Value::as_array).cloned();
        Ok(Checked {
            lines: lines.context("there are no lines")?,
            code: output.status.code(),
        })
    }

    /// With these changes the line of this claim ends so; without them it passes, as it did before.
    async fn case(&self, status: &str, claim: &str, why: &str, changes: Vec<Change>) -> anyhow::Result<()> {
        // Whoever keeps an object, as the ApplicationSet does, may set it back between the change and the look.
        eventually(claim, SOON, || async {
            for change in &changes {
                match change {
                    Change::Patch(what, patch, _) => self.patch(what, patch).await?,
                    Change::Make(manager, object) => self.make(manager, object).await?,
                }
            }
            self.check(&self.prometheus).await?.says(status, claim, why)
        })
        .await?;
        for change in changes.iter().rev() {
            match change {
                Change::Patch(what, _, back) => self.patch(what, back).await?,
                Change::Make(_, object) => {
                    self.kubectl(
                        &["delete", "--ignore-not-found", "-f", "-"],
                        object.to_string().as_bytes(),
                    )
                    .await?;
                }
            }
        }
        Ok(())
    }
}

impl Checked {
    fn line(&self, claim: &str) -> anyhow::Result<&Value> {
        let of = |line: &&Value| {
            line.get("claim")
                .and_then(Value::as_str)
                .is_some_and(|text| text.contains(claim))
        };
        let found = self.lines.iter().find(of);
        found.with_context(|| format!("no line says {claim:?}: {:#?}", self.lines))
    }

    fn says(&self, status: &str, claim: &str, why: &str) -> anyhow::Result<()> {
        let line = self.line(claim)?;
        let text = |field: &str| line.get(field).and_then(Value::as_str).unwrap_or_default();
        ensure!(
            text("status") == status && text("why").contains(why),
            "not {status} for {why:?}: {line:#}"
        );
        ensure!(
            status == "pass" || !text("todo").is_empty(),
            "it does not say what to do: {line:#}"
        );
        ensure!(
            (self.code == Some(1)) == self.lines.iter().any(|l| l.get("status") == Some(&json!("fail"))),
            "exit code {:?}",
            self.code
        );
        Ok(())
    }

    /// All lines that do not pass.
    fn others(&self) -> Vec<&Value> {
        self.lines
            .iter()
            .filter(|line| line.get("status") != Some(&json!("pass")))
            .collect()
    }
}

pub(super) async fn lines(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "preflight", json!({ "load": { "rate": 5 } })).await?;
    environment
        .site
        .argocd
        .pause_application(&environment.application())
        .await?;
    let ground = Ground {
        environment,
        prometheus: lab.prometheus.url().to_owned(),
    };
    stand(&ground).await?;
    // Prometheus has to have scraped what runs, once.
    eventually("all lines pass", SOON, || async {
        let checked = ground.check(&ground.prometheus).await?;
        ensure!(
            checked.others().is_empty() && checked.code == Some(0),
            "{:#?}",
            checked.others()
        );
        ensure!(checked.lines.len() >= 25, "only {} lines", checked.lines.len());
        Ok(())
    })
    .await?;
    services(&ground).await?;
    mesh(&ground).await?;
    routes(&ground).await?;
    argocd(&ground).await?;
    capacity(&ground).await?;
    prometheus::lines(&ground).await?;
    let last = ground.check(&ground.prometheus).await?;
    ensure!(
        last.others().is_empty(),
        "something was not taken back: {:#?}",
        last.others()
    );
    unchecked(&ground).await
}

/// What a trial leaves: the route, accepted, and the arms' Services. Serin itself ends, so that nothing is mended.
async fn stand(ground: &Ground) -> anyhow::Result<()> {
    let namespace = ground.environment.namespace();
    let serin = format!("deployment/serin-{}", ground.environment.name);
    ground.patch(&serin, &json!({ "spec": { "replicas": 0 } })).await?;
    for (arm, track) in [("stable", "stable"), ("canary", "canary")] {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": format!("{SERVICE}-{arm}"), "namespace": namespace },
            "spec": {
                "selector": { "app.kubernetes.io/name": SERVICE, "serin.dev/track": track },
                "ports": [{ "name": "grpc", "port": 50051, "targetPort": "grpc" }],
            },
        });
        ground.make("serin", &service).await?;
    }
    ground
        .make("serin", &route(&namespace, "GRPCRoute", SERVICE, &namespace))
        .await?;
    accept(ground, "True").await
}

fn route(namespace: &str, kind: &str, name: &str, of: &str) -> Value {
    let backend = |arm: &str, weight: i64| json!({ "group": "", "kind": "Service", "name": format!("{SERVICE}-{arm}"), "namespace": of, "port": 50051, "weight": weight });
    json!({
        "apiVersion": GATEWAY, "kind": kind, "metadata": {
            "name": name, "namespace": namespace, "annotations": { lab::mesh::BY_HAND: "the cases say what Linkerd says" },
        },
        "spec": {
            "parentRefs": [{ "group": "core", "kind": "Service", "name": SERVICE, "namespace": of, "port": 50051 }],
            "rules": [{ "backendRefs": [backend("stable", 100), backend("canary", 0)] }],
        },
    })
}

fn accepted(condition: &str, status: &str) -> Value {
    let one = |kind: &str| {
        let status = if kind == condition { status } else { "True" };
        json!({ "type": kind, "status": status, "reason": kind, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    json!({ "status": { "parents": [{
        "controllerName": "linkerd.io/policy-controller",
        "parentRef": { "group": "core", "kind": "Service", "name": SERVICE, "port": 50051 },
        "conditions": [one("Accepted"), one("ResolvedRefs")],
    }] } })
}

/// In the stead of Linkerd's policy controller.
async fn accept(ground: &Ground, status: &str) -> anyhow::Result<()> {
    ground
        .patch(&format!("grpcroute/{SERVICE}/status"), &accepted("Accepted", status))
        .await
}

fn rollout(spec: &Value, back: &Value) -> Vec<Change> {
    let object = format!("canaryrollout/{SERVICE}");
    vec![Change::Patch(object, json!({ "spec": spec }), json!({ "spec": back }))]
}

async fn services(ground: &Ground) -> anyhow::Result<()> {
    let case = async |claim: &str, why: &str, changes: Vec<Change>| ground.case("fail", claim, why, changes).await;
    for (arm, name) in [("stable", SERVICE), ("canary", CANARY)] {
        let changes = rollout(
            &json!({ arm: { "deployment": "nobody" } }),
            &json!({ arm: { "deployment": name } }),
        );
        case("the Deployment nobody exists", "none of this name", changes).await?;
    }
    let named = rollout(
        &json!({ "service": { "name": "nobody" } }),
        &json!({ "service": { "name": SERVICE } }),
    );
    case("apex Service nobody exists", "no such Service", named).await?;
    let port = rollout(
        &json!({ "service": { "port": 1 } }),
        &json!({ "service": { "port": 50051 } }),
    );
    case("has port 1", "no port 1", port).await?;
    let selector = |service: &str, track: Value, back: &str| {
        let of = |track: Value| json!({ "spec": { "selector": { "serin.dev/track": track } } });
        vec![Change::Patch(format!("service/{service}"), of(track), of(json!(back)))]
    };
    let selects = "selects stable's pods only";
    case(
        selects,
        "user-service-canary too",
        selector(SERVICE, Value::Null, "stable"),
    )
    .await?;
    case(
        selects,
        "does not select the pods",
        selector(SERVICE, json!("x"), "stable"),
    )
    .await?;
    let (stable, canary) = ("user-service-stable", "user-service-canary");
    case(
        "Service user-service-stable fits",
        "arm's pods",
        selector(stable, json!("canary"), "stable"),
    )
    .await?;
    case(
        "Service user-service-canary fits",
        "arm's pods",
        selector(canary, json!("stable"), "canary"),
    )
    .await
}

async fn mesh(ground: &Ground) -> anyhow::Result<()> {
    for name in [SERVICE, CANARY] {
        // Paused, so that its pods stay.
        let template = |inject: &str, paused: bool| {
            let annotations = json!({ "linkerd.io/inject": inject });
            json!({ "spec": { "paused": paused, "template": { "metadata": { "annotations": annotations } } } })
        };
        let change = Change::Patch(
            format!("deployment/{name}"),
            template("disabled", true),
            template("enabled", false),
        );
        let claim = format!("the pods of {name} are meshed");
        ground.case("fail", &claim, "disabled", vec![change]).await?;
    }
    let ingress = |service: &str, upstream: bool| {
        let backend = json!({ "service": { "name": service, "port": { "number": 50051 } } });
        let path = json!({ "path": "/", "pathType": "Prefix", "backend": backend });
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {
                "name": "public", "namespace": ground.environment.namespace(),
                "annotations": { "nginx.ingress.kubernetes.io/service-upstream": upstream.to_string() },
            },
            "spec": { "rules": [{ "host": "users.example.com", "http": { "paths": [path] } }] },
        })
    };
    let claim = "ingresses call the apex Service";
    let made = |object: Value| vec![Change::Make("people", object)];
    ground
        .case("warn", claim, "does not say", made(ingress(SERVICE, false)))
        .await?;
    ground
        .case(
            "warn",
            claim,
            "past the route",
            made(ingress("user-service-stable", true)),
        )
        .await?;
    ground.case("pass", claim, "", made(ingress(SERVICE, true))).await
}

async fn routes(ground: &Ground) -> anyhow::Result<()> {
    let namespace = ground.environment.namespace();
    let clients = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": CLIENTS } });
    ground.make("people", &clients).await?;
    let made = |object: Value| vec![Change::Make("people", object)];

    let profile = |place: &str, spec: Value| {
        let name = format!("{SERVICE}.{namespace}.svc.cluster.local");
        json!({ "apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile", "metadata": { "name": name, "namespace": place }, "spec": spec })
    };
    let routes = json!({ "routes": [{ "name": "all", "condition": { "pathRegex": ".*" } }] });
    let claim = "no ServiceProfile overrides the route";
    for place in [&namespace, CLIENTS] {
        let changes = made(profile(place, routes.clone()));
        ground
            .case("fail", claim, &format!("{place}/{SERVICE}.{namespace}"), changes)
            .await?;
    }
    // One that only limits retries is none that routes.
    let changes = made(profile(CLIENTS, json!({ "retryBudget": { "retryRatio": 0.2 } })));
    ground.case("pass", claim, "", changes).await?;
    let mut split = rollout(
        &json!({ "route": { "kind": "TrafficSplit" } }),
        &json!({ "route": { "kind": "GRPCRoute" } }),
    );
    split.extend(made(profile(&namespace, routes)));
    ground
        .case("pass", "a ServiceProfile may stand beside the TrafficSplit", "", split)
        .await?;

    let claim = "no other route takes the apex's calls";
    let same = made(route(&namespace, "GRPCRoute", "other", &namespace));
    ground
        .case(
            "fail",
            claim,
            "GRPCRoute.gateway.networking.k8s.io other is of the same kind",
            same,
        )
        .await?;
    let lower = made(route(&namespace, "HTTPRoute", "other", &namespace));
    ground
        .case(
            "warn",
            claim,
            "HTTPRoute.gateway.networking.k8s.io other has no effect",
            lower,
        )
        .await?;
    let elsewhere = made(route(CLIENTS, "GRPCRoute", "other", &namespace));
    let claim = "no route of another namespace";
    ground
        .case("warn", claim, "the GRPCRoute preflight-clients/other", elsewhere)
        .await?;

    for mover in ["flagger", "rollouts-controller", "argocd-controller"] {
        let mut moved = route(&namespace, "GRPCRoute", SERVICE, &namespace);
        if let Some(weight) = moved.pointer_mut("/spec/rules/0/backendRefs/0/weight") {
            *weight = json!(99);
        }
        ground.make(mover, &moved).await?;
        ground
            .check(&ground.prometheus)
            .await?
            .says("fail", "nobody else writes the weights", mover)?;
        ground
            .make("serin", &route(&namespace, "GRPCRoute", SERVICE, &namespace))
            .await?;
        ground
            .kubectl(
                &[
                    "patch",
                    "-n",
                    &namespace,
                    "grpcroute",
                    SERVICE,
                    "--type=json",
                    "-p",
                    r#"[{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]"#,
                ],
                b"",
            )
            .await?;
        ground
            .make("serin", &route(&namespace, "GRPCRoute", SERVICE, &namespace))
            .await?;
    }
    let status = |condition: &str| {
        let object = format!("grpcroute/{SERVICE}/status");
        vec![Change::Patch(
            object,
            accepted(condition, "False"),
            accepted(condition, "True"),
        )]
    };
    let claim = "Linkerd has accepted user-service";
    for condition in ["Accepted", "ResolvedRefs"] {
        ground
            .case("fail", claim, &format!("{condition} is not True"), status(condition))
            .await?;
    }
    let object = format!("grpcroute/{SERVICE}/status");
    let silent = Change::Patch(
        object,
        json!({ "status": { "parents": [] } }),
        accepted("Accepted", "True"),
    );
    ground.case("warn", claim, "says nothing", vec![silent]).await?;
    let adopted = rollout(
        &json!({ "route": { "adopt": "nobody" } }),
        &json!({ "route": { "adopt": null } }),
    );
    ground
        .case(
            "fail",
            "the adopted GRPCRoute nobody exists",
            "none of this name",
            adopted,
        )
        .await?;

    let annotated = |service: &str, key: &str| {
        let of = |value: Value| json!({ "metadata": { "annotations": { key: value } } });
        vec![Change::Patch(
            format!("service/{service}"),
            of(json!("consecutive")),
            of(Value::Null),
        )]
    };
    let (tries, breaker) = ("retry.linkerd.io/grpc", "balancer.linkerd.io/failure-accrual");
    let claim = "retries and time-outs are set where they act";
    ground
        .case(
            "warn",
            claim,
            "retry.linkerd.io/grpc on user-service-canary",
            annotated("user-service-canary", tries),
        )
        .await?;
    ground.case("pass", claim, "", annotated(SERVICE, tries)).await?;
    let misplaced = annotated("user-service-stable", breaker);
    ground
        .case(
            "warn",
            "circuit breakers are set where they act",
            "on user-service-stable",
            misplaced,
        )
        .await?;
    ground
        .case(
            "pass",
            "circuit breakers are set on the apex Service",
            "",
            annotated(SERVICE, breaker),
        )
        .await
}

async fn argocd(ground: &Ground) -> anyhow::Result<()> {
    let object = format!("application/{}", ground.environment.application());
    let read = ["get", "-n", "argocd", &object, "-o", "json"];
    let live: Value = serde_json::from_str(&ground.kubectl(&read, b"").await?)?;
    let before = |pointer: &str| live.pointer(pointer).cloned().unwrap_or_default();
    let ignored = Change::Patch(
        object.clone(),
        json!({ "spec": { "ignoreDifferences": [] } }),
        json!({ "spec": { "ignoreDifferences": before("/spec/ignoreDifferences") } }),
    );
    let replicas = "Argo CD leaves /spec/replicas of the Deployment user-service-canary";
    ground.case("warn", replicas, "does not name it", vec![ignored]).await?;
    let options = |value: Value| json!({ "spec": { "syncPolicy": { "syncOptions": value } } });
    let respected = Change::Patch(
        object,
        options(json!([])),
        options(before("/spec/syncPolicy/syncOptions")),
    );
    ground
        .case("fail", replicas, "although the comparison ignores it", vec![respected])
        .await?;
    // A route that another tool applies is nothing that a sync could set back.
    let mut adopted = rollout(
        &json!({ "route": { "adopt": SERVICE } }),
        &json!({ "route": { "adopt": null } }),
    );
    let route = json!({ "group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": SERVICE });
    adopted.push(Change::Patch(
        format!("application/{}", ground.environment.application()),
        json!({ "status": { "resources": [route] } }),
        json!({ "status": { "resources": before("/status/resources") } }),
    ));
    let weights = "Argo CD leaves /spec/rules of the GRPCRoute user-service";
    ground.case("fail", weights, "does not name it", adopted).await
}

async fn capacity(ground: &Ground) -> anyhow::Result<()> {
    let namespace = ground.environment.namespace();
    let made = |object: Value| vec![Change::Make("people", object)];
    let hpa = |of: &str, least: i64, most: i64| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "hpa", "namespace": namespace },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": of },
                "minReplicas": least, "maxReplicas": most,
            },
        })
    };
    let competes = "no autoscaler competes for user-service-canary";
    ground
        .case("fail", competes, "so does Serin", made(hpa(CANARY, 1, 5)))
        .await?;
    let returns = "user-service can take all traffic back at once";
    ground
        .case("fail", returns, "maxReplicas below", made(hpa(SERVICE, 1, 1)))
        .await?;
    ground.case("pass", returns, "", made(hpa(SERVICE, 1, 5))).await?;
    let budget = |labels: Value| {
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "pdb", "namespace": namespace },
            "spec": { "minAvailable": 1, "selector": { "matchLabels": labels } },
        })
    };
    let claim = "no PodDisruptionBudget counts both arms as one";
    ground
        .case(
            "warn",
            claim,
            "pdb selects the pods of both",
            made(budget(json!({ "app.kubernetes.io/name": SERVICE }))),
        )
        .await?;
    ground
        .case("pass", claim, "", made(budget(json!({ "serin.dev/track": "stable" }))))
        .await?;
    let claim = "quotas leave room for the canary";
    for (status, used, why) in [
        ("fail", "9", "room for 0"),
        ("warn", "8", "room for 1"),
        ("pass", "3", ""),
    ] {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "quota", "namespace": namespace },
            "spec": { "hard": { "pods": "9" } },
        });
        let counted = json!({ "status": { "hard": { "pods": "9" }, "used": { "pods": used } } });
        let mut changes = made(quota);
        // In the stead of the quota controller.
        changes.push(Change::Patch(
            "resourcequota/quota/status".to_owned(),
            counted,
            json!({}),
        ));
        ground.case(status, claim, why, changes).await?;
    }
    Ok(())
}

/// What can't be checked ends otherwise than what fails.
async fn unchecked(ground: &Ground) -> anyhow::Result<()> {
    let site = &ground.environment.site;
    for arguments in [
        ["check", "-n", "default"].as_slice(),
        &["check", "nobody", "-n", "default"],
    ] {
        let serin = Program::new(binary("serin")?).env("KUBECONFIG", site.lab.control_plane.kubeconfig_admin());
        let output = serin.args(arguments).output(Duration::from_secs(60)).await?;
        ensure!(
            output.status.code() == Some(2),
            "{arguments:?} ended with {:?}",
            output.status
        );
    }
    let serin = Program::new(binary("serin")?).env("KUBECONFIG", site.lab.control_plane.kubeconfig_admin());
    let all = ["check", "-A", "--prometheus-url", &ground.prometheus];
    let output = serin.args(all).output(Duration::from_secs(60)).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let heading = format!("{}/{SERVICE}\n\nkubernetes-api\n", ground.environment.namespace());
    ensure!(text.contains(&heading) && text.contains("√ "), "{text}");
    Ok(())
}

/// A start that could not work: refused with the line's words, nothing touched, and it goes on by itself when that is mended.
pub(super) async fn refuses(lab: Arc<Lab>) -> anyhow::Result<()> {
    let environment = environment(&lab, "inert", json!({})).await?;
    let namespace = environment.namespace();
    let profile = json!({
        "apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile",
        "metadata": { "name": format!("{SERVICE}.{namespace}.svc.cluster.local"), "namespace": namespace },
        "spec": { "routes": [{ "name": "all", "condition": { "pathRegex": ".*" } }] },
    });
    let profile = profile.to_string();
    let site = environment.site.clone();
    site.kubectl(&["apply", "-f", "-"], profile.as_bytes()).await?;
    environment.commit("1.1.0", None).await?;
    let refused = |s: &serin::api::CanaryRolloutStatus| {
        let said = |c: &&serin::api::Condition| {
            c.type_ == "PreflightFailed"
                && c.status == "True"
                && c.message.contains("ServiceProfile user-service-inert/")
        };
        s.phase.as_deref() == Some("Starting") && s.conditions.iter().any(|c| said(&c))
    };
    environment.until("the start is refused", ROLLBACK, refused).await?;
    let replicas = environment
        .deployment(CANARY)
        .await?
        .spec
        .and_then(|spec| spec.replicas);
    ensure!(replicas == Some(0), "the canary was scaled to {replicas:?}");
    ensure!(weights(&environment)?.iter().all(|w| *w == 0), "a weight was written");
    let events = environment.events().await?;
    let told = events
        .iter()
        .filter(|e| e.reason.as_deref() == Some("PreflightFailed"))
        .count();
    ensure!(told == 1, "{told} events say it");
    site.kubectl(&["delete", "-f", "-"], profile.as_bytes()).await?;
    let shifting = |s: &serin::api::CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed >= 10);
    environment.until("1.1.0 gets traffic", ROLLBACK, shifting).await?;
    Ok(())
}
