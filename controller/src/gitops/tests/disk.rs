//! The mirrors' volume is full: nothing is pushed that is not whole, and when there is room again all goes on by itself.

use super::*;

/// Fills what is left of a volume.
fn fill(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("fill");
    // An error says that it is full.
    drop(fs::write(&path, vec![0; 64 * 1024 * 1024]));
    path
}

/// The volume is a small tmpfs, which only who has a mount namespace of his own may mount.
#[test]
fn a_rollback_on_a_full_disk_is_made_when_there_is_room_again() {
    let run = |program: &str, args: &[&str]| {
        let own = std::env::current_exe().unwrap();
        let child = Command::new(program)
            .args(args)
            .arg(own)
            .args([
                "--exact",
                "--ignored",
                "--nocapture",
                "gitops::tests::disk::on_a_full_disk",
            ])
            .output()
            .unwrap();
        let said = [child.stdout, child.stderr]
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat();
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
    };
    run("unshare", &["--user", "--map-root-user", "--mount"]);
}

#[tokio::test]
#[ignore = "runs in a mount namespace of its own, as a part of a_rollback_on_a_full_disk_is_made_when_there_is_room_again"]
async fn on_a_full_disk() {
    let world = World::new();
    let cache = world.folder.path().join("cache");
    fs::create_dir_all(&cache).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(&cache)
        .status()
        .unwrap();
    assert!(mounted.success());
    world.create("1.1.0", &[]).await.unwrap();
    let head = world.head();
    for _ in 0..2 {
        let filled = fill(&cache);
        world.person("notes.txt", &"x".repeat(100_000), "Write much");
        let error = world.roll_back("1.1.0", None).await.unwrap_err();
        let said = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Transient, "{said}");
        assert!(said.contains("check the cache's volume"), "{said}");
        fs::remove_file(filled).unwrap();
        git(&world.work(), &["rm", "-q", "notes.txt"]);
        git(&world.work(), &["commit", "-q", "-m", "Tidy up"]);
    }
    assert!(
        world
            .origin(&["log", "--format=%B", &format!("{head}..main")])
            .contains("Write much")
    );
    assert!(matches!(
        world.roll_back("1.1.0", None).await,
        Ok(RollbackOutcome::Committed { .. })
    ));
    assert!(matches!(
        world.roll_back("1.1.0", None).await,
        Ok(RollbackOutcome::AlreadyCommitted { .. })
    ));
    assert_eq!(world.file(), VALUES);
}
