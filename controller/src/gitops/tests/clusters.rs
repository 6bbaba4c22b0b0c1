//! Two clusters that share one repository: their rollouts have the same namespace and name, and their Serins know nothing of
//! each other.

use super::together::{canary, rollback};
use super::*;

/// One cluster's Serin, a process with a cache of its own.
struct Cluster {
    gitops: GitOps,
    repo: RepoSpec,
    subject: Subject,
}

impl Cluster {
    fn new(world: &World, id: &str, path: &str, layout: Layout) -> Self {
        let cache = world.folder.path().join(format!("cache-{id}"));
        Self {
            gitops: GitOps::new(cache, Identity::default()).with_pace(Pace::AT_ONCE),
            repo: world.repo.clone(),
            subject: Subject {
                cluster: id.to_owned(),
                path: path.to_owned(),
                layout,
                ..subject()
            },
        }
    }

    async fn create(&self) -> String {
        let created = self.gitops.create_canary(&self.repo, &canary(&self.subject)).await;
        created.unwrap().sha
    }

    async fn roll_back(&self) -> RollbackOutcome {
        let outcome = self.gitops.roll_back(&self.repo, &rollback(&self.subject)).await;
        outcome.unwrap()
    }

    async fn promote(&self) -> PromoteOutcome {
        let request = PromoteRequest {
            trial: None,
            subject: self.subject.clone(),
            revision: "1.1.0".to_owned(),
            canary_commit: None,
            baseline: Some("1.0.0".to_owned()),
        };
        self.gitops.promote(&self.repo, &request).await.unwrap()
    }

    async fn look(&self) -> Sight {
        self.gitops.look(&self.repo, &self.subject, "1.1.0").await.unwrap()
    }

    /// What it finds of its own rollout, newest first.
    async fn log(&self) -> Vec<Action> {
        let log = self.gitops.log(&self.repo, &self.subject, 50).await.unwrap();
        log.into_iter().map(|entry| entry.action).collect()
    }
}

fn helm(file: &str, of: &str) -> Layout {
    Layout::Helm {
        file: file.to_owned(),
        stable: format!("{of}stable"),
        canary: format!("{of}canary"),
    }
}

/// Clusters whose arms stand in folders of their own, and clusters whose arms stand in one file.
fn pairs() -> Vec<(World, [Cluster; 2])> {
    let apart = World::new();
    for id in ["east", "west"] {
        apart.person(&format!("clusters/{id}/values.yaml"), VALUES, "A cluster");
    }
    let of = |id| Cluster::new(&apart, id, &format!("clusters/{id}"), helm("values.yaml", ""));
    let folders = [of("east"), of("west")];

    let shared = World::new();
    let indented = VALUES.replace('\n', "\n  ").replace("\n  \n", "\n\n");
    let text = format!(
        "east:\n  {0}\nwest:\n  {1}\n",
        indented.trim_end(),
        indented.replace("&arm ", "").trim_end()
    );
    shared.person("envs/all.yaml", &text, "All clusters");
    let of = |id: &str| Cluster::new(&shared, id, "envs", helm("all.yaml", &format!("{id}.")));
    let one_file = [of("east"), of("west")];
    vec![(apart, folders), (shared, one_file)]
}

#[tokio::test]
async fn clusters_that_share_a_repository_answer_their_own_revisions_only() {
    for (world, [east, west]) in pairs() {
        let begin = world.commits();
        let (of_east, of_west) = (east.create().await, west.create().await);
        // The same revision fails in one cluster and passes in the other.
        assert!(matches!(east.roll_back().await, RollbackOutcome::Committed { undone, .. } if undone == [of_east]));
        let seen = west.look().await;
        assert_eq!(seen.brought_by.unwrap().sha, of_west);
        assert_eq!(
            (seen.at_rest, seen.answers),
            (false, vec![]),
            "another's rollback holds nothing"
        );
        assert!(matches!(west.promote().await, PromoteOutcome::Committed { .. }));

        // Each finds its own answer again, after a restart too.
        assert!(matches!(
            east.roll_back().await,
            RollbackOutcome::AlreadyCommitted { .. }
        ));
        assert!(matches!(west.promote().await, PromoteOutcome::AlreadyCommitted { .. }));
        assert_eq!(east.log().await, [Action::Rollback, Action::Canary]);
        assert_eq!(west.log().await, [Action::Promote, Action::Canary]);
        let [in_east, in_west] = [&east, &west].map(|cluster| cluster.gitops.rest_state(&world.repo, &cluster.subject));
        let (in_east, in_west) = (in_east.await.unwrap(), in_west.await.unwrap());
        assert_eq!(
            (in_east.at_rest, in_east.stable_revision.as_deref()),
            (true, Some("1.0.0"))
        );
        assert_eq!(
            (in_west.at_rest, in_west.stable_revision.as_deref()),
            (true, Some("1.1.0"))
        );
        assert_eq!(
            world.commits(),
            begin + 4,
            "nobody's commit is lost, and none is doubled"
        );
    }
}

#[tokio::test]
async fn clusters_that_push_to_one_branch_at_once_all_land_once() {
    for (world, [east, west]) in pairs() {
        let begin = world.commits();
        let (of_east, of_west) = tokio::join!(east.create(), west.create());
        let (in_east, in_west) = tokio::join!(east.roll_back(), west.roll_back());
        for (outcome, canary) in [(in_east, of_east), (in_west, of_west)] {
            let RollbackOutcome::Committed { sha, undone, .. } = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(undone, [canary]);
            assert_eq!(world.origin(&["merge-base", "--is-ancestor", &sha, "main"]), "");
        }
        assert_eq!(world.commits(), begin + 4);
        for cluster in [&east, &west] {
            assert_eq!(cluster.log().await, [Action::Rollback, Action::Canary]);
        }
    }
}

/// Both apply the very same folder: one subtree, two Serins.
#[tokio::test]
async fn a_cluster_that_applies_the_same_subtree_finds_it_at_rest_when_the_other_has_rolled_back() {
    let world = World::new();
    let of = |id| Cluster::new(&world, id, "envs/prod", helm("values.yaml", ""));
    let (east, west) = (of("east"), of("west"));
    let canary = east.create().await;
    let seen = west.look().await.brought_by.unwrap();
    assert_eq!((seen.sha, seen.by_trailer), (canary, false), "found by its content");
    east.roll_back().await;
    let commits = world.commits();
    assert_eq!(west.roll_back().await, RollbackOutcome::AlreadyAtRest);
    let seen = west.look().await;
    assert_eq!(
        (seen.at_rest, seen.answers),
        (true, vec![]),
        "it was no answer of its own"
    );
    assert_eq!(world.commits(), commits);
}
