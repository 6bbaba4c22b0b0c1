//! No counts make a process panic, or a number that is none; a state that went through JSON goes on to the same bits.

use proptest::prelude::*;

use super::super::evalue::ln_e;
use super::super::fail::{FailRules, combine};
use super::super::interval::Difference;
use super::super::{
    Arms, Bet, BurstEstimate, Comparison, Decision, FailProcess, MetricSpec, Null, PassProcess, Role, StepInfo, Tally,
    TestSpec, TestState, bounds, fail, interval, ln_threshold, pass, real,
};

const LARGEST: u64 = 1_000_000_000_000;

/// Counts of every size, from none to 10¹².
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), 0..100u64, 0..100_000u64, 0..=LARGEST, Just(LARGEST)]
}

fn tally() -> impl Strategy<Value = Tally> {
    (count(), 0.0..=1.0f64, any::<bool>()).prop_map(|(total, share, few)| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10¹²")]
        let bad = (share * real(total)) as u64;
        Tally::new(if few { bad.min(3) } else { bad.min(total) }, total)
    })
}

fn tick() -> impl Strategy<Value = Arms> {
    (tally(), tally()).prop_map(|(canary, stable)| Arms { canary, stable })
}

fn null() -> impl Strategy<Value = Null> {
    prop_oneof![
        (0.001..=1000.0f64, 0.0..=1.0f64).prop_map(|(theta, delta)| Null::relative(theta, delta).unwrap()),
        Just(Null::relative(1.0, 0.0).unwrap()),
        (0.0..=1.0f64).prop_map(|delta| Null::absolute(delta).unwrap()),
    ]
}

fn three_metrics() -> TestSpec {
    let metric = |name: &str, relative, absolute, role| MetricSpec {
        name: name.to_owned(),
        verb: "failed".to_owned(),
        relative,
        absolute,
        role,
        weight: 1.0,
    };
    let stable = Comparison::against_stable(1.0, 0.002, 0.005).unwrap();
    let objective = Comparison::objective(0.01).unwrap();
    let metrics = vec![
        metric("success-rate", Some(stable), Some(objective), Role::Judged),
        metric(
            "latency-500ms",
            Some(bounds::comparison().unwrap()),
            None,
            Role::Supporting,
        ),
        metric("checkout-errors", None, Some(objective), Role::DryRun),
    ];
    TestSpec::new(0.01, 0.05, 3, metrics).unwrap()
}

/// A tick of three metrics, and whether a step begins before it, with which share for stable.
type Scripted = (Option<(u32, f64)>, [Arms; 3]);

fn script() -> impl Strategy<Value = Vec<Scripted>> {
    let step = proptest::option::weighted(0.2, (0..4u32, prop_oneof![Just(0.95), Just(0.5), Just(0.000_01)]));
    let ticks = proptest::array::uniform3(tick());
    proptest::collection::vec((step, ticks), 1..40)
}

fn run(state: &mut TestState, spec: &TestSpec, script: &[Scripted]) {
    for (step, ticks) in script {
        if let Some((index, stable_share)) = *step {
            state.begin_step(StepInfo { index, stable_share });
        }
        state.observe(spec, *ticks);
    }
}

#[test]
fn the_bets_logarithms_are_theirs() {
    for bet in fail::BETS.into_iter().chain(pass::BETS) {
        // A call that fails, against a share of none: ln e = ln ρ.
        let found = ln_e(&super::arms([1, 1, 0, 0]), Null::absolute(0.0).unwrap(), bet);
        super::assert_close(found, bet.rho().ln(), 1e-15, "ln ρ");
    }
}

