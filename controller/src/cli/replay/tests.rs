//! A recorded incident: a canary failed 5 % of its calls, and people took it back after eleven minutes.

use std::path::PathBuf;

use clap::Parser as _;
use proptest::prelude::*;

use super::super::rollout::in_manifest;
use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn fixture(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("../tests/fixtures/replay").join(name)
}

fn replayed(spec: &str, more: &str) -> anyhow::Result<String> {
    let words = format!("replay -f rollout.yaml {more}");
    let args = Line::try_parse_from(words.split_whitespace())?.args;
    let rollout = in_manifest(spec, None)?;
    let parsed = parsed(&rollout, "the rollout")?;
    let recording = read(&fixture("incident.jsonl"))?;
    let division = division(args.traffic, args.seed, &recording);
    show("user-service-prod/user-service", &parsed, &recording, division, &args)
}

fn spec() -> String {
    std::fs::read_to_string(fixture("rollout.yaml")).unwrap()
}

#[test]
fn an_incident_is_rolled_back_at_5_percent_and_peers_are_shown_beside_it() {
    insta::assert_snapshot!(replayed(&spec(), "--compare flagger,argo").unwrap());
}

#[test]
fn by_the_plans_weights_it_ends_the_same_way() {
    insta::assert_snapshot!(replayed(&spec(), "--traffic plan").unwrap());
}

#[test]
fn a_spec_that_allows_more_promotes_it_or_waits() {
    let loose = "{baseline: 20m, successRate: {objective: 90%, tolerance: 10%, passTolerance: 15%}}";
    let spec = spec().replace("{baseline: 20m}", loose);
    insta::assert_snapshot!(replayed(&spec, "").unwrap());
}

#[test]
fn the_picture_shows_rates_weights_evidence_and_verdicts() {
    let file = tempfile::NamedTempFile::new().unwrap();
    replayed(
        &spec(),
        &format!("--compare flagger,argo --svg {}", file.path().display()),
    )
    .unwrap();
    let picture = std::fs::read_to_string(file.path()).unwrap();
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/replay.svg");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::write(&docs, &picture).unwrap();
    }
    assert!(
        picture == std::fs::read_to_string(&docs).unwrap(),
        "docs/replay.svg is another picture; write it anew with INSTA_UPDATE=always"
    );
}

#[test]
fn the_documentation_shows_what_is_printed() {
    let page = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/replay.md")).unwrap();
    let printed = replayed(&spec(), "--compare flagger,argo").unwrap();
    for line in printed.lines().filter(|line| !line.is_empty()) {
        assert!(page.contains(line), "docs/replay.md lacks this line: {line}");
    }
}

#[test]
fn json_has_every_tick() {
    let json = replayed(&spec(), "-o json --compare argo").unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value.pointer("/replay/end/outcome").unwrap(), "rolledBack");
    assert_eq!(value.pointer("/replay/end/metric").unwrap(), "success-rate");
    assert_eq!(value.pointer("/peers/1/rule").unwrap(), "Argo Rollouts, failureLimit 3");
    let ticks = value.pointer("/replay/ticks").unwrap().as_array().unwrap();
    let judged = ticks.iter().filter(|tick| tick["judged"] == true);
    let calls: u64 = judged.map(|tick| tick["canary"]["total"].as_u64().unwrap()).sum();
    assert_eq!(value.pointer("/replay/steps/0/canary/total").unwrap(), calls);
}

#[test]
fn what_does_not_fit_to_the_samples_is_said() {
    let said = |from: &str, to: &str| {
        let error = replayed(&spec().replace(from, to), "").unwrap_err();
        format!("{error:#}")
    };
    insta::assert_snapshot!(said("{baseline: 20m}", "{interval: 40s}"), @"replaying user-service-prod/user-service: the recorded ticks are 20s long, and spec.analysis.interval is 40s");
    insta::assert_snapshot!(said("{baseline: 20m}", "{latency: [{share: 99%, within: 300ms}]}"), @"replaying user-service-prod/user-service: calls slower than 300ms, which spec.analysis.latency asks for, were not counted");
    insta::assert_snapshot!(said("{baseline: 20m}", "{falseRollbacks: 0%, interval: 15s}"), @r"
    the spec of the rollout makes no sense:
      spec.analysis.falseRollbacks: `0%` bounds nothing; choose above 0% and up to 50%
    ");
    insta::assert_snapshot!(said("kind: CanaryRollout", "kind: Deployment"), @"there is no CanaryRollout in it");
    insta::assert_snapshot!(said("  git:", "  got:"), @"its CanaryRollout is incomplete or has a field of the wrong type: missing field `git`");
}

#[test]
fn a_manifest_of_several_rollouts_needs_a_name() {
    let two = format!(
        "{}---\n{}",
        spec(),
        spec().replace("{name: user-service,", "{name: other,")
    );
    assert!(in_manifest(&two, None).unwrap_err().to_string().contains("several"));
    assert!(in_manifest(&two, Some("other")).is_ok());
    let absent = in_manifest(&two, Some("absent")).unwrap_err();
    assert_eq!(absent.to_string(), "there is no CanaryRollout absent in it");
}

#[test]
fn recorded_arguments_contradict_a_file_of_samples() {
    for more in [
        "--samples a --record b",
        "--samples a --from 1h",
        "--samples a --canary b",
    ] {
        let words = format!("replay -f rollout.yaml {more}");
        assert!(Line::try_parse_from(words.split_whitespace()).is_err(), "{more}");
    }
    assert!(
        Line::try_parse_from(["replay"]).is_err(),
        "neither a rollout nor a manifest"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the counts are, the page and the picture can be drawn.
    #[test]
    fn no_recording_makes_a_panic(counts in prop::collection::vec((0u64..2_000, 0u64..2_000, 0u64..2_000, 0u64..2_000), 1..60)) {
        let mut text = String::from(
            r#"{"format":"serin-samples/1","interval":"20s","from":"1970-01-01T00:00:00Z","to":"1970-01-01T01:00:00Z","boundsMs":[500]}"#,
        );
        for (i, (canary, failed, stable, slow)) in counts.iter().enumerate() {
            let end = jiff::Timestamp::from_second(20 * (i64::try_from(i).unwrap() + 1)).unwrap();
            for (arm, total) in [("canary", canary), ("stable", stable)] {
                let (failed, slow) = (failed.min(total), slow.min(total));
                text += &format!("\n{{\"tick\":\"{end}\",\"arm\":\"{arm}\",\"pod\":\"p\",\"total\":{total},\"failed\":{failed},\"slow\":[{slow}]}}");
            }
        }
        let recording = samples::read(text.as_bytes()).unwrap();
        let args = Line::try_parse_from("replay -f r --compare flagger,argo --svg /dev/null".split(' ')).unwrap().args;
        let parsed = parsed(&in_manifest(&spec(), None).unwrap(), "it").unwrap();
        for division in [Division::Recorded, Division::Plan { seed: 7 }] {
            let _ = show("a/b", &parsed, &recording, division, &args);
        }
    }
}
