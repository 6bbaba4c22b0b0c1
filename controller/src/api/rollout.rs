//! The spec of a `CanaryRollout`, with its validation in the schema. A minimal one is `service`, `stable`, `canary` and
//! `git`; every default is good enough for production.

#![allow(
    unreachable_pub,
    reason = "the derive of the schema repeats each type in a scope of its own"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hooks::HookSpec;
use super::notify::NotifySpec;
use super::status::CanaryRolloutStatus;

/// Rolls a new revision of a service out to a share of its traffic, judges it, and promotes it or reverts it in Git.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "serin.dev",
    version = "v1alpha1",
    kind = "CanaryRollout",
    plural = "canaryrollouts",
    shortname = "cro",
    namespaced,
    status = "CanaryRolloutStatus",
    category = "all",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Step","type":"string","jsonPath":".status.step"}"#,
    printcolumn = r#"{"name":"Weight","type":"integer","jsonPath":".status.weight.observed"}"#,
    printcolumn = r#"{"name":"Revision","type":"string","jsonPath":".status.revision.name"}"#,
    printcolumn = r#"{"name":"Verdict","type":"string","jsonPath":".status.verdict"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Stable","type":"string","jsonPath":".status.stable","priority":1}"#,
    printcolumn = r#"{"name":"Wanted","type":"integer","jsonPath":".status.weight.wanted","priority":1}"#,
    printcolumn = r#"{"name":"Commit","type":"string","jsonPath":".status.revision.commit","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct CanaryRolloutSpec {
    /// The apex Service: what clients call.
    pub service: ServiceSpec,
    /// The arm that carries the traffic at rest.
    pub stable: StableSpec,
    /// The arm on which new revisions are tried.
    pub canary: CanarySpec,
    /// The route whose weights Serin writes.
    #[serde(default)]
    pub route: RouteSpec,
    /// The steps and their limits.
    #[serde(default)]
    pub plan: PlanSpec,
    /// What the canary has to keep.
    #[serde(default)]
    pub analysis: AnalysisSpec,
    /// Where the config repository says what both arms run.
    pub git: GitSpec,
    /// The Argo CD Application that applies the config repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argocd: Option<ArgocdSpec>,
    /// The objects of Flux that apply the config repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flux: Option<Box<FluxSpec>>,
    /// Who is asked on the way, and told of its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub hooks: Vec<HookSpec>,
    /// Who is told what happens, beside the receivers of the controller's own configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub notify: Vec<NotifySpec>,
}

/// The apex Service.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name, in the rollout's namespace.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The port that clients call.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// The stable arm.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StableSpec {
    /// The Deployment's name, in the rollout's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub deployment: String,
}

/// The canary arm.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanarySpec {
    /// The Deployment's name, in the rollout's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub deployment: String,
    /// Replicas while nothing is judged.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub idle_replicas: i32,
    /// From weight 0 to scaling the canary down, so that calls in flight can end.
    #[serde(default = "defaults::drain")]
    #[x_kube(validation = ("duration(self) >= duration('0s')", "it must be a duration such as 30s"))]
    pub drain: String,
}

/// The route.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[x_kube(validation = ("!has(self.testers) || self.kind != 'TrafficSplit'", "a TrafficSplit cannot look at headers; choose another kind, or leave testers out"))]
#[x_kube(validation = ("!has(self.testers) || !has(self.adopt)", "an adopted route has its testers' rule in Git; leave testers out"))]
pub struct RouteSpec {
    /// The kind of route; GRPCRoute shows gRPC failures that an HTTPRoute hides.
    #[serde(default)]
    pub kind: RouteKindSpec,
    /// The name of a route that stands in Git. Only the weights of `<service>-stable` and `<service>-canary` are changed in it,
    /// in the rules that name both. When absent, Serin generates a route of the Service's name, and owns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub adopt: Option<String>,
    /// Calls with this header go to the canary while it exists, at weight 0 too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub testers: Option<Box<TestersSpec>>,
}

/// Kinds of routes.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RouteKindSpec {
    /// gateway.networking.k8s.io GRPCRoute.
    #[default]
    #[serde(rename = "GRPCRoute")]
    GrpcRoute,
    /// gateway.networking.k8s.io HTTPRoute.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    /// policy.linkerd.io HTTPRoute, for meshes without the Gateway API.
    #[serde(rename = "HTTPRoute.policy.linkerd.io")]
    PolicyHttpRoute,
    /// split.smi-spec.io TrafficSplit: the one that lives with a ServiceProfile.
    TrafficSplit,
}

