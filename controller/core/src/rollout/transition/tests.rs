//! Stories of the state machine in a small world that carries out every effect; the invariants are checked throughout.

mod clock;
mod found;

use jiff::Timestamp;
use proptest::prelude::*;

use crate::Weight;
use crate::analysis::sequential::Role;
use crate::analysis::{
    ArmSample, Baseline, Counts, CustomKind, CustomMetric, CustomTick, CustomValue, Reading, Sent, Sides, Sight,
    Streams, Tick, Unusable,
};
use crate::rollout::plan::tests::plan;
use crate::rollout::{
    Answer, Arm, Autoscaler, Command, Commit, Decision, Effect, GitView, HookView, LiveWeight, Observation, Occasion,
    Origin, PauseReason, Phase, PhaseName, Plan, Preflight, PriorAnswer, PromotionOutcome, RestNote, Revision,
    RollbackGit, RollbackOutcome, RollbackReason, RouteOrigin, Sampling, State, Verb, invariants, transition,
};

mod floor;
mod hooks;
mod pods;
mod refused;
mod restart;
mod returns;
mod testers;
mod unanswered;
mod undecided;

fn rev(name: &str, hash: &str) -> Revision {
    Revision {
        name: name.into(),
        hash: hash.into(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// Git, the cluster and Prometheus, as simple as can be; every effect is carried out at once.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the world's own")]
struct World {
    plan: Plan,
    state: State,
    now: i64,
    stable: Arm,
    canary: Arm,
    weight: LiveWeight,
    pinned: Option<String>,
    preflight: Option<Answer<Vec<String>>>,
    /// What stands in the way of a start.
    obstacle: Option<String>,
    accepted: Option<bool>,
    /// Whether the weights do what they say.
    inert: bool,
    autoscaler: Option<Autoscaler>,
    /// Whether the API server takes a new minimum.
    takes_minimum: bool,
    writer: Option<String>,
    causes: Option<Answer<String>>,
    baseline: Option<Answer<Baseline>>,
    git: GitView,
    /// What hooks answered, and how often each occasion was asked before that.
    hooks: Vec<(Occasion, HookView)>,
    asked: Vec<Occasion>,
    /// What a hook says to an occasion; nothing while it is undecided.
    hook: fn(&Occasion) -> Option<HookView>,
    git_down: bool,
    own_fields_because: Option<String>,
    origin: Origin,
    promotion: PromotionOutcome,
    failing: f64,
    /// Share of stable's calls that fail.
    stable_failing: f64,
    /// Whether nobody calls either arm.
    is_idle: bool,
    /// Percent of all calls that carry the testers' header.
    testers: u64,
    sight: Sight,
    /// Whether Prometheus takes questions and does not answer.
    is_silent: bool,
    unusable: Vec<Unusable>,
    pods_come: bool,
    applies: bool,
    command: Option<Command>,
    deleted: bool,
    weights: Vec<u8>,
    rollbacks: usize,
    promotions: usize,
    released: bool,
}

impl World {
    fn new(weights: &[i64]) -> Self {
        let arm = |hash: &str, replicas: i32| Arm {
            revision: Some(rev("1.0.0", hash)),
            desired: replicas,
            ready: replicas,
            ready_any: replicas,
            settled: true,
        };
        Self {
            plan: plan(weights),
            state: State {
                seen: Some(rev("1.0.0", "c1")),
                ..State::default()
            },
            now: 0,
            stable: arm("s1", 3),
            canary: arm("c1", 0),
            weight: LiveWeight::Absent,
            pinned: None,
            preflight: None,
            obstacle: None,
            accepted: None,
            inert: false,
            autoscaler: None,
            takes_minimum: true,
            writer: None,
            causes: None,
            baseline: None,
            git: GitView::default(),
            hooks: vec![],
            asked: vec![],
            hook: |_| Some(HookView::Passed),
            git_down: false,
            own_fields_because: None,
            origin: Origin {
                commit: None,
                at_rest: false,
                prior: None,
            },
            promotion: PromotionOutcome::Committed {
                id: "p".repeat(40),
                at: at(0),
                committed: None,
            },
            failing: 0.0,
            stable_failing: 0.0,
            is_idle: false,
            testers: 0,
            sight: Sight::Fresh,
            is_silent: false,
            unusable: vec![],
            pods_come: true,
            applies: true,
            command: None,
            deleted: false,
            weights: vec![],
            rollbacks: 0,
            promotions: 0,
            released: false,
        }
    }

    fn with_canary(mut self, name: &str) -> Self {
        self.commit_canary(name, "c2");
        self
    }

    fn commit_canary(&mut self, name: &str, hash: &str) {
        let author = "jenkins".to_owned();
        let commit = Commit {
            id: "c".repeat(40),
            author,
            subject: format!("canary {name}"),
        };
        self.origin = Origin {
            commit: Some(commit),
            at_rest: false,
            prior: None,
        };
        self.canary.revision = Some(rev(name, hash));
        self.canary.ready = 0;
    }

    fn ticks(&self) -> Vec<Tick> {
        let Some(since) = self.state.phase.samples_since() else {
            return vec![];
        };
        let interval = 10;
        let mut end = (since.as_second() / interval + 1) * interval;
        let mut ticks = vec![];
        while end <= at(self.now).as_second() {
            let all = if self.is_idle { 0 } else { 100 };
            let requests = all * u64::from(self.weight.canary().percent()).max(self.testers);
            let others = 100 * all - requests;
            let seen = self.sight == Sight::Fresh;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            let share = |requests: u64, failing: f64| (requests as f64 * failing) as u64;
            let counts = |requests, failures| Counts {
                requests,
                failures,
                slow: vec![0],
            };
            let arm = |requests, failures| ArmSample {
                sight: self.sight,
                counts: if seen {
                    counts(requests, failures)
                } else {
                    Counts::default()
                },
                pods: Vec::new(),
            };
            ticks.push(Tick {
                start: Timestamp::from_second(end - interval).unwrap(),
                end: Timestamp::from_second(end).unwrap(),
                canary: arm(requests, share(requests, self.failing)),
                stable: arm(others, share(others, self.stable_failing)),
                custom: CustomTick {
                    values: vec![Reading::default()],
                    unusable: self.unusable.clone(),
                    ..CustomTick::default()
                },
                sent: if self.inert {
                    Sent {
                        canary: 0,
                        stable: 100 * all,
                    }
                } else {
                    Sent {
                        canary: requests,
                        stable: others,
                    }
                },
                open: Streams::default(),
            });
            end += interval;
        }
        ticks
    }

    fn look(&self) -> Observation {
        Observation {
            autoscaler: self.autoscaler.clone(),
            stable: self.stable.clone(),
            canary: self.canary.clone(),
            weight: self.weight,
            route_accepted: self.accepted,
            sides: Sides::Both,
            writer: self.writer.clone(),
            causes: self.causes.clone(),
            pinned: self.pinned.clone(),
            ticks: if self.is_silent { vec![] } else { self.ticks() },
            sampling: if self.is_silent {
                Sampling::Awaited
            } else {
                Sampling::Answered
            },
            preflight: self.preflight.clone(),
            baseline: self.baseline.clone(),
            git: self.git.clone(),
            hooks: self.hooks.clone(),
            command: self.command.clone(),
            deleted: self.deleted,
        }
    }

    /// One decision, carried out.
    fn step(&mut self) -> Decision {
        let observation = self.look();
        let decision = transition(&self.plan, &self.state, &observation, at(self.now));
        let broken = invariants::violations(&self.state, &observation, &decision);
        assert_eq!(broken, [], "at {}: {:?} → {decision:?}", self.now, self.state.phase);
        self.git = GitView::default();
        self.baseline = None;
        self.preflight = None;
        self.causes = None;
        for effect in &decision.effects {
            self.carry_out(effect);
        }
        self.state = decision.state.clone();
        let open: Vec<_> = self.state.phase.open_hooks().map(|run| run.occasion.clone()).collect();
        self.hooks.retain(|(about, _)| open.contains(about));
        if self.pods_come {
            self.canary.ready = self.canary.desired;
        }
        self.canary.ready_any = self.canary.ready;
        decision
    }

    fn carry_out(&mut self, effect: &Effect) {
        let failed = || "the repository cannot be reached".to_owned();
        match effect {
            Effect::SetWeight(weight) => {
                self.weight = LiveWeight::At(*weight);
                self.weights.push(weight.percent());
            }
            Effect::EnsureObjects { pin } => {
                self.pinned = Some(pin.clone());
                self.weight = LiveWeight::At(self.weight.canary());
            }
            Effect::ScaleCanary(replicas) => self.canary.desired = *replicas,
            Effect::AskPreflight(_) => {
                let warnings = vec!["a warning".to_owned()];
                let obstacle = self.obstacle.clone();
                self.preflight = Some(obstacle.map_or(Answer::Is(warnings), Answer::Failed));
            }
            Effect::AskCauses(_) => self.causes = Some(Answer::Is("a ServiceProfile".to_owned())),
            Effect::AskBaseline(_) => self.baseline = Some(Answer::Is(Baseline::default())),
            Effect::AskOrigin(revision) => {
                self.git.origin = Some(if self.git_down {
                    Answer::Failed(failed())
                } else {
                    Answer::Is((revision.clone(), self.origin.clone()))
                });
            }
            Effect::CommitRollback {
                revision,
                promoted,
                baseline,
                ..
            } => {
                if self.git_down {
                    self.git.rollback = Some(Answer::Failed(failed()));
                    return;
                }
                self.rollbacks += 1;
                let id = "r".repeat(40);
                let outcome = RollbackOutcome::Committed {
                    id,
                    at: at(self.now),
                    committed: Some(at(self.now)),
                    own_fields_because: self.own_fields_because.clone(),
                };
                self.git.rollback = Some(Answer::Is((revision.clone(), outcome)));
                if self.applies {
                    self.canary.revision = Some(rev("1.0.0", "c1"));
                    self.origin = Origin {
                        commit: None,
                        at_rest: true,
                        prior: None,
                    };
                    // Git looks for the promotion itself: its answer may not have been heard.
                    let is_stable = self
                        .stable
                        .revision
                        .as_ref()
                        .is_some_and(|stable| stable.name == revision.name);
                    if promoted.is_some() || is_stable {
                        self.stable.revision = Some(baseline.clone());
                        self.stable.settled = true;
                    }
                }
            }
            Effect::CommitPromotion { revision, .. } => {
                if self.git_down {
                    self.git.promotion = Some(Answer::Failed(failed()));
                    return;
                }
                self.promotions += 1;
                self.git.promotion = Some(Answer::Is((revision.clone(), self.promotion.clone())));
                if self.applies {
                    self.stable.revision = Some(rev(&revision.name, "s2"));
                }
            }
            Effect::SetMinimum { minimum, .. } => {
                if let Some(autoscaler) = self.autoscaler.as_mut().filter(|_| self.takes_minimum) {
                    autoscaler.minimum = *minimum;
                }
            }
            Effect::RemoveRoute => self.weight = LiveWeight::Absent,
            Effect::Release => self.released = true,
            Effect::RunHook(occasion) => {
                self.asked.push(occasion.clone());
                self.hooks.retain(|(about, _)| about != occasion);
                self.hooks
                    .extend((self.hook)(occasion).map(|view| (occasion.clone(), view)));
            }
            Effect::Refresh | Effect::Note(_) => {}
        }
    }

    /// Goes on, second by second, until the condition holds.
    fn until(&mut self, what: &str, seconds: i64, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = self.now + seconds;
        while !holds(self) {
            assert!(
                self.now < deadline,
                "not within {seconds} s: {what}; phase {:?}",
                self.state.phase
            );
            self.step();
            self.now += 1;
        }
    }

    fn until_phase(&mut self, phase: PhaseName, seconds: i64) {
        self.until(&phase.to_string(), seconds, |w| w.state.phase.name() == phase);
    }

    fn order(&mut self, verb: Verb) {
        let id = format!("{}-{}", verb.name(), self.now);
        self.command = Some(Command {
            id,
            verb,
            reason: "because".into(),
            by: Some("alice".into()),
        });
    }

    /// Its spec makes no sense: what is on trial has no plan any more.
    fn refuse(&mut self) {
        if self.state.phase.run().is_some_and(|_| !self.weight.canary().is_zero()) {
            self.carry_out(&Effect::SetWeight(Weight::ZERO));
        }
        if let Some(paused) = crate::rollout::refused(&self.state, at(self.now)) {
            self.state = paused;
        }
    }

    fn pause_reason(&self) -> Option<PauseReason> {
        match &self.state.phase {
            Phase::Paused(p) => Some(p.reason),
            _ => None,
        }
    }
}

const STEPS: &[i64] = &[5, 25, 50, 100];

#[test]
fn promotes_a_good_revision_and_returns_the_traffic() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until_phase(PhaseName::Promoted, 400);
    assert_eq!(world.weights, [5, 25, 50, 100, 75, 50, 0]);
    assert_eq!((world.promotions, world.rollbacks, world.canary.desired), (1, 0, 0));
    let Phase::Promoted(ending) = &world.state.phase else {
        unreachable!()
    };
    assert_eq!(ending.answer.as_ref().unwrap().id, "p".repeat(40));
}

#[test]
fn without_names_a_promotion_is_seen_as_stable_changes() {
    let mut world = World::new(STEPS);
    world.stable.revision = Some(rev("s1", "s1"));
    world.state.seen = Some(rev("c1", "c1"));
    world.commit_canary("c2", "c2");
    world.applies = false;
    world.until("the promotion is pushed", 400, |w| w.promotions == 1);
    for _ in 0..20 {
        world.step();
        world.now += 1;
    }
    assert_eq!(world.state.phase.name(), PhaseName::Promoting, "stable has not changed");
    world.stable.revision = Some(rev("s2", "s2"));
    world.until_phase(PhaseName::Promoted, 200);
    assert_eq!((world.promotions, world.rollbacks), (1, 0));
}

#[test]
fn takes_a_failing_revision_away_and_then_reverts_it() {
    let mut world = World::new(STEPS).with_canary("1.2.0");
    world.failing = 0.2;
    world.until_phase(PhaseName::RolledBack, 100);
    assert_eq!(world.weights, [5, 0]);
    assert_eq!((world.promotions, world.rollbacks, world.canary.desired), (0, 1, 0));
    for _ in 0..60 {
        world.step();
        world.now += 1;
    }
    assert_eq!(
        world.state.phase.name(),
        PhaseName::RolledBack,
        "the rest state is recorded, not started"
    );
}

#[test]
fn a_metric_that_cannot_be_read_pauses_and_a_failure_still_rolls_back() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.plan.objectives.custom = vec![CustomMetric {
        name: "memory".into(),
        role: Role::Judged,
        kind: CustomKind::Value(CustomValue {
            query: "memory".into(),
            min: None,
            max: Some(1.0),
            breaches: 3,
            per_arm: false,
        }),
    }];
    world.unusable = vec![Unusable {
        metric: 0,
        field: "spec.analysis.metrics[0].query".into(),
        problem: "it gives 3 series".into(),
    }];
    world.until_phase(PhaseName::Paused, 60);
    assert_eq!(world.pause_reason(), Some(PauseReason::MetricUnusable));
    let message = world.step().message;
    assert!(
        message.contains("waits at 5 %: spec.analysis.metrics[0].query: it gives 3 series"),
        "{message}"
    );
    assert_eq!((world.rollbacks, world.weights.as_slice()), (0, [5].as_slice()));
    world.failing = 0.2;
    world.until_phase(PhaseName::RolledBack, 100);
    assert_eq!((world.weights.as_slice(), world.rollbacks), ([5, 0].as_slice(), 1));
}

#[test]
fn a_mended_metric_is_taken_up_when_a_person_resumes() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    let broken = CustomMetric {
        name: "memory".into(),
        role: Role::Judged,
        kind: CustomKind::Value(CustomValue {
            query: "memory".into(),
            min: None,
            max: Some(1.0),
            breaches: 3,
            per_arm: false,
        }),
    };
    world.plan.objectives.custom = vec![broken];
    world.unusable = vec![Unusable {
        metric: 0,
        field: "spec.analysis.metrics[0].query".into(),
        problem: "it gives 3 series".into(),
    }];
    world.until_phase(PhaseName::Paused, 60);
    world.plan.objectives.custom.clear();
    world.unusable.clear();
    world.order(Verb::Resume);
    world.until_phase(PhaseName::Promoted, 400);
    assert_eq!(world.weights, [5, 0, 5, 25, 50, 100, 75, 50, 0]);
}

