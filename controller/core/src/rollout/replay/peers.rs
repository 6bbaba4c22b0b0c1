//! A peer's rule over the same stretch. Must not know our tests.
//!
//! It goes through the plan's weights, each for its hold, and measures the plan's own objectives: the success rate, and each
//! latency objective; a failure is what Linkerd takes for one, as in the metrics that they ask for. Beyond the canary's last recorded call there is nothing to measure, and it is left open.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::recording::{Recording, at_bounds};
use super::traffic::{Divider, Weights};
use super::{Rules, calls};
use crate::Weight;
use crate::analysis::Counts;
use crate::analysis::peers::{Argo, Flagger, Measurement, MinuteRule};
use crate::analysis::sequential::Tally;

/// Both ask once a minute.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A rule with its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Flagger.
    Flagger {
        /// Failed checks until it rolls back.
        threshold: u32,
    },
    /// Argo Rollouts.
    Argo {
        /// Failures of one metric that it lets pass.
        failure_limit: u32,
    },
}

/// What a peer would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReplay {
    /// The rule, with its setting.
    pub rule: String,
    /// How it ended.
    pub end: PeerEnd,
    /// What the canary answered until then.
    /// Slow calls are at the bounds of the latency objectives, in their order.
    pub served: Counts,
}

/// How a peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum PeerEnd {
    /// It would have rolled back.
    RolledBack {
        /// When.
        at: Timestamp,
        /// From this weight, in percent.
        weight: u8,
    },
    /// It would have promoted.
    Promoted {
        /// When.
        at: Timestamp,
    },
    /// The canary's recorded calls were over before.
    Open {
        /// At this weight, in percent.
        weight: u8,
    },
}

impl Peer {
    fn name(self) -> String {
        match self {
            Self::Flagger { threshold } => format!("Flagger, threshold {threshold}"),
            Self::Argo { failure_limit } => format!("Argo Rollouts, failureLimit {failure_limit}"),
        }
    }

    fn rule(self) -> Box<dyn MinuteRule> {
        match self {
            Self::Flagger { threshold } => Box::new(Flagger::new(threshold)),
            Self::Argo { failure_limit } => Box::new(Argo::new(failure_limit)),
        }
    }
}

pub(super) fn run(recording: &Recording, rules: &Rules<'_>, begin: Timestamp, peer: Peer) -> PeerReplay {
    let (weights, promoted_at) = weights(rules, begin);
    let at = |time: Timestamp| {
        let passed = weights.iter().take_while(|(since, _)| *since <= time);
        passed.last().map_or(0, |(_, weight)| weight.percent())
    };
    let mut divider = Divider::new(recording, rules.division);
    let mut rule = peer.rule();
    let mut served = Counts::default();
    let objectives = recording.places(rules.plan.objectives.bounds_ms());
    let (mut minute, mut length) = (Counts::default(), SignedDuration::ZERO);
    let answered = |end: &Timestamp| recording.tick(*end).is_some_and(|tick| calls(&tick.canary) > 0);
    let last = recording.ends().filter(answered).last().unwrap_or(begin);
    let mut end = PeerEnd::Open { weight: at(last) };
    for tick in recording.ends().filter(|tick| *tick > begin && *tick <= last) {
        let divided = divider.tick(tick, &weights, &[]);
        served.add(&at_bounds(&divided.served, &objectives));
        minute.add(&at_bounds(&divided.canary.counts, &objectives));
        length = length.saturating_add(recording.draft().interval);
        if length >= MINUTE && tick <= promoted_at {
            length = SignedDuration::ZERO;
            if rule.minute(&measure(rules, &std::mem::take(&mut minute))) {
                end = PeerEnd::RolledBack {
                    at: tick,
                    weight: at(tick),
                };
                break;
            }
        }
        if tick >= promoted_at {
            end = PeerEnd::Promoted { at: promoted_at };
            break;
        }
    }
    PeerReplay {
        rule: peer.name(),
        end,
        served,
    }
}

/// When each weight is written, and when the last one's hold is over.
fn weights(rules: &Rules<'_>, begin: Timestamp) -> (Weights, Timestamp) {
    let mut at = begin;
    let mut weights: Weights = vec![(begin, Weight::ZERO)];
    for step in rules.plan.steps() {
        weights.push((at, step.weight));
        at = at.checked_add(step.hold).unwrap_or(Timestamp::MAX);
    }
    (weights, at)
}

fn measure(rules: &Rules<'_>, minute: &Counts) -> Vec<Measurement> {
    let objectives = &rules.plan.objectives;
    let measurement = |bad: u64, kept: f64| Measurement {
        calls: Tally::new(bad, minute.requests),
        allowed: 1.0 - kept,
    };
    let success = measurement(minute.failures, objectives.success.objective);
    let latency = objectives.latency.iter().enumerate().map(|(place, of)| {
        let slow = minute.slow.get(place).copied().unwrap_or(0);
        measurement(slow, of.share)
    });
    std::iter::once(success).chain(latency).collect()
}
