//! The config repository's room when things go wrong: races, kills, damage, histories that were rewritten.

use super::*;

/// A git that stops for ever at the first call of a subcommand, before or after it is done, and says that it got there.
pub(super) fn stopping_git(folder: &Path, at: &str, is_done: bool) -> Git {
    let (script, reached) = (folder.join("git-that-stops"), folder.join("reached"));
    let real = if is_done { "git \"$@\"" } else { ":" };
    let body = format!(
        "#!/bin/sh\ncase \" $* \" in *\" {at} \"*) if [ ! -e '{0}' ]; then {real}; : > '{0}'; exec sleep 600; fi;; esac\nexec git \"$@\"\n",
        reached.display()
    );
    executable(&script, &body);
    Git::new(script, folder.join("cache/home"))
}

pub(super) async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait)
        .await
        .expect("it does not come");
}

/// A process of its own: what it did ends with it.
fn process<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

#[test]
fn a_rollback_that_is_killed_at_any_step_is_made_once() {
    for (at, is_done) in [
        ("fetch", false),
        ("fetch", true),
        ("hash-object", true),
        ("commit-tree", false),
        ("commit-tree", true),
        ("push", false),
        ("push", true),
    ] {
        let mut world = World::new();
        process(world.create("1.1.0", &[])).unwrap();
        let begin = world.commits();
        let cache = world.folder.path().join("cache");
        let whole = GitOps::new(&cache, Identity::default()).with_pace(Pace::AT_ONCE);
        let reached = world.folder.path().join("reached");
        // What conflicts, so that a tree is written by hand as well.
        let stable = world.file().replacen("'1.0.0'}", "'1.0.1'}", 1);
        world.person(FILE, &stable, "Fix stable");
        world.gitops = GitOps::new(&cache, Identity::default())
            .with_pace(Pace::AT_ONCE)
            .with_git(stopping_git(world.folder.path(), at, is_done));
        process(async {
            tokio::select! {
                outcome = world.roll_back("1.1.0", None) => panic!("not stopped at {at}: {outcome:?}"),
                () = until(|| reached.exists()) => {}
            }
        });
        world.gitops = whole;
        let outcome = process(world.roll_back("1.1.0", None)).unwrap();
        let was_pushed = at == "push" && is_done;
        assert_eq!(
            was_pushed,
            matches!(outcome, RollbackOutcome::AlreadyCommitted { .. }),
            "{at} {is_done}: {outcome:?}"
        );
        let log = process(world.gitops.log(&world.repo, &subject(), 10)).unwrap();
        let rollbacks = log.iter().filter(|entry| entry.action == Action::Rollback).count();
        assert_eq!((rollbacks, world.commits()), (1, begin + 2), "{at} {is_done}");
        assert!(
            process(world.gitops.rest_state(&world.repo, &subject()))
                .unwrap()
                .at_rest
        );
    }
}

pub(super) fn mirror(world: &World) -> std::path::PathBuf {
    let cache = fs::read_dir(world.folder.path().join("cache")).unwrap();
    let mut folders = cache.map(|entry| entry.unwrap().path());
    folders
        .find(|path| path.extension().is_some_and(|end| end == "git"))
        .unwrap()
}

/// Objects in one pack, as a large first fetch leaves them.
fn packed(world: &World) -> std::path::PathBuf {
    git(&mirror(world), &["repack", "-q", "-a", "-d"]);
    let packs = fs::read_dir(mirror(world).join("objects/pack")).unwrap();
    let mut packs = packs.map(|entry| entry.unwrap().path());
    packs
        .find(|path| path.extension().is_some_and(|end| end == "pack"))
        .unwrap()
}

type Damage = fn(&World);