#[test]
fn does_not_wait_for_git_to_scale_the_failed_canary_down() {
    let mut world = World::new(STEPS).with_canary("1.2.0");
    world.failing = 0.2;
    world.until_phase(PhaseName::RollingBack, 100);
    world.git_down = true;
    world.until("the canary is idle", 20, |w| w.canary.desired == 0);
    assert_eq!(world.state.phase.name(), PhaseName::RollingBack);
    world.git_down = false;
    world.until_phase(PhaseName::RolledBack, 20);
    assert_eq!(world.rollbacks, 1);
}

#[test]
fn while_git_is_gone_for_an_hour_traffic_is_away_at_once_and_the_rollback_waits_for_its_commit() {
    let mut world = World::new(STEPS).with_canary("1.2.0");
    world.until("25 %", 100, |w| w.weight.canary().percent() == 25);
    world.git_down = true;
    world.failing = 0.2;
    world.until_phase(PhaseName::RollingBack, 100);
    assert!(world.weight.canary().is_zero(), "with the verdict");
    for _ in 0..3600 {
        world.step();
        world.now += 1;
        assert!(world.weight.canary().is_zero());
        assert_eq!((world.state.phase.name(), world.rollbacks), (PhaseName::RollingBack, 0));
    }
    assert_eq!(world.canary.desired, 0);
    world.git_down = false;
    world.until_phase(PhaseName::RolledBack, 20);
    assert_eq!((world.rollbacks, world.canary.desired), (1, 0));
}

