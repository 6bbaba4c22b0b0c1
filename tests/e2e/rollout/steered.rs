//! Operators' commands: who may give them, what they are answered, where they are recorded, and who is told.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use lab::{
    Lab,
    site::{Detours, Environment, SERVICE, Setup},
};
use serde_json::{Value, json};
use serin::api::COMMAND_ANNOTATION;

use super::{
    site::site,
    told::Receiver,
    witness::{PROMOTION, ROLLBACK},
};
use crate::story::{SOON, eventually};

/// May steer rollouts of the environment.
const ALICE: &str = "alice@example.com";
/// May edit rollouts there, and not steer them.
const BOB: &str = "bob@example.com";

pub(super) async fn by_people(lab: Arc<Lab>) -> anyhow::Result<()> {
    let plan = json!({ "steps": [
        { "weight": 10, "hold": "2s", "atMost": "90s", "approval": "Required" },
        { "weight": 50, "hold": "2s", "atMost": "90s" },
        { "weight": 100, "hold": "2s", "atMost": "90s" },
    ] });
    let receiver = Receiver::start().await?;
    let setup = Setup {
        values: json!({ "rollout": { "plan": plan, "notify": receiver.spec() } }),
        own_serin: true,
    };
    let (site, serin) = (site(&lab).await?, Receiver::serin(&lab)?);
    let environment = Environment::start_with(&site, "steered", setup, &serin, Detours::default()).await?;
    admit(&environment).await?;
    Receiver::admit(&environment).await?;
    autoscale(&environment).await?;

    environment.commit("1.1.0", None).await?;
    environment.until_phase("Paused", "1.1.0", PROMOTION).await?;
    ensure!(
        minimum(&environment).await? == 2,
        "stable may be scaled down while its traffic is elsewhere"
    );
    only_who_may(&environment).await?;
    // A pipeline whose time is over is told so, and where the rollout stands.
    let waited = environment
        .serin_as(ALICE, &["wait", SERVICE, "--revision", "1.1.0", "--timeout", "1s"])
        .await?;
    let said = String::from_utf8_lossy(&waited.stderr);
    ensure!(
        waited.status.code() == Some(124)
            && said.contains("were over before 1.1.0 came to its end; the last word: Paused"),
        "{waited:?}"
    );

    let refused = steer(&environment, ALICE, &["pause", SERVICE]).await?;
    let said = format!("user-service-steered/{SERVICE}: pause: refused in phase Paused: ");
    ensure!(!refused.0 && refused.1.contains(&said), "{refused:?}");
    done(
        &environment,
        &["approve", SERVICE, "--reason", "the dashboards are calm"],
        "approved",
    )
    .await?;
    let status = environment.status().await?;
    let answer = status.last_command.context("status has no command")?;
    ensure!(
        answer.by.as_deref() == Some(ALICE) && answer.reason == "the dashboards are calm" && answer.accepted,
        "{answer:?}"
    );
    environment.until_phase("Promoted", "1.1.0", PROMOTION).await?;
    gets_its_minimum_back(&environment).await?;

    environment.commit("1.1.1", None).await?;
    environment.until_phase("Paused", "1.1.1", PROMOTION).await?;
    done(
        &environment,
        &["abort", SERVICE, "--reason", "support is called"],
        "rolling back",
    )
    .await?;
    let status = environment.until_phase("RolledBack", "1.1.1", ROLLBACK).await?;
    let commit = status
        .rollback
        .and_then(|rollback| rollback.commit)
        .context("status has no rollback commit")?;
    let message = environment
        .site
        .config
        .run(&["log", "-1", "--format=%B", &commit])
        .await?;
    ensure!(
        message.contains("aborted by an operator: support is called (alice@example.com)"),
        "{message}"
    );
    told_by_events(&environment).await?;
    // Who approves enters the next step.
    let good = ["Started", "Step", "Paused", "Resumed", "Step", "Promoting", "Promoted"];
    receiver.was_told(&environment, "1.1.0", &good).await?;
    let bad = ["Started", "Step", "Paused", "RollingBack", "RolledBack"];
    receiver.was_told(&environment, "1.1.1", &bad).await?;
    gets_its_minimum_back(&environment).await?;

    let (_, history) = steer(&environment, ALICE, &["history", SERVICE]).await?;
    let rows: Vec<&str> = history
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    ensure!(rows == ["RolledBack", "Promoted"], "{history}");
    says_the_same_to_programs(&environment).await?;
    has_its_columns(&environment).await
}

