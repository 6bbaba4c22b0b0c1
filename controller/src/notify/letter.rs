//! What is sent to one receiver, in words that suit all of them. Pure; it must not know how anything is sent.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::{AnnouncementStatus, NotifyOn, Receiver, Wording, trial_id};

use super::news::Problem;

/// All but what RFC 3986 reserves for nothing: a value is one segment of an address.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An announcement on its way to one receiver.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The rollout's uid.
    pub uid: String,
    /// The cluster's name.
    pub cluster: String,
    /// The rollout's namespace.
    pub namespace: String,
    /// The rollout's name.
    pub rollout: String,
    /// Whom it goes to.
    pub receiver: Receiver,
    /// Whether the rollout named the receiver, and not the controller's configuration.
    pub is_tenants: bool,
    /// What is told. Number 0 is told again and again and is not in the outbox.
    pub announcement: AnnouncementStatus,
    /// What people may look at, as the controller's configuration says.
    pub link: Option<Wording>,
}

impl Letter {
    /// What happened.
    pub fn event(&self) -> NotifyOn {
        NotifyOn::named(&self.announcement.event).unwrap_or(NotifyOn::Problem)
    }

    /// The problem, if it tells of one.
    pub fn problem(&self) -> Option<Problem> {
        self.announcement.problem.as_deref().and_then(Problem::named)
    }

    /// The same for every try, and for no other announcement.
    pub fn key(&self) -> String {
        format!("{}-{}", self.uid, self.announcement.id)
    }

    /// The trial's id, where the announcement is about one.
    pub fn trial(&self) -> Option<String> {
        self.announcement.trial.map(|began| trial_id(&self.uid, began))
    }

    /// The revision in this cluster: `<cluster>/<namespace>/<name>/<revision>`.
    pub fn about(&self) -> String {
        format!(
            "{}/{}/{}/{}",
            self.cluster, self.namespace, self.rollout, self.announcement.revision
        )
    }

    /// What happened, in a few words.
    pub fn title(&self) -> String {
        let revision = &self.announcement.revision;
        let what = match (self.event(), self.problem()) {
            (NotifyOn::Problem, Some(problem)) => {
                let what = match problem {
                    Problem::Blind => "Serin is blind",
                    Problem::RollbackBlocked => "the rollback is blocked",
                    Problem::GitPending => "the config repository does not answer, or refuses a commit",
                    Problem::SpecRefused => "the spec is refused",
                    Problem::DeliveryBlocked => "a commit is kept from the cluster",
                    Problem::PreflightFailed => "the revision can't be tried",
                    Problem::TrafficNotFollowing => "traffic does not follow the weight",
                    Problem::WeightContested => "somebody else writes the weights",
                };
                let over = if self.announcement.over { " (over)" } else { "" };
                format!("{revision}: {what}{over}")
            }
            (NotifyOn::Problem, None) => format!("{revision}: a person is needed"),
            (NotifyOn::Started, _) => format!("{revision} is on trial"),
            (NotifyOn::Step, _) => match &self.announcement.step {
                Some(step) => format!("{revision} is at step {step}, {} %", self.announcement.weight),
                None => format!("{revision} is at {} %", self.announcement.weight),
            },
            (NotifyOn::Paused, _) => format!("{revision} waits"),
            (NotifyOn::Resumed, _) => format!("{revision} goes on"),
            (NotifyOn::Promoting, _) => format!("{revision} is being promoted"),
            (NotifyOn::Promoted, _) => format!("{revision} is promoted"),
            (NotifyOn::RollingBack, _) => format!("{revision} is being rolled back"),
            (NotifyOn::RolledBack, _) => format!("{revision} is rolled back"),
            (NotifyOn::Withdrawn, _) => format!("{revision} was withdrawn"),
            (NotifyOn::Superseded, _) => format!("{revision} made way"),
        };
        format!("{}/{}: {what}", self.namespace, self.rollout)
    }

    /// The text: the receiver's own wording, unless there is nothing in it this time, or what and why. `escape` makes a value harmless
    /// where it will stand.
    pub fn text(&self, escape: impl Fn(&str) -> String) -> String {
        let wording = self.receiver.wording.as_ref();
        let worded = wording.map(|wording| wording.render(|word| escape(&self.word(word))));
        match worded.filter(|text| !text.trim().is_empty()) {
            Some(text) => text,
            None if self.announcement.message.is_empty() => escape(&self.title()),
            None => format!("{}. {}", escape(&self.title()), escape(&self.announcement.message)),
        }
    }

    /// Where people may look.
    pub fn link(&self) -> Option<String> {
        // The link itself has no link.
        let word = |word: &str| {
            if word == "link" {
                String::new()
            } else {
                utf8_percent_encode(&self.word(word), SEGMENT).to_string()
            }
        };
        self.link.as_ref().map(|wording| wording.render(word))
    }

    fn word(&self, word: &str) -> String {
        let said = &self.announcement;
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        match word {
            "cluster" => self.cluster.clone(),
            "namespace" => self.namespace.clone(),
            "rollout" => self.rollout.clone(),
            "revision" => said.revision.clone(),
            "event" => said.event.clone(),
            "title" => self.title(),
            "message" => said.message.clone(),
            "problem" => or_empty(&said.problem),
            "step" => or_empty(&said.step),
            "weight" => said.weight.to_string(),
            "commit" => or_empty(&said.commit),
            "author" => or_empty(&said.author),
            "subject" => or_empty(&said.subject),
            "link" => self.link().unwrap_or_default(),
            _ => String::new(),
        }
    }
}