#[test]
fn never_raises_the_weight_of_a_canary_that_is_not_ready() {
    let mut world = World::new(STEPS).with_canary("1.2.0");
    world.pods_come = false;
    world.until_phase(PhaseName::RolledBack, 200);
    assert_eq!(world.weights, Vec::<u8>::new());
    assert_eq!(world.rollbacks, 1);
}

#[test]
fn a_newer_revision_starts_anew_at_weight_zero() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("25 %", 100, |w| w.weight.canary().percent() == 25);
    world.commit_canary("1.2.0", "c3");
    world.until(
        "1.2.0 starts",
        10,
        |w| matches!(&w.state.phase, Phase::Starting(s) if s.run.revision.name == "1.2.0"),
    );
    assert_eq!(world.weights, [5, 25, 0]);
    world.until_phase(PhaseName::Promoted, 400);
    assert_eq!(world.stable.revision.as_ref().unwrap().name, "1.2.0");
    assert_eq!((world.promotions, world.rollbacks), (1, 0));
}

#[test]
fn returning_to_stables_revision_withdraws_without_a_commit() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("25 %", 100, |w| w.weight.canary().percent() == 25);
    world.canary.revision = Some(rev("1.0.0", "c1"));
    world.origin = Origin {
        commit: None,
        at_rest: true,
        prior: None,
    };
    world.until_phase(PhaseName::Withdrawn, 10);
    world.until("the canary is idle", 20, |w| w.canary.desired == 0);
    assert_eq!(
        (world.weights.last(), world.rollbacks, world.promotions),
        (Some(&0), 0, 0)
    );
}

