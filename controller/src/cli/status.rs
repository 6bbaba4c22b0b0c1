//! `serin status`: one line a rollout, and what each is about to do; of a single one, the evidence, the
//! last ticks and the forecast as well.

use std::fmt::Write as _;

use anyhow::Context as _;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde::Serialize;

use super::table::table;
use super::{live, spark};
use crate::api::{CanaryRollout, CanaryRolloutStatus, SamplesStatus};
use crate::runtime::client;
use crate::view;

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the rollout of this name.
    name: Option<String>,
    /// The namespace; the kubeconfig's own when absent.
    #[arg(long, short)]
    namespace: Option<String>,
    /// All namespaces.
    #[arg(long, short = 'A', conflicts_with_all = ["namespace", "name"])]
    all_namespaces: bool,
    /// How it is written.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
    /// Goes on showing: on a terminal as a live view, elsewhere a line a change. `q` or Ctrl-C ends it.
    #[arg(long, short, conflicts_with = "output")]
    watch: bool,
}

/// How rollouts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table for people.
    Table,
    /// The resources as JSON.
    Json,
    /// The resources as YAML.
    Yaml,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = client::connect().await?;
    let api: Api<CanaryRollout> = if args.all_namespaces {
        Api::all(client.clone())
    } else {
        match &args.namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::default_namespaced(client.clone()),
        }
    };
    if args.watch {
        return live::run(live::Watched {
            client,
            api,
            name: args.name,
            namespaces: args.all_namespaces,
        })
        .await;
    }
    let rollouts = match &args.name {
        Some(name) => vec![
            api.get(name)
                .await
                .with_context(|| format!("reading the rollout {name}"))?,
        ],
        None => {
            api.list(&ListParams::default())
                .await
                .context("listing rollouts")?
                .items
        }
    };
    match args.output {
        Output::Table => {
            print!("{}", overview(&rollouts, args.all_namespaces));
            if let (Some(_), [one]) = (&args.name, rollouts.as_slice()) {
                print!("{}", details(one));
            }
        }
        other => print(other, &rollouts)?,
    }
    Ok(())
}

/// For programs.
pub(super) fn print(output: Output, value: &impl Serialize) -> anyhow::Result<()> {
    match output {
        Output::Yaml => print!("{}", serde_saphyr::to_string(&serde_json::to_value(value)?)?),
        Output::Json | Output::Table => println!("{}", serde_json::to_string_pretty(value)?),
    }
    Ok(())
}

/// Evidence, hooks, the way through Git and forecast of one rollout.
pub fn details(rollout: &CanaryRollout) -> String {
    let none = CanaryRolloutStatus::default();
    let status = rollout.status.as_ref().unwrap_or(&none);
    let mut out = String::new();
    if !status.evidence.is_empty() {
        out.push_str("\nEvidence (towards fail, towards pass)\n");
    }
    for one in &status.evidence {
        let dry = if one.dry_run { " (dry run)" } else { "" };
        let _ = writeln!(
            out,
            "  {}{dry}: {} %, {} %; {}",
            one.metric, one.towards_fail, one.towards_pass, one.sentence
        );
        if let Some(range) = &one.range {
            let other = one
                .other_range
                .as_ref()
                .map(|other| format!(", the other arm's in {other}"));
            let _ = writeln!(out, "    its share lies in {range}{}", other.unwrap_or_default());
        }
        for pod in &one.pods {
            let _ = writeln!(out, "    {}: {} of {}", pod.pod, pod.bad, pod.total);
        }
    }
    if !status.hooks.is_empty() {
        out.push_str("\nHooks\n");
    }
    for hook in &status.hooks {
        let said = view::hooks::of(hook).sentence(|at| at.to_string());
        let _ = writeln!(out, "  {}", view::one_line(&said));
    }
    if let Some(samples) = &status.samples {
        out.push_str(&tick_by_tick(samples));
    }
    out.push_str(&way(rollout, status));
    if let Some(forecast) = &status.forecast {
        let _ = writeln!(out, "\nForecast: {}", forecast.message);
        for step in &forecast.steps {
            let _ = writeln!(
                out,
                "  step {} ({} %): {}",
                step.step,
                step.weight,
                view::plan::still(step)
            );
        }
    }
    out
}

