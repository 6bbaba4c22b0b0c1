//! The custom resource `CanaryRollout`: its types, and how a spec becomes a plan of the core. Knows no cluster.

mod asked;
mod command;
mod condition;
mod hooks;
mod memory;
mod metrics;
mod notify;
mod parse;
mod rollout;
mod status;
mod told;
mod trial;
mod word;
mod wording;

pub use asked::HookStatus;
pub use command::{LONGEST_REASON, Order};
pub use condition::Condition;
pub use hooks::{HookCall, HookPointSpec, HookSpec, HookWay, HttpHookSpec, JobHookSpec, OnHookFailureSpec};
pub use memory::Memory;
pub use notify::{
    AlertmanagerSpec, Channel, EmailSpec, NotifyOn, NotifySpec, PagerDutySpec, Receiver, SlackSpec, WebhookSpec,
    parse_receivers,
};
pub use parse::{Layout, Parsed, parse, parse_duration};
pub use rollout::{
    AnalysisSpec, ApprovalSpec, ArgocdSpec, CanaryRollout, CanaryRolloutSpec, CanarySpec, CapacitySpec, FluxSpec,
    GitSpec, HelmSpec, JudgingSpec, KustomizeSpec, LatencySpec, MetricSpec, OnInconclusiveSpec, PlanSpec,
    RouteKindSpec, RouteSpec, SecretRef, ServiceSpec, SigningSpec, StableSpec, StepSpec, SuccessRateSpec, TestersSpec,
};
pub use status::{
    AnswerStatus, CanaryRolloutStatus, CommandStatus, EvidenceStatus, ForecastStatus, HistoryEntry, LatencyStatus,
    PercentilesStatus, PodStatus, RevisionStatus, SampleStatus, SamplesStatus, StepForecast, StreamsStatus, TickStatus,
    WeightStatus,
};
pub use told::{AnnouncementStatus, NotifyStatus, ThreadStatus};
pub use trial::trial_id;
pub use word::Word;
pub use wording::{WORDS, Wording};

/// The API group.
pub const GROUP: &str = "serin.dev";
/// Set on a pod template: the revision's name, as the config repository gave it.
pub const REVISION_ANNOTATION: &str = "serin.dev/revision";
/// Set on a rollout: an operator's command, as JSON `{"id", "verb", "by", "reason"}`; see [`Order`].
pub const COMMAND_ANNOTATION: &str = "serin.dev/command";
/// Set on an event: the trial that it is about; see [`trial_id`].
pub const TRIAL_ANNOTATION: &str = "serin.dev/trial";
/// Keeps a rollout until its traffic is back on stable.
pub const FINALIZER: &str = "serin.dev/traffic";
/// The field manager of everything that Serin writes.
pub const FIELD_MANAGER: &str = "serin";

/// For fields of a list's items: the API server would write their defaults into lists that stand in Git as a whole, and who
/// compares the two, as Argo CD does, would find them different for ever. What is absent means the same.
fn without_default(schema: &mut schemars::Schema) {
    schema.remove("default");
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;
    use serde_json::Value;

    use super::CanaryRollout;

    /// Where fields of lists' items have defaults.
    fn defaults(schema: &Value, path: &str, in_a_list: bool, found: &mut Vec<String>) {
        if in_a_list && schema.get("default").is_some() {
            found.push(path.to_owned());
        }
        if let Some(items) = schema.get("items") {
            defaults(items, &format!("{path}[]"), true, found);
        }
        for (name, field) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            defaults(field, &format!("{path}.{name}"), in_a_list, found);
        }
    }

    #[test]
    fn the_api_server_adds_nothing_to_what_stands_in_a_list() {
        let definition = serde_json::to_value(CanaryRollout::crd()).unwrap();
        let spec = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec");
        let mut found = Vec::new();
        defaults(spec.unwrap(), "spec", false, &mut found);
        assert!(found.is_empty(), "{found:?}");
        defaults(spec.unwrap(), "spec", true, &mut found);
        assert!(found.contains(&"spec.plan.steps".to_owned()), "the test would see one");
    }
}
