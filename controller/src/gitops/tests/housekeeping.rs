//! Mirrors are kept small, and nobody who writes waits for it.

use super::faults::{mirror, stopping_git, until};
use super::*;

const SOON: Housekeeping = Housekeeping {
    loose: 1,
    packs: 2,
    quiet: Duration::from_millis(20),
    patience: Duration::from_secs(3600),
};

/// The files of single objects, and the packs.
fn objects(world: &World) -> (Vec<std::path::PathBuf>, usize) {
    let (mut loose, mut packs) = (Vec::new(), 0);
    for folder in fs::read_dir(mirror(world).join("objects")).unwrap().map(Result::unwrap) {
        // Git takes folders away that it has emptied, while they are looked at too.
        let Ok(files) = fs::read_dir(folder.path()) else {
            continue;
        };
        let files = files.map(|file| file.unwrap().path());
        match folder.file_name().to_str().unwrap() {
            "pack" => {
                packs += files
                    .filter(|file| file.extension().is_some_and(|end| end == "pack"))
                    .count();
            }
            "info" => {}
            _ => loose.extend(files),
        }
    }
    (loose, packs)
}

async fn look(world: &World) {
    world.gitops.rest_state(&world.repo, &world.subject).await.unwrap();
}

#[tokio::test]
async fn a_mirror_that_nobody_needs_is_packed_and_loses_what_nothing_leads_to() {
    let mut world = World::new();
    let request = CreateRequest {
        subject: subject(),
        revision: "1.1.0".to_owned(),
        image_tag: "1.1.0".to_owned(),
        image_repository: None,
        set: Vec::new(),
        author: None,
        message: None,
    };
    // A commit that is never pushed.
    world.gitops.preview_canary(&world.repo, &request).await.unwrap();
    let (loose, packs) = objects(&world);
    assert!(loose.len() > 4 && packs == 0);
    for object in &loose {
        // Git makes its objects read-only; times can be set all the same.
        let file = fs::File::open(object).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - Duration::from_secs(3 * 3600)).unwrap();
    }
    world.gitops = world.gitops.clone().with_housekeeping(SOON);
    look(&world).await;
    until(|| {
        let (loose, packs) = objects(&world);
        loose.is_empty() && packs == 1
    })
    .await;
    world.create("1.1.0", &[]).await.unwrap();
    let outcome = world.roll_back("1.1.0", None).await.unwrap();
    assert!(matches!(outcome, RollbackOutcome::Committed { .. }), "{outcome:?}");
    assert_eq!(world.file(), VALUES);
}

#[tokio::test]
async fn a_rollback_ends_the_tidying_up_of_its_mirror_at_once() {
    let mut world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let reached = world.folder.path().join("reached");
    world.gitops = GitOps::new(world.folder.path().join("cache"), Identity::default())
        .with_pace(Pace::AT_ONCE)
        .with_housekeeping(SOON)
        .with_git(stopping_git(world.folder.path(), "repack", false));
    look(&world).await;
    until(|| reached.exists()).await;
    // It would go on for ten minutes.
    let rollback = world.roll_back("1.1.0", None);
    let outcome = tokio::time::timeout(Duration::from_secs(60), rollback)
        .await
        .expect("it waits");
    assert!(matches!(outcome, Ok(RollbackOutcome::Committed { .. })), "{outcome:?}");
    assert_eq!(world.file(), VALUES);
}

#[tokio::test]
async fn a_tidying_up_that_fails_changes_nothing() {
    let mut world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let (script, reached) = (
        world.folder.path().join("git-that-fails"),
        world.folder.path().join("reached"),
    );
    let body = format!(
        "#!/bin/sh\ncase \" $* \" in *\" repack \"*) : > '{}'; echo 'fatal: no room' >&2; exit 128;; esac\nexec git \"$@\"\n",
        reached.display()
    );
    executable(&script, &body);
    world.gitops = GitOps::new(world.folder.path().join("cache"), Identity::default())
        .with_pace(Pace::AT_ONCE)
        .with_housekeeping(SOON)
        .with_git(Git::new(script, world.folder.path().join("cache/home")));
    look(&world).await;
    until(|| reached.exists()).await;
    let outcome = world.roll_back("1.1.0", None).await;
    assert!(matches!(outcome, Ok(RollbackOutcome::Committed { .. })), "{outcome:?}");
}

#[tokio::test]
async fn many_who_wait_for_a_host_that_is_gone_ask_it_once() {
    let mut world = World::new();
    let host = hosts::Https::start(&world, "token").await;
    world.repo = RepoSpec {
        ca: Some(host.ca.clone()),
        ..world.token("token", &host.url)
    };
    look(&world).await;
    host.leave();
    let looks = (0..50).map(|_| world.gitops.rest_state(&world.repo, &world.subject));
    let answers = futures::future::join_all(looks).await;
    assert!(answers.iter().all(Result::is_err));
    // Git itself may try twice.
    assert!(host.turned_away() < 10, "{}", host.turned_away());
}
