//! Bad input: it is said which field is wrong, and nothing is touched.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use lab::{
    Lab, binary,
    git_server::Access,
    process::{Output, Program},
    site::{CONFIG, Detours, Environment, SERVICE, Setup},
};
use serde_json::{Value, json};
use serin::api::{COMMAND_ANNOTATION, CanaryRolloutSpec, CanaryRolloutStatus, Order};

use super::{
    site::site,
    witness::{ROLLBACK, traffic_away, weights},
};
use crate::story::{SOON, eventually};

pub(super) async fn specs(lab: Arc<Lab>) -> anyhow::Result<()> {
    let site = site(&lab).await?;
    // Whoever runs Serin says what this namespace may have written.
    let list = lab.dir().join("refused-may.yaml");
    let allowed = json!({ "allow": [{
        "namespaces": ["user-service-refused"], "repository": lab.git.url(CONFIG), "branches": ["main"],
        "paths": ["deploy/environments/refused"],
    }] });
    std::fs::write(&list, allowed.to_string())?;
    let setup = Setup {
        values: json!({ "load": { "rate": 5 } }),
        own_serin: true,
    };
    let serin = json!({ "extraArgs": ["--access-file", list] });
    let environment = Environment::start_with(&site, "refused", setup, &serin, Detours::default()).await?;
    // From here on the story edits the rollout itself.
    environment
        .site
        .argocd
        .pause_application(&environment.application())
        .await?;
    let good = environment.rollout().await?;
    let steps = |weights: &[i64]| {
        json!(
            weights
                .iter()
                .map(|w| json!({ "weight": w, "hold": "2s" }))
                .collect::<Vec<_>>()
        )
    };

    // What the schema can see is refused by the API server, in words that name the field.
    for (field, spec) in [
        ("spec.plan.steps", json!({ "plan": { "steps": [] } })),
        (
            "spec.plan.steps[0].weight",
            json!({ "plan": { "steps": steps(&[-1, 100]) } }),
        ),
        (
            "spec.plan.steps[1].weight",
            json!({ "plan": { "steps": steps(&[50, 101]) } }),
        ),
        ("spec.canary.drain", json!({ "canary": { "drain": "soon" } })),
        ("spec.git.path", json!({ "git": { "path": "../elsewhere" } })),
    ] {
        let error = patch(&environment, &spec)
            .await
            .err()
            .with_context(|| format!("{spec} was taken"))?;
        let said = format!("{error:#}");
        ensure!(said.contains(field), "{field} is not named: {said}");
    }

    // What it cannot see is said in a condition and in an event.
    for (field, spec) in [
        // Without testers nobody's calls reach the canary then.
        (
            "spec.plan.steps[0].weight",
            json!({ "plan": { "steps": steps(&[0, 100]) } }),
        ),
        (
            "spec.plan.steps[1].weight",
            json!({ "plan": { "steps": steps(&[50, 25, 100]) } }),
        ),
        (
            "spec.stable.deployment",
            json!({ "stable": { "deployment": "nobody" } }),
        ),
        (
            "spec.canary.deployment",
            json!({ "canary": { "deployment": "nobody" } }),
        ),
        ("spec.service.name", json!({ "service": { "name": "nobody" } })),
        ("spec.service.port", json!({ "service": { "port": 1 } })),
        (
            "spec.git.secretRef.name",
            json!({ "git": { "secretRef": { "name": "nobody" } } }),
        ),
        ("spec.git.secretRef", json!({ "git": { "secretRef": null } })),
        (
            "spec.analysis.falseRollbacks",
            json!({ "analysis": { "falseRollbacks": "60%" } }),
        ),
        (
            "spec.analysis.latency[0].within",
            json!({ "analysis": { "latency": [{ "share": "99%", "within": "450ms" }] } }),
        ),
    ] {
        patch(&environment, &spec)
            .await
            .with_context(|| format!("writing {spec}"))?;
        names(&environment, field).await?;
        patch(&environment, &serde_json::to_value(&good.spec)?).await?;
        environment
            .until("the spec makes sense again", SOON, |s| {
                condition(s, "SpecValid").is_some_and(|c| c.0)
            })
            .await?;
    }
    ensure!(
        weights(&environment)?.iter().all(|weight| *weight == 0),
        "a weight was written"
    );

    what_is_others(&environment, &good.spec).await?;
    someone_elses_subtree(&environment).await?;
    in_the_middle(&environment, &good.spec).await?;
    someone_elses_route(&environment).await
}

