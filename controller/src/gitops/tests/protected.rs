//! A branch that takes changes by pull requests only.

use super::together::hook;
use super::*;

const SAYS: &str = "GH006: changes must be made through a pull request";

/// The host refuses pushes to main and notes every push that it sees.
pub(super) fn protect(world: &World) {
    let notes = world.folder.path().join("seen");
    hook(
        world,
        "pre-receive",
        &format!(
            "while read -r old new ref; do echo \"$ref\" >> '{}'; if [ \"$ref\" = refs/heads/main ]; then echo '{SAYS}' >&2; exit 1; fi; done; exit 0",
            notes.display()
        ),
    );
}

fn seen(world: &World) -> usize {
    fs::read_to_string(world.folder.path().join("seen"))
        .unwrap_or_default()
        .lines()
        .count()
}

pub(super) fn unprotect(world: &World) {
    fs::remove_file(world.folder.path().join("origin.git/hooks/pre-receive")).unwrap();
}

fn proposal(error: &Error) -> String {
    let Error::Proposed { proposal, words, .. } = error else {
        panic!("{error}")
    };
    assert!(words.contains(SAYS), "{words}");
    assert!(
        error.to_string().contains(proposal.as_str()) && error.to_string().contains("pull request"),
        "{error}"
    );
    assert_eq!(
        (error.kind(), error.reason()),
        (ErrorKind::Refused, "PullRequestNeeded")
    );
    proposal.clone()
}

#[tokio::test]
async fn a_refused_rollback_waits_on_a_branch_for_a_pull_request_and_is_proposed_once() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let head = world.head();
    protect(&world);
    let branch = proposal(&world.roll_back("1.1.0", None).await.unwrap_err());
    assert!(branch.starts_with("serin/rollback-prod-web-1-1-0-"), "{branch}");
    assert_eq!(world.head(), head, "the protected branch stands still");
    assert_eq!(world.origin(&["rev-parse", &format!("{branch}^")]).trim(), head);
    assert_eq!(world.origin(&["show", &format!("{branch}:{FILE}")]), VALUES);
    assert_eq!(seen(&world), 2, "main, then the branch");

    // Asked again, also on a head that has moved: the same branch, and no push.
    unprotect(&world);
    world.person("README.md", "elsewhere\n", "Elsewhere");
    protect(&world);
    assert_eq!(proposal(&world.roll_back("1.1.0", None).await.unwrap_err()), branch);
    assert_eq!(seen(&world), 2);
    // Another process asks the host again, and finds the branch there.
    let restarted = World {
        gitops: GitOps::new(world.folder.path().join("other-cache"), Identity::default()).with_pace(Pace::AT_ONCE),
        repo: world.repo.clone(),
        ..World::over(tempfile::tempdir().unwrap())
    };
    assert_eq!(proposal(&restarted.roll_back("1.1.0", None).await.unwrap_err()), branch);
    let branches = world.origin(&["for-each-ref", "--format=%(refname)", "refs/heads/serin"]);
    assert_eq!(branches.lines().count(), 1, "{branches}");
}

#[tokio::test]
async fn a_proposal_is_followed_until_it_lands_in_whatever_way_people_merge() {
    let squash = ["merge", "-q", "--squash"];
    for (how, steps, is_named) in [
        (
            "a merge commit",
            vec![vec!["merge", "-q", "--no-ff", "-m", "Merge pull request #7"]],
            true,
        ),
        ("a fast-forward", vec![vec!["merge", "-q", "--ff-only"]], true),
        (
            "a squash",
            vec![squash.to_vec(), vec!["commit", "-q", "-m", "Back to 1.0.0 (#7)", "--"]],
            false,
        ),
    ] {
        let world = World::new();
        world.create("1.1.0", &[]).await.unwrap();
        protect(&world);
        let branch = proposal(&world.roll_back("1.1.0", None).await.unwrap_err());
        unprotect(&world);
        let work = world.work();
        git(&work, &["pull", "-q", "--rebase", "origin", "main"]);
        git(&work, &["fetch", "-q", "origin", &branch]);
        for step in steps {
            let ends_with = if step.contains(&"--") {
                vec![]
            } else {
                vec!["FETCH_HEAD"]
            };
            let step: Vec<_> = step.into_iter().filter(|word| *word != "--").collect();
            git(&work, &[step, ends_with].concat());
        }
        git(&work, &["push", "-q", "origin", "HEAD:main"]);
        protect(&world);
        let outcome = world.roll_back("1.1.0", None).await.unwrap();
        let landed = match &outcome {
            RollbackOutcome::AlreadyCommitted { .. } => is_named,
            RollbackOutcome::AlreadyAtRest => !is_named,
            _ => false,
        };
        assert!(landed, "{how}: {outcome:?}");
        assert_eq!(world.file(), VALUES);
    }
}

#[tokio::test]
async fn a_promotion_is_proposed_too_and_other_changes_have_other_branches() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    protect(&world);
    let promotion = proposal(&world.promote("1.1.0", "1.0.0").await.unwrap_err());
    let rollback = proposal(&world.roll_back("1.1.0", None).await.unwrap_err());
    assert!(promotion.starts_with("serin/promote-") && promotion != rollback);
    // When the protection goes, a process that starts anew pushes to the branch itself.
    unprotect(&world);
    let restarted = GitOps::new(world.folder.path().join("cache"), Identity::default()).with_pace(Pace::AT_ONCE);
    let request = RollbackRequest {
        trial: None,
        subject: subject(),
        revision: "1.1.0".to_owned(),
        canary_commit: None,
        promotion: None,
        reason: "many failed".to_owned(),
        keep_successor: true,
    };
    let outcome = restarted.roll_back(&world.repo, &request).await.unwrap();
    assert!(matches!(outcome, RollbackOutcome::Committed { .. }), "{outcome:?}");
}
