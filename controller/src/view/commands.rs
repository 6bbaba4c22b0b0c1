//! The commands that can be given now, as text to copy. Which of them is carried out the state machine decides. Pure.

use serde::Serialize;
use serin_core::rollout::Verb;

use super::plan::{Place, Step};
use crate::api::CanaryRolloutStatus;

/// A command that makes sense now.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Offer {
    /// Its word in the annotation.
    pub(crate) verb: &'static str,
    /// What a person types.
    pub(crate) text: String,
    /// What it does.
    pub(crate) does: &'static str,
}

pub(crate) fn offers(
    phase: &str,
    steps: &[Step],
    status: &CanaryRolloutStatus,
    (namespace, name): (&str, &str),
) -> Vec<Offer> {
    let waits_for_approval = steps.iter().any(|step| step.place == Place::Now && step.approval);
    let was_rolled_back = status.history.first().is_some_and(|last| last.outcome == "RolledBack");
    let verbs: &[Verb] = match phase {
        "Starting" | "Promoting" => &[Verb::Abort],
        "Progressing" => &[Verb::Pause, Verb::Promote, Verb::PromoteFull, Verb::Abort],
        "Paused" if waits_for_approval => &[
            Verb::Approve,
            Verb::Resume,
            Verb::Promote,
            Verb::PromoteFull,
            Verb::Abort,
        ],
        "Paused" => &[Verb::Resume, Verb::Promote, Verb::PromoteFull, Verb::Abort],
        "RolledBack" => &[Verb::Retry],
        "Idle" if was_rolled_back => &[Verb::Retry],
        _ => &[],
    };
    let offer = |verb: &Verb| Offer {
        verb: verb.word(),
        text: format!("serin {} {} -n {}", verb.name(), word(name), word(namespace)),
        does: does(*verb),
    };
    verbs.iter().map(offer).collect()
}

fn does(verb: Verb) -> &'static str {
    match verb {
        Verb::Promote => "skips the rest of the present step and its analysis",
        Verb::PromoteFull => "goes straight to the last step; given again there, promotes at once",
        Verb::Approve => "enters the next step",
        Verb::Pause => "holds the weight where it is; the canary is still judged",
        Verb::Resume => "goes on",
        Verb::Abort => "takes the canary's traffic away and rolls the revision back in Git",
        Verb::Retry => "starts a revision again that was rolled back, once it is committed again",
    }
}

/// One word for a shell, whatever it is.
fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_safe_to_copy_into_a_shell() {
        assert_eq!(word("user-service"), "user-service");
        assert_eq!(word("a; rm -rf ~ '$(id)'"), r"'a; rm -rf ~ '\''$(id)'\'''");
    }

    #[test]
    fn each_phase_has_its_commands() {
        let verbs = |phase| -> Vec<_> {
            let offers = offers(phase, &[], &CanaryRolloutStatus::default(), ("prod", "web"));
            offers.into_iter().map(|offer| offer.text).collect()
        };
        assert_eq!(verbs("Starting"), ["serin abort web -n prod"]);
        assert_eq!(verbs("RolledBack"), ["serin retry web -n prod"]);
        assert!(verbs("Idle").is_empty());
        assert!(verbs("Progressing").contains(&"serin promote --full web -n prod".to_owned()));
    }
}
