//! Rollbacks that conflict with later commits: the rollout's own fields only, and where not even that is possible.

use super::*;

#[tokio::test]
async fn a_revert_that_conflicts_restores_the_rollouts_own_fields_only_and_says_who_came_later() {
    let world = World::new();
    let canary = world.create("1.1.0", &[]).await.unwrap().sha;
    let text = world.file().replace("# set by the pipeline", "# mind the gap");
    let later = world.person(FILE, &text, "Comment on the tag");
    let outcome = world.roll_back("1.1.0", None).await.unwrap();
    let RollbackOutcome::Committed {
        own_fields_because: Some(why),
        undone,
        ..
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(undone, std::slice::from_ref(&canary));
    for part in [&canary, FILE, &later[..12], "Comment on the tag", "Ann"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    let message = world.origin(&["log", "-1", "--format=%B", "main"]);
    assert!(
        message.contains(&format!("Only the rollout's own fields were restored, as {why}.")),
        "{message}"
    );
    // A process that died after the push could not record it.
    let again = world.roll_back("1.1.0", None).await.unwrap();
    let RollbackOutcome::AlreadyCommitted { own_fields_because, .. } = again else {
        panic!("{again:?}")
    };
    assert_eq!(own_fields_because, Some(why));
    assert_eq!(
        world.file(),
        VALUES.replace("# set by the pipeline", "# mind the gap"),
        "the later commit's work stays"
    );
    let rest = world.gitops.rest_state(&world.repo, &subject()).await.unwrap();
    assert!(rest.at_rest);
}

/// A person's commit that does something to the values file.
fn in_work(world: &World, change: impl Fn(&Path)) -> String {
    let work = world.work();
    git(&work, &["pull", "-q", "--rebase", "origin", "main"]);
    change(&work.join(FILE));
    git(&work, &["commit", "-q", "-a", "-m", "Break it"]);
    git(&work, &["push", "-q", "origin", "HEAD:main"]);
    world.head()
}

/// What a later commit did, and a word of what the error says of it.
pub(super) type Harm = (&'static str, fn(&World) -> String, &'static str);

/// What stands in the place of the canary's tag; its revision is gone.
fn nameless(world: &World, tag: &str) -> String {
    let text = world
        .file()
        .replace("    tag: \"1.1.0\" # set by the pipeline\n", tag)
        .replace("  revision: '1.1.0'\n", "");
    world.person(FILE, &text, "Break it")
}

pub(super) const HARMS: [Harm; 8] = [
    (
        "YAML that does not parse",
        |world| world.person(FILE, &format!("{}broken: [\n", world.file()), "Break it"),
        "line",
    ),
    (
        "no file",
        |world| in_work(world, |file| fs::remove_file(file).unwrap()),
        "no file",
    ),
    (
        "no subtree",
        |world| world.person(FILE, "stable: {image: {tag: '1'}}\n", "Break it"),
        "canary",
    ),
    (
        "a binary file",
        |world| in_work(world, |file| fs::write(file, [0xff, 0xfe, 0, 1, 2, 0xff]).unwrap()),
        "UTF-8",
    ),
    (
        "a huge file",
        |world| {
            world.person(
                FILE,
                &format!("{}# {}\n", world.file(), "x".repeat(1 << 20)),
                "Break it",
            )
        },
        "bytes",
    ),
    (
        "the canary's anchor is used elsewhere",
        |world| {
            let text = world.file().replace("revision: '1.1.0'", "revision: &mine '1.1.0'");
            world.person(FILE, &format!("{text}elsewhere: *mine\n"), "Break it")
        },
        "anchor",
    ),
    ("no image's tag", |world| nameless(world, ""), "no key canary.image.tag"),
    (
        "an image's tag that is no scalar",
        |world| nameless(world, "    tag: [1, 1]\n"),
        "canary.image.tag is a list",
    ),
];

#[tokio::test]
async fn where_not_even_the_own_fields_can_be_restored_the_rollback_is_blocked_until_somebody_mends_it() {
    for (what, harm, word) in HARMS {
        let world = World::new();
        world.create("1.1.0", &[]).await.unwrap();
        world.person("README.md", "unrelated\n", "Unrelated");
        let good = world.file();
        let culprit = harm(&world);
        let commits = world.commits();
        let error = world.roll_back("1.1.0", None).await.unwrap_err();
        let said = error.to_string();
        let Error::RollbackBlocked {
            paths, commits: behind, ..
        } = &error
        else {
            panic!("{what}: {said}")
        };
        assert_eq!(*paths, [FILE], "{what}");
        assert_eq!(behind.len(), 1, "{what}: {behind:?}");
        assert!(
            behind[0].starts_with(&culprit[..12]) && behind[0].contains("Break it"),
            "{what}: {behind:?}"
        );
        assert!(said.contains(word) && said.contains("by hand"), "{what}: {said}");
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Input, ROLLBACK_BLOCKED));
        assert_eq!(world.commits(), commits, "{what}: nothing is pushed");

        world.person(FILE, &good, "Mend it");
        let outcome = world.roll_back("1.1.0", None).await.unwrap();
        assert!(
            matches!(outcome, RollbackOutcome::Committed { .. }),
            "{what}: {outcome:?}"
        );
        assert_eq!(world.file(), VALUES, "{what}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said_with_what_to_do() {
    let world = World::new();
    let good = world.file();
    for (what, harm, word) in HARMS.iter().take(5) {
        let head = harm(&world);
        let error = world.create("1.1.0", &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{what}: {error}");
        let said = format!("{:#}", anyhow::Error::from(error));
        assert!(said.contains(word) && said.contains(FILE), "{what}: {said}");
        assert_eq!(world.head(), head, "{what}: nothing is pushed");
        world.person(FILE, &good, "Mend it");
    }
    let helm = |file: &str, canary: &str| Layout::Helm {
        file: file.to_owned(),
        stable: "stable".to_owned(),
        canary: canary.to_owned(),
    };
    for (place, says) in [
        (
            Subject {
                path: "envs/nowhere".to_owned(),
                ..subject()
            },
            "git.path",
        ),
        (
            Subject {
                layout: helm("nothing.yaml", "canary"),
                ..subject()
            },
            "nothing.yaml",
        ),
        (
            Subject {
                layout: helm("values.yaml", "nobody"),
                ..subject()
            },
            "nobody",
        ),
    ] {
        let error = world.gitops.rest_state(&world.repo, &place).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        let said = format!("{:#}", anyhow::Error::from(error));
        assert!(said.contains(says), "{said}");
    }
    // The image's field is a list, or missing.
    for image in ["image: {repository: x, tag: [1, 2]}", "image: {repository: x}"] {
        let head = world.person(FILE, &format!("stable:\n  {image}\ncanary:\n  {image}\n"), "Odd image");
        let error = world.create("1.1.0", &[]).await.unwrap_err();
        let said = format!("{:#}", anyhow::Error::from(error));
        assert!(said.contains("canary.image.tag"), "{said}");
        assert_eq!(world.head(), head);
    }
}

#[tokio::test]
async fn a_canary_that_names_no_revision_is_said_to_whoever_asks_for_it() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let good = world.file();
    let head = nameless(&world, "    tag: {number: 1}\n");
    let looked = world.gitops.look(&world.repo, &subject(), "1.1.0").await.map(drop);
    let promoted = world.promote("1.1.0", "1.0.0").await.map(drop);
    for error in [looked.unwrap_err(), promoted.unwrap_err()] {
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Input, "BadValuesFile"));
        let said = format!("{:#}", anyhow::Error::from(error));
        assert!(
            said.contains("canary.image.tag is a mapping") && said.contains(FILE),
            "{said}"
        );
    }
    assert_eq!(world.head(), head, "nothing is pushed");

    // What was answered before stays answered.
    world.person(FILE, &good, "Mend it");
    world.promote("1.1.0", "1.0.0").await.unwrap();
    nameless(&world, "");
    let again = world.promote("1.1.0", "1.0.0").await.unwrap();
    assert!(matches!(again, PromoteOutcome::AlreadyCommitted { .. }), "{again:?}");
}
