//! `serin explain`: what a spec means, in words. It reads the rollout from the cluster or from a file, and from Prometheus the traffic
//! that it would have.

mod expected;
mod traffic;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::SignedDuration;
use kube::ResourceExt as _;
use serin_core::analysis::sequential::Role;
use serin_core::rollout::{Capacity, Hook, OnHookFailure, OnInconclusive, Plan, Step};

use self::expected::expected;
use self::traffic::{Sight, Traffic};
use super::LINKERDS_PROMETHEUS;
use super::rollout::{container_port, in_cluster, in_file, parsed};
use super::table::table;
use crate::api::{CanaryRollout, Layout, Parsed};
use crate::runtime::client;

/// Calls a second where nobody says how many there are.
const ASSUMED: u32 = 100;

/// What to explain.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rollout; with `--file` needed only where there are several.
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// The namespace; the kubeconfig's own when absent. With `--file`: where the manifest names none.
    #[arg(long, short)]
    namespace: Option<String>,
    /// A file with a CanaryRollout, such as a chart renders it; `-` is standard input. No cluster is asked.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where Linkerd's metrics are, for the present traffic; with `--file` nobody is asked without it.
    #[arg(long, env = "SERIN_PROMETHEUS_URL", value_name = "URL")]
    prometheus_url: Option<String>,
    /// The port on which the containers listen; what the Service in the cluster says, or its own port, when absent.
    #[arg(long)]
    container_port: Option<u16>,
    /// Calls a second to assume, instead of asking for the present ones.
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    traffic: Option<u32>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let (rollout, namespace, client) = match (&args.file, &args.name) {
        (Some(file), name) => {
            let rollout = in_file(file, name.as_deref())?;
            let namespace = rollout.namespace().or(args.namespace.clone());
            (rollout, namespace.unwrap_or_else(|| "default".to_owned()), None)
        }
        (None, name) => {
            let name = name.as_deref().context("name a rollout, or a file with -f")?;
            let client = client::connect().await?;
            let found = in_cluster(client.clone(), name, args.namespace.as_deref()).await?;
            (found.rollout, found.namespace, Some(client))
        }
    };
    let parsed = parsed(&rollout, &rollout.name_any())?;
    let url = args.prometheus_url.as_deref();
    let url = url.or(client.as_ref().map(|_| LINKERDS_PROMETHEUS));
    let traffic = match (args.traffic, url) {
        (Some(traffic), _) => Traffic::assumed(traffic, &parsed, "--traffic says so".to_owned()),
        (None, None) => {
            let why =
                "nobody was asked; --prometheus-url asks for the present traffic, --traffic assumes another".to_owned();
            Traffic::assumed(ASSUMED, &parsed, why)
        }
        (None, Some(url)) => {
            let port = match args.container_port {
                Some(port) => port,
                None => container_port(client.as_ref(), &namespace, &rollout, &rollout.spec.stable.deployment).await?,
            };
            let sight = Sight {
                url,
                namespace: &namespace,
                port,
            };
            Traffic::at(sight, &rollout, &parsed, ASSUMED).await
        }
    };
    print!("{}{}", explain(&rollout, &parsed), expected(&parsed.plan, &traffic));
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
    out.push('\n');
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
mod tests;
