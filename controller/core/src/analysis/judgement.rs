//! The analysis of one trial: ticks in, verdict and evidence out. Knows whose counts it judges; not what is done about them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sequential::{Arms, Decision, Report, Role, StepInfo, Tally, TestSpec, TestState};
use super::{Counts, Frozen, Objectives, Tick};

/// Whose counts are judged; the other arm is what it is compared with.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Such as `success-rate` or `latency-500ms`.
    pub metric: String,
    /// Whose calls were judged.
    pub arm: Judged,
    /// Calls that count against the arm, since the trial began.
    pub bad: u64,
    /// All its calls since then.
    pub total: u64,
    /// The same of the arm that it is compared with.
    pub other: Tally,
    /// How far the evidence has come towards a failure, in percent of the logarithm that it takes; 100 is a failure.
    pub towards_fail: u8,
    /// How far it has come towards passing this step, likewise.
    pub towards_pass: u8,
    /// Whether it is reported only.
    pub dry_run: bool,
    /// A sentence that a person understands.
    pub sentence: String,
}

/// What the counts say so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Proven to be within the margins, on this step's counts.
    Pass,
    /// Worse than it may be.
    Fail,
    /// The other arm breaks the objective as well: nobody is to blame, and nothing goes on.
    Hold,
    /// Nothing is proven.
    Inconclusive,
}

/// The outcome with what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the counts say.
    pub outcome: Outcome,
    /// Whether something speaks against the judged arm: an unproven step does not go on then.
    pub suspect: bool,
    /// Per metric, the deciding one first.
    pub evidence: Vec<Evidence>,
}

impl Outcome {
    /// `pass`, `fail`, `hold` or `inconclusive`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Hold => "hold",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// The memory of the analysis, with all that was frozen when it began: what status has to keep of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// Whose counts these are.
    pub judged: Judged,
    /// What has to be kept.
    objectives: Objectives,
    /// Steps of the plan.
    steps: usize,
    /// What was frozen on stable before the trial.
    frozen: Frozen,
    /// The judged arm's calls in this step.
    step_requests: u64,
    test: TestState,
}

impl Analysis {
    /// An analysis of the canary that has seen nothing. `steps` is at least 1, and the objectives come out of a plan.
    pub fn begin(objectives: Objectives, steps: usize, frozen: Frozen) -> Self {
        let mut analysis = Self {
            judged: Judged::Canary,
            objectives,
            steps,
            frozen,
            step_requests: 0,
            test: TestState::default(),
        };
        analysis.test = TestState::start(&analysis.spec(), &analysis.frozen.metrics());
        analysis
    }

    /// An analysis of stable, which takes the revision over, beside the canary that proved it.
    #[must_use]
    pub fn of_stable(&self) -> Self {
        let mut analysis = Self {
            judged: Judged::Stable,
            step_requests: 0,
            ..self.clone()
        };
        analysis.test = TestState::start(&analysis.spec(), &analysis.frozen.metrics());
        analysis
    }

    /// The bounds in milliseconds that [`Counts::slow`] has to have, in this order.
    pub fn bounds_ms(&self) -> Vec<u64> {
        self.objectives
            .bounds_ms()
            .chain(self.frozen.bounds_ms.iter().copied())
            .collect()
    }

    /// The judged arm's calls in this step.
    pub fn step_requests(&self) -> u64 {
        self.step_requests
    }

    /// Begins a step, also one that is entered again: what passes it has to be proven anew. `other_share` is the share of the
    /// calls, 0 to 1, that the arm gets which it is compared with.
    pub fn begin_step(&mut self, index: usize, other_share: f64) {
        self.step_requests = 0;
        self.test.begin_step(StepInfo {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            stable_share: other_share,
        });
    }

