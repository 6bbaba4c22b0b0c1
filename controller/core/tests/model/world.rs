//! The world around one rollout, as small as it can be and still go wrong in every way: the API server, Argo CD and the
//! Deployment controller, Prometheus, Git, people, and the controller's own process. Values only; what may happen next is
//! the business of [`super::actions`].

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serin_core::Weight;
use serin_core::rollout::{
    Arm, Command, HookView, LiveWeight, Occasion, Phase, Plan, Revision, RollbackGit, State, Verb,
};

use super::controller::Process;
use super::fingerprint::Worth;
use super::git::{Desk, Git, Job};
use super::prometheus::Kind;
use super::properties::Witness;

/// What an arm can run: 0 is what stable ran at first, 1 and 2 come as canaries, and one is a hotfix of stable.
pub(crate) type Rev = u8;
pub(crate) const FIRST: Rev = 0;
pub(crate) const HOTFIX: Rev = 9;

/// The length of a tick; every duration of the plans is a small multiple of it.
pub(crate) const UNIT: SignedDuration = SignedDuration::from_secs(10);
/// Ages beyond this are all the same: no duration of the plans is longer than two units.
pub(crate) const OLD: i64 = 3;

/// The time after so many units.
pub(crate) fn at(units: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + 10 * units).unwrap()
}

/// How many units ago this was, as far as that makes a difference.
pub(crate) fn age(now: i64, then: Timestamp) -> i64 {
    let seconds = at(now).as_second() - then.as_second();
    (seconds / 10).clamp(-1, OLD)
}

pub(crate) fn percent(percent: i64) -> Weight {
    Weight::try_from(percent).unwrap()
}

/// The two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Stable,
    Canary,
}

impl Side {
    /// The revision as this arm's pod template carries it.
    pub(crate) fn revision(self, rev: Rev) -> Revision {
        let arm = match self {
            Self::Stable => 's',
            Self::Canary => 'c',
        };
        Revision {
            name: format!("r{rev}"),
            hash: format!("{arm}{rev}"),
        }
    }
}

/// Which revision of the model this is.
pub(crate) fn rev_of(revision: &Revision) -> Rev {
    revision.name.trim_start_matches('r').parse().unwrap()
}

/// One Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Deployed {
    pub(crate) rev: Rev,
    /// The Deployment controller has not taken up the template yet.
    pub(crate) behind: bool,
    pub(crate) desired: i32,
    /// Ready pods of `rev`.
    pub(crate) ready: i32,
    /// Ready pods of any revision.
    pub(crate) ready_any: i32,
}

impl Deployed {
    pub(crate) fn seen(&self, side: Side) -> Arm {
        Arm {
            revision: (!self.behind).then(|| side.revision(self.rev)),
            desired: self.desired,
            ready: if self.behind { 0 } else { self.ready },
            ready_any: self.ready_any,
            settled: self.is_settled(),
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        !self.behind && self.ready == self.desired && self.ready_any == self.desired
    }
}

/// What stands in status, and what its analysis is worth.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) state: State,
    pub(crate) worth: Worth,
}

impl Recorded {
    pub(crate) fn new(state: State, worth: Worth) -> Arc<Self> {
        Arc::new(Self { state, worth })
    }
}

impl std::ops::Deref for Recorded {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

/// How much may still go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Crashes, lost replies, refusals, conflicts, stale looks, dead pods, foreign weights: each time one of any.
    pub(crate) faults: u8,
    /// Commands, commits and deletions: each time one of any.
    pub(crate) people: u8,
}

/// Everything, at one instant.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) now: i64,
    /// The API server: the rollout's status, its route, what its canary Service selects, the Deployments.
    pub(crate) status: Arc<Recorded>,
    pub(crate) message: Arc<str>,
    pub(crate) weight: LiveWeight,
    pub(crate) pinned: Option<Rev>,
    pub(crate) stable: Deployed,
    pub(crate) canary: Deployed,
    pub(crate) command: Option<(u8, Verb)>,
    pub(crate) deleted: bool,
    pub(crate) released: bool,
    /// Prometheus: what the last ticks showed, and at which weight; the newest last.
    pub(crate) ticks: Vec<(Kind, u8)>,
    pub(crate) git: Git,
    /// Questions to Git that are under way, also those of a process that is dead.
    pub(crate) jobs: Vec<Job>,
    pub(crate) desk: Desk,
    /// What hooks have answered and is not recorded yet.
    pub(crate) hooks: Vec<(Occasion, bool)>,
    pub(crate) process: Process,
    pub(crate) budget: Budget,
    pub(crate) witness: Witness,
}

