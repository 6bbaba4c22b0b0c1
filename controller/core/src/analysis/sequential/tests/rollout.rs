//! What the test does over a rollout: what fails, passes and holds, and when.

use proptest::prelude::*;

use super::super::fail::FailRules;
use super::super::{
    Arms, Comparison, Decision, FailProcess, MetricSpec, Null, Role, StepInfo, TestSpec, TestState, bounds,
    ln_threshold,
};
use super::arms;

const STEPS: u32 = 4;
const GOOD: [u64; 4] = [0, 200, 2, 1_800];

fn metric(name: &str) -> MetricSpec {
    MetricSpec {
        name: name.to_owned(),
        verb: "failed".to_owned(),
        relative: Some(Comparison::against_stable(1.0, 0.002, 0.005).unwrap()),
        absolute: None,
        role: Role::Judged,
        weight: 1.0,
    }
}

fn objective(name: &str) -> MetricSpec {
    MetricSpec {
        relative: None,
        absolute: Some(Comparison::objective(0.01).unwrap()),
        ..metric(name)
    }
}

fn started(metrics: Vec<MetricSpec>) -> (TestSpec, TestState) {
    let spec = TestSpec::new(0.01, 0.05, STEPS, metrics).unwrap();
    let mut state = TestState::start(&spec, &[]);
    state.begin_step(at(0, 0.9));
    (spec, state)
}

fn at(index: u32, stable_share: f64) -> StepInfo {
    StepInfo { index, stable_share }
}

/// Gives the ticks, and returns the last decision.
fn observe(state: &mut TestState, spec: &TestSpec, ticks: usize, counts: &[[u64; 4]]) -> Decision {
    let counts: Vec<Arms> = counts.iter().copied().map(arms).collect();
    (0..ticks).fold(Decision::Inconclusive, |_, _| {
        state.observe(spec, counts.iter().copied())
    })
}

/// Ticks until FAIL, at most `most`.
fn ticks_to_fail(state: &mut TestState, spec: &TestSpec, bad: [u64; 4], most: usize) -> Option<usize> {
    (1..=most).find(|_| matches!(observe(state, spec, 1, &[bad]), Decision::Fail(_)))
}

#[test]
fn fails_a_bad_canary_and_names_the_metric() {
    let (spec, mut state) = started(vec![metric("calls"), metric("checkout")]);
    assert_eq!(
        observe(&mut state, &spec, 3, &[GOOD, [30, 200, 2, 1_800]]),
        Decision::Fail(1)
    );
    let report = state.report(&spec);
    assert_eq!(report.metrics[0].metric, "checkout");
    assert!(report.ln_m >= report.ln_fail_threshold);
    let sentence = &report.metrics[0].sentence;
    assert!(
        sentence.starts_with("15.0 % of 600 canary calls failed, stable 0.1 % of 5,400; evidence "),
        "{sentence}"
    );
    assert!(sentence.ends_with(" of the 100 needed to fail"), "{sentence}");
}

#[test]
fn a_failure_is_final() {
    let (spec, mut state) = started(vec![metric("calls")]);
    observe(&mut state, &spec, 3, &[[30, 200, 2, 1_800]]);
    assert_eq!(observe(&mut state, &spec, 500, &[GOOD]), Decision::Fail(0));
}

#[test]
fn passes_a_good_canary_in_each_step_anew() {
    let (spec, mut state) = started(vec![metric("calls")]);
    assert_eq!(observe(&mut state, &spec, 1, &[GOOD]), Decision::Inconclusive);
    assert_eq!(observe(&mut state, &spec, 9, &[GOOD]), Decision::Pass);
    state.begin_step(at(1, 0.9));
    assert_eq!(state.decision(&spec), Decision::Inconclusive);
    state.begin_step(at(1, 0.9));
    assert_eq!(observe(&mut state, &spec, 10, &[GOOD]), Decision::Pass);
}

#[test]
fn one_tick_on_a_fresh_process_never_fails() {
    for planned_steps in [1, 2, 8] {
        for bad in [
            [200, 200, 0, 1_800],
            [1_000_000_000_000, 1_000_000_000_000, 0, 1_000_000_000_000],
        ] {
            let mut process = FailProcess::default();
            let null = Null::relative(1.0, 0.0).unwrap();
            process.tick(&arms(bad), null, 0, &FailRules::capped(0.01, planned_steps, 1.0));
            assert!(process.ln_m(planned_steps) < ln_threshold(0.01));
            process.tick(&arms(bad), null, 0, &FailRules::capped(0.01, planned_steps, 1.0));
            assert!(process.ln_m(planned_steps) >= ln_threshold(0.01), "but two do");
        }
    }
}

