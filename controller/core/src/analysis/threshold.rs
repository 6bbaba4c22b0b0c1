//! The first analysis: an absolute success rate and latency objectives over a minimum of samples.
//!
//! Fails on the whole time at traffic, passes on a step's own counts: what a step proves, it proves by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Counts, Tick};

/// What the canary has to keep.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Objectives {
    /// The least share of calls that must succeed, 0 to 1; `None`: not judged.
    pub success_rate: Option<f64>,
    /// Latency objectives, in the order of [`Counts::slow`].
    pub latency: Vec<LatencyObjective>,
}

/// The least share of calls that must be answered within a bound.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyObjective {
    /// 0 to 1, such as 0.99 for a p99.
    pub share: f64,
    /// The bound, one of Linkerd's histogram bounds, in milliseconds.
    pub within_ms: u64,
}

/// Whose counts are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Judged {
    /// The canary, while it is on trial.
    #[default]
    Canary,
    /// Stable, while it takes over the promoted revision.
    Stable,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Canary => "canary",
            Self::Stable => "stable",
        })
    }
}

/// What one metric says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// `success-rate`, or `latency-<bound>ms`.
    pub metric: String,
    /// Whose calls were counted.
    pub arm: Judged,
    /// Calls that count against the arm.
    pub bad: u64,
    /// All its calls.
    pub total: u64,
    /// The largest share of bad calls that the objective allows, 0 to 1.
    pub allowed: f64,
    /// A sentence that a person understands.
    pub sentence: String,
}

/// What the counts say so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// Every objective is kept on this step's counts.
    Pass(Vec<Evidence>),
    /// One objective is broken; the evidence names it first.
    Fail(Vec<Evidence>),
    /// Too few calls to tell.
    Inconclusive(Vec<Evidence>),
}

impl Verdict {
    /// The evidence, the deciding one first.
    pub fn evidence(&self) -> &[Evidence] {
        match self {
            Self::Pass(e) | Self::Fail(e) | Self::Inconclusive(e) => e,
        }
    }

    /// `pass`, `fail` or `inconclusive`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Fail(_) => "fail",
            Self::Inconclusive(_) => "inconclusive",
        }
    }
}

/// The memory of the analysis: all that status has to keep of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// Whose counts these are.
    pub judged: Judged,
    /// Counted in this step.
    pub step: Counts,
    /// Counted since the analysis began.
    pub whole: Counts,
}

impl Analysis {
    /// An analysis that has seen nothing of this arm.
    pub fn of(judged: Judged) -> Self {
        Self {
            judged,
            ..Self::default()
        }
    }

    /// Adds a tick's counts.
    pub fn observe(&mut self, tick: &Tick) {
        let counts = match self.judged {
            Judged::Canary => &tick.canary.counts,
            Judged::Stable => &tick.stable.counts,
        };
        self.step.add(counts);
        self.whole.add(counts);
    }

    /// Begins a step: what passes it has to be proven anew.
    pub fn begin_step(&mut self) {
        self.step = Counts::default();
    }

    /// What the counts say, given how many calls it takes to apply a threshold at all.
    pub fn verdict(&self, objectives: &Objectives, min_requests: u64) -> Verdict {
        let evidence = |counts: &Counts| -> Vec<Evidence> {
            let success = objectives.success_rate.map(|rate| {
                self.evidence(
                    "success-rate".to_owned(),
                    "failed",
                    counts.failures,
                    counts.requests,
                    1.0 - rate,
                )
            });
            let latency = objectives.latency.iter().enumerate().map(|(i, objective)| {
                let slow = counts.slow.get(i).copied().unwrap_or(0);
                let verb = format!("took longer than {} ms", objective.within_ms);
                self.evidence(
                    format!("latency-{}ms", objective.within_ms),
                    &verb,
                    slow,
                    counts.requests,
                    1.0 - objective.share,
                )
            });
            success.into_iter().chain(latency).collect()
        };
        for counts in [&self.step, &self.whole] {
            if counts.requests >= min_requests {
                let mut all = evidence(counts);
                if let Some(broken) = all.iter().position(Evidence::is_broken) {
                    all.swap(0, broken);
                    return Verdict::Fail(all);
                }
            }
        }
        let all = evidence(&self.step);
        if self.step.requests >= min_requests {
            Verdict::Pass(all)
        } else {
            Verdict::Inconclusive(all)
        }
    }

    fn evidence(&self, metric: String, verb: &str, bad: u64, total: u64, allowed: f64) -> Evidence {
        let sentence = if total == 0 {
            format!("no calls on {} yet", self.judged)
        } else {
            format!(
                "{:.1} % of {total} {} calls {verb}, {:.1} % are allowed",
                100.0 * ratio(bad, total),
                self.judged,
                100.0 * allowed
            )
        };
        Evidence {
            metric,
            arm: self.judged,
            bad,
            total,
            allowed,
            sentence,
        }
    }
}

impl Evidence {
    /// Whether more calls were bad than the objective allows.
    pub fn is_broken(&self) -> bool {
        // The tolerance keeps 1 of 100 from breaking 99 %, whose complement is a little below 0.01 in binary.
        self.total > 0 && ratio(self.bad, self.total) > self.allowed + 1e-9
    }
}

impl Counts {
    /// Adds the other counts to these.
    pub fn add(&mut self, other: &Counts) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        if self.slow.len() < other.slow.len() {
            self.slow.resize(other.slow.len(), 0);
        }
        for (mine, theirs) in self.slow.iter_mut().zip(&other.slow) {
            *mine = mine.saturating_add(*theirs);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one rollout stay far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objectives() -> Objectives {
        Objectives {
            success_rate: Some(0.99),
            latency: vec![LatencyObjective {
                share: 0.99,
                within_ms: 500,
            }],
        }
    }

    fn with(requests: u64, failures: u64, slow: u64) -> Analysis {
        let counts = Counts {
            requests,
            failures,
            slow: vec![slow],
        };
        Analysis {
            judged: Judged::Canary,
            step: counts.clone(),
            whole: counts,
        }
    }

    #[test]
    fn cannot_tell_on_too_few_calls() {
        assert_eq!(with(19, 19, 0).verdict(&objectives(), 20).name(), "inconclusive");
    }

    #[test]
    fn fails_when_the_success_objective_breaks() {
        let verdict = with(340, 31, 0).verdict(&objectives(), 20);
        assert_eq!(verdict.name(), "fail");
        assert_eq!(
            verdict.evidence()[0].sentence,
            "9.1 % of 340 canary calls failed, 1.0 % are allowed"
        );
    }

    #[test]
    fn fails_when_the_latency_objective_breaks() {
        let verdict = with(100, 0, 2).verdict(&objectives(), 20);
        assert_eq!(
            (verdict.name(), verdict.evidence()[0].metric.as_str()),
            ("fail", "latency-500ms")
        );
    }

    #[test]
    fn passes_at_exactly_the_objective() {
        assert_eq!(with(100, 1, 1).verdict(&objectives(), 20).name(), "pass");
    }

    #[test]
    fn proves_each_step_by_its_own_calls() {
        let mut analysis = with(100, 0, 0);
        analysis.begin_step();
        assert_eq!(analysis.verdict(&objectives(), 20).name(), "inconclusive");
        assert_eq!(analysis.whole.requests, 100);
    }
}
