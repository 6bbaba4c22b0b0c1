//! Stories of the charts: that what they render for each environment is what was reviewed, and what an API server takes.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lab::{
    Lab,
    process::{Output, Program},
    project_root,
};

use serde_json::Value;

use super::cluster::namespace;

const ENVIRONMENTS: [&str; 3] = ["dev", "staging", "prod"];
const DEADLINE: Duration = Duration::from_secs(60);

/// Each environment as it was reviewed; strictly: a field that the API server does not know is an error.
pub(super) async fn render_as_reviewed(lab: Arc<Lab>) -> anyhow::Result<()> {
    for environment in ENVIRONMENTS {
        let place = format!("charts-{environment}");
        namespace(&lab, &place).await?;
        let values = format!("deploy/environments/{environment}/values.yaml");
        let rendered = render(&lab, "user-service", &place, &["--values", &values])
            .await?
            .text()?;
        insta::assert_snapshot!(format!("user-service-{environment}"), rendered);
        is_taken(&lab, &rendered).await.with_context(|| values.clone())?;
        let overlay = kustomize(&lab, environment, &place).await?;
        is_taken(&lab, &overlay)
            .await
            .with_context(|| format!("the overlay {environment}"))?;
    }
    namespace(&lab, "charts-serin").await?;
    for (name, set) in [
        ("serin-cluster", "namespaced=false"),
        ("serin-namespaced", "namespaced=true"),
    ] {
        // Argo CD's namespace is not there in every cluster; this one is.
        let set = format!(
            "clusterId=prod-eu,crds.install=false,argocd.namespace=charts-serin,flux.namespace=charts-serin,{set}"
        );
        let rendered = render(&lab, "serin", "charts-serin", &["--set", &set]).await?.text()?;
        insta::assert_snapshot!(name, rendered);
        is_taken(&lab, &rendered).await.context(name)?;
    }
    Ok(())
}

/// Everything that Serin's chart can make, in a namespace that takes restricted pods only.
pub(super) async fn take_every_option_of_serins(lab: Arc<Lab>) -> anyhow::Result<()> {
    namespace(&lab, "charts-serin-all").await?;
    let set = [
        "clusterId=prod-eu",
        "argocd.namespace=charts-serin-all",
        "flux.namespace=charts-serin-all",
        "networkPolicy.enabled=true",
        "apiPriority.enabled=true",
        "serviceMonitor.enabled=true",
        "serviceMonitor.labels.release=prometheus",
        "rules.enabled=true",
        "dashboards.enabled=true",
        "page.service.enabled=true",
        "pushesAMinute=12",
        "shards=4",
        "access[0].repository=https://git.example.com/platform/config.git",
        "access[0].namespaces[0]=shop-*",
        "notify.receivers[0].name=platform",
        "notify.receivers[0].namespaces[0]=shop-*",
        "notify.receivers[0].slack.channel=C0123456789",
        "notify.receivers[0].slack.secretRef.name=serin-slack",
        "notify.secrets[0]=serin-slack",
        "notify.allow[0]=10.96.0.0/12",
        "networkPolicy.notifyPorts[0]=587",
        "hooks.jobs=true",
    ];
    let all = render(&lab, "serin", "charts-serin-all", &["--set", &set.join(",")]).await?;
    let all = all.text()?;
    insta::assert_snapshot!("serin-all", without_the_definition(&all));
    is_taken(&lab, &all).await?;

    for refused in [
        "clusterId=",
        "clusterId=x,replica=3",
        "clusterId=x,pushesAMinute=0",
        "clusterId=x,apiPriority.precedence=0",
        "clusterId=x,networkPolicy.gitPorts[0]=ssh",
        "clusterId=x,notify.receivers[0].name=nobody",
    ] {
        let answer = render(&lab, "serin", "charts-serin-all", &["--set", refused]).await?;
        ensure!(!answer.status.success(), "the chart takes {refused}");
    }
    Ok(())
}

/// The definition of CanaryRollout is reviewed in crds/, dashboards in deploy/monitoring.
fn without_the_definition(rendered: &str) -> String {
    let documents = rendered.split("---\n");
    documents
        .filter(|document| {
            let reviewed = ["\nkind: CustomResourceDefinition\n", "\n  name: serin-dashboards\n"];
            !reviewed.iter().any(|of| document.contains(of))
        })
        .collect::<Vec<_>>()
        .join("---\n")
}