    /// Adds a tick's counts.
    pub fn observe(&mut self, tick: &Tick) -> Outcome {
        let (judged, other) = match self.judged {
            Judged::Canary => (&tick.canary.counts, &tick.stable.counts),
            Judged::Stable => (&tick.stable.counts, &tick.canary.counts),
        };
        let arms = |of: &dyn Fn(&Counts) -> u64| Arms {
            canary: Tally::new(of(judged), judged.requests),
            stable: Tally::new(of(other), other.requests),
        };
        let spec = self.spec();
        let slow = |place: usize| arms(&move |counts: &Counts| counts.slow.get(place).copied().unwrap_or(0));
        let counts: Vec<Arms> = std::iter::once(arms(&|counts| counts.failures))
            .chain((0..spec.metrics().len().saturating_sub(1)).map(slow))
            .collect();
        self.step_requests = self.step_requests.saturating_add(judged.requests);
        outcome(self.test.observe(&spec, &counts))
    }

    /// What the counts say.
    pub fn outcome(&self) -> Outcome {
        outcome(self.test.decision(&self.spec()))
    }

    /// What the counts say, with the evidence.
    pub fn verdict(&self) -> Verdict {
        let report = self.test.report(&self.spec());
        Verdict {
            outcome: outcome(report.decision),
            suspect: report.suspect,
            evidence: self.evidence(&report),
        }
    }

    fn evidence(&self, report: &Report) -> Vec<Evidence> {
        let metrics = report.metrics.iter().map(|metric| {
            let strands = || metric.relative.iter().chain(&metric.absolute);
            let fail = strands().map(|strand| strand.ln_fail).fold(0.0, f64::max);
            let pass = strands().map(|strand| strand.ln_pass).fold(f64::INFINITY, f64::min);
            Evidence {
                metric: metric.metric.clone(),
                arm: self.judged,
                bad: metric.whole.canary.bad,
                total: metric.whole.canary.total,
                other: metric.whole.stable,
                // Only the failed one has come all the way: a metric's own evidence counts for its share of all.
                towards_fail: percent(fail + metric.share.ln(), report.ln_fail_threshold),
                towards_pass: percent(pass, report.ln_pass_threshold),
                dry_run: metric.role == Role::DryRun,
                sentence: self.sentence(&metric.sentence),
            }
        });
        metrics.collect()
    }

    /// The test speaks of canary and stable; here they have changed places when stable is judged.
    fn sentence(&self, text: &str) -> String {
        match self.judged {
            Judged::Canary => text.to_owned(),
            Judged::Stable => text
                .replace("stable", "\u{0}")
                .replace("canary", "stable")
                .replace('\u{0}', "canary"),
        }
    }

    #[expect(clippy::expect_used, reason = "the message states the invariant")]
    fn spec(&self) -> TestSpec {
        self.objectives
            .test(self.steps, &self.frozen.bounds_ms)
            .expect("Plan::parse lets only objectives through that make a test")
    }
}