#[test]
fn blindness_takes_the_traffic_and_sight_starts_the_first_step_again() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("25 %", 100, |w| w.weight.canary().percent() == 25);
    world.sight = Sight::Blind;
    world.until("paused blind", 100, |w| w.pause_reason() == Some(PauseReason::Blind));
    assert_eq!((world.weights.last(), world.rollbacks), (Some(&0), 0));
    world.sight = Sight::Fresh;
    world.until("first step again", 30, |w| w.weights.ends_with(&[0, 5]));
    world.until_phase(PhaseName::Promoted, 400);
}

#[test]
fn a_lowered_weight_is_never_restored_by_itself() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("50 %", 200, |w| {
        w.weight.canary().percent() == 50 && w.state.phase.samples_since().is_some()
    });
    world.weight = LiveWeight::At(Weight::ZERO);
    world.until("contested", 5, |w| {
        w.pause_reason() == Some(PauseReason::WeightContested)
    });
    let before = world.weights.len();
    for _ in 0..100 {
        world.step();
        world.now += 1;
    }
    assert_eq!(world.weights.len(), before);
    world.order(Verb::Resume);
    world.until_phase(PhaseName::Promoted, 400);
}

#[test]
fn what_fails_the_preflight_starts_nothing_and_starts_by_itself_when_mended() {
    let mut w = World::new(&[50, 100]).with_canary("1.1.0");
    w.obstacle = Some("a ServiceProfile".to_owned());
    let refused = |w: &World| matches!(&w.state.phase, Phase::Starting(s) if s.preflight == Preflight::Refused("a ServiceProfile".into()));
    w.until("the start is refused", 10, refused);
    let mut told = 0;
    // Far longer than the progress deadline.
    for _ in 0..600 {
        let decision = w.step();
        w.now += 1;
        assert!(
            decision.message.contains("does not start: a ServiceProfile"),
            "{}",
            decision.message
        );
        told += decision.effects.iter().filter(|e| matches!(e, Effect::Note(_))).count();
        assert!(
            !decision
                .effects
                .iter()
                .any(|e| matches!(e, Effect::EnsureObjects { .. } | Effect::ScaleCanary(_)))
        );
    }
    assert_eq!((told, w.weights.len(), w.canary.desired), (0, 0, 0));
    w.obstacle = None;
    w.until("the trial begins", 20, |w| {
        w.state.phase.name() == PhaseName::Progressing
    });
}

