//! Who is told of a rollout: the receivers of `spec.notify`, which the controller's own configuration has in the same form. Knows no
//! network.

#![allow(
    unreachable_pub,
    reason = "the derive of the schema repeats each type in a scope of its own"
)]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serin_core::rollout::FieldError;

use super::rollout::SecretRef;
use super::wording::Wording;

/// One receiver: exactly one of `slack`, `pagerDuty`, `alertmanager`, `email` and `webhook`.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.slack), has(self.pagerDuty), has(self.alertmanager), has(self.email), has(self.webhook)].filter(given, given).size() == 1", "give exactly one of slack, pagerDuty, alertmanager, email and webhook"))]
pub struct NotifySpec {
    /// Its name in status, events and logs.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What it is told; what suits its kind when absent.
    // Not `on`: YAML 1.1, and with it kubectl, reads that as `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 12))]
    pub events: Option<Vec<NotifyOn>>,
    /// The text, with `{{variables}}`; a sentence or two when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub template: Option<String>,
    /// A channel of Slack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackSpec>,
    /// A service of PagerDuty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pager_duty: Option<PagerDutySpec>,
    /// Replicas of one Alertmanager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<AlertmanagerSpec>,
    /// Addresses of people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailSpec>,
    /// Anything that takes JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
}

/// What happens to a rollout.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotifyOn {
    /// A revision is on trial.
    Started,
    /// A step was entered.
    Step,
    /// The rollout waits: for a person, or for sight.
    Paused,
    /// It goes on.
    Resumed,
    /// The last step passed.
    Promoting,
    /// The revision runs as stable.
    Promoted,
    /// The canary's traffic is taken away.
    RollingBack,
    /// The revision is out of Git and of the cluster.
    RolledBack,
    /// People took the revision back themselves.
    Withdrawn,
    /// Another revision took its place.
    Superseded,
    /// A condition that wants a person began, or is over.
    Problem,
}

impl NotifyOn {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Started,
        Self::Step,
        Self::Paused,
        Self::Resumed,
        Self::Promoting,
        Self::Promoted,
        Self::RollingBack,
        Self::RolledBack,
        Self::Withdrawn,
        Self::Superseded,
        Self::Problem,
    ];

    /// Its name, as it stands in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Step => "Step",
            Self::Paused => "Paused",
            Self::Resumed => "Resumed",
            Self::Promoting => "Promoting",
            Self::Promoted => "Promoted",
            Self::RollingBack => "RollingBack",
            Self::RolledBack => "RolledBack",
            Self::Withdrawn => "Withdrawn",
            Self::Superseded => "Superseded",
            Self::Problem => "Problem",
        }
    }

    /// The one of this name; a newer version may have written others.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|on| on.name() == name)
    }
}

/// A channel of Slack.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlackSpec {
    /// With a bot's token: the channel's id. Each revision has one message, which is brought up to date, and a thread. Without it an
    /// incoming webhook is used, which can only add messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 80))]
    pub channel: Option<String>,
    /// A Secret in the rollout's namespace: `slackToken`, or without a channel `slackWebhook`.
    pub secret_ref: SecretRef,
}

/// A service of PagerDuty.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PagerDutySpec {
    /// A Secret in the rollout's namespace: `pagerDutyRoutingKey`, of an integration of Events API v2.
    pub secret_ref: SecretRef,
}

/// Replicas of one Alertmanager.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertmanagerSpec {
    /// The address of each replica, without `/api/v2`.
    #[schemars(
        length(min = 1, max = 5),
        inner(length(min = 1, max = 2048), regex(pattern = r"^https?://[^@]+$"))
    )]
    pub urls: Vec<String>,
    /// More labels, such as `team`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 16))]
    pub labels: BTreeMap<String, String>,
}

/// Addresses of people.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmailSpec {
    /// Whose mail it is, such as `Serin <serin@example.com>`.
    #[schemars(length(min = 3, max = 253))]
    pub from: String,
    /// Whom it goes to.
    #[schemars(length(min = 1, max = 20), inner(length(min = 3, max = 253)))]
    pub to: Vec<String>,
    /// A Secret in the rollout's namespace: `smtpUrl`, such as `smtps://user:password@mail.example.com` or
    /// `smtp://user:password@mail.example.com?tls=required`.
    pub secret_ref: SecretRef,
}

