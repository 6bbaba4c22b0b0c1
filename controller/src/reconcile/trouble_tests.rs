//! Bad input of every kind that Git can be: each is a condition and an event that say what to do, and nothing is lost.

use kube::runtime::reflector::ObjectRef;
use serin_core::rollout::{Origin, Revision, RollbackOutcome};

use super::*;
use crate::gitops::RollbackRequest;
use crate::gitops::tests::World;
use crate::gitops::tests::troubles::{Trouble, troubles};
use crate::reconcile::desk::{Desk, Key, Question, Reply};

/// Asks what a reconcile asks, by the desk; the commit of a rollback counts as one that Git is at rest after.
fn ask(desk: &Desk, key: &Key, question: Question, world: &World) {
    let revision = Revision {
        name: "1.1.0".to_owned(),
        hash: "5d4f8c7b9".to_owned(),
    };
    let (gitops, repo, subject) = (world.gitops.clone(), world.repo.clone(), world.subject.clone());
    desk.ask(key, question, &revision, || async move {
        if question == Question::Origin {
            let sight = gitops.look(&repo, &subject, "1.1.0").await?;
            return Ok(Reply::Origin(Origin {
                commit: None,
                at_rest: sight.at_rest,
                prior: None,
            }));
        }
        let request = RollbackRequest {
            trial: None,
            subject,
            revision: "1.1.0".to_owned(),
            canary_commit: None,
            promotion: None,
            reason: "20 % of calls failed".to_owned(),
            keep_successor: true,
        };
        gitops.roll_back(&repo, &request).await?;
        Ok(Reply::Rollback(RollbackOutcome::AtRest))
    });
}

/// The conditions when the question was answered, and the event that tells of what changed.
async fn answered(
    question: Question,
    world: &World,
    before: &[Condition],
) -> (Vec<Condition>, (NoteKind, String, String)) {
    let (desk, mut told) = Desk::new();
    let key = ObjectRef::new("web").within("prod");
    ask(&desk, &key, question, world);
    told.recv().await.unwrap();
    let after = conditions_of(before, desk.view(&key));
    let (kind, reason, message) = news(before, &after).expect("nothing is told");
    let event = (kind, reason.to_owned(), message.to_owned());
    (after, event)
}

/// Said, with nothing pushed; and the end of it, when somebody has put it right.
async fn is_told(mut trouble: Trouble) {
    let (what, head) = (trouble.what, trouble.world.head());
    for ((question, reason), says) in [Question::Origin, Question::Rollback]
        .into_iter()
        .zip(trouble.reasons)
        .zip(trouble.says)
    {
        let calm = conditions_of(&[], GitView::default());
        let (conditions, (kind, event, message)) = answered(question, &trouble.world, &calm).await;
        let pending = of(&conditions, "GitPending");
        assert_eq!(
            (pending.status.as_str(), pending.reason.as_str()),
            ("True", reason),
            "{what}, {question:?}: {}",
            pending.message
        );
        assert!(
            pending.message.contains(says),
            "{what}, {question:?}: {}",
            pending.message
        );
        assert_eq!((kind, event.as_str()), (NoteKind::Warning, reason), "{what}: {message}");
        assert_eq!(pending.message, message.as_str(), "{what}");
        let is_blocked = of(&conditions, ROLLBACK_BLOCKED).status == "True";
        assert_eq!(is_blocked, reason == ROLLBACK_BLOCKED, "{what}");
        assert_eq!(trouble.world.head(), head, "{what}: something was pushed");
    }
    let (before, _) = answered(Question::Rollback, &trouble.world, &[]).await;
    trouble.mend();
    let (after, (kind, event, _)) = answered(Question::Rollback, &trouble.world, &before).await;
    assert_eq!((kind, event.as_str()), (NoteKind::Normal, "GitAnswered"), "{what}");
    assert_eq!(of(&after, "GitPending").status, "False", "{what}");
    let world = &trouble.world;
    let rest = world.gitops.rest_state(&world.repo, &world.subject).await.unwrap();
    assert!(rest.at_rest, "{what}");
}

#[tokio::test]
async fn bad_input_is_a_condition_and_an_event_that_say_what_to_do_and_loses_nothing() {
    let all = troubles().await;
    assert!(all.len() >= 16, "{}", all.len());
    futures::future::join_all(all.into_iter().map(is_told)).await;
}
