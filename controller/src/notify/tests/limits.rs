//! The limits that receivers publish, and that nothing which is sent breaks them: not the longest of names, messages, templates and
//! links, and not a template that has nothing to say.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::super::*;
use super::stand::{Office, problem, said};
use crate::api::{AnnouncementStatus, Channel, NotifyOn};

/// Slack's reference of `chat.postMessage` and of Block Kit.
pub(super) fn slack(body: &Value) {
    has_only(body, &["channel", "ts", "thread_ts", "text", "blocks", "unfurl_links"]);
    length(&body["text"], 1..=4000);
    let blocks = body["blocks"].as_array().unwrap();
    assert!((1..=50).contains(&blocks.len()), "{body}");
    let text = |text: &Value| {
        has_only(text, &["type", "text"]);
        assert_eq!(text["type"], "mrkdwn");
        length(&text["text"], 1..=3000);
    };
    for block in blocks {
        match block["type"].as_str() {
            Some("section") => {
                has_only(block, &["type", "text"]);
                text(&block["text"]);
            }
            Some("context") => {
                has_only(block, &["type", "elements"]);
                let elements = block["elements"].as_array().unwrap();
                assert!((1..=10).contains(&elements.len()), "{block}");
                elements.iter().for_each(text);
            }
            other => panic!("{other:?} is no block that is known here"),
        }
    }
}

/// PagerDuty's reference of the Events API v2.
pub(super) fn pager_duty(path: &str, body: &Value) {
    assert!(body.to_string().len() <= 512 * 1024, "an event is at most 512 KB");
    assert_eq!(body["routing_key"].as_str().unwrap().len(), 32);
    for link in body["links"].as_array().into_iter().flatten() {
        has_only(link, &["href", "text"]);
        assert!(reqwest::Url::parse(link["href"].as_str().unwrap()).is_ok(), "{link}");
    }
    let payload = &body["payload"];
    let is_said = || {
        length(&payload["summary"], 1..=1024);
        length(&payload["source"], 1..=1024);
        is_time(&payload["timestamp"]);
        assert!(payload["custom_details"].is_object());
    };
    match path.trim_start_matches('/') {
        "v2/change/enqueue" => {
            has_only(body, &["routing_key", "payload", "links"]);
            has_only(payload, &["summary", "source", "timestamp", "custom_details"]);
            is_said();
        }
        "v2/enqueue" => {
            length(&body["dedup_key"], 1..=255);
            match body["event_action"].as_str() {
                Some("trigger") => {
                    let keys = ["routing_key", "event_action", "dedup_key", "payload", "client", "links"];
                    has_only(body, &keys);
                    let keys = ["summary", "source", "timestamp", "custom_details"];
                    has_only(
                        payload,
                        &[&keys[..], &["severity", "component", "group", "class"]].concat(),
                    );
                    is_said();
                    let severities = ["critical", "error", "warning", "info"];
                    assert!(severities.contains(&payload["severity"].as_str().unwrap()), "{payload}");
                    for text in ["component", "group", "class"] {
                        assert!(payload[text].is_string(), "{text} of {payload}");
                    }
                }
                Some("resolve") => has_only(body, &["routing_key", "event_action", "dedup_key"]),
                other => panic!("{other:?} is no action that is known here"),
            }
        }
        other => panic!("PagerDuty has no {other}"),
    }
}

/// `postableAlerts` of Alertmanager's API v2. A story puts them to a real one.
pub(super) fn alertmanager(body: &Value) {
    for alert in body.as_array().unwrap() {
        has_only(alert, &["labels", "annotations", "startsAt", "endsAt", "generatorURL"]);
        for of in ["labels", "annotations"] {
            let values = alert[of].as_object().unwrap();
            assert!(
                values
                    .values()
                    .all(|value| value.as_str().is_some_and(|text| !text.is_empty())),
                "{alert}"
            );
        }
        assert!(alert["labels"]["alertname"].is_string());
        assert!(is_time(&alert["startsAt"]) <= is_time(&alert["endsAt"]), "{alert}");
        assert!(alert["generatorURL"].is_string());
    }
}

fn has_only(of: &Value, keys: &[&str]) {
    let there: BTreeSet<_> = of.as_object().unwrap().keys().map(String::as_str).collect();
    let unknown: Vec<_> = there.difference(&keys.iter().copied().collect()).copied().collect();
    assert!(unknown.is_empty(), "{unknown:?} of {of}");
}

fn length(text: &Value, within: std::ops::RangeInclusive<usize>) {
    let length = text.as_str().unwrap_or_default().chars().count();
    assert!(
        within.contains(&length),
        "{length} characters, and {within:?} are allowed: {text}"
    );
}