proptest! {
    #[test]
    fn no_counts_make_an_e_value_that_is_no_number(arms in tick(), null in null(), rho in 1e-6..1e6f64) {
        for rho in [rho, 0.02, 0.95, 1.0, 1.2, 50.0] {
            let found = ln_e(&arms, null, Bet::new(rho).unwrap());
            prop_assert!(found.is_finite(), "{} for {:?} {:?} {}", found, arms, null, rho);
        }
    }

    #[test]
    fn no_ticks_make_a_process_that_is_no_number(
        ticks in proptest::collection::vec(tick(), 1..60),
        null in null(),
        phi in prop_oneof![Just(1.0), 1.0..500.0f64],
        capped in any::<bool>(),
        planned_steps in 1..5u32,
    ) {
        let rules = FailRules { ln_cap: capped.then(|| 50f64.ln()), planned_steps, phi };
        let (mut fail, mut pass) = (FailProcess::default(), PassProcess::default());
        let mut difference = Difference::new(null.theta().max(0.001), phi);
        for (arms, t) in ticks.iter().zip(0u32..) {
            fail.tick(arms, null, t / 7, &rules);
            pass.tick(arms, null, phi);
            difference.tick(arms);
            prop_assert!(fail.ln_m(planned_steps).is_finite() && pass.ln_l().is_finite());
            prop_assert!(fail.ln_m(planned_steps) <= fail.ln_m_at_most());
            for level in [0.6, 0.7, 3.0, 100f64.ln()] {
                prop_assert_eq!(fail.reaches(level, planned_steps), fail.ln_m(planned_steps) >= level);
                prop_assert_eq!(pass.reaches(level), pass.ln_l() >= level);
            }
            let both = combine([(1.0, fail.ln_m(planned_steps)), (0.5, 0.0)].into_iter()).unwrap();
            prop_assert!(both.ln_m.is_finite());
        }
        let found = difference.interval(0.01);
        prop_assert!((-1.0..=1.0).contains(&found.low) && (-1.0..=1.0).contains(&found.high));
    }

    #[test]
    fn the_largest_numbers_do_no_harm_either(counts in proptest::array::uniform4(any::<u64>()), null in null()) {
        let arms = super::arms(counts);
        let mut process = FailProcess::default();
        for step in 0..3 {
            process.tick(&arms, null, step, &FailRules::capped(0.01, 3, 1.0));
        }
        prop_assert!(process.ln_m(3).is_finite());
        prop_assert!(interval::rate(arms.canary, 1.0, 0.01).low.is_finite());
        let mut estimate = BurstEstimate::default();
        estimate.tick(&[arms.canary, arms.stable]);
        prop_assert!(estimate.phi() >= 1.0);
    }

    #[test]
    fn an_interval_has_the_rate_in_it(tally in tally(), phi in 1.0..50.0f64, alpha in 1e-6..0.5f64) {
        let found = interval::rate(tally, phi, alpha);
        prop_assert!(0.0 <= found.low && found.low <= tally.rate(), "{found:?} {tally:?}");
        prop_assert!(tally.rate() <= found.high && found.high <= 1.0, "{found:?} {tally:?}");
    }

    #[test]
    fn a_state_that_went_through_json_goes_on_to_the_same_bits(before in script(), after in script(), phi in 1.0..9.0f64) {
        let spec = three_metrics();
        let mut state = TestState::start(&spec, &[(phi, Tally::new(3, 1_000)), (1.0, Tally::default())]);
        run(&mut state, &spec, &before);
        let text = serde_json::to_string(&state).unwrap();
        let mut restored: TestState = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&restored, &state);
        for tick in &after {
            run(&mut state, &spec, std::slice::from_ref(tick));
            run(&mut restored, &spec, std::slice::from_ref(tick));
            prop_assert_eq!(state.decision(&spec), restored.decision(&spec));
            prop_assert_eq!(state.ln_m(&spec).to_bits(), restored.ln_m(&spec).to_bits());
        }
        prop_assert_eq!(&restored, &state);
        prop_assert_eq!(serde_json::to_string(&restored).unwrap(), serde_json::to_string(&state).unwrap());
    }

    #[test]
    fn a_failure_is_told_exactly_when_the_evidence_is_there(script in script()) {
        let spec = three_metrics();
        let mut state = TestState::start(&spec, &[]);
        let mut failed = false;
        for tick in &script {
            run(&mut state, &spec, std::slice::from_ref(tick));
            failed |= state.ln_m(&spec) >= ln_threshold(spec.alpha());
            prop_assert_eq!(matches!(state.decision(&spec), Decision::Fail(_)), failed);
        }
    }

    #[test]
    fn a_report_has_only_numbers(script in script()) {
        let spec = three_metrics();
        let mut state = TestState::start(&spec, &[]);
        run(&mut state, &spec, &script);
        let report = serde_json::to_string(&state.report(&spec)).unwrap();
        // serde_json writes NaN and infinities as null; a restored report would refuse them.
        serde_json::from_str::<super::super::Report>(&report).unwrap();
        prop_assert!(state.ln_m(&spec).is_finite());
    }
}
