//! Questions beside the reconciles: what hangs or fails holds up nothing else, and is asked again politely.

use super::*;
use crate::gitops::tests::World;
use crate::gitops::tests::hosts::Https;
use crate::gitops::{RepoSpec, RollbackRequest};

const SHORT: Duration = Duration::from_millis(20);

fn revision() -> Revision {
    Revision {
        name: "1.1.0".to_owned(),
        hash: "abc".to_owned(),
    }
}

fn refused() -> anyhow::Error {
    let error = gitops::Error::NoBranch {
        repository: "https://h/x.git".to_owned(),
        branch: "main".to_owned(),
    };
    anyhow::Error::from(error).context("committing the rollback")
}

fn key(name: &str) -> Key {
    ObjectRef::new(name).within("prod")
}

/// One that hangs, and one that panics, among 200.
#[tokio::test]
async fn a_question_that_hangs_or_panics_holds_up_no_other_rollouts() {
    let (desk, mut news) = Desk::new();
    let at_rest = || async { Ok(Reply::Rollback(RollbackOutcome::AtRest)) };
    desk.ask(&key("hangs"), Question::Rollback, &revision(), std::future::pending);
    desk.ask(&key("panics"), Question::Rollback, &revision(), || async {
        panic!("a bug")
    });
    for number in 0..198 {
        desk.ask(&key(&number.to_string()), Question::Rollback, &revision(), at_rest);
    }
    let mut told = std::collections::HashSet::new();
    while told.len() < 199 {
        told.insert(news.recv().await.unwrap().name);
    }
    assert!(!told.contains("hangs"));
    assert!(matches!(desk.view(&key("7")).rollback, Some(Answer::Is(_))));
    let panicked = desk.view(&key("panics")).rollback;
    assert!(
        matches!(&panicked, Some(Answer::Failed(why)) if why.contains("bug")),
        "{panicked:?}"
    );
    assert!(desk.view(&key("hangs")).rollback.is_none());
}

#[test]
fn a_failure_is_told_until_the_next_try_has_ended() {
    let mut file = File::default();
    let is_failed = |file: &File| matches!(file.rollback.view(), Some(Answer::Failed(why)) if why.contains("main"));
    assert_eq!(file.rollback.start(&revision()), Some(0));
    assert!(file.rollback.view().is_none());
    let wait = file.finish(Question::Rollback, &revision(), Err(refused()), (0, SHORT));
    assert!(is_failed(&file) && wait.is_some());
    if let Slot::Failed { again, .. } = &mut file.rollback {
        *again = Instant::now();
    }
    assert_eq!(file.rollback.start(&revision()), Some(1));
    assert!(is_failed(&file), "while it is tried again");
    assert_eq!(file.rollback.reason(), Some("NoSuchBranch"));
    let reply = Ok(Reply::Rollback(RollbackOutcome::AtRest));
    file.finish(Question::Rollback, &revision(), reply, (1, SHORT));
    assert!(matches!(file.rollback.view(), Some(Answer::Is(_))));
    assert_eq!(file.rollback.reason(), None);
}

#[test]
fn a_host_that_is_gone_for_an_hour_is_asked_seldom_and_not_forgotten() {
    let (patience, hour) = (PATIENCE, Duration::from_secs(3600));
    let (mut tries, mut passed) = (0, Duration::ZERO);
    while passed < hour {
        let wait = patience.after(tries + 1);
        assert!(wait >= patience.after(tries) && wait <= Duration::from_secs(30));
        (tries, passed) = (tries + 1, passed + wait);
    }
    assert!((100..=130).contains(&tries), "{tries} tries in an hour");
    assert_eq!(patience.after(0), Duration::from_secs(1));
    assert_eq!(patience.after(u32::MAX), Duration::from_secs(30));
}

/// An hour's tries, each wait a thousandth of what it is.
#[tokio::test]
async fn a_rollback_is_committed_once_when_git_is_back_after_it_was_gone_for_an_hour() {
    let mut world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let host = Https::start(&world, "token").await;
    world.repo = RepoSpec {
        ca: Some(host.ca.clone()),
        ..world.token("token", &host.url)
    };
    let patience = PATIENCE;
    let (desk, mut news) = Desk::with(Backoff {
        first: patience.first / 1000,
        longest: patience.longest / 1000,
    });
    let key = key("web");
    let ask = || {
        let (gitops, repo) = (world.gitops.clone(), world.repo.clone());
        let request = RollbackRequest {
            trial: None,
            subject: world.subject.clone(),
            revision: "1.1.0".to_owned(),
            canary_commit: None,
            promotion: None,
            reason: "a test".to_owned(),
            keep_successor: true,
        };
        desk.ask(&key, Question::Rollback, &revision(), || async move {
            let outcome = gitops.roll_back(&repo, &request).await?;
            assert!(
                matches!(outcome, gitops::RollbackOutcome::Committed { .. }),
                "{outcome:?}"
            );
            Ok(Reply::Rollback(RollbackOutcome::AtRest))
        });
    };
    let head = world.head();
    host.leave();
    ask();
    let mut failures = 0;
    while failures < 120 {
        news.recv().await.unwrap();
        let view = desk.view(&key);
        assert!(matches!(view.rollback, Some(Answer::Failed(_))), "{view:?}");
        assert!(
            matches!(view.reason, Some("ConnectionDropped" | "HostUnreachable")),
            "{view:?}"
        );
        failures += 1;
        ask();
    }
    assert!(host.turned_away() > 0);
    assert_eq!(world.head(), head, "nothing was pushed");
    host.come_back();
    while !matches!(desk.view(&key).rollback, Some(Answer::Is(_))) {
        news.recv().await.unwrap();
        ask();
    }
    let log = world.gitops.log(&world.repo, &world.subject, 10).await.unwrap();
    let rollbacks = log.iter().filter(|entry| entry.action == gitops::Action::Rollback);
    assert_eq!(rollbacks.count(), 1);
}
