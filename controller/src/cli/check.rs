//! `serin check`: whether rollouts would work, one line a question. It prints; `reconcile::facts` reads, and what is right is
//! decided in `linkerd::preflight`.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::api::CanaryRollout;
use crate::linkerd::preflight::{self, Line, Status};
use crate::prometheus::Prometheus;
use crate::reconcile::facts::Sources;
use crate::runtime::client;
use crate::traffic::Traffic;

/// A line fails: a rollout would not work.
const FAILED: u8 = 1;
/// It could not be checked: the API server can't be reached, or there is no rollout.
const UNCHECKED: u8 = 2;

/// What to check.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 no line fails, 1 at least one does, 2 it could not be checked.")]
pub struct Args {
    /// Only the rollout of this name.
    #[arg(conflicts_with = "all_namespaces")]
    rollout: Option<String>,
    /// The namespace; the kubeconfig's own when absent.
    #[arg(long, short)]
    namespace: Option<String>,
    /// The rollouts of all namespaces.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Where Linkerd's metrics are.
    #[arg(
        long,
        env = "SERIN_PROMETHEUS_URL",
        default_value = super::LINKERDS_PROMETHEUS
    )]
    prometheus_url: String,
    /// How it is written.
    #[arg(long, short, value_enum, default_value = "table")]
    output: Output,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Lines for people.
    Table,
    /// JSON.
    Json,
}

/// Prints the lines; the exit code says whether one of them fails.
pub(super) async fn run(args: Args) -> ExitCode {
    match check(args).await {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(UNCHECKED)
        }
    }
}

/// Whether any line fails.
async fn check(args: Args) -> anyhow::Result<bool> {
    let client = client::connect().await?;
    let rollouts = rollouts(&client, &args).await?;
    let sources = Sources {
        client: client.clone(),
        traffic: Traffic::new(client),
        prometheus: Prometheus::new(&args.prometheus_url)?,
    };
    let mut failed = false;
    let mut documents = Vec::new();
    for rollout in &rollouts {
        let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
        let lines = preflight::check(&sources.facts(rollout).await);
        failed |= lines.iter().any(|line| line.status == Status::Fail);
        match args.output {
            Output::Table => print!("{namespace}/{name}\n\n{}\n", preflight::table(&lines)),
            Output::Json => documents.push(document(&namespace, &name, &lines)),
        }
    }
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&documents)?);
    }
    Ok(failed)
}

async fn rollouts(client: &Client, args: &Args) -> anyhow::Result<Vec<CanaryRollout>> {
    if args.all_namespaces {
        let api: Api<CanaryRollout> = Api::all(client.clone());
        let all = api.list(&ListParams::default()).await;
        let all = all.context("listing the rollouts of all namespaces")?.items;
        if all.is_empty() {
            bail!("there is no rollout in any namespace");
        }
        return Ok(all);
    }
    let namespace = args.namespace.as_deref().unwrap_or(client.default_namespace());
    let api: Api<CanaryRollout> = Api::namespaced(client.clone(), namespace);
    if let Some(name) = &args.rollout {
        let doing = || format!("reading the rollout {namespace}/{name}");
        return Ok(vec![api.get(name).await.with_context(doing)?]);
    }
    let doing = || format!("listing the rollouts of {namespace}");
    let all = api.list(&ListParams::default()).await.with_context(doing)?.items;
    if all.is_empty() {
        bail!("there is no rollout in namespace {namespace}; name another one with -n, or all with -A");
    }
    Ok(all)
}

fn document(namespace: &str, rollout: &str, lines: &[Line]) -> Value {
    json!({ "namespace": namespace, "rollout": rollout, "lines": lines })
}
