//! What people are shown of a rollout, on the page and in the terminal, as data: pure, so that tests hold it. It must not know HTTP,
//! HTML or terminals.

pub(crate) mod arms;
pub(crate) mod commands;
pub(crate) mod evidence;
pub(crate) mod hooks;
pub(crate) mod pipeline;
pub(crate) mod plan;
pub(crate) mod timeline;

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::api::{
    CanaryRollout, CanaryRolloutStatus, CommandStatus, Condition, HistoryEntry, LatencyStatus, SamplesStatus,
    WeightStatus,
};
use crate::board::{Lately, Mark};

/// What a phase means for whoever looks: shown by a word and a sign, never by a colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tone {
    /// Nothing to judge.
    Rest,
    /// A revision is on its way.
    Works,
    /// Somebody is waited for.
    Waits,
    /// It goes back.
    Back,
    /// It was taken back.
    Failed,
    /// It runs as stable.
    Good,
}

/// One row of the list.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) phase: &'a str,
    pub(crate) tone: Tone,
    pub(crate) step: Option<&'a str>,
    pub(crate) weight: Option<WeightStatus>,
    pub(crate) revision: Option<&'a str>,
    pub(crate) verdict: Option<&'a str>,
    pub(crate) message: &'a str,
    /// Conditions that somebody should know of.
    pub(crate) trouble: Vec<&'a str>,
}

/// One rollout.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Detail<'a> {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) phase: &'a str,
    pub(crate) tone: Tone,
    pub(crate) message: &'a str,
    pub(crate) next: Option<Timestamp>,
    pub(crate) verdict: Option<&'a str>,
    pub(crate) stable: Option<&'a str>,
    pub(crate) revision: Option<Revision<'a>>,
    pub(crate) weight: Option<WeightStatus>,
    pub(crate) share: Option<Share>,
    pub(crate) arms: [arms::Arm<'a>; 2],
    pub(crate) plan: Vec<plan::Step>,
    pub(crate) forecast: Option<&'a str>,
    pub(crate) evidence: Vec<evidence::Evidence<'a>>,
    pub(crate) hooks: Vec<hooks::Hook<'a>>,
    pub(crate) pipeline: Option<pipeline::Pipeline<'a>>,
    pub(crate) conditions: Vec<ConditionView<'a>>,
    pub(crate) history: Vec<Past<'a>>,
    pub(crate) last_command: Option<&'a CommandStatus>,
    pub(crate) commands: Vec<commands::Offer>,
    pub(crate) samples: Option<&'a SamplesStatus>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) latencies: Vec<LatencyStatus>,
}

/// The canary's revision and where it comes from.
#[derive(Debug, Serialize)]
pub(crate) struct Revision<'a> {
    pub(crate) name: &'a str,
    pub(crate) commit: Option<&'a str>,
    pub(crate) author: Option<&'a str>,
    pub(crate) subject: Option<&'a str>,
    pub(crate) link: Option<String>,
}

/// A revision that has ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Past<'a> {
    #[serde(flatten)]
    pub(crate) entry: &'a HistoryEntry,
    /// The pages of its commit, and of the one that answered it.
    pub(crate) canary_link: Option<String>,
    pub(crate) link: Option<String>,
}

/// The share of the last tick's calls that the canary had.
#[derive(Debug, Serialize)]
pub(crate) struct Share {
    /// The tick's end.
    pub(crate) at: Timestamp,
    pub(crate) canary: i64,
    pub(crate) all: i64,
    /// None without calls.
    pub(crate) percent: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ConditionView<'a> {
    pub(crate) kind: &'a str,
    pub(crate) status: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
    pub(crate) since: Timestamp,
    pub(crate) trouble: bool,
}

/// A row of the list.
pub(crate) fn row(rollout: &CanaryRollout) -> Row<'_> {
    let status = rollout.status.as_ref();
    let of = |get: fn(&CanaryRolloutStatus) -> &Option<String>| status.and_then(|status| get(status).as_deref());
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let phase = of(|status| &status.phase).unwrap_or("New");
    Row {
        namespace: rollout.namespace().unwrap_or_default(),
        name: rollout.name_any(),
        phase,
        tone: tone(phase),
        step: of(|status| &status.step),
        weight: status.and_then(|status| status.weight),
        revision: status.and_then(|status| Some(status.revision.as_ref()?.name.as_str())),
        verdict: of(|status| &status.verdict),
        message: of(|status| &status.message).unwrap_or("Serin has not looked at it yet"),
        trouble: conditions
            .iter()
            .filter(|one| is_trouble(one))
            .map(|one| one.type_.as_str())
            .collect(),
    }
}

