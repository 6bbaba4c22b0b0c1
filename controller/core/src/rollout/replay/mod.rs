//! A rollout replayed over a stretch of the past: the production state machine, tick by tick, in a world that obeys at once.
//!
//! It must not know where the counts came from, nor how a replay is printed.
//!
//! # Assumptions
//! - The canary's pods are ready and every weight is on the route in the instant that it is wanted.
//! - A person gives each approval at once, and no other command.
//! - A tick is known `settle` after its end (one scrape), and is looked at then, as the controller does.
//! - A trial ends with the promotion commit, or with the canary's traffic gone.
//! - A metric of the user's own could be read in every tick, as the recording has it.
//!
//! # Guarantees
//! The same recording, plan and division give the same replay.

mod peers;
mod recording;
mod story;
mod traffic;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

use self::recording::OwnPlaces;
use self::story::Teller;
use self::traffic::{Divided, Divider, Weights};
use super::effect::{Decision, Effect};
use super::hooks::{HookView, Occasion};
use super::observation::{Answer, Arm, Command, GitView, LiveWeight, Observation, Sampling, Verb};
use super::plan::Plan;
use super::state::{Baseline, PauseReason, Paused, Phase, Preflight, Revision, Run, Starting, State};
use super::transition::transition;
use crate::Weight;
use crate::analysis::{ArmSample, CustomTick, Sent, Sides, Streams, Tick};

pub use peers::{Peer, PeerEnd, PeerReplay};
pub use recording::{
    Asked, PodRecord, PodRecords, RecordedMetric, RecordedTick, Recording, RecordingDraft, RecordingError,
};
pub use story::{End, MetricTick, Replay, StepReplay, TickReplay, Waiting};
pub use traffic::Division;

/// More decisions than this between two ticks would be a machine that does not settle.
const MOST_DECISIONS: usize = 64;

/// Scrapes until a new pod is surely found and scraped.
const LATE_SCRAPES: i32 = 3;

/// How a stretch is replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules<'a> {
    /// What the rollout is to do.
    pub plan: &'a Plan,
    /// How far back stable is looked at before the trial.
    pub baseline: SignedDuration,
    /// How long after its end a tick is known: one scrape.
    pub settle: SignedDuration,
    /// How the recorded calls go to the arms.
    pub division: Division,
}

/// Why a stretch can't be replayed by a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Ticks of another length than the plan's.
    #[error("the recorded ticks are {recorded:#} long, and spec.analysis.interval is {wanted:#}")]
    Interval {
        /// Of the recording.
        recorded: SignedDuration,
        /// Of the plan.
        wanted: SignedDuration,
    },
    /// Calls slower than an objective's bound were not counted.
    #[error("calls slower than {bound_ms}ms, which spec.analysis.latency asks for, were not counted")]
    Bound {
        /// The bound.
        bound_ms: u64,
    },
    /// A metric of the user's own was not recorded, or by other queries.
    #[error("spec.analysis.metrics: {name} was not recorded with these queries")]
    Metric {
        /// Its name.
        name: String,
    },
    /// Nothing to judge.
    #[error("the canary answered no call from {from} to {to}")]
    NoCalls {
        /// The stretch's begin.
        from: Timestamp,
        /// Its end.
        to: Timestamp,
    },
    /// It did not come to rest between two ticks.
    #[error("the state machine did not settle at {at}; this is an error in Serin, please report it with the recording")]
    Unsettled {
        /// When.
        at: Timestamp,
    },
}

/// Replays a stretch.
///
/// With recorded calls the first weight is taken to have been written when the recording begins, if the canary's first counted call
/// can be of then; else it is estimated from how many calls its first tick has beside the next one.
///
/// # Errors
/// A recording that does not fit to the plan.
pub fn replay(recording: &Recording, rules: &Rules<'_>) -> Result<Replay, ReplayError> {
    let begin = begin(recording, rules)?;
    let mut world = World::new(recording, rules, begin);
    while let Some(now) = world.next() {
        world.settle(now)?;
    }
    Ok(world.teller.finish())
}

/// Replays a peer's rule over the same stretch: the plan's weights, each for its hold.
///
/// # Errors
/// A recording that does not fit to the plan.
pub fn replay_peer(recording: &Recording, rules: &Rules<'_>, peer: Peer) -> Result<PeerReplay, ReplayError> {
    let begin = begin(recording, rules)?;
    Ok(peers::run(recording, rules, begin, peer))
}

