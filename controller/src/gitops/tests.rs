//! The config repository's room over the real git program and a real bare repository.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::*;

mod blocked;
mod clusters;
mod disk;
mod faults;
mod hanging;
mod histories;
mod hostile;
pub(crate) mod hosts;
mod housekeeping;
mod kustomize;
mod protected;
mod pulls;
mod servers;
mod signing;
mod together;
pub(crate) mod troubles;

const VALUES: &str = "\
# Production.
stable: &arm # what everybody meets
  image: {repository: registry.example.com/web, tag: '1.0.0'}
  revision: \"1.0.0\"
  env: {}

# At rest the same as stable.
canary:
  image:
    repository: registry.example.com/web
    tag: \"1.0.0\" # set by the pipeline
  revision: '1.0.0'
  env: {}

replicas: 3
";
const FILE: &str = "envs/prod/values.yaml";

/// A repository, and what Serin and people do there.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) gitops: GitOps,
    pub(crate) repo: RepoSpec,
    pub(crate) subject: Subject,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        git(folder.path(), &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        git(folder.path(), &["clone", "-q", "origin.git", "work"]);
        git(&at("work"), &["checkout", "-q", "-b", "main"]);
        let world = Self::over(folder);
        world.person(FILE, VALUES, "Begin");
        world
    }

    /// Over a folder that has an `origin.git` already.
    fn over(folder: TempDir) -> Self {
        let at = |name: &str| folder.path().join(name);
        Self {
            gitops: GitOps::new(at("cache"), Identity::default()).with_pace(Pace::AT_ONCE),
            repo: RepoSpec {
                url: format!("file://{}", at("origin.git").display()),
                branch: "main".to_owned(),
                credentials: Credentials::None,
                api_token: None,
                ca: None,
                hand: Hand::default(),
            },
            folder,
            subject: subject(),
        }
    }

    fn work(&self) -> std::path::PathBuf {
        self.folder.path().join("work")
    }

    /// A person writes a file and pushes it.
    fn person(&self, path: &str, text: &str, subject: &str) -> String {
        let work = self.work();
        if !self.head().is_empty() {
            git(&work, &["pull", "-q", "--rebase", "origin", "main"]);
        }
        fs::create_dir_all(work.join(path).parent().unwrap()).unwrap();
        fs::write(work.join(path), text).unwrap();
        git(&work, &["add", "."]);
        git(&work, &["commit", "-q", "-m", subject]);
        git(&work, &["push", "-q", "origin", "HEAD:main"]);
        self.head()
    }

    fn origin(&self, args: &[&str]) -> String {
        git(&self.folder.path().join("origin.git"), args)
    }

    /// The repository at this address, for who has the token.
    pub(crate) fn token(&self, token: &str, url: &str) -> RepoSpec {
        RepoSpec {
            url: url.to_owned(),
            credentials: Credentials::Token {
                username: "ci".to_owned(),
                token: token.to_owned(),
            },
            ..self.repo.clone()
        }
    }

    pub(crate) fn head(&self) -> String {
        self.origin(&["for-each-ref", "--format=%(objectname)", "refs/heads/main"])
            .trim()
            .to_owned()
    }

    fn file(&self) -> String {
        self.origin(&["show", &format!("main:{FILE}")])
    }

    fn commits(&self) -> usize {
        self.origin(&["rev-list", "--count", "main"]).trim().parse().unwrap()
    }

    pub(crate) async fn create(&self, revision: &str, set: &[(&str, &str)]) -> Result<Created> {
        let request = CreateRequest {
            subject: self.subject.clone(),
            revision: revision.to_owned(),
            image_tag: revision.to_owned(),
            image_repository: None,
            set: set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            author: None,
            message: None,
        };
        self.gitops.create_canary(&self.repo, &request).await
    }

    async fn roll_back(&self, revision: &str, promotion: Option<&str>) -> Result<RollbackOutcome> {
        let request = RollbackRequest {
            trial: None,
            subject: self.subject.clone(),
            revision: revision.to_owned(),
            canary_commit: None,
            promotion: promotion.map(str::to_owned),
            reason: "20 % of 100 canary calls failed".to_owned(),
            keep_successor: true,
        };
        self.gitops.roll_back(&self.repo, &request).await
    }

    async fn promote(&self, revision: &str, baseline: &str) -> Result<PromoteOutcome> {
        let request = PromoteRequest {
            trial: None,
            subject: self.subject.clone(),
            revision: revision.to_owned(),
            canary_commit: None,
            baseline: Some(baseline.to_owned()),
        };
        self.gitops.promote(&self.repo, &request).await
    }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", dir)
        .args([
            "-c",
            "user.name=Ann",
            "-c",
            "user.email=ann@example.com",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn subject() -> Subject {
    Subject {
        cluster: "c1".to_owned(),
        namespace: "prod".to_owned(),
        name: "web".to_owned(),
        path: "envs/prod".to_owned(),
        layout: Layout::Helm {
            file: "values.yaml".to_owned(),
            stable: "stable".to_owned(),
            canary: "canary".to_owned(),
        },
    }
}

/// Lines that a commit of the branch takes away and brings.
fn diff(world: &World, of: &str) -> Vec<String> {
    let text = world.origin(&["show", "--format=", "--unified=0", of]);
    let changed = |line: &&str| line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---");
    text.lines().filter(changed).map(str::to_owned).collect()
}

/// A program of the test's own, as another process writes it: what a test beside this one starts in that instant would hold a file
/// of ours open for writing too, and then it cannot be run.
pub(super) fn executable(path: &Path, text: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut writer.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success(), "writing {}", path.display());
}

#[tokio::test]
async fn what_is_done_in_a_repository_is_counted_with_how_it_ended() {
    let mut world = World::new();
    let metrics = Metrics::default();
    world.gitops = world.gitops.with_metrics(metrics.clone());
    world.create("1.1.0", &[]).await.unwrap();
    world.roll_back("1.1.0", None).await.unwrap();
    world.repo.branch = "gone".to_owned();
    world.roll_back("1.1.0", None).await.unwrap_err();
    let text = metrics.text();
    for (operation, outcome, times) in [
        ("canary", "Done", 1),
        ("rollback", "Done", 1),
        ("push", "Done", 2),
        ("rollback", "NoSuchBranch", 1),
        ("fetch", "NoSuchBranch", 1),
    ] {
        let of = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}} {times}\n");
        assert!(
            text.contains(&format!("serin_git_operation_duration_seconds_count{of}")),
            "{of} in {text}"
        );
    }
    assert_eq!(world.gitops.waiting(), [0, 0]);
}

