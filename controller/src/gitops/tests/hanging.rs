//! A push that hangs while a rollback waits: the rollback goes first, and no commit is doubled or lost. The host is a real one
//! that goes on with what it was asked after the client is gone.

use super::hosts::{Habit, Https, misbehaving};
use super::together::{canary, environments, hook, rollback};
use tokio::time::Instant;

use super::*;

/// Lets pushes that touch the second environment hang in a hook of the host until the file `release` is there, or the world is gone.
fn hang(world: &World, in_hook: &str) {
    let folder = world.folder.path().display();
    hook(
        world,
        in_hook,
        &format!(
            "while read -r old new ref; do git diff --name-only \"$old\" \"$new\" | grep -q envs/e1/ || continue; : > '{folder}/reached'; while [ ! -e '{folder}/release' ] && [ -e '{folder}/reached' ]; do sleep 0.1; done; done; exit 0"
        ),
    );
}

async fn until(file: &Path) {
    let wait = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
}

/// How often Git tells of each canary of the second environment, newest commit of all first.
async fn actions(world: &World, subjects: &[Subject]) -> (Vec<Action>, usize) {
    let mut of_second = Vec::new();
    for entry in world.gitops.log(&world.repo, &subjects[1], 50).await.unwrap() {
        of_second.push(entry.action);
    }
    let first = world.gitops.log(&world.repo, &subjects[0], 50).await.unwrap();
    let rollbacks = first.iter().filter(|entry| entry.action == Action::Rollback).count();
    (of_second, rollbacks)
}

/// From now on the repository is reached through a host with a token; it ends with what is returned.
async fn behind_tls(world: &mut World) -> Https {
    let host = Https::start(world, "t0ken").await;
    world.repo = RepoSpec {
        url: host.url.clone(),
        ca: Some(host.ca.clone()),
        credentials: Credentials::Token {
            username: "ci".to_owned(),
            token: "t0ken".to_owned(),
        },
        ..world.repo.clone()
    };
    host
}