/// Nonsense while a rollout runs pauses it, without its traffic, and blames nobody.
async fn in_the_middle(environment: &Environment, good: &CanaryRolloutSpec) -> anyhow::Result<()> {
    // Argo CD brings the revision, and would mend the spec as well.
    let application = environment.application();
    environment.site.argocd.resume_application(&application).await?;
    environment.commit("1.1.0", None).await?;
    let shifting = |s: &CanaryRolloutStatus| s.weight.is_some_and(|w| w.observed > 0);
    environment.until("1.1.0 gets traffic", ROLLBACK, shifting).await?;
    environment.site.argocd.pause_application(&application).await?;
    patch(environment, &json!({ "analysis": { "falseRollbacks": "60%" } })).await?;
    names(environment, "spec.analysis.falseRollbacks").await?;
    let waits = |s: &CanaryRolloutStatus| s.phase.as_deref() == Some("Paused");
    environment.until("it pauses", SOON, waits).await?;
    traffic_away(environment)?;

    patch(environment, &serde_json::to_value(good)?).await?;
    let says = |s: &CanaryRolloutStatus| s.message.as_deref().is_some_and(|m| m.contains("its spec was refused"));
    let status = environment.until("it waits for a person", SOON, says).await?;
    ensure!(
        waits(&status) && condition(&status, "SpecValid").is_some_and(|c| c.0),
        "{:?}: {:?}",
        status.phase,
        status.conditions
    );
    traffic_away(environment)?;
    environment.order("resume").await?;
    environment
        .until("1.1.0 gets traffic again", ROLLBACK, shifting)
        .await?;
    environment.order("abort").await?;
    environment.site.argocd.resume_application(&application).await?;
    environment.until_phase("RolledBack", "1.1.0", ROLLBACK).await?;
    environment.site.argocd.pause_application(&application).await?;
    Ok(())
}

/// What a tenant must not reach from his namespace, and what must not make Serin big.
async fn what_is_others(environment: &Environment, good: &CanaryRolloutSpec) -> anyhow::Result<()> {
    let secrets: Api<Secret> = Api::namespaced(environment.client(), &environment.namespace());
    let others = json!({ "metadata": { "name": "others" }, "stringData": { "username": "x", "password": "y" } });
    secrets
        .create(&PostParams::default(), &serde_json::from_value(others)?)
        .await?;
    for (reason, words, spec) in [
        (
            "NotAllowed",
            "http://elsewhere",
            json!({ "git": { "repository": "http://elsewhere/config.git" } }),
        ),
        ("NotAllowed", "branch other", json!({ "git": { "branch": "other" } })),
        (
            "NotAllowed",
            "deploy/environments/prod",
            json!({ "git": { "path": "deploy/environments/prod" } }),
        ),
        // The Secret is there, and is none that the chart lets Serin read.
        (
            "InvalidField",
            "may not read the Secret",
            json!({ "git": { "secretRef": { "name": "others" } } }),
        ),
    ] {
        patch(environment, &spec)
            .await
            .with_context(|| format!("writing {spec}"))?;
        let refused = |s: &CanaryRolloutStatus| {
            let valid = s.conditions.iter().find(|c| c.type_ == "SpecValid");
            valid.is_some_and(|c| c.status == "False" && c.reason == reason && c.message.contains(words))
        };
        environment.until(&format!("{reason}: {words}"), SOON, refused).await?;
        patch(environment, &serde_json::to_value(good)?).await?;
        environment
            .until("the spec is allowed again", SOON, |s| {
                condition(s, "SpecValid").is_some_and(|c| c.0)
            })
            .await?;
    }

    // A command as large as an annotation may be.
    let order = Order {
        id: "huge".to_owned(),
        verb: "resume".to_owned(),
        by: Some("admin".to_owned()),
        reason: "x".repeat(200_000),
    };
    let order = json!({ "metadata": { "annotations": { COMMAND_ANNOTATION: order.write() } } });
    let refused = environment
        .rollouts()
        .patch(SERVICE, &PatchParams::default(), &Patch::Merge(order))
        .await;
    let refused = refused.err().context("a huge command was let through")?.to_string();
    ensure!(refused.contains("is not as `serin` writes it"), "{refused}");

    // What everybody in the cluster can read tells no secret.
    let serin = environment.serin.as_ref().context("it has no Serin of its own")?;
    let side = serin.side_port().await?;
    for page in ["metrics", "healthz", "readyz"] {
        let text = reqwest::get(format!("{side}/{page}"))
            .await?
            .error_for_status()?
            .text()
            .await?;
        ensure!(
            !text.contains(environment.site.lab.git.token()),
            "/{page} tells the token: {text}"
        );
    }
    let posted = reqwest::Client::new().post(format!("{side}/metrics")).send().await?;
    ensure!(
        posted.status() == 405,
        "the side port takes a POST: {}",
        posted.status()
    );
    Ok(())
}

