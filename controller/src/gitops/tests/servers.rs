//! The config repository's room over real servers: git's HTTP backend behind TLS with a token, and OpenSSH's.

use super::hosts::{Habit, Https, Ssh, keypair, misbehaving};
use super::*;

fn token(token: &str) -> Credentials {
    Credentials::Token {
        username: "ci".to_owned(),
        token: token.to_owned(),
    }
}

impl Https {
    pub(super) fn repo(&self, secret: &str) -> RepoSpec {
        RepoSpec {
            url: self.url.clone(),
            branch: "main".to_owned(),
            credentials: token(secret),
            api_token: None,
            ca: Some(self.ca.clone()),
            hand: Hand::default(),
        }
    }
}

impl Ssh {
    pub(super) fn repo(&self) -> RepoSpec {
        RepoSpec {
            url: self.url.clone(),
            branch: "main".to_owned(),
            credentials: Credentials::Ssh {
                private_key: self.key.clone(),
                known_hosts: self.known_hosts.clone(),
            },
            api_token: None,
            ca: None,
            hand: Hand::default(),
        }
    }
}

/// Nothing that is secret stands in the error, and the host's fault is this one.
fn assert_fault(error: &Error, fault: Fault, secrets: &[&str]) {
    assert!(
        matches!(error.own(), Error::Remote { fault: found, .. } if *found == fault),
        "{fault:?}: {error}"
    );
    for secret in secrets {
        assert!(!error.to_string().contains(secret), "{error}");
    }
}

/// A canary comes, is rolled back; another comes, is promoted: all over the same server.
async fn whole_story(world: &World) {
    world.create("1.1.0", &[]).await.unwrap();
    let outcome = world.roll_back("1.1.0", None).await.unwrap();
    assert!(matches!(outcome, RollbackOutcome::Committed { .. }), "{outcome:?}");
    assert_eq!(world.file(), VALUES);
    world.create("1.2.0", &[]).await.unwrap();
    let outcome = world.promote("1.2.0", "1.0.0").await.unwrap();
    assert!(matches!(outcome, PromoteOutcome::Committed { .. }), "{outcome:?}");
    let rest = world.gitops.rest_state(&world.repo, &subject()).await.unwrap();
    assert_eq!((rest.at_rest, rest.head), (true, world.head()));
}

#[tokio::test]
async fn https_with_a_token_and_a_private_authority_works_and_a_rotated_token_takes_effect_at_once() {
    let mut world = World::new();
    let host = Https::start(&world, "first-token").await;
    world.repo = host.repo("first-token");
    whole_story(&world).await;

    host.rotate("second-token");
    let head = world.head();
    let error = world.create("1.3.0", &[]).await.unwrap_err();
    assert_fault(&error, Fault::Unauthorized, &["first-token"]);
    assert_eq!(error.kind(), ErrorKind::Input);
    assert_eq!(world.head(), head);
    world.repo.credentials = token("second-token");
    world.create("1.3.0", &[]).await.unwrap();
}

#[tokio::test]
async fn ssh_with_a_key_and_known_hosts_works_and_a_rotated_key_takes_effect_at_once() {
    let mut world = World::new();
    let host = Ssh::start(&world);
    world.repo = host.repo();
    whole_story(&world).await;

    let next = host.rotate();
    let error = world.create("1.3.0", &[]).await.unwrap_err();
    assert_fault(&error, Fault::Unauthorized, &[]);
    assert!(!error.to_string().contains(host.key.lines().nth(1).unwrap()), "{error}");
    let Credentials::Ssh { private_key, .. } = &mut world.repo.credentials else {
        panic!()
    };
    *private_key = next;
    world.create("1.3.0", &[]).await.unwrap();
}

#[tokio::test]
async fn a_host_whose_certificate_nobody_trusts_gets_no_token() {
    let mut world = World::new();
    let host = Https::start(&world, "the-token").await;
    let elsewhere = World::new();
    let other = Https::start(&elsewhere, "the-token").await;
    for ca in [None, Some(other.ca.clone())] {
        world.repo = RepoSpec {
            ca,
            ..host.repo("the-token")
        };
        let error = world.create("1.1.0", &[]).await.unwrap_err();
        assert_fault(&error, Fault::Certificate, &["the-token", "/dev/shm"]);
    }
    world.repo.ca = Some("no certificate\n".to_owned());
    let error = world.create("1.1.0", &[]).await.unwrap_err();
    assert!(error.to_string().contains("PEM"), "{error}");
    assert_eq!(world.commits(), 1);
}

#[tokio::test]
async fn a_host_with_an_unknown_or_another_key_is_refused() {
    let mut world = World::new();
    let host = Ssh::start(&world);
    let credentials = |known_hosts: String| Credentials::Ssh {
        private_key: host.key.clone(),
        known_hosts,
    };
    keypair(world.folder.path(), "another");
    let another = fs::read_to_string(world.folder.path().join("another.pub")).unwrap();
    let address = host.known_hosts.split(' ').next().unwrap();
    for (known_hosts, fault) in [
        (format!("elsewhere.example.com {another}"), Fault::UnknownHost),
        (format!("{address} {another}"), Fault::ChangedHost),
    ] {
        world.repo = RepoSpec {
            credentials: credentials(known_hosts),
            ..host.repo()
        };
        let error = world.create("1.1.0", &[]).await.unwrap_err();
        assert_fault(&error, fault, &[]);
        assert!(error.to_string().contains("known_hosts"), "{error}");
    }
    assert_eq!(world.commits(), 1);
}

