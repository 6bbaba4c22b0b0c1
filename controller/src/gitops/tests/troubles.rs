//! Bad input: everything that a config repository can be instead of what it should be, each in a world of its own in which a
//! canary waits to be rolled back. What conditions and events say of it is tested where these are made.

use std::any::Any;

use futures::future::BoxFuture;

use super::blocked::{HARMS, Harm};
use super::faults::{mirror, rewrite};
use super::hosts::{Habit, Https, Ssh, keypair, misbehaving};
use super::*;

/// Something that is wrong, and how somebody puts it right.
pub(crate) struct Trouble {
    pub(crate) what: &'static str,
    pub(crate) world: World,
    /// The words for it in a condition: of who asks where the revision comes from, and of who rolls it back.
    pub(crate) reasons: [&'static str; 2],
    /// What both say that somebody must do.
    pub(crate) says: [&'static str; 2],
    mend: fn(&mut World, &Good),
    good: Good,
    /// A host that has to live on.
    _host: Box<dyn Any + Send + Sync>,
}

/// What was there before.
struct Good {
    repo: RepoSpec,
    subject: Subject,
    gitops: GitOps,
    text: String,
}

impl Trouble {
    /// Puts it right.
    pub(crate) fn mend(&mut self) {
        (self.mend)(&mut self.world, &self.good);
    }
}

/// A world with a canary that Serin has seen.
async fn world() -> (World, Good) {
    let world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let good = Good {
        repo: world.repo.clone(),
        subject: world.subject.clone(),
        gitops: world.gitops.clone(),
        text: world.file(),
    };
    (world, good)
}

type Made = BoxFuture<'static, Trouble>;

/// The spec names something that is not there.
fn misnamed(what: &'static str, reason: &'static str, says: &'static str, spoil: fn(&mut World)) -> Made {
    Box::pin(async move {
        let (mut world, good) = world().await;
        spoil(&mut world);
        Trouble {
            what,
            world,
            reasons: [reason; 2],
            says: [says; 2],
            mend: |world, good| (world.repo, world.subject) = (good.repo.clone(), good.subject.clone()),
            good,
            _host: Box::new(()),
        }
    })
}

/// A later commit harmed the file.
fn harmed((what, harm, word): Harm) -> Made {
    Box::pin(async move {
        let (world, good) = world().await;
        harm(&world);
        let looked = if what == "no file" {
            "NoSuchFile"
        } else {
            "BadValuesFile"
        };
        Trouble {
            what,
            world,
            reasons: [looked, ROLLBACK_BLOCKED],
            says: [word, "by hand"],
            mend: |world, good| {
                world.person(FILE, &good.text, "Mend it");
            },
            good,
            _host: Box::new(()),
        }
    })
}

/// Another host stands where the repository should be.
fn misbehaves(what: &'static str, habit: Habit, reason: &'static str, says: &'static str) -> Made {
    Box::pin(async move {
        let (mut world, good) = world().await;
        let port = misbehaving(habit).await;
        world.repo.url = format!("http://127.0.0.1:{port}/origin.git");
        let git = Git::new("git", world.folder.path().join("home")).with_remote_deadline(Duration::from_secs(2));
        world.gitops = world.gitops.clone().with_git(git);
        Trouble {
            what,
            world,
            reasons: [reason; 2],
            says: [says; 2],
            mend: |world, good| (world.repo, world.gitops) = (good.repo.clone(), good.gitops.clone()),
            good,
            _host: Box::new(()),
        }
    })
}

fn with_wrong_credentials() -> Made {
    Box::pin(async {
        let (mut world, mut good) = world().await;
        let host = Https::start(&world, "the-token").await;
        good.repo = host.repo("the-token");
        world.repo = host.repo("an-old-token");
        Trouble {
            what: "wrong credentials",
            world,
            reasons: ["AuthenticationFailed"; 2],
            says: ["git.secretRef"; 2],
            mend: |world, good| world.repo = good.repo.clone(),
            good,
            _host: Box::new(host),
        }
    })
}

fn with_an_unknown_host_key() -> Made {
    Box::pin(async {
        let (mut world, mut good) = world().await;
        let host = Ssh::start(&world);
        keypair(world.folder.path(), "another");
        let another = fs::read_to_string(world.folder.path().join("another.pub")).unwrap();
        good.repo = host.repo();
        world.repo = RepoSpec {
            credentials: Credentials::Ssh {
                private_key: host.key.clone(),
                known_hosts: format!("elsewhere.example.com {another}"),
            },
            ..host.repo()
        };
        Trouble {
            what: "an unknown host key",
            world,
            reasons: ["UnknownHostKey"; 2],
            says: ["known_hosts"; 2],
            mend: |world, good| world.repo = good.repo.clone(),
            good,
            _host: Box::new(host),
        }
    })
}

fn with_a_history_rewritten_by_force() -> Made {
    Box::pin(async {
        let (world, good) = world().await;
        world.gitops.head(&world.repo).await.unwrap();
        rewrite(&world);
        Trouble {
            what: "a history rewritten by force",
            world,
            reasons: ["HistoryRewritten"; 2],
            says: ["Find out who forced the push"; 2],
            // The person whom it tells accepts it.
            mend: |world, _| fs::remove_dir_all(mirror(world)).unwrap(),
            good,
            _host: Box::new(()),
        }
    })
}

/// All of them.
pub(crate) async fn troubles() -> Vec<Trouble> {
    let mut all = vec![
        misnamed("no such branch", "NoSuchBranch", "check git.branch", |world| {
            world.repo.branch = "gone".to_owned();
        }),
        misnamed("no such path", "NoSuchFile", "check git.path", |world| {
            world.subject.path = "envs/nowhere".to_owned();
        }),
        misnamed("no such file", "NoSuchFile", "the file's name below it", |world| {
            world.subject.layout = Layout::Helm {
                file: "nothing.yaml".to_owned(),
                stable: "stable".to_owned(),
                canary: "canary".to_owned(),
            };
        }),
        with_wrong_credentials(),
        with_an_unknown_host_key(),
        misbehaves(
            "a remote that hangs",
            Habit::Hang,
            "HostTimedOut",
            "check that the host answers",
        ),
        misbehaves(
            "a remote that drops",
            Habit::Drop,
            "ConnectionDropped",
            "look at the host",
        ),
        misbehaves(
            "a remote that answers garbage",
            Habit::Say("SSH-2.0-not_http\r\n"),
            "NotAGitServer",
            "git.repository",
        ),
        with_a_history_rewritten_by_force(),
    ];
    // An anchor is in the way of who writes, not of who reads.
    let harms = HARMS.into_iter().filter(|(_, _, word)| *word != "anchor");
    all.extend(harms.map(harmed));
    futures::future::join_all(all).await
}
