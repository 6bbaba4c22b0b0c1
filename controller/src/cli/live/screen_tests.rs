//! What a terminal of 80 columns shows.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::*;
use crate::cli::rollout::minimal;

fn rollout(status: Value) -> CanaryRollout {
    let mut rollout = minimal(&json!({
        "plan": {"steps": [{"weight": 5, "hold": "2m"}, {"weight": 50, "hold": "5m", "approval": "Required"}, {"weight": 100, "hold": "10m"}]},
    }));
    rollout.spec.git.repository = "https://github.com/shop/config.git".to_owned();
    rollout.status = serde_json::from_value(status).unwrap();
    rollout
}

fn screen(rollout: CanaryRollout, around: Around) -> Screen {
    let mut screen = Screen::new(true, false);
    screen.take(Event::Apply(rollout));
    screen.around = around;
    screen
}

fn drawn(screen: &mut Screen, height: u16, colours: bool) -> (String, bool) {
    let mut terminal = Terminal::new(TestBackend::new(80, height)).unwrap();
    let now = "2026-11-20T10:01:05Z".parse().unwrap();
    terminal.draw(|frame| screen.draw(frame, now, colours)).unwrap();
    let buffer = terminal.backend().buffer();
    let is_coloured = buffer.content().iter().any(|cell| cell.fg != Color::Reset);
    let text: String = buffer
        .content()
        .chunks(80)
        .map(|row| {
            row.iter()
                .map(ratatui::buffer::Cell::symbol)
                .collect::<String>()
                .trim_end()
                .to_owned()
                + "\n"
        })
        .collect();
    (text, is_coloured)
}

fn on_trial() -> (CanaryRollout, Around) {
    let rollout = rollout(json!({
        "phase": "Progressing", "step": "1/3", "weight": {"wanted": 5, "observed": 5}, "verdict": "inconclusive",
        "message": "step 1 of 3 has 5 % for at least 2m; it ends when enough is known", "next": "2026-11-20T10:01:20Z",
        "stable": "1.0.0",
        "revision": {"name": "1.1.0", "commit": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "author": "Jane", "subject": "Canary 1.1.0"},
        "evidence": [
            {"metric": "success-rate", "arm": "canary", "bad": 10, "total": 100, "otherBad": 1, "otherTotal": 2000, "towardsFail": 61,
             "towardsPass": 0, "sentence": "10.0 % of 100 canary calls failed, stable 0.1 % of 2,000", "range": "2.9 % to 23.1 %",
             "otherRange": "0.0 % to 0.9 %"},
            {"metric": "checkout-errors", "arm": "canary", "sentence": "nothing was counted yet"},
        ],
        "latency": {"asOf": "2026-11-20T10:01:01Z", "canary": {"p50Ms": 12, "p95Ms": 48, "p99Ms": 90},
                    "stable": {"p50Ms": 11, "p95Ms": 40, "p99Ms": 71}},
        "hooks": [
            {"name": "smoke", "point": "BeforeRollout", "state": "Passed", "since": "2026-11-20T10:00:01Z", "onFailure": "RollBack"},
            {"name": "window", "point": "Step", "step": 1, "state": "Asked", "since": "2026-11-20T10:00:20Z",
             "until": "2026-11-20T10:10:20Z", "onFailure": "Pause", "answer": "HTTP 202: the window opens at noon"},
        ],
        "samples": {"boundsMs": [500], "ticks": [
            {"end": "2026-11-20T10:00:40Z", "weight": 5, "leftOut": true, "canary": {"requests": 9, "failures": 1}, "stable": {"requests": 90, "failures": 0}},
            {"end": "2026-11-20T10:01:00Z", "weight": 5, "canary": {"requests": 50, "failures": 5, "slow": [1]}, "stable": {"requests": 950, "failures": 1, "slow": [0]}},
        ]},
    }));
    let arm = |image: &str| {
        Some(Deployed {
            image: image.to_owned(),
            ready: 1,
            wanted: 3,
        })
    };
    let around = Around {
        stable: arm("registry.example.com/user-service:1.0.0"),
        canary: arm("registry.example.com/user-service:1.1.0"),
        autoscaler: Some(super::super::around::Scaler {
            least: 3,
            most: 10,
            present: 3,
        }),
        events: vec![Told {
            at: "2026-11-20T10:00:20Z".parse().ok(),
            warns: false,
            reason: "StepEntered".to_owned(),
            message: "the canary's weight is 5 %".to_owned(),
        }],
        unread: vec![],
    };
    (rollout, around)
}

