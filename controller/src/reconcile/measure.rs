//! What a look tells the metrics: how long it took, and what it decided. It must not know what is written, or how.

use std::time::{Duration, Instant};

use serin_core::rollout::{PauseReason, Phase, PhaseName, RollbackReason, Way};

use super::Error;
use crate::metrics::{DONE, Metrics};

/// Counts one look.
pub(super) async fn look<T>(metrics: &Metrics, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let began = Instant::now();
    let done = work.await;
    metrics.look(done.as_ref().map_or_else(word, |_| DONE), began.elapsed());
    done
}

fn word(error: &Error) -> &'static str {
    match error {
        Error::Api { .. } => "Api",
        Error::Timeout { .. } => "Timeout",
        Error::Traffic(_) => "Traffic",
        Error::Memory(_) => "Memory",
        Error::Panicked(_) => "Panicked",
        Error::NotLeading => "NotLeading",
    }
}

/// What of a decision is counted once it stands in status.
#[derive(Debug)]
pub(super) struct Step {
    from: PhaseName,
    to: PhaseName,
    reason: &'static str,
    traffic_away: Option<Duration>,
}

impl Step {
    pub(super) fn between(before: &Phase, after: &Phase) -> Self {
        Self {
            from: before.name(),
            to: after.name(),
            reason: reason(after),
            traffic_away: traffic_away(before, after),
        }
    }

    /// It stands.
    pub(super) fn count(&self, metrics: &Metrics) {
        if self.from != self.to {
            metrics.transition(self.from.word(), self.to.word(), self.reason);
        }
        if let Some(took) = self.traffic_away {
            metrics.traffic_away(took);
        }
    }
}

/// The kind of reason for which a phase is entered; empty where there is one only.
fn reason(phase: &Phase) -> &'static str {
    match phase {
        Phase::Paused(paused) => match paused.reason {
            PauseReason::Operator => "Operator",
            PauseReason::Approval => "Approval",
            PauseReason::Inconclusive => "Inconclusive",
            PauseReason::Blind => "Blind",
            PauseReason::StableChanged => "StableChanged",
            PauseReason::WeightContested => "WeightContested",
            PauseReason::MetricUnusable => "MetricUnusable",
            PauseReason::TrafficNotFollowing => "TrafficNotFollowing",
            PauseReason::SpecRefused => "SpecRefused",
            PauseReason::Hook => "Hook",
            PauseReason::PodsLost => "PodsLost",
        },
        Phase::RollingBack(back) => match &back.reason {
            RollbackReason::Failed(_) => "Failed",
            RollbackReason::Inconclusive => "Inconclusive",
            RollbackReason::Aborted(_) => "Aborted",
            RollbackReason::ProgressDeadline => "ProgressDeadline",
            RollbackReason::PromoteDeadline => "PromoteDeadline",
            RollbackReason::Hook(_) => "Hook",
        },
        Phase::Promoting(promoting) => match promoting.way {
            Way::Trial => "Trial",
            Way::FastReturn => "FastReturn",
        },
        Phase::Idle(_)
        | Phase::Starting(_)
        | Phase::Progressing(_)
        | Phase::Withdrawn(_)
        | Phase::Promoted(_)
        | Phase::RolledBack(_) => "",
    }
}

/// The time from the end of the last sample until the traffic of a canary that failed was seen to be gone, once.
fn traffic_away(before: &Phase, after: &Phase) -> Option<Duration> {
    let Phase::RollingBack(now) = after else { return None };
    let known = matches!(before, Phase::RollingBack(was) if was.traffic_at.is_some());
    let failed = matches!(now.reason, RollbackReason::Failed(_));
    let gone = now.traffic_at.filter(|_| failed && !known)?;
    Duration::try_from(gone.duration_since(now.run.as_of)).ok()
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use serin_core::rollout::{Paused, Revision, RollbackGit, RollingBack, Run};

    use super::*;
    use crate::api::parse;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A trial that has counted up to the 100th second.
    fn run() -> Run {
        let spec = serde_json::json!({
            "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
            "git": {"repository": "https://git.example.com/x.git", "path": "prod"},
        });
        let plan = parse(&serde_json::from_value(spec).unwrap()).unwrap().plan;
        let revision = |name: &str| Revision {
            name: name.to_owned(),
            hash: name.to_owned(),
        };
        Run::begin(revision("1.1.0"), revision("1.0.0"), None, &plan, at(100))
    }

    fn paused() -> Phase {
        Phase::Paused(Paused {
            run: run(),
            step: 0,
            reason: PauseReason::Blind,
            weight: serin_core::Weight::ZERO,
            since: at(100),
        })
    }

    fn rolling_back(reason: RollbackReason, traffic_at: Option<i64>) -> Phase {
        Phase::RollingBack(RollingBack {
            run: run(),
            reason,
            since: at(101),
            traffic_at: traffic_at.map(at),
            promoted: None,
            on_canary: false,
            own_fields_because: None,
            git: RollbackGit::Committing,
        })
    }

    fn failed(traffic_at: Option<i64>) -> Phase {
        let mut verdict = run().analysis.verdict().evidence;
        rolling_back(RollbackReason::Failed(verdict.remove(0)), traffic_at)
    }

    #[test]
    fn a_change_of_phase_is_counted_once_with_its_kind_of_reason() {
        let metrics = Metrics::default();
        let aborted = rolling_back(RollbackReason::Aborted("in words".to_owned()), None);
        for (before, after) in [(Phase::default(), paused()), (paused(), paused()), (paused(), aborted)] {
            Step::between(&before, &after).count(&metrics);
        }
        let text = metrics.text();
        let counted: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("serin_transitions_total{"))
            .collect();
        assert_eq!(counted.len(), 2, "{text}");
        let aborted = "serin_transitions_total{from=\"Paused\",to=\"RollingBack\",reason=\"Aborted\"} 1";
        assert!(text.contains(aborted), "{text}");
        assert!(
            text.contains("{from=\"Idle\",to=\"Paused\",reason=\"Blind\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn the_time_to_weight_0_counts_from_the_sample_that_failed() {
        let second = SignedDuration::from_secs(1).unsigned_abs();
        assert_eq!(traffic_away(&failed(None), &failed(Some(102))), Some(2 * second));
        assert_eq!(traffic_away(&paused(), &failed(Some(101))), Some(second));
        assert_eq!(
            traffic_away(&failed(Some(101)), &failed(Some(101))),
            None,
            "it is told once"
        );
        let aborted = |traffic_at| rolling_back(RollbackReason::Aborted(String::new()), traffic_at);
        assert_eq!(
            traffic_away(&aborted(None), &aborted(Some(102))),
            None,
            "no sample led to it"
        );
    }
}
