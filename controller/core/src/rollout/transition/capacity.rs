//! The weight follows the canary's ready pods: what they can't carry goes to stable before it meets too few of them. It must not know
//! verdicts, nor when a weight may rise again.

use super::Context;
use crate::Weight;
use crate::rollout::effect::{Effect, NoteKind};
use crate::rollout::plan::Capacity;
use crate::rollout::state::{Lowered, Phase, Run};

impl Context<'_> {
    pub(super) fn scale(&mut self, replicas: i32) {
        if self.plan.capacity != Capacity::External && self.obs.canary.desired != replicas {
            self.effects.push(Effect::ScaleCanary(replicas));
        }
    }

    /// Sees that the canary has the pods for a weight; never scales it down. Says whether they are ready.
    pub(super) fn capacity_for(&mut self, weight: Weight) -> bool {
        let need = self.plan.replicas_for(weight, self.obs.stable.desired);
        if self.obs.canary.desired < need {
            self.scale(need);
        }
        self.obs.canary.ready >= need
    }

    /// As [`Self::capacity_for`], where nothing waits for it: stable may have grown since, or somebody scaled the canary.
    pub(super) fn keep_capacity(&mut self, run: &Run, weight: Weight) {
        if !weight.is_zero() && self.obs.canary.revision.as_ref() == Some(&run.revision) {
            self.capacity_for(weight);
        }
    }

    /// Whether the ready pods carry this weight.
    pub(super) fn carries(&self, run: &Run, weight: Weight) -> bool {
        let ready = self.pods_of(run);
        ready.is_some_and(|ready| self.carried(run, ready) >= weight)
    }

    /// What so many pods can carry: beside as many of stable's as there were when they were enough.
    fn carried(&self, run: &Run, ready: i32) -> Weight {
        let stable = &self.obs.stable;
        let beside = run.footing.beside.map_or(stable.desired, |n| n.min(stable.desired));
        // Where stable lacks pods as well, each arm has what its own can bear.
        let shared = Weight::share_of(ready, ready.saturating_add(stable.ready_any));
        self.plan.carried_by(ready, beside).max(shared)
    }

    /// What this weight has to be lowered to, as pods were lost. A pod that restarts for a moment changes nothing; with none
    /// left there is nothing to wait for.
    pub(super) fn lost(&mut self, run: &mut Run, weight: Weight) -> Option<Weight> {
        let ready = self.pods_of(run)?;
        let stable = self.obs.stable.desired;
        if !weight.is_zero() && self.plan.carried_by(ready, stable) >= weight {
            run.footing.beside = Some(stable);
        }
        let carried = self.carried(run, ready);
        if carried >= weight {
            run.footing.short_since = None;
            return None;
        }
        let since = *run.footing.short_since.get_or_insert(self.now);
        let interval = self.plan.interval;
        if !carried.is_zero() && !self.elapsed(since, interval) {
            return None;
        }
        run.footing.short_since = None;
        Some(carried)
    }

    /// Remembers what the weight is lowered to, and tells it.
    pub(super) fn note_lost(&mut self, run: &mut Run, from: Weight, to: Weight) {
        run.footing.lowered = Some(Lowered { to, at: self.now });
        // What came at another weight says nothing of this one.
        run.following.begin_step();
        let message = format!(
            "{} has {} ready pods, too few for {from}: its weight goes to {to}",
            run.revision,
            self.pods_of(run).unwrap_or_default()
        );
        self.note(NoteKind::Warning, "PodsLost", message);
    }

    /// The ready pods of what is on trial; `None` while the Deployment controller has not caught up.
    fn pods_of(&self, run: &Run) -> Option<i32> {
        let canary = &self.obs.canary;
        let present = canary.revision.as_ref()?;
        Some(if *present == run.revision {
            canary.ready
        } else {
            // A newer revision waits for the end of this promotion, and its pods get no traffic.
            canary.ready_any.saturating_sub(canary.ready)
        })
    }
}

/// While all traffic is on the canary, or on its way back: it stands on an arm with ready pods. Nothing rises again here, as
/// stable takes the revision up anyway.
pub(super) fn while_promoting(cx: &mut Context<'_>, phase: &mut Phase) {
    let Phase::Promoting(p) = phase else { return };
    let wanted = cx.effects.iter().find_map(|effect| match effect {
        Effect::SetWeight(weight) => Some(*weight),
        _ => None,
    });
    let live = cx.live();
    let weight = wanted.map_or(live, |wanted| wanted.min(live));
    if let Some(to) = cx.lost(&mut p.run, weight) {
        cx.note_lost(&mut p.run, live, to);
        cx.first(to);
    }
}
