//! Rollouts as they look in a cluster, with the last minutes of each, and the page over them. The good and the bad one are told tick by
//! tick.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what is made up here and does not fit stops the example at its start"
)]

use jiff::{SignedDuration, Timestamp};
use kube::Config;
use serde_json::{Value, json};
use serin::api::CanaryRollout;
use serin::board::Board;
use serin::runtime::client;
use serin::runtime::shards::Sharing;
use serin::web::steer::Steering;
use serin::web::{Page, Replica};
use tokio_util::sync::CancellationToken;

const TICK: i64 = 20;
/// Ticks that status keeps.
const KEPT: i64 = 60;

/// Puts them up.
pub(crate) fn fill(board: &Board) {
    let now = serin::runtime::clock::now();
    good(board, now);
    bad(board, now);
    board.fill();
    for (nth, (namespace, name, status)) in others(now).into_iter().enumerate() {
        let at = back(now, i64::try_from(nth).unwrap_or(0));
        put(board, (namespace, name), &status, at);
    }
}

/// The page over a board, with no cluster behind it that takes commands.
pub(crate) fn page(board: Board) -> anyhow::Result<Page> {
    let config = Config::new("https://127.0.0.1:1".parse()?);
    let replica = Replica {
        identity: "serin-6d9f7c5b8-x2x7k_5e1f09aa".to_owned(),
        sharing: Sharing::unchallenged(),
        shard_of: serin::reconcile::shard_of,
    };
    let steering = Steering::new(client::unfenced(config.clone())?, config);
    Ok(Page::new(board, replica, steering, CancellationToken::new()))
}

fn back(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(now)
}

fn put(board: &Board, (namespace, name): (&str, &str), status: &Value, at: Timestamp) {
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "service": {"name": name, "port": 50051},
            "stable": {"deployment": name}, "canary": {"deployment": format!("{name}-canary")},
            "plan": {"steps": [
                {"weight": 5, "hold": "2m"}, {"weight": 25, "hold": "2m"},
                {"weight": 50, "hold": "5m", "approval": "Required"}, {"weight": 100, "hold": "10m", "atMost": "30m"},
            ]},
            "git": {"repository": "https://github.com/example-shop/config.git", "branch": "main", "path": "deploy/environments/prod",
                    "secretRef": {"name": "config-repo"}},
        },
        "status": status,
    });
    let rollout: CanaryRollout = serde_json::from_value(rollout).expect("the rollouts here are well-formed");
    board.put(rollout, at);
}

/// A number below `below` that looks like chance and is the same each time.
fn noise(tick: i64, salt: i64, below: i64) -> i64 {
    (tick * 7_919 + salt * 104_729 + tick * tick * 31).rem_euclid(below.max(1))
}

fn arm(tick: i64, salt: i64, requests: i64, failed: i64, slow: i64) -> Value {
    let requests = requests + noise(tick, salt, requests / 8 + 1);
    json!({"requests": requests, "failures": failed, "slow": [slow + noise(tick, salt + 3, 1 + requests / 120)]})
}

/// What Prometheus said of both arms' latency: every third tick it is asked.
fn latency(tick: i64, now: Timestamp, slower: i64) -> Value {
    let read = tick - tick.rem_euclid(3);
    let arm = |salt: i64, slower: i64| {
        json!({"p50Ms": 9 + noise(read, salt, 4) + slower, "p95Ms": 44 + noise(read, salt, 21) + 9 * slower,
               "p99Ms": 118 + noise(read, salt, 60) + 30 * slower})
    };
    json!({"asOf": back(now, -read * TICK), "stable": arm(11, 0), "canary": arm(12, slower)})
}

