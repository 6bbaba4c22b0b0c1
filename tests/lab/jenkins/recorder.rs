//! The whole Jenkinsfile, executed by Groovy without a server (recorder.groovy): which steps come in which order on which branch,
//! and what stops them. It must not know what a step's script does; see `scripts`.

use std::{collections::BTreeMap, fs, process::Command, sync::LazyLock};

use serde::Deserialize;
use serde_json::{Value, json};

/// What recorder.groovy tells.
#[derive(Deserialize)]
struct Told {
    lint: Vec<String>,
    cases: BTreeMap<String, Case>,
}

/// One build.
#[derive(Deserialize)]
struct Case {
    result: String,
    message: Option<String>,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    #[serde(rename = "step")]
    name: String,
    /// The stages around it, from the outside.
    path: String,
    agent: Option<String>,
    locks: Vec<String>,
    /// The variables that hold something secret.
    secrets: Vec<String>,
    environment: Option<String>,
    text: String,
    submitter: Option<String>,
    #[serde(default)]
    interpolated: bool,
}

impl Case {
    fn of(name: &str) -> &'static Self {
        &TOLD.cases[name]
    }

    /// The scripts that ran, in order, by their names and with the environment in which they did.
    fn scripts(&self) -> Vec<String> {
        let scripts = self.steps.iter().filter(|step| step.name == "sh");
        let name = |step: &Step| {
            let script = step.text.strip_prefix("deploy/ci/").unwrap_or(&step.text);
            let script = script.replace(".sh", "").replace(" user-service", "");
            step.environment
                .as_ref()
                .map_or(script.clone(), |at| format!("{at}/{script}"))
        };
        scripts.map(name).collect()
    }

    fn all(&self, step: &str) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |found| found.name == step)
    }
}

const BUILD: &[&str] = &["serins-own", "version", "build"];
const CHECKS: &[&str] = &["unit", "e2e", "lint", "dependencies", "secrets"];
const IMAGE: &[&str] = &["image", "scan", "sbom"];
const PUBLISH: &[&str] = &["push", "sign"];
const DEV: &[&str] = &["dev/canary", "dev/verdict", "dev/integration"];
const STAGING: &[&str] = &["staging/canary", "staging/verdict", "staging/integration"];
const PROD: &[&str] = &["prod/canary", "prod/verdict"];

/// A build of this branch, in which these scripts end with these codes.
fn build(name: &str, branch: &str, codes: &[(&str, i32)]) -> Value {
    let mut answers: Vec<_> = codes
        .iter()
        .map(|(script, code)| json!({ "script": format!("deploy/ci/{script}.sh"), "code": code }))
        .collect();
    answers.extend([
        json!({ "script": "serins-own.sh", "code": 1 }),
        json!({ "script": "version.sh", "stdout": "1.4.0-3f2a91c04b7d\n" }),
        json!({ "script": "push.sh", "stdout": "sha256:0123\n" }),
    ]);
    json!({
        "name": name,
        "branch": branch,
        "approvedBy": "ann",
        "answers": answers,
        "files": { "verdict.txt": "user-service 1.4.0 was rolled back: 12 % of calls failed\n" },
    })
}

fn cases() -> Vec<Value> {
    let mut cases = vec![
        build("feature", "feature/greeting", &[]),
        build("develop", "develop", &[]),
        build("main", "main", &[]),
        build("own commits", "main", &[("serins-own", 0)]),
        build("commits unknown", "main", &[("serins-own", 2)]),
        build("rolled back in dev", "develop", &[("verdict", 3)]),
        build("no verdict in staging", "main", &[("verdict", 124)]),
        build("integration fails", "develop", &[("integration", 1)]),
        build("recovered", "develop", &[]),
        build("refused", "main", &[]),
    ];
    let set = |case: &mut Value, key: &str, value: Value| case[key] = value;
    set(&mut cases[8], "before", json!("FAILURE"));
    set(&mut cases[9], "approvedBy", Value::Null);
    for script in BUILD[2..].iter().chain(CHECKS).chain(IMAGE).chain(PUBLISH) {
        cases.push(build(&format!("{script} fails"), "main", &[(script, 1)]));
    }
    // The third verdict of a build is production's only where the ones before are told apart.
    for (name, code) in [("rolled back in prod", 3), ("no verdict in prod", 124)] {
        let mut case = build(name, "main", &[]);
        case["answers"].as_array_mut().unwrap().insert(
            0,
            json!({ "script": "deploy/ci/verdict.sh", "environment": "prod", "code": code }),
        );
        cases.push(case);
    }
    cases
}

