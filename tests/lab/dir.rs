//! The lab's own folder: gone with the lab, unless it is to be kept. It must not know what is in it.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::TempDir;

const PREFIX: &str = "serin-lab-";
/// Locked as long as the lab lives. A folder to be kept has none.
const LOCK: &str = "lock";

/// The folder of a running lab.
#[derive(Debug)]
pub(crate) enum Dir {
    Temporary { dir: TempDir, lock: File },
    Kept(PathBuf),
}

impl Dir {
    /// Makes a new folder, and removes those of labs that were killed before they could do it.
    pub(crate) fn new(keep: bool) -> anyhow::Result<Self> {
        sweep(&env::temp_dir());
        let make = || -> std::io::Result<Self> {
            let dir = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
            if keep {
                return Ok(Self::Kept(dir.keep()));
            }
            let lock = File::create(dir.path().join(LOCK))?;
            lock.lock()?;
            Ok(Self::Temporary { dir, lock })
        };
        make().context("making the lab's folder")
    }

    /// Keeps the folder after all.
    pub(crate) fn keep(self) -> PathBuf {
        match self {
            Self::Temporary { dir, lock } => {
                // With it the next lab would take the folder for an abandoned one.
                let _ = fs::remove_file(dir.path().join(LOCK));
                drop(lock);
                dir.keep()
            }
            Self::Kept(path) => path,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary { dir, .. } => dir.path(),
            Self::Kept(path) => path,
        }
    }
}

fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
            // Somebody else's, or just being removed: not ours to worry about.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_kept_stays() {
        let path = Dir::new(false).unwrap().keep();
        assert!(path.exists() && !is_abandoned(&path));
        fs::remove_dir(path).unwrap();
    }

    #[test]
    fn only_folders_of_labs_that_are_gone_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (running, killed, kept, other) = (
            folder("serin-lab-a"),
            folder("serin-lab-b"),
            folder("serin-lab-c"),
            folder("other"),
        );
        let lock = File::create(running.join(LOCK)).unwrap();
        lock.lock().unwrap();
        for path in [&killed, &other] {
            File::create(path.join(LOCK)).unwrap();
        }
        sweep(parent.path());
        assert!(running.exists() && kept.exists() && other.exists() && !killed.exists());
    }
}
