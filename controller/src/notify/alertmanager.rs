//! Alertmanager, API v2: an alert for each problem, told to every replica, again and again until it is over. Must not know when a letter
//! is tried again.

use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde_json::{Value, json};

use super::letter::Letter;
use super::post::{Failure, Means, Sent};
use crate::api::AlertmanagerSpec;

/// An alert that is not told again ends by itself: Serin may die, or the rollout be deleted.
const LASTS: SignedDuration = SignedDuration::from_mins(5);

/// One replica that has it is enough to notify: the others are told again in a minute.
pub(super) async fn send(means: &Means<'_>, spec: &AlertmanagerSpec, letter: &Letter) -> Result<Sent, Failure> {
    let body = alerts(spec, letter, means.now);
    let told = spec.urls.iter().map(async |replica| {
        let url = address(replica)?;
        means.check(&url)?;
        means.send(means.client.post(url).json(&body)).await
    });
    let mut worst = None;
    let mut has_it = false;
    for told in futures::future::join_all(told).await {
        match told {
            Ok(_) => has_it = true,
            Err(failure @ Failure::Later { .. }) => worst = Some(failure),
            Err(failure) => worst = worst.or(Some(failure)),
        }
    }
    match worst {
        Some(failure) if !has_it => Err(failure),
        _ => Ok(Sent::default()),
    }
}

fn address(replica: &str) -> Result<Url, Failure> {
    let url = format!("{}/api/v2/alerts", replica.trim_end_matches('/'));
    Url::parse(&url).map_err(|error| Failure::Never(format!("{replica} is no address: {error}")))
}

/// The alert, in a list as the API wants it. Its labels are the same when it begins, goes on and is over.
pub(super) fn alerts(spec: &AlertmanagerSpec, letter: &Letter, now: Timestamp) -> Value {
    let said = &letter.announcement;
    let problem = said.problem.as_deref().unwrap_or_default();
    let pages = letter.problem().is_some_and(super::news::Problem::pages);
    let mut labels = spec.labels.clone();
    for (label, value) in [
        ("alertname", format!("Serin{problem}")),
        ("cluster", letter.cluster.clone()),
        ("namespace", letter.namespace.clone()),
        ("rollout", letter.rollout.clone()),
        ("revision", said.revision.clone()),
        ("severity", if pages { "critical" } else { "warning" }.to_owned()),
    ] {
        // Alertmanager takes no empty ones for labels.
        if !value.is_empty() {
            labels.insert(label.to_owned(), value);
        }
    }
    let ends = if said.over {
        said.at.unwrap_or(now)
    } else {
        now.checked_add(LASTS).unwrap_or(Timestamp::MAX)
    };
    json!([{
        "labels": labels,
        "annotations": { "summary": letter.title(), "description": letter.text(str::to_owned) },
        "startsAt": said.since.or(said.at).unwrap_or(now).min(ends),
        "endsAt": ends,
        "generatorURL": letter.link().unwrap_or_default(),
    }])
}