pub(super) fn overwrite(path: &Path, bytes: &[u8]) {
    // Git makes its objects read-only.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_mirror_is_fetched_anew_and_the_rollback_is_made() {
    let damages: [(&str, Damage); 9] = [
        ("an empty HEAD", |world| overwrite(&mirror(world).join("HEAD"), b"")),
        ("no HEAD", |world| fs::remove_file(mirror(world).join("HEAD")).unwrap()),
        ("a pack cut off", |world| {
            let pack = packed(world);
            let bytes = fs::read(&pack).unwrap();
            overwrite(&pack, &bytes[..bytes.len() / 2]);
        }),
        ("an index cut off", |world| {
            overwrite(&packed(world).with_extension("idx"), b"");
        }),
        ("no pack", |world| {
            let pack = packed(world);
            fs::remove_file(pack.with_extension("idx")).unwrap();
            fs::remove_file(pack).unwrap();
        }),
        ("no pack beside a commit-graph", |world| {
            let pack = packed(world);
            git(
                &mirror(world),
                &["commit-graph", "write", "--reachable", "--changed-paths"],
            );
            fs::remove_file(pack.with_extension("idx")).unwrap();
            fs::remove_file(pack).unwrap();
        }),
        ("a commit-graph of a pack cut off", |world| {
            packed(world);
            git(
                &mirror(world),
                &["commit-graph", "write", "--reachable", "--changed-paths"],
            );
            let graph = mirror(world).join("objects/info/commit-graph");
            let bytes = fs::read(&graph).unwrap();
            overwrite(&graph, &bytes[..bytes.len() * 2 / 3]);
        }),
        ("locks of a killed git", |world| {
            for lock in [
                "refs/serin/head.lock",
                "config.lock",
                "packed-refs.lock",
                "objects/info/commit-graph.lock",
            ] {
                fs::create_dir_all(mirror(world).join("objects/info")).unwrap();
                fs::write(mirror(world).join(lock), "").unwrap();
            }
            fs::write(mirror(world).join("objects/pack/tmp_pack_1"), "half").unwrap();
        }),
        ("a broken configuration", |world| {
            overwrite(&mirror(world).join("config"), b"[core\n");
        }),
    ];
    for (nth, (what, damage)) in damages.into_iter().enumerate() {
        // A mirror that an earlier process left, or one that breaks under a running one; packs break in both ways.
        let is_pack = what.contains("pack");
        for restarts in [true, false]
            .into_iter()
            .filter(|restarts| is_pack || *restarts == (nth % 2 == 0))
        {
            let mut world = World::new();
            world.create("1.1.0", &[]).await.unwrap();
            damage(&world);
            if restarts {
                world.gitops = GitOps::new(world.folder.path().join("cache"), Identity::default());
            }
            let outcome = world.roll_back("1.1.0", None).await;
            assert!(
                matches!(outcome, Ok(RollbackOutcome::Committed { .. })),
                "{what}: {outcome:?}"
            );
            assert_eq!(world.file(), VALUES, "{what}");
            assert!(!mirror(&world).join("objects/pack/tmp_pack_1").exists());
        }
    }
}

/// Replaces the branch's history by one without its last commit.
pub(super) fn rewrite(world: &World) -> String {
    let work = world.work();
    git(&work, &["pull", "-q", "--rebase", "origin", "main"]);
    git(&work, &["reset", "-q", "--hard", "HEAD~1"]);
    git(&work, &["commit", "-q", "--allow-empty", "-m", "Another history"]);
    git(&work, &["push", "-q", "--force", "origin", "HEAD:main"]);
    world.head()
}