/// `serin status -o json` and `-o yaml` are the objects that the API server has, of one rollout and of all.
async fn says_the_same_to_programs(environment: &Environment) -> anyhow::Result<()> {
    for args in [&["status", SERVICE, "-o"][..], &["status", "-o"]] {
        for form in ["json", "yaml"] {
            eventually(&format!("{args:?} {form} says what is there"), SOON, async || {
                let before = serde_json::to_value(environment.rollout().await?)?;
                let output = environment.serin_as(ALICE, &[args, &[form]].concat()).await?;
                ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
                let text = String::from_utf8(output.stdout)?;
                let said: Value = match form {
                    "json" => serde_json::from_str(&text)?,
                    _ => serde_saphyr::from_str(&text)?,
                };
                ensure!(said == json!([before]), "{text} is not {before:#}");
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

/// What `kubectl get` shows, and with `-o wide`: both ask the API server for a table.
async fn has_its_columns(environment: &Environment) -> anyhow::Result<()> {
    const ALWAYS: [&str; 7] = ["Name", "Phase", "Step", "Weight", "Revision", "Verdict", "Age"];
    const WIDE: [&str; 4] = ["Stable", "Wanted", "Commit", "Message"];
    let path = format!(
        "/apis/serin.dev/v1alpha1/namespaces/{}/canaryrollouts/{SERVICE}",
        environment.namespace()
    );
    let request = || {
        http::Request::get(&path)
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(vec![])
    };
    eventually("the API server's table shows what stands in status", SOON, async || {
        let table: Value = environment.client().request(request()?).await?;
        let status = environment.status().await?;
        let columns = at(&table, "/columnDefinitions")?;
        let names = |priority: i64| {
            let of = columns
                .iter()
                .filter(move |one| one.get("priority") == Some(&json!(priority)));
            of.filter_map(|one| one.get("name")?.as_str()).collect::<Vec<_>>()
        };
        ensure!(names(0) == ALWAYS && names(1) == WIDE, "{columns:#?}");
        ensure!(columns.len() == ALWAYS.len() + WIDE.len(), "{columns:#?}");
        let cells = at(&table, "/rows/0/cells")?;
        let cell = |name: &str| {
            let mut shown = columns.iter().zip(&cells);
            let found = shown.find(|(column, _)| column.get("name") == Some(&json!(name)));
            found.map(|(_, cell)| cell.clone()).unwrap_or_default()
        };
        let (weight, revision) = (status.weight.unwrap_or_default(), status.revision.unwrap_or_default());
        for (name, wanted) in [
            ("Name", json!(SERVICE)),
            ("Phase", json!(status.phase)),
            ("Step", json!(status.step)),
            ("Weight", json!(weight.observed)),
            ("Revision", json!(revision.name)),
            ("Verdict", json!(status.verdict)),
            ("Stable", json!(status.stable)),
            ("Wanted", json!(weight.wanted)),
            ("Commit", json!(revision.commit)),
            ("Message", json!(status.message)),
        ] {
            ensure!(cell(name) == wanted, "{name} is {}, not {wanted}", cell(name));
        }
        Ok(())
    })
    .await?;
    let namespace = environment.namespace();
    for (args, columns) in [
        (&[][..], ALWAYS.to_vec()),
        (&["-o", "wide"], [&ALWAYS[..], &WIDE].concat()),
    ] {
        let args = [&["get", "canaryrollouts", "-n", namespace.as_str()][..], args].concat();
        let shown = environment.site.kubectl(&args, &[]).await?;
        let head: Vec<_> = shown.lines().next().unwrap_or_default().split_whitespace().collect();
        let columns: Vec<_> = columns.iter().map(|name| name.to_uppercase()).collect();
        ensure!(head == columns, "{shown}");
    }
    Ok(())
}

fn at(value: &Value, pointer: &str) -> anyhow::Result<Vec<Value>> {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found
        .cloned()
        .with_context(|| format!("there is no {pointer} in {value}"))
}

/// Alice gets the chart's role; Bob may edit.
async fn admit(environment: &Environment) -> anyhow::Result<()> {
    let namespace = environment.namespace();
    let subject = |name: &str| json!([{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name }]);
    let binding = |name: &str, kind: &str, role: &str, who: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": name, "namespace": namespace }, "subjects": subject(who),
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        })
    };
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        binding("operators", "ClusterRole", "serin-operator", ALICE),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": "editors", "namespace": namespace },
            "rules": [{
                "apiGroups": ["serin.dev"], "resources": ["canaryrollouts"], "verbs": ["get", "list", "watch", "patch"],
            }],
        },
        binding("editors", "Role", "editors", BOB),
    ] });
    apply(environment, &objects).await
}

