//! Slack: one message for each revision on trial, which is brought up to date, and a thread below it for what people should see; or an
//! incoming webhook, which can only add messages. Must not know when a letter is tried again.

use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use super::letter::Letter;
use super::news::cut_text;
use super::post::{Failure, Means, Sent};
use crate::api::{NotifyOn, SlackSpec, ThreadStatus};

/// The longest text in a block.
const BLOCK: usize = 3000;
/// The longest text for where blocks can't be shown: Slack advises against longer ones, and cuts them at ten times that.
const TEXT: usize = 4000;
/// The longest address that the title leads to: a longer one would leave its block no room for what is said, and stand there cut.
const LINK: usize = 1500;

/// Sends a letter. `thread` is the message of this trial, if there is one.
pub(super) async fn send(
    means: &Means<'_>,
    api: &Url,
    spec: &SlackSpec,
    letter: &Letter,
    thread: Option<&ThreadStatus>,
) -> Result<Sent, Failure> {
    let Some(channel) = &spec.channel else {
        let url = means.secret.text("slackWebhook")?;
        let url = Url::parse(&url).map_err(|_| Failure::Never("`slackWebhook` is no address".to_owned()))?;
        means.check(&url)?;
        means.send(means.client.post(url).json(&message(letter))).await?;
        return Ok(Sent::default());
    };
    let token = means.secret.text("slackToken")?;
    let call = async |method: &str, body: Value| {
        let url = api.join(method).map_err(|error| Failure::Never(error.to_string()))?;
        let answer = means
            .send(means.client.post(url).bearer_auth(&token).json(&body))
            .await?;
        understood(&answer)
    };
    if let Some(thread) = thread {
        let mut update = message(letter);
        put(&mut update, "channel", &thread.channel);
        put(&mut update, "ts", &thread.message);
        match call("chat.update", update).await {
            Ok(_) => {
                if is_loud(letter) {
                    let mut reply = message(letter);
                    put(&mut reply, "channel", &thread.channel);
                    put(&mut reply, "thread_ts", &thread.message);
                    call("chat.postMessage", reply).await?;
                }
                return Ok(Sent::default());
            }
            // Somebody deleted it: a new one takes its place.
            Err(Failure::Never(why)) if why.contains("message_not_found") => {}
            Err(failure) => return Err(failure),
        }
    }
    let mut post = message(letter);
    put(&mut post, "channel", channel);
    let answer = call("chat.postMessage", post).await?;
    let trial = letter.announcement.trial;
    let thread = answer.channel.zip(answer.ts).zip(trial);
    Ok(Sent {
        thread: thread.map(|((channel, message), trial)| ThreadStatus {
            receiver: letter.receiver.id.clone(),
            trial,
            channel,
            message,
        }),
    })
}

/// What people should see although they have seen the message: all but the steps of what goes well.
fn is_loud(letter: &Letter) -> bool {
    !matches!(
        letter.event(),
        NotifyOn::Started | NotifyOn::Step | NotifyOn::Resumed | NotifyOn::Promoting
    )
}

/// Text for where blocks can't be shown, and blocks.
pub(super) fn message(letter: &Letter) -> Value {
    let said = &letter.announcement;
    let title = escape(&letter.title());
    let body = match &letter.receiver.wording {
        Some(_) => letter.text(escape),
        None => escape(&said.message),
    };
    let sign = match letter.event() {
        NotifyOn::Promoted => ":white_check_mark:",
        NotifyOn::RollingBack | NotifyOn::RolledBack => ":rewind:",
        NotifyOn::Problem if said.over => ":white_check_mark:",
        NotifyOn::Problem => ":rotating_light:",
        NotifyOn::Paused => ":double_vertical_bar:",
        _ => ":hatching_chick:",
    };
    let link = letter.link().map(|link| escape(&link));
    let head = match link.filter(|link| link.chars().count() <= LINK) {
        Some(link) => format!("{sign} *<{link}|{title}>*"),
        None => format!("{sign} *{title}*"),
    };
    let section = cut_text(&format!("{head}\n{body}"), BLOCK);
    let mut about = vec![format!("cluster {}", escape(&letter.cluster))];
    if let Some(step) = &said.step {
        about.push(format!("step {step}, {} % on the canary", said.weight));
    }
    if let Some(commit) = &said.commit {
        let short: String = commit.chars().take(10).collect();
        let subject = said.subject.as_deref().map(escape).unwrap_or_default();
        let author = said.author.as_deref().map(escape).unwrap_or_default();
        about.push(format!("`{}` {subject} ({author})", escape(&short)));
    }
    json!({
        "text": cut_text(&letter.text(escape), TEXT),
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": section } },
            { "type": "context", "elements": [{ "type": "mrkdwn", "text": cut_text(&about.join(" · "), BLOCK) }] },
        ],
        "unfurl_links": false,
    })
}

/// The three signs that mean something to Slack; a value can then name no channel, person or link.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn put(body: &mut Value, key: &str, value: &str) {
    if let Some(object) = body.as_object_mut() {
        object.insert(key.to_owned(), value.into());
    }
}

/// Slack's answer.
#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    error: String,
    channel: Option<String>,
    ts: Option<String>,
}

/// Slack answers 200 to what it does not do as well.
fn understood(answer: &[u8]) -> Result<Answer, Failure> {
    let Ok(answer) = serde_json::from_slice::<Answer>(answer) else {
        return Err(Failure::Later {
            why: "the answer is not Slack's".to_owned(),
            after: None,
        });
    };
    let passes = [
        "ratelimited",
        "internal_error",
        "fatal_error",
        "service_unavailable",
        "request_timeout",
    ];
    match (answer.ok, answer.error.as_str()) {
        (true, _) => Ok(answer),
        (false, error) if passes.contains(&error) => Err(Failure::Later {
            why: format!("Slack says {error}"),
            after: None,
        }),
        (false, error) => Err(Failure::Never(format!("Slack says {error:?}"))),
    }
}
