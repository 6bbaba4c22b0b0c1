//! Random walks through the same world, with plans of any shape and much going wrong: further than every order of everything
//! can be followed.

use proptest::prelude::*;
use serin_core::rollout::{Capacity, OnInconclusive, Plan};

use super::controller::Model;
use super::fingerprint;
use super::mutation::Mutation;
use super::plans;
use super::prometheus::Kind;
use super::properties;
use super::world::{Budget, Recorded, World};

const KINDS: [Kind; 4] = [Kind::Bad, Kind::Thin, Kind::Quiet, Kind::Blind];

fn plan() -> impl Strategy<Value = Plan> {
    let weights = prop::collection::btree_set(1i64..100, 0..3);
    let policy = prop_oneof![
        Just(OnInconclusive::Advance),
        Just(OnInconclusive::Pause),
        Just(OnInconclusive::RollBack)
    ];
    let capacity = prop_oneof![Just(Capacity::Proportional), Just(Capacity::Full)];
    (weights, policy, capacity, 0..2i32, any::<bool>()).prop_map(|(weights, policy, capacity, idle, approval)| {
        let mut draft = plans::draft(&weights.into_iter().chain([100]).collect::<Vec<_>>());
        draft.on_inconclusive = policy;
        draft.capacity = capacity;
        draft.idle_replicas = idle;
        draft.steps[0].approval = approval;
        Plan::parse(draft).unwrap()
    })
}

/// The same world after its status was written to JSON and read back.
fn reread(world: &World) -> World {
    let text = serde_json::to_string(&world.status.state).unwrap();
    let mut read = world.clone();
    read.status = Recorded::new(serde_json::from_str(&text).unwrap(), world.status.worth);
    read
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// No invariant breaks on the way, nothing panics, and left alone the rollout comes to rest. A world whose status went
    /// through JSON after every step goes the very same way.
    #[test]
    fn any_walk_keeps_the_invariants_and_needs_nothing_but_status(plan in plan(), choices in prop::collection::vec(any::<u16>(), 1..250)) {
        let model = Model { plan: &plan, kinds: &KINDS, mutation: Mutation::None };
        let mut world = World::new(Budget { faults: 6, people: 4 });
        let mut twin = world.clone();
        for choice in choices {
            let nexts = model.nexts(&world);
            if nexts.is_empty() {
                break;
            }
            let next = &nexts[usize::from(choice) % nexts.len()];
            let after = next.outcome.as_ref().map_err(|broken| TestCaseError::fail(format!("{broken:?}")))?;
            let twins = model.apply(&twin, next.action).map_err(|broken| TestCaseError::fail(format!("{broken:?}")))?;
            world = after.clone();
            twin = reread(&twins.ok_or_else(|| TestCaseError::fail("the twin cannot go the same way"))?);
            prop_assert_eq!(fingerprint::of(&world), fingerprint::of(&twin));
        }
        let mut left = 1000;
        while !(world.rests(&plan) && world.jobs.is_empty()) {
            let calm = model.nexts(&world).into_iter().find(|next| {
                let moves = |after: &World| fingerprint::of(after) != fingerprint::of(&world);
                next.action.is_calm() && next.outcome.as_ref().map_or(true, moves)
            });
            let Some(next) = calm else { break };
            world = next.outcome.map_err(|broken| TestCaseError::fail(format!("{broken:?}")))?;
            left -= 1;
            prop_assert!(left > 0, "it never ends: {}", world.line());
        }
        prop_assert!(world.rests(&plan), "{}", world.line());
        prop_assert!(properties::branch(&world.git).is_ok());
    }
}