#[test]
fn a_route_that_is_not_accepted_gets_no_weight() {
    let mut w = World::new(&[50, 100]).with_canary("1.1.0");
    w.accepted = Some(false);
    for _ in 0..60 {
        w.step();
        w.now += 1;
    }
    assert_eq!((w.state.phase.name(), w.weights.len()), (PhaseName::Starting, 0));
    w.accepted = Some(true);
    w.until("the trial begins", 20, |w| {
        w.state.phase.name() == PhaseName::Progressing
    });
}

#[test]
fn a_raised_weight_is_corrected_at_once_and_who_goes_on_raising_it_is_named() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.writer = Some("argocd-controller".to_owned());
    let at_five = |w: &World| w.weight.canary().percent() == 5 && w.state.phase.samples_since().is_some();
    world.until("5 %", 100, at_five);
    world.weight = LiveWeight::At(Weight::FULL);
    let first = world.step();
    assert_eq!(
        first.effects.first(),
        Some(&Effect::SetWeight(Weight::try_from(5).unwrap()))
    );
    assert_eq!(world.state.phase.name(), PhaseName::Progressing, "once may be a slip");
    world.until("5 % again", 10, at_five);
    world.weight = LiveWeight::At(Weight::FULL);
    let second = world.step();
    assert_eq!(
        second.effects.first(),
        Some(&Effect::SetWeight(Weight::try_from(5).unwrap()))
    );
    assert_eq!(world.pause_reason(), Some(PauseReason::WeightContested));
    assert!(
        second.message.contains("waits at 5 %: argocd-controller writes"),
        "{}",
        second.message
    );
    // While it waits it goes on to lower, and never raises.
    world.weight = LiveWeight::At(Weight::FULL);
    world.step();
    assert_eq!(world.weight.canary().percent(), 5);
    world.weight = LiveWeight::At(Weight::ZERO);
    for _ in 0..100 {
        world.step();
        world.now += 1;
    }
    assert!(world.weight.canary().is_zero());
}