/// The commit that brought the canary, and the promotion or rollback that is under way, or was the last, stage by stage.
fn way(rollout: &CanaryRollout, status: &CanaryRolloutStatus) -> String {
    let repository = &rollout.spec.git.repository;
    let mut out = String::new();
    if let Some((revision, commit)) = (status.revision.as_ref()).and_then(|of| Some((of, of.commit.as_deref()?))) {
        let by = revision.author.as_ref().map(|author| format!(" by {author}"));
        let subject = revision.subject.as_ref().map(|subject| format!(": {subject}"));
        let (by, subject) = (by.unwrap_or_default(), subject.unwrap_or_default());
        let words = format!("{} from commit {commit}{by}{subject}", revision.name);
        let _ = writeln!(out, "\n{}", view::one_line(&words));
        linked(&mut out, view::link(repository, Some(commit)));
    }
    let Some(pipeline) = view::pipeline::of(view::row(rollout).phase, repository, status) else {
        return out;
    };
    let commit = pipeline.commit.map(|commit| format!(", commit {commit}"));
    let commit = commit.unwrap_or_default();
    let _ = writeln!(out, "\n{} of {}{commit}", pipeline.kind, pipeline.revision);
    linked(&mut out, pipeline.link);
    for stage in &pipeline.stages {
        let _ = writeln!(out, "  {}: {}", stage.name, stage.words(|at| at.to_string()));
    }
    out
}

fn linked(out: &mut String, link: Option<String>) {
    if let Some(link) = link {
        let _ = writeln!(out, "  {link}");
    }
}

