//! The flags of `serin revision`, and how it prints.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    create: RevisionCreate,
}

const GIVEN: &[&str] = &[
    "serin",
    "--repository",
    "https://h/x.git",
    "--path",
    "deploy/environments/prod",
    "--image-tag",
    "1.1.0",
    "--revision",
    "1.1.0",
    "--cluster",
    "c1",
    "--rollout",
    "ns/user-service",
    "--set",
    "env.A=b=c",
    "--set",
    "env.B=",
    "--author",
    "A <a@b>",
];

#[test]
fn flags_become_a_request() {
    let (repo, request, dry_run) = create_request(Line::try_parse_from(GIVEN).unwrap().create, None).unwrap();
    assert!(!dry_run);
    assert_eq!(
        (repo.branch.as_str(), request.subject.rollout().as_str()),
        ("main", "ns/user-service")
    );
    assert_eq!(request.subject.files(), ["deploy/environments/prod/values.yaml"]);
    assert_eq!(
        request.set,
        [("env.A".into(), "b=c".into()), ("env.B".into(), String::new())]
    );
    assert!(request.check().is_ok() && repo.check().is_ok());
}

#[test]
fn the_layout_decides_what_stable_and_canary_name() {
    let with = |more: &[&str]| {
        let line = Line::try_parse_from(GIVEN.iter().chain(more).copied()).unwrap();
        create_request(line.create, None)
    };
    let (_, request, _) = with(&["--layout", "kustomize", "--image", "web"]).unwrap();
    assert_eq!(
        request.subject.files(),
        [
            "deploy/environments/prod/stable/kustomization.yaml",
            "deploy/environments/prod/canary/kustomization.yaml"
        ]
    );
    assert!(with(&["--image", "web"]).unwrap_err().to_string().contains("--layout"));
    let error = with(&["--layout", "kustomize", "--file", "x"]).unwrap_err().to_string();
    assert!(error.contains("--canary"), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_flag() {
    let with = |flag: &str, value: &str| Line::try_parse_from(GIVEN.iter().copied().chain([flag, value]));
    assert!(with("--set", "novalue").is_err());
    let mut lines = GIVEN.to_vec();
    lines[12] = "no-slash";
    let error = create_request(Line::try_parse_from(lines).unwrap().create, None).unwrap_err();
    assert!(error.to_string().contains("--rollout"), "{error}");
}

#[test]
fn a_log_is_a_table_for_people_and_a_list_for_programs() {
    let entries = [LogEntry {
        sha: "a".repeat(40),
        action: crate::gitops::Action::Rollback,
        revision: "1.1.0".into(),
        author: "Serin".into(),
        time: jiff::Timestamp::UNIX_EPOCH,
        subject: "Roll back".into(),
        reason: Some("20 % failed".into()),
        names: vec!["b".repeat(40)],
    }];
    let table = table(&entries);
    assert!(
        table.lines().count() == 2 && table.ends_with("  20 % failed\n"),
        "{table}"
    );
    assert_eq!(as_json(&entries)[0]["action"], "rollback");
    assert_eq!(as_json(&entries)[0]["answers"][0], "b".repeat(40));
}