/// When the first weight is written.
fn begin(recording: &Recording, rules: &Rules<'_>) -> Result<Timestamp, ReplayError> {
    let draft = recording.draft();
    if draft.interval != rules.plan.interval {
        return Err(ReplayError::Interval {
            recorded: draft.interval,
            wanted: rules.plan.interval,
        });
    }
    if let Some(bound_ms) = rules.plan.objectives.bounds_ms().find(|b| !draft.bounds_ms.contains(b)) {
        return Err(ReplayError::Bound { bound_ms });
    }
    if let Some(metric) = rules
        .plan
        .objectives
        .custom
        .iter()
        .find(|metric| !recording.has(metric))
    {
        return Err(ReplayError::Metric {
            name: metric.name.clone(),
        });
    }
    let answers = |end: &Timestamp| recording.tick(*end).is_some_and(|tick| calls(&tick.canary) > 0);
    let Some(first) = recording.ends().find(answers) else {
        return Err(ReplayError::NoCalls {
            from: draft.from,
            to: draft.to,
        });
    };
    // A new pod is scraped for the first time up to some scrapes after its first call.
    let late = rules.settle.saturating_mul(LATE_SCRAPES);
    let earliest = recording.start(first).checked_sub(late).unwrap_or(first);
    let at_once = rules.division != Division::Recorded || earliest < draft.from;
    Ok(if at_once {
        draft.from
    } else {
        estimated(recording, rules, first).clamp(draft.from, first)
    })
}

/// When the first weight was written, by how many calls the canary's first tick has beside the next one: half a scrape passes until
/// a call is counted. Without a next one it is the middle of the tick.
fn estimated(recording: &Recording, rules: &Rules<'_>, first: Timestamp) -> Timestamp {
    let of = |end: Option<Timestamp>| {
        let tick = end.and_then(|end| recording.tick(end));
        tick.map_or(0, |tick| u128::from(calls(&tick.canary)))
    };
    let interval = recording.draft().interval;
    let length = u128::from(recording.length().unsigned_abs());
    let whole = of(first.checked_add(interval).ok());
    let late = rules.settle.as_millis().unsigned_abs() / 2;
    let part = (length * of(Some(first))).checked_div(whole);
    // No call is older than one scrape before the tick.
    let before_end = part.map_or(length / 2, |part| (part + late).min(length + 2 * late));
    let span = SignedDuration::from_millis(i64::try_from(before_end).unwrap_or(i64::MAX));
    first.checked_sub(span).unwrap_or(first)
}

fn calls(pods: &PodRecords) -> u64 {
    pods.values()
        .fold(0, |sum, pod| sum.saturating_add(pod.counts.requests))
}

/// The world that the state machine sees, and changes.
struct World<'a> {
    recording: &'a Recording,
    rules: &'a Rules<'a>,
    divider: Divider<'a>,
    ends: Vec<Timestamp>,
    /// How many of `ends` are known to the machine.
    known: usize,
    state: State,
    weights: Weights,
    wake: Option<Timestamp>,
    baseline: crate::analysis::Baseline,
    own: OwnPlaces,
    teller: Teller,
    over: bool,
}

impl<'a> World<'a> {
    fn new(recording: &'a Recording, rules: &'a Rules<'a>, begin: Timestamp) -> Self {
        let revision = revision("canary");
        let codes = rules.plan.objectives.failure_codes.all();
        let run = Run {
            began: recording.draft().from,
            ..Run::begin(revision.clone(), self::revision("stable"), None, rules.plan, begin)
        };
        let starting = Starting {
            run,
            preflight: Preflight::Passed,
            baseline: Baseline::Wanted,
            since: begin,
        };
        let own = recording.own_places(&rules.plan.objectives.custom);
        Self {
            recording,
            rules,
            divider: Divider::new(recording, rules.division),
            ends: recording.ends().collect(),
            known: 0,
            state: State {
                seen: Some(revision),
                phase: Phase::Starting(starting),
                ..State::default()
            },
            weights: vec![(begin, Weight::ZERO)],
            wake: Some(begin),
            baseline: recording.baseline(rules.baseline, rules.settle, codes, &own.counts),
            own,
            teller: Teller::new(begin, recording.places(rules.plan.objectives.bounds_ms())),
            over: false,
        }
    }

    /// The next time at which there is something to decide.
    fn next(&self) -> Option<Timestamp> {
        if self.over {
            return None;
        }
        let tick = self.ends.get(self.known).map(|end| self.due(*end));
        // Beyond the last tick nothing is known any more.
        let last = self.ends.last().map(|end| self.due(*end));
        let wake = self.wake.filter(|at| last.is_some_and(|last| *at <= last));
        [tick, wake].into_iter().flatten().min()
    }

    fn due(&self, end: Timestamp) -> Timestamp {
        end.checked_add(self.rules.settle).unwrap_or(Timestamp::MAX)
    }

    fn live(&self) -> Weight {
        self.weights.last().map_or(Weight::ZERO, |(_, weight)| *weight)
    }

    /// Decides until nothing changes any more at this time.
    fn settle(&mut self, now: Timestamp) -> Result<(), ReplayError> {
        let mut ticks = self.ticks(now);
        for _ in 0..MOST_DECISIONS {
            let observation = self.observe(std::mem::take(&mut ticks));
            let decision = transition(self.rules.plan, &self.state, &observation, now);
            let Decision {
                state,
                effects,
                message: _,
                wake,
            } = decision;
            let changed = self.obey(&effects, now);
            self.teller
                .decided(self.rules.plan, &self.state, &state, &observation.ticks, now);
            self.state = state;
            self.wake = wake.filter(|at| *at > now);
            if self.is_over() {
                self.over = true;
                self.last_calls(now);
                return Ok(());
            }
            if !changed && wake.is_none_or(|at| at > now) && self.command().is_none() {
                return Ok(());
            }
        }
        Err(ReplayError::Unsettled { at: now })
    }