async fn a_rollback_overtakes(in_hook: &str, has_landed: bool) {
    let mut world = World::new();
    let subjects = environments(&world, 2);
    let _host = behind_tls(&mut world).await;
    world.gitops = world.gitops.clone().with_patience(Duration::from_millis(200));
    world
        .gitops
        .create_canary(&world.repo, &canary(&subjects[0]))
        .await
        .unwrap();
    let begin = world.commits();
    hang(&world, in_hook);
    let (gitops, repo, second) = (world.gitops.clone(), world.repo.clone(), canary(&subjects[1]));
    let hanging = tokio::spawn(async move { gitops.create_canary(&repo, &second).await });
    until(&world.folder.path().join("reached")).await;

    let begun = Instant::now();
    let outcome = world
        .gitops
        .roll_back(&world.repo, &rollback(&subjects[0]))
        .await
        .unwrap();
    assert!(matches!(outcome, RollbackOutcome::Committed { .. }), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(
        !world.folder.path().join("release").exists(),
        "the other push still hangs"
    );
    assert_eq!(world.commits(), begin + 1 + usize::from(has_landed));

    fs::write(world.folder.path().join("release"), "").unwrap();
    let created = hanging.await.unwrap().unwrap();
    assert_eq!(world.commits(), begin + 2, "each once");
    assert_eq!(actions(&world, &subjects).await, (vec![Action::Canary], 1));
    let held = world.origin(&["merge-base", "--is-ancestor", &created.sha, "main"]);
    assert_eq!(held, "", "what was told stands on the branch");
}

#[tokio::test]
async fn a_rollback_overtakes_a_push_that_hangs_before_it_lands_and_that_is_made_again_behind_it() {
    a_rollback_overtakes("pre-receive", false).await;
}

#[tokio::test]
async fn a_rollback_overtakes_a_push_that_hangs_after_it_landed_and_that_is_not_made_twice() {
    a_rollback_overtakes("post-receive", true).await;
}

#[tokio::test]
async fn a_rollback_overtakes_another_whose_push_hangs_and_both_land_once() {
    let mut world = World::new();
    let subjects = environments(&world, 2);
    for subject in &subjects {
        world.gitops.create_canary(&world.repo, &canary(subject)).await.unwrap();
    }
    let _host = behind_tls(&mut world).await;
    world.gitops = world.gitops.clone().with_patience(Duration::from_millis(100));
    let begin = world.commits();
    hang(&world, "pre-receive");
    let (gitops, repo, second) = (world.gitops.clone(), world.repo.clone(), rollback(&subjects[1]));
    let hanging = tokio::spawn(async move { gitops.roll_back(&repo, &second).await });
    until(&world.folder.path().join("reached")).await;
    let outcome = world.gitops.roll_back(&world.repo, &rollback(&subjects[0])).await;
    assert!(matches!(outcome, Ok(RollbackOutcome::Committed { .. })), "{outcome:?}");
    assert!(
        !world.folder.path().join("release").exists(),
        "the other push still hangs"
    );
    assert_eq!(world.commits(), begin + 1);

    fs::write(world.folder.path().join("release"), "").unwrap();
    // The push that was cut may land by itself.
    let outcome = hanging.await.unwrap().unwrap();
    let has_landed = matches!(
        outcome,
        RollbackOutcome::Committed { .. } | RollbackOutcome::AlreadyCommitted { .. }
    );
    assert!(has_landed, "{outcome:?}");
    assert_eq!(world.commits(), begin + 2, "each once");
    assert_eq!(
        actions(&world, &subjects).await,
        (vec![Action::Rollback, Action::Canary], 1)
    );
}

#[tokio::test]
async fn a_host_that_hangs_holds_up_no_other_repository() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let port = misbehaving(Habit::Hang).await;
    let dead = RepoSpec {
        url: format!("http://127.0.0.1:{port}/config.git"),
        ..world.repo.clone()
    };
    let hanging = (0..8).map(|nth| {
        let (gitops, mut repo) = (world.gitops.clone(), dead.clone());
        repo.branch = format!("b{nth}");
        tokio::spawn(async move { gitops.roll_back(&repo, &rollback(&subject())).await })
    });
    let hanging: Vec<_> = hanging.collect();
    let outcome = world.roll_back("1.1.0", None).await;
    assert!(matches!(outcome, Ok(RollbackOutcome::Committed { .. })), "{outcome:?}");
    assert!(hanging.iter().all(|write| !write.is_finished()), "they still hang");
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_push_that_is_only_slow_is_not_cut() {
    let mut world = World::new();
    let subjects = environments(&world, 2);
    world.gitops = world.gitops.clone().with_patience(Duration::from_secs(600));
    world
        .gitops
        .create_canary(&world.repo, &canary(&subjects[0]))
        .await
        .unwrap();
    hang(&world, "pre-receive");
    let (second, first) = (canary(&subjects[1]), rollback(&subjects[0]));
    let reached = world.folder.path().join("reached");
    let (created, rolled_back, ()) = tokio::join!(
        world.gitops.create_canary(&world.repo, &second),
        async {
            until(&reached).await;
            world.gitops.roll_back(&world.repo, &first).await
        },
        async {
            until(&reached).await;
            fs::write(world.folder.path().join("release"), "").unwrap();
        }
    );
    let (created, rolled_back) = (created.unwrap(), rolled_back.unwrap());
    let RollbackOutcome::Committed { sha, .. } = rolled_back else {
        panic!("{rolled_back:?}")
    };
    assert_eq!(world.origin(&["rev-parse", &format!("{sha}^")]).trim(), created.sha);
}

/// A host whose answer to a push hangs in this hook, and a client that does not wait for it.
async fn deaf(in_hook: &str) -> (World, Vec<Subject>, Https) {
    let mut world = World::new();
    let subjects = environments(&world, 2);
    world
        .gitops
        .create_canary(&world.repo, &canary(&subjects[1]))
        .await
        .unwrap();
    let host = behind_tls(&mut world).await;
    let git = Git::new("git", world.folder.path().join("home")).with_remote_deadline(Duration::from_secs(4));
    world.gitops = world.gitops.clone().with_git(git);
    hang(&world, in_hook);
    (world, subjects, host)
}

#[tokio::test]
async fn a_push_that_landed_and_whose_answer_never_came_is_looked_up_and_not_made_twice() {
    let (world, subjects, _host) = deaf("post-receive").await;
    let begin = world.commits();
    let outcome = world.gitops.roll_back(&world.repo, &rollback(&subjects[1])).await;
    let Ok(RollbackOutcome::Committed { sha, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        !world.folder.path().join("release").exists(),
        "the host still has not answered"
    );
    assert_eq!((world.commits(), world.head()), (begin + 1, sha));
    fs::write(world.folder.path().join("release"), "").unwrap();
}

#[tokio::test]
async fn a_push_that_times_out_again_and_again_is_given_up_and_what_lands_later_counts() {
    let (world, subjects, _host) = deaf("pre-receive").await;
    let begin = world.commits();
    let request = rollback(&subjects[1]);
    let error = world.gitops.roll_back(&world.repo, &request).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (ErrorKind::Transient, "HostTimedOut"),
        "{error}"
    );
    assert_eq!(world.commits(), begin);
    // The host goes on with all that it was asked for, one of which can land.
    fs::write(world.folder.path().join("release"), "").unwrap();
    super::faults::until(|| world.commits() > begin).await;
    let outcome = world.gitops.roll_back(&world.repo, &request).await;
    assert!(
        matches!(outcome, Ok(RollbackOutcome::AlreadyCommitted { .. })),
        "{outcome:?}"
    );
    assert_eq!(actions(&world, &subjects).await.0, [Action::Rollback, Action::Canary]);
    assert_eq!(world.commits(), begin + 1);
}
