//! The controller's own configuration of notifications: receivers of the whole cluster or of some namespaces, where Slack and PagerDuty
//! are, and which addresses rollouts may name. Pure but for reading its file.

use std::path::Path;

use anyhow::Context as _;
use ipnet::IpNet;
use reqwest::Url;
use serde::Deserialize;

use crate::api::{NotifySpec, Receiver, Wording, parse_receivers};
use crate::callout::Guard;

/// The configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Receivers, each with the patterns of namespaces whose rollouts it is told of.
    pub receivers: Vec<(Vec<String>, Receiver)>,
    /// Where people may look at a rollout.
    pub link: Option<Wording>,
    /// Where Slack and PagerDuty are.
    pub endpoints: Endpoints,
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

/// Where Slack and PagerDuty are.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The base of Slack's methods.
    pub slack: Url,
    /// The base of PagerDuty's events.
    pub pager_duty: Url,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            slack: base("https://slack.com/api/"),
            pager_duty: base("https://events.pagerduty.com/"),
        }
    }
}

#[expect(clippy::expect_used, reason = "both addresses stand above")]
fn base(url: &str) -> Url {
    Url::parse(url).expect("a constant address is one")
}

/// As it stands in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    receivers: Vec<Entry>,
    link: Option<String>,
    endpoints: Bases,
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default = "all")]
    namespaces: Vec<String>,
    #[serde(flatten)]
    spec: NotifySpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Bases {
    slack: Option<String>,
    pager_duty: Option<String>,
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read, or makes no sense.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let reading = || format!("reading the configuration of notifications {}", file.display());
        let text = std::fs::read_to_string(file).with_context(reading)?;
        Self::parse(&text).with_context(reading)
    }

    /// Reads its text.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let File {
            receivers,
            link,
            endpoints,
            allow,
            deny,
        } = serde_saphyr::from_str(text)?;
        let (namespaces, specs): (Vec<_>, Vec<_>) = receivers
            .into_iter()
            .map(|entry| (entry.namespaces, entry.spec))
            .unzip();
        let parsed = parse_receivers("receivers", &specs).map_err(|errors| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!(errors.join("; "))
        })?;
        let named = parsed.into_iter().map(|receiver| Receiver {
            id: format!("cluster:{}", receiver.id),
            ..receiver
        });
        let link = link.as_deref().map(Wording::parse).transpose();
        let standard = Endpoints::default();
        Ok(Self {
            receivers: namespaces.into_iter().zip(named).collect(),
            link: link.map_err(|problem| anyhow::anyhow!("link: {problem}"))?,
            endpoints: Endpoints {
                slack: folder(endpoints.slack, standard.slack)?,
                pager_duty: folder(endpoints.pager_duty, standard.pager_duty)?,
            },
            allow,
            deny,
        })
    }

    /// Which addresses rollouts may name.
    pub fn guard(&self) -> Guard {
        Guard {
            allow: self.allow.clone(),
            deny: self.deny.clone(),
        }
    }
}

/// What is joined to an address stands below it only if it ends in a slash.
fn folder(given: Option<String>, standard: Url) -> anyhow::Result<Url> {
    let Some(text) = given else { return Ok(standard) };
    let mut url = Url::parse(&text).with_context(|| format!("endpoints: {text} is no address"))?;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_read_with_their_namespaces_and_typos_are_refused() {
        let config = Config::parse(
            "receivers:\n- {name: ops, namespaces: ['shop-*'], slack: {channel: C1, secretRef: {name: slack}}}\n- {name: am, alertmanager: {urls: ['http://am:9093']}}\nlink: 'https://serin.example.com/{{namespace}}/{{rollout}}'\nendpoints: {pagerDuty: 'https://events.eu.pagerduty.com'}\nallow: [10.0.0.0/8]\n",
        )
        .unwrap();
        let ids: Vec<_> = config
            .receivers
            .iter()
            .map(|(of, one)| (of[0].as_str(), one.id.as_str()))
            .collect();
        assert_eq!(ids, [("shop-*", "cluster:ops"), ("*", "cluster:am")]);
        assert_eq!(config.endpoints.pager_duty.as_str(), "https://events.eu.pagerduty.com/");
        assert!(config.guard().permits("10.1.2.3".parse().unwrap()));
        assert!(Config::parse("receiver: []").is_err());
        assert!(Config::parse("link: '{{rolout}}'").is_err());
        assert!(Config::parse("receivers: [{name: a}]").is_err());
    }
}