/// The right to edit is not the right to steer, and nobody speaks in another's name.
async fn only_who_may(environment: &Environment) -> anyhow::Result<()> {
    let before = environment.rollout().await?.metadata.annotations;
    let (ok, said) = steer(environment, BOB, &["approve", SERVICE]).await?;
    ensure!(
        !ok && said.contains("bob@example.com may not approve canaryrollouts.serin.dev")
            && said.contains("the role serin-operator allows it"),
        "{said}"
    );
    let as_alice = r#"{"id":"x-1","verb":"approve","by":"alice@example.com","reason":""}"#;
    let spaced = r#"{"id":"x-1", "verb":"approve","by":"bob@example.com","reason":""}"#;
    for (order, why) in [
        (
            as_alice,
            "the command says that it is of alice@example.com, and is of bob@example.com",
        ),
        (spaced, "is not as `serin` writes it"),
    ] {
        let namespace = environment.namespace();
        let annotation = format!("{COMMAND_ANNOTATION}={order}");
        let args = [
            "--as",
            BOB,
            "annotate",
            "canaryrollout",
            SERVICE,
            "-n",
            &namespace,
            "--overwrite",
            &annotation,
        ];
        let refused = environment
            .site
            .kubectl(&args, &[])
            .await
            .err()
            .context("it was let through")?;
        ensure!(format!("{refused:#}").contains(why), "{refused:#}");
    }
    ensure!(
        environment.rollout().await?.metadata.annotations == before,
        "something was written"
    );
    Ok(())
}

/// Stable has an autoscaler that would go down to one of its two pods.
async fn autoscale(environment: &Environment) -> anyhow::Result<()> {
    let object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": SERVICE, "namespace": environment.namespace() },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": SERVICE },
            "minReplicas": 1, "maxReplicas": 5,
        },
    });
    apply(environment, &object).await
}

async fn apply(environment: &Environment, object: &Value) -> anyhow::Result<()> {
    let text = object.to_string();
    environment
        .site
        .kubectl(&["apply", "-f", "-"], text.as_bytes())
        .await
        .map(drop)
}

async fn minimum(environment: &Environment) -> anyhow::Result<i64> {
    let namespace = environment.namespace();
    let args = [
        "get",
        "hpa",
        SERVICE,
        "-n",
        &namespace,
        "-o",
        "jsonpath={.spec.minReplicas}",
    ];
    environment
        .site
        .kubectl(&args, &[])
        .await?
        .parse()
        .context("reading minReplicas")
}

async fn gets_its_minimum_back(environment: &Environment) -> anyhow::Result<()> {
    eventually("stable's autoscaler gets its minimum back", SOON, || async {
        let now = minimum(environment).await?;
        ensure!(now == 1, "minReplicas is {now}");
        Ok(())
    })
    .await
}

/// Each answer is an event that names who gave the command and why.
async fn told_by_events(environment: &Environment) -> anyhow::Result<()> {
    let notes: Vec<String> = environment
        .events()
        .await?
        .into_iter()
        .filter(|event| {
            event
                .reason
                .as_deref()
                .is_some_and(|reason| reason.starts_with("Command"))
        })
        .filter_map(|event| event.note)
        .collect();
    for wanted in [
        "pause by alice@example.com: refused in phase Paused",
        "approve by alice@example.com (the dashboards are calm): approved",
        "abort by alice@example.com (support is called): rolling back",
    ] {
        ensure!(
            notes.iter().any(|note| note.starts_with(wanted)),
            "no event says {wanted}: {notes:#?}"
        );
    }
    Ok(())
}

async fn done(environment: &Environment, args: &[&str], answer: &str) -> anyhow::Result<()> {
    let (ok, said) = steer(environment, ALICE, args).await?;
    ensure!(ok && said.contains(answer), "{args:?}: {said}");
    Ok(())
}

/// Runs `serin` as a user; whether it ended well, and all that it said.
async fn steer(environment: &Environment, user: &str, args: &[&str]) -> anyhow::Result<(bool, String)> {
    let output = environment.serin_as(user, args).await?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((output.status.success(), text))
}
