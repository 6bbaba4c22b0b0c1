//! What people are told and what they may do, as argocd/ says it: that all its parts name each other rightly.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

fn read(name: &str) -> Vec<Value> {
    let path = crate::project_root().join("argocd").join(name);
    serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The entries of a ConfigMap's data that begin with this, by the rest of their names, each as YAML.
fn entries(map: &Value, kind: &str) -> Vec<(String, Value)> {
    let data = map["data"].as_object().unwrap();
    let entry = |(key, text): (&String, &Value)| {
        let name = key.strip_prefix(kind)?;
        Some((name.to_owned(), serde_saphyr::from_str(text.as_str()?).unwrap()))
    };
    data.iter().filter_map(entry).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}

#[test]
fn each_notification_has_its_trigger_its_text_and_its_service() {
    let map = &read("notifications.yaml")[0];
    let services = entries(map, "service.");
    let templates = entries(map, "template.");
    let triggers = entries(map, "trigger.");
    let service_names: BTreeSet<_> = services.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(service_names, BTreeSet::from(["email", "pagerdutyv2", "slack"]));

    let mut sent = BTreeSet::new();
    for (name, rules) in &triggers {
        for rule in rules.as_array().unwrap() {
            assert!(
                rule["oncePer"].is_string(),
                "{name} would tell the same again and again"
            );
            sent.extend(texts(&rule["send"]));
        }
    }
    let written: BTreeSet<_> = templates.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(sent, written);

    let mut used = BTreeSet::new();
    let (_, subscriptions) = entries(map, "subscriptions").remove(0);
    for subscription in subscriptions.as_array().unwrap() {
        for recipient in texts(&subscription["recipients"]) {
            let (service, whom) = recipient.split_once(':').unwrap();
            assert!(service_names.contains(service), "{recipient}");
            for trigger in texts(&subscription["triggers"]) {
                used.insert(trigger);
                let (_, rules) = triggers.iter().find(|(name, _)| name == trigger).unwrap();
                let texts = texts(&rules[0]["send"]);
                let (_, text) = templates.iter().find(|(name, _)| name == texts[0]).unwrap();
                assert!(text["message"].is_string(), "{trigger}");
                if service != "slack" {
                    let needed = if service == "email" { "subject" } else { "summary" };
                    assert!(text[service][needed].is_string(), "{trigger} for {service}");
                }
            }
            if service == "pagerdutyv2" {
                let (_, keys) = services.iter().find(|(name, _)| name == service).unwrap();
                assert!(keys["serviceKeys"][whom].is_string(), "{recipient} has no key");
            }
        }
    }
    let all: BTreeSet<_> = triggers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(used, all, "a trigger that nobody is told of");
}

#[test]
fn no_secret_stands_among_the_notifications() {
    fn walk(value: &Value, path: &str) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| walk(value, key)),
            Value::String(text) if ["token", "password", "username", "user-service"].contains(&path) => {
                assert!(text.starts_with('$'), "{path} is written out: {text}");
            }
            _ => {}
        }
    }
    for (name, service) in entries(&read("notifications.yaml")[0], "service.") {
        walk(&service, &name);
    }
}

#[test]
fn each_environments_roles_reach_that_environment_only() {
    let cm = &read("argocd-cm.yaml")[0];
    let actions = entries(cm, "resource.customizations.actions.").remove(0);
    assert_eq!(actions.0, "serin.dev_CanaryRollout");
    for project in read("projects.yaml") {
        let name = project["metadata"]["name"].as_str().unwrap();
        let roles = project["spec"]["roles"].as_array().unwrap();
        let names: Vec<_> = roles.iter().map(|role| role["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["viewer", "operator"], "{name}");
        for role in roles {
            let subject = format!("proj:{name}:{}", role["name"].as_str().unwrap());
            let mut may = Vec::new();
            for policy in texts(&role["policies"]) {
                let words: Vec<_> = policy.split(", ").collect();
                assert_eq!(words[0], "p");
                assert_eq!(words[1], subject);
                assert_eq!(words[4..], [format!("{name}/*").as_str(), "allow"], "{policy}");
                may.push((words[2], words[3]));
            }
            let steers = may.contains(&("applications", "action/serin.dev/CanaryRollout/*"));
            assert_eq!(steers, role["name"] == "operator", "{subject}");
            assert!(
                !may.iter().any(|(_, verb)| matches!(*verb, "*" | "delete" | "override")),
                "{subject}"
            );
            assert!(!texts(&role["groups"]).is_empty(), "{subject} is nobody's");
        }
    }
}
