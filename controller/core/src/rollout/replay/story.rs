//! What a replay tells: each tick, each step, and how it ended. Decides nothing: it watches the state machine.

use jiff::Timestamp;
use serde::Serialize;

use super::recording::at_bounds;
use super::traffic::Divided;
use crate::Weight;
use crate::analysis::sequential::Tally;
use crate::analysis::{Analysis, Counts, Evidence, Outcome, Tick, Verdict};
use crate::rollout::plan::Plan;
use crate::rollout::state::{PauseReason, Paused, Phase, Progressing, RollbackReason, RollingBack, State};

/// The metric whose calls are all calls.
const ALL_CALLS: &str = "success-rate";

/// A stretch of the past as it would have gone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// When the first weight was written.
    pub began: Timestamp,
    /// Steps in the order in which they were entered.
    pub steps: Vec<StepReplay>,
    /// Every tick up to the end of the trial.
    pub ticks: Vec<TickReplay>,
    /// How it ended.
    pub end: End,
    /// What the canary answered from the first weight up to the end of the tick in which the trial ended; whole ticks, so it
    /// is a tick's calls too many at most. Slow ones are at the bounds of the latency objectives, in their order.
    pub served: Counts,
    /// gRPC codes that were failures besides those that the mesh takes for failures.
    pub failure_codes: Vec<u8>,
    /// Ticks in which the canary had fewer calls than its weight's share.
    pub short_ticks: usize,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum End {
    /// It would have been rolled back.
    RolledBack {
        /// When its traffic was taken away.
        at: Timestamp,
        /// From this weight, in percent.
        weight: u8,
        /// The metric that failed it; none if it was no verdict.
        metric: Option<String>,
        /// Why, in words.
        reason: String,
    },
    /// It would have been promoted.
    Promoted {
        /// When it left its last step.
        at: Timestamp,
    },
    /// The stretch was over before the trial was.
    Open {
        /// At this weight, in percent.
        weight: u8,
        /// What it waited for.
        waiting: Waiting,
    },
}

/// What an unfinished trial waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Waiting {
    /// More ticks of its step.
    Step,
    /// A person, as the step's time was over without a verdict.
    Inconclusive,
    /// Fresh scrapes.
    Sight,
    /// A person, for another reason.
    Person,
}

/// One stay in one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReplay {
    /// Its index in the plan.
    pub step: usize,
    /// Its weight in percent.
    pub weight: u8,
    /// When its weight was on the route.
    pub from: Timestamp,
    /// When it was left.
    pub until: Option<Timestamp>,
    /// The canary's judged calls in it, and its failures.
    pub canary: Tally,
    /// Stable's.
    pub stable: Tally,
    /// What the counts said at its end.
    pub verdict: Outcome,
    /// Whether it waited for a person or for sight.
    pub paused: bool,
    /// The deciding evidence at its end.
    pub sentence: String,
}

/// One tick.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TickReplay {
    /// Inclusive.
    pub end: Timestamp,
    /// The weight at its end, in percent.
    pub weight: u8,
    /// The canary's calls, and its failures.
    pub canary: Tally,
    /// Stable's.
    pub stable: Tally,
    /// Whether the analysis counted it: ticks in which the weight changed are left out.
    pub judged: bool,
    /// What the counts said after it.
    pub verdict: Outcome,
    /// Per metric, in the order of the plan; empty where nothing was judged.
    pub metrics: Vec<MetricTick>,
}

/// One metric in one tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricTick {
    /// Its name.
    pub metric: String,
    /// The canary's calls in the tick, and those that count against it.
    pub canary: Tally,
    /// Stable's.
    pub stable: Tally,
    /// How far the evidence has come towards a failure, in percent.
    pub towards_fail: u8,
    /// How far it has come towards passing the step, in percent.
    pub towards_pass: u8,
    /// Whether it is reported only.
    pub dry_run: bool,
}

/// Watches decisions, and tells them.
#[derive(Debug)]
pub(super) struct Teller {
    replay: Replay,
    /// Counted before the present step.
    before_step: Option<(Tally, Tally)>,
    /// What each metric had counted at the last look.
    last: Vec<(String, Tally, Tally)>,
    open: Option<StepReplay>,
    objectives: Vec<usize>,
}

