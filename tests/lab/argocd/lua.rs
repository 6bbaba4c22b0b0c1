//! The Lua of argocd/argocd-cm.yaml, run by Lua 5.1 on rollouts of every phase, beside what the lab's Argo CD says in Rust.

use std::{collections::BTreeMap, fs, process::Command};

use serde::Deserialize;
use serde_json::{Value, json};
use serin::api::Order;

use super::health::Health;

/// What `argocd-cm` says of a kind's actions.
#[derive(Deserialize)]
struct Actions {
    #[serde(rename = "discovery.lua")]
    discovery: String,
    definitions: Vec<Definition>,
}

#[derive(Deserialize)]
struct Definition {
    name: String,
    #[serde(rename = "action.lua")]
    script: String,
}

fn customization(of: &str) -> String {
    let path = crate::project_root().join("argocd/argocd-cm.yaml");
    let map: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let key = format!("resource.customizations.{of}.serin.dev_CanaryRollout");
    map["data"][key].as_str().unwrap().to_owned()
}

/// As a literal of Lua; what is null is absent there.
fn literal(value: &Value) -> String {
    let text = |text: &str| {
        format!(
            "\"{}\"",
            text.bytes().map(|byte| format!("\\{byte:03}")).collect::<String>()
        )
    };
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(string) => text(string),
        Value::Array(items) => format!("{{{}}}", items.iter().map(literal).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| format!("[{}]={}", text(key), literal(value));
            format!("{{{}}}", map.iter().map(pair).collect::<Vec<_>>().join(","))
        }
    }
}

/// Runs the script on the object; `tell` prints what is wanted of its `result`.
fn run(object: &Value, script: &str, tell: &str) -> String {
    let setup = Command::new(crate::project_root().join("tests/lab/setup/lua.sh"))
        .output()
        .unwrap();
    assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
    let file = tempfile::NamedTempFile::new().unwrap();
    let program = format!(
        "obj = {}\nlocal result = (function()\n{script}\nend)()\n{tell}\n",
        literal(object)
    );
    fs::write(file.path(), program).unwrap();
    let lua = String::from_utf8(setup.stdout).unwrap();
    let output = Command::new(lua.trim()).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn health_of(object: &Value) -> (String, String) {
    let told = run(
        object,
        &customization("health"),
        "print(result.status) io.write(result.message)",
    );
    let (status, message) = told.split_once('\n').unwrap();
    (status.to_owned(), message.to_owned())
}

/// Real rollouts, as a controller left them in each phase.
fn rollouts() -> BTreeMap<String, Value> {
    let folder = crate::project_root().join("tests/fixtures/status/0.1.0");
    let mut rollouts = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let status: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let phase = status["phase"].as_str().unwrap().to_owned();
        let object = json!({
            "apiVersion": "serin.dev/v1alpha1",
            "kind": "CanaryRollout",
            "metadata": { "name": "user-service", "generation": status["observedGeneration"] },
            "status": status,
        });
        rollouts.insert(phase, object);
    }
    rollouts
}

fn with_condition(mut object: Value, kind: &str, status: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    conditions.retain(|condition| condition["type"] != kind);
    conditions.push(json!({ "type": kind, "status": status, "message": "somebody has to look" }));
    object
}

#[test]
fn every_phase_has_the_health_that_lets_argo_cd_go_on() {
    let rollouts = rollouts();
    let phases: Vec<_> = rollouts.keys().map(String::as_str).collect();
    assert_eq!(
        phases,
        [
            "Idle",
            "Paused",
            "Progressing",
            "Promoted",
            "Promoting",
            "RolledBack",
            "RollingBack",
            "Starting",
            "Withdrawn"
        ]
    );
    for (phase, object) in rollouts {
        let expected = match phase.as_str() {
            "Paused" => "Suspended",
            "Starting" | "Progressing" | "Promoting" | "RollingBack" => "Progressing",
            // A rollback that is done needs nobody.
            _ => "Healthy",
        };
        let (status, message) = health_of(&object);
        assert_eq!(status, expected, "{phase}");
        assert!(!message.is_empty(), "{phase}");
        assert_eq!(
            Health::of(Some(&object)).unwrap().as_str(),
            expected,
            "the lab's own: {phase}"
        );
    }
}

#[test]
fn only_what_needs_a_person_is_degraded_in_every_phase() {
    for (kind, status) in [("RollbackBlocked", "True"), ("Blind", "True"), ("SpecValid", "False")] {
        for (phase, object) in rollouts() {
            let object = with_condition(object, kind, status);
            assert_eq!(
                health_of(&object),
                ("Degraded".to_owned(), "somebody has to look".to_owned()),
                "{kind}, {phase}"
            );
            assert_eq!(Health::of(Some(&object)), Some(Health::Degraded), "the lab's own");
        }
    }
}

#[test]
fn what_serin_has_not_seen_yet_is_progressing() {
    let mut edited = rollouts()["Promoted"].clone();
    edited["metadata"]["generation"] = json!(999);
    assert_eq!(health_of(&edited).0, "Progressing");
    for bare in [
        json!({ "metadata": {} }),
        json!({ "metadata": { "generation": 1 }, "status": {} }),
        json!({}),
    ] {
        assert_eq!(health_of(&bare).0, "Progressing", "{bare}");
    }
}

fn actions() -> Actions {
    serde_saphyr::from_str(&customization("actions")).unwrap()
}

#[test]
fn each_phase_offers_the_commands_that_it_takes() {
    let tell = "local names = {} for name, action in pairs(result) do if not action.disabled then names[#names + 1] = name end end \
                table.sort(names) io.write(table.concat(names, ' '))";
    let offered = |object: &Value| run(object, &actions().discovery, tell);
    for (phase, object) in rollouts() {
        let expected = match phase.as_str() {
            "Starting" | "Progressing" => "abort pause promote",
            "Paused" => "abort promote resume",
            "Promoting" => "abort",
            "RolledBack" => "retry",
            _ => "",
        };
        assert_eq!(offered(&object), expected, "{phase}");
    }
    assert_eq!(offered(&json!({ "metadata": {} })), "", "nothing is known of it yet");
}

#[test]
fn each_action_gives_the_command_that_serin_reads_and_changes_nothing_else() {
    let actions = actions();
    let names: Vec<_> = actions.definitions.iter().map(|action| action.name.as_str()).collect();
    assert_eq!(names, ["promote", "pause", "resume", "abort", "retry"]);
    let rollout = rollouts()["Progressing"].clone();
    let mut annotated = rollout.clone();
    annotated["metadata"]["annotations"] = json!({ "kept": "yes" });
    for Definition { name, script } in &actions.definitions {
        for (object, kept) in [(&rollout, "nil"), (&annotated, "yes")] {
            let tell = "print(result.metadata.annotations['serin.dev/command']) print(result.metadata.annotations.kept) \
                        io.write(tostring(result.spec))";
            let told = run(object, script, tell);
            let lines: Vec<_> = told.lines().collect();
            let command = Order::parse(lines[0]).unwrap_or_else(|| panic!("{name}: {told}"));
            assert_eq!(command.verb.word(), name);
            assert_eq!(
                command.by.as_deref(),
                Some("system:serviceaccount:argocd:argocd-server"),
                "the admission policy asks for the real sender"
            );
            assert_eq!(lines[1..], [kept, "nil"], "{name}");
            // The admission policy reads no JSON: there is one way to write it.
            let order: Order = serde_json::from_str(lines[0]).unwrap();
            assert_eq!(order.write(), lines[0]);
        }
    }
}
