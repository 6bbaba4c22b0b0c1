//! Anything that takes JSON: each request is signed, and carries a key that is the same for every try. Must not know when a letter is
//! tried again.

use reqwest::Url;
use serde_json::{Value, json};

use super::letter::Letter;
use super::post::{Failure, Means, Sent};
use crate::api::WebhookSpec;
use crate::callout;

pub(super) async fn send(means: &Means<'_>, spec: &WebhookSpec, letter: &Letter) -> Result<Sent, Failure> {
    let url = Url::parse(&spec.url).map_err(|error| Failure::Never(format!("{} is no address: {error}", spec.url)))?;
    means.check(&url)?;
    let said = (letter.key(), body(letter).to_string());
    let request = callout::sign(means.client, url, means.secret, (&said.0, said.1), means.now)?;
    means.send(request).await?;
    Ok(Sent::default())
}

/// What is said.
pub(super) fn body(letter: &Letter) -> Value {
    let said = &letter.announcement;
    json!({
        "version": 1,
        "id": letter.key(),
        "event": said.event,
        "at": said.at,
        "cluster": letter.cluster,
        "namespace": letter.namespace,
        "rollout": letter.rollout,
        "revision": said.revision,
        "trial": letter.trial(),
        "began": said.trial,
        "step": said.step,
        "weight": said.weight,
        "title": letter.title(),
        "message": said.message,
        "text": letter.text(str::to_owned),
        "problem": said.problem.as_ref().map(|problem| json!({
            "condition": problem,
            "since": said.since,
            "over": said.over,
        })),
        "commit": said.commit.as_ref().map(|id| json!({ "id": id, "author": said.author, "subject": said.subject })),
        "link": letter.link(),
    })
}
