//! The one decision: `transition(plan, state, observation, now)`. Each phase is a file of its own.
//!
//! Two rules hold for all of them. Traffic is taken away in the very decision that says so, before anything else. What
//! gives traffic, and what changes Git, is decided only in a later call, when the state that wants it has been written.

mod capacity;
mod command;
mod contest;
mod floor;
mod hooks;
mod leave;
mod promoting;
mod refused;
mod rest;
mod rise;
mod rolling_back;
mod traffic;
mod trial;
mod unanswered;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};

use super::effect::{Decision, Effect, Note, NoteKind};
use super::observation::{LiveWeight, Observation, Sampling, Verb};
use super::plan::{Capacity, MOST_PROMOTED, Plan};
use super::state::{
    CommandAnswer, Floor, Phase, Revision, RollbackGit, RollbackReason, RollingBack, Run, State, after,
};
use crate::Weight;
use crate::analysis::Outcome;

pub use refused::refused;

/// Decides what a rollout does next.
///
/// Pure: the same values give the same decision. Calling it again with the state that it returned and an unchanged
/// world gives the same effects or fewer.
pub fn transition(plan: &Plan, state: &State, observation: &Observation, now: Timestamp) -> Decision {
    if observation.deleted {
        let mut cx = Context::new(plan, state, observation, now);
        let phase = leave::leave(&mut cx, state.phase.clone());
        if !cx.live().is_zero() {
            floor::settle(&mut cx, &phase);
        }
        return cx.decide(phase);
    }
    // What was seen comes before what is said: a failure that a killed controller could not record, or a weight that somebody
    // lowered, is not talked over by a command that came in the same instant. It is answered by the next decision.
    let mut seen = Context::new(plan, state, observation, now);
    let phase = go_on(&mut seen, state.phase.clone());
    let halts = matches!(phase, Phase::RollingBack(_) | Phase::Paused(_)) && phase.name() != state.phase.name();
    let takes_away = seen.effects.first() == Some(&Effect::SetWeight(Weight::ZERO));
    if halts || takes_away || !is_heard(observation) {
        floor::settle(&mut seen, &phase);
        return seen.decide(phase);
    }
    let mut cx = Context::new(plan, state, observation, now);
    match command::obey(&mut cx, state.phase.clone()) {
        // What a command began is recorded before it goes on.
        (phase, command::Obeyed::Changed) => {
            cx.wake = Some(now);
            floor::settle(&mut cx, &phase);
            cx.decide(phase)
        }
        (phase, command::Obeyed::Unchanged) => {
            let phase = go_on(&mut cx, phase);
            floor::settle(&mut cx, &phase);
            cx.decide(phase)
        }
    }
}

/// Whether there is a command to obey now. Samples that are waited for may hold a failure, which comes before any word but one that takes
/// the traffic away itself.
fn is_heard(observation: &Observation) -> bool {
    let waits = observation.sampling == Sampling::Awaited;
    (observation.command.as_ref()).is_some_and(|command| !waits || command.verb == Verb::Abort)
}

fn go_on(cx: &mut Context<'_>, phase: Phase) -> Phase {
    if cx.obs.sampling == Sampling::Awaited {
        return unanswered::go_on(cx, phase);
    }
    match phase {
        Phase::Starting(starting) => trial::starting(cx, starting),
        Phase::Progressing(progressing) => trial::progressing(cx, progressing),
        Phase::Paused(paused) => trial::paused(cx, paused),
        Phase::Promoting(promoting) => promoting::promoting(cx, promoting),
        Phase::RollingBack(rolling_back) => rolling_back::rolling_back(cx, rolling_back),
        Phase::Idle(_) | Phase::Withdrawn(_) | Phase::Promoted(_) | Phase::RolledBack(_) => rest::rest(cx, phase),
    }
}

/// What one decision gathers.
struct Context<'a> {
    plan: &'a Plan,
    obs: &'a Observation,
    now: Timestamp,
    seen: Option<Revision>,
    quiet_since: Option<Timestamp>,
    routeless_since: Option<Timestamp>,
    last_command: Option<CommandAnswer>,
    floor: Option<Floor>,
    /// What stands in status already.
    recorded_floor: Option<Floor>,
    promoted: Vec<Revision>,
    effects: Vec<Effect>,
    message: String,
    wake: Option<Timestamp>,
}

impl<'a> Context<'a> {
    fn new(plan: &'a Plan, state: &State, obs: &'a Observation, now: Timestamp) -> Self {
        let State {
            seen,
            quiet_since,
            routeless_since,
            last_command,
            floor,
            promoted,
            phase: _,
        } = state;
        let quiet_since = obs.weight.canary().is_zero().then(|| quiet_since.unwrap_or(now));
        let routeless = obs.deleted && obs.weight == LiveWeight::Absent;
        let routeless_since = routeless.then(|| routeless_since.unwrap_or(now));
        Self {
            plan,
            obs,
            now,
            seen: seen.clone(),
            quiet_since,
            routeless_since,
            last_command: last_command.clone(),
            floor: floor.clone(),
            recorded_floor: floor.clone(),
            promoted: promoted.clone(),
            effects: Vec::new(),
            message: String::new(),
            wake: None,
        }
    }