/// A header that sends a call to the canary.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestersSpec {
    /// The header's name.
    #[schemars(length(min = 1, max = 256))]
    pub header: String,
    /// Its exact value.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// The steps and their limits.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanSpec {
    /// Weights rise from step to step; the last one is 100: all traffic bakes on the canary, stable still warm.
    #[serde(default = "defaults::steps")]
    #[schemars(length(min = 1, max = 50))]
    pub steps: Vec<StepSpec>,
    /// What a step does that cannot tell good from bad in its time.
    #[serde(default)]
    pub on_inconclusive: OnInconclusiveSpec,
    /// How many canary pods a weight needs.
    #[serde(default)]
    pub capacity: CapacitySpec,
    /// Canary requests in a step before it may advance unproven.
    #[serde(default = "defaults::min_requests")]
    #[schemars(range(min = 1))]
    pub min_requests: i64,
    /// The longest wait for canary pods; then the revision is rolled back.
    #[serde(default = "defaults::ten_minutes")]
    #[x_kube(validation = ("duration(self) > duration('0s')", "it must be a duration such as 10m"))]
    pub progress_deadline: String,
    /// The longest wait for stable to run the promoted revision; then the promotion is rolled back.
    #[serde(default = "defaults::ten_minutes")]
    #[x_kube(validation = ("duration(self) > duration('0s')", "it must be a duration such as 10m"))]
    pub promote_deadline: String,
    /// The longest time without a fresh scrape of the canary's pods; then its traffic is taken away, without a commit.
    #[serde(default = "defaults::five_minutes")]
    #[x_kube(validation = ("duration(self) > duration('0s')", "it must be a duration such as 5m"))]
    pub blind_deadline: String,
    /// A revision among so many that were promoted last (stable's own counts) goes straight to its promotion when it is
    /// committed again, without a canary; 0: never.
    #[serde(default = "defaults::fast_return")]
    #[schemars(range(min = 0, max = 10))]
    pub fast_return: i32,
}

/// One weight of the plan.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.atMost) || duration(self.atMost) >= duration(self.hold)", "atMost must be at least hold"))]
pub struct StepSpec {
    /// The canary's share in percent; 0 in the first step judges the calls of `route.testers` alone.
    #[schemars(range(min = 0, max = 100))]
    pub weight: i32,
    /// The least time at this weight.
    #[x_kube(validation = ("duration(self) >= duration('0s')", "it must be a duration such as 2m"))]
    pub hold: String,
    /// The most time at this weight; three times `hold` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = ("duration(self) > duration('0s')", "it must be a duration such as 30m"))]
    pub at_most: Option<String>,
    /// Whether a person must approve before the next step; `None` when absent.
    #[serde(default)]
    #[schemars(transform = super::without_default)]
    pub approval: ApprovalSpec,
    /// The step's own policy; the plan's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_inconclusive: Option<OnInconclusiveSpec>,
}

/// Whether a person must approve.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ApprovalSpec {
    /// The step goes on by itself.
    #[default]
    None,
    /// It waits for `serin approve`.
    Required,
}

/// What a step does that cannot tell good from bad in its time.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnInconclusiveSpec {
    /// Go on unproven when the canary had `minRequests` and nothing speaks against it; else pause.
    #[default]
    Advance,
    /// Wait for a person.
    Pause,
    /// Treat it as a failure.
    RollBack,
}

/// How many canary pods a weight needs.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CapacitySpec {
    /// The weight's share of stable's replicas, rounded up.
    #[default]
    Proportional,
    /// As many as stable.
    Full,
    /// Somebody else scales the canary.
    External,
}

