//! What each kind of receiver is sent, over a real connection.

use super::super::*;
use super::limits;
use super::stand::{Office, Stand, UID, began, ok, problem, said};
use crate::api::NotifyOn;
use crate::callout::Secret;

fn config(stand: &Stand) -> String {
    format!(
        "endpoints: {{slack: '{0}/api', pagerDuty: '{0}'}}\nlink: 'https://serin.example.com/{{{{namespace}}}}/{{{{rollout}}}}'",
        stand.url
    )
}

#[tokio::test]
async fn slack_has_one_message_for_a_trial_which_is_brought_up_to_date_and_a_thread() {
    let stand = Stand::new([]).await;
    let receivers = "[{name: ops, slack: {channel: C0123, secretRef: {name: slack}}}]";
    let mut office = Office::new(&config(&stand), receivers, &[("slackToken", "xoxb-1")], false);
    office.decide(vec![said(NotifyOn::Started, "waits for pods")]);
    office.decide(vec![said(NotifyOn::Step, "judging")]);
    office.decide(vec![said(NotifyOn::RollingBack, "6 % & more fail")]);
    let requests = stand.requests(4).await;
    let paths: Vec<_> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/api/chat.postMessage",
            "/api/chat.update",
            "/api/chat.update",
            "/api/chat.postMessage"
        ]
    );
    for request in &requests {
        assert_eq!(request.header("authorization"), "Bearer xoxb-1");
        limits::slack(&request.json());
    }
    let first = requests[0].json();
    assert_eq!(first["channel"], "C0123");
    insta::assert_json_snapshot!("slack", first);
    assert!(
        !first.to_string().contains("<!channel>"),
        "a commit's subject calls nobody"
    );
    let update = requests[2].json();
    assert_eq!((&update["channel"], &update["ts"]), (&"C1".into(), &"17.1".into()));
    assert!(update["text"].as_str().unwrap().contains("6 % &amp; more fail"));
    let reply = requests[3].json();
    assert_eq!(reply["thread_ts"], "17.1");
    for _ in 0..3 {
        office.outcome().await;
    }
    office.decide(vec![]);
    let outbox = office.outbox.clone().unwrap();
    assert_eq!(outbox.pending, vec![]);
    assert_eq!(outbox.threads[0].message, "17.1");
    assert_eq!(outbox.threads[0].trial, began());

    // After a restart status knows the message.
    let mut restarted = Office::new(&config(&stand), receivers, &[("slackToken", "xoxb-1")], false);
    restarted.outbox = Some(outbox);
    restarted.decide(vec![said(NotifyOn::RolledBack, "done")]);
    let requests = stand.requests(6).await;
    assert_eq!(requests[4].path, "/api/chat.update");
    assert_eq!(requests[4].json()["ts"], "17.1");
    assert_eq!(restarted.outcome().await.failed, None);
}