impl Teller {
    /// `objectives` are the places of the latency objectives' bounds among the recording's.
    pub(super) fn new(began: Timestamp, objectives: Vec<usize>) -> Self {
        Self {
            objectives,
            replay: Replay {
                began,
                steps: Vec::new(),
                ticks: Vec::new(),
                end: End::Open {
                    weight: 0,
                    waiting: Waiting::Step,
                },
                served: Counts::default(),
                failure_codes: Vec::new(),
                short_ticks: 0,
            },
            before_step: None,
            last: Vec::new(),
            open: None,
        }
    }

    /// A tick whose calls were answered.
    pub(super) fn served(&mut self, end: Timestamp, weight: Weight, divided: &Divided) {
        if end <= self.replay.began {
            return;
        }
        self.replay.served.add(&at_bounds(&divided.served, &self.objectives));
        self.replay.short_ticks += usize::from(divided.short);
        let calls = |arm: &crate::analysis::ArmSample| Tally::new(arm.counts.failures, arm.counts.requests);
        self.replay.ticks.push(TickReplay {
            end,
            weight: weight.percent(),
            canary: calls(&divided.canary),
            stable: calls(&divided.stable),
            judged: false,
            verdict: Outcome::Inconclusive,
            metrics: Vec::new(),
        });
    }

    /// A decision: the state before and after it, and the ticks that it saw.
    pub(super) fn decided(&mut self, plan: &Plan, before: &State, after: &State, ticks: &[Tick], now: Timestamp) {
        if let Some(analysis) = absorbed(plan, &before.phase, ticks) {
            self.looked(&analysis, before, ticks);
        }
        let stays = self.open.as_ref().is_some_and(|open| match &after.phase {
            Phase::Progressing(p) => p.step == open.step && p.weight_at == Some(open.from),
            Phase::Paused(p) => p.step == open.step,
            _ => false,
        });
        if !stays {
            self.close(now);
        }
        match &after.phase {
            Phase::Progressing(Progressing {
                run,
                step,
                weight_at: Some(from),
                ..
            }) if self.open.is_none() => self.enter(plan, &run.analysis, *step, *from),
            Phase::Paused(Paused { reason, .. }) => {
                if let Some(open) = &mut self.open {
                    open.paused |= *reason != PauseReason::Approval;
                }
            }
            _ => {}
        }
        if let Some(run) = after.phase.run() {
            self.replay.failure_codes = run.analysis.failure_codes().to_vec();
        }
        self.replay.end = end(plan, before, after, now);
    }

    pub(super) fn finish(mut self) -> Replay {
        self.replay.steps.extend(self.open.take());
        self.replay
    }

    fn enter(&mut self, plan: &Plan, analysis: &Analysis, step: usize, from: Timestamp) {
        let verdict = analysis.verdict();
        self.before_step = all_calls(&verdict);
        self.open = Some(StepReplay {
            step,
            weight: plan.step(step).weight.percent(),
            from,
            until: None,
            canary: Tally::default(),
            stable: Tally::default(),
            verdict: verdict.outcome,
            paused: false,
            sentence: String::new(),
        });
    }

    fn close(&mut self, now: Timestamp) {
        if let Some(mut open) = self.open.take() {
            open.until = Some(now);
            self.replay.steps.push(open);
        }
    }

    fn looked(&mut self, analysis: &Analysis, before: &State, ticks: &[Tick]) {
        let verdict = analysis.verdict();
        let judged = before.phase.run().is_some_and(|run| run.analysis != *analysis);
        if let Some(open) = &mut self.open {
            open.verdict = verdict.outcome;
            if let Some(deciding) = deciding(&verdict) {
                open.sentence.clone_from(&deciding.sentence);
            }
            if let (Some(all), Some(before)) = (all_calls(&verdict), self.before_step) {
                open.canary = less(all.0, before.0);
                open.stable = less(all.1, before.1);
            }
        }
        if ticks.is_empty() {
            return;
        }
        let mut metrics: Vec<MetricTick> = verdict.evidence.iter().map(|of| self.metric(of)).collect();
        // The deciding one comes first in a verdict; here each keeps its place.
        metrics.sort_by_key(|metric| plan_order(&metric.metric));
        self.last = verdict
            .evidence
            .iter()
            .map(|of| (of.metric.clone(), Tally::new(of.bad, of.total), of.other))
            .collect();
        if let Some(tick) = self.replay.ticks.last_mut() {
            tick.judged = judged;
            tick.verdict = verdict.outcome;
            tick.metrics = metrics;
        }
    }