#[test]
fn a_step_does_not_pass_on_traffic_that_never_came() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.inert = true;
    world.until("it is known", 100, |w| {
        w.state
            .phase
            .run()
            .is_some_and(|run| run.following.deviation().is_some())
    });
    assert_eq!(world.weight.canary().percent(), 5);
    world.until("the step's time is over", 100, |w| {
        w.pause_reason() == Some(PauseReason::TrafficNotFollowing)
    });
    assert_eq!(world.weights, [5]);
    world.step();
    let said = world.step().message;
    assert!(
        said.contains("the weight is 5 %, and 0 of") && said.contains("likely causes: a ServiceProfile"),
        "{said}"
    );
    // Mended, and a person says so.
    world.inert = false;
    world.order(Verb::Resume);
    world.until_phase(PhaseName::Promoted, 400);
}

#[test]
fn an_unanswered_failed_revision_does_not_start_by_itself_but_by_retry() {
    let mut world = World::new(STEPS).with_canary("1.2.0");
    world.origin.prior = Some(PriorAnswer::RolledBack);
    world.until("held", 5, |w| w.state.phase == Phase::Idle(RestNote::Held));
    world.order(Verb::Retry);
    world.until_phase(PhaseName::Progressing, 10);
    assert!(world.state.last_command.as_ref().unwrap().accepted);
}

#[test]
fn a_difference_found_at_first_sight_is_recorded_not_started() {
    let mut world = World::new(STEPS);
    world.state = State::default();
    world.canary.revision = Some(rev("0.9.0", "c0"));
    world.until("recorded", 5, |w| w.state.phase == Phase::Idle(RestNote::Stale));
    assert_eq!(world.state.seen, Some(rev("0.9.0", "c0")));
}