fn is_time(text: &Value) -> Timestamp {
    text.as_str().unwrap().parse().unwrap()
}

/// As long as statuses let all of it be, of signs that take the most room where they are made harmless.
fn longest(of: AnnouncementStatus) -> AnnouncementStatus {
    let text = |count: usize| "&".repeat(count);
    AnnouncementStatus {
        revision: text(128),
        message: text(300),
        commit: Some("f".repeat(64)),
        author: Some(text(100)),
        subject: Some(text(100)),
        ..of
    }
}

fn everything() -> Vec<AnnouncementStatus> {
    let events = NotifyOn::ALL.into_iter().filter(|on| *on != NotifyOn::Problem);
    let mut all: Vec<_> = events.map(|on| said(on, "because")).collect();
    for one in Problem::ALL {
        all.extend([false, true].map(|over| AnnouncementStatus {
            problem: Some(one.name().to_owned()),
            ..problem(one, over)
        }));
    }
    all.extend(all.clone().into_iter().map(longest));
    // What is not known yet.
    all.extend(all.clone().into_iter().map(|of| AnnouncementStatus {
        commit: None,
        author: None,
        subject: None,
        message: String::new(),
        ..of
    }));
    all
}

#[tokio::test]
async fn nothing_that_is_sent_is_longer_emptier_or_other_than_its_receiver_takes() {
    let kinds = "slack: {channel: C1, secretRef: {name: s}}|slack: {secretRef: {name: s}}|pagerDuty: {secretRef: {name: s}}|alertmanager: {urls: ['http://am']}";
    let receivers: Vec<_> = kinds
        .split('|')
        .enumerate()
        .map(|(nth, kind)| format!("{{name: r{nth}, {kind}, template: TEMPLATE}}"))
        .collect();
    let receivers = format!("[{}]", receivers.join(", "));
    let long = "{{subject}}{{message}} ".repeat(85);
    let links = [
        "{}".to_owned(),
        "link: 'https://serin.example.com/{{namespace}}'".to_owned(),
        format!("link: 'https://serin.example.com/{}'", "{{subject}}".repeat(50)),
    ];
    let mut checked = 0;
    for template in ["null", "'{{problem}} {{step}}'", &format!("'{long}'")] {
        for link in &links {
            let office = Office::new(link, &receivers.replace("TEMPLATE", template), &[], false);
            for announcement in everything() {
                for receiver in &office.receivers {
                    let mut letter = office.letter(&announcement, &receiver.id).unwrap();
                    letter.cluster = "c".repeat(63);
                    letter.namespace = "n".repeat(63);
                    letter.rollout = "r".repeat(253);
                    checked += 1;
                    match &receiver.channel {
                        Channel::Slack(_) => slack(&slack::message(&letter)),
                        Channel::PagerDuty(_) => {
                            let (path, body) = pagerduty::request(&letter, &"R".repeat(32));
                            pager_duty(path, &body);
                        }
                        Channel::Alertmanager(spec) if letter.problem().is_some() => {
                            alertmanager(&alertmanager::alerts(spec, &letter, super::stand::began()));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    assert!(checked > 1000, "{checked}");
}

#[tokio::test]
async fn a_link_that_leaves_no_room_is_not_cut_in_two() {
    let link = format!("link: 'https://serin.example.com/{}'", "{{subject}}".repeat(50));
    let office = Office::new(
        &link,
        "[{name: ops, slack: {channel: C1, secretRef: {name: s}}}]",
        &[],
        false,
    );
    let letter = office.letter(&longest(said(NotifyOn::Promoted, "")), "ops").unwrap();
    let message = slack::message(&letter);
    let section = message["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(!section.contains("<https"), "{section}");
    let short = Office::new(
        "link: 'https://serin.example.com'",
        "[{name: ops, slack: {channel: C1, secretRef: {name: s}}}]",
        &[],
        false,
    );
    let letter = short.letter(&longest(said(NotifyOn::Promoted, "")), "ops").unwrap();
    let message = slack::message(&letter);
    let section = message["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(
        section.contains("<https://serin.example.com|") && section.contains(">*\n"),
        "{section}"
    );
}

#[tokio::test]
async fn a_template_with_nothing_to_say_says_what_happened() {
    let receivers = "[{name: ops, template: '{{problem}} {{step}}', slack: {channel: C1, secretRef: {name: s}}}]";
    let office = Office::new("{}", receivers, &[], false);
    let text = |announcement: &AnnouncementStatus| office.letter(announcement, "ops").unwrap().text(str::to_owned);
    assert_eq!(
        text(&said(NotifyOn::Promoted, "good")),
        "shop/user-service: 1.4.2 is promoted. good"
    );
    assert_eq!(text(&said(NotifyOn::Step, "good")), " 2/4");
}
