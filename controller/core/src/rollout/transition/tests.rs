//! Stories of the state machine in a small world that carries out every effect; the invariants are checked throughout.

mod found;

use jiff::Timestamp;
use proptest::prelude::*;

use crate::Weight;
use crate::analysis::{ArmSample, Baseline, Counts, Sight, Tick};
use crate::rollout::plan::tests::plan;
use crate::rollout::{
    Answer, Arm, Command, Commit, Decision, Effect, GitView, LiveWeight, Observation, Origin, PauseReason, Phase,
    PhaseName, Plan, PriorAnswer, PromotionOutcome, RestNote, Revision, RollbackGit, RollbackOutcome, RollbackReason,
    State, Verb, invariants, transition,
};

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
    baseline: Option<Answer<Baseline>>,
    git: GitView,
    git_down: bool,
    origin: Origin,
    promotion: PromotionOutcome,
    failing: f64,
    sight: Sight,
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
            baseline: None,
            git: GitView::default(),
            git_down: false,
            origin: Origin {
                commit: None,
                at_rest: false,
                prior: None,
            },
            promotion: PromotionOutcome::Committed {
                id: "p".repeat(40),
                at: at(0),
            },
            failing: 0.0,
            sight: Sight::Fresh,
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
            let requests = 100 * u64::from(self.weight.canary().percent());
            let seen = self.sight == Sight::Fresh;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            let failures = (requests as f64 * self.failing) as u64;
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
            };
            ticks.push(Tick {
                start: Timestamp::from_second(end - interval).unwrap(),
                end: Timestamp::from_second(end).unwrap(),
                canary: arm(requests, failures),
                stable: arm(10_000 - requests, 0),
            });
            end += interval;
        }
        ticks
    }

    fn look(&self) -> Observation {
        Observation {
            stable: self.stable.clone(),
            canary: self.canary.clone(),
            weight: self.weight,
            pinned: self.pinned.clone(),
            ticks: self.ticks(),
            sampling_problem: None,
            baseline: self.baseline.clone(),
            git: self.git.clone(),
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
        for effect in &decision.effects {
            self.carry_out(effect);
        }
        self.state = decision.state.clone();
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
                let outcome = RollbackOutcome::Committed { id, at: at(self.now) };
                self.git.rollback = Some(Answer::Is((revision.clone(), outcome)));
                if self.applies {
                    self.canary.revision = Some(rev("1.0.0", "c1"));
                    self.origin = Origin {
                        commit: None,
                        at_rest: true,
                        prior: None,
                    };
                    if promoted.is_some() {
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
            Effect::Release => self.released = true,
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
        });
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
fn a_raised_weight_is_corrected_at_once() {
    let mut world = World::new(STEPS).with_canary("1.1.0");
    world.until("5 %", 100, |w| {
        w.weight.canary().percent() == 5 && w.state.phase.samples_since().is_some()
    });
    world.weight = LiveWeight::At(Weight::FULL);
    world.step();
    assert_eq!(world.weight.canary().percent(), 5);
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
    assert_eq!(ending.reason, "aborted by an operator: because");
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
    fn keeps_the_invariants_through_any_history(events in prop::collection::vec((0u8..14, 1i64..30), 1..40)) {
        let mut world = World::new(STEPS).with_canary("1.1.0");
        let mut hash = 3;
        for (event, seconds) in events {
            match event {
                0 => world.failing = 0.3,
                1 => world.failing = 0.0,
                2 => world.sight = Sight::Blind,
                3 => world.sight = Sight::Fresh,
                4 => world.pods_come = !world.pods_come,
                5 => { hash += 1; let name = format!("1.{hash}.0"); world.commit_canary(&name, &format!("c{hash}")); }
                6 => world.git_down = !world.git_down,
                7 => world.order(Verb::Pause),
                8 => world.order(Verb::Resume),
                9 => world.order(Verb::Abort),
                10 => world.weight = LiveWeight::At(Weight::ZERO),
                11 => world.weight = LiveWeight::At(Weight::FULL),
                12 => { world.canary.revision = None; }
                // A restart: nothing but the state survives.
                _ => world.git = GitView::default(),
            }
            for _ in 0..seconds {
                world.step();
                world.now += 1;
                // The Deployment controller catches up.
                if world.canary.revision.is_none() { world.canary.revision = Some(rev("1.0.0", "c1")); world.origin.at_rest = true; }
            }
        }
        world.git_down = false;
        world.sight = Sight::Fresh;
        world.failing = 0.0;
        world.pods_come = true;
        world.until("rest, or a person's turn", 3000, |w| {
            let waits = matches!(w.pause_reason(), Some(reason) if reason != PauseReason::Blind);
            waits || w.state.phase.run().is_none()
        });
        let again: State = serde_json::from_str(&serde_json::to_string(&world.state).unwrap()).unwrap();
        prop_assert_eq!(again, world.state);
    }
}
