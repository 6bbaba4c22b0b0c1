//! `serin explain`: what a spec means, in words. It reads the rollout from the cluster or from a file, and asks nobody anything else.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::SignedDuration;
use kube::ResourceExt as _;
use serin_core::analysis::sequential::Role;
use serin_core::rollout::{Capacity, Hook, OnHookFailure, OnInconclusive, Plan, Step};

use super::rollout::{in_cluster, in_file, parsed};
use super::table::table;
use crate::api::{CanaryRollout, Layout, Parsed};
use crate::runtime::client;

/// What to explain.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rollout; with `--file` needed only where there are several.
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// The namespace; the kubeconfig's own when absent.
    #[arg(long, short, conflicts_with = "file")]
    namespace: Option<String>,
    /// A file with a CanaryRollout, such as a chart renders it; `-` is standard input. No cluster is asked.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let rollout = match (&args.file, &args.name) {
        (Some(file), name) => in_file(file, name.as_deref())?,
        (None, name) => {
            let name = name.as_deref().context("name a rollout, or a file with -f")?;
            in_cluster(client::connect().await?, name, args.namespace.as_deref())
                .await?
                .rollout
        }
    };
    let parsed = parsed(&rollout, &rollout.name_any())?;
    print!("{}", explain(&rollout, &parsed));
    Ok(())
}

/// The whole text.
fn explain(rollout: &CanaryRollout, parsed: &Parsed) -> String {
    let (spec, plan) = (&rollout.spec, &parsed.plan);
    let mut out = format!(
        "{} rolls revisions of {} out, beside {}, for those who call {}:{}.\n\n",
        rollout.name_any(),
        spec.canary.deployment,
        spec.stable.deployment,
        spec.service.name,
        spec.service.port
    );
    let pods = match plan.capacity {
        Capacity::Proportional => "as large a share of stable's number as the step has of the traffic",
        Capacity::Full => "as many as stable has",
        Capacity::External => "as somebody else scales them; one ready pod is enough",
    };
    let _ = writeln!(
        out,
        "When the canary's revision changes its pods come up first ({pods}; at most {:#}). Then it gets traffic:\n",
        plan.progress_deadline
    );
    out += &steps(plan);
    out += &hooks(plan);
    let (least, most) = (total(plan, |step| step.hold), total(plan, |step| step.at_most));
    let _ = writeln!(
        out,
        "\nThat takes at least {least:#}, and at most {most:#} beside pauses and the time that pods and commits take.\n"
    );
    out += "It is rolled back by a commit as soon as there is evidence that\n";
    out += &objectives(parsed);
    let _ = writeln!(
        out,
        "\nA good canary is rolled back with a probability of at most {} % in a whole trial, however often one looks.",
        percent(plan.objectives.false_rollbacks)
    );
    let _ = writeln!(
        out,
        "Without a fresh scrape for {:#} its traffic is taken away, and it waits, without a commit.",
        plan.blind_deadline
    );
    let _ = writeln!(
        out,
        "After the last step it is promoted by a commit to {} of {}: {}.",
        spec.git.branch,
        spec.git.repository,
        place(rollout, parsed)
    );
    if plan.fast_return > 0 {
        let _ = writeln!(
            out,
            "One of the last {} promoted revisions that is committed again is promoted without a canary.",
            plan.fast_return
        );
    }
    if let Some(forecast) = rollout.status.as_ref().and_then(|status| status.forecast.as_ref()) {
        let _ = writeln!(out, "\nAt the present traffic: {}.", forecast.message);
    }
    out
}

fn steps(plan: &Plan) -> String {
    let mut rows = Vec::new();
    for (i, step) in plan.steps().iter().enumerate() {
        let mut then = match step.on_inconclusive {
            OnInconclusive::Advance => format!(
                "goes on unproven if nothing speaks against it and it had {} calls",
                plan.min_requests
            ),
            OnInconclusive::Pause => "waits for a person".to_owned(),
            OnInconclusive::RollBack => "is rolled back".to_owned(),
        };
        if step.approval {
            then += "; and when it has passed, waits for `serin approve`";
        }
        rows.push(vec![
            format!("  step {}", i + 1),
            step.weight.to_string(),
            format!("{:#} to {:#}", step.hold, step.at_most),
            format!("undecided by then: {then}"),
        ]);
    }
    table(&rows)
}

