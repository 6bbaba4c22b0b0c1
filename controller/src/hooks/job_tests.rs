use serde_json::json;

use super::super::tests::question;
use super::*;

fn made(template: &Value) -> Value {
    let owner = OwnerReference {
        name: "web".into(),
        uid: "0c5a".into(),
        ..OwnerReference::default()
    };
    let question = question(0);
    object(
        &question,
        template,
        &owner,
        (Duration::from_secs(600), Some(2)),
        &name(&question),
    )
}

#[test]
fn a_job_is_the_template_with_a_name_of_its_occasion_an_owner_and_an_environment() {
    let template = json!({
        "metadata": { "labels": { "team": "shop" }, "annotations": { "linkerd.io/inject": "disabled" } },
        "spec": { "template": { "spec": {
            "serviceAccountName": "smoke",
            "containers": [{
                "name": "smoke", "image": "smoke:1", "args": ["--revision=$(SERIN_REVISION)"], "futureField": true,
                "env": [{ "name": "A", "value": "b" }, { "name": "SERIN_REVISION", "value": "forged" }],
            }],
        } } },
    });
    let job = made(&template);
    let at = |pointer: &str| job.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(at("/metadata/name"), name(&question(0)));
    assert_eq!(at("/metadata/namespace"), "shop");
    assert_eq!(at("/metadata/ownerReferences/0/uid"), "0c5a");
    assert_eq!(
        at("/metadata/labels"),
        json!({ "team": "shop", "serin.dev/rollout": "web", "serin.dev/hook": "smoke", "app.kubernetes.io/managed-by": "serin" })
    );
    assert_eq!(at("/spec/ttlSecondsAfterFinished"), 86_400);
    assert_eq!(at("/spec/backoffLimit"), 2);
    assert_eq!(at("/spec/activeDeadlineSeconds"), 600);
    let pod = at("/spec/template/spec");
    assert_eq!(
        (&pod["restartPolicy"], &pod["serviceAccountName"]),
        (&json!("Never"), &json!("smoke"))
    );
    let container = &pod["containers"][0];
    assert_eq!(container["futureField"], true, "what Serin does not know stays");
    let env = container["env"].as_array().unwrap();
    let of = |name: &str| -> Vec<_> {
        env.iter()
            .filter(|one| one["name"] == name)
            .map(|one| &one["value"])
            .collect()
    };
    assert_eq!(of("SERIN_REVISION"), ["1.1.0"]);
    assert_eq!(of("SERIN_TRIAL"), [&json!(question(0).trial())]);
    assert_eq!(
        (of("SERIN_STEP"), of("SERIN_WEIGHT"), of("SERIN_POINT")),
        (vec![&json!("2")], vec![&json!("25")], vec![&json!("Step")])
    );
    assert_eq!(of("A"), ["b"]);
    assert_eq!(
        env.last().unwrap()["name"],
        "A",
        "ours come first, so that the template's own can refer to them"
    );
}

#[test]
fn what_the_template_says_itself_stands() {
    let template = json!({ "spec": {
        "backoffLimit": 7, "activeDeadlineSeconds": 30, "ttlSecondsAfterFinished": 5,
        "template": { "spec": { "restartPolicy": "OnFailure", "containers": [{ "name": "a" }] } },
    } });
    let job = made(&template);
    let spec = &job["spec"];
    assert_eq!(
        (
            &spec["backoffLimit"],
            &spec["activeDeadlineSeconds"],
            &spec["ttlSecondsAfterFinished"]
        ),
        (&json!(7), &json!(30), &json!(5))
    );
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "OnFailure");
}

#[test]
fn a_jobs_name_is_one_of_kubernetes_and_of_one_occasion() {
    let mut long = question(0);
    long.rollout = format!("{}-{}", "x".repeat(39), "y".repeat(200));
    assert!(name(&long).len() <= 63);
    assert!(name(&long).starts_with(&format!("{}-", "x".repeat(39))));
    assert_ne!(name(&question(0)), name(&question(1)));
}

#[test]
fn its_end_is_the_answer() {
    let status = |kind: &str, is: &str| {
        json!({ "status": { "conditions": [
            { "type": "SuccessCriteriaMet", "status": "True" },
            { "type": kind, "status": is, "reason": "BackoffLimitExceeded", "message": "no more tries" },
        ] } })
    };
    assert_eq!(ended("j", &status("Complete", "True")), Reply::Passed);
    let failed = Reply::Failed("the Job j failed: BackoffLimitExceeded: no more tries".to_owned());
    assert_eq!(ended("j", &status("Failed", "True")), failed);
    for runs in [status("Failed", "False"), json!({})] {
        assert!(matches!(ended("j", &runs), Reply::Undecided { .. }));
    }
}