#[tokio::test]
async fn a_message_of_slack_that_somebody_deleted_is_written_anew_and_what_slack_refuses_is_given_up() {
    let gone = ok(r#"{"ok":false,"error":"message_not_found"}"#);
    let posted = ok(r#"{"ok":true,"channel":"C1","ts":"18.1"}"#);
    let stand = Stand::new([
        ok(r#"{"ok":true,"channel":"C1","ts":"17.1"}"#),
        gone,
        posted,
        ok(r#"{"ok":false,"error":"internal_error"}"#),
        ok(r#"{"ok":false,"error":"is_archived"}"#),
    ])
    .await;
    let receivers = "[{name: ops, slack: {channel: C0123, secretRef: {name: slack}}}]";
    let mut office = Office::new(&config(&stand), receivers, &[("slackToken", "xoxb-1")], false);
    office.decide(vec![said(NotifyOn::Started, "a"), said(NotifyOn::Step, "b")]);
    office.outcome().await;
    assert_eq!(office.outcome().await.thread.unwrap().message, "18.1");
    office.decide(vec![said(NotifyOn::Step, "c")]);
    assert_eq!(office.outcome().await.failed.unwrap(), "Slack says \"is_archived\"");
    assert_eq!(stand.so_far(), 5);
}

#[tokio::test]
async fn an_incoming_webhook_of_slack_gets_messages_only() {
    let stand = Stand::new([ok("ok")]).await;
    let receivers = "[{name: ops, template: '{{revision}} <!here> {{subject}}', slack: {secretRef: {name: slack}}}]";
    let hook = format!("{}/services/T/B/x", stand.url);
    let mut office = Office::new("{}", receivers, &[("slackWebhook", &hook)], false);
    office.decide(vec![
        said(NotifyOn::Step, "nobody is told of steps"),
        said(NotifyOn::Promoted, "good"),
    ]);
    assert_eq!(office.outcome().await.failed, None);
    let requests = stand.requests(1).await;
    assert_eq!(requests[0].path, "/services/T/B/x");
    let body = requests[0].json();
    limits::slack(&body);
    // What the receiver wrote itself may call people; what comes from a commit may not.
    assert_eq!(body["text"], "1.4.2 <!here> Raise the limit &lt;!channel&gt;");
    assert!(body.get("channel").is_none() && body["blocks"].is_array());
    assert_eq!(stand.so_far(), 1);
}

#[tokio::test]
async fn pagerduty_is_triggered_resolved_and_told_of_promotions_without_a_page() {
    let accepted = || Some((202, None, r#"{"status":"success"}"#.to_owned()));
    let stand = Stand::new([accepted(), accepted(), accepted()]).await;
    let receivers = "[{name: pd, pagerDuty: {secretRef: {name: pd}}}]";
    let key = "R".repeat(32);
    // A rollout's, too: where PagerDuty is says the controller's configuration.
    let named = config(&stand).replace("127.0.0.1", "localhost");
    let mut office = Office::new(&named, receivers, &[("pagerDutyRoutingKey", &key)], true);
    office.decide(vec![
        said(NotifyOn::RollingBack, "nobody is paged for what works"),
        problem(Problem::WeightContested, false),
        problem(Problem::Blind, false),
        problem(Problem::Blind, true),
        said(NotifyOn::Promoted, "good"),
    ]);
    let requests = stand.requests(3).await;
    let paths: Vec<_> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths, ["/v2/enqueue", "/v2/enqueue", "/v2/change/enqueue"]);
    let [trigger, resolve, change] = [0, 1, 2].map(|i: usize| requests[i].json());
    for request in &requests {
        limits::pager_duty(&request.path, &request.json());
    }
    insta::assert_json_snapshot!("pagerduty_trigger", trigger);
    assert_eq!(resolve["event_action"], "resolve");
    assert_eq!(resolve["dedup_key"], trigger["dedup_key"]);
    assert_eq!(trigger["dedup_key"], "prod-1/shop/user-service/1.4.2");
    insta::assert_json_snapshot!("pagerduty_change", change);
}

#[tokio::test]
async fn a_long_key_of_pagerduty_stays_within_its_limit_and_stays_apart() {
    let office = Office::new("{}", "[{name: pd, pagerDuty: {secretRef: {name: pd}}}]", &[], false);
    let key = |revision: &str| {
        let mut announcement = problem(Problem::Blind, false);
        announcement.revision = revision.to_owned();
        let mut letter = office.letter(&announcement, "pd").unwrap();
        letter.rollout = "r".repeat(253);
        pagerduty::request(&letter, "key").1["dedup_key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(key("1").len() <= 255);
    assert_ne!(key("1"), key("2"));
}

#[tokio::test]
async fn every_replica_of_alertmanager_is_told_by_the_same_labels_until_it_is_over() {
    let (one, two) = (
        Stand::new([]).await,
        Stand::new([Some((500, None, String::new()))]).await,
    );
    let receivers = format!(
        "[{{name: am, alertmanager: {{urls: ['{}', '{}/'], labels: {{team: shop}}}}}}]",
        one.url, two.url
    );
    let mut office = Office::new(&config(&one), &receivers, &[], false);
    office.decide(vec![
        problem(Problem::RollbackBlocked, false),
        said(NotifyOn::Promoted, "not its business"),
    ]);
    assert_eq!(office.outcome().await.failed, None);
    let standing = problem(Problem::RollbackBlocked, false);
    for _ in 0..2 {
        let letter = office.letter(&standing, "am").unwrap();
        office.notifier().again(Problem::RollbackBlocked, letter);
    }
    one.requests(2).await;
    office.decide(vec![problem(Problem::RollbackBlocked, true)]);
    assert_eq!(office.outcome().await.failed, None);
    let (first, second) = (one.requests(3).await, two.requests(3).await);
    assert_eq!((one.so_far(), two.so_far()), (3, 3), "told again once a minute");
    for request in first.iter().chain(&second) {
        assert_eq!(request.path, "/api/v2/alerts");
        assert!(request.header("content-type").starts_with("application/json"));
        limits::alertmanager(&request.json());
    }
    let alert = |request: &super::stand::Request| request.json()[0].clone();
    let (mut begins, over) = (alert(&first[0]), alert(&first[2]));
    assert_eq!(begins["labels"], over["labels"]);
    assert_eq!(over["endsAt"], "2026-11-28T14:05:00Z");
    let ends: jiff::Timestamp = serde_json::from_value(begins["endsAt"].take()).unwrap();
    assert!(ends > "2026-11-28T14:05:00Z".parse().unwrap());
    insta::assert_json_snapshot!("alertmanager", begins);
}

#[tokio::test]
async fn a_webhook_is_signed_and_has_the_same_key_for_every_try() {
    let stand = Stand::new([Some((503, None, String::new()))]).await;
    let receivers = format!(
        "[{{name: hook, webhook: {{url: '{}/in', secretRef: {{name: hook}}}}}}]",
        stand.url
    );
    let key = "0123456789abcdef";
    let mut office = Office::new(&config(&stand), &receivers, &[("webhookKey", key)], false);
    office.decide(vec![said(NotifyOn::RollingBack, "it fails")]);
    assert_eq!(office.outcome().await.failed, None);
    let requests = stand.requests(2).await;
    for request in &requests {
        let signed = callout::signature(key.as_bytes(), request.header(callout::TIMESTAMP), &request.body);
        assert_eq!(request.header(callout::SIGNATURE), signed);
        assert_eq!(request.header(callout::KEY), format!("{UID}-1"));
        assert_eq!(request.header("content-type"), "application/json");
    }
    insta::assert_json_snapshot!("webhook", requests[1].json());
}

#[tokio::test]
async fn no_secret_is_in_what_is_said_about_a_failure() {
    let receivers = "[{name: ops, slack: {secretRef: {name: slack}}}]";
    let hook = "http://127.0.0.1:1/services/secret";
    let mut office = Office::new("{}", receivers, &[("slackWebhook", hook)], false);
    office.decide(vec![said(NotifyOn::Promoted, "good")]);
    let why = office.outcome().await.failed.unwrap();
    assert!(!why.contains("secret"), "{why}");
    assert!(why.contains("given up after 3 tries"), "{why}");
    assert_eq!(
        format!(
            "{:?}",
            Secret::new("a", [("key".to_owned(), b"hidden".to_vec())].into())
        ),
        "Secret(a, …)"
    );
}
