//! `serin promote | approve | pause | resume | abort | retry`: gives a rollout an operator's command, waits for the controller's
//! answer and prints it. What a command does is decided by the controller; who may give it, by Kubernetes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt as _};
use serin_core::rollout::Verb;

use super::rollout::{InCluster, in_cluster};
use super::{TIMED_OUT, duration};
use crate::api::{COMMAND_ANNOTATION, CanaryRollout, CommandStatus, LONGEST_REASON, Order};
use crate::runtime::client;

/// Which rollout, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rollout.
    name: String,
    /// The namespace; the kubeconfig's own when absent.
    #[arg(long, short)]
    namespace: Option<String>,
    /// Why: it stands in status, in an event, and in the rollback commit.
    #[arg(long, short, default_value = "", hide_default_value = true, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// The most time to wait for the answer.
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
}

fn reason(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..=LONGEST_REASON => Ok(text.to_owned()),
        long => Err(format!("{long} characters; {LONGEST_REASON} is the most")),
    }
}

/// `serin promote` has one way more.
#[derive(Debug, clap::Args)]
pub struct PromoteArgs {
    /// Skip all steps and the analysis, not only the rest of the present step.
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    args: Args,
}

impl PromoteArgs {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let verb = if self.full { Verb::PromoteFull } else { Verb::Promote };
        run(verb, self.args).await
    }
}

pub(super) async fn run(verb: Verb, args: Args) -> anyhow::Result<ExitCode> {
    let client = client::connect().await?;
    let InCluster {
        rollout,
        namespace,
        api,
    } = in_cluster(client.clone(), &args.name, args.namespace.as_deref()).await?;
    let name = format!("{namespace}/{}", args.name);
    if let Some(waiting) = unanswered(&rollout) {
        let whose = waiting.by.map(|by| format!(" of {by}")).unwrap_or_default();
        eprintln!(
            "{name}: {}{whose} was not answered yet; this takes its place",
            waiting.verb.name()
        );
    }
    let order = Order::new(verb, who(client).await?, args.reason, rand::random());
    api.patch(&args.name, &PatchParams::default(), &Patch::Merge(order.patch()))
        .await
        .with_context(|| format!("giving {name} the command {}", verb.name()))?;
    let answered = await_condition(api, &args.name, |rollout: Option<&CanaryRollout>| {
        rollout.is_none_or(|rollout| answer(rollout, &order.id).is_some())
    });
    let Ok(rollout) = tokio::time::timeout(args.timeout, answered).await else {
        eprintln!(
            "error: {name}: {} was given, and not answered within {:?}: is Serin running there? It is carried out as soon as \
             Serin sees it; `kubectl annotate canaryrollout -n {namespace} {} {COMMAND_ANNOTATION}-` takes it back",
            verb.name(),
            args.timeout,
            args.name
        );
        return Ok(ExitCode::from(TIMED_OUT));
    };
    let rollout = rollout
        .with_context(|| format!("waiting for the answer of {name}"))?
        .with_context(|| format!("the rollout {name} was deleted before it answered"))?;
    let answer = answer(&rollout, &order.id).with_context(|| format!("{name} gave no answer"))?;
    anyhow::ensure!(answer.accepted, "{name}: {}: {}", answer.verb, answer.message);
    println!("{name}: {}", answer.message);
    Ok(ExitCode::SUCCESS)
}

/// The name by which the API server knows the caller: what it authorizes, and what stands in status.
async fn who(client: Client) -> anyhow::Result<String> {
    let reviews: Api<SelfSubjectReview> = Api::all(client);
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .context("asking the API server by which name it knows you")?;
    review
        .status
        .and_then(|status| status.user_info?.username)
        .context("the API server knows you by no name")
}

fn answer<'r>(rollout: &'r CanaryRollout, id: &str) -> Option<&'r CommandStatus> {
    let answer = rollout.status.as_ref()?.last_command.as_ref()?;
    (answer.id == id).then_some(answer)
}

/// The command that still waits for its answer.
fn unanswered(rollout: &CanaryRollout) -> Option<serin_core::rollout::Command> {
    let command = Order::parse(rollout.annotations().get(COMMAND_ANNOTATION)?)?;
    answer(rollout, &command.id).is_none().then_some(command)
}
