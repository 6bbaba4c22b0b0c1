//! Signed commits, verified by git itself.

use super::hosts::{keypair, run};
use super::*;

fn hand(signing: SigningKey) -> Hand {
    Hand {
        author: Some(Identity::new("Canary Bot", "bot@example.com")),
        committer: Some(Identity::new("Platform", "platform@example.com")),
        signing: Some(signing),
    }
}

/// Every commit of ours on the branch is verified with these settings, and names its author and committer.
async fn all_are_signed(world: &World, settings: &[&str], env: &[(&str, &Path)]) {
    world.create("1.1.0", &[]).await.unwrap();
    world.roll_back("1.1.0", None).await.unwrap();
    world.create("1.2.0", &[]).await.unwrap();
    world.promote("1.2.0", "1.0.0").await.unwrap();
    let ours = world.origin(&["rev-list", "--max-count=4", "main"]);
    assert_eq!(ours.lines().count(), 4);
    for commit in ours.lines() {
        let verified = Command::new("git")
            .current_dir(world.folder.path().join("origin.git"))
            .envs(env.iter().copied())
            .args(settings)
            .args(["verify-commit", commit])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(
            verified.status.success() && said.to_lowercase().contains("good"),
            "{said}"
        );
    }
    let people = world.origin(&["log", "-1", "--format=%an <%ae>, %cn <%ce>", "main"]);
    assert_eq!(
        people.trim(),
        "Canary Bot <bot@example.com>, Platform <platform@example.com>"
    );
}

#[tokio::test]
async fn commits_are_signed_with_an_ssh_key() {
    let mut world = World::new();
    let folder = world.folder.path().to_owned();
    keypair(&folder, "signer");
    let public = fs::read_to_string(folder.join("signer.pub")).unwrap();
    fs::write(folder.join("allowed"), format!("platform@example.com {public}")).unwrap();
    let private_key = fs::read_to_string(folder.join("signer")).unwrap();
    world.repo.hand = hand(SigningKey::Ssh { private_key });
    let allowed = format!("gpg.ssh.allowedSignersFile={}", folder.join("allowed").display());
    all_are_signed(&world, &["-c", "gpg.format=ssh", "-c", &allowed], &[]).await;
}

/// A secret key, armoured, and a folder of GnuPG that knows its public half.
fn openpgp(folder: &Path, passphrase: &str) -> (String, std::path::PathBuf) {
    let home = folder.join("gnupg");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let gpg = |args: &[&str]| {
        let home = home.display().to_string();
        let begin = [
            "--homedir",
            &home,
            "--batch",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            passphrase,
        ];
        run(folder, "gpg", &[&begin[..], args].concat())
    };
    gpg(&[
        "--quick-generate-key",
        "Platform <platform@example.com>",
        "ed25519",
        "sign",
        "1d",
    ]);
    let key = gpg(&["--armor", "--export-secret-keys"]);
    run(
        folder,
        "gpgconf",
        &["--homedir", &home.display().to_string(), "--kill", "gpg-agent"],
    );
    (key, home)
}

#[tokio::test]
async fn commits_are_signed_with_an_openpgp_key_and_its_passphrase() {
    let mut world = World::new();
    let (secret_key, home) = openpgp(world.folder.path(), "open sesame");
    let key = |passphrase: &str| SigningKey::OpenPgp {
        secret_key: secret_key.clone(),
        passphrase: Some(passphrase.to_owned()),
    };
    world.repo.hand = hand(key("open sesame"));
    all_are_signed(&world, &[], &[("GNUPGHOME", &home)]).await;

    let head = world.head();
    world.repo.hand = hand(key("open barley"));
    let error = world.create("1.3.0", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Signing { .. }), "{error}");
    for secret in ["open barley", secret_key.lines().nth(3).unwrap(), "/dev/shm"] {
        assert!(!error.to_string().contains(secret), "{error}");
    }
    assert_eq!(world.head(), head, "nothing unsigned was pushed");
}

#[tokio::test]
async fn a_key_that_cannot_sign_leaves_no_commit() {
    let mut world = World::new();
    let ssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----";
    let pgp = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nbm90IGEga2V5\n-----END PGP PRIVATE KEY BLOCK-----";
    for signing in [
        SigningKey::Ssh {
            private_key: ssh.to_owned(),
        },
        SigningKey::OpenPgp {
            secret_key: pgp.to_owned(),
            passphrase: None,
        },
    ] {
        world.repo.hand = hand(signing);
        let error = world.create("1.1.0", &[]).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.reason()),
            (ErrorKind::Input, "SigningFailed"),
            "{error}"
        );
        assert!(error.to_string().contains("git.signing"), "{error}");
    }
    assert_eq!(world.commits(), 1);
}

#[tokio::test]
async fn rollouts_that_sign_with_other_keys_never_share_a_push() {
    let mut world = World::new();
    let folder = world.folder.path().to_owned();
    keypair(&folder, "signer");
    let signing = SigningKey::Ssh {
        private_key: fs::read_to_string(folder.join("signer")).unwrap(),
    };
    let unsigned = world.repo.clone();
    world.repo.hand = hand(signing);
    let other = CreateRequest {
        subject: Subject {
            name: "other".to_owned(),
            path: "envs/other".to_owned(),
            ..subject()
        },
        revision: "7.0.0".to_owned(),
        image_tag: "7.0.0".to_owned(),
        image_repository: None,
        set: vec![],
        author: None,
        message: None,
    };
    world.person("envs/other/values.yaml", VALUES, "Another");
    let (signed, plain) = tokio::join!(
        world.create("1.1.0", &[]),
        world.gitops.create_canary(&unsigned, &other)
    );
    let raw = |sha: &str| world.origin(&["cat-file", "commit", sha]);
    assert!(raw(&signed.unwrap().sha).contains("gpgsig -----BEGIN SSH SIGNATURE-----"));
    assert!(!raw(&plain.unwrap().sha).contains("gpgsig"));
}
