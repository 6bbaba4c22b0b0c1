//! What Serin tells Alertmanager, put to a real one: it takes the longest of it, knows an alert again, and lets go of it.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use futures::FutureExt as _;
use lab::{Lab, alertmanager::Alertmanager, clock, site::Environment};
use serde_json::{Value, json};
use serin::{
    api::{AnnouncementStatus, NotifyOn, NotifySpec, NotifyStatus, Receiver, parse_receivers},
    callout::{Secret, Secrets},
    notify::{Config, Letter, Notifier, Patience, Problem, Setup},
};
use tokio_util::sync::CancellationToken;

use crate::story::{SOON, eventually};

const UID: &str = "0c5a";
const RECEIVER: &str = "alerts";

/// What a rollout says of an Alertmanager.
pub(super) fn spec(alertmanager: &Alertmanager) -> Value {
    json!([{ "name": RECEIVER, "alertmanager": { "urls": [alertmanager.url()], "labels": { "team": "shop" } } }])
}

/// It has this problem of the environment's rollout as an alert, or not.
pub(super) async fn has(
    alertmanager: &Alertmanager,
    environment: &Environment,
    problem: Problem,
    revision: &str,
    wanted: bool,
) -> anyhow::Result<()> {
    let labels = json!({
        "alertname": format!("Serin{}", problem.name()), "namespace": environment.namespace(), "rollout": lab::site::SERVICE,
        "revision": revision, "cluster": lab::site::CLUSTER, "team": "shop", "severity": "critical",
    });
    eventually(&format!("Alertmanager has {problem:?}: {wanted}"), SOON, async || {
        let alerts = alertmanager.alerts().await?;
        let has = alerts.iter().any(|alert| alert.get("labels") == Some(&labels));
        ensure!(has == wanted, "{alerts:#?}");
        Ok(())
    })
    .await
}

/// Every problem with the longest of words, begun, told again and over.
pub(super) async fn takes_each_problem(lab: Arc<Lab>) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let alertmanager = Alertmanager::start(&lab.net, home.path()).await?;
    let specs: Vec<NotifySpec> = serde_json::from_value(spec(&alertmanager))?;
    let receivers = parse_receivers("spec.notify", &specs).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let receiver = receivers.first().context("there is no receiver")?;
    let config = Config::parse("link: 'https://serin.example.com/{{namespace}}/{{rollout}}/{{subject}}'")?;
    let link = config.link.clone();
    let setup = Setup::new(config)?;
    let secrets: Secrets = Arc::new(|_, name| {
        let nothing = Secret::new(name, BTreeMap::new());
        async move { Ok(nothing) }.boxed()
    });
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let (notifier, sending) = Notifier::new(&setup, secrets, Arc::new(|_, _| {}), Patience::default(), stop);
    tokio::spawn(sending);
    let letter = |announcement: &AnnouncementStatus| Letter {
        uid: UID.to_owned(),
        cluster: "c".repeat(63),
        namespace: "n".repeat(63),
        rollout: "r".repeat(253),
        receiver: receiver.clone(),
        is_tenants: false,
        announcement: announcement.clone(),
        link: link.clone(),
    };

    let began = clock::now();
    let told: Vec<_> = (1..)
        .zip(Problem::ALL)
        .map(|(id, problem)| says(id, problem, receiver, began))
        .collect();
    offer(&notifier, &told, letter);
    eventually("it has an alert for each problem", SOON, async || {
        let alerts = alertmanager.alerts().await?;
        ensure!(
            alerts.len() == Problem::ALL.len(),
            "{:?} {alerts:#?}",
            notifier.done(UID)
        );
        Ok(())
    })
    .await?;
    for announcement in &told {
        let problem = announcement.problem.as_deref().and_then(Problem::named);
        notifier.again(
            problem.context("no problem")?,
            letter(&AnnouncementStatus {
                id: 0,
                ..announcement.clone()
            }),
        );
    }
    let over: Vec<_> = told
        .iter()
        .map(|begun| AnnouncementStatus {
            id: begun.id + 100,
            at: Some(clock::now()),
            over: true,
            ..begun.clone()
        })
        .collect();
    let both: Vec<_> = told.iter().chain(&over).cloned().collect();
    offer(&notifier, &both, letter);
    eventually("each was taken, and told as over", SOON, async || {
        let (alerts, done) = (alertmanager.alerts().await?, notifier.done(UID));
        ensure!(alerts.is_empty(), "{alerts:#?} {done:?}");
        ensure!(done.len() == both.len(), "{} of {}", done.len(), both.len());
        Ok(())
    })
    .await?;
    let refused: Vec<_> = notifier.done(UID).into_iter().filter_map(|done| done.failed).collect();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

fn says(id: i64, problem: Problem, receiver: &Receiver, began: jiff::Timestamp) -> AnnouncementStatus {
    AnnouncementStatus {
        id,
        event: NotifyOn::Problem.name().to_owned(),
        at: Some(began),
        revision: "\"&é{}=,".repeat(18),
        message: "\\\"語\t".repeat(75),
        problem: Some(problem.name().to_owned()),
        since: Some(began),
        subject: Some("%/?#".repeat(25)),
        receivers: vec![receiver.id.clone()],
        ..AnnouncementStatus::default()
    }
}

fn offer(notifier: &Notifier, pending: &[AnnouncementStatus], letter: impl Fn(&AnnouncementStatus) -> Letter) {
    let outbox = NotifyStatus {
        pending: pending.to_vec(),
        ..NotifyStatus::default()
    };
    notifier.offer(UID, &outbox, |announcement, _| Some(letter(announcement)));
}
