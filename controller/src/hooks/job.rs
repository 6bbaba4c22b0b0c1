//! A Job that is made once for an occasion, and whose end is the answer. It must not know when it is looked at again.
//!
//! # Guarantees
//! Its name comes from the occasion: making it twice makes one. It stands in the rollout's namespace, goes with the rollout, and says so
//! in its labels.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job as BatchJob;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::{Client, Resource as _};
use serde_json::{Value, json};

use super::{Question, Reply};
use crate::api::FIELD_MANAGER;

/// The longest wait for the API server.
const TIMEOUT: Duration = Duration::from_secs(5);
/// So long a Job that has ended can be looked at.
const KEPT_SECONDS: i64 = 86_400;
/// Set on Jobs: the rollout's name.
const ROLLOUT_LABEL: &str = "serin.dev/rollout";
/// Set on Jobs: the hook's name.
const HOOK_LABEL: &str = "serin.dev/hook";

/// One Job.
pub struct Job {
    client: Client,
    namespace: String,
    name: String,
    object: Value,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({}/{})", self.namespace, self.name)
    }
}

impl Job {
    /// The Job of an occasion, made from a template.
    pub fn new(
        client: Client,
        question: &Question,
        template: &Value,
        owner: &OwnerReference,
        (timeout, retries): (Duration, Option<u32>),
    ) -> Self {
        let name = name(question);
        Self {
            client,
            namespace: question.namespace.clone(),
            object: object(question, template, owner, (timeout, retries), &name),
            name,
        }
    }

    /// Makes it, unless it is there.
    ///
    /// # Errors
    /// What to answer instead.
    pub async fn create(&self) -> Result<(), Reply> {
        let object: DynamicObject =
            serde_json::from_value(self.object.clone()).map_err(|error| Reply::Failed(format!("the Job: {error}")))?;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        match tokio::time::timeout(TIMEOUT, self.api().create(&params, &object)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Reply::Failed(format!(
                "the Job {} was refused: {}; does `hooks.jobs` of Serin's chart allow Jobs?",
                self.name, status.message
            ))),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400 | 404 | 422) => Err(Reply::Failed(format!(
                "the Job {} was refused: {}",
                self.name, status.message
            ))),
            Ok(Err(error)) => Err(trouble(&format!("making the Job {}: {error}", self.name))),
            Err(_) => Err(trouble(&format!(
                "making the Job {}: no answer in {TIMEOUT:?}",
                self.name
            ))),
        }
    }

    /// How it is.
    pub async fn look(&self) -> Reply {
        match tokio::time::timeout(TIMEOUT, self.api().get_opt(&self.name)).await {
            Ok(Ok(Some(job))) if job.metadata.deletion_timestamp.is_some() => self.deleted(),
            Ok(Ok(Some(job))) => ended(&self.name, &job.data),
            Ok(Ok(None)) => self.deleted(),
            Ok(Err(error)) => trouble(&format!("reading the Job {}: {error}", self.name)),
            Err(_) => trouble(&format!("reading the Job {}: no answer in {TIMEOUT:?}", self.name)),
        }
    }

    fn deleted(&self) -> Reply {
        Reply::Failed(format!("the Job {} was deleted", self.name))
    }

    fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &ApiResource::erase::<BatchJob>(&()),
        )
    }
}

fn trouble(why: &str) -> Reply {
    Reply::Trouble {
        why: why.to_owned(),
        after: None,
    }
}

/// The rollout's name as far as there is room, and the id.
fn name(question: &Question) -> String {
    let id = question.id();
    let id = id.get(..12).unwrap_or(&id);
    let rollout: String = question.rollout.chars().take(40).collect();
    format!("{}-{id}", rollout.trim_end_matches(['-', '.']))
}