proptest! {
    #[test]
    fn no_tick_fails_that_was_not_said_to_be_able_to(
        ticks in prop::collection::vec((0_u64..=200, 0_u64..=60, 0_usize..4), 1..80),
    ) {
        let (spec, mut state) = started(vec![metric("calls"), objective("checkout")]);
        let mut step = 0;
        for (bad, stable_bad, to) in ticks {
            if to > step {
                step = to;
                state.begin_step(at(u32::try_from(step).unwrap(), 0.9));
            }
            let may = state.may_fail_next(&spec);
            let counts = [bad, 200, stable_bad, 1_800];
            let decision = observe(&mut state, &spec, 1, &[counts, counts]);
            prop_assert!(may || !matches!(decision, Decision::Fail(_)));
        }
    }
}

#[test]
fn a_good_canary_is_not_one_that_the_next_tick_could_fail() {
    let (spec, mut state) = started(vec![metric("calls")]);
    for _ in 0..100 {
        assert!(!state.may_fail_next(&spec));
        observe(&mut state, &spec, 1, &[GOOD]);
    }
    observe(&mut state, &spec, 3, &[[30, 200, 2, 1_800]]);
    assert!(state.may_fail_next(&spec));
}

#[test]
fn a_regression_after_eight_hours_is_found_within_three_times_the_ticks() {
    // Ticks of 20 s; 1 % and 5 % failing at a tenth of 10 to 1,000 calls a second.
    for bad in [
        [20, 2_000, 18, 18_000],
        [2, 200, 2, 1_800],
        [10, 200, 2, 1_800],
        [1, 20, 0, 180],
    ] {
        let (spec, mut fresh) = started(vec![metric("calls")]);
        let at_once = ticks_to_fail(&mut fresh, &spec, bad, 400).unwrap();
        let (spec, mut state) = started(vec![metric("calls")]);
        let good = [bad[2] / 9, bad[1], bad[2], bad[3]];
        assert_ne!(observe(&mut state, &spec, 1_440, &[good]), Decision::Fail(0));
        let late = ticks_to_fail(&mut state, &spec, bad, 1_200).unwrap();
        assert!(late <= 3 * at_once, "{late} ticks instead of {at_once} for {bad:?}");
    }
}

#[test]
fn nothing_happens_when_the_canary_has_all_the_calls() {
    let (spec, mut state) = started(vec![metric("calls")]);
    assert_eq!(
        observe(&mut state, &spec, 200, &[[150, 200, 0, 0]]),
        Decision::Inconclusive
    );
    assert!(state.ln_m(&spec).abs() < 1e-12);
    assert_eq!(
        observe(&mut state, &spec, 200, &[[0, 200, 0, 0]]),
        Decision::Inconclusive
    );
    assert!(state.report(&spec).metrics[0].relative.unwrap().ln_pass.abs() < 1e-12);
}

#[test]
fn nothing_happens_without_calls() {
    let (spec, mut state) = started(vec![metric("calls"), objective("objective")]);
    assert_eq!(
        observe(&mut state, &spec, 500, &[[0, 0, 3, 900], [0, 0, 3, 900]]),
        Decision::Inconclusive
    );
    assert!(state.ln_m(&spec).abs() < 1e-12);
    assert_eq!(state.report(&spec).metrics[0].sentence, "no calls on canary yet");
}

#[test]
fn a_frozen_upper_bound_stands_for_stable_when_it_has_too_few_calls() {
    let (spec, mut state) = started(vec![metric("calls")]);
    observe(&mut state, &spec, 10, &[GOOD]);
    state.begin_step(at(3, 0.000_01));
    let reference = state.report(&spec).metrics[0].reference.unwrap();
    assert!((0.001..0.005).contains(&reference), "{reference}");
    let mut good = state.clone();
    assert_eq!(observe(&mut good, &spec, 5, &[[2, 2_000, 0, 0]]), Decision::Pass);
    assert_eq!(observe(&mut state, &spec, 5, &[[100, 2_000, 0, 0]]), Decision::Fail(0));
    // With enough calls again, stable is its own reference.
    good.begin_step(at(0, 0.95));
    assert_eq!(good.report(&spec).metrics[0].reference, None);
}

#[test]
fn the_calls_before_the_start_stand_in_when_the_first_step_leaves_stable_too_few() {
    let spec = TestSpec::new(0.01, 0.05, 1, vec![metric("calls")]).unwrap();
    let mut state = TestState::start(&spec, &[(1.0, super::super::Tally::new(10, 10_000))]);
    state.begin_step(at(0, 0.0));
    assert_eq!(observe(&mut state, &spec, 5, &[[100, 2_000, 0, 0]]), Decision::Fail(0));
}