/// What the canary has to keep.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisSpec {
    /// The length of a tick: at least two scrapes of Prometheus.
    #[serde(default = "defaults::interval")]
    #[x_kube(validation = ("duration(self) >= duration('1s')", "it must be a duration of at least 1s, such as 20s"))]
    pub interval: String,
    /// How often Prometheus scrapes the proxies.
    #[serde(default = "defaults::scrape_interval")]
    #[x_kube(validation = ("duration(self) >= duration('1s')", "it must be a duration of at least 1s, such as 10s"))]
    pub scrape_interval: String,
    /// How long the canary's first calls are not judged.
    #[serde(default = "defaults::zero")]
    #[x_kube(validation = ("duration(self) >= duration('0s')", "it must be a duration such as 30s"))]
    pub warm_up: String,
    /// How far back stable is looked at before a trial: for its bursts of failures and its usual latency.
    #[serde(default = "defaults::four_hours")]
    #[x_kube(validation = ("duration(self) >= duration('0s')", "it must be a duration such as 4h"))]
    pub baseline: String,
    /// The bound on rolling a good revision back, over one start, by all judged metrics of counts together. Single values
    /// of your own (`metrics[].query`) lie outside of it.
    #[serde(default = "defaults::one_percent")]
    #[schemars(regex(pattern = r"^\d{1,3}(\.\d+)?%$"))]
    pub false_rollbacks: String,
    /// The success rate, against an objective and against stable.
    #[serde(default)]
    pub success_rate: SuccessRateSpec,
    /// Latency objectives; none: latency is not judged.
    #[serde(default = "defaults::latency")]
    #[schemars(length(max = 3))]
    pub latency: Vec<LatencySpec>,
    /// Latency against stable's, at up to three bounds that stable itself keeps for 75, 95 and 99 % of its calls.
    #[serde(default)]
    pub latency_against_stable: JudgingSpec,
    /// Success as the clients' proxies see it: with calls that never reached a pod, and of meshed clients only. A second
    /// opinion, against stable's with the margins of `successRate`. Judge it only where most calls come from meshed clients.
    #[serde(default = "defaults::dry_run")]
    pub outbound: JudgingSpec,
    /// Metrics of your own: pairs of counters, or single values with limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub metrics: Vec<MetricSpec>,
}

/// Whether something has a say.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum JudgingSpec {
    /// It can fail the canary.
    #[default]
    Judged,
    /// It is reported only.
    DryRun,
    /// It is not looked at.
    Off,
}

/// The success rate.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRateSpec {
    /// The least share of calls that must succeed.
    #[serde(default = "defaults::objective")]
    #[schemars(regex(pattern = r"^\d{1,3}(\.\d+)?%$"))]
    pub objective: String,
    /// How much worse than stable a canary may be before that can fail it.
    #[serde(default = "defaults::tolerance")]
    #[schemars(regex(pattern = r"^\d{1,3}(\.\d+)?%$"))]
    pub tolerance: String,
    /// How much worse than stable a canary must be proven not to be before a step passes.
    #[serde(default = "defaults::pass_tolerance")]
    #[schemars(regex(pattern = r"^\d{1,3}(\.\d+)?%$"))]
    pub pass_tolerance: String,
    /// gRPC codes that are failures besides those that Linkerd takes for failures (UNKNOWN, DEADLINE_EXCEEDED,
    /// PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS), by name or number. When absent: UNIMPLEMENTED and
    /// RESOURCE_EXHAUSTED, each unless stable answered with it before the trial. Frozen when a trial starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub failure_codes: Option<Vec<String>>,
    /// Reported in status, and not judged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A latency objective.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencySpec {
    /// The least share of calls that must be answered in time, such as `99%` for a p99.
    #[schemars(regex(pattern = r"^\d{1,3}(\.\d+)?%$"))]
    pub share: String,
    /// The time: one of Linkerd's histogram bounds, such as `500ms`.
    #[x_kube(validation = ("duration(self) > duration('0s')", "it must be a duration such as 500ms"))]
    pub within: String,
    /// Reported in status, and not judged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A metric of your own: `bad` and `total`, or `query` with limits. In queries `{{namespace}}`, `{{service}}`, `{{stable}}`,