/// Anything that takes JSON.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSpec {
    /// Its address.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^@]+$"))]
    pub url: String,
    /// A Secret in the rollout's namespace: `webhookKey`, what each request is signed with; at least 16 bytes.
    pub secret_ref: SecretRef,
}

/// A receiver that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Unique among those of a rollout: the cluster's are called `cluster:<name>`.
    pub id: String,
    /// What it is told; what suits its kind when absent.
    pub events: Option<Vec<NotifyOn>>,
    /// Its own text.
    pub wording: Option<Wording>,
    /// How it is reached.
    pub channel: Channel,
}

/// How a receiver is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are described at their types")]
pub enum Channel {
    Slack(SlackSpec),
    PagerDuty(PagerDutySpec),
    Alertmanager(AlertmanagerSpec),
    Email(EmailSpec),
    Webhook(WebhookSpec),
}

/// Parses receivers; `field` is where they stand.
///
/// # Errors
/// Every field that makes no sense.
pub fn parse_receivers<'a>(
    field: &str,
    specs: impl IntoIterator<Item = &'a NotifySpec>,
) -> Result<Vec<Receiver>, Vec<FieldError>> {
    let (mut receivers, mut errors) = (Vec::<Receiver>::new(), Vec::new());
    for (i, spec) in specs.into_iter().enumerate() {
        let at = |name: &str| format!("{field}[{i}]{name}");
        if receivers.iter().any(|known| known.id == spec.name) {
            errors.push(FieldError::new(
                at(".name"),
                format!("{} stands there twice", spec.name),
            ));
        }
        let wording = spec.template.as_deref().map(Wording::parse).transpose();
        let wording = wording.unwrap_or_else(|problem| {
            errors.push(FieldError::new(at(".template"), problem));
            None
        });
        match channel(spec) {
            Some(channel) => receivers.push(Receiver {
                id: spec.name.clone(),
                events: spec.events.clone(),
                wording,
                channel,
            }),
            None => errors.push(FieldError::new(
                at(""),
                "give exactly one of slack, pagerDuty, alertmanager, email and webhook",
            )),
        }
    }
    if errors.is_empty() { Ok(receivers) } else { Err(errors) }
}

fn channel(spec: &NotifySpec) -> Option<Channel> {
    let NotifySpec {
        name: _,
        events: _,
        template: _,
        slack,
        pager_duty,
        alertmanager,
        email,
        webhook,
    } = spec;
    let given = [
        slack.clone().map(Channel::Slack),
        pager_duty.clone().map(Channel::PagerDuty),
        alertmanager.clone().map(Channel::Alertmanager),
        email.clone().map(Channel::Email),
        webhook.clone().map(Channel::Webhook),
    ];
    let mut given = given.into_iter().flatten();
    given.next().filter(|_| given.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(yaml: &str) -> Vec<String> {
        let specs: Vec<NotifySpec> = serde_saphyr::from_str(yaml).unwrap();
        let errors = parse_receivers("spec.notify", &specs).unwrap_err();
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn a_receiver_is_of_one_kind_has_a_name_of_its_own_and_a_text_with_known_variables() {
        let good = "[{name: a, slack: {secretRef: {name: s}}}, {name: b, email: {from: x@y.z, to: [x@y.z], secretRef: {name: s}}}]";
        let good: Vec<NotifySpec> = serde_saphyr::from_str(good).unwrap();
        assert_eq!(parse_receivers("spec.notify", &good).unwrap().len(), 2);
        assert_eq!(fields("[{name: a}]"), ["spec.notify[0]"]);
        let both = "[{name: a, slack: {secretRef: {name: s}}, pagerDuty: {secretRef: {name: s}}}]";
        assert_eq!(fields(both), ["spec.notify[0]"]);
        let twice = "[{name: a, slack: {secretRef: {name: s}}}, {name: a, slack: {secretRef: {name: s}}}]";
        assert_eq!(fields(twice), ["spec.notify[1].name"]);
        let words = "[{name: a, template: '{{who}}', slack: {secretRef: {name: s}}}]";
        assert_eq!(fields(words), ["spec.notify[0].template"]);
    }

    #[test]
    fn names_are_those_of_the_spec() {
        for on in NotifyOn::ALL {
            assert_eq!(serde_json::to_value(on).unwrap(), on.name());
            assert_eq!(NotifyOn::named(on.name()), Some(on));
        }
    }
}