    /// The ticks that became known, as the analysis asks for them.
    fn ticks(&mut self, now: Timestamp) -> Vec<Tick> {
        let mut ticks = Vec::new();
        let run = self.state.phase.run();
        let wanted = run.map(|run| run.analysis.bounds_ms()).unwrap_or_default();
        let codes = run.map(|run| run.analysis.failure_codes().to_vec()).unwrap_or_default();
        let places = self.recording.places(wanted);
        let at_bounds = |sample: ArmSample| ArmSample {
            counts: recording::at_bounds(&sample.counts, &places),
            ..sample
        };
        let since = self.state.phase.samples_since();
        while let Some(end) = self.ends.get(self.known).copied().filter(|end| self.due(*end) <= now) {
            self.known += 1;
            let divided = self.divider.tick(end, &self.weights, &codes);
            self.teller.served(end, self.live(), &divided);
            let start = self.recording.start(end);
            if since.is_some_and(|since| start >= since) {
                let custom = self.custom(end, &divided);
                ticks.push(Tick {
                    start,
                    end,
                    canary: at_bounds(divided.canary),
                    stable: at_bounds(divided.stable),
                    custom,
                    sent: Sent::default(),
                    open: Streams::default(),
                });
            }
        }
        ticks
    }

    /// The user's own metrics in a tick, in the order of the plan.
    fn custom(&self, end: Timestamp, divided: &Divided) -> CustomTick {
        let values = self.recording.tick(end).map_or(&[][..], |tick| &tick.values);
        let counts = self.own.counts.iter().map(|place| divided.own.get(*place).copied());
        let values = self.own.values.iter().map(|place| values.get(*place).copied());
        CustomTick {
            counts: counts.map(Option::unwrap_or_default).collect(),
            values: values.map(Option::unwrap_or_default).collect(),
            unusable: Vec::new(),
        }
    }

    /// The calls of the ticks that had begun when the trial ended.
    fn last_calls(&mut self, now: Timestamp) {
        while let Some(end) = self.ends.get(self.known).copied() {
            if self.recording.start(end) >= now {
                return;
            }
            self.known += 1;
            let run = self.state.phase.run();
            let codes = run.map(|run| run.analysis.failure_codes().to_vec()).unwrap_or_default();
            let divided = self.divider.tick(end, &self.weights, &codes);
            self.teller.served(end, self.live(), &divided);
        }
    }

    fn observe(&self, ticks: Vec<Tick>) -> Observation {
        let arm = |name: &str| Arm {
            revision: Some(revision(name)),
            desired: 1_000,
            ready: 1_000,
            ready_any: 1_000,
            settled: true,
        };
        Observation {
            autoscaler: None,
            // As many pods as any weight can need.
            stable: Arm {
                desired: 1,
                ..arm("stable")
            },
            canary: arm("canary"),
            weight: LiveWeight::At(self.live()),
            route_accepted: None,
            sides: Sides::default(),
            writer: None,
            causes: None,
            preflight: Some(Answer::Is(Vec::new())),
            pinned: Some(revision("canary").hash),
            ticks,
            sampling: Sampling::Answered,
            baseline: Some(Answer::Is(self.baseline.clone())),
            git: GitView::default(),
            hooks: self.hooks(),
            command: self.command(),
            deleted: false,
        }
    }

    /// Nobody knows what hooks would have said: they say yes.
    fn hooks(&self) -> Vec<(Occasion, HookView)> {
        let open = self.state.phase.open_hooks();
        open.map(|hook| (hook.occasion.clone(), HookView::Passed)).collect()
    }

    /// The approval that is waited for.
    fn command(&self) -> Option<Command> {
        match &self.state.phase {
            Phase::Paused(Paused {
                reason: PauseReason::Approval,
                since,
                ..
            }) => Some(Command {
                id: since.to_string(),
                verb: Verb::Approve,
                reason: String::new(),
                by: None,
            }),
            _ => None,
        }
    }

    /// Carries out what the replayed world knows of; says whether that changed anything.
    fn obey(&mut self, effects: &[Effect], now: Timestamp) -> bool {
        let mut changed = false;
        for effect in effects {
            if let Effect::SetWeight(weight) = effect
                && *weight != self.live()
            {
                self.weights.push((now, *weight));
                changed = true;
            }
        }
        changed
    }

    fn is_over(&self) -> bool {
        match &self.state.phase {
            Phase::Starting(_) | Phase::Progressing(_) | Phase::Paused(_) => false,
            Phase::Promoting(_)
            | Phase::RollingBack(_)
            | Phase::Idle(_)
            | Phase::Withdrawn(_)
            | Phase::Promoted(_)
            | Phase::RolledBack(_) => true,
        }
    }
}

fn revision(name: &str) -> Revision {
    Revision {
        name: name.to_owned(),
        hash: name.to_owned(),
    }
}