/// `{{canary}}`, `{{deployment}}`, `{{pods}}`, `{{backend}}`, `{{revision}}` and `{{interval}}` stand for what they say;
/// `deployment`, `pods`, `backend` (the Service) and `revision` are those of the arm that is asked about.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricSpec {
    /// Its name in status and events.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The counter of what is bad: a selector, `sum(selector)`, or several added up. Goes through the same test as the success
    /// rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub bad: Option<String>,
    /// The counter of all, good and bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub total: Option<String>,
    /// With `bad` and `total`: the least share that must be good. None: only stable is the measure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\d{1,3}(\.\d+)?%$"))]
    pub objective: Option<String>,
    /// With `bad` and `total`: how much worse than stable a canary may be before that can fail it; 0.2% when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\d{1,3}(\.\d+)?%$"))]
    pub tolerance: Option<String>,
    /// With `bad` and `total`: how much worse than stable it must be proven not to be before a step passes; 0.5% when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\d{1,3}(\.\d+)?%$"))]
    pub pass_tolerance: Option<String>,
    /// A query of one number, looked at at the end of each tick. Weaker than counters: `falseRollbacks` does not bound it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub query: Option<String>,
    /// With `query`: the least that is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// With `query`: the most that is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// With `query`: ticks in a row outside of the limits that fail the canary; 3 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub breaches: Option<i32>,
    /// Reported in status, and not judged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The config repository.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.helm) || !has(self.kustomize)", "the arms stand in a Helm values file or in files of Kustomize; give helm or kustomize"))]
pub struct GitSpec {
    /// Its address, as `git clone` takes it, without credentials.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = ("!self.matches('^[a-z+]+://[^/@]*:[^/@]*@')", "credentials belong into secretRef, not into the address"))]
    pub repository: String,
    /// The branch that Argo CD follows.
    #[serde(default = "defaults::branch")]
    #[schemars(length(min = 1, max = 255))]
    pub branch: String,
    /// The environment's folder, relative to the repository's root.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = ("!self.startsWith('/') && !self.contains('..')", "it must be a folder inside of the repository"))]
    pub path: String,
    /// A Secret in the rollout's namespace: `username` and `password` (a token), or `identity` and `known_hosts` (SSH; also
    /// as `sshPrivateKey` and `knownHosts`); `ca.crt`, the authority of an https host with a private certificate; and `apiToken`, which
    /// opens pull requests where the credentials that push cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The author of commits, as in `Serin <serin@example.com>`; the controller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[^<>]+ <[^<> ]+>$')", "write it as: Name <mail@host>"))]
    pub author: Option<String>,
    /// The committer, if it is not the author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = ("self.matches('^[^<>]+ <[^<> ]+>$')", "write it as: Name <mail@host>"))]
    pub committer: Option<String>,
    /// What commits are signed with; unsigned when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningSpec>,
    /// Where the arms' subtrees stand in a Helm values file; this is so when neither `helm` nor `kustomize` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helm: Option<HelmSpec>,
    /// In which files of Kustomize the arms stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kustomize: Option<Box<KustomizeSpec>>,
}

/// A Secret's name.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// In the rollout's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What commits are signed with.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningSpec {
    /// A Secret in the rollout's namespace: `identity` (an SSH key without a passphrase), or `git.asc` (an armoured OpenPGP
    /// secret key) and, if it has one, its `passphrase`.
    pub secret_ref: SecretRef,
}

/// Where the arms' subtrees stand.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelmSpec {
    /// The values file, relative to `path`.
    #[serde(default = "defaults::values_file")]
    #[schemars(length(min = 1, max = 1024))]
    pub file: String,
    /// The dotted key of stable's subtree.
    #[serde(default = "defaults::stable_key")]
    #[schemars(length(min = 1, max = 253))]
    pub stable: String,
    /// The dotted key of the canary's subtree.
    #[serde(default = "defaults::canary_key")]
    #[schemars(length(min = 1, max = 253))]
    pub canary: String,
}

/// A file for each arm: its overlay's kustomization, or a strategic-merge patch of its Deployment. Both are of the same kind.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = ("self.stable != self.canary", "each arm needs a file of its own"))]
pub struct KustomizeSpec {
    /// Stable's file, relative to `path`.
    #[serde(default = "defaults::stable_kustomization")]
    #[schemars(length(min = 1, max = 1024))]
    pub stable: String,
    /// The canary's file, relative to `path`.
    #[serde(default = "defaults::canary_kustomization")]
    #[schemars(length(min = 1, max = 1024))]
    pub canary: String,
    /// The `name` in `images`, or the container, that names a revision; needed where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
}

/// The Argo CD Application.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgocdSpec {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub application: String,
    /// Its namespace.
    #[serde(default = "defaults::argocd_namespace")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
}