#[test]
fn a_stable_that_moved_makes_the_canary_stale_and_starts_nothing() {
    let mut world = World::new(STEPS);
    world.stable.revision = Some(rev("1.0.1", "s2"));
    for _ in 0..30 {
        world.step();
        world.now += 1;
    }
    assert_eq!(world.state.phase, Phase::Idle(RestNote::Stale));
}

#[test]
fn arms_without_names_are_no_stale_ones_where_git_says_that_they_are_equal() {
    let mut world = World::new(STEPS);
    world.state = State::default();
    world.stable.revision = Some(rev("s1", "s1"));
    world.canary.revision = Some(rev("c1", "c1"));
    world.origin.at_rest = true;
    for _ in 0..30 {
        world.step();
        world.now += 1;
    }
    assert_eq!(world.state.phase, Phase::Idle(RestNote::Quiet));
    // A difference that nobody asked a trial for.
    world.origin.at_rest = false;
    world.canary.revision = Some(rev("c2", "c2"));
    for _ in 0..30 {
        world.step();
        world.now += 1;
    }
    assert_eq!(world.state.phase, Phase::Idle(RestNote::Stale));
}

#[test]
fn a_hotfix_to_stable_pauses_and_is_not_overwritten() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.promotion = PromotionOutcome::StableChanged;
    world.applies = false;
    world.until("paused", 400, |w| w.pause_reason() == Some(PauseReason::StableChanged));
    assert_eq!(world.weight.canary(), Weight::FULL);
}

#[test]
fn a_deleted_rollout_leaves_all_traffic_on_stable() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("50 %", 200, |w| w.weight.canary().percent() == 50);
    world.deleted = true;
    world.until("released", 20, |w| w.released);
    assert_eq!(
        (world.weights.last(), world.canary.desired, world.rollbacks),
        (Some(&0), 0, 0)
    );
}

#[test]
fn the_route_of_a_deleted_rollout_goes_a_drain_before_its_services() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("50 %", 200, |w| w.weight.canary().percent() == 50);
    world.deleted = true;
    world.until("no route", 20, |w| w.weight == LiveWeight::Absent);
    let gone = world.now;
    world.until("released", 20, |w| w.released);
    assert!(
        world.now - gone >= world.plan.drain.as_secs(),
        "after {} s",
        world.now - gone
    );
}

#[test]
fn an_adopted_route_stays_when_its_rollout_is_deleted() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.plan.route = RouteOrigin::Adopted;
    world.until("50 %", 200, |w| w.weight.canary().percent() == 50);
    world.deleted = true;
    world.until("released", 20, |w| w.released);
    assert_eq!(world.weight, LiveWeight::At(Weight::ZERO));
}

#[test]
fn a_rollout_that_never_made_anything_is_released_at_once() {
    let mut world = World::new(STEPS);
    world.deleted = true;
    world.step();
    assert!(world.released);
}

#[test]
fn a_rollback_of_the_own_fields_only_says_so_to_its_end() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.own_fields_because = Some("commit abc conflicts with later ones".to_owned());
    world.failing = 0.5;
    world.until_phase(PhaseName::RolledBack, 600);
    let Phase::RolledBack(ending) = &world.state.phase else {
        panic!("{:?}", world.state.phase)
    };
    assert!(
        ending
            .reason
            .contains("own fields were restored, as commit abc conflicts"),
        "{}",
        ending.reason
    );
}

#[test]
fn an_abort_rolls_back_and_says_why() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("25 %", 100, |w| w.weight.canary().percent() == 25);
    world.order(Verb::Abort);
    world.step();
    assert_eq!(world.weight.canary(), Weight::ZERO);
    world.until_phase(PhaseName::RolledBack, 20);
    let Phase::RolledBack(ending) = &world.state.phase else {
        unreachable!()
    };
    assert_eq!(ending.reason, "aborted by an operator: because (alice)");
}

