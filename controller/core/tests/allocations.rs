//! The hot path of the analysis allocates nothing beyond its inputs.

use serin_core::analysis::Outcome;

#[path = "tick/mod.rs"]
mod trial;

#[test]
fn a_tick_of_a_trial_allocates_nothing() {
    let mut analysis = trial::analysis();
    let tick = trial::tick();
    // A pod that was never seen before is remembered.
    analysis.observe(&tick);
    let used = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            assert_ne!(analysis.observe(&tick), Outcome::Fail);
        }
    });
    assert_eq!(used.count_total, 0, "{used:?}");
}
