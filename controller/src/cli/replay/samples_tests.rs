//! Files of samples, good and bad.

use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"{"format":"serin-samples/1","interval":"20s","from":"2026-11-20T10:00:00Z","to":"2026-11-20T10:01:00Z","boundsMs":[500]}
{"tick":"2026-11-20T10:00:00Z","arm":"stable","pod":"s","total":900,"failed":1,"slow":[2]}
{"tick":"2026-11-20T10:00:20Z","arm":"canary","pod":"c","total":50,"failed":3,"slow":[0]}
{"tick":"2026-11-20T10:00:20Z","arm":"stable","pod":"s","total":950,"failed":0,"slow":[2],"codes":{"12":4},"seen":false}
"#;

const WITH_OWN: &str = r#"{"format":"serin-samples/1","interval":"20s","from":"2026-11-20T10:00:00Z","to":"2026-11-20T10:01:00Z","boundsMs":[],"metrics":[{"name":"memory","query":"max(m)"},{"name":"idle","bad":"i","total":"j"},{"name":"checkout","bad":"b","total":"t"}],"lines":5}
{"tick":"2026-11-20T10:00:00Z","arm":"stable","pod":"s","total":900,"failed":1,"own":{"checkout":[1,90]}}
{"tick":"2026-11-20T10:00:20Z","values":{"memory":{"canary":"0.1","stable":"430"}}}
{"tick":"2026-11-20T10:00:20Z","arm":"canary","pod":"c","total":50,"failed":3,"own":{"checkout":[4,5]}}
{"tick":"2026-11-20T10:00:40Z","values":{"memory":{}}}
"#;

fn said(text: &str) -> String {
    read(text.as_bytes()).unwrap_err().to_string()
}

fn edited(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    said(&GOOD.replacen(from, to, 1))
}

#[test]
fn what_was_written_is_read_back_to_the_call() {
    let recording = read(GOOD.as_bytes()).unwrap();
    let ticks = &recording.draft().ticks;
    assert_eq!(ticks.len(), 2);
    let mut file = Vec::new();
    write(&recording, &mut file).unwrap();
    assert_eq!(read(file.as_slice()).unwrap(), recording);
    assert!(String::from_utf8(file).unwrap().starts_with(
        r#"{"format":"serin-samples/1","interval":"20s","from":"2026-11-20T10:00:00Z","to":"2026-11-20T10:01:00Z","boundsMs":[500],"lines":4}"#
    ));
}

