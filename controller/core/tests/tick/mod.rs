//! A trial with three metrics and a tick of it, for those who measure what that costs.

use jiff::Timestamp;
use serin_core::analysis::sequential::{Arms, Role, Tally};
use serin_core::analysis::{
    Analysis, ArmSample, Counts, CustomCounts, CustomKind, CustomMetric, CustomTick, Frozen, LatencyObjective,
    Objectives, PodCalls, Sent, Sight, Streams, Tick,
};

/// In its first step, with nothing seen.
pub(crate) fn analysis() -> Analysis {
    let objectives = Objectives {
        latency: vec![LatencyObjective {
            share: 0.99,
            within_ms: 500,
            role: Role::Supporting,
        }],
        custom: vec![CustomMetric {
            name: "checkout-errors".to_owned(),
            role: Role::Judged,
            kind: CustomKind::Counts(CustomCounts {
                bad: "bad".to_owned(),
                total: "total".to_owned(),
                verb: None,
                objective: None,
                tolerance: 0.002,
                pass_tolerance: 0.005,
            }),
        }],
        ..Objectives::default()
    };
    let mut analysis = Analysis::begin(objectives, 4, Frozen::default());
    analysis.begin_step(0, 0.95);
    analysis
}

/// Both arms are alike.
pub(crate) fn tick() -> Tick {
    let arm = |pod: &str, failures, requests| ArmSample {
        sight: Sight::Fresh,
        counts: Counts {
            requests,
            failures,
            slow: vec![failures],
        },
        pods: vec![PodCalls {
            pod: pod.to_owned(),
            requests,
            failures,
        }],
    };
    let own = Arms {
        canary: Tally::new(0, 20),
        stable: Tally::new(1, 180),
    };
    Tick {
        start: Timestamp::UNIX_EPOCH,
        end: Timestamp::from_second(20).unwrap_or(Timestamp::MAX),
        canary: arm("canary", 1, 500),
        stable: arm("stable", 9, 4_500),
        custom: CustomTick {
            counts: vec![own],
            ..CustomTick::default()
        },
        sent: Sent::default(),
        open: Streams::default(),
    }
}
