//! What the page shows of a rollout, as data: pure, so that tests hold it. It must not know HTTP or HTML.

mod commands;
mod evidence;
mod pipeline;
mod plan;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::api::{CanaryRollout, CanaryRolloutStatus, CommandStatus, HistoryEntry, SamplesStatus, WeightStatus};
use crate::board::Mark;

/// What a phase means for whoever looks: shown by a word and a sign, never by a colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tone {
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
pub(super) struct Row<'a> {
    namespace: String,
    name: String,
    phase: &'a str,
    tone: Tone,
    step: Option<&'a str>,
    weight: Option<WeightStatus>,
    revision: Option<&'a str>,
    verdict: Option<&'a str>,
    message: &'a str,
    /// Conditions that somebody should know of.
    trouble: Vec<&'a str>,
}

/// One rollout.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail<'a> {
    namespace: String,
    name: String,
    phase: &'a str,
    tone: Tone,
    message: &'a str,
    next: Option<Timestamp>,
    verdict: Option<&'a str>,
    stable: Option<&'a str>,
    revision: Option<Revision<'a>>,
    weight: Option<WeightStatus>,
    share: Option<Share>,
    plan: Vec<plan::Step>,
    forecast: Option<&'a str>,
    evidence: Vec<evidence::Evidence<'a>>,
    pipeline: Option<pipeline::Pipeline<'a>>,
    conditions: Vec<ConditionView<'a>>,
    history: &'a [HistoryEntry],
    last_command: Option<&'a CommandStatus>,
    commands: Vec<commands::Offer>,
    samples: Option<&'a SamplesStatus>,
    marks: Vec<Mark>,
}

/// The canary's revision and where it comes from.
#[derive(Debug, Serialize)]
struct Revision<'a> {
    name: &'a str,
    commit: Option<&'a str>,
    author: Option<&'a str>,
    subject: Option<&'a str>,
    link: Option<String>,
}

/// The share of the last tick's calls that the canary had.
#[derive(Debug, Serialize)]
struct Share {
    /// The tick's end.
    at: Timestamp,
    canary: i64,
    all: i64,
    /// None without calls.
    percent: Option<f64>,
}

#[derive(Debug, Serialize)]
struct ConditionView<'a> {
    kind: &'a str,
    status: &'a str,
    reason: &'a str,
    message: &'a str,
    since: Timestamp,
    trouble: bool,
}

/// A row of the list.
pub(super) fn row(rollout: &CanaryRollout) -> Row<'_> {
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

/// All of one rollout; it was at `marks` lately.
pub(super) fn detail(rollout: &CanaryRollout, marks: Vec<Mark>) -> Detail<'_> {
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
            link: revision
                .commit
                .as_ref()
                .and_then(|commit| link(&rollout.spec.git.repository, commit)),
        }),
        weight,
        // Afterwards the last tick is of another weight.
        share: status.samples.as_ref().filter(|_| is_sampled(phase)).and_then(share),
        plan: steps,
        forecast: status.forecast.as_ref().map(|forecast| forecast.message.as_str()),
        evidence: status.evidence.iter().map(evidence::of).collect(),
        pipeline: pipeline::of(phase, status),
        conditions: status.conditions.iter().map(condition).collect(),
        history: &status.history,
        last_command: status.last_command.as_ref(),
        commands,
        samples: status.samples.as_ref(),
        marks,
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
fn is_trouble(condition: &Condition) -> bool {
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

/// The commit's page at hosts whose addresses are known.
fn link(repository: &str, commit: &str) -> Option<String> {
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
        let github = link("https://github.com/shop/config.git", "0a1b");
        assert_eq!(github.as_deref(), Some("https://github.com/shop/config/commit/0a1b"));
        let gitlab = link("https://gitlab.example.com/shop/config", "0a1b");
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
            assert_eq!(link(repository, commit), None, "{repository} {commit}");
        }
    }
}
