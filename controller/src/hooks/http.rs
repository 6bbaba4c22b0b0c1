//! A signed POST, and what its answer means. It must not know when it is asked again.

use jiff::Timestamp;
use reqwest::{Client, StatusCode, Url};

use super::{Question, Reply};
use crate::api::HttpHookSpec;
use crate::callout::{Answered, Failure, Guard, Secret, exchange, sign};

/// One request.
#[derive(Debug)]
pub struct Post<'a> {
    /// One that keeps to `guard`.
    pub client: &'a Client,
    /// Which addresses may be called.
    pub guard: &'a Guard,
    /// The hook's.
    pub secret: &'a Secret,
    /// Where to.
    pub spec: &'a HttpHookSpec,
}

/// What an answer means.
pub(super) fn reply(answered: &Answered) -> Reply {
    let (why, after) = (answered.words(), answered.after);
    match answered.status {
        StatusCode::ACCEPTED | StatusCode::TOO_EARLY => Reply::Undecided { why, after },
        status if status.is_success() => Reply::Passed,
        _ if answered.passes() => Reply::Trouble { why, after },
        _ => Reply::Failed(why),
    }
}

impl Post<'_> {
    /// Asks.
    pub async fn ask(&self, question: &Question, now: Timestamp) -> Reply {
        let asked = async {
            let url = self.url()?;
            self.guard
                .check(&url)
                .map_err(|inside| Failure::Never(inside.to_string()))?;
            let body = question.body().to_string();
            let request = sign(self.client, url, self.secret, (&question.id(), body), now)?;
            exchange(request, now).await
        };
        let answered = match asked.await {
            Ok(answered) => answered,
            Err(Failure::Later { why, after }) => return Reply::Trouble { why, after },
            Err(Failure::Never(why)) => return Reply::Failed(why),
        };
        reply(&answered)
    }

    fn url(&self) -> Result<Url, Failure> {
        match &self.spec.url {
            Some(url) => Url::parse(url).map_err(|error| Failure::Never(format!("{url} is no address: {error}"))),
            // It may hold a token: it is not repeated.
            None => Url::parse(&self.secret.text("webhookUrl")?)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https"))
                .ok_or_else(|| {
                    let name = &self.spec.secret_ref.name;
                    Failure::Never(format!(
                        "`webhookUrl` of the Secret {name} is no address of http or https"
                    ))
                }),
        }
    }
}
