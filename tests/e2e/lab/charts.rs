//! Stories of the charts: that what they render for each environment is what was reviewed, and what an API server takes.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use lab::{
    Lab,
    process::{Output, Program},
    project_root,
};

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
    }
    namespace(&lab, "charts-serin").await?;
    for (name, set) in [
        ("serin-cluster", "namespaced=false"),
        ("serin-namespaced", "namespaced=true"),
    ] {
        // Argo CD's namespace is not there in every cluster; this one is.
        let set = format!("clusterId=prod-eu,argocd.namespace=charts-serin,flux.namespace=charts-serin,{set}");
        let rendered = render(&lab, "serin", "charts-serin", &["--set", &set]).await?.text()?;
        insta::assert_snapshot!(name, rendered);
        is_taken(&lab, &rendered).await.context(name)?;
    }
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