#[tokio::test]
async fn a_canary_revision_changes_its_own_values_and_no_comment() {
    let world = World::new();
    let created = world.create("1.1.0", &[("env.GREETING", "hello")]).await.unwrap();
    assert_eq!(world.head(), created.sha);
    let text = world.file();
    assert!(text.contains("    tag: \"1.1.0\" # set by the pipeline\n"), "{text}");
    assert!(text.contains("stable: &arm # what everybody meets\n"), "{text}");
    assert_eq!(
        diff(&world, "main").len(),
        7,
        "tag, revision and env before, and with its new line after: {:?}",
        diff(&world, "main")
    );
    let message = world.origin(&["log", "-1", "--format=%B", "main"]);
    for trailer in [
        "Serin-Cluster: c1",
        "Serin-Rollout: prod/web",
        "Serin-Revision: 1.1.0",
        "Serin-Action: canary",
    ] {
        assert!(message.contains(trailer), "{message}");
    }
}

#[tokio::test]
async fn a_rollback_returns_to_the_rest_state_and_names_every_canary_commit() {
    let world = World::new();
    let first = world.create("1.1.0", &[]).await.unwrap().sha;
    world.person("README.md", "hello\n", "Say hello");
    let second = world.create("1.2.0", &[]).await.unwrap().sha;
    let outcome = world.roll_back("1.2.0", None).await.unwrap();
    let RollbackOutcome::Committed {
        sha,
        undone,
        own_fields_because,
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (world.head(), undone, own_fields_because),
        (sha.clone(), vec![second.clone(), first.clone()], None)
    );
    assert_eq!(world.file(), VALUES, "everything is as before, to the byte");
    assert_eq!(
        world.origin(&["show", "main:README.md"]),
        "hello\n",
        "nobody else's commit is lost"
    );
    let message = world.origin(&["log", "-1", "--format=%B", "main"]);
    assert!(message.contains(&format!("This reverts commit {first}.")), "{message}");
    assert!(message.contains(&format!("This reverts commit {second}.")), "{message}");
    assert!(
        message.contains("Serin-Reason: 20 % of 100 canary calls failed"),
        "{message}"
    );

    let again = world.roll_back("1.2.0", None).await.unwrap();
    assert_eq!(
        again,
        RollbackOutcome::AlreadyCommitted {
            sha: sha.clone(),
            own_fields_because: None
        }
    );
    assert_eq!(world.head(), sha, "a second run changes nothing");
}

