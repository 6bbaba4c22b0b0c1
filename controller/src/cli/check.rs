//! `serin check`: reads what a preflight looks at, and prints its lines. What is right is decided in `linkerd::preflight`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::api::{CanaryRollout, CapacitySpec, RouteKindSpec, parse_duration};
use crate::linkerd::preflight::{self, Facts, Line, Proxy, Read, Route, Sight, Status};
use crate::linkerd::promql::{self, Arm};
use crate::runtime::{client, clock};
use crate::traffic::{Kind, Traffic, canary_service, stable_service};

/// The longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How far back calls of unmeshed clients are looked for.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the rollout of this name.
    rollout: Option<String>,
    /// The namespace; the kubeconfig's own when absent.
    #[arg(long, short)]
    namespace: Option<String>,
    /// Where Linkerd's metrics are.
    #[arg(
        long,
        env = "SERIN_PROMETHEUS_URL",
        default_value = "http://prometheus.linkerd-viz.svc.cluster.local:9090"
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

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = client::connect().await?;
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let api: Api<CanaryRollout> = Api::namespaced(client.clone(), &namespace);
    let rollouts = match &args.rollout {
        Some(name) => vec![
            api.get(name)
                .await
                .with_context(|| format!("reading the rollout {namespace}/{name}"))?,
        ],
        None => {
            let doing = || format!("listing the rollouts of {namespace}");
            api.list(&ListParams::default()).await.with_context(doing)?.items
        }
    };
    if rollouts.is_empty() {
        bail!("there is no rollout in namespace {namespace}; name another one with -n");
    }
    let mut failed = 0;
    let mut documents = Vec::new();
    for rollout in &rollouts {
        let lines = preflight::check(&facts(&client, rollout, &namespace, &args.prometheus_url).await);
        failed += lines.iter().filter(|line| line.status == Status::Fail).count();
        match args.output {
            Output::Table => print!("{namespace}/{}\n\n{}\n", rollout.name_any(), preflight::table(&lines)),
            Output::Json => documents.push(document(&namespace, &rollout.name_any(), &lines)),
        }
    }
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&documents)?);
    }
    if failed > 0 {
        bail!("{failed} checks failed; each × line says what to do");
    }
    Ok(())
}

fn document(namespace: &str, rollout: &str, lines: &[Line]) -> Value {
    json!({ "namespace": namespace, "rollout": rollout, "lines": lines })
}

async fn facts(client: &Client, rollout: &CanaryRollout, namespace: &str, prometheus: &str) -> Facts {
    let spec = &rollout.spec;
    let kind = match spec.route.kind {
        RouteKindSpec::GrpcRoute => Kind::GrpcRoute,
        RouteKindSpec::HttpRoute => Kind::HttpRoute,
        RouteKindSpec::PolicyHttpRoute => Kind::PolicyHttpRoute,
        RouteKindSpec::TrafficSplit => Kind::TrafficSplit,
    };
    let within = Some(namespace);
    let read = |group, version, kind, plural| objects(client, resource((group, version, kind, plural)), within);
    let (services, pods, quotas) = tokio::join!(
        read("", "v1", "Service", "services"),
        read("", "v1", "Pod", "pods"),
        read("", "v1", "ResourceQuota", "resourcequotas"),
    );
    let (deployments, autoscalers, budgets) = tokio::join!(
        read("apps", "v1", "Deployment", "deployments"),
        read(
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers"
        ),
        read("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    );
    let (routes, versions) = routes(client, kind, namespace).await;
    let application = match &spec.argocd {
        None => None,
        Some(of) => {
            let kind = resource(("argoproj.io", "v1alpha1", "Application", "applications"));
            Some(
                object(
                    Api::namespaced_with(client.clone(), &of.namespace, &kind),
                    &of.application,
                    &kind,
                )
                .await,
            )
        }
    };
    let scrape = parse_duration(&spec.analysis.scrape_interval).map_or(10.0, |d| d.as_secs_f64());
    let of_namespace = resource(("", "v1", "Namespace", "namespaces"));
    Facts {
        namespace: namespace.to_owned(),
        apex: spec.service.name.clone(),
        port: u16::try_from(spec.service.port).unwrap_or_default(),
        stable: spec.stable.deployment.clone(),
        canary: spec.canary.deployment.clone(),
        stable_service: stable_service(&spec.service.name),
        canary_service: canary_service(&spec.service.name),
        external_capacity: spec.plan.capacity == CapacitySpec::External,
        scrape_seconds: scrape,
        route: Route {
            kind: kind.name().to_owned(),
            group: kind.group().to_owned(),
            name: spec.route.adopt.as_ref().unwrap_or(&spec.service.name).clone(),
            adopted: spec.route.adopt.is_some(),
        },
        versions,
        namespace_object: object(Api::all_with(client.clone(), &of_namespace), namespace, &of_namespace).await,
        services,
        deployments,
        pods,
        profiles: profiles(client, namespace).await,
        routes,
        autoscalers,
        budgets,
        quotas,
        application,
        sight: sight(prometheus, namespace, &spec.stable.deployment, &spec.canary.deployment).await,
    }
}

fn resource((group, version, kind, plural): (&str, &str, &str, &str)) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// A client may look a profile up in its own namespace, so all are read; where only this one may be, this one's are.
async fn profiles(client: &Client, namespace: &str) -> Read<Vec<Value>> {
    let kind = || resource(("linkerd.io", "v1alpha2", "ServiceProfile", "serviceprofiles"));
    match objects(client, kind(), None).await {
        Ok(all) => Ok(all),
        Err(_) => objects(client, kind(), Some(namespace)).await,
    }
}

/// The routes of all kinds that are served, and the version of the rollout's kind.
async fn routes(client: &Client, wanted: Kind, namespace: &str) -> (Read<Vec<Value>>, Read<Vec<String>>) {
    let traffic = Traffic::new(client.clone());
    let (mut all, mut versions) = (Ok(Vec::new()), Ok(Vec::new()));
    for kind in Kind::ALL {
        let served = traffic.served(kind).await.map_err(|error| error.to_string());
        if kind == wanted {
            versions = served.clone().map(|r| r.into_iter().map(|r| r.api_version).collect());
        }
        let found = match served {
            Ok(Some(resource)) => objects(client, resource, Some(namespace)).await,
            Ok(None) => Ok(Vec::new()),
            Err(why) => Err(why),
        };
        all = all.and_then(|mut all: Vec<Value>| {
            all.extend(found?);
            Ok(all)
        });
    }
    (all, versions)
}

/// All objects of a kind; a kind that is not served has none.
async fn objects(client: &Client, resource: ApiResource, namespace: Option<&str>) -> Read<Vec<Value>> {
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    match tokio::time::timeout(TIMEOUT, api.list(&ListParams::default())).await {
        Ok(Ok(list)) => Ok(list.items.iter().map(|object| value(object, &resource)).collect()),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(Vec::new()),
        Ok(Err(error)) => Err(format!("listing {}: {error}", resource.plural)),
        Err(_) => Err(format!("listing {}: no answer in {TIMEOUT:?}", resource.plural)),
    }
}

async fn object(api: Api<DynamicObject>, name: &str, resource: &ApiResource) -> Read<Value> {
    let doing = || format!("reading the {} {name}", resource.kind);
    match tokio::time::timeout(TIMEOUT, api.get(name)).await {
        Ok(Ok(object)) => Ok(value(&object, resource)),
        Ok(Err(error)) => Err(format!("{}: {error}", doing())),
        Err(_) => Err(format!("{}: no answer in {TIMEOUT:?}", doing())),
    }
}

/// In a list, objects do not say what they are.
fn value(object: &DynamicObject, resource: &ApiResource) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".to_owned(), json!(resource.api_version));
        map.insert("kind".to_owned(), json!(resource.kind));
    }
    value
}

