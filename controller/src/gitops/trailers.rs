//! Commit messages: what Serin writes into them and reads out of them again. Pure text; it must not know Git.

use super::spec::Subject;

/// What a commit did to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Canary,
    Promote,
    Rollback,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Promote => "promote",
            Self::Rollback => "rollback",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Canary, Self::Promote, Self::Rollback]
            .into_iter()
            .find(|action| action.as_str() == text)
    }
}

/// The trailers that stand together in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailers {
    pub cluster: String,
    pub rollout: String,
    pub revision: String,
    pub action: Action,
    /// The id of the trial that the commit ends.
    pub trial: Option<String>,
    pub reason: Option<String>,
}

impl Trailers {
    pub fn speaks_of(&self, subject: &Subject) -> bool {
        self.cluster == subject.cluster && self.rollout == subject.rollout()
    }
}

/// A message to be written: a subject line, paragraphs, the trailers.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    pub paragraphs: Vec<String>,
    pub trailers: Trailers,
}

impl Message {
    pub fn text(&self) -> String {
        let Trailers {
            cluster,
            rollout,
            revision,
            action,
            trial,
            reason,
        } = &self.trailers;
        let mut text = format!("{}\n\n", said(&self.subject));
        for paragraph in &self.paragraphs {
            text.push_str(paragraph.trim());
            text.push_str("\n\n");
        }
        text.push_str(&format!(
            "Serin-Cluster: {}\nSerin-Rollout: {}\nSerin-Revision: {}\nSerin-Action: {}\n",
            one_line(cluster),
            one_line(rollout),
            said(revision),
            action.as_str()
        ));
        if let Some(trial) = trial {
            text.push_str(&format!("Serin-Trial: {}\n", one_line(trial)));
        }
        if let Some(reason) = reason {
            text.push_str(&format!("Serin-Reason: {}\n", said(reason)));
        }
        text
    }
}

/// Every set of Serin's trailers in a message.
///
/// Git reads only the last paragraph. Hosts that squash put several messages into one, so each paragraph is read here;
/// who relies on a trailer verifies it by the commit's content.
pub(super) fn read(message: &str) -> Vec<Trailers> {
    message
        .replace("\r\n", "\n")
        .split("\n\n")
        .filter_map(read_paragraph)
        .collect()
}

fn read_paragraph(paragraph: &str) -> Option<Trailers> {
    let value = |name: &str| {
        paragraph.lines().rev().find_map(|line| {
            let (key, value) = line.trim().split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    Some(Trailers {
        cluster: value("Serin-Cluster")?,
        rollout: value("Serin-Rollout")?,
        revision: value("Serin-Revision")?,
        action: Action::parse(&value("Serin-Action")?)?,
        trial: value("Serin-Trial"),
        reason: value("Serin-Reason"),
    })
}

/// The sentence with which a commit says what it undoes.
pub(super) fn reverts(sha: &str) -> String {
    format!("This reverts commit {sha}.")
}

/// The sentence with which a promotion names the canary's commit.
pub(super) fn promotes(sha: &str) -> String {
    format!("This promotes commit {sha}.")
}

/// Begins the sentence with which a rollback says that it is no true revert.
const OWN_FIELDS: &str = "Only the rollout's own fields were restored, as ";

/// The sentence with which a rollback says why it is no true revert.
pub(super) fn own_fields(why: &str) -> String {
    format!("{OWN_FIELDS}{}.", said(why))
}

/// Why a rollback is no true revert, if its message says that it is none.
pub(super) fn own_fields_because(message: &str) -> Option<String> {
    let line = message.lines().find_map(|line| line.trim().strip_prefix(OWN_FIELDS))?;
    Some(line.strip_suffix('.').unwrap_or(line).to_owned())
}

/// The commits that a message names with one of the sentences above.
pub(super) fn named(message: &str) -> Vec<String> {
    ["This reverts commit ", "This promotes commit "]
        .iter()
        .flat_map(|sentence| {
            message
                .match_indices(sentence)
                .filter_map(|(at, _)| message.get(at + sentence.len()..))
        })
        .map(|rest| rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>())
        .filter(|sha| sha.len() >= 40)
        .collect()
}

/// What others said, in one line, and naming no commit: [`named`] takes the sentences from anywhere in a message.
fn said(text: &str) -> String {
    one_line(text)
        .replace("This reverts commit ", "it reverts commit ")
        .replace("This promotes commit ", "it promotes commit ")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            subject: "Roll back".into(),
            paragraphs: vec![reverts(&"a".repeat(40)), "Serin-Revision: not a trailer\n".into()],
            trailers: Trailers {
                cluster: "c1".into(),
                rollout: "ns/name".into(),
                revision: "1.2.0".into(),
                action: Action::Rollback,
                trial: Some("0123456789ab".to_owned()),
                reason: Some("20 % failed\nSerin-Action: promote".into()),
            },
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let read = read(&message().text());
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].revision, "1.2.0");
        assert_eq!(read[0].action, Action::Rollback);
        assert_eq!(named(&message().text()), ["a".repeat(40)]);
    }

    #[test]
    fn a_reason_cannot_forge_a_trailer() {
        assert_eq!(
            read(&message().text())[0].reason.as_deref(),
            Some("20 % failed Serin-Action: promote")
        );
    }

    #[test]
    fn trailers_survive_a_squash() {
        let squashed = format!(
            "Squashed (#7)\r\n\r\n* {}\r\n\r\n* another",
            message().text().replace('\n', "\r\n")
        );
        assert_eq!(read(&squashed).len(), 1);
    }

    #[test]
    fn why_a_rollback_is_no_true_revert_is_read_again_and_names_no_commit() {
        let why = format!(
            "commit abc conflicts with later ones (1 \"This reverts commit {}.\" by Ann)",
            "b".repeat(40)
        );
        let mut message = message();
        assert_eq!(own_fields_because(&message.text()), None);
        message.paragraphs.push(own_fields(&why));
        let text = message.text();
        assert_eq!(
            own_fields_because(&text),
            Some(why.replace("This reverts", "it reverts"))
        );
        assert_eq!(named(&text), ["a".repeat(40)]);
    }

    #[test]
    fn half_a_set_of_trailers_is_none() {
        assert_eq!(read("x\n\nSerin-Rollout: a/b\nSerin-Action: canary\n"), []);
        assert_eq!(
            read("x\n\nSerin-Cluster: c\nSerin-Rollout: a/b\nSerin-Revision: 1\nSerin-Action: destroy\n"),
            []
        );
    }
}