    fn decide(self, phase: Phase) -> Decision {
        let Self {
            seen,
            quiet_since,
            routeless_since,
            last_command,
            floor,
            promoted,
            effects,
            message,
            wake,
            ..
        } = self;
        Decision {
            state: State {
                seen,
                quiet_since,
                routeless_since,
                last_command,
                floor,
                promoted,
                phase,
            },
            effects,
            message,
            wake,
        }
    }

    fn say(&mut self, message: impl Into<String>) {
        self.message = message.into();
    }

    fn note(&mut self, kind: NoteKind, reason: &'static str, message: impl Into<String>) {
        self.effects.push(Effect::Note(Note {
            kind,
            reason,
            message: message.into(),
        }));
    }

    fn wake_at(&mut self, at: Timestamp) {
        if at > self.now {
            self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
        }
    }

    /// Whether this much time has gone by since; if not, wakes when it has.
    fn elapsed(&mut self, since: Timestamp, span: SignedDuration) -> bool {
        let due = after(since, span);
        self.wake_at(due);
        self.now >= due
    }

    fn live(&self) -> Weight {
        self.obs.weight.canary()
    }

    /// Takes the canary's traffic away, before any other effect. Says whether it is gone already.
    fn take_away(&mut self) -> bool {
        if self.live().is_zero() {
            return true;
        }
        self.first(Weight::ZERO);
        false
    }

    /// Writes this weight before any other effect, and no other one.
    fn first(&mut self, weight: Weight) {
        self.effects.retain(|effect| !matches!(effect, Effect::SetWeight(_)));
        self.effects.insert(0, Effect::SetWeight(weight));
    }

    /// Scales the canary down once its calls in flight had their time. Says whether it is down.
    fn idle_canary(&mut self) -> bool {
        if self.plan.capacity == Capacity::External || self.obs.canary.desired == self.plan.idle_replicas {
            return true;
        }
        let Some(quiet_since) = self.quiet_since else {
            return false;
        };
        if self.elapsed(quiet_since, self.plan.drain) {
            self.scale(self.plan.idle_replicas);
        }
        false
    }

    /// Adds the observed ticks to the analysis; those at `weight_at` or later count.
    fn absorb(&self, run: &mut Run, weight_at: Timestamp) -> Outcome {
        run.absorb(&self.obs.ticks, weight_at)
    }

    /// Whether the judged arm has been out of sight for the blind deadline.
    fn is_blind(&mut self, run: &Run) -> bool {
        self.elapsed(run.fresh_at, self.plan.blind_deadline)
    }

    /// Whether stable still runs what it ran when the trial began, as far as can be told now.
    fn baseline_holds(&self, run: &Run) -> bool {
        self.obs
            .stable
            .revision
            .as_ref()
            .is_none_or(|stable| *stable == run.baseline)
    }

    /// Remembers what was promoted.
    fn remember(&mut self, revision: &Revision) {
        self.promoted.retain(|promoted| promoted != revision);
        self.promoted.insert(0, revision.clone());
        self.promoted.truncate(MOST_PROMOTED);
    }

    /// What is rolled back never returns without a canary, whatever carries its name.
    fn forget(&mut self, revision: &Revision) {
        self.promoted.retain(|promoted| promoted.name != revision.name);
    }

    /// Whether the very revision is among those that were promoted last, the name and what it stands for.
    fn returns(&self, revision: &Revision) -> bool {
        let mut lately = self.promoted.iter().take(self.plan.fast_return);
        lately.any(|promoted| promoted == revision)
    }

    /// Fails a revision whose promotion is not pushed: weight 0 now, everything else after it.
    fn roll_back(&mut self, run: Run, reason: RollbackReason) -> Phase {
        let gone = self.take_away();
        self.forget(&run.revision);
        self.say(format!("rolling {} back: {reason}", run.revision));
        self.note(
            NoteKind::Warning,
            "RollingBack",
            format!("{} is rolled back: {reason}", run.revision),
        );
        Phase::RollingBack(RollingBack {
            run,
            reason,
            since: self.now,
            traffic_at: gone.then_some(self.now),
            promoted: None,
            on_canary: false,
            own_fields_because: None,
            git: RollbackGit::Committing,
        })
    }
}

/// The deciding evidence of a failure.
fn failure(run: &Run, outcome: Outcome) -> Option<RollbackReason> {
    let failed = outcome == Outcome::Fail;
    let mut evidence = failed.then(|| run.analysis.verdict().evidence)?.into_iter();
    evidence.next().map(RollbackReason::Failed)
}