#[tokio::test]
async fn a_key_that_is_none_and_a_repository_that_is_missing_are_told_apart() {
    let mut world = World::new();
    let (ssh, https) = (Ssh::start(&world), Https::start(&world, "t0ken").await);
    let Credentials::Ssh { known_hosts, .. } = ssh.repo().credentials else {
        panic!()
    };
    world.repo = RepoSpec {
        credentials: Credentials::Ssh {
            private_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----"
                .to_owned(),
            known_hosts,
        },
        ..ssh.repo()
    };
    assert_fault(
        &world.create("1.1.0", &[]).await.unwrap_err(),
        Fault::Key,
        &["bm90IGEga2V5"],
    );
    for repo in [ssh.repo(), https.repo("t0ken")] {
        world.repo = RepoSpec {
            url: repo.url.replace("origin.git", "missing.git"),
            ..repo
        };
        assert_fault(
            &world.create("1.1.0", &[]).await.unwrap_err(),
            Fault::NoRepository,
            &["t0ken"],
        );
    }
    world.repo = RepoSpec {
        branch: "release".to_owned(),
        ..https.repo("t0ken")
    };
    let error = world.create("1.1.0", &[]).await.unwrap_err();
    assert!(matches!(error.own(), Error::NoBranch { .. }), "{error}");
}

#[tokio::test]
async fn a_host_that_misbehaves_is_told_apart_from_one_that_is_gone_and_what_is_known_stays() {
    let login = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>Log in!</html>";
    let down = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let limits = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let mut world = World::new();
    world.create("1.1.0", &[]).await.unwrap();
    let (good, mut wrong) = (world.repo.clone(), Vec::new());
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (scheme, habit, fault) in [
        ("http", Some(Habit::Drop), Fault::Dropped),
        ("http", Some(Habit::Break), Fault::Dropped),
        ("http", Some(Habit::Say("SSH-2.0-not_http\r\n")), Fault::Garbage),
        ("http", Some(Habit::Say(down)), Fault::Unavailable),
        ("http", Some(Habit::Say(limits)), Fault::Forbidden),
        ("https", Some(Habit::Say("no TLS at all\r\n")), Fault::Garbage),
        ("ssh", Some(Habit::Drop), Fault::Dropped),
        ("ssh", Some(Habit::Say("SSH-1.5-garbage\r\n")), Fault::Garbage),
        ("http", None, Fault::Unreachable),
        ("ssh", None, Fault::Unreachable),
    ] {
        let port = match habit {
            Some(habit) => misbehaving(habit).await,
            None => closed,
        };
        world.repo.url = format!("{scheme}://git@127.0.0.1:{port}/origin.git");
        world.repo.credentials = Credentials::None;
        if scheme != "ssh" {
            world.repo.url = world.repo.url.replace("git@", "");
            world.repo.credentials = token("t0ken");
        }
        let error = world.roll_back("1.1.0", None).await.unwrap_err();
        if !matches!(error.own(), Error::Remote { fault: found, .. } if *found == fault) {
            wrong.push(format!("{scheme} {habit:?} {fault:?}: {error}"));
        }
        assert!(!error.to_string().contains("t0ken"), "{error}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Git takes a page for a repository without branches.
    let port = misbehaving(Habit::Say(login)).await;
    world.repo.url = format!("http://127.0.0.1:{port}/origin.git");
    let error = world.roll_back("1.1.0", None).await.unwrap_err();
    assert!(error.to_string().contains("login page"), "{error}");

    world.repo = good;
    let outcome = world.roll_back("1.1.0", None).await.unwrap();
    assert!(matches!(outcome, RollbackOutcome::Committed { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_host_that_hangs_is_left_after_the_deadline() {
    for scheme in ["http://", "https://", "ssh://git@"] {
        let mut world = World::new();
        let port = misbehaving(Habit::Hang).await;
        world.repo.url = format!("{scheme}127.0.0.1:{port}/origin.git");
        let git = Git::new("git", world.folder.path().join("home")).with_remote_deadline(Duration::from_millis(800));
        world.gitops = world.gitops.clone().with_git(git);
        let error = world.roll_back("1.1.0", None).await.unwrap_err();
        assert!(matches!(error.own(), Error::TimedOut { .. }), "{scheme}: {error}");
        assert_eq!(error.reason(), "HostTimedOut");
    }
}

/// Every file below a folder holds none of these.
fn assert_nowhere(folder: &Path, secrets: &[&str]) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere(&path, secrets);
        } else if let Ok(bytes) = fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(
                secrets.iter().all(|secret| !text.contains(secret)),
                "{}",
                path.display()
            );
        }
    }
}

#[tokio::test]
async fn secrets_stand_in_no_argument_and_on_no_disk_while_a_call_runs() {
    let mut world = World::new();
    let host = Ssh::start(&world);
    world.repo = host.repo();
    // A git that notes its arguments and those of its ssh, and the folder of its key.
    let (script, notes) = (
        world.folder.path().join("noting-git"),
        world.folder.path().join("notes"),
    );
    let body = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{0}'\nprintf '%s\\n' \"$GIT_SSH_COMMAND\" >> '{0}'\nexec git \"$@\"\n",
        notes.display()
    );
    executable(&script, &body);
    let cache = world.folder.path().join("cache");
    world.gitops = world.gitops.clone().with_git(Git::new(script, cache.join("home")));
    world.create("1.1.0", &[]).await.unwrap();
    let notes = fs::read_to_string(notes).unwrap();
    let secret = host.key.lines().nth(1).unwrap();
    assert!(
        !notes.contains(secret) && notes.contains("/dev/shm/serin-key"),
        "{notes}"
    );
    let folders = notes.split('\'').filter(|word| word.starts_with("/dev/shm/serin-key"));
    for key in folders {
        assert!(!Path::new(key).exists(), "{key} is still there");
    }
    assert_nowhere(&cache, &[secret]);
}