/// A later rollout on the subtree of this one: it is refused, and this one goes on.
async fn someone_elses_subtree(environment: &Environment) -> anyhow::Result<()> {
    let rollouts = environment.rollouts();
    let mut later = environment.rollout().await?;
    later.metadata = serde_json::from_value(json!({ "name": "later" }))?;
    later.status = None;
    rollouts.create(&PostParams::default(), &later).await?;
    eventually("the later rollout is refused", SOON, || async {
        let status = rollouts.get("later").await?.status.context("no status")?;
        let refused = status.conditions.iter().find(|c| c.type_ == "SpecValid");
        let refused = refused.context("no condition")?;
        ensure!(
            refused.reason == "SubtreeTaken" && refused.message.contains(&format!("/{SERVICE} ")),
            "{refused:?}"
        );
        Ok(())
    })
    .await?;
    let events = environment.events_on("CanaryRollout", "later").await?;
    ensure!(
        events.iter().any(|e| e.reason.as_deref() == Some("SubtreeTaken")),
        "no event says so"
    );
    let valid = condition(&environment.status().await?, "SpecValid");
    ensure!(
        valid.as_ref().is_some_and(|c| c.0),
        "the older one is touched: {valid:?}"
    );
    rollouts.delete("later", &DeleteParams::default()).await?;
    Ok(())
}

/// A second rollout for another Service, whose route's name is taken.
async fn someone_elses_route(environment: &Environment) -> anyhow::Result<()> {
    let client = environment.client();
    let services: Api<Service> = Api::namespaced(client, &environment.namespace());
    let mut other = services.get(SERVICE).await?;
    other.metadata = serde_json::from_value(json!({ "name": "other" }))?;
    let spec = other.spec.as_mut().context("a Service without a spec")?;
    (spec.cluster_ip, spec.cluster_ips) = (None, None);
    services.create(&PostParams::default(), &other).await?;
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute",
        "metadata": { "name": "other", "namespace": environment.namespace() },
        "spec": { "parentRefs": [{ "group": "", "kind": "Service", "name": "other", "port": 50051 }],
                  "rules": [{ "backendRefs": [{ "name": "other", "port": 50051 }] }] },
    });
    environment
        .site
        .kubectl(&["apply", "-f", "-"], route.to_string().as_bytes())
        .await?;
    patch(environment, &json!({ "service": { "name": "other" } })).await?;
    names(environment, "spec.service.name").await?;
    let read = [
        "get",
        "grpcroute",
        "other",
        "-n",
        &environment.namespace(),
        "-o",
        "json",
    ];
    let live: Value = serde_json::from_str(&environment.site.kubectl(&read, b"").await?)?;
    let backends = live
        .pointer("/spec/rules/0/backendRefs")
        .and_then(Value::as_array)
        .map(Vec::len);
    ensure!(backends == Some(1), "somebody else's route was changed: {live}");
    Ok(())
}