impl World {
    /// Both arms run what stable runs; the first canary revision was just committed.
    pub(crate) fn new(budget: Budget) -> Self {
        let arm = |replicas| Deployed {
            rev: FIRST,
            behind: false,
            desired: replicas,
            ready: replicas,
            ready_any: replicas,
        };
        let status = State {
            seen: Some(Side::Canary.revision(FIRST)),
            ..State::default()
        };
        let mut git = Git::new();
        git.commit_canary(1);
        Self {
            now: 0,
            status: Recorded::new(status, None),
            message: "".into(),
            weight: LiveWeight::Absent,
            pinned: None,
            stable: arm(2),
            canary: arm(0),
            command: None,
            deleted: false,
            released: false,
            ticks: vec![],
            git,
            jobs: vec![],
            desk: Desk::default(),
            hooks: vec![],
            process: Process::Idle,
            budget,
            witness: Witness::default(),
        }
    }

    pub(crate) fn live(&self) -> Weight {
        self.weight.canary()
    }

    pub(crate) fn deployed(&mut self, side: Side) -> &mut Deployed {
        match side {
            Side::Stable => &mut self.stable,
            Side::Canary => &mut self.canary,
        }
    }

    /// The first hook that is asked and has not answered.
    pub(crate) fn unanswered(&self) -> Option<Occasion> {
        let mut open = self.status.phase.open_hooks().map(|run| &run.occasion);
        let is_answered = |occasion: &Occasion| self.hooks.iter().any(|(about, _)| about == occasion);
        open.find(|occasion| !is_answered(occasion)).cloned()
    }

    pub(crate) fn heard(&self) -> Vec<(Occasion, HookView)> {
        let view = |passed: bool| {
            if passed {
                HookView::Passed
            } else {
                HookView::Failed("no".into())
            }
        };
        let hooks = self.hooks.iter();
        hooks.map(|(about, passed)| (about.clone(), view(*passed))).collect()
    }

    pub(crate) fn order(&self) -> Option<Command> {
        let (id, verb) = self.command?;
        Some(Command {
            id: id.to_string(),
            verb,
            reason: "a person's".into(),
            by: None,
        })
    }

    /// Where things stand, in a line.
    pub(crate) fn line(&self) -> String {
        let process = match &self.process {
            Process::Idle => "idle".to_owned(),
            Process::HeldUp(_) => "held up".to_owned(),
            Process::Acting(acting) => {
                let effects = acting.decision.effects.get(acting.next..).unwrap_or_default();
                let brief: Vec<String> = effects
                    .iter()
                    .map(|e| format!("{e:?}").chars().take(28).collect())
                    .collect();
                format!("{} {brief:?}", acting.decision.state.phase.name())
            }
        };
        let head = self.git.head();
        format!(
            "t{} {} w{} pin {:?} s {:?} c {:?} git {}/{} cmd {:?} | {process} | {} {:?}",
            self.now,
            self.status.phase.name(),
            self.live(),
            self.pinned,
            (
                self.stable.rev,
                self.stable.behind,
                self.stable.desired,
                self.stable.ready
            ),
            (
                self.canary.rev,
                self.canary.behind,
                self.canary.desired,
                self.canary.ready
            ),
            head.stable,
            head.canary,
            self.command.map(|(_, verb)| verb),
            self.message,
            self.jobs,
        )
    }

    /// Whether everything has come to an end, or a person has to say something: what liveness asks for.
    pub(crate) fn rests(&self, plan: &Plan) -> bool {
        if self.released {
            return true;
        }
        if self.deleted {
            return false;
        }
        match &self.status.phase {
            Phase::Paused(p) => p.reason != serin_core::rollout::PauseReason::Blind,
            Phase::Idle(_) | Phase::Withdrawn(_) | Phase::Promoted(_) | Phase::RolledBack(_) => {
                self.live().is_zero() && self.canary.desired == plan.idle_replicas
            }
            // Committed again by people while it was rolled back: it does not start again but by `retry`.
            Phase::RollingBack(r) => {
                r.git != RollbackGit::Committing
                    && self.live().is_zero()
                    && self.canary.desired == plan.idle_replicas
                    && self.git.head().canary == rev_of(&r.run.revision)
                    && self.git.head().stable != self.git.head().canary
            }
            _ => false,
        }
    }
}
