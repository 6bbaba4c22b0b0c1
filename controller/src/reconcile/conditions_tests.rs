//! What conditions say, and which changes of theirs are news.

use super::*;
use crate::reconcile::fixtures::{one_pod, seen_of};

#[path = "trouble_tests.rs"]
mod troubles;

fn conditions_for(before: &[Condition], reason: Option<&'static str>) -> Vec<Condition> {
    let git = GitView {
        rollback: reason.map(|_| Answer::Failed("envs/prod/values.yaml: changed by abc".to_owned())),
        reason,
        ..GitView::default()
    };
    conditions_of(before, git)
}

/// The conditions when Git has answered this.
fn conditions_of(before: &[Condition], git: GitView) -> Vec<Condition> {
    conditions_with(before, git, None)
}

fn conditions_with(before: &[Condition], git: GitView, delivery: Option<&(&'static str, String)>) -> Vec<Condition> {
    let observation = Observation {
        git,
        ..seen_of(one_pod(), one_pod())
    };
    let grounds = Grounds {
        state: &State::default(),
        observation: &observation,
        message: "",
        delivery,
        unusable: None,
    };
    after(before, Some(1), &grounds, Timestamp::UNIX_EPOCH)
}

fn of<'c>(conditions: &'c [Condition], kind: &str) -> &'c Condition {
    conditions.iter().find(|c| c.type_ == kind).unwrap()
}

#[test]
fn a_blocked_rollback_is_a_condition_of_its_own_and_names_the_paths() {
    let now = conditions_for(&[], Some(ROLLBACK_BLOCKED));
    let blocked = of(&now, ROLLBACK_BLOCKED);
    assert_eq!(blocked.status, "True");
    assert!(blocked.message.contains("values.yaml"), "{}", blocked.message);
    let later = conditions_for(&now, Some("HostUnreachable"));
    assert_eq!(of(&later, ROLLBACK_BLOCKED).status, "False");
    assert_eq!(
        (
            of(&later, "GitPending").status.as_str(),
            of(&later, "GitPending").reason.as_str()
        ),
        ("True", "HostUnreachable")
    );
}

#[test]
fn an_event_tells_once_of_each_trouble_and_of_its_end() {
    let good = conditions_for(&[], None);
    assert!(news(&[], &good).is_none());
    let refused = conditions_for(&good, Some("AuthenticationFailed"));
    let (kind, reason, message) = news(&good, &refused).unwrap();
    assert_eq!((kind, reason), (NoteKind::Warning, "AuthenticationFailed"));
    assert!(message.contains("values.yaml"));
    assert!(news(&refused, &refused).is_none(), "the same again is no news");
    let blocked = conditions_for(&refused, Some(ROLLBACK_BLOCKED));
    assert_eq!(news(&refused, &blocked).unwrap().1, ROLLBACK_BLOCKED);
    let (kind, reason, _) = news(&blocked, &good).unwrap();
    assert_eq!((kind, reason), (NoteKind::Normal, "GitAnswered"));
}

#[test]
fn an_event_tells_what_keeps_a_commit_from_the_cluster_and_when_that_ends() {
    let with = |before: &[Condition], delivery: Option<&'static str>| {
        let delivery = delivery.map(|reason| (reason, "words".to_owned()));
        conditions_with(before, GitView::default(), delivery.as_ref())
    };
    let on_its_way = with(&[], Some(ON_ITS_WAY));
    assert!(news(&[], &on_its_way).is_none(), "waiting is no news");
    let blocked = with(&on_its_way, Some("SyncWindow"));
    assert_eq!(
        news(&on_its_way, &blocked),
        Some((NoteKind::Warning, "SyncWindow", "words"))
    );
    let delivered = with(&blocked, None);
    assert_eq!(news(&blocked, &delivered).unwrap().1, "Delivered");
}
