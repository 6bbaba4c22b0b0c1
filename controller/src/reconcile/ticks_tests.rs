use jiff::Timestamp;
use serin_core::analysis::{CustomTick, Sent, Sides, Sight, Streams, Tick};
use serin_core::rollout::{LiveWeight, PauseReason, Paused, Progressing, RestNote, Revision, Run};

use super::*;
use crate::reconcile::fixtures::{one_pod, seen_of};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn plan() -> Plan {
    let spec = serde_json::from_value(serde_json::json!({
        "service": {"name": "web", "port": 80}, "stable": {"deployment": "web"}, "canary": {"deployment": "web-canary"},
        "analysis": {"warmUp": "20s", "latency": [{"share": "99%", "within": "500ms"}]},
        "git": {"repository": "https://git.example.com/x.git", "path": "prod"},
    }));
    crate::api::parse(&spec.unwrap()).unwrap().plan
}

fn revision(name: &str) -> Revision {
    Revision {
        name: name.to_owned(),
        hash: name.to_owned(),
    }
}

/// In the first step, whose weight was seen at 0; ticks up to `as_of` were looked at.
fn progressing(as_of: i64) -> Phase {
    let run = Run {
        as_of: at(as_of),
        ..Run::begin(revision("1.1.0"), revision("1.0.0"), None, &plan(), at(-100))
    };
    Phase::Progressing(Progressing {
        run,
        step: 0,
        since: at(-5),
        from: serin_core::Weight::ZERO,
        weight_at: Some(at(0)),
    })
}

fn tick(end: i64, requests: u64) -> Tick {
    let arm = |requests, failures| ArmSample {
        sight: Sight::Fresh,
        counts: Counts {
            requests,
            failures,
            slow: vec![failures, 0],
        },
        pods: vec![],
    };
    Tick {
        start: at(end - 20),
        end: at(end),
        canary: arm(requests, requests / 10),
        stable: arm(10 * requests, 1),
        custom: CustomTick::default(),
        sent: Sent::default(),
        open: Streams::default(),
    }
}

fn seen(ticks: Vec<Tick>) -> Observation {
    Observation {
        weight: LiveWeight::At(5.try_into().unwrap()),
        sides: Sides::Both,
        ticks,
        ..seen_of(one_pod(), one_pod())
    }
}

fn ends(samples: Option<&SamplesStatus>) -> Vec<(i64, bool)> {
    let ticks = samples.map(|samples| samples.ticks.as_slice()).unwrap_or_default();
    ticks
        .iter()
        .map(|tick| (tick.end.as_second() - 1_700_000_000, tick.left_out))
        .collect()
}

#[test]
fn ticks_are_kept_with_what_was_counted_and_whether_it_was_judged() {
    let (before, later) = (progressing(0), progressing(60));
    let observation = seen(vec![tick(20, 50), tick(40, 200), tick(60, 210)]);
    let kept = after(None, &plan(), (&before, &later), &observation).unwrap();
    // The first one is the warm-up.
    assert_eq!(ends(Some(&kept)), [(20, true), (40, false), (60, false)]);
    let SamplesStatus { bounds_ms, ticks } = &kept;
    assert_eq!(*bounds_ms, [500]);
    assert_eq!(
        serde_json::to_string(&ticks[1]).unwrap(),
        r#"{"end":"2023-11-14T22:14:00Z","weight":5,"canary":{"requests":200,"failures":20,"slow":[20,0]},"stable":{"requests":2000,"failures":1,"slow":[1,0]}}"#
    );

    // After a restart the same ticks may be seen again: only those that were not looked at are added.
    let again = seen(vec![tick(60, 210), tick(80, 190)]);
    let kept = after(Some(&kept), &plan(), (&later, &progressing(80)), &again);
    assert_eq!(ends(kept.as_ref()), [(20, true), (40, false), (60, false), (80, false)]);
}

#[test]
fn the_last_sixty_are_kept_and_stay_small() {
    let mut kept = None;
    for n in 0..100 {
        let (before, later) = (progressing(n * 20), progressing(n * 20 + 20));
        let observation = seen(vec![tick(n * 20 + 20, 1_000_000)]);
        kept = after(kept.as_ref(), &plan(), (&before, &later), &observation);
    }
    let ends = ends(kept.as_ref());
    assert_eq!((ends.len(), ends[0].0, ends[59].0), (60, 820, 2_000));
    let size = serde_json::to_string(&kept).unwrap().len();
    assert!(size < 16 * 1024, "{size} bytes");
}

#[test]
fn another_trial_begins_with_none_and_an_ended_one_keeps_its_own() {
    let (before, later) = (progressing(0), progressing(20));
    let kept = after(None, &plan(), (&before, &later), &seen(vec![tick(20, 50)]));
    let Phase::Progressing(p) = &later else {
        panic!("{later:?}")
    };
    let paused = Phase::Paused(Paused {
        run: p.run.clone(),
        step: 0,
        reason: PauseReason::Operator,
        weight: serin_core::Weight::ZERO,
        since: at(30),
    });
    let nothing = seen(vec![]);
    let held = after(kept.as_ref(), &plan(), (&later, &paused), &nothing);
    assert_eq!(held, kept);
    let mut other = p.clone();
    other.run.began = at(50);
    let other = Phase::Progressing(other);
    assert_eq!(after(kept.as_ref(), &plan(), (&paused, &other), &nothing), None);
    let ended = Phase::Idle(RestNote::Quiet);
    assert_eq!(after(kept.as_ref(), &plan(), (&paused, &ended), &nothing), None);
}
