//! Who is asked on the way of a rollout: `spec.hooks`. Knows no network and no cluster.

#![allow(
    unreachable_pub,
    reason = "the derive of the schema repeats each type in a scope of its own"
)]

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_core::rollout::{FieldError, Hook, HookPoint, OnHookFailure};

use super::parse::parse_duration;
use super::rollout::SecretRef;

/// A Job's template may be as large as this, as JSON.
const LARGEST_TEMPLATE: usize = 16 * 1024;

/// One hook: exactly one of `http` and `job`.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.http) != has(self.job)", "give exactly one of http and job"))]
pub struct HookSpec {
    /// Its name in status, events, logs and in what it is sent.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// When it is asked.
    #[schemars(length(min = 1, max = 6))]
    pub at: Vec<HookPointSpec>,
    /// A signed POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHookSpec>,
    /// A Job in the rollout's namespace, where the controller's configuration allows Jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobHookSpec>,
    /// The longest wait for its answer, up to 24h: no gate waits for ever. 10m when absent.
    #[serde(default = "ten_minutes")]
    #[schemars(transform = super::without_default)]
    #[x_kube(validation = ("duration(self) > duration('0s') && duration(self) <= duration('24h')", "it must be a duration such as 10m, and at most 24h"))]
    pub timeout: String,
    /// `http`: how often it is asked again after an error that may pass (no connection, 429, 5xx); until the timeout when absent.
    /// `job`: its `backoffLimit`, unless the template has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub retries: Option<i32>,
    /// What happens when the answer is no, or does not come in time; `RollBack` when absent. Nothing at `AfterPromotion` and
    /// `OnRollback`.
    #[serde(default)]
    #[schemars(transform = super::without_default)]
    pub on_failure: OnHookFailureSpec,
}

/// When a hook is asked.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookPointSpec {
    /// The canary's pods are ready; it gets no traffic before the answer.
    BeforeRollout,
    /// Each step, when it has its weight: it does not pass before the answer, and is judged meanwhile.
    Step,
    /// Before each rise of the weight, the first one too.
    BeforeTrafficIncrease,
    /// The last step would pass; the promotion does not begin before the answer.
    BeforePromotion,
    /// The revision runs as stable. Nothing waits for the answer.
    AfterPromotion,
    /// The revision is rolled back and its traffic is gone. Nothing waits for the answer.
    OnRollback,
}

/// What a gate does when the answer is no, or does not come in time.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnHookFailureSpec {
    /// The revision is rolled back.
    #[default]
    RollBack,
    /// The weight is held for a person: `serin resume` has it asked again, `serin promote` goes past it.
    Pause,
    /// An event says so, and the rollout goes on.
    Continue,
}

/// A signed POST: 2xx passes, 202 and 425 are asked again until the timeout, 429 and 5xx too (see `retries`), anything else fails.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpHookSpec {
    /// Its address; `webhookUrl` of the Secret when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^@]+$"))]
    pub url: Option<String>,
    /// A Secret in the rollout's namespace: `webhookKey`, what each request is signed with, of at least 16 bytes; and `webhookUrl`.
    pub secret_ref: SecretRef,
}

/// A Job.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobHookSpec {
    /// `spec` as a Job has it, and `metadata` with labels and annotations. Its containers get `SERIN_REVISION` and others in their
    /// environment.
    #[schemars(schema_with = "any_object")]
    pub template: Value,
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn ten_minutes() -> String {
    "10m".to_owned()
}

/// How a hook is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct HookCall {
    /// The hook's name.
    pub name: String,
    /// How often it is asked again.
    pub retries: Option<u32>,
    /// In which way.
    pub way: HookWay,
}

/// In which way a hook is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum HookWay {
    /// By a signed POST.
    Http(HttpHookSpec),
    /// By a Job of this template.
    Job(Value),
}

