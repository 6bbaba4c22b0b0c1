//! Stories of the API server, of Prometheus, and of the lab's processes.

use std::{env, fs, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, Config,
    api::{DynamicObject, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::ApiResource,
};
use lab::{Lab, forward::Forward, process::Program, prometheus::Prometheus};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::cluster::{at, create, deploy, image, ip, namespace, ready_pods};
use crate::{
    pod::ROLE,
    story::{SOON, eventually},
};

pub(super) async fn scrapes(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "scrapes").await?;
    deploy(&client, "scrapes", &image(&lab, "scrapes:1")?, 1, &json!({})).await?;
    let pods = ready_pods(&client, "scrapes", 1).await?;
    let pod = pods.first().context("no pod")?;
    eventually("Prometheus has the metrics of the pod's proxy", SOON, || async {
        let result = lab.prometheus.query(r#"proxy_build_info{namespace="scrapes"}"#).await?;
        let labels = result
            .first()
            .and_then(|series| series.get("metric"))
            .context("no series")?;
        let hash = at(pod, "/metadata/labels/pod-template-hash");
        let expected = json!({
            "job": "linkerd-proxy", "instance": format!("{}:4191", ip(pod)),
            "namespace": "scrapes", "pod": pod.metadata.name, "deployment": "web", "control_plane_ns": "linkerd",
            "workload_ns": "scrapes", "pod_template_hash": hash, "app_kubernetes_io_name": "web",
        });
        for (label, value) in expected.as_object().into_iter().flatten() {
            ensure!(labels.get(label) == Some(value), "{label}: {labels}");
        }
        Ok(())
    })
    .await
}

pub(super) async fn survives_an_outage(lab: Arc<Lab>) -> anyhow::Result<()> {
    // One of its own: the others need theirs.
    let home = tempfile::tempdir()?;
    let prometheus = Prometheus::start(&lab.tools, &lab.net, home.path()).await?;
    let url = prometheus.url().to_owned();
    prometheus.query("vector(1)").await?;
    prometheus.stop().await;
    ensure!(
        prometheus.query("vector(1)").await.is_err(),
        "it answers though it is stopped"
    );
    prometheus.start_again().await?;
    ensure!(prometheus.url() == url, "it moved");
    ensure!(prometheus.query("vector(1)").await?.len() == 1, "it answers nothing");
    Ok(())
}

pub(super) async fn is_audited(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "audited").await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "audited");
    create(&accounts, json!({"metadata": {"name": "shifter"}})).await?;
    let server: std::net::SocketAddr = lab.control_plane.server().trim_start_matches("https://").parse()?;
    let forward = Forward::start((lab.net.infra(), lab.net.free_port()?).into(), server).await?;
    let through = format!("https://{}", forward.address());
    let path = lab
        .control_plane
        .kubeconfig_for_service_account_at("audited", "shifter", &through)
        .await?;
    let mut config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    let theirs: Api<DynamicObject> = Api::default_namespaced_with(Client::try_from(config)?, &http_routes());
    let wanted = route("audited-route", 90, 10);
    let refused = theirs.create(&PostParams::default(), &wanted).await;
    ensure!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403),
        "{refused:?}"
    );

    let roles: Api<Role> = Api::namespaced(client.clone(), "audited");
    let rule = json!({"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes"], "verbs": ["*"]});
    create(&roles, json!({"metadata": {"name": "shifter"}, "rules": [rule]})).await?;
    let bindings: Api<RoleBinding> = Api::namespaced(client, "audited");
    let binding = json!({
        "metadata": {"name": "shifter"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "shifter"},
        "subjects": [{"kind": "ServiceAccount", "name": "shifter", "namespace": "audited"}],
    });
    create(&bindings, binding).await?;
    eventually("the service account may write", SOON, || async {
        Ok(theirs.create(&PostParams::default(), &wanted).await?)
    })
    .await?;

    let log = fs::read_to_string(lab.control_plane.audit_log().context("there is no audit log")?.path())?;
    let events: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let written = |event: &&Value| {
        event.pointer("/responseStatus/code") == Some(&json!(201))
            && event.pointer("/objectRef/name") == Some(&json!("audited-route"))
    };
    let event = events
        .iter()
        .find(written)
        .context("the write is not in the audit log")?;
    let user = event.pointer("/user/username");
    ensure!(
        user == Some(&json!("system:serviceaccount:audited:shifter")),
        "written by {user:?}"
    );
    let weight = event.pointer("/requestObject/spec/rules/0/backendRefs/1/weight");
    ensure!(weight == Some(&json!(10)), "weight {weight:?}");

    forward.cut();
    ensure!(
        theirs.get("audited-route").await.is_err(),
        "the API is reached over a cut line"
    );
    forward.heal();
    eventually("the API is reached again", SOON, || async {
        Ok(theirs.get("audited-route").await?)
    })
    .await?;
    Ok(())
}