#[tokio::test]
async fn a_preview_shows_the_change_and_pushes_nothing() {
    let world = World::new();
    let head = world.create("1.1.0", &[]).await.unwrap().sha;
    let request = RollbackRequest {
        trial: None,
        subject: subject(),
        revision: "1.1.0".to_owned(),
        canary_commit: None,
        promotion: None,
        reason: "by hand".to_owned(),
        keep_successor: true,
    };
    let preview = world.gitops.preview_rollback(&world.repo, &request).await.unwrap();
    let diff = preview.diff.unwrap();
    for line in [
        "-    tag: \"1.1.0\" # set",
        "+    tag: \"1.0.0\" # set",
        "+  revision: '1.0.0'",
    ] {
        assert!(diff.contains(line), "{diff}");
    }
    assert_eq!(world.head(), head);
    world.roll_back("1.1.0", None).await.unwrap();
    let again = world.gitops.preview_rollback(&world.repo, &request).await.unwrap();
    assert!(again.diff.is_none() && matches!(again.outcome, RollbackOutcome::AlreadyCommitted { .. }));
    let log = world.gitops.log(&world.repo, &subject(), 10).await.unwrap();
    let actions: Vec<_> = log
        .iter()
        .map(|entry| (entry.action, entry.revision.as_str()))
        .collect();
    assert_eq!(
        actions,
        [(Action::Rollback, "1.1.0"), (Action::Canary, "1.1.0")],
        "newest first"
    );
    assert_eq!(log[0].names, [head]);
}

#[tokio::test]
async fn people_who_were_faster_leave_nothing_to_roll_back() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    world.person(FILE, VALUES, "Take 1.1.0 back");
    assert_eq!(
        world.roll_back("1.1.0", None).await.unwrap(),
        RollbackOutcome::AlreadyAtRest
    );
    assert_eq!(world.commits(), 3);
}

#[tokio::test]
async fn a_promotion_makes_the_canarys_subtree_stables_and_a_second_one_is_none() {
    let world = World::new();
    world.create("1.1.0", &[("env.GREETING", "hello")]).await.unwrap();
    let outcome = world.promote("1.1.0", "1.0.0").await.unwrap();
    let PromoteOutcome::Committed { sha } = outcome else {
        panic!("{outcome:?}")
    };
    let rest = world.gitops.rest_state(&world.repo, &subject()).await.unwrap();
    assert!(
        rest.at_rest && rest.stable_revision.as_deref() == Some("1.1.0"),
        "{rest:?}"
    );
    let values = Values::parse(world.file()).unwrap();
    let greeting = values.subtree(&KeyPath::parse("stable.env.GREETING")).unwrap();
    assert_eq!(
        greeting.as_scalar(),
        Some("hello"),
        "configuration is promoted with the image"
    );
    assert_eq!(
        world.promote("1.1.0", "1.0.0").await.unwrap(),
        PromoteOutcome::AlreadyCommitted { sha }
    );
}

#[tokio::test]
async fn a_hotfix_to_stable_is_not_overwritten() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let hotfix = world
        .file()
        .replacen("'1.0.0'}", "'1.0.1'}", 1)
        .replacen("\"1.0.0\"", "\"1.0.1\"", 1);
    let head = world.person(FILE, &hotfix, "Fix stable");
    let outcome = world.promote("1.1.0", "1.0.0").await.unwrap();
    assert_eq!(
        outcome,
        PromoteOutcome::StableChanged {
            found: Some("1.0.1".to_owned())
        }
    );
    assert_eq!(world.head(), head);
}

#[tokio::test]
async fn a_rolled_back_revision_is_not_promoted() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    world.roll_back("1.1.0", None).await.unwrap();
    let outcome = world.promote("1.1.0", "1.0.0").await.unwrap();
    assert!(matches!(outcome, PromoteOutcome::RolledBack { .. }), "{outcome:?}");
}

#[tokio::test]
async fn rolling_a_promotion_back_restores_both_arms() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let PromoteOutcome::Committed { sha } = world.promote("1.1.0", "1.0.0").await.unwrap() else {
        panic!()
    };
    let outcome = world.roll_back("1.1.0", Some(&sha)).await.unwrap();
    assert_eq!(world.file(), VALUES, "{outcome:?}");
}