async fn sight(url: &str, namespace: &str, stable: &str, canary: &str) -> Read<Sight> {
    let arms = [stable, canary];
    let here = clock::now().as_duration().as_secs_f64();
    let there = number(&ask(url, "time()").await?).unwrap_or(here);
    let proxies = ask(url, &promql::last_scrapes(namespace, &arms)).await?;
    let calls = ask(url, &promql::any_inbound(namespace, &arms)).await?;
    let arm = Arm {
        namespace,
        deployment: stable,
        pod_template_hashes: &[],
    };
    let unmeshed = ask(url, &promql::unmeshed_share(arm, WINDOW)).await?;
    let series = |answer: &Value| answer.as_array().cloned().unwrap_or_default();
    let proxies = series(&proxies).into_iter().filter_map(|of| {
        Some(Proxy {
            pod: of.pointer("/metric/pod")?.as_str()?.to_owned(),
            scraped: number(of.get("value")?)?,
        })
    });
    let labels = series(&calls)
        .first()
        .and_then(|of| of.get("metric")?.as_object())
        .map(|labels| labels.keys().cloned().collect::<BTreeSet<_>>());
    Ok(Sight {
        here,
        there,
        proxies: proxies.collect(),
        labels: labels.unwrap_or_default(),
        unmeshed: series(&unmeshed).first().and_then(|of| number(of.get("value")?)),
    })
}

/// The number of a `[time, "number"]`, unless it is none.
fn number(sample: &Value) -> Option<f64> {
    let number: f64 = sample.get(1)?.as_str()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// The result of an instant query.
async fn ask(url: &str, query: &str) -> Read<Value> {
    let http = reqwest::Client::builder().timeout(TIMEOUT).build();
    let http = http.map_err(|error| format!("making an HTTP client: {error}"))?;
    let address = format!("{}/api/v1/query", url.trim_end_matches('/'));
    let doing = |error: reqwest::Error| format!("asking Prometheus at {url}: {}", error.without_url());
    let answer = http
        .get(address)
        .query(&[("query", query)])
        .send()
        .await
        .map_err(doing)?;
    let answer: Value = answer.json().await.map_err(doing)?;
    match answer.pointer("/data/result") {
        Some(result) => Ok(result.clone()),
        None => Err(format!(
            "Prometheus at {url} refused a query: {}",
            answer
                .get("error")
                .and_then(Value::as_str)
                .unwrap_or("what answered is no Prometheus")
        )),
    }
}