/// Pods of both charts in a namespace that takes none but restricted ones, as Kubernetes's own admission sees them.
#[expect(
    clippy::indexing_slicing,
    reason = "a JSON object gives null for what it lacks, and makes it when it is written to"
)]
pub(super) async fn make_restricted_pods(lab: Arc<Lab>) -> anyhow::Result<()> {
    const PLACE: &str = "charts-restricted";
    namespace(&lab, PLACE).await?;
    let kubeconfig = lab.control_plane.kubeconfig_admin();
    let label = "pod-security.kubernetes.io/enforce=restricted";
    let kubectl =
        Program::new(&lab.tools.kubectl)
            .env("KUBECONFIG", &kubeconfig)
            .args(["label", "namespace", PLACE, label]);
    kubectl.output(DEADLINE).await.and_then(Output::text)?;
    let prod = ["--values", "deploy/environments/prod/values.yaml"];
    let rendered = [
        render(&lab, "user-service", PLACE, &prod).await?.text()?,
        render(&lab, "serin", PLACE, &["--set", "clusterId=x"]).await?.text()?,
    ];
    let mut tried = 0;
    for document in rendered.iter().flat_map(|text| text.split("---\n")) {
        if !document.contains("\nkind: Deployment\n") {
            continue;
        }
        let deployment: Value = serde_saphyr::from_str(document)?;
        let mut template = deployment.pointer("/spec/template").cloned().context("a template")?;
        let metadata = template
            .pointer_mut("/metadata")
            .and_then(Value::as_object_mut)
            .context("metadata")?;
        metadata.insert("name".to_owned(), format!("try-{tried}").into());
        metadata.insert("namespace".to_owned(), PLACE.into());
        let spec = template
            .pointer_mut("/spec")
            .and_then(Value::as_object_mut)
            .context("a spec")?;
        // Accounts come with the chart, and nothing of it is applied here.
        spec.insert("serviceAccountName".to_owned(), "default".into());
        // A Deployment may spread pods by their hash; a bare pod has none, which is no matter of security.
        spec.remove("topologySpreadConstraints");
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        is_taken(&lab, &pod.to_string()).await?;
        let mut root = pod;
        root["spec"]["securityContext"]["runAsNonRoot"] = false.into();
        ensure!(
            is_taken(&lab, &root.to_string()).await.is_err(),
            "{PLACE} takes every pod"
        );
        tried += 1;
    }
    ensure!(tried == 3, "both arms and Serin: {tried}");
    Ok(())
}

/// Everything that the workload's chart can make, in TrafficSplit mode, where a ServiceProfile may be.
pub(super) async fn take_every_option(lab: Arc<Lab>) -> anyhow::Result<()> {
    namespace(&lab, "charts-all").await?;
    let prod = ["--values", "deploy/environments/prod/values.yaml"];
    let set = [
        "serviceProfile.enabled=true",
        "rollout.route.kind=TrafficSplit",
        "ingress.grpc.enabled=true",
        "ingress.grpc.host=grpc.example.com",
        "ingress.grpc.tlsSecret=grpc-tls",
        "ingress.http.enabled=true",
        "ingress.http.host=www.example.com",
        "secretEnv.GREETING.secret=greeting",
        "secretEnv.GREETING.key=text",
        "database.secret.name=",
        "database.hostPath=/var/lib/user-service",
        "traces.endpoint=http://collector:4317",
        "mesh.timeout.idle=5s",
        "load.enabled=true",
        "rollout.flux.kustomization=user-service",
        "rollout.flux.gitRepository=config",
    ];
    let set = set.join(",");
    let all = render(&lab, "user-service", "charts-all", &[prod[0], prod[1], "--set", &set]).await?;
    let all = all.text()?;
    for kind in [
        "ServiceProfile",
        "Ingress",
        "AuthorizationPolicy",
        "HorizontalPodAutoscaler",
    ] {
        ensure!(
            all.contains(&format!("\nkind: {kind}\n")),
            "there is no {kind} in {all}"
        );
    }
    ensure!(
        all.contains(
            "\n  flux:\n    gitRepository: config\n    kustomization: user-service\n    namespace: flux-system\n"
        ),
        "the rollout does not say who brings it: {all}"
    );
    is_taken(&lab, &all).await?;

    // A profile beside a route makes the route's weights inert.
    let refused = [prod[0], prod[1], "--set", "serviceProfile.enabled=true"];
    let refused = render(&lab, "user-service", "charts-all", &refused).await?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && why.contains("would make the weights inert"),
        "a ServiceProfile beside a GRPCRoute: {why}"
    );
    Ok(())
}

async fn render(lab: &Lab, chart: &str, namespace: &str, more: &[&str]) -> anyhow::Result<Output> {
    let root = project_root();
    let more = more.iter().map(|word| match word.strip_prefix("deploy/") {
        Some(_) => root.join(word).display().to_string(),
        None => (*word).to_owned(),
    });
    let helm = Program::new(&lab.tools.helm)
        .args(["template", chart])
        .arg(root.join("deploy/charts").join(chart))
        .args(["--namespace", namespace])
        .args(more);
    helm.output(DEADLINE).await
}

/// The overlay of an environment, in another namespace than its own.
async fn kustomize(lab: &Lab, environment: &str, namespace: &str) -> anyhow::Result<String> {
    let kustomize = Program::new(&lab.tools.kubectl)
        .arg("kustomize")
        .arg(project_root().join("deploy/kustomize/overlays").join(environment));
    let rendered = kustomize.output(DEADLINE).await.and_then(Output::text)?;
    let (own, other) = (
        format!("namespace: user-service-{environment}\n"),
        format!("namespace: {namespace}\n"),
    );
    Ok(rendered.replace(&own, &other))
}

/// A server-side dry run.
async fn is_taken(lab: &Lab, manifests: &str) -> anyhow::Result<()> {
    let kubeconfig: &Path = &lab.control_plane.kubeconfig_admin();
    let kubectl = Program::new(&lab.tools.kubectl).env("KUBECONFIG", kubeconfig).args([
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ]);
    kubectl
        .output_with_input(manifests.as_bytes(), DEADLINE)
        .await
        .and_then(Output::text)
        .context("the API server does not take the manifests")?;
    Ok(())
}
