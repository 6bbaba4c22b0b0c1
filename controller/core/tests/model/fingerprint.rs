//! When two worlds are the same: what no later step can tell apart is left out. Times count as ages up to the longest
//! duration of the plans, and an analysis as what it says now and how many more ticks change that.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use serin_core::analysis::Outcome;
use serin_core::rollout::{
    Decision, Effect, Ending, Footing, HookRun, HookView, LiveWeight, Observation, Paused, Phase, Plan, Preflight,
    Progressing, PromoteStage, Promoting, RollbackGit, RollbackReason, RollingBack, Run, Sampling, Starting, State,
};

use serin_core::rollout::state::Pushed;

use super::controller::{Acting, Process, Seen};
use super::prometheus::Kind;
use super::world::{OLD, World, age};

pub(crate) type Fingerprint = u64;

pub(crate) fn of(world: &World) -> Fingerprint {
    let World {
        now,
        status,
        // What it says is checked where a rollout rests; that there is something is all that matters.
        message,
        weight,
        pinned,
        stable,
        canary,
        command,
        deleted,
        released,
        ticks,
        git,
        jobs,
        desk,
        hooks,
        process,
        budget,
        witness,
    } = world;
    let mut h = Prints {
        now: *now,
        hasher: DefaultHasher::new(),
    };
    h.state(status, status.worth);
    h.put(message.is_empty());
    h.put(match weight {
        serin_core::rollout::LiveWeight::Absent => None,
        serin_core::rollout::LiveWeight::At(weight) => Some(weight.percent()),
    });
    h.put((pinned, stable, canary, deleted, released, budget, witness));
    h.put(command.map(|(id, verb)| (id, verb.name())));
    // Only what a decision on this state would read; and the newest, which says whether the canary is in sight.
    let unread = world.unread().min(ticks.len());
    h.put(ticks.get(ticks.len() - unread..));
    h.put(ticks.last().map(|(kind, _)| kind));
    h.put((git, jobs, desk, hooks));
    match process {
        Process::Idle => h.put(0),
        Process::Acting(acting) => h.acting(acting),
        Process::HeldUp(seen) => {
            h.put(2);
            h.seen(seen);
        }
    }
    h.hasher.finish()
}

struct Prints {
    now: i64,
    hasher: DefaultHasher,
}

impl Prints {
    fn put(&mut self, value: impl Hash) {
        value.hash(&mut self.hasher);
    }

    fn time(&mut self, at: Timestamp) {
        let age = age(self.now, at);
        self.put(age);
    }

    fn time_if(&mut self, at: Option<Timestamp>) {
        let age = at.map(|at| age(self.now, at));
        self.put(age);
    }

    fn pushed(&mut self, pushed: Option<&Pushed>) {
        self.put(pushed.map(|p| p.id.as_str()));
    }

    fn acting(&mut self, acting: &Acting) {
        let Acting {
            decision:
                Decision {
                    state,
                    effects,
                    message: _,
                    wake: _,
                },
            worth,
            next,
            seen,
            asked,
        } = acting;
        self.put(1);
        for effect in effects.get(*next..).unwrap_or_default() {
            self.effect(effect);
        }
        self.put(asked);
        self.state(state, *worth);
        self.seen(seen);
    }

    fn effect(&mut self, effect: &Effect) {
        std::mem::discriminant(effect).hash(&mut self.hasher);
        match effect {
            Effect::SetWeight(weight) => self.put(weight),
            Effect::EnsureObjects { pin } => self.put(pin),
            Effect::ScaleCanary(replicas) => self.put(replicas),
            Effect::AskBaseline(revision)
            | Effect::AskOrigin(revision)
            | Effect::AskPreflight(revision)
            | Effect::AskCauses(revision) => self.put(revision),
            Effect::CommitRollback {
                revision,
                baseline,
                commit,
                promoted,
                reason: _,
            } => {
                self.put((revision, baseline, commit.as_ref().map(|c| &c.id)));
                self.pushed(promoted.as_ref());
            }
            Effect::CommitPromotion {
                revision,
                baseline,
                commit,
            } => self.put((revision, baseline, commit.as_ref().map(|c| &c.id))),
            Effect::RunHook(occasion) => self.put(occasion),
            Effect::Refresh | Effect::Note(_) | Effect::RemoveRoute | Effect::Release | Effect::SetMinimum { .. } => {}
        }
    }

    fn seen(&mut self, seen: &Seen) {
        let Seen {
            state,
            desk,
            observation,
            rollout_changed,
            route_changed,
        } = seen;
        self.put((rollout_changed, route_changed, desk));
        self.state(state, state.worth);
        let Observation {
            stable,
            canary,
            weight,
            // These six are always the same here.
            autoscaler: _,
            route_accepted: _,
            sides: _,
            writer: _,
            causes: _,
            preflight: _,
            pinned,
            ticks,
            sampling,
            baseline,
            // It comes from the desk.
            git: _,
            hooks,
            command,
            deleted,
        } = observation;
        for arm in [stable, canary] {
            self.put((&arm.revision, arm.desired, arm.ready, arm.ready_any, arm.settled));
        }
        self.put((
            *weight == LiveWeight::Absent,
            weight.canary(),
            pinned,
            deleted,
            baseline.is_some(),
        ));
        self.put(command.as_ref().map(|c| (&c.id, c.verb.name())));
        for (about, view) in hooks {
            self.put((about, *view == HookView::Passed));
        }
        self.put(*sampling == Sampling::Awaited);
        for tick in ticks {
            self.time(tick.end);
            self.put((
                tick.canary.counts.requests,
                tick.canary.counts.failures,
                tick.canary.sight as u8,
            ));
            self.put((tick.stable.counts.requests, tick.stable.counts.failures));
        }
    }

