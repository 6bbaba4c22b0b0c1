//! What a rollout leaves behind: one id in log, events, status and commits, and a trace of each decision. A part of stories.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use lab::{
    Lab,
    kubelet::logs,
    site::{CANARY, Environment, SERVICE},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value as Attribute,
    trace::v1::Span,
};
use serde_json::{Value, json};
use serin::api::TRIAL_ANNOTATION;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::story::{SOON, eventually};

/// The receiving side of OTLP.
#[derive(Clone, Default)]
pub(super) struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    endpoint: String,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request
            .into_inner()
            .resource_spans
            .into_iter()
            .flat_map(|of| of.scope_spans);
        self.lock().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(super) async fn start(lab: &Lab) -> anyhow::Result<Self> {
        let listener = lab.net.listen().await?;
        let collector = Self {
            endpoint: format!("http://{}", listener.local_addr()?),
            ..Self::default()
        };
        let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Ok(collector)
    }

    /// Values of Serin's chart with which it sends its traces here.
    pub(super) fn serin(&self) -> Value {
        json!({ "otlp": { "endpoint": self.endpoint } })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decision that took this trial's traffic away is one trace, from the samples to the written weight; and the rollback's commit
    /// is one that links to the decision that asked for it.
    pub(super) async fn saw_the_rollback(&self, trial: &str) -> anyhow::Result<()> {
        eventually("the traces have come", SOON, async || {
            let spans = self.lock().clone();
            let decision = |span: &&Span| span.name == "decision" && says(span, "trial", trial);
            let part = |of: &Span, name: &str| {
                let parts = spans
                    .iter()
                    .filter(|part| part.trace_id == of.trace_id && part.name == name);
                parts.cloned().collect::<Vec<_>>()
            };
            let takes_away = spans.iter().filter(decision).find(|decision| {
                let weights = part(decision, "SetWeight");
                weights.iter().any(|weight| says(weight, "weight", "0 %")) && says(decision, "phase", "RollingBack")
            });
            let takes_away = takes_away.context("no decision took the traffic away")?;
            let [look, query] = ["look", "query"].map(|name| part(takes_away, name));
            let query = query.first().context("it asked Prometheus nothing")?;
            ensure!(
                look.iter().any(|look| look.span_id == query.parent_span_id)
                    && look.iter().all(|look| look.parent_span_id == takes_away.span_id),
                "{look:?} {query:?}"
            );
            let weight = part(takes_away, "SetWeight");
            ensure!(
                weight
                    .iter()
                    .all(|weight| weight.start_time_unix_nano >= query.end_time_unix_nano),
                "{weight:?} {query:?}"
            );
            let commit = spans
                .iter()
                .find(|span| span.name == "CommitRollback" && says(span, "trial", trial) && !span.links.is_empty());
            let commit = commit.context("the commit has no trace")?;
            let asked = commit
                .links
                .iter()
                .all(|link| spans.iter().any(|span| span.span_id == link.span_id));
            ensure!(asked, "it links to nothing: {commit:?}");
            Ok(())
        })
        .await
    }
}

fn says(span: &Span, key: &str, value: &str) -> bool {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key);
    let found = attribute.and_then(|attribute| attribute.value.clone()?.value);
    matches!(found, Some(Attribute::StringValue(found)) if found == value)
}

/// One search for a trial's id finds what happened, wherever it is written down: these reasons in log and events, and this commit.
pub(super) async fn is_found(
    environment: &Environment,
    trial: &str,
    reasons: &[&str],
    commit: &str,
) -> anyhow::Result<()> {
    let serin = format!("serin-{}", environment.name);
    let mut lines = Vec::new();
    for file in
        logs::files(environment.site.lab.dir(), |pod| pod.contains(&serin)).context("looking for Serin's logs")?
    {
        let log = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        lines.extend(log.lines().map(str::to_owned));
    }
    let lines: Vec<Value> = lines
        .iter()
        .filter(|line| line.contains(trial))
        .map(|line| serde_json::from_str(line))
        .collect::<Result<_, _>>()?;
    let api: Api<Event> = Api::namespaced(environment.client(), &environment.namespace());
    let mut events = api.list(&ListParams::default()).await.context("listing events")?.items;
    events.retain(|event| {
        event
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.get(TRIAL_ANNOTATION).is_some_and(|id| id == trial))
    });
    for reason in reasons {
        ensure!(
            lines.iter().any(|line| line.get("reason") == Some(&json!(reason))),
            "no line of the log tells {reason}: {lines:#?}"
        );
        ensure!(
            events.iter().any(|event| event.reason.as_deref() == Some(reason)),
            "no event tells {reason}: {events:#?}"
        );
    }
    let weight =
        |line: &Value| line.get("message") == Some(&json!("weight set")) && line.get("weight") == Some(&json!("0 %"));
    ensure!(
        lines.iter().any(weight),
        "no line of the log tells weight 0: {lines:#?}"
    );
    let found = environment
        .site
        .config
        .run(&["log", "--format=%H", &format!("--grep=Serin-Trial: {trial}"), "main"])
        .await?;
    ensure!(found.trim() == commit, "{found} is not {commit}");
    Ok(())
}

/// What was promoted and what was rolled back is told on both Deployments too, and nothing twice, however often its controller died.
pub(super) async fn is_told_once(environment: &Environment, (good, bad): (&str, &str)) -> anyhow::Result<()> {
    let canary = [
        ("Starting", good),
        ("Promoting", good),
        ("Promoted", good),
        ("Starting", bad),
        ("RollingBack", bad),
        ("RolledBack", bad),
    ];
    let stable = [("PromotionCommitted", good), ("Promoted", good)];
    for (name, wanted) in [(CANARY, &canary[..]), (SERVICE, &stable[..])] {
        let deployment = environment.deployment(name).await?;
        let events = environment.events_on("Deployment", name).await?;
        let uid = |event: &Event| event.regarding.as_ref().and_then(|of| of.uid.clone());
        ensure!(
            events.iter().all(|event| uid(event) == deployment.metadata.uid),
            "kubectl describe finds them by uid: {events:#?}"
        );
        let told = events.iter().map(told);
        // It was killed: a pause or two may have come of that.
        let told: Vec<_> = told
            .filter(|(reason, _)| wanted.iter().any(|wanted| wanted.0 == *reason))
            .collect();
        let is = |(told, wanted): (&(&str, &str), &(&str, &str))| told.0 == wanted.0 && told.1.contains(wanted.1);
        ensure!(
            told.len() == wanted.len() && told.iter().zip(wanted).all(is),
            "of {name} it was told {told:#?}"
        );
    }
    let events = environment.events().await?;
    for (reason, revision) in canary.iter().chain(&stable[..1]) {
        let is = |(told, about): &(&str, &str)| told == reason && about.contains(revision);
        let count = events.iter().map(told).filter(is).count();
        ensure!(count == 1, "{reason} of {revision} was told {count} times: {events:#?}");
    }
    Ok(())
}

/// Its reason, and the part of its note that names the revision that it is about, and no other one.
fn told(event: &Event) -> (&str, &str) {
    let note = event.note.as_deref().unwrap_or_default();
    let about = note.split_once(';').map_or(note, |(about, _)| about);
    (event.reason.as_deref().unwrap_or_default(), about)
}
