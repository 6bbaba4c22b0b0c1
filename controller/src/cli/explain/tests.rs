//! What is said of a spec, and of the time that it takes.

use super::super::rollout::minimal;
use super::*;

#[test]
fn says_what_a_spec_means() {
    let rollout = minimal(&serde_json::json!({
        "plan": {"steps": [
            {"weight": 5, "hold": "2m"}, {"weight": 50, "hold": "5m", "approval": "Required", "onInconclusive": "Pause"},
            {"weight": 100, "hold": "10m", "atMost": "30m"},
        ]},
        "analysis": {"latency": [{"share": "99%", "within": "500ms"}], "successRate": {"objective": "99.9%"}},
    }));
    insta::assert_snapshot!(explain(&rollout, &parsed(&rollout, "user-service").unwrap()), @r"
    user-service rolls revisions of user-service-canary out, beside user-service, for those who call user-service:50051.

    When the canary's revision changes its pods come up first (as large a share of stable's number as the step has of the traffic; at most 10m). Then it gets traffic:

      step 1   5 %     2m to 6m     undecided by then: goes on unproven if nothing speaks against it and it had 100 calls
      step 2   50 %    5m to 15m    undecided by then: waits for a person; and when it has passed, waits for `serin approve`
      step 3   100 %   10m to 30m   undecided by then: goes on unproven if nothing speaks against it and it had 100 calls

    That takes at least 17m, and at most 51m beside pauses and the time that pods and commits take.

    It is rolled back by a commit as soon as there is evidence that
      - fewer than 99.9 % of its calls succeed
      - more of its calls fail than of stable's, by more than 0.2 % of all
      - fewer than 99 % of its calls take at most 500 ms
      - more of its calls are slow than of stable's
      - outbound-success-rate breaks its limits (reported, not judged)

    A good canary is rolled back with a probability of at most 1 % in a whole trial, however often one looks.
    Without a fresh scrape for 5m its traffic is taken away, and it waits, without a commit.
    After the last step it is promoted by a commit to main of https://git.example.com/config.git: canary becomes stable in deploy/environments/prod/values.yaml.
    One of the last 3 promoted revisions that is committed again is promoted without a canary.
    ");
}

#[test]
fn says_what_hooks_are_for() {
    let http = serde_json::json!({"url": "https://a.example.com", "secretRef": {"name": "gates"}});
    let rollout = minimal(&serde_json::json!({"hooks": [
        {"name": "window", "at": ["BeforePromotion"], "timeout": "4h", "onFailure": "Pause", "http": http},
        {"name": "ticket", "at": ["AfterPromotion", "OnRollback"], "http": http},
    ]}));
    let told = explain(&rollout, &parsed(&rollout, "user-service").unwrap());
    let window = "The hook window is asked at BeforePromotion, for at most 4h: without a yes it waits for a person.";
    assert!(told.contains(window), "{told}");
    let ticket = "The hook ticket is asked at AfterPromotion, OnRollback, for at most 10m: nothing waits for it.";
    assert!(told.contains(ticket), "{told}");
}

#[test]
fn names_every_field_of_a_spec_that_makes_no_sense() {
    let rollout = minimal(&serde_json::json!({
        "plan": {"steps": [{"weight": 50, "hold": "2m"}, {"weight": 5, "hold": "soon"}]},
    }));
    let told = parsed(&rollout, "user-service").unwrap_err().to_string();
    assert!(told.contains("\n  spec.plan.steps[1].hold: "), "{told}");
    assert!(told.contains("\n  spec.plan.steps[1].weight: "), "{told}");
}

#[test]
fn finds_the_rollout_among_other_documents() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let one = serde_json::to_string(&minimal(&serde_json::json!({}))).unwrap();
    std::fs::write(file.path(), format!("kind: Service\n---\n{one}\n---\n# nothing\n")).unwrap();
    assert_eq!(in_file(file.path(), None).unwrap().name_any(), "user-service");
    std::fs::write(file.path(), "kind: Service\n").unwrap();
    let none = format!("{:#}", in_file(file.path(), None).unwrap_err());
    assert!(none.contains("no CanaryRollout"), "{none}");
}

fn told_at(traffic: u32) -> String {
    let rollout = minimal(&serde_json::json!({
        "plan": {"steps": [
            {"weight": 0, "hold": "1m"}, {"weight": 5, "hold": "2m", "onInconclusive": "Pause"}, {"weight": 100, "hold": "10m"},
        ]},
        "analysis": {"latency": [{"share": "99%", "within": "500ms"}]},
        "route": {"testers": {"header": "x-canary", "value": "always"}},
    }));
    let parsed = parsed(&rollout, "user-service").unwrap();
    expected(
        &parsed.plan,
        &Traffic::assumed(traffic, &parsed, "nobody was asked".to_owned()),
    )
}

#[test]
fn says_how_long_it_takes_and_which_traffic_that_is_at() {
    let told = told_at(10);
    let begin = "Assumed are 10 calls a second, none of which fails or is slow: nobody was asked.\n\
                 At these a canary that is as good as stable is expected to go through the steps in ";
    assert!(told.starts_with(begin), "{told}");
    let rows: Vec<_> = told.lines().filter(|line| line.starts_with("  step ")).collect();
    let [testers, small, _] = rows.as_slice() else {
        panic!("{told}")
    };
    assert!(
        testers.contains("1m ") && testers.ends_with("testers' calls alone are judged"),
        "{told}"
    );
    // A call every two seconds proves nothing in the six minutes that the step has.
    assert!(
        small.contains("6m ") && small.ends_with("; not in its time, so it waits for a person"),
        "{told}"
    );
}

#[test]
fn more_traffic_takes_no_more_than_the_least_time() {
    let told = told_at(20_000);
    assert!(told.contains(" go through the steps in 13m:"), "{told}");
}