    fn state(&mut self, state: &State, worth: Worth) {
        self.put(worth);
        let State {
            seen,
            quiet_since,
            routeless_since,
            last_command,
            // Nothing scales stable here.
            floor: _,
            // The plans allow no return without a canary.
            promoted: _,
            phase,
        } = state;
        self.put(seen);
        self.time_if(*quiet_since);
        self.time_if(*routeless_since);
        self.put(last_command.as_ref().map(|c| (&c.id, c.accepted)));
        self.put(phase.name());
        match phase {
            Phase::Idle(note) => self.put(*note as u8),
            Phase::Starting(Starting {
                run,
                preflight,
                baseline,
                since,
            }) => {
                self.run(run);
                self.put(*preflight == Preflight::Passed);
                self.put(*baseline as u8);
                self.time(*since);
            }
            Phase::Progressing(Progressing {
                run,
                step,
                since,
                from,
                weight_at,
            }) => {
                self.run(run);
                self.put((step, from));
                self.time(*since);
                self.time_if(*weight_at);
            }
            Phase::Paused(Paused {
                run,
                step,
                reason,
                weight,
                since,
            }) => {
                self.run(run);
                self.put((step, *reason as u8, weight));
                self.time(*since);
            }
            Phase::Promoting(Promoting {
                run,
                stage,
                since,
                commit,
                way: _,
            }) => {
                self.run(run);
                self.time(*since);
                self.pushed(commit.as_ref());
                match stage {
                    PromoteStage::Committing => self.put(0),
                    PromoteStage::Applying => self.put(1),
                    PromoteStage::Returning { share, weight_at } => {
                        self.put((2, share));
                        self.time_if(*weight_at);
                    }
                    PromoteStage::Draining => self.put(3),
                }
            }
            Phase::RollingBack(rolling_back) => self.rolling_back(rolling_back),
            Phase::Withdrawn(ending) | Phase::Promoted(ending) | Phase::RolledBack(ending) => {
                let Ending {
                    revision,
                    commit: _,
                    began: _,
                    at: _,
                    answer,
                    reason: _,
                    traffic_at: _,
                    hooks,
                } = ending;
                self.hooks(hooks);
                self.put(revision);
                self.pushed(answer.as_ref());
            }
        }
    }

    fn rolling_back(&mut self, rolling_back: &RollingBack) {
        let RollingBack {
            run,
            reason,
            since: _,
            traffic_at,
            promoted,
            on_canary,
            own_fields_because: _,
            git,
        } = rolling_back;
        self.hooks(&run.hooks);
        self.put((&run.revision, &run.baseline, run.commit.as_ref().map(|c| &c.id)));
        std::mem::discriminant(reason).hash(&mut self.hasher);
        if let RollbackReason::Failed(evidence) = reason {
            self.put(evidence.arm as u8);
        }
        self.put((traffic_at.is_some(), on_canary));
        self.pushed(promoted.as_ref());
        match git {
            RollbackGit::Committing => self.put(0),
            RollbackGit::Applying(pushed) => self.pushed(Some(pushed)),
            RollbackGit::AtRest => self.put(2),
        }
    }

    fn hooks(&mut self, hooks: &[HookRun]) {
        for HookRun {
            occasion,
            since,
            answer,
        } in hooks
        {
            self.put((occasion, answer.as_ref().map(std::mem::discriminant)));
            // It matters only while it is waited for.
            self.time_if(answer.is_none().then_some(*since));
        }
    }

    fn run(&mut self, run: &Run) {
        let Run {
            revision,
            baseline,
            commit,
            began: _,
            as_of,
            fresh_at,
            // See [`worth`].
            analysis: _,
            // Calls follow the weight here.
            following: _,
            footing:
                Footing {
                    beside,
                    short_since,
                    lowered,
                    times,
                },
            contest,
            hooks,
        } = run;
        self.put((beside, lowered.map(|lowered| lowered.to), times));
        self.time_if(*short_since);
        self.time_if(lowered.map(|lowered| lowered.at));
        self.hooks(hooks);
        self.put(contest.as_ref().map(|contest| format!("{contest:?}")));
        self.put((revision, baseline, commit.as_ref().map(|c| &c.id)));
        self.time(*as_of);
        self.time(*fresh_at);
    }
}

/// What an analysis says, and how near it is to say something else.
pub(crate) type Worth = Option<(u8, u8, bool, bool, u8, u8)>;

/// What the analysis of a state is worth, as long as anything is decided on it.
pub(crate) fn worth(plan: &Plan, state: &State) -> Worth {
    let analysis = match &state.phase {
        Phase::RollingBack(_) => return None,
        phase => &phase.run()?.analysis,
    };
    let verdict = analysis.verdict();
    let until = |outcome: Outcome, kind: Kind, most: u8| {
        let mut next = analysis.clone();
        (1..=most)
            .find(|_| next.observe(&kind.tick(analysis.judged, 50, 0)) == outcome)
            .unwrap_or(u8::MAX)
    };
    let (to_fail, to_pass) = match verdict.outcome {
        Outcome::Fail => (0, 0),
        _ => (until(Outcome::Fail, Kind::Bad, 3), until(Outcome::Pass, Kind::Good, 2)),
    };
    Some((
        analysis.judged as u8,
        verdict.outcome as u8,
        verdict.suspect,
        analysis.step_requests() >= plan.min_requests,
        to_fail,
        to_pass,
    ))
}

const _: () = assert!(
    OLD > 2,
    "an age of the longest duration is told apart from a shorter one"
);