/// One start of Java for all tests.
static TOLD: LazyLock<Told> = LazyLock::new(|| {
    let root = crate::project_root();
    let setup = Command::new(root.join("tests/lab/setup/groovy.sh")).output().unwrap();
    assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
    let setup = String::from_utf8(setup.stdout).unwrap();
    let (java, jars) = setup.trim().split_once('\n').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (given, told) = (folder.path().join("cases.json"), folder.path().join("told.json"));
    fs::write(&given, json!(cases()).to_string()).unwrap();
    let output = Command::new(java)
        .args([
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            jars,
            "groovy.ui.GroovyMain",
        ])
        .arg(root.join("tests/lab/jenkins/recorder.groovy"))
        .arg(root.join("Jenkinsfile"))
        .args([&given, &told])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&fs::read(&told).unwrap()).unwrap()
});

fn joined(parts: &[&[&'static str]]) -> Vec<&'static str> {
    parts.concat()
}

#[test]
fn the_linter_finds_nothing() {
    assert_eq!(TOLD.lint, Vec::<String>::new());
}

#[test]
fn a_feature_branch_is_built_tested_and_scanned_and_goes_nowhere() {
    let case = Case::of("feature");
    assert_eq!(case.result, "SUCCESS", "{:?}", case.message);
    assert_eq!(case.scripts(), joined(&[BUILD, CHECKS, IMAGE]));
    assert_eq!(case.all("input").count(), 0, "nobody is asked");
    assert!(
        case.steps
            .iter()
            .all(|step| step.secrets.is_empty() && step.locks.is_empty())
    );
}

#[test]
fn develop_goes_to_dev_and_is_tested_there() {
    let case = Case::of("develop");
    assert_eq!(case.result, "SUCCESS", "{:?}", case.message);
    assert_eq!(case.scripts(), joined(&[BUILD, CHECKS, IMAGE, PUBLISH, DEV]));
    assert_eq!(case.all("input").count(), 0);
}

#[test]
fn main_goes_to_staging_and_after_a_release_manager_agreed_to_production() {
    let case = Case::of("main");
    assert_eq!(case.result, "SUCCESS", "{:?}", case.message);
    assert_eq!(case.scripts(), joined(&[BUILD, CHECKS, IMAGE, PUBLISH, STAGING, PROD]));
    let asked: Vec<_> = case.all("input").collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].submitter.as_deref(), Some("release-managers"));
    assert_eq!(
        (asked[0].agent.as_deref(), &asked[0].locks),
        (None, &vec![]),
        "nobody waits for an answer"
    );
    let place = |wanted: &str| case.steps.iter().position(|step| step.path == wanted).unwrap();
    assert!(place("Staging/Staging: integration tests") < place("Approval"));
    assert!(place("Approval") < place("Production/Production: canary revision"));
    assert!(
        case.all("echo")
            .any(|step| step.text == "1.4.0-3f2a91c04b7d, released by ann")
    );
}

#[test]
fn each_environment_is_held_by_one_build_at_a_time_and_older_builds_give_way() {
    for (name, environments) in [("develop", &["dev"][..]), ("main", &["staging", "prod"])] {
        let case = Case::of(name);
        for environment in environments {
            let lock = format!("user-service-{environment}");
            let inside = case
                .all("sh")
                .filter(|step| step.environment.as_deref() == Some(environment));
            let held: Vec<_> = inside.map(|step| step.locks.clone()).collect();
            assert!(
                held.len() > 1 && held.iter().all(|locks| *locks == [lock.clone()]),
                "{held:?}"
            );
        }
        let ordinals: Vec<i32> = case.all("milestone").map(|step| step.text.parse().unwrap()).collect();
        assert!(ordinals.len() > 2 && ordinals.is_sorted(), "{ordinals:?}");
    }
}

#[test]
fn only_a_webhook_starts_a_build() {
    let triggers: Vec<_> = Case::of("main")
        .all("triggers")
        .map(|step| step.text.as_str())
        .collect();
    assert_eq!(triggers, ["githubPush"]);
}

#[test]
fn serins_own_commits_build_nothing_and_what_is_not_known_is_built() {
    let case = Case::of("own commits");
    assert_eq!(
        (case.result.as_str(), case.scripts()),
        ("NOT_BUILT", vec!["serins-own".into(), "version".into()])
    );
    assert_eq!(Case::of("commits unknown").scripts(), Case::of("main").scripts());
}

#[test]
fn whatever_fails_is_the_last_thing_that_happens() {
    let all = joined(&[BUILD, CHECKS, IMAGE, PUBLISH]);
    for (at, script) in all.iter().enumerate().skip(2) {
        let case = Case::of(&format!("{script} fails"));
        assert_eq!(case.result, "FAILURE", "{script}");
        assert_eq!(case.scripts(), all[..=at], "{script}");
        let told: Vec<_> = case.all("slackSend").collect();
        assert!(told.len() == 1 && told[0].text.contains("failed"), "{script}: {told:?}");
        assert_eq!(case.all("emailext").count(), 1);
    }
}

#[test]
fn a_failing_scan_stops_the_push() {
    let scripts = Case::of("scan fails").scripts();
    assert!(
        scripts.contains(&"scan".to_owned()) && !scripts.contains(&"push".to_owned()),
        "{scripts:?}"
    );
}

#[test]
fn a_canary_that_is_rolled_back_fails_the_build_with_the_reason() {
    let reason = "user-service 1.4.0 was rolled back: 12 % of calls failed";
    for (name, environment) in [("rolled back in dev", "dev"), ("rolled back in prod", "prod")] {
        let case = Case::of(name);
        assert_eq!(case.result, "FAILURE");
        assert_eq!(case.message.as_deref(), Some(&*format!("{environment}: {reason}")));
        assert_eq!(case.scripts().last().unwrap(), &format!("{environment}/verdict"));
        assert!(case.all("slackSend").all(|step| step.text.contains(reason)));
        assert_eq!(case.all("slackSend").count(), 1);
    }
}

#[test]
fn without_a_verdict_nothing_goes_further_and_production_is_unstable() {
    let case = Case::of("no verdict in staging");
    assert_eq!(case.result, "FAILURE");
    assert_eq!(case.scripts().last().unwrap(), "staging/verdict");
    let case = Case::of("no verdict in prod");
    assert_eq!(case.result, "UNSTABLE");
    assert!(
        case.all("unstable")
            .any(|step| step.text.contains("the rollout goes on"))
    );
    assert!(case.all("slackSend").any(|step| step.text.contains("no verdict")));
}

#[test]
fn what_release_managers_refuse_is_not_committed() {
    let case = Case::of("refused");
    assert_eq!(case.result, "ABORTED");
    assert_eq!(case.scripts().last().unwrap(), "staging/integration");
}

#[test]
fn failing_integration_tests_and_recovery_are_told() {
    let case = Case::of("integration fails");
    assert_eq!(
        (case.result.as_str(), case.scripts().last().unwrap().as_str()),
        ("FAILURE", "dev/integration")
    );
    let told: Vec<_> = Case::of("recovered").all("slackSend").collect();
    assert!(told.len() == 1 && told[0].text.contains("is well again"), "{told:?}");
    assert_eq!(Case::of("develop").all("slackSend").count(), 0, "no news");
}

#[test]
fn each_step_has_only_the_secrets_that_it_needs_and_none_is_echoed() {
    let allowed = |script: &str| -> &[&str] {
        match script {
            "push" => &["REGISTRY", "REGISTRY_PSW"],
            "sign" => &[
                "COSIGN_KEY",
                "COSIGN_KEY_PSW",
                "COSIGN_PASSWORD",
                "COSIGN_PASSWORD_PSW",
                "REGISTRY",
                "REGISTRY_PSW",
            ],
            _ if script.ends_with("/canary") => &["GIT_TOKEN", "GIT_TOKEN_PSW"],
            _ if script.ends_with("/verdict") => &["KUBECONFIG", "KUBECONFIG_PSW"],
            _ => &[],
        }
    };
    for case in TOLD.cases.values() {
        for (script, step) in case.scripts().iter().zip(case.all("sh")) {
            assert_eq!(step.secrets, allowed(script), "{script}");
            // `sh -x` would print what the shell puts in.
            assert!(
                !step.interpolated && !step.text.contains('$'),
                "{script}: {}",
                step.text
            );
        }
        for step in &case.steps {
            assert!(!step.text.contains("secret-"), "{step:?}");
        }
    }
}
