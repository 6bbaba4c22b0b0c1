//! Writes of several rollouts that wait for one branch.

use tokio::time::Instant;

use super::*;

/// The environments of a repository, each with a rollout of its own.
pub(super) fn environments(world: &World, count: usize) -> Vec<Subject> {
    let names: Vec<_> = (0..count).map(|i| format!("e{i}")).collect();
    for name in &names {
        fs::create_dir_all(world.work().join("envs").join(name)).unwrap();
        fs::write(world.work().join("envs").join(name).join("values.yaml"), VALUES).unwrap();
    }
    world.person("README.md", "Many\n", "Add");
    let of = |name: &String| Subject {
        path: format!("envs/{name}"),
        name: name.clone(),
        ..subject()
    };
    names.iter().map(of).collect()
}

pub(super) fn canary(subject: &Subject) -> CreateRequest {
    CreateRequest {
        subject: subject.clone(),
        revision: "1.1.0".to_owned(),
        image_tag: "1.1.0".to_owned(),
        image_repository: None,
        set: vec![],
        author: None,
        message: None,
    }
}

pub(super) fn rollback(subject: &Subject) -> RollbackRequest {
    RollbackRequest {
        trial: None,
        subject: subject.clone(),
        revision: "1.1.0".to_owned(),
        canary_commit: None,
        promotion: None,
        reason: "many failed".to_owned(),
        keep_successor: true,
    }
}

/// Runs at the host for each push; the pushes that landed are counted.
pub(super) fn hook(world: &World, name: &str, body: &str) {
    let hook = world.folder.path().join("origin.git/hooks").join(name);
    executable(&hook, &format!("#!/bin/sh\n{body}\n"));
}

fn count_pushes(world: &World) -> impl Fn() -> usize {
    let count = world.folder.path().join("pushes");
    hook(world, "post-receive", &format!("echo push >> '{}'", count.display()));
    move || fs::read_to_string(&count).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn writes_that_wait_together_are_commits_of_their_own_in_one_push() {
    let world = World::new();
    let subjects = environments(&world, 5);
    let (begin, pushes) = (world.commits(), count_pushes(&world));
    let creates: Vec<_> = subjects.iter().map(canary).collect();
    let all = futures::future::join_all(
        creates
            .iter()
            .map(|create| world.gitops.create_canary(&world.repo, create)),
    )
    .await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((world.commits(), pushes()), (begin + 5, 1));
    let requests: Vec<_> = subjects.iter().map(rollback).collect();
    let all = futures::future::join_all(
        requests
            .iter()
            .map(|request| world.gitops.roll_back(&world.repo, request)),
    )
    .await;
    assert_eq!((world.commits(), pushes()), (begin + 10, 2), "{all:?}");
    for subject in &subjects {
        assert!(world.gitops.rest_state(&world.repo, subject).await.unwrap().at_rest);
    }
}

#[tokio::test]
async fn commits_that_are_ready_do_not_wait_for_those_that_are_not() {
    let mut world = World::new();
    let subjects = environments(&world, 3);
    world.gitops = world.gitops.clone().with_ready(Duration::ZERO);
    let (begin, pushes) = (world.commits(), count_pushes(&world));
    let creates: Vec<_> = subjects.iter().map(canary).collect();
    let creates = creates
        .iter()
        .map(|create| world.gitops.create_canary(&world.repo, create));
    let all = futures::future::join_all(creates).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((world.commits(), pushes()), (begin + 3, 3), "one by one");
}

#[tokio::test]
async fn a_write_that_makes_no_sense_or_is_refused_holds_up_no_other() {
    let world = World::new();
    let mut subjects = environments(&world, 4);
    subjects[1].path = "missing".to_owned();
    hook(
        &world,
        "pre-receive",
        "while read -r old new ref; do git diff --name-only \"$old\" \"$new\" | grep -q envs/e2/ && { echo 'e2 is frozen' >&2; exit 1; }; done; exit 0",
    );
    let begin = world.commits();
    let creates: Vec<_> = subjects.iter().map(canary).collect();
    let all = futures::future::join_all(
        creates
            .iter()
            .map(|create| world.gitops.create_canary(&world.repo, create)),
    )
    .await;
    let kinds: Vec<_> = all
        .iter()
        .map(|result| result.as_ref().err().map(Error::kind))
        .collect();
    assert_eq!(
        kinds,
        [None, Some(ErrorKind::Input), Some(ErrorKind::Refused), None],
        "{all:?}"
    );
    assert_eq!(world.commits(), begin + 2);
}

#[tokio::test]
async fn a_rollback_does_not_wait_for_the_pace_and_takes_along_what_waits() {
    let mut world = World::new();
    let subjects = environments(&world, 2);
    world.gitops = world.gitops.clone().with_pace(Pace {
        pushes_a_minute: 1,
        company: Duration::ZERO,
    });
    let pushes = count_pushes(&world);
    let begun = Instant::now();
    world
        .gitops
        .create_canary(&world.repo, &canary(&subjects[0]))
        .await
        .unwrap();
    let (second, first) = (canary(&subjects[1]), rollback(&subjects[0]));
    let (created, rolled_back) = tokio::join!(
        world.gitops.create_canary(&world.repo, &second),
        world.gitops.roll_back(&world.repo, &first)
    );
    created.unwrap();
    rolled_back.unwrap();
    assert_eq!(pushes(), 2);
    assert!(begun.elapsed() < Duration::from_secs(55), "the pace alone is a minute");
}

#[tokio::test]
async fn another_rollouts_credentials_never_push_a_commit() {
    let world = World::new();
    let subjects = environments(&world, 2);
    let pushes = count_pushes(&world);
    let other = RepoSpec {
        credentials: Credentials::Token {
            username: "other".to_owned(),
            token: "other".to_owned(),
        },
        ..world.repo.clone()
    };
    let (first, second) = (canary(&subjects[0]), canary(&subjects[1]));
    let (first, second) = tokio::join!(
        world.gitops.create_canary(&world.repo, &first),
        world.gitops.create_canary(&other, &second)
    );
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(pushes(), 2);
}

#[tokio::test]
async fn branches_of_one_repository_share_its_pace_whatever_way_leads_there() {
    let world = World::new();
    world.origin(&["branch", "next", "main"]);
    let next = RepoSpec {
        branch: "next".to_owned(),
        ..world.repo.clone()
    };
    let pace = Pace {
        pushes_a_minute: 2,
        company: Duration::ZERO,
    };
    let (now, free) = (Instant::now(), |repo: &RepoSpec, now| {
        world.gitops.pushes(repo).next(pace, now)
    });
    world.create("1.1.0", &[]).await.unwrap();
    assert_eq!(free(&world.repo, now), now);
    world.gitops.create_canary(&next, &canary(&subject())).await.unwrap();
    let other_way = RepoSpec {
        url: world.repo.url.trim_end_matches(".git").to_owned(),
        ..next.clone()
    };
    for repo in [&world.repo, &next, &other_way] {
        assert!(free(repo, now) > now + Duration::from_secs(30), "{repo:?}");
    }
    let elsewhere = RepoSpec {
        url: "https://git.example.com/other.git".to_owned(),
        ..next
    };
    assert_eq!(free(&elsewhere, now), now);
}