/// A text in one line, in which nothing from elsewhere moves a cursor or sets a colour.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// All of one rollout, and of what happened to it lately.
pub(crate) fn detail(rollout: &CanaryRollout, lately: Lately) -> Detail<'_> {
    static NONE: std::sync::LazyLock<CanaryRolloutStatus> = std::sync::LazyLock::new(Default::default);
    let status = rollout.status.as_ref().unwrap_or(&NONE);
    let Row {
        namespace,
        name,
        phase,
        tone,
        step: _,
        weight,
        revision: _,
        verdict,
        message,
        trouble: _,
    } = row(rollout);
    let repository = &rollout.spec.git.repository;
    let steps = plan::steps(&rollout.spec, status);
    let commands = commands::offers(phase, &steps, status, (&namespace, &name));
    Detail {
        phase,
        tone,
        message,
        next: status.next,
        verdict,
        stable: status.stable.as_deref(),
        revision: status.revision.as_ref().map(|revision| Revision {
            name: &revision.name,
            commit: revision.commit.as_deref(),
            author: revision.author.as_deref(),
            subject: revision.subject.as_deref(),
            link: link(repository, revision.commit.as_deref()),
        }),
        weight,
        // Afterwards the last tick is of another weight.
        share: status.samples.as_deref().filter(|_| is_sampled(phase)).and_then(share),
        arms: arms::of(status),
        plan: steps,
        forecast: status.forecast.as_ref().map(|forecast| forecast.message.as_str()),
        evidence: status.evidence.iter().map(evidence::of).collect(),
        hooks: status.hooks.iter().map(hooks::of).collect(),
        pipeline: pipeline::of(phase, repository, status),
        conditions: status.conditions.iter().map(condition).collect(),
        history: past(repository, &status.history),
        last_command: status.last_command.as_deref(),
        commands,
        samples: status.samples.as_deref(),
        marks: lately.marks,
        latencies: lately.latencies,
        namespace,
        name,
    }
}

fn tone(phase: &str) -> Tone {
    match phase {
        "Starting" | "Progressing" | "Promoting" => Tone::Works,
        "Paused" => Tone::Waits,
        "RollingBack" => Tone::Back,
        "RolledBack" => Tone::Failed,
        "Promoted" => Tone::Good,
        _ => Tone::Rest,
    }
}

/// Whether a condition is as it should not be.
pub(crate) fn is_trouble(condition: &Condition) -> bool {
    let wanted = match condition.type_.as_str() {
        "Ready" | "SpecValid" | "MetricsReadable" => "True",
        _ => "False",
    };
    condition.status != wanted
}

fn condition(condition: &Condition) -> ConditionView<'_> {
    ConditionView {
        kind: &condition.type_,
        status: &condition.status,
        reason: &condition.reason,
        message: &condition.message,
        since: condition.last_transition_time.0,
        trouble: is_trouble(condition),
    }
}

#[expect(clippy::cast_precision_loss, reason = "calls of one tick are fewer than 2^52")]
fn share(samples: &SamplesStatus) -> Option<Share> {
    let last = samples.ticks.last()?;
    let (canary, all) = (last.canary.requests, last.canary.requests + last.stable.requests);
    Some(Share {
        at: last.end,
        canary,
        all,
        percent: (all > 0).then(|| canary as f64 / all as f64 * 100.0),
    })
}

/// Whether calls are counted in a phase.
fn is_sampled(phase: &str) -> bool {
    matches!(phase, "Progressing" | "Paused" | "Promoting")
}

/// Revisions that have ended, with what their commits' pages are.
pub(crate) fn past<'a>(repository: &str, history: &'a [HistoryEntry]) -> Vec<Past<'a>> {
    let one = |entry: &'a HistoryEntry| Past {
        canary_link: link(repository, entry.canary_commit.as_deref()),
        link: link(repository, entry.commit.as_deref()),
        entry,
    };
    history.iter().map(one).collect()
}

/// The commit's page at hosts whose addresses are known.
pub(crate) fn link(repository: &str, commit: Option<&str>) -> Option<String> {
    let commit = commit?;
    let (host, path) = repository.strip_prefix("https://")?.split_once('/')?;
    let is_plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte))
    };
    let is_commit = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_plain(host) || !is_plain(path) || !is_commit {
        return None;
    }
    let path = path.trim_end_matches('/').trim_end_matches(".git");
    let way = match host {
        host if host.contains("github") => "commit",
        host if host.contains("gitlab") => "-/commit",
        _ => return None,
    };
    Some(format!("https://{host}/{path}/{way}/{commit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_commits_at_known_hosts_only() {
        let github = link("https://github.com/shop/config.git", Some("0a1b"));
        assert_eq!(github.as_deref(), Some("https://github.com/shop/config/commit/0a1b"));
        let gitlab = link("https://gitlab.example.com/shop/config", Some("0a1b"));
        assert_eq!(
            gitlab.as_deref(),
            Some("https://gitlab.example.com/shop/config/-/commit/0a1b")
        );
        for (repository, commit) in [
            ("https://git.example.com/config.git", "0a1b"),
            ("ssh://git@github.com/config.git", "0a1b"),
            ("javascript:alert(1)//github", "0a1b"),
            ("https://github.com/a\"onclick=alert(1)", "0a1b"),
            ("https://user:token@github.com/config.git", "0a1b"),
            ("https://github.com/shop/config.git", "../../evil"),
        ] {
            assert_eq!(link(repository, Some(commit)), None, "{repository} {commit}");
        }
    }
}
