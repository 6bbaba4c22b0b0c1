//! The exit codes of the program: it is given a command for each row of docs/exit-codes.md. What happened to the rollouts stands in
//! their status; nobody else runs there, and nobody answers.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use lab::{Lab, binary, process::Program};
use serde_json::{Value, json};
use serin::api::CanaryRollout;

const DOCUMENT: &str = include_str!("../../../docs/exit-codes.md");
const NAMESPACE: &str = "exit-codes";
const STEERS: [&str; 6] = ["promote", "approve", "pause", "resume", "abort", "retry"];
const DEADLINE: Duration = Duration::from_mins(1);

pub(super) async fn story(lab: Arc<Lab>) -> anyhow::Result<()> {
    let rollouts = rollouts(&lab).await?;
    for (name, outcome) in [
        ("good", "Promoted"),
        ("bad", "RolledBack"),
        ("gone", "Withdrawn"),
        ("late", "Superseded"),
    ] {
        ended(&rollouts, name, outcome).await?;
    }
    let serin = Program::new(binary("serin")?).env("SERIN_GIT_TOKEN", "none");
    let lost = serin.clone().env("KUBECONFIG", lab.dir().join("no-such-file"));
    let serin = serin.env("KUBECONFIG", kubeconfig(&lab).await?);
    let of_wait = |more: &'static [&'static str]| [&["wait"], more, &["--revision", "1.1.0"]].concat();
    let by_hand = "revision rollback --repository file:///no/such.git --path prod --cluster lab --rollout exit-codes/good --revision 1.1.0";
    let mut seen = BTreeSet::new();
    for (code, of, args, says) in [
        (0, "all", vec!["status", "good"], "good"),
        (0, "all", of_wait(&["good"]), r#""outcome":"promoted""#),
        (
            0,
            "all",
            of_wait(&["gone", "--for=finished"]),
            r#""outcome":"withdrawn""#,
        ),
        (1, "all", vec!["status", "nobody"], "nobody"),
        (1, "all", of_wait(&["nobody"]), "nobody"),
        (1, "all", by_hand.split(' ').collect(), "/no/such.git"),
        (2, "all", vec!["wait"], "Usage: serin wait"),
        (2, "all", vec!["status", "--no-such-option"], "--no-such-option"),
        (2, "all", vec!["no-such-command"], "no-such-command"),
        (2, "`check`", vec!["check", "nobody"], "nobody"),
        (3, "`wait`", of_wait(&["bad"]), "1.1.0 was rolled back: because"),
        (
            4,
            "`wait`",
            of_wait(&["good", "--for=rolled-back"]),
            "1.1.0 was promoted: because",
        ),
        (5, "`wait`", of_wait(&["gone"]), "1.1.0 was withdrawn: because"),
        (5, "`wait`", of_wait(&["late"]), "1.1.0 was superseded: because"),
        (
            124,
            "`wait`",
            vec!["wait", "good", "--revision", "1.2.0", "--timeout", "1s"],
            "were over before 1.2.0 came to its end",
        ),
    ] {
        ends(&serin, &args, code, says).await?;
        seen.insert((code, of.to_owned()));
    }
    ends(&lost, &["status"], 1, "no-such-file").await?;
    for verb in STEERS {
        ends(
            &serin,
            &[verb, "good", "--timeout", "100ms"],
            124,
            "was given, and not answered",
        )
        .await?;
    }
    seen.insert((124, STEERS.map(|verb| format!("`{verb}`")).join(", ")));

    let documented = documented();
    ensure!(
        seen == documented,
        "the document tells of {documented:?}; seen were {seen:?}"
    );
    Ok(())
}

/// The first two columns of the document's table.
fn documented() -> BTreeSet<(i32, String)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse().ok()?, cells.next()?.to_owned()))
    };
    DOCUMENT.lines().filter_map(row).collect()
}

/// The program ends with this code, and says this where people or programs read it.
async fn ends(serin: &Program, args: &[&str], code: i32, says: &str) -> anyhow::Result<()> {
    let output = serin.clone().args(args).output(DEADLINE).await?;
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    ensure!(
        output.status.code() == Some(code) && said.iter().any(|said| said.contains(says)),
        "serin {args:?} ended with {:?}, and not with {code} and “{says}”: {said:?}",
        output.status.code()
    );
    Ok(())
}

async fn rollouts(lab: &Lab) -> anyhow::Result<Api<CanaryRollout>> {
    let client = lab.control_plane.client();
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    Ok(Api::namespaced(client, NAMESPACE))
}

/// An admin's, in that namespace.
async fn kubeconfig(lab: &Lab) -> anyhow::Result<PathBuf> {
    let own = lab.dir().join("exit-codes.kubeconfig");
    std::fs::copy(lab.control_plane.kubeconfig_admin(), &own)?;
    let kubectl = Program::new(&lab.tools.kubectl).env("KUBECONFIG", &own);
    let namespace = format!("--namespace={NAMESPACE}");
    let set = kubectl.args(["config", "set-context", "--current", &namespace]);
    set.output(DEADLINE).await?.text().context("choosing the namespace")?;
    Ok(own)
}

/// A rollout of which a revision ended in this way.
async fn ended(rollouts: &Api<CanaryRollout>, name: &str, outcome: &str) -> anyhow::Result<()> {
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout", "metadata": { "name": name },
        "spec": {
            "service": { "name": name, "port": 50051 },
            "stable": { "deployment": name },
            "canary": { "deployment": format!("{name}-canary") },
            "plan": { "steps": [{ "weight": 100, "hold": "1m" }] },
            "git": { "repository": "file:///no/such.git", "branch": "main", "path": "prod" },
        },
    });
    let making = || format!("making the rollout {name}");
    rollouts
        .create(&PostParams::default(), &serde_json::from_value(rollout)?)
        .await
        .with_context(making)?;
    // What a newer one took the place of is in the past.
    let present = if outcome == "Superseded" { "Idle" } else { outcome };
    let status: Value = json!({ "status": {
        "phase": present,
        "revision": { "name": "1.1.0" },
        "history": [{
            "revision": "1.1.0", "outcome": outcome, "reason": "because", "canaryCommit": "0123456789", "commit": "89abcdef01",
            "began": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:10:00Z",
        }],
    } });
    rollouts
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .with_context(making)?;
    Ok(())
}
