//! `serin status`: one line a rollout, and what each is about to do; of a single one, the evidence, the
//! last ticks and the forecast as well.

use std::fmt::Write as _;

use anyhow::Context as _;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde::Serialize;

use super::live;
use super::table::table;
use crate::api::{CanaryRollout, CanaryRolloutStatus, SampleStatus, SamplesStatus, TickStatus};
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
        out.push_str(&failures(samples));
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

/// The promotion or rollback that is under way, or was the last, stage by stage.
fn way(rollout: &CanaryRollout, status: &CanaryRolloutStatus) -> String {
    let Some(pipeline) = view::pipeline::of(view::row(rollout).phase, status) else {
        return String::new();
    };
    let commit = pipeline.commit.map(|commit| format!(", commit {commit}"));
    let mut out = format!(
        "\n{} of {}{}\n",
        pipeline.kind,
        pipeline.revision,
        commit.unwrap_or_default()
    );
    for stage in &pipeline.stages {
        let _ = writeln!(out, "  {}: {}", stage.name, stage.words(|at| at.to_string()));
    }
    out
}

/// How much of the calls failed tick by tick, as a line an arm.
pub(super) struct Shares {
    /// The share that is drawn as high as can be.
    pub(super) top: f64,
    pub(super) canary: String,
    pub(super) stable: String,
}

/// `·` was not judged, `_` had no calls.
pub(super) fn shares(samples: &SamplesStatus) -> Shares {
    let share = |arm: &SampleStatus| {
        let (bad, all) = (small(arm.failures), small(arm.requests));
        (all > 0.0).then(|| bad / all)
    };
    let judged = samples.ticks.iter().filter(|tick| !tick.left_out);
    let both = judged.flat_map(|tick| [&tick.canary, &tick.stable]);
    let top = both.filter_map(share).fold(0.0, f64::max);
    let line = |of: fn(&TickStatus) -> &SampleStatus| -> String {
        let tick = |tick: &TickStatus| match share(of(tick)) {
            _ if tick.left_out => '·',
            None => '_',
            Some(share) => bar(share, top),
        };
        samples.ticks.iter().map(tick).collect()
    };
    Shares {
        top,
        canary: line(|tick| &tick.canary),
        stable: line(|tick| &tick.stable),
    }
}

fn failures(samples: &SamplesStatus) -> String {
    let (Some(first), Some(last)) = (samples.ticks.first(), samples.ticks.last()) else {
        return String::new();
    };
    let drawn = shares(samples);
    format!(
        "\nFailed calls tick by tick, {} to {} (full height {:.1} %; · not judged, _ no calls)\n  canary  {}\n  stable  {}\n",
        first.end,
        last.end,
        drawn.top * 100.0,
        drawn.canary,
        drawn.stable
    )
}

/// The eighth of the full height that comes next to a share; any failure is more than none.
fn bar(share: f64, top: f64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let reaches = |eighth: &usize| share * 7.0 <= top * small(i64::try_from(*eighth).unwrap_or(0));
    let eighth = (0..8).find(reaches).unwrap_or(7);
    BARS.get(eighth).copied().unwrap_or('█')
}

#[expect(clippy::cast_precision_loss, reason = "it is drawn in eighths")]
fn small(count: i64) -> f64 {
    count as f64
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

        Failed calls tick by tick, 2026-11-20T10:00:20Z to 2026-11-20T10:01:20Z (full height 50.0 %; · not judged, _ no calls)
          canary  ·▃█_
          stable  ·▂▁▄

        Forecast: if the canary is as good as stable, step 2 of 4 takes about 480 more calls on it
          step 2 (25 %): about 480 calls, 48s
          step 3 (50 %): no number of calls would do
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