#[test]
fn a_promotion_that_stable_cannot_take_keeps_the_traffic_on_the_canary_until_stable_is_back() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("promotion", 400, |w| w.promotions == 1);
    world.stable.settled = false;
    world.until_phase(PhaseName::RollingBack, 200);
    assert_eq!(world.weight.canary(), Weight::FULL);
    world.until_phase(PhaseName::RolledBack, 60);
    assert_eq!(world.stable.revision.as_ref().unwrap().name, "1.0.0");
    assert_eq!(
        (world.weight.canary(), world.canary.desired, world.rollbacks),
        (Weight::ZERO, 0, 1)
    );
}

#[test]
fn an_approval_is_waited_for_and_refused_where_there_is_none() {
    let mut world = World::new(STEPS);
    let mut draft = crate::rollout::plan::tests::draft(&[5, 100]);
    draft.steps[0].approval = true;
    world.plan = Plan::parse(draft).unwrap();
    let mut world = world.with_canary("1.1.0");
    world.order(Verb::Approve);
    world.step();
    assert!(!world.state.last_command.as_ref().unwrap().accepted);
    world.until("approval", 100, |w| w.pause_reason() == Some(PauseReason::Approval));
    world.order(Verb::Approve);
    world.until_phase(PhaseName::Promoted, 300);
}

#[test]
fn the_same_look_twice_decides_the_same() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    for _ in 0..80 {
        let observation = world.look();
        let decide = || transition(&world.plan, &world.state, &observation, at(world.now));
        assert_eq!(decide(), decide());
        world.step();
        world.now += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, no decision breaks an invariant (`step` checks them), at most one commit of
    /// each kind is made for a revision, and a rollout left alone comes to rest.
    #[test]
    fn keeps_the_invariants_through_any_history(events in prop::collection::vec((0u8..20, 1i64..30), 1..40)) {
        let world = live_through(World::new(STEPS).with_canary("1.1.0"), events);
        let again: State = serde_json::from_str(&serde_json::to_string(&world.state).unwrap()).unwrap();
        prop_assert_eq!(again, world.state);
    }

    /// The same with hooks at every point, whose answers change too.
    #[test]
    fn keeps_the_invariants_through_any_history_with_hooks(
        events in prop::collection::vec((0u8..20, 1i64..30), 1..40),
        on_failure in 0usize..3,
    ) {
        let world = live_through(hooks::everywhere(on_failure).with_canary("1.1.0"), events);
        let again: State = serde_json::from_str(&serde_json::to_string(&world.state).unwrap()).unwrap();
        prop_assert_eq!(again, world.state);
    }
}

/// Lives through a history, then has everything go well until the rollout rests.
fn live_through(mut world: World, events: Vec<(u8, i64)>) -> World {
    let mut hash = 3;
    for (event, seconds) in events {
        match event {
            0 => world.failing = 0.3,
            1 => world.failing = 0.0,
            2 => world.sight = Sight::Blind,
            3 => world.sight = Sight::Fresh,
            4 => world.pods_come = !world.pods_come,
            5 => {
                hash += 1;
                let name = format!("1.{hash}.0");
                world.commit_canary(&name, &format!("c{hash}"));
            }
            6 => world.git_down = !world.git_down,
            7 => world.order(Verb::Pause),
            8 => world.order(Verb::Resume),
            9 => world.order(Verb::Abort),
            10 => world.weight = LiveWeight::At(Weight::ZERO),
            11 => world.weight = LiveWeight::At(Weight::FULL),
            12 => {
                world.canary.revision = None;
            }
            13 => world.refuse(),
            15 => world.hook = |_| Some(HookView::Passed),
            16 => world.hook = |_| Some(HookView::Failed("no".into())),
            17 => world.hook = |_| None,
            // Pods die, and may stay away.
            18 => world.canary.ready = 0,
            19 => world.canary.ready /= 2,
            // A restart: nothing but the state survives.
            _ => world.git = GitView::default(),
        }
        for _ in 0..seconds {
            world.step();
            world.now += 1;
            // The Deployment controller catches up.
            if world.canary.revision.is_none() {
                world.canary.revision = Some(rev("1.0.0", "c1"));
                world.origin.at_rest = true;
            }
        }
    }
    world.git_down = false;
    world.sight = Sight::Fresh;
    world.failing = 0.0;
    world.pods_come = true;
    world.hook = |_| Some(HookView::Passed);
    world.until("rest, or a person's turn", 3000, |w| {
        let waits = matches!(w.pause_reason(), Some(reason) if reason != PauseReason::Blind);
        waits || w.state.phase.run().is_none()
    });
    world
}