fn hooks(plan: &Plan) -> String {
    let mut out = String::new();
    for Hook {
        name,
        at,
        timeout,
        on_failure,
    } in &plan.hooks
    {
        let points: Vec<_> = at.iter().map(|point| point.word()).collect();
        let no = match on_failure {
            _ if !at.iter().any(|point| point.is_gate()) => "nothing waits for it",
            OnHookFailure::RollBack => "without a yes it is rolled back",
            OnHookFailure::Pause => "without a yes it waits for a person",
            OnHookFailure::Continue => "without a yes it goes on all the same",
        };
        let _ = write!(
            out,
            "\nThe hook {name} is asked at {}, for at most {timeout:#}: {no}.",
            points.join(", ")
        );
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

fn total(plan: &Plan, of: impl Fn(&Step) -> SignedDuration) -> SignedDuration {
    plan.steps()
        .iter()
        .fold(SignedDuration::ZERO, |sum, step| sum.saturating_add(of(step)))
}

fn objectives(parsed: &Parsed) -> String {
    let objectives = &parsed.plan.objectives;
    let mut lines = Vec::new();
    let success = &objectives.success;
    let mut line = |role: Role, text: String| {
        let dry = if role == Role::DryRun {
            " (reported, not judged)"
        } else {
            ""
        };
        lines.push(format!("  - {text}{dry}\n"));
    };
    line(
        success.role,
        format!("fewer than {} % of its calls succeed", percent(success.objective)),
    );
    line(
        success.role,
        format!(
            "more of its calls fail than of stable's, by more than {} % of all",
            percent(success.tolerance)
        ),
    );
    for latency in &objectives.latency {
        line(
            latency.role,
            format!(
                "fewer than {} % of its calls take at most {} ms",
                percent(latency.share),
                latency.within_ms
            ),
        );
    }
    if let Some(role) = objectives.latency_against_stable {
        line(role, "more of its calls are slow than of stable's".to_owned());
    }
    for metric in &objectives.custom {
        line(metric.role, format!("{} breaks its limits", metric.name));
    }
    lines.concat()
}

fn place(rollout: &CanaryRollout, parsed: &Parsed) -> String {
    let path = rollout.spec.git.path.trim_end_matches('/');
    match &parsed.layout {
        Layout::Helm(helm) => format!("{} becomes {} in {path}/{}", helm.canary, helm.stable, helm.file),
        Layout::Kustomize(files) => format!("{path}/{} becomes {path}/{}", files.canary, files.stable),
    }
}

/// Without digits that say nothing.
fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::rollout::minimal;
    use super::*;

    #[test]
    fn says_what_a_spec_means() {
        let rollout = minimal(&serde_json::json!({
            "plan": {"steps": [
                {"weight": 5, "hold": "2m"}, {"weight": 50, "hold": "5m", "approval": "Required", "onInconclusive": "Pause"},
                {"weight": 100, "hold": "10m", "atMost": "30m"},
            ]},
            "analysis": {"latency": [{"share": "99%", "within": "500ms"}], "successRate": {"objective": "99.9%"}},
        }));
        insta::assert_snapshot!(explain(&rollout, &parsed(&rollout, "user-service").unwrap()), @r"
        user-service rolls revisions of user-service-canary out, beside user-service, for those who call user-service:50051.

        When the canary's revision changes its pods come up first (as large a share of stable's number as the step has of the traffic; at most 10m). Then it gets traffic:

          step 1   5 %     2m to 6m     undecided by then: goes on unproven if nothing speaks against it and it had 100 calls
          step 2   50 %    5m to 15m    undecided by then: waits for a person; and when it has passed, waits for `serin approve`
          step 3   100 %   10m to 30m   undecided by then: goes on unproven if nothing speaks against it and it had 100 calls

        That takes at least 17m, and at most 51m beside pauses and the time that pods and commits take.

        It is rolled back by a commit as soon as there is evidence that
          - fewer than 99.9 % of its calls succeed
          - more of its calls fail than of stable's, by more than 0.2 % of all
          - fewer than 99 % of its calls take at most 500 ms
          - more of its calls are slow than of stable's
          - outbound-success-rate breaks its limits (reported, not judged)

        A good canary is rolled back with a probability of at most 1 % in a whole trial, however often one looks.
        Without a fresh scrape for 5m its traffic is taken away, and it waits, without a commit.
        After the last step it is promoted by a commit to main of https://git.example.com/config.git: canary becomes stable in deploy/environments/prod/values.yaml.
        One of the last 3 promoted revisions that is committed again is promoted without a canary.
        ");
    }

    #[test]
    fn says_what_hooks_are_for() {
        let http = serde_json::json!({"url": "https://a.example.com", "secretRef": {"name": "gates"}});
        let rollout = minimal(&serde_json::json!({"hooks": [
            {"name": "window", "at": ["BeforePromotion"], "timeout": "4h", "onFailure": "Pause", "http": http},
            {"name": "ticket", "at": ["AfterPromotion", "OnRollback"], "http": http},
        ]}));
        let told = explain(&rollout, &parsed(&rollout, "user-service").unwrap());
        let window =
            "The hook window is asked at BeforePromotion, for at most 4h: without a yes it waits for a person.";
        assert!(told.contains(window), "{told}");
        let ticket = "The hook ticket is asked at AfterPromotion, OnRollback, for at most 10m: nothing waits for it.";
        assert!(told.contains(ticket), "{told}");
    }

    #[test]
    fn names_every_field_of_a_spec_that_makes_no_sense() {
        let rollout = minimal(&serde_json::json!({
            "plan": {"steps": [{"weight": 50, "hold": "2m"}, {"weight": 5, "hold": "soon"}]},
        }));
        let told = parsed(&rollout, "user-service").unwrap_err().to_string();
        assert!(told.contains("\n  spec.plan.steps[1].hold: "), "{told}");
        assert!(told.contains("\n  spec.plan.steps[1].weight: "), "{told}");
    }

    #[test]
    fn finds_the_rollout_among_other_documents() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let one = serde_json::to_string(&minimal(&serde_json::json!({}))).unwrap();
        std::fs::write(file.path(), format!("kind: Service\n---\n{one}\n---\n# nothing\n")).unwrap();
        assert_eq!(in_file(file.path(), None).unwrap().name_any(), "user-service");
        std::fs::write(file.path(), "kind: Service\n").unwrap();
        let none = format!("{:#}", in_file(file.path(), None).unwrap_err());
        assert!(none.contains("no CanaryRollout"), "{none}");
    }
}