#[test]
fn a_trial_is_seen_in_one_look() {
    let (rollout, around) = on_trial();
    insta::assert_snapshot!(drawn(&mut screen(rollout, around), 56, true).0);
}

#[test]
fn how_percentiles_went_is_drawn_from_their_second_reading_on() {
    let (mut rollout, around) = on_trial();
    let mut screen = screen(rollout.clone(), around);
    assert!(!drawn(&mut screen, 60, true).0.contains("p50      stable"));
    let latency = rollout
        .status
        .as_mut()
        .and_then(|status| status.latency.as_mut())
        .unwrap();
    latency.as_of = "2026-11-20T10:02:01Z".parse().unwrap();
    latency.canary.as_mut().unwrap().p99_ms = 180;
    // A status that says nothing new of them adds nothing.
    screen.take(Event::Apply(rollout.clone()));
    screen.take(Event::Apply(rollout));
    let (text, _) = drawn(&mut screen, 64, true);
    let lines: Vec<_> = text
        .lines()
        .skip_while(|line| !line.contains("p50      stable"))
        .take(7)
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
      p50      stable ██  12 ms
               canary ██  12 ms
      p95      stable ▇▇  48 ms
               canary ██  48 ms
      p99      stable ▄▄  180 ms
               canary ▅█  180 ms
               p50, p95, p99: a bar for each reading since this view began
    ");
}

#[test]
fn a_rollback_that_waits_says_for_what() {
    let rollout = rollout(json!({
        "phase": "RollingBack", "weight": {"wanted": 0, "observed": 0}, "verdict": "fail", "stable": "1.0.0",
        "message": "the push was refused; trying again", "revision": {"name": "1.2.0"},
        "rollback": {"revision": "1.2.0", "trafficAt": "2026-11-20T10:00:00Z", "reason": "20.0 % of 90 canary calls failed"},
        "conditions": [{"type": "GitPending", "status": "True", "reason": "PushRefused", "message": "the host says: protected branch",
            "lastTransitionTime": "2026-11-20T10:00:05Z"}],
    }));
    let around = Around {
        unread: vec!["events: forbidden".to_owned()],
        ..Around::default()
    };
    insta::assert_snapshot!(drawn(&mut screen(rollout, around), 30, true).0);
}

#[test]
fn without_colours_nothing_is_lost_but_the_colours() {
    let (rollout, around) = on_trial();
    let mut screen = screen(rollout, around);
    let (coloured, is_coloured) = drawn(&mut screen, 55, true);
    let (plain, is_still_coloured) = drawn(&mut screen, 55, false);
    assert!(is_coloured && !is_still_coloured);
    assert_eq!(coloured, plain);
}

#[test]
fn what_has_no_room_is_scrolled_to_and_no_further() {
    let (rollout, around) = on_trial();
    let mut screen = screen(rollout, around);
    assert!(drawn(&mut screen, 10, true).0.contains("↓ more"));
    screen.scroll(1000);
    let (end, _) = drawn(&mut screen, 10, true);
    assert!(
        end.contains("takes the canary's traffic away") && !end.contains("↓ more"),
        "{end}"
    );
}

#[test]
fn what_comes_from_elsewhere_moves_no_cursor() {
    let mut hostile = rollout(json!({"phase": "Idle", "message": "a\u{1b}[2J\nb\tc"}));
    hostile.metadata.name = Some("x\u{7}".to_owned());
    let (text, _) = drawn(&mut screen(hostile, Around::default()), 10, true);
    assert!(text.contains("a [2J b c"), "{text}");
}