#[tokio::test]
async fn a_history_rewritten_by_force_stops_serin_and_a_repair_does_not_hide_it() {
    let world = World::new();
    let known = world.create("1.1.0", &[]).await.unwrap().sha;
    world.gitops.head(&world.repo).await.unwrap();
    let head = rewrite(&world);
    let error = world.roll_back("1.1.0", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
    assert!(error.to_string().contains(&known), "{error}");
    overwrite(&mirror(&world).join("HEAD"), b"");
    for _ in 0..2 {
        let error = world.roll_back("1.1.0", None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
    }
    assert_eq!(world.head(), head, "nothing was pushed");
    fs::remove_dir_all(mirror(&world)).unwrap();
    world
        .gitops
        .rest_state(&world.repo, &subject())
        .await
        .expect("accepted by a person");
}

/// The mirror has gone with the controller's pod: what status knows of is all that there is to compare with.
#[tokio::test]
async fn a_canary_whose_commit_was_rewritten_while_there_was_no_mirror_is_neither_rolled_back_nor_promoted() {
    let mut world = World::new();
    let known = world.create("1.1.0", &[]).await.unwrap().sha;
    let work = world.work();
    git(&work, &["pull", "-q", "--rebase", "origin", "main"]);
    git(
        &work,
        &["commit", "-q", "--amend", "-m", "Try 1.1.0, said in another way"],
    );
    git(&work, &["push", "-q", "--force", "origin", "HEAD:main"]);
    world.gitops = GitOps::new(world.folder.path().join("new-cache"), Identity::default());
    let head = world.head();
    let rollback = RollbackRequest {
        canary_commit: Some(known.clone()),
        ..super::together::rollback(&subject())
    };
    let promotion = PromoteRequest {
        trial: None,
        subject: subject(),
        revision: "1.1.0".to_owned(),
        canary_commit: Some(known.clone()),
        baseline: Some("1.0.0".to_owned()),
    };
    let rolled_back = world.gitops.roll_back(&world.repo, &rollback).await;
    let promoted = world.gitops.promote(&world.repo, &promotion).await;
    for error in [rolled_back.unwrap_err(), promoted.unwrap_err()] {
        assert_eq!(
            (error.kind(), error.reason()),
            (ErrorKind::Stopped, "HistoryRewritten"),
            "{error}"
        );
        let said = error.to_string();
        assert!(said.contains(&known) && said.contains(FILE), "{said}");
    }
    assert_eq!(world.head(), head, "nothing was pushed");
    world.person(FILE, VALUES, "Take 1.1.0 back");
    let outcome = world.gitops.roll_back(&world.repo, &rollback).await.unwrap();
    assert_eq!(outcome, RollbackOutcome::AlreadyAtRest);
}

#[tokio::test]
async fn a_repair_that_cannot_keep_what_was_known_is_not_made_and_one_that_ends_half_way_forgets_nothing() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    world.gitops.head(&world.repo).await.unwrap();
    rewrite(&world);
    let memory = mirror(&world).join("serin-known");
    fs::create_dir_all(memory.join("in the way")).unwrap();
    overwrite(&mirror(&world).join("HEAD"), b"");
    let error = world.roll_back("1.1.0", None).await.unwrap_err();
    assert!(matches!(error.own(), Error::Disk { .. }), "{error}");
    assert!(mirror(&world).join("objects").exists(), "nothing is thrown away");
    fs::remove_dir_all(&memory).unwrap();
    let error = world.roll_back("1.1.0", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
    // As a process leaves it that is killed in the midst of removing what is damaged.
    for gone in ["HEAD", "config", "refs"] {
        let path = mirror(&world).join(gone);
        fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).unwrap();
        let error = world.roll_back("1.1.0", None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped, "without {gone}: {error}");
    }
}

#[tokio::test]
async fn a_shallow_history_is_refused() {
    let mut world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let url = world.repo.url.clone();
    git(
        world.folder.path(),
        &["clone", "-q", "--bare", "--depth", "1", &url, "shallow.git"],
    );
    world.repo.url = format!("file://{}", world.folder.path().join("shallow.git").display());
    let error = world.roll_back("1.1.0", None).await.unwrap_err();
    assert!(matches!(error.own(), Error::Shallow { .. }), "{error}");
}

#[tokio::test]
async fn twenty_writers_that_race_all_land_each_once() {
    let world = World::new();
    let environments: Vec<_> = (0..20).map(|i| format!("envs/e{i}")).collect();
    for environment in &environments {
        fs::create_dir_all(world.work().join(environment)).unwrap();
        fs::write(world.work().join(environment).join("values.yaml"), VALUES).unwrap();
    }
    world.person("README.md", "Twenty\n", "Add");
    let begin = world.commits();
    let create = |path: &str| {
        let request = CreateRequest {
            subject: Subject {
                path: path.to_owned(),
                name: path.replace('/', "-"),
                ..subject()
            },
            revision: "1.1.0".to_owned(),
            image_tag: "1.1.0".to_owned(),
            image_repository: None,
            set: vec![],
            author: None,
            message: None,
        };
        // A process of its own: nothing but the remote keeps two of these apart.
        let gitops =
            GitOps::new(world.folder.path().join(path.replace('/', "-")), Identity::default()).with_pace(Pace::AT_ONCE);
        let repo = world.repo.clone();
        async move { gitops.create_canary(&repo, &request).await }
    };
    let all = futures::future::join_all(environments.iter().map(|path| create(path))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(world.commits(), begin + 20);
    let changed = world.origin(&["log", "--format=", "--name-only", "-20", "main"]);
    let files: std::collections::BTreeSet<_> = changed.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(files.len(), 20, "each once: {changed}");
}
