//! That docs/metrics.md lists what there is, and that series of rollouts come and go with them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::api::CanaryRollout;
use crate::board::Key;
use crate::runtime::lease::Leadership;

fn sources(board: &Board) -> Sources {
    Sources {
        board: board.clone(),
        sharing: Sharing::unchallenged(),
        shard_of: |_, _| Shard::FIRST,
        waiting: Arc::new(|| [("rollback", 1), ("other", 0)]),
    }
}

fn scrape(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

fn rollout(name: &str) -> CanaryRollout {
    serde_json::from_value(json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {
            "service": {"name": name, "port": 80}, "stable": {"deployment": name}, "canary": {"deployment": "c"},
            "git": {"repository": "https://git.example.com/config.git", "branch": "main", "path": "prod",
                    "secretRef": {"name": "config-repo"}},
        },
        "status": {
            "phase": "Progressing", "step": "2/4", "weight": {"wanted": 25, "observed": 5}, "verdict": "inconclusive",
            "evidence": [{"metric": "success-rate", "arm": "canary", "bad": 10, "total": 100, "towardsFail": 61}],
            "conditions": [{"type": "Blind", "status": "True", "reason": "NoFreshScrape", "message": "",
                            "lastTransitionTime": "2026-11-20T10:00:00Z"},
                           {"type": "CanaryStale", "status": "False", "reason": "UpToDate", "message": "",
                            "lastTransitionTime": "2026-11-20T10:00:00Z"}],
        },
    }))
    .unwrap()
}

/// Everything that can be counted, once.
fn all_of_it() -> (Metrics, Board) {
    let (metrics, board) = (Metrics::default(), Board::default());
    metrics.look(DONE, Duration::from_millis(7));
    metrics.query(DONE, Duration::from_millis(7));
    metrics.git(GitOperation::Push, "PushRefused", Duration::from_secs(1));
    metrics.transition("Starting", "Progressing", "");
    metrics.traffic_away(Duration::from_secs(21));
    board.put(rollout("web"), Timestamp::UNIX_EPOCH);
    (metrics, board)
}

/// Name and type of each family, and the labels of its series, as a scrape has them.
fn families(text: &str) -> BTreeMap<String, (String, String)> {
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut families: BTreeMap<_, _> = kinds
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| {
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            (format!("{name}{suffix}"), (kind.to_owned(), String::new()))
        })
        .collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.split_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let family = families
            .iter_mut()
            .filter(|(family, _)| name.starts_with(family.as_str()));
        let (_, (_, known)) = family.max_by_key(|(family, _)| family.len()).unwrap();
        let names = labels
            .split("\",")
            .filter_map(|label| label.split_once('='))
            .map(|(name, _)| name);
        let names: Vec<_> = names.filter(|name| *name != "le").collect();
        if known.is_empty() {
            *known = names.join(", ");
        }
    }
    families
}

#[test]
fn a_scrape_says_how_rollouts_stand() {
    let (metrics, board) = all_of_it();
    let text = scrape(&metrics.registry(sources(&board)));
    let series: Vec<_> = text
        .lines()
        .filter(|line| {
            line.starts_with("serin_rollout")
                || line.starts_with("serin_leader")
                || line.starts_with("serin_shard")
                || line.contains("depth{")
        })
        .collect();
    insta::assert_snapshot!(series.join("\n"));
    assert!(
        text.contains("serin_transitions_total{from=\"Starting\",to=\"Progressing\",reason=\"\"} 1"),
        "{text}"
    );
    let push = "serin_git_operation_duration_seconds_count{operation=\"push\",outcome=\"PushRefused\"} 1";
    assert!(text.contains(push), "{text}");
}

#[test]
fn the_series_of_a_rollout_go_with_it() {
    let (metrics, board) = all_of_it();
    let registry = metrics.registry(sources(&board));
    assert!(scrape(&registry).contains("rollout=\"web\""));
    board.remove(&Key::of(&rollout("web")));
    let text = scrape(&registry);
    assert!(!text.contains("rollout=\"web\""), "{text}");
    assert!(text.contains("serin_rollouts 0"), "{text}");
}

#[test]
fn one_who_follows_says_nothing_of_rollouts() {
    let (metrics, board) = all_of_it();
    let follows = Sources {
        sharing: Sharing::of_a_follower("serin-1_2"),
        ..sources(&board)
    };
    let text = scrape(&metrics.registry(follows));
    assert!(
        text.contains("serin_leader 0") && text.contains("serin_rollouts 0"),
        "{text}"
    );
    assert!(!text.contains("rollout=\"web\""), "{text}");
}

#[test]
fn a_replica_tells_of_the_rollouts_of_its_shards_only() {
    let (metrics, board) = all_of_it();
    board.put(rollout("other"), Timestamp::UNIX_EPOCH);
    let shards = vec![Leadership::unchallenged(), Leadership::never()];
    let of_name: ShardOf = |count, rollout| {
        let second = rollout.metadata.name.as_deref() == Some("other");
        count.shards().nth(usize::from(second)).unwrap()
    };
    let sources = Sources {
        sharing: Sharing::with(shards, vec![None, None]),
        shard_of: of_name,
        ..sources(&board)
    };
    let text = scrape(&metrics.registry(sources));
    assert!(
        text.contains("rollout=\"web\"") && !text.contains("rollout=\"other\""),
        "{text}"
    );
    for line in [
        "serin_leader 1",
        "serin_rollouts 1",
        "serin_shard_held{shard=\"0\"} 1",
        "serin_shard_held{shard=\"1\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

/// The names of all samples.
pub(super) fn names() -> Vec<String> {
    let (metrics, board) = all_of_it();
    let text = scrape(&metrics.registry(sources(&board)));
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let names = samples.filter_map(|line| line.split(['{', ' ']).next());
    names.map(str::to_owned).collect()
}

/// The rows of the table: name, type, labels.
fn table() -> BTreeMap<String, (String, String)> {
    let page = include_str!("../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `serin_"));
    let row = |row: &str| {
        let mut cells = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').replace('`', ""));
        let mut next = || cells.next().unwrap_or_default();
        (format!("serin_{}", next()), (next(), next()))
    };
    rows.map(row).collect()
}

#[test]
fn the_table_in_the_docs_lists_every_metric_and_no_other() {
    let (metrics, board) = all_of_it();
    let there = families(&scrape(&metrics.registry(sources(&board))));
    let listed = table();
    for (name, what) in &there {
        assert_eq!(listed.get(name), Some(what), "docs/metrics.md says so of {name}");
    }
    for name in listed.keys() {
        assert!(
            there.contains_key(name),
            "docs/metrics.md lists {name}, which there is not"
        );
    }
}