pub(super) async fn serves_kinds(lab: Arc<Lab>) -> anyhow::Result<()> {
    let client = namespace(&lab, "kinds").await?;
    let kinds = [
        ("argoproj.io/v1alpha1", "Application", "applications"),
        ("argoproj.io/v1alpha1", "AppProject", "appprojects"),
        ("argoproj.io/v1alpha1", "ApplicationSet", "applicationsets"),
        ("linkerd.io/v1alpha2", "ServiceProfile", "serviceprofiles"),
        ("policy.linkerd.io/v1beta3", "HTTPRoute", "httproutes"),
        ("split.smi-spec.io/v1alpha2", "TrafficSplit", "trafficsplits"),
    ];
    for (version, kind, plural) in kinds {
        let (group, number) = version.split_once('/').context("no group")?;
        let resource = ApiResource {
            group: group.to_owned(),
            version: number.to_owned(),
            api_version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), "kinds", &resource);
        let object = json!({
            "apiVersion": version, "kind": kind, "metadata": {"name": "x"},
            "spec": {"any": [{"thing": 1}]}, "operation": {"sync": {}},
        });
        let made = objects
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await;
        let made = made.with_context(|| format!("creating a {kind}"))?;
        ensure!(
            made.data.pointer("/spec/any/0/thing") == Some(&json!(1)),
            "{kind} loses fields"
        );
    }
    let routes: Api<DynamicObject> = Api::namespaced_with(client, "kinds", &http_routes());
    let too_much = routes.create(&PostParams::default(), &route("r", 1_000_001, 1)).await;
    ensure!(too_much.is_err(), "a weight over a million is taken");
    Ok(())
}

pub(super) async fn leaves_nothing(_lab: Arc<Lab>) -> anyhow::Result<()> {
    let parent = Program::new(env::current_exe()?).env(ROLE, "parent");
    let (parent, _stdin, stdout) = parent.spawn_piped().await?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await?;
    let child = format!("/proc/{}", line.trim());
    ensure!(fs::metadata(&child).is_ok(), "{child} is not there");
    parent.kill().await;
    eventually("the process is gone", SOON, || async {
        match fs::read_to_string(format!("{child}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => bail!("{stat}"),
            _ => Ok(()),
        }
    })
    .await
}

fn http_routes() -> ApiResource {
    ApiResource {
        group: "gateway.networking.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "gateway.networking.k8s.io/v1".to_owned(),
        kind: "HTTPRoute".to_owned(),
        plural: "httproutes".to_owned(),
    }
}

fn route(name: &str, stable: i32, canary: i32) -> DynamicObject {
    let mut object = DynamicObject::new(name, &http_routes());
    let backend = |name: &str, weight: i32| json!({"name": name, "port": 50051, "weight": weight});
    object.data = json!({"spec": {
        "parentRefs": [{"group": "", "kind": "Service", "name": "web", "port": 50051}],
        "rules": [{"backendRefs": [backend("web-stable", stable), backend("web-canary", canary)]}],
    }});
    object
}