    fn metric(&self, of: &Evidence) -> MetricTick {
        let last = self.last.iter().find(|(metric, ..)| *metric == of.metric);
        let (canary, stable) = last.map_or_else(Default::default, |(_, canary, stable)| (*canary, *stable));
        MetricTick {
            metric: of.metric.clone(),
            canary: less(Tally::new(of.bad, of.total), canary),
            stable: less(of.other, stable),
            towards_fail: of.towards_fail,
            towards_pass: of.towards_pass,
            dry_run: of.dry_run,
        }
    }
}

/// What the verdict hangs on: where nothing is proven, the metric that has come least far towards passing.
fn deciding(verdict: &Verdict) -> Option<&Evidence> {
    let judged = verdict.evidence.iter().filter(|of| !of.dry_run);
    match verdict.outcome {
        Outcome::Inconclusive => judged.min_by_key(|of| of.towards_pass),
        Outcome::Pass | Outcome::Fail | Outcome::Hold => verdict.evidence.first(),
    }
}

/// The success rate first, the others by name.
fn plan_order(metric: &str) -> (bool, String) {
    (metric != ALL_CALLS, metric.to_owned())
}

/// The analysis as a decision finds it after the ticks; `None` where nothing is judged.
fn absorbed(plan: &Plan, phase: &Phase, ticks: &[Tick]) -> Option<Analysis> {
    let (run, since) = match phase {
        Phase::Progressing(p) => (&p.run, p.counts_from(plan, p.weight_at?)),
        Phase::Paused(p) => (&p.run, p.since),
        _ => return None,
    };
    let mut run = run.clone();
    run.absorb(ticks, since);
    Some(run.analysis)
}

fn end(plan: &Plan, before: &State, after: &State, now: Timestamp) -> End {
    match &after.phase {
        Phase::RollingBack(RollingBack { reason, .. }) => End::RolledBack {
            at: now,
            weight: weight(plan, &before.phase),
            metric: match reason {
                RollbackReason::Failed(evidence) => Some(evidence.metric.clone()),
                _ => None,
            },
            reason: reason.to_string(),
        },
        Phase::Promoting(_) => End::Promoted { at: now },
        phase => End::Open {
            weight: weight(plan, phase),
            waiting: match phase {
                Phase::Paused(Paused { reason, .. }) => match reason {
                    PauseReason::Inconclusive => Waiting::Inconclusive,
                    PauseReason::Blind => Waiting::Sight,
                    PauseReason::Operator
                    | PauseReason::Approval
                    | PauseReason::StableChanged
                    | PauseReason::MetricUnusable
                    | PauseReason::SpecRefused
                    | PauseReason::TrafficNotFollowing
                    | PauseReason::Hook
                    | PauseReason::PodsLost
                    | PauseReason::WeightContested => Waiting::Person,
                },
                _ => Waiting::Step,
            },
        },
    }
}

fn weight(plan: &Plan, phase: &Phase) -> u8 {
    match phase {
        Phase::Progressing(p) => plan.step(p.step).weight.percent(),
        Phase::Paused(p) => p.weight.percent(),
        _ => 0,
    }
}

fn all_calls(verdict: &Verdict) -> Option<(Tally, Tally)> {
    let of = verdict.evidence.iter().find(|of| of.metric == ALL_CALLS)?;
    Some((Tally::new(of.bad, of.total), of.other))
}

fn less(all: Tally, before: Tally) -> Tally {
    Tally::new(
        all.bad.saturating_sub(before.bad),
        all.total.saturating_sub(before.total),
    )
}
