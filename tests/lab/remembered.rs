//! What Serin would have remembered of a rollout, for tests and benches that begin in the middle of it. It must not know who writes it
//! where.

use jiff::Timestamp;
use serde_json::{Value, json};
use serin::api::{CanaryRolloutSpec, parse};
use serin_core::{
    Weight,
    analysis::Baseline,
    rollout::{Commit, Phase, Progressing, Revision, Run, State},
};

/// In the first step of this spec, whose weight is on the route.
///
/// # Errors
/// The spec makes no sense.
pub fn first_step(
    spec: Value,
    [stable, canary]: [Revision; 2],
    commit: Option<Commit>,
    baseline: &Baseline,
    now: Timestamp,
) -> anyhow::Result<Phase> {
    let spec: CanaryRolloutSpec = serde_json::from_value(spec)?;
    let plan = parse(&spec).map_err(|errors| anyhow::anyhow!("{errors:?}"))?.plan;
    let mut run = Run::begin(canary, stable, commit, &plan, now);
    run.analysis = plan.analysis(baseline);
    let share = f64::from(100 - plan.step(0).weight.percent()) / 100.0;
    run.analysis.begin_step(0, share);
    Ok(Phase::Progressing(Progressing {
        run,
        step: 0,
        since: now,
        from: Weight::ZERO,
        weight_at: Some(now),
    }))
}

/// The status of a rollout that is there; what a person reads in it is left to Serin. `quiet_since`: since when the canary has no traffic.
pub fn status(phase: Phase, canary: Revision, quiet_since: Option<Timestamp>) -> Value {
    let name = phase.name().to_string();
    let state = State {
        seen: Some(canary),
        quiet_since,
        phase,
        ..State::default()
    };
    json!({ "status": { "phase": name, "machine": state } })
}