#[test]
fn an_objective_that_stable_breaks_as_well_holds_and_never_fails() {
    for weight in [[10, 200, 90, 1_800], [100, 1_000, 100, 1_000], [90, 1_800, 10, 200]] {
        let (spec, mut state) = started(vec![objective("objective")]);
        let good = [0, weight[1], 0, weight[3]];
        for (ticks, counts) in [(100, good), (30, weight), (500, good)] {
            for _ in 0..ticks {
                let decision = observe(&mut state, &spec, 1, &[counts]);
                assert!(!matches!(decision, Decision::Fail(_)), "{weight:?}");
            }
        }
        assert_ne!(
            state.decision(&spec),
            Decision::Hold(0),
            "over when stable has recovered"
        );
        observe(&mut state, &spec, 30, &[weight]);
        assert_eq!(state.decision(&spec), Decision::Hold(0));
        assert!(
            state.report(&spec).metrics[0]
                .sentence
                .ends_with("stable breaks the objective as well")
        );
    }
}

#[test]
fn an_objective_that_only_the_canary_breaks_fails() {
    let (spec, mut state) = started(vec![objective("objective")]);
    assert!(ticks_to_fail(&mut state, &spec, [10, 200, 1, 1_800], 10).is_some());
}

#[test]
fn an_outage_of_both_arms_rolls_nothing_back() {
    let (spec, mut state) = started(vec![MetricSpec {
        absolute: Some(Comparison::objective(0.01).unwrap()),
        ..metric("calls")
    }]);
    observe(&mut state, &spec, 20, &[GOOD]);
    // Scrapes a scrape apart: the canary's counters show the outage one tick earlier.
    observe(&mut state, &spec, 1, &[[100, 200, 2, 1_800]]);
    for _ in 0..10 {
        let decision = observe(&mut state, &spec, 1, &[[100, 200, 900, 1_800]]);
        assert!(!matches!(decision, Decision::Fail(_)));
    }
}

#[test]
fn a_dry_run_has_no_say_and_is_reported() {
    let dry = MetricSpec {
        role: Role::DryRun,
        ..metric("experimental")
    };
    let (spec, mut state) = started(vec![dry, metric("calls")]);
    assert_eq!(
        observe(&mut state, &spec, 10, &[[100, 200, 2, 1_800], GOOD]),
        Decision::Pass
    );
    assert!(!state.is_suspect(&spec));
    assert!(state.report(&spec).metrics[0].relative.unwrap().ln_fail > 10.0);
}

#[test]
fn latency_alone_never_passes_but_keeps_from_passing() {
    let latency = MetricSpec {
        relative: Some(bounds::comparison().unwrap()),
        role: Role::Supporting,
        ..metric("latency-100ms")
    };
    let (spec, mut state) = started(vec![latency.clone()]);
    assert_eq!(
        observe(&mut state, &spec, 100, &[[0, 2_000, 900, 18_000]]),
        Decision::Inconclusive
    );
    let (spec, mut state) = started(vec![metric("calls"), latency]);
    assert_eq!(
        observe(&mut state, &spec, 10, &[GOOD, [22, 200, 180, 1_800]]),
        Decision::Inconclusive
    );
}

#[test]
fn something_speaks_against_the_canary_before_it_fails() {
    let (spec, mut state) = started(vec![metric("calls")]);
    observe(&mut state, &spec, 1, &[[8, 200, 2, 1_800]]);
    assert!(state.is_suspect(&spec) && state.decision(&spec) == Decision::Inconclusive);
}

#[test]
fn ten_metrics_fit_into_eight_kibibytes() {
    let metrics = (0..10)
        .map(|i| MetricSpec {
            absolute: Some(Comparison::objective(0.01).unwrap()),
            ..metric(&format!("metric-{i}"))
        })
        .collect();
    let (spec, mut state) = started(metrics);
    observe(&mut state, &spec, 2_000, &[[19, 123_456, 170, 1_234_567]; 10]);
    state.begin_step(at(3, 0.0));
    observe(&mut state, &spec, 3, &[[19, 123_456, 170, 1_234_567]; 10]);
    let size = serde_json::to_string(&state).unwrap().len();
    assert!(size <= 8 * 1024, "{size} bytes");
}

#[test]
fn a_spec_that_makes_no_test_is_refused() {
    assert!(TestSpec::new(0.0, 0.05, 1, vec![]).is_err());
    assert!(TestSpec::new(0.01, 0.51, 1, vec![]).is_err());
    assert!(TestSpec::new(0.01, 0.05, 0, vec![]).is_err());
    let weightless = MetricSpec {
        weight: f64::NAN,
        ..metric("calls")
    };
    assert!(TestSpec::new(0.01, 0.05, 1, vec![weightless]).is_err());
    assert!(Null::relative(0.0, 0.1).is_err() && Null::relative(f64::NAN, 0.1).is_err());
    assert!(Null::absolute(1.1).is_err() && Null::absolute(f64::NAN).is_err());
}