fn outcome(decision: Decision) -> Outcome {
    match decision {
        Decision::Pass => Outcome::Pass,
        Decision::Fail(_) => Outcome::Fail,
        Decision::Hold(_) => Outcome::Hold,
        Decision::Inconclusive => Outcome::Inconclusive,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limited to 0 to 100"
)]
fn percent(ln: f64, threshold: f64) -> u8 {
    let share = 100.0 * ln / threshold;
    if share.is_nan() {
        0
    } else {
        share.clamp(0.0, 100.0) as u8
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::analysis::{ArmSample, Baseline, LatencyObjective, Sight};

    fn analysis() -> Analysis {
        let objectives = Objectives {
            latency: vec![LatencyObjective {
                share: 0.99,
                within_ms: 500,
            }],
            ..Objectives::default()
        };
        let frozen = Baseline::default().freeze(&objectives);
        let mut analysis = Analysis::begin(objectives, 4, frozen);
        analysis.begin_step(0, 0.9);
        analysis
    }

    fn tick(canary: (u64, u64, u64), stable: (u64, u64, u64)) -> Tick {
        let arm = |(requests, failures, slow)| ArmSample {
            sight: Sight::Fresh,
            counts: Counts {
                requests,
                failures,
                slow: vec![slow],
            },
        };
        Tick {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            canary: arm(canary),
            stable: arm(stable),
        }
    }

    fn after(ticks: usize, canary: (u64, u64, u64), stable: (u64, u64, u64)) -> Analysis {
        let mut analysis = analysis();
        for _ in 0..ticks {
            analysis.observe(&tick(canary, stable));
        }
        analysis
    }

    #[test]
    fn fails_when_many_calls_fail_and_says_so_in_a_sentence() {
        let verdict = after(5, (68, 6, 0), (1200, 2, 0)).verdict();
        assert_eq!(verdict.outcome, Outcome::Fail);
        let first = &verdict.evidence[0];
        assert_eq!(
            (first.metric.as_str(), first.bad, first.total),
            ("success-rate", 30, 340)
        );
        assert!(
            first
                .sentence
                .starts_with("8.8 % of 340 canary calls failed, stable 0.2 % of 6,000"),
            "{}",
            first.sentence
        );
        assert_eq!(first.towards_fail, 100, "{first:?}");
    }

    #[test]
    fn fails_when_the_latency_objective_breaks() {
        let verdict = after(5, (50, 0, 10), (500, 0, 0)).verdict();
        assert_eq!(
            (verdict.outcome, verdict.evidence[0].metric.as_str()),
            (Outcome::Fail, "latency-500ms")
        );
    }

    #[test]
    fn one_tick_alone_fails_nobody() {
        assert_eq!(after(1, (50, 50, 50), (500, 0, 0)).outcome(), Outcome::Inconclusive);
    }

    #[test]
    fn passes_on_enough_good_calls_of_this_step_and_not_before() {
        let mut analysis = after(2, (100, 0, 0), (900, 0, 0));
        assert_eq!(analysis.outcome(), Outcome::Inconclusive);
        for _ in 0..10 {
            analysis.observe(&tick((100, 0, 0), (900, 0, 0)));
        }
        assert_eq!((analysis.outcome(), analysis.step_requests()), (Outcome::Pass, 1200));
        analysis.begin_step(1, 0.75);
        assert_eq!(
            analysis.outcome(),
            Outcome::Inconclusive,
            "each step is proven by its own calls"
        );
    }

    #[test]
    fn holds_while_stable_breaks_the_objective_as_well() {
        let verdict = after(20, (50, 5, 0), (500, 50, 0)).verdict();
        assert_eq!(verdict.outcome, Outcome::Hold, "{verdict:?}");
    }

    #[test]
    fn a_step_in_which_most_calls_failed_is_suspect_however_late_it_comes() {
        let mut analysis = after(30, (100, 0, 0), (900, 0, 0));
        analysis.begin_step(0, 0.9);
        assert!(!analysis.verdict().suspect);
        analysis.observe(&tick((100, 90, 0), (900, 0, 0)));
        let verdict = analysis.verdict();
        assert_eq!((verdict.outcome, verdict.suspect), (Outcome::Inconclusive, true));
    }

    #[test]
    fn stable_is_judged_beside_the_canary_that_proved_the_revision() {
        let mut analysis = analysis().of_stable();
        analysis.begin_step(0, 0.75);
        for _ in 0..5 {
            analysis.observe(&tick((700, 0, 0), (100, 20, 0)));
        }
        let verdict = analysis.verdict();
        assert_eq!(
            (verdict.outcome, verdict.evidence[0].arm),
            (Outcome::Fail, Judged::Stable)
        );
        assert!(
            verdict.evidence[0]
                .sentence
                .contains("stable calls failed, canary 0.0 %"),
            "{verdict:?}"
        );
    }

    #[test]
    fn goes_on_where_it_was_after_it_was_written_and_read() {
        let mut analysis = after(3, (40, 1, 2), (400, 1, 1));
        let mut read: Analysis = serde_json::from_str(&serde_json::to_string(&analysis).unwrap()).unwrap();
        for one in [&mut analysis, &mut read] {
            one.observe(&tick((40, 3, 0), (400, 1, 1)));
        }
        assert_eq!(analysis, read);
    }
}