/// What the containers are told.
fn environment(question: &Question) -> Vec<(&'static str, String)> {
    let commit = question.commit.as_ref().map(|commit| commit.id.clone());
    vec![
        ("SERIN_HOOK", question.occasion.hook.clone()),
        ("SERIN_POINT", question.occasion.point.word().to_owned()),
        ("SERIN_ID", question.id()),
        ("SERIN_CLUSTER", question.cluster.clone()),
        ("SERIN_NAMESPACE", question.namespace.clone()),
        ("SERIN_ROLLOUT", question.rollout.clone()),
        ("SERIN_TRIAL", question.trial()),
        ("SERIN_REVISION", question.revision.name.clone()),
        ("SERIN_COMMIT", commit.unwrap_or_default()),
        (
            "SERIN_STEP",
            question.step().map_or_else(String::new, |step| step.to_string()),
        ),
        (
            "SERIN_WEIGHT",
            question.weight.map_or_else(String::new, |weight| weight.to_string()),
        ),
    ]
}

fn object(
    question: &Question,
    template: &Value,
    owner: &OwnerReference,
    (timeout, retries): (Duration, Option<u32>),
    name: &str,
) -> Value {
    let mut spec = template.get("spec").cloned().unwrap_or_default();
    let mut put = |key: &str, value: Value| {
        if let Some(spec) = spec.as_object_mut() {
            spec.entry(key.to_owned()).or_insert(value);
        }
    };
    put("ttlSecondsAfterFinished", json!(KEPT_SECONDS));
    put("backoffLimit", json!(retries.unwrap_or(0)));
    // Nobody waits for it any longer.
    put("activeDeadlineSeconds", json!(timeout.as_secs().max(1)));
    if let Some(pod) = spec.pointer_mut("/template/spec").and_then(Value::as_object_mut) {
        pod.entry("restartPolicy").or_insert(json!("Never"));
        for kind in ["initContainers", "containers"] {
            let containers = pod.get_mut(kind).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                tell(container, question);
            }
        }
    }
    let mut labels = template.pointer("/metadata/labels").cloned().unwrap_or(json!({}));
    if let Some(labels) = labels.as_object_mut() {
        let label = |text: &str| Value::String(text.chars().take(63).collect());
        labels.insert(ROLLOUT_LABEL.to_owned(), label(&question.rollout));
        labels.insert(HOOK_LABEL.to_owned(), label(&question.occasion.hook));
        labels.insert("app.kubernetes.io/managed-by".to_owned(), json!("serin"));
    }
    let annotations = template.pointer("/metadata/annotations").cloned().unwrap_or(json!({}));
    json!({
        "apiVersion": BatchJob::api_version(&()),
        "kind": BatchJob::kind(&()),
        "metadata": {
            "name": name,
            "namespace": question.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": spec,
    })
}

/// Ours come first, so that the template's own may refer to them as `$(SERIN_REVISION)`. The later one of two of a name would count:
/// the template's own of our names are left out.
fn tell(container: &mut Value, question: &Question) {
    let Some(container) = container.as_object_mut() else {
        return;
    };
    let own = container.remove("env").and_then(|env| env.as_array().cloned());
    let environment = environment(question);
    let is_ours = |entry: &Value| {
        let name = entry.get("name").and_then(Value::as_str);
        environment.iter().any(|(ours, _)| name == Some(*ours))
    };
    let own = own
        .into_iter()
        .flatten()
        .filter(|entry| !is_ours(entry))
        .collect::<Vec<_>>();
    let ours = environment
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }));
    container.insert("env".to_owned(), Value::Array(ours.chain(own).collect()));
}

/// What a Job's status says.
fn ended(name: &str, job: &Value) -> Reply {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
    let text = |condition: &Value, key: &str| {
        condition
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    for condition in conditions
        .into_iter()
        .flatten()
        .filter(|one| text(one, "status") == "True")
    {
        match text(condition, "type").as_str() {
            "Complete" => return Reply::Passed,
            "Failed" => {
                let (reason, message) = (text(condition, "reason"), text(condition, "message"));
                return Reply::Failed(format!("the Job {name} failed: {reason}: {message}"));
            }
            _ => {}
        }
    }
    Reply::Undecided {
        why: format!("the Job {name} runs"),
        after: None,
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
