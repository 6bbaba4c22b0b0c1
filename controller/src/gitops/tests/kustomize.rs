//! The same commits where the arms stand in files of Kustomize.

use super::*;

const STABLE: &str = "\
# What everybody meets.
resources: [../base]
images:
  - name: web # as in the base
    newTag: \"1.0.0\"
commonAnnotations: {serin.dev/revision: \"1.0.0\"}
";
const CANARY: &str = "\
resources: [../base]
nameSuffix: -canary # of everything
images:
  - name: web
    newTag: '1.0.0' # set by the pipeline
commonAnnotations:
  serin.dev/revision: \"1.0.0\"
";
const FILES: [&str; 2] = [
    "envs/prod/stable/kustomization.yaml",
    "envs/prod/canary/kustomization.yaml",
];

fn world() -> World {
    let mut world = World::new();
    world.subject.layout = Layout::Kustomize {
        stable: "stable/kustomization.yaml".to_owned(),
        canary: "canary/kustomization.yaml".to_owned(),
        image: None,
    };
    world.person(FILES[0], STABLE, "Add stable");
    world.person(FILES[1], CANARY, "Add the canary");
    world
}

fn files(world: &World) -> [String; 2] {
    FILES.map(|file| world.origin(&["show", &format!("main:{file}")]))
}

#[tokio::test]
async fn a_canary_a_promotion_and_its_rollback_change_values_of_overlays_only() {
    let world = world();
    let created = world.create("1.1.0", &[]).await.unwrap();
    assert_eq!(files(&world), [STABLE.to_owned(), CANARY.replace("1.0.0", "1.1.0")]);
    let sight = world.gitops.look(&world.repo, &world.subject, "1.1.0").await.unwrap();
    let found = sight.brought_by.unwrap();
    assert!(!sight.at_rest && found.by_trailer && found.sha == created.sha);

    let PromoteOutcome::Committed { sha } = world.promote("1.1.0", "1.0.0").await.unwrap() else {
        panic!()
    };
    assert_eq!(
        files(&world),
        [STABLE, CANARY].map(|text| text.replace("1.0.0", "1.1.0"))
    );
    let outcome = world.roll_back("1.1.0", Some(&sha)).await.unwrap();
    assert!(
        matches!(&outcome, RollbackOutcome::Committed { undone, .. } if *undone == [sha, created.sha]),
        "{outcome:?}"
    );
    assert_eq!(files(&world), [STABLE, CANARY]);
}

#[tokio::test]
async fn a_rollback_that_conflicts_restores_the_canarys_own_values() {
    let world = world();
    world.create("1.1.0", &[]).await.unwrap();
    let tidied = CANARY.replace("1.0.0", "1.1.0").replace(
        "    newTag: '1.1.0' # set by the pipeline\n",
        "    # by the pipeline\n    newTag: '1.1.0'\n",
    );
    world.person(FILES[1], &tidied, "Tidy up");
    let outcome = world.roll_back("1.1.0", None).await.unwrap();
    assert!(
        matches!(&outcome, RollbackOutcome::Committed { own_fields_because: Some(why), .. } if why.contains("conflicts")),
        "{outcome:?}"
    );
    assert_eq!(files(&world), [STABLE.to_owned(), tidied.replace("1.1.0", "1.0.0")]);
}

#[tokio::test]
async fn the_file_that_cannot_be_used_is_named_with_what_to_do() {
    let world = world();
    let head = world.person(FILES[1], "kind: Component\n", "Something else");
    let error = anyhow::Error::from(world.create("1.1.0", &[]).await.unwrap_err());
    let said = format!("{error:#}");
    assert!(said.contains(FILES[1]) && said.contains("a Component"), "{said}");
    let mut same = world.subject.clone();
    same.layout = Layout::Kustomize {
        stable: "kustomization.yaml".to_owned(),
        canary: "kustomization.yaml".to_owned(),
        image: None,
    };
    let error = world.gitops.rest_state(&world.repo, &same).await.unwrap_err();
    assert!(error.to_string().contains("of its own"), "{error}");
    assert_eq!(world.head(), head);
}

#[tokio::test]
async fn an_arm_that_names_no_revision_says_which_key_it_lacks() {
    let world = world();
    let nameless = CANARY.replace("    newTag: '1.0.0' # set by the pipeline\n", "");
    let nameless = nameless.lines().filter(|line| !line.contains("serin.dev/revision"));
    let head = world.person(FILES[1], &nameless.collect::<Vec<_>>().join("\n"), "Lose the tag");
    let error = world
        .gitops
        .look(&world.repo, &world.subject, "1.0.0")
        .await
        .unwrap_err();
    let said = format!("{:#}", anyhow::Error::from(error));
    assert!(
        said.contains(FILES[1]) && said.contains("no key images.newTag"),
        "{said}"
    );
    assert_eq!(world.head(), head);
}