/// The objects of Flux.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.kustomization) || has(self.gitRepository)", "name the Kustomization that applies the rollout, or the GitRepository that it comes from"))]
pub struct FluxSpec {
    /// The Kustomization that applies the rollout; its source is told to fetch as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub kustomization: Option<String>,
    /// The GitRepository, where the Kustomization does not name it, or where a HelmRelease applies the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub git_repository: Option<String>,
    /// Their namespace.
    #[serde(default = "defaults::flux_namespace")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
}

impl Default for PlanSpec {
    fn default() -> Self {
        Self {
            steps: defaults::steps(),
            on_inconclusive: OnInconclusiveSpec::default(),
            capacity: CapacitySpec::default(),
            min_requests: defaults::min_requests(),
            progress_deadline: defaults::ten_minutes(),
            promote_deadline: defaults::ten_minutes(),
            blind_deadline: defaults::five_minutes(),
            fast_return: defaults::fast_return(),
        }
    }
}

impl Default for AnalysisSpec {
    fn default() -> Self {
        Self {
            interval: defaults::interval(),
            scrape_interval: defaults::scrape_interval(),
            warm_up: defaults::zero(),
            baseline: defaults::four_hours(),
            false_rollbacks: defaults::one_percent(),
            success_rate: SuccessRateSpec::default(),
            latency: defaults::latency(),
            latency_against_stable: JudgingSpec::default(),
            outbound: defaults::dry_run(),
            metrics: Vec::new(),
        }
    }
}

impl Default for SuccessRateSpec {
    fn default() -> Self {
        Self {
            objective: defaults::objective(),
            tolerance: defaults::tolerance(),
            pass_tolerance: defaults::pass_tolerance(),
            failure_codes: None,
            dry_run: false,
        }
    }
}

impl Default for HelmSpec {
    fn default() -> Self {
        Self {
            file: defaults::values_file(),
            stable: defaults::stable_key(),
            canary: defaults::canary_key(),
        }
    }
}

mod defaults {
    use super::{ApprovalSpec, JudgingSpec, LatencySpec, StepSpec};

    pub(super) fn dry_run() -> JudgingSpec {
        JudgingSpec::DryRun
    }

    pub(super) fn zero() -> String {
        "0s".to_owned()
    }

    pub(super) fn four_hours() -> String {
        "4h".to_owned()
    }

    pub(super) fn one_percent() -> String {
        "1%".to_owned()
    }

    pub(super) fn objective() -> String {
        "99%".to_owned()
    }

    pub(super) fn tolerance() -> String {
        "0.2%".to_owned()
    }

    pub(super) fn pass_tolerance() -> String {
        "0.5%".to_owned()
    }

    pub(super) fn drain() -> String {
        "30s".to_owned()
    }

    pub(super) fn steps() -> Vec<StepSpec> {
        let step = |weight, hold: &str| StepSpec {
            weight,
            hold: hold.to_owned(),
            at_most: None,
            approval: ApprovalSpec::None,
            on_inconclusive: None,
        };
        vec![step(5, "2m"), step(25, "2m"), step(50, "5m"), step(100, "10m")]
    }

    pub(super) fn min_requests() -> i64 {
        100
    }

    pub(super) fn ten_minutes() -> String {
        "10m".to_owned()
    }

    pub(super) fn five_minutes() -> String {
        "5m".to_owned()
    }

    pub(super) fn interval() -> String {
        "20s".to_owned()
    }

    pub(super) fn scrape_interval() -> String {
        "10s".to_owned()
    }

    pub(super) fn latency() -> Vec<LatencySpec> {
        vec![LatencySpec {
            share: "99%".to_owned(),
            within: "500ms".to_owned(),
            dry_run: false,
        }]
    }

    pub(super) fn branch() -> String {
        "main".to_owned()
    }

    pub(super) fn values_file() -> String {
        "values.yaml".to_owned()
    }

    pub(super) fn fast_return() -> i32 {
        3
    }

    pub(super) fn stable_key() -> String {
        "stable".to_owned()
    }

    pub(super) fn canary_key() -> String {
        "canary".to_owned()
    }

    pub(super) fn stable_kustomization() -> String {
        "stable/kustomization.yaml".to_owned()
    }

    pub(super) fn canary_kustomization() -> String {
        "canary/kustomization.yaml".to_owned()
    }

    pub(super) fn flux_namespace() -> String {
        "flux-system".to_owned()
    }

    pub(super) fn argocd_namespace() -> String {
        "argocd".to_owned()
    }
}