fn tick_by_tick(samples: &SamplesStatus) -> String {
    let (Some(first), Some(last)) = (samples.ticks.first(), samples.ticks.last()) else {
        return String::new();
    };
    let mut out = format!("\nTick by tick, {} to {} ({})\n", first.end, last.end, spark::LEGEND);
    for line in spark::lines(samples, usize::MAX) {
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// The rollouts as a table.
pub fn overview(rollouts: &[CanaryRollout], namespaces: bool) -> String {
    if rollouts.is_empty() {
        return "No rollouts found.\n".to_owned();
    }
    let none = CanaryRolloutStatus::default();
    let mut rows = vec![
        [
            "NAMESPACE",
            "NAME",
            "PHASE",
            "STEP",
            "WEIGHT",
            "REVISION",
            "VERDICT",
            "MESSAGE",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for rollout in rollouts {
        let status = rollout.status.as_ref().unwrap_or(&none);
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let weight = status.weight.map_or_else(
            || "-".to_owned(),
            |w| {
                if w.wanted == w.observed {
                    format!("{} %", w.observed)
                } else {
                    format!("{} → {} %", w.observed, w.wanted)
                }
            },
        );
        rows.push(vec![
            rollout.namespace().unwrap_or_default(),
            rollout.name_any(),
            text(&status.phase),
            text(&status.step),
            weight,
            status
                .revision
                .as_ref()
                .map_or_else(|| "-".to_owned(), |r| r.name.clone()),
            text(&status.verdict),
            text(&status.message),
        ]);
    }
    if !namespaces {
        for row in &mut rows {
            row.remove(0);
        }
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::super::rollout::minimal;
    use super::*;

    #[test]
    fn shows_evidence_and_forecast_of_one() {
        let mut rollout = rollout();
        rollout.status = serde_json::from_value(serde_json::json!({
            "phase": "Progressing",
            "evidence": [{
                "metric": "success-rate", "towardsFail": 61, "towardsPass": 0,
                "sentence": "10.0 % of 100 canary calls failed",
                "range": "2.9 % to 23.1 %", "otherRange": "0.1 % to 0.9 %", "pods": [{"pod": "web-5d4f-x", "bad": 10, "total": 50}],
            }, {"metric": "memory", "dryRun": true, "sentence": "memory is 7"}],
            "hooks": [{
                "name": "window", "point": "Step", "step": 1, "state": "Asked", "since": "2026-11-20T10:00:20Z",
                "until": "2026-11-20T10:10:20Z", "onFailure": "Pause", "answer": "HTTP 202",
            }],
            "samples": {"boundsMs": [], "ticks": [
                {"end": "2026-11-20T10:00:20Z", "weight": 5, "leftOut": true, "canary": {"requests": 9, "failures": 1}, "stable": {"requests": 90, "failures": 0}},
                {"end": "2026-11-20T10:00:40Z", "weight": 5, "canary": {"requests": 10, "failures": 1}, "stable": {"requests": 100, "failures": 1}},
                {"end": "2026-11-20T10:01:00Z", "weight": 5, "canary": {"requests": 10, "failures": 5}, "stable": {"requests": 100, "failures": 0}},
                {"end": "2026-11-20T10:01:20Z", "weight": 5, "canary": {"requests": 0, "failures": 0}, "stable": {"requests": 100, "failures": 20}},
            ]},
            "forecast": {
                "message": "if the canary is as good as stable, step 2 of 4 takes about 480 more calls on it",
                "steps": [
                    {"step": 2, "weight": 25, "calls": 480, "time": "48s", "decides": true},
                    {"step": 3, "weight": 50, "decides": false},
                ],
            },
        }))
        .unwrap();
        insta::assert_snapshot!(details(&rollout), @r"

        Evidence (towards fail, towards pass)
          success-rate: 61 %, 0 %; 10.0 % of 100 canary calls failed
            its share lies in 2.9 % to 23.1 %, the other arm's in 0.1 % to 0.9 %
            web-5d4f-x: 10 of 50
          memory (dry run): 0 %, 0 %; memory is 7

        Hooks
          window (Step, step 1) could not say yet, and is asked again; since 2026-11-20T10:00:20Z, until 2026-11-20T10:10:20Z, then it waits for a person: HTTP 202

        Tick by tick, 2026-11-20T10:00:20Z to 2026-11-20T10:01:20Z (· not judged, _ no calls; at the end the full height)
          calls/s  stable ████  5.0
                   canary ███_  0.5
          failed   stable ·▂▁▄  50.0 %
                   canary ·▃█_  50.0 %

        Forecast: if the canary is as good as stable, step 2 of 4 takes about 480 more calls on it
          step 2 (25 %): about 480 calls, 48s
          step 3 (50 %): no number of calls would do
        ");
    }

    #[test]
    fn shows_the_commits_and_where_to_read_them() {
        let mut rollout = rollout();
        rollout.spec.git.repository = "https://gitlab.example.com/shop/config.git".to_owned();
        rollout.status = serde_json::from_value(serde_json::json!({
            "phase": "RollingBack",
            "revision": {"name": "1.2.0", "commit": "0a1b2c", "author": "Jane", "subject": "Canary\n1.2.0"},
            "rollback": {"revision": "1.2.0", "trafficAt": "2026-11-20T10:00:00Z", "commit": "3d4e5f"},
        }))
        .unwrap();
        insta::assert_snapshot!(details(&rollout), @r"

        1.2.0 from commit 0a1b2c by Jane: Canary 1.2.0
          https://gitlab.example.com/shop/config/-/commit/0a1b2c

        Rollback of 1.2.0, commit 3d4e5f
          https://gitlab.example.com/shop/config/-/commit/3d4e5f
          traffic away: 2026-11-20T10:00:00Z
          committed: now
          pushed: -
          applied: -
          healthy: -
        ");
    }

    #[test]
    fn shows_a_line_a_rollout() {
        let rollout = rollout();
        insta::assert_snapshot!(overview(&[rollout], true), @r"
        NAMESPACE   NAME           PHASE         STEP   WEIGHT     REVISION   VERDICT   MESSAGE
        prod        user-service   Progressing   2/4    5 → 25 %   1.1.0      pass      step 2 of 4
        ");
    }

    fn rollout() -> CanaryRollout {
        let mut rollout = minimal(&serde_json::json!({}));
        rollout.status = serde_json::from_value(serde_json::json!({
            "phase": "Progressing", "step": "2/4", "weight": {"wanted": 25, "observed": 5}, "verdict": "pass",
            "revision": {"name": "1.1.0"}, "message": "step 2 of 4",
        }))
        .unwrap();
        rollout
    }
}