fn condition(kind: &str, is: bool, reason: &str, message: &str, since: Timestamp) -> Value {
    let status = if is { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
}

fn conditions(since: Timestamp, more: &[Value]) -> Vec<Value> {
    let mut all = vec![
        condition("Ready", true, "Reconciled", "", since),
        condition("SpecValid", true, "Parsed", "every field makes sense", since),
        condition("Blind", false, "Sighted", "samples come in", since),
        condition(
            "TrafficNotFollowing",
            false,
            "Follows",
            "no share of the calls is proven to be off its weight",
            since,
        ),
        condition(
            "WeightContested",
            false,
            "OneWriter",
            "nobody else writes the weights",
            since,
        ),
        condition("GitPending", false, "NothingPending", "no commit is waited for", since),
        condition("RollbackBlocked", false, "NotBlocked", "no rollback is blocked", since),
        condition(
            "DeliveryBlocked",
            false,
            "NotBlocked",
            "no commit is kept from the cluster",
            since,
        ),
    ];
    all.retain(|old| more.iter().all(|new| new["type"] != old["type"]));
    all.extend_from_slice(more);
    all
}

fn history(now: Timestamp) -> Value {
    json!([
        {"revision": "2.13.1", "outcome": "Promoted", "began": back(now, 90_000), "ended": back(now, 88_680), "duration": "22m",
         "requests": 41_220, "reason": "every step passed", "canaryCommit": "5c01d9e2aa", "commit": "be77120cd4"},
        {"revision": "2.13.0", "outcome": "RolledBack", "began": back(now, 180_000), "ended": back(now, 179_700), "duration": "5m",
         "requests": 912, "reason": "6.1 % of 912 canary calls failed, stable 0.04 % of 17,204; evidence 184 of the 100 needed to fail",
         "canaryCommit": "91b3e07f10", "commit": "0d4c2ab9e7"},
    ])
}

/// 2.14.0 of user-service is at 50 % and about to pass.
fn good(board: &Board, now: Timestamp) {
    let place = ("shop-prod", "user-service");
    let length = 27;
    let mut ticks: Vec<Value> = Vec::new();
    for tick in 0..=length {
        let at = back(now, (length - tick) * TICK);
        let (step, weight) = match tick {
            0..7 => (1, 5),
            7..14 => (2, 25),
            _ => (3, 50),
        };
        let began = [0, 0, 7, 14][step];
        let passed = i32::try_from((tick - began) * 100 / if step == 3 { 15 } else { 8 })
            .unwrap_or(0)
            .clamp(0, 100);
        let calls = 2_400;
        ticks.push(json!({
            "end": at, "weight": weight, "leftOut": tick == began,
            "canary": arm(tick, 1, calls * weight / 100, noise(tick, 5, 40) / 38, 0),
            "stable": arm(tick, 2, calls * (100 - weight) / 100, noise(tick, 6, 9) / 7, 1),
        }));
        let shown = &ticks[ticks.len().saturating_sub(usize::try_from(KEPT).unwrap_or(60))..];
        let total: i64 = ticks
            .iter()
            .filter_map(|tick| tick["canary"]["requests"].as_i64())
            .sum();
        let bad: i64 = ticks
            .iter()
            .filter_map(|tick| tick["canary"]["failures"].as_i64())
            .sum();
        let [other_total, other_bad] =
            ["requests", "failures"].map(|of| ticks.iter().filter_map(|tick| tick["stable"][of].as_i64()).sum::<i64>());
        let status = json!({
            "phase": "Progressing", "step": format!("{step}/4"), "verdict": "inconclusive", "stable": "2.13.1",
            "message": format!("2.14.0 takes {weight} % of the calls in step {step} of 4: success-rate lacks evidence to pass; afterwards it waits for an approval"),
            "next": now.checked_add(SignedDuration::from_secs(14)).unwrap_or(now),
            "weight": {"wanted": weight, "observed": if tick == began { [0, 5, 25][step - 1] } else { weight }},
            "revision": {"name": "2.14.0", "commit": "8f3a6c1d0b7e49aa52d4c09be1f7703c55e2b9a1",
                "author": "Mara Lindqvist <mara@example.com>", "subject": "user-service: canary 2.14.0 (batch lookups)"},
            "evidence": [
                {"metric": "success-rate", "arm": "canary", "bad": bad, "total": total, "otherBad": other_bad, "otherTotal": other_total,
                 "range": "0.0 % to 0.31 %", "otherRange": "0.01 % to 0.09 %", "towardsFail": 2, "towardsPass": passed,
                 "sentence": format!("0.01 % of {total} canary calls failed, stable 0.02 % of {other_total}; evidence 38 of the 100 needed to pass")},
                {"metric": "latency-500ms", "arm": "canary", "bad": 21, "total": total, "otherBad": 63, "otherTotal": other_total,
                 "range": "0.05 % to 0.42 %", "otherRange": "0.11 % to 0.34 %", "towardsFail": 4, "towardsPass": (passed + 8).min(100),
                 "sentence": format!("0.2 % of {total} canary calls took longer than 500 ms, 1.0 % allowed; evidence 100 of the 100 needed to pass")},
                {"metric": "checkout-errors", "arm": "canary", "dryRun": true, "bad": 0, "total": 0,
                 "sentence": "no calls on canary yet"},
            ],
            "samples": {"boundsMs": [500], "ticks": shown}, "trial": "0c5a10e2b7f4",
            "latency": latency(tick, back(now, length * TICK), 0),
            "forecast": {"message": "if the canary is as good as stable, step 3 of 4 takes about 1240 more calls on it: 21s at 120 calls a second",
                "steps": [{"step": 3, "weight": 50, "calls": 1_240, "time": "21s", "decides": true},
                          {"step": 4, "weight": 100, "calls": 5_300, "time": "44s", "decides": true}]},
            "history": history(now), "conditions": conditions(back(now, 90_000), &[]),
        });
        put(board, place, &status, at);
    }
}

/// 4.2.0 of checkout failed at 5 %, and is being taken out of Git.
fn bad(board: &Board, now: Timestamp) {
    let place = ("shop-prod", "checkout");
    let (length, failed) = (12, 9);
    let mut ticks: Vec<Value> = Vec::new();
    for tick in 0..=length {
        let at = back(now, (length - tick) * TICK + 30);
        let is_over = tick > failed;
        let fail = i32::try_from(if tick < 5 {
            tick
        } else {
            4 + (tick - 4) * (tick - 4) * 4
        })
        .unwrap_or(0)
        .clamp(0, 100);
        let failures = if tick < 5 { 0 } else { 4 + noise(tick, 8, 4) };
        if !is_over {
            ticks.push(json!({
                "end": at, "weight": 5, "leftOut": tick == 0,
                "canary": arm(tick, 1, 60, failures, failures * 2), "stable": arm(tick, 2, 1_140, noise(tick, 6, 9) / 7, 2),
            }));
        }
        let fail = if tick >= failed { 100 } else { fail };
        let why = "7.4 % of 594 canary calls failed, stable 0.03 % of 11,320; evidence 143 of the 100 needed to fail";
        let phase = if tick >= failed { "RollingBack" } else { "Progressing" };
        let since = back(now, (length - failed) * TICK + 30);
        let rollback = json!({
            "revision": "4.2.0", "reason": why, "trafficAt": since.checked_add(SignedDuration::from_millis(800)).unwrap_or(since),
            "commit": "c7d20e51f9a3be60d1c84e77b20a95513f6d8a42", "pushedAt": back(now, 84),
        });
        let delivery = condition(
            "DeliveryBlocked",
            is_over,
            if is_over { "SyncWindow" } else { "NotBlocked" },
            if is_over {
                "Argo CD does not apply c7d20e51f9: a sync window of the project shop is closed until 06:00; allow manualSync: true and sync by hand, or wait"
            } else {
                ""
            },
            back(now, 60),
        );
        let status = json!({
            "phase": phase, "verdict": if tick >= failed { "fail" } else { "inconclusive" }, "stable": "4.1.7",
            "step": (tick < failed).then_some("1/4"),
            "message": if tick >= failed { "4.2.0 is reverted by c7d20e51f9; its traffic is gone, and Argo CD has to apply the commit".to_owned() }
                       else { "4.2.0 takes 5 % of the calls in step 1 of 4: success-rate lacks evidence to pass".to_owned() },
            "weight": {"wanted": if tick >= failed { 0 } else { 5 }, "observed": if tick > failed { 0 } else { 5 }},
            "revision": {"name": "4.2.0", "commit": "e02b7744c1d98ab3f05561c2a97de8804bb3f16d",
                "author": "ci <ci@example.com>", "subject": "checkout: canary 4.2.0 (new payment client)"},
            "evidence": [
                {"metric": "success-rate", "arm": "canary", "bad": 44, "total": 594, "otherBad": 3, "otherTotal": 11_320,
                 "range": "4.6 % to 11.1 %", "otherRange": "0.01 % to 0.12 %", "towardsFail": fail, "towardsPass": 0, "sentence": why,
                 "pods": [{"pod": "checkout-canary-6f7d8-2jk4p", "bad": 23, "total": 301}, {"pod": "checkout-canary-6f7d8-x9vbn", "bad": 21, "total": 293}]},
                {"metric": "latency-500ms", "arm": "canary", "bad": 88, "total": 594, "otherBad": 25, "otherTotal": 11_320,
                 "range": "10.6 % to 19.9 %", "otherRange": "0.1 % to 0.4 %", "towardsFail": fail * 64 / 100, "towardsPass": 0,
                 "sentence": "14.8 % of 594 canary calls took longer than 500 ms, 1.0 % allowed; evidence 21 of the 100 needed to fail"},
            ],
            "samples": {"boundsMs": [500], "ticks": ticks}, "trial": "41d7c2a09be3",
            "latency": if is_over { Value::Null } else { latency(tick, back(now, length * TICK + 30), tick.min(8)) },
            "rollback": if tick >= failed { rollback } else { Value::Null },
            "history": history(now), "conditions": conditions(back(now, 9_000), &[delivery]),
        });
        put(board, place, &status, at);
    }
}

fn others(now: Timestamp) -> Vec<(&'static str, &'static str, Value)> {
    let calm = conditions(back(now, 80_000), &[]);
    let blind = conditions(
        back(now, 80_000),
        &[condition(
            "Blind",
            true,
            "NoFreshScrape",
            "no fresh scrape of the canary's pods",
            back(now, 240),
        )],
    );
    vec![
        (
            "media-prod",
            "thumbnails",
            json!({
                "phase": "Idle", "stable": "1.8.2", "revision": {"name": "1.8.2"}, "weight": {"wanted": 0, "observed": 0},
                "message": "both arms run 1.8.2; a new canary revision starts a trial", "conditions": calm,
            }),
        ),
        (
            "media-prod",
            "search",
            json!({
                "phase": "Promoted", "stable": "3.0.0", "revision": {"name": "3.0.0"}, "weight": {"wanted": 0, "observed": 0}, "verdict": "pass",
                "message": "3.0.0 is promoted", "conditions": calm,
                "promotion": {"revision": "3.0.0", "commit": "77aa01", "pushedAt": back(now, 4_000), "endedAt": back(now, 3_100)},
            }),
        ),
        (
            "pay-prod",
            "ledger",
            json!({
                "phase": "Paused", "step": "3/4", "stable": "0.9.4", "revision": {"name": "0.9.5"}, "weight": {"wanted": 50, "observed": 50}, "verdict": "pass",
                "message": "0.9.5 waits at 50 %: the step asks for an approval", "conditions": calm,
            }),
        ),
        (
            "pay-prod",
            "fraud-scores",
            json!({
                "phase": "Paused", "step": "2/4", "stable": "5.1.0", "revision": {"name": "5.2.0"}, "weight": {"wanted": 0, "observed": 0},
                "verdict": "inconclusive", "message": "5.2.0 waits at 0 %: no fresh scrape of its pods for 5m; it starts again at the first step when sight returns",
                "conditions": blind,
                "evidence": [{"metric": "success-rate", "arm": "canary", "sentence": "no calls on canary yet"}],
            }),
        ),
    ]
}
