//! What Serin would remember of a rollout: that it is in its first step, or that it ended long ago. Pure; it must not know who writes
//! it, nor what a person reads there.

use jiff::Timestamp;
use lab::remembered;
use serde_json::Value;
use serin::linkerd::latency::LATENCY_BOUNDS_MS;
use serin_core::analysis::{Baseline, PodCounts};
use serin_core::rollout::{Commit, Ending, Phase, RestNote, Revision};

use crate::objects::{Arm, Rollout, STABLE_PODS, shape, spec};

/// Its status: in its first step with the weight on the route, or ended long ago.
pub(crate) fn status(of: Rollout, repository: &str, commit: Option<&str>, now: Timestamp) -> anyhow::Result<Value> {
    let revision = |arm| Revision {
        name: of.revision(arm).to_owned(),
        hash: of.hash(arm),
    };
    let arms = [Arm::Stable, Arm::Canary].map(revision);
    let [_, canary] = arms.clone();
    let phase = match commit {
        Some(commit) => {
            let commit = Commit {
                id: commit.to_owned(),
                author: "Jenkins <jenkins@example.com>".to_owned(),
                subject: format!("Canary of {}", of.name()),
            };
            remembered::first_step(spec(of, repository), arms, Some(commit), &baseline(), now)?
        }
        None => rest(of, &canary, now),
    };
    let quiet_since = (!of.is_progressing()).then_some(now);
    Ok(remembered::status(phase, canary, quiet_since))
}

/// A third of those at rest never had a trial; the others' was promoted or rolled back.
fn rest(of: Rollout, canary: &Revision, now: Timestamp) -> Phase {
    let ending = Ending {
        revision: canary.clone(),
        commit: None,
        began: now,
        at: now,
        answer: None,
        reason: "it ended before the bench".to_owned(),
        traffic_at: Some(now),
        hooks: vec![],
    };
    match of.0 % 3 {
        0 => Phase::Idle(RestNote::Quiet),
        1 => Phase::Promoted(ending),
        _ => Phase::RolledBack(ending),
    }
}

/// Stable's last minutes, with nothing remarkable in them.
fn baseline() -> Baseline {
    let slow = |calls: u64| {
        let share = |ms: &u64| match *ms {
            0..=50 => calls / 2,
            51..=200 => calls / 20,
            201..=500 => calls / 200,
            _ => 0,
        };
        LATENCY_BOUNDS_MS.iter().map(share).collect::<Vec<u64>>()
    };
    let pod = PodCounts {
        requests: 1_900,
        failures: 0,
        slow: slow(1_900),
        ..PodCounts::default()
    };
    Baseline {
        bounds_ms: LATENCY_BOUNDS_MS.to_vec(),
        codes: vec![],
        tick_ms: u64::try_from(shape().interval.as_millis()).unwrap_or(0),
        ticks: vec![vec![pod; STABLE_PODS]; 60],
    }
}