fn condition(status: &serin::api::CanaryRolloutStatus, kind: &str) -> Option<(bool, String)> {
    status
        .conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| (c.status == "True", c.message.to_string()))
}

/// Condition and event name the field.
pub(super) async fn names(environment: &Environment, field: &str) -> anyhow::Result<()> {
    let named = |s: &serin::api::CanaryRolloutStatus| {
        condition(s, "SpecValid").is_some_and(|(valid, message)| !valid && message.starts_with(&format!("{field}:")))
    };
    environment
        .until(&format!("a condition names {field}"), SOON, named)
        .await?;
    let events = environment.events().await?;
    let noted = |note: &Option<String>| {
        note.as_deref()
            .is_some_and(|note| note.starts_with(&format!("{field}:")))
    };
    ensure!(
        events
            .iter()
            .any(|e| e.reason.as_deref() == Some("InvalidField") && noted(&e.note)),
        "no event names {field}"
    );
    Ok(())
}

pub(super) async fn patch(environment: &Environment, spec: &Value) -> anyhow::Result<()> {
    let patch = json!({ "spec": spec });
    environment
        .rollouts()
        .patch(SERVICE, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

pub(super) async fn revision_create(lab: Arc<Lab>) -> anyhow::Result<()> {
    let site = site(&lab).await?;
    let seed = tempfile::tempdir()?;
    std::fs::create_dir_all(seed.path().join("envs/prod"))?;
    std::fs::write(
        seed.path().join("envs/prod/values.yaml"),
        "stable: {image: {tag: a}}\ncanary: {replicas: 1}\n",
    )?;
    std::fs::write(seed.path().join("envs/prod/broken.yaml"), "stable: [\ncanary: }\n")?;
    let repository = lab.git.create("refusing", seed.path()).await?;
    lab.git.allow("may-only-read", Access::ReadOnly);
    let head = repository.head("main").await?;
    let (url, config) = (lab.git.url("refusing"), lab.git.url(CONFIG));
    let create = async |url: &str, file: &str, path: &str, token: &str| {
        let serin = Program::new(binary("serin")?).env("SERIN_GIT_TOKEN", token);
        let flags = [
            "revision",
            "create",
            "--image-tag",
            "1.1.0",
            "--revision",
            "1.1.0",
            "--cluster",
            "lab",
            "--rollout",
            "a/b",
        ];
        let place = ["--repository", url, "--path", path, "--file", file];
        serin.args(flags).args(place).output(Duration::from_secs(60)).await
    };
    let says = |output: &Output, words: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "it ended with success; wanted: {words}");
        ensure!(said.contains(words), "it does not say {words:?}: {said}");
        ensure!(!said.contains(lab.git.token()), "the token is told: {said}");
        Ok(())
    };
    let token = lab.git.token();
    says(&create(&url, "values.yaml", "envs/prod", token).await?, "canary.image")?;
    says(&create(&url, "broken.yaml", "envs/prod", token).await?, "broken.yaml")?;
    says(
        &create(&url, "values.yaml", "envs/nowhere", token).await?,
        "envs/nowhere/values.yaml",
    )?;
    let elsewhere = format!("http://{}:1/x.git", lab.net.infra());
    says(
        &create(&elsewhere, "values.yaml", "envs/prod", token).await?,
        &elsewhere,
    )?;
    says(&create(&url, "values.yaml", "envs/prod", "wrong").await?, "credentials")?;
    says(
        &create(&config, "values.yaml", "deploy/environments/staging", "may-only-read").await?,
        "403",
    )?;
    ensure!(repository.head("main").await? == head, "something was pushed");
    let staging = site
        .config
        .file("main", "deploy/environments/staging/values.yaml")
        .await?;
    ensure!(
        !staging.contains("1.1.0"),
        "something was pushed to the config repository"
    );
    let branches = repository.run(&["for-each-ref", "--format=%(refname)"]).await?;
    ensure!(
        branches.trim() == "refs/heads/main",
        "something else was pushed: {branches}"
    );
    Ok(())
}