/// Parses hooks: for the plan, and for who asks them. Names, points and timeouts are the plan's to check.
///
/// # Errors
/// Every field that makes no sense by itself.
pub(super) fn parse_hooks(specs: &[HookSpec]) -> Result<(Vec<Hook>, Vec<HookCall>), Vec<FieldError>> {
    let (mut hooks, mut calls, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (i, spec) in specs.iter().enumerate() {
        let at = |name: &str| format!("spec.hooks[{i}]{name}");
        let timeout = parse_duration(&spec.timeout).unwrap_or_else(|problem| {
            errors.push(FieldError::new(at(".timeout"), problem));
            jiff::SignedDuration::from_secs(1)
        });
        hooks.push(Hook {
            name: spec.name.clone(),
            at: spec.at.iter().copied().map(Into::into).collect(),
            timeout,
            on_failure: spec.on_failure.into(),
        });
        let way = match (&spec.http, &spec.job) {
            (Some(http), None) => HookWay::Http(http.clone()),
            (None, Some(job)) => {
                if let Err(problem) = check_template(&job.template) {
                    errors.push(FieldError::new(at(".job.template"), problem));
                }
                HookWay::Job(job.template.clone())
            }
            _ => {
                errors.push(FieldError::new(at(""), "give exactly one of http and job"));
                continue;
            }
        };
        calls.push(HookCall {
            name: spec.name.clone(),
            retries: spec.retries.and_then(|retries| u32::try_from(retries).ok()),
            way,
        });
    }
    if errors.is_empty() {
        Ok((hooks, calls))
    } else {
        Err(errors)
    }
}

fn check_template(template: &Value) -> Result<(), String> {
    let containers = template.pointer("/spec/template/spec/containers");
    if containers.and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err("it has no spec.template.spec.containers; write it as a Job's, with metadata and spec".to_owned());
    }
    let size = template.to_string().len();
    if size > LARGEST_TEMPLATE {
        return Err(format!(
            "it has {size} bytes, and {LARGEST_TEMPLATE} is the most; put files into a ConfigMap"
        ));
    }
    Ok(())
}

impl From<HookPointSpec> for HookPoint {
    fn from(spec: HookPointSpec) -> Self {
        match spec {
            HookPointSpec::BeforeRollout => Self::BeforeRollout,
            HookPointSpec::Step => Self::Step,
            HookPointSpec::BeforeTrafficIncrease => Self::BeforeTrafficIncrease,
            HookPointSpec::BeforePromotion => Self::BeforePromotion,
            HookPointSpec::AfterPromotion => Self::AfterPromotion,
            HookPointSpec::OnRollback => Self::OnRollback,
        }
    }
}

impl From<OnHookFailureSpec> for OnHookFailure {
    fn from(spec: OnHookFailureSpec) -> Self {
        match spec {
            OnHookFailureSpec::RollBack => Self::RollBack,
            OnHookFailureSpec::Pause => Self::Pause,
            OnHookFailureSpec::Continue => Self::Continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(yaml: &str) -> Result<(Vec<Hook>, Vec<HookCall>), Vec<String>> {
        let specs: Vec<HookSpec> = serde_saphyr::from_str(yaml).unwrap();
        parse_hooks(&specs).map_err(|errors| errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn a_hook_is_a_post_or_a_job_and_has_a_time_and_an_outcome() {
        let (hooks, calls) = parsed(
            "[{name: smoke, at: [BeforeRollout, Step], onFailure: Pause, job: {template: {spec: {template: {spec: {containers: [{name: a}]}}}}}}, {name: window, at: [BeforePromotion], timeout: 1h, retries: 3, http: {url: 'https://a.example.com', secretRef: {name: s}}}]",
        )
        .unwrap();
        assert_eq!(hooks[0].timeout, jiff::SignedDuration::from_mins(10));
        assert_eq!(hooks[0].at, [HookPoint::BeforeRollout, HookPoint::Step]);
        assert_eq!(
            (hooks[0].on_failure, hooks[1].on_failure),
            (OnHookFailure::Pause, OnHookFailure::RollBack)
        );
        assert!(matches!(calls[0].way, HookWay::Job(_)));
        assert_eq!(calls[1].retries, Some(3));
        let none = "[{name: a, at: [Step]}]";
        assert_eq!(parsed(none).unwrap_err(), ["spec.hooks[0]"]);
        let both = "[{name: a, at: [Step], http: {secretRef: {name: s}}, job: {template: {spec: {template: {spec: {containers: [{}]}}}}}}]";
        assert_eq!(parsed(both).unwrap_err(), ["spec.hooks[0]"]);
        let bare = "[{name: a, at: [Step], timeout: soon, job: {template: {spec: {}}}}]";
        assert_eq!(
            parsed(bare).unwrap_err(),
            ["spec.hooks[0].timeout", "spec.hooks[0].job.template"]
        );
    }

    #[test]
    fn points_have_the_names_that_are_sent() {
        for (spec, point) in [
            HookPointSpec::BeforeRollout,
            HookPointSpec::Step,
            HookPointSpec::BeforeTrafficIncrease,
            HookPointSpec::BeforePromotion,
            HookPointSpec::AfterPromotion,
            HookPointSpec::OnRollback,
        ]
        .into_iter()
        .zip(HookPoint::ALL)
        {
            assert_eq!(serde_json::to_value(spec).unwrap(), point.word());
            assert_eq!(HookPoint::from(spec), point);
        }
    }
}
