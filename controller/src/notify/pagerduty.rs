//! PagerDuty, Events API v2: an incident for what pages, by a key that closes it again, and change events, which never page, for
//! promotions. Must not know when a letter is tried again.

use reqwest::Url;
use serde_json::{Value, json};

use super::letter::Letter;
use super::news::cut_text;
use super::post::{Failure, Means, Sent};
use crate::api::NotifyOn;

/// The longest key of an incident.
const KEY: usize = 255;
/// The longest summary.
const SUMMARY: usize = 1024;

pub(super) async fn send(means: &Means<'_>, api: &Url, letter: &Letter) -> Result<Sent, Failure> {
    let routing_key = means.secret.text("pagerDutyRoutingKey")?;
    let (path, body) = request(letter, &routing_key);
    let url = api.join(path).map_err(|error| Failure::Never(error.to_string()))?;
    means.send(means.client.post(url).json(&body)).await?;
    Ok(Sent::default())
}

/// Where a letter goes, and what it says.
pub(super) fn request(letter: &Letter, routing_key: &str) -> (&'static str, Value) {
    let said = &letter.announcement;
    let summary = cut_text(&letter.text(str::to_owned), SUMMARY);
    let links: Vec<Value> = letter
        .link()
        .map(|href| json!({ "href": href, "text": "the rollout" }))
        .into_iter()
        .collect();
    let details = json!({
        "cluster": letter.cluster,
        "namespace": letter.namespace,
        "rollout": letter.rollout,
        "revision": said.revision,
        "commit": said.commit,
        "author": said.author,
        "subject": said.subject,
        "message": said.message,
    });
    let source = format!("{}/{}/{}", letter.cluster, letter.namespace, letter.rollout);
    if letter.event() != NotifyOn::Problem {
        let body = json!({
            "routing_key": routing_key,
            "payload": { "summary": summary, "source": source, "timestamp": said.at, "custom_details": details },
            "links": links,
        });
        return ("v2/change/enqueue", body);
    }
    let mut body = json!({
        "routing_key": routing_key,
        "event_action": if said.over { "resolve" } else { "trigger" },
        "dedup_key": key(letter),
    });
    if let (false, Some(body)) = (said.over, body.as_object_mut()) {
        let payload = json!({
            "summary": summary,
            "source": source,
            "severity": "critical",
            "timestamp": said.at,
            "component": letter.rollout,
            "group": letter.namespace,
            "class": said.problem,
            "custom_details": details,
        });
        body.insert("payload".to_owned(), payload);
        body.insert("client".to_owned(), "Serin".into());
        body.insert("links".to_owned(), links.into());
    }
    ("v2/enqueue", body)
}

/// The trial: what pages never does so for two reasons at once, and each is over before the other begins. A long one ends in what
/// tells it apart.
fn key(letter: &Letter) -> String {
    let key = letter.about();
    if key.len() <= KEY {
        return key;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let digest = crate::callout::hex(digest.as_ref().get(..16).unwrap_or_default());
    let mut kept = KEY - digest.len() - 1;
    while !key.is_char_boundary(kept) {
        kept -= 1;
    }
    format!("{}-{digest}", key.get(..kept).unwrap_or_default())
}
