//! The flags of `serin revision`, and how it prints.

use super::*;
use crate::gitops::{ApiToken, Credentials, SigningKey};
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
    let (repo, request, dry_run) =
        create_request(Line::try_parse_from(GIVEN).unwrap().create, Secrets::default()).unwrap();
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
        create_request(line.create, Secrets::default())
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
fn keys_come_from_files_and_what_protects_them_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let ssh = "-----BEGIN OPENSSH PRIVATE KEY-----\n…";
    let (key, hosts, ca) = (file("key", ssh), file("hosts", "h ssh-ed25519 A"), file("ca", "pem"));
    let pgp = file("git.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n…");
    let with = |more: &[&str]| Line::try_parse_from(GIVEN.iter().chain(more).copied());
    let all = [
        "--ssh-key",
        &key,
        "--known-hosts",
        &hosts,
        "--ca",
        &ca,
        "--signing-key",
        &pgp,
    ];
    let secrets = || Secrets {
        token: None,
        passphrase: Some("secret".into()),
        api_token: Some("t0ken".into()),
    };
    let (repo, ..) = create_request(with(&all).unwrap().create, secrets()).unwrap();
    assert!(matches!(&repo.credentials, Credentials::Ssh { private_key, .. } if private_key == ssh));
    assert_eq!(repo.api_token, Some(ApiToken("t0ken".into())));
    assert_eq!(repo.ca.as_deref(), Some("pem"));
    let signing = repo.hand.signing.unwrap();
    assert!(matches!(signing, SigningKey::OpenPgp { passphrase: Some(p), .. } if p == "secret"));
    assert!(
        with(&["--ssh-key", &key]).is_err(),
        "no key for a host that nobody knows"
    );
    for (flag, value, says) in [("--ca", "/nowhere", "--ca"), ("--signing-key", &ca, "neither")] {
        let error = create_request(with(&[flag, value]).unwrap().create, secrets()).unwrap_err();
        assert!(format!("{error:#}").contains(says), "{error:#}");
    }
}

#[test]
fn a_revision_is_named_or_its_commit_is() {
    #[derive(Parser)]
    struct Answered {
        #[command(flatten)]
        rollback: RevisionRollback,
    }
    let with = |more: &[&str]| {
        let place = [
            "serin",
            "--repository",
            "u",
            "--path",
            "p",
            "--cluster",
            "c",
            "--rollout",
            "n/r",
        ];
        Answered::try_parse_from(place.iter().chain(more).copied()).map(|line| line.rollback.which)
    };
    assert!(with(&[]).is_err());
    assert_eq!(with(&["--commit", "abc"]).unwrap().commit.as_deref(), Some("abc"));
    assert!(with(&["--revision", "1", "--commit", "abc"]).is_ok());
}

#[test]
fn what_makes_no_sense_is_refused_with_the_flag() {
    let with = |flag: &str, value: &str| Line::try_parse_from(GIVEN.iter().copied().chain([flag, value]));
    assert!(with("--set", "novalue").is_err());
    let mut lines = GIVEN.to_vec();
    lines[12] = "no-slash";
    let error = create_request(Line::try_parse_from(lines).unwrap().create, Secrets::default()).unwrap_err();
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
