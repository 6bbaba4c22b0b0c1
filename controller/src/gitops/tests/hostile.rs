//! A repository whose owner means no good: what it holds is never followed, and never makes Serin big or slow.

use super::*;

/// The file is what this makes of it.
fn with_file(make: impl Fn(&Path)) -> World {
    let world = World::new();
    let work = world.work();
    git(&work, &["pull", "-q", "--rebase", "origin", "main"]);
    fs::remove_file(work.join(FILE)).unwrap();
    make(&work.join(FILE));
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "Mean no good"]);
    git(&work, &["push", "-q", "origin", "HEAD:main"]);
    world
}

async fn refused(world: &World) -> String {
    let head = world.head();
    let whole = |error: Error| format!("{:#}\n", anyhow::Error::from(error));
    let mut said = whole(world.create("1.1.0", &[]).await.unwrap_err());
    for error in [
        world.roll_back("1.1.0", None).await.map(drop).unwrap_err(),
        world.promote("1.1.0", "1.0.0").await.map(drop).unwrap_err(),
    ] {
        assert_ne!(error.kind(), ErrorKind::Transient, "{error}");
        said.push_str(&whole(error));
    }
    assert_eq!(world.head(), head, "nothing is pushed");
    said
}

#[tokio::test]
async fn a_link_is_not_followed_wherever_it_leads() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), VALUES.replace("1.0.0", "a-secret")).unwrap();
    for to in [
        secret.path(),
        Path::new("../../../../origin.git/config"),
        Path::new("other.yaml"),
    ] {
        let world = with_file(|file| std::os::unix::fs::symlink(to, file).unwrap());
        let said = refused(&world).await;
        assert!(said.contains("no plain file") && !said.contains("a-secret"), "{said}");
    }
    assert_eq!(
        fs::read_to_string(secret.path()).unwrap(),
        VALUES.replace("1.0.0", "a-secret")
    );
}

#[tokio::test]
async fn a_link_to_a_folder_leads_nowhere() {
    let world = World::new();
    let work = world.work();
    git(&work, &["pull", "-q", "--rebase", "origin", "main"]);
    fs::remove_dir_all(work.join("envs/prod")).unwrap();
    fs::create_dir_all(work.join("elsewhere")).unwrap();
    fs::write(work.join("elsewhere/values.yaml"), VALUES).unwrap();
    std::os::unix::fs::symlink("../elsewhere", work.join("envs/prod")).unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "Link"]);
    git(&work, &["push", "-q", "origin", "HEAD:main"]);
    let said = refused(&world).await;
    assert!(said.contains("envs/prod/values.yaml"), "{said}");
    assert_eq!(world.origin(&["show", "main:elsewhere/values.yaml"]), VALUES);
}

#[tokio::test]
async fn a_bomb_of_aliases_and_a_huge_file_are_refused() {
    let bomb = (1..40).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        let all = vec![format!("*a{}", n - 1); 9].join(", ");
        format!("{text}a{n}: &a{n} [{all}]\n")
    });
    let world = with_file(|file| fs::write(file, format!("{VALUES}{bomb}")).unwrap());
    let said = refused(&world).await;
    assert!(said.contains("too large"), "{said}");

    let world = with_file(|file| fs::write(file, format!("{VALUES}# {}\n", "x".repeat(2_000_000))).unwrap());
    let said = refused(&world).await;
    assert!(said.contains("bytes"), "{said}");
}