#[test]
fn metrics_of_the_users_own_are_read_back_to_the_last_bit() {
    let recording = read(WITH_OWN.as_bytes()).unwrap();
    let ticks: Vec<_> = recording.draft().ticks.values().collect();
    assert_eq!(ticks[1].values[0].canary, Some(0.1));
    assert_eq!(ticks[1].canary["c"].own[1], Tally::new(4, 5));
    let mut file = Vec::new();
    write(&recording, &mut file).unwrap();
    assert_eq!(String::from_utf8(file).unwrap(), WITH_OWN);
    let edited = |from: &str, to: &str| {
        assert!(WITH_OWN.contains(from), "{from}");
        said(&WITH_OWN.replacen(from, to, 1))
    };
    insta::assert_snapshot!(edited("\"0.1\"", "\"NaN\""), @r#"line 3: memory: "NaN" is no number"#);
    insta::assert_snapshot!(edited("{\"memory\":{\"canary", "{\"checkout\":{\"canary"), @"line 3: the first line has no metric checkout with a `query`");
    insta::assert_snapshot!(edited("\"own\":{\"checkout\":[4", "\"own\":{\"memory\":[4"), @"line 4: the first line has no metric memory with `bad` and `total`");
    insta::assert_snapshot!(edited(",\"total\":\"t\"", ""), @"line 1: the metric checkout needs `bad` and `total`, or `query`");
    insta::assert_snapshot!(edited("\"name\":\"idle\"", "\"name\":\"checkout\""), @"line 1: there are two metrics checkout");
}

#[test]
fn a_mistake_is_named_with_its_line() {
    insta::assert_snapshot!(said(""), @"it is empty; write one with `serin replay --record`");
    insta::assert_snapshot!(edited("samples/1", "samples/9"), @r#"line 1: its format is "serin-samples/9"; this Serin reads "serin-samples/1""#);
    insta::assert_snapshot!(edited("\"20s\"", "\"soon\""), @"line 1: interval: `soon` is no duration; write one such as 30s, 2m or 500ms");
    insta::assert_snapshot!(edited("\"to\":\"2026-11-20T10:01", "\"to\":\"2026-11-20T09:01"), @"line 1: the stretch must end after it begins: it is from 2026-11-20T10:00:00Z to 2026-11-20T09:01:00Z");
    insta::assert_snapshot!(edited("\"total\":50,", ""), @"line 3: missing field `total` at column 78");
    insta::assert_snapshot!(edited("\"failed\":3", "\"failed\":51"), @"line 3: the pod c has more failed or slow calls than calls in the tick 2026-11-20T10:00:20Z");
    insta::assert_snapshot!(edited("\"slow\":[0]", "\"slow\":[]"), @"line 3: the pod c has 0 counts of slow calls in the tick 2026-11-20T10:00:20Z, and there are 1 bounds");
    insta::assert_snapshot!(edited("T10:00:20Z\",\"arm\":\"canary", "T10:00:21Z\",\"arm\":\"canary"), @"line 4: the tick 2026-11-20T10:00:20Z comes after 2026-11-20T10:00:21Z; ticks must rise");
    insta::assert_snapshot!(edited("T10:00:00Z\",\"arm\":\"stable", "T10:00:01Z\",\"arm\":\"stable"), @"line 2: 2026-11-20T10:00:01Z is no end of a tick: ticks end at multiples of their length since the epoch");
    insta::assert_snapshot!(edited("\"arm\":\"canary\",\"pod\":\"c\"", "\"arm\":\"stable\",\"pod\":\"s\""), @"line 4: the pod s is there twice in the tick 2026-11-20T10:00:20Z");
}

#[test]
fn a_file_that_was_cut_off_is_noticed_wherever_that_was() {
    let mut file = Vec::new();
    write(&read(GOOD.as_bytes()).unwrap(), &mut file).unwrap();
    let end = file.len();
    // The last byte is a line's end: without it nothing is lost.
    for length in 0..end - 1 {
        assert!(read(&file[..length]).is_err(), "{length} of {end} bytes");
    }
    let in_a_line = read(&file[..end - 9]).unwrap_err().to_string();
    assert!(
        in_a_line.starts_with("line 4: ") && in_a_line.ends_with("it seems to be cut off"),
        "{in_a_line}"
    );
    let lines = String::from_utf8(file).unwrap();
    let three: Vec<_> = lines.lines().take(3).collect();
    assert_eq!(
        said(&three.join("\n")),
        "line 3: the file ends here, and should have 4 lines: it was cut off"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(bytes.as_slice());
    }

    #[test]
    fn no_edit_of_a_good_file_makes_a_panic_and_what_is_read_can_be_replayed_or_says_why(
        at in 0usize..560, with in "[0-9a-zTZ:{}\\[\\]\",.-]{0,4}", cut in 0usize..6
    ) {
        let mut text = GOOD.to_owned();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &with);
        if let Ok(recording) = read(text.as_bytes()) {
            let spec = serde_saphyr::from_str(
                "{service: {name: a, port: 1}, stable: {deployment: a}, canary: {deployment: b}, git: {repository: r, path: p}}",
            );
            let parsed = crate::api::parse(&spec.unwrap()).unwrap();
            let rules = serin_core::rollout::replay::Rules {
                plan: &parsed.plan,
                baseline: parsed.baseline,
                settle: parsed.scrape_interval,
                division: serin_core::rollout::replay::Division::Plan { seed: 1 },
            };
            let _ = serin_core::rollout::replay::replay(&recording, &rules);
        }
    }
}