#[tokio::test]
async fn a_promotion_that_nobody_could_record_is_found_and_rolled_back_from_both_arms() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    world.promote("1.1.0", "1.0.0").await.unwrap();
    let outcome = world.roll_back("1.1.0", None).await.unwrap();
    assert!(matches!(outcome, RollbackOutcome::Committed { .. }), "{outcome:?}");
    assert_eq!(world.file(), VALUES);
}

#[tokio::test]
async fn a_successor_that_nobody_judged_is_left_alone() {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let successor = world.create("1.2.0", &[]).await.unwrap().sha;
    let outcome = world.roll_back("1.1.0", None).await.unwrap();
    assert_eq!(
        outcome,
        RollbackOutcome::Superseded {
            by: Some("1.2.0".to_owned())
        }
    );
    assert_eq!(world.head(), successor);
}

#[tokio::test]
async fn a_canary_without_a_revision_is_promoted_by_its_images_tag_and_so_is_a_change_of_its_configuration() {
    let world = World::new();
    let unnamed = VALUES
        .replace("  revision: \"1.0.0\"\n", "")
        .replace("  revision: '1.0.0'\n", "");
    world.person(FILE, &unnamed, "Name no revisions");
    let promote = async || {
        let request = PromoteRequest {
            trial: None,
            subject: subject(),
            revision: "1.1.0".to_owned(),
            canary_commit: None,
            baseline: None,
        };
        world.gitops.promote(&world.repo, &request).await
    };
    let steps = [
        ("tag: \"1.0.0\"", "tag: \"1.1.0\""),
        ("env: {}\n\nreplicas", "env: {A: b}\n\nreplicas"),
    ];
    for (old, new) in steps {
        let canary = world.person(FILE, &world.file().replace(old, new), "Try something");
        let outcome = promote().await.unwrap();
        assert!(matches!(outcome, PromoteOutcome::Committed { .. }), "{outcome:?}");
        let said = world.origin(&["log", "-1", "--format=%B", "main"]);
        assert!(said.contains(&format!("This promotes commit {canary}.")), "{said}");
        let again = promote().await.unwrap();
        assert!(matches!(again, PromoteOutcome::AlreadyCommitted { .. }), "{again:?}");
        let rest = world.gitops.rest_state(&world.repo, &subject()).await.unwrap();
        assert!(rest.at_rest, "{}", world.file());
    }
}

#[tokio::test]
async fn a_commit_without_trailers_is_found_by_its_content() {
    let world = World::new();
    let text = VALUES
        .replace("tag: \"1.0.0\"", "tag: \"1.1.0\"")
        .replace("revision: '1.0.0'", "revision: '1.1.0'");
    let sha = world.person(FILE, &text, "Try 1.1.0 by hand");
    let found = world
        .gitops
        .find_canary(&world.repo, &subject(), Some("1.1.0"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.sha, found.by_trailer, found.author.as_str()),
        (sha, false, "Ann")
    );
    let outcome = world.roll_back("1.1.0", None).await.unwrap();
    assert!(matches!(outcome, RollbackOutcome::Committed { .. }), "{outcome:?}");
    assert_eq!(world.file(), VALUES);
}

#[tokio::test]
async fn what_makes_no_sense_is_said_and_nothing_is_pushed() {
    let world = World::new();
    let head = world.person(FILE, "stable: {}\ncanary: {image: {}}\n", "Lose the image");
    let error = world.create("1.1.0", &[]).await.unwrap_err();
    let said = format!("{:#}", anyhow::Error::from(error));
    assert!(said.contains("canary.image.tag") && said.contains(FILE), "{said}");
    assert_eq!(world.head(), head);

    let elsewhere = RepoSpec {
        url: "file:///nowhere/x.git".to_owned(),
        ..world.repo.clone()
    };
    let error = world.gitops.rest_state(&elsewhere, &subject()).await.unwrap_err();
    assert!(error.to_string().contains("file:///nowhere/x.git"), "{error}");
}

#[tokio::test]
async fn a_refused_push_is_told_in_the_hosts_words_and_leaves_nothing() {
    let world = World::new();
    let hook = world.folder.path().join("origin.git/hooks/pre-receive");
    executable(&hook, "#!/bin/sh\necho 'policy: no pushes on Fridays' >&2\nexit 1\n");
    let head = world.head();
    let error = world.create("1.1.0", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("no pushes on Fridays"), "{error}");
    assert_eq!(world.head(), head);
}
