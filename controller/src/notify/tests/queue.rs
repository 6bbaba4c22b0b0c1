//! Trying again, and who waits for whom.

use super::super::*;
use super::stand::{Office, Stand, problem, said};
use crate::api::NotifyOn;

fn webhooks(named: &[(&str, &Stand)]) -> String {
    let one = |(name, stand): &(&str, &Stand)| {
        format!(
            "{{name: {name}, webhook: {{url: '{}', secretRef: {{name: hook}}}}}}",
            stand.url
        )
    };
    format!("[{}]", named.iter().map(one).collect::<Vec<_>>().join(", "))
}

const KEY: [(&str, &str); 1] = [("webhookKey", "0123456789abcdef")];

#[tokio::test]
async fn a_receiver_that_has_too_much_is_told_again_when_it_wants() {
    let stand = Stand::new([Some((429, Some("1"), String::new()))]).await;
    let mut office = Office::new("{}", &webhooks(&[("hook", &stand)]), &KEY, false);
    office.decide(vec![said(NotifyOn::Promoted, "good")]);
    assert_eq!(office.outcome().await.failed, None);
    assert_eq!(stand.so_far(), 2);
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_nobody_else() {
    let (hangs, works) = (Stand::new([None, None, None]).await, Stand::new([]).await);
    let mut office = Office::new("{}", &webhooks(&[("hangs", &hangs), ("works", &works)]), &KEY, false);
    for _ in 0..20 {
        office.decide(vec![said(NotifyOn::Paused, "waits")]);
    }
    let requests = works.requests(20).await;
    assert_eq!(hangs.so_far(), 1, "the first one is still on its way");
    let keys: Vec<_> = requests
        .iter()
        .map(|request| request.header(callout::KEY).to_owned())
        .collect();
    let in_order: Vec<_> = (1..=20).map(|n| format!("{}-{n}", super::stand::UID)).collect();
    assert_eq!(keys, in_order);
}

#[tokio::test]
async fn what_is_refused_is_given_up_at_once_and_what_fails_after_some_tries() {
    let stand = Stand::new([Some((404, None, "no such hook".to_owned()))]).await;
    let mut office = Office::new("{}", &webhooks(&[("hook", &stand)]), &KEY, false);
    office.decide(vec![said(NotifyOn::Promoted, "good")]);
    assert_eq!(office.outcome().await.failed.unwrap(), "HTTP 404: no such hook");
    assert_eq!(stand.so_far(), 1);
    office.decide(vec![]);
    assert!(office.outbox.as_ref().unwrap().pending.is_empty());
    assert!(office.notifier().done(super::stand::UID).is_empty());
}

#[tokio::test]
async fn a_receiver_of_a_rollout_that_is_inside_of_the_cluster_is_not_called() {
    let stand = Stand::new([]).await;
    let port = stand.url.rsplit(':').next().unwrap();
    let by_name = format!(
        "[{{name: hook, webhook: {{url: 'http://localhost:{port}', secretRef: {{name: hook}}}}}}, {{name: am, alertmanager: {{urls: ['{}']}}}}]",
        stand.url
    );
    let mut office = Office::new("{}", &by_name, &KEY, true);
    office.decide(vec![problem(Problem::Blind, false)]);
    for _ in 0..2 {
        let why = office.outcome().await.failed.unwrap();
        assert!(
            why.contains("addresses of the cluster and its machines are not called"),
            "{why}"
        );
    }
    assert_eq!(stand.so_far(), 0);

    // Whoever runs Serin may widen it.
    let mut office = Office::new("allow: [127.0.0.0/8, '::1/128']", &by_name, &KEY, true);
    office.decide(vec![problem(Problem::Blind, false)]);
    for _ in 0..2 {
        assert_eq!(office.outcome().await.failed, None);
    }
    assert_eq!(stand.so_far(), 2);
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let inside = Stand::new([]).await;
    let stand = Stand::new([Some((307, None, String::new()))]).await;
    let mut office = Office::new("{}", &webhooks(&[("hook", &stand)]), &KEY, false);
    office.decide(vec![said(NotifyOn::Promoted, "good")]);
    assert_eq!(office.outcome().await.failed.unwrap(), "HTTP 307");
    assert_eq!(inside.so_far(), 0);
}

#[tokio::test]
async fn a_secret_that_lacks_its_key_is_named() {
    let stand = Stand::new([]).await;
    let mut office = Office::new("{}", &webhooks(&[("hook", &stand)]), &[], false);
    office.decide(vec![said(NotifyOn::Promoted, "good")]);
    let why = office.outcome().await.failed.unwrap();
    assert!(why.starts_with("the Secret hook has no `webhookKey`"), "{why}");
}
