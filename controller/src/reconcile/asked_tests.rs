use jiff::Timestamp;
use serde_json::json;
use serin_core::rollout::{
    Arm, Ending, HookPoint, Occasion, Revision, RollbackGit, RollbackReason, RollingBack, Run, Starting,
};

use super::*;
use crate::api::parse;
use crate::reconcile::fixtures::seen_of;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn plan() -> Plan {
    let spec = json!({
        "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
        "git": {"repository": "https://git.example.com/x.git", "path": "prod"},
        "hooks": [
            {"name": "smoke", "at": ["BeforeRollout"], "timeout": "2m", "job": {"template": {"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}}}},
            {"name": "told", "at": ["OnRollback"], "timeout": "1m", "http": {"url": "https://x.example", "secretRef": {"name": "s"}}},
        ],
    });
    parse(&serde_json::from_value(spec).unwrap()).unwrap().plan
}

fn run(hook: &str, point: HookPoint, since: i64, answer: Option<HookAnswer>) -> HookRun {
    HookRun {
        occasion: Occasion {
            hook: hook.to_owned(),
            point,
            step: None,
            attempt: 0,
        },
        since: at(since),
        answer,
    }
}

fn trial(hooks: Vec<HookRun>) -> Run {
    let name = |name: &str| Revision {
        name: name.to_owned(),
        hash: name.to_owned(),
    };
    let mut run = Run::begin(name("1.1.0"), name("1.0.0"), None, &plan(), at(0));
    run.hooks = hooks;
    run
}

fn starting(hooks: Vec<HookRun>) -> Phase {
    Phase::Starting(Starting {
        run: trial(hooks),
        preflight: serin_core::rollout::Preflight::Passed,
        baseline: serin_core::rollout::Baseline::Frozen,
        since: at(0),
    })
}

fn observation(heard: Vec<(Occasion, HookView)>) -> Observation {
    let arm = Arm {
        revision: None,
        desired: 0,
        ready: 0,
        ready_any: 0,
        settled: true,
    };
    Observation {
        hooks: heard,
        ..seen_of(arm.clone(), arm)
    }
}

fn states(hooks: &[HookStatus]) -> Vec<(&str, &str)> {
    hooks
        .iter()
        .map(|hook| (hook.name.as_str(), hook.state.as_str()))
        .collect()
}

#[test]
fn a_gate_is_told_from_its_asking_to_its_answer() {
    let none = CanaryRolloutStatus::default();
    let open = run("smoke", HookPoint::BeforeRollout, 5, None);
    let phase = starting(vec![open.clone()]);
    let waits = after(&none, Some("t"), (&plan(), &phase), &observation(vec![]));
    let [hook] = waits.as_slice() else { panic!("{waits:?}") };
    assert_eq!(
        (hook.state.as_str(), hook.since, hook.until, hook.on_failure.as_deref()),
        ("Waiting", at(5), Some(at(125)), Some("RollBack"))
    );
    let heard = vec![(open.occasion.clone(), HookView::Pending("HTTP 503\nmore".to_owned()))];
    let asked = after(&none, Some("t"), (&plan(), &phase), &observation(heard));
    assert_eq!(
        (asked[0].state.as_str(), asked[0].answer.as_str()),
        ("Asked", "HTTP 503")
    );
    assert!(!only_words(&waits, &asked));
    let other_words = [HookStatus {
        answer: "HTTP 502".to_owned(),
        ..asked[0].clone()
    }];
    assert!(only_words(&asked, &other_words));

    let no = run(
        "smoke",
        HookPoint::BeforeRollout,
        5,
        Some(HookAnswer::Failed("HTTP 403".to_owned())),
    );
    let failed = after(&none, Some("t"), (&plan(), &starting(vec![no])), &observation(vec![]));
    assert_eq!((failed[0].state.as_str(), failed[0].until), ("Failed", None));
}

#[test]
fn a_gate_that_was_open_when_the_trial_ended_is_waited_for_no_more_and_stays_to_be_read() {
    let gate = run("smoke", HookPoint::BeforeRollout, 5, None);
    let told = run("told", HookPoint::OnRollback, 9, None);
    let back = Phase::RollingBack(RollingBack {
        run: trial(vec![gate, told.clone()]),
        reason: RollbackReason::Aborted(String::new()),
        since: at(8),
        traffic_at: None,
        promoted: None,
        on_canary: false,
        own_fields_because: None,
        git: RollbackGit::Committing,
    });
    let none = CanaryRolloutStatus::default();
    let hooks = after(&none, Some("t"), (&plan(), &back), &observation(vec![]));
    assert_eq!(states(&hooks), [("smoke", "Dropped"), ("told", "Waiting")]);

    let before = CanaryRolloutStatus {
        trial: Some("t".to_owned()),
        hooks,
        ..none
    };
    let passed = HookRun {
        answer: Some(HookAnswer::Passed),
        ..told
    };
    let ended = Phase::RolledBack(Ending {
        revision: trial(vec![]).revision,
        commit: None,
        began: at(0),
        at: at(30),
        answer: None,
        reason: String::new(),
        traffic_at: None,
        hooks: vec![passed],
    });
    let hooks = after(&before, Some("t"), (&plan(), &ended), &observation(vec![]));
    assert_eq!(states(&hooks), [("smoke", "Dropped"), ("told", "Passed")]);
    let another = after(&before, Some("u"), (&plan(), &ended), &observation(vec![]));
    assert_eq!(states(&another), [("told", "Passed")], "the gates of another trial");
    let rest = after(&before, None, (&plan(), &Phase::default()), &observation(vec![]));
    assert!(rest.is_empty());
}

#[test]
fn what_is_told_has_a_bound_and_drops_no_open_gate() {
    let words = Some(HookAnswer::Failed("語".repeat(200)));
    let mut runs = vec![run("smoke", HookPoint::BeforeRollout, 0, None)];
    runs.extend((1..64).map(|nth| run(&"n".repeat(63), HookPoint::BeforeTrafficIncrease, nth, words.clone())));
    let none = CanaryRolloutStatus::default();
    let hooks = after(&none, Some("t"), (&plan(), &starting(runs)), &observation(vec![]));
    assert_eq!(hooks.len(), MOST);
    assert_eq!(hooks[0].name, "smoke");
    assert!(hooks[0].until.is_some());
    assert_eq!(hooks[1].since, at(49), "the latest are kept");
    let size = serde_json::to_vec(&hooks).unwrap().len();
    assert!(size <= 8 * 1024, "{size} bytes");
}
