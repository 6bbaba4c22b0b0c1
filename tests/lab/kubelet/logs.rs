//! The logs of one container: a file for each of its runs, and word of which run is under way and which one was before it,
//! for those who are asked for them. It must not know what stands in them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tracing::warn;

use super::sidecar::PodInfo;

/// Below the lab's folder.
const LOGS: &str = "logs/pods";

/// The folder of a pod's logs. Whatever is asked later, pods of one name keep theirs apart.
pub(super) fn folder(lab: &Path, pod: &PodInfo) -> PathBuf {
    let PodInfo {
        namespace, name, uid, ..
    } = pod;
    lab.join(LOGS).join(format!("{namespace}_{name}_{uid}"))
}

/// The logs of all runs of all containers of those pods, gone ones too, that `is_meant` finds by `NAMESPACE_NAME_UID`.
pub fn files(lab: &Path, is_meant: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for pod in fs::read_dir(lab.join(LOGS))? {
        let pod = pod?;
        if !is_meant(&pod.file_name().to_string_lossy()) {
            continue;
        }
        for container in fs::read_dir(pod.path())? {
            for file in fs::read_dir(container?.path())? {
                found.push(file?.path());
            }
        }
    }
    found.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    Ok(found)
}

/// What is told of a container in `state.json`, beside its logs.
#[derive(Serialize)]
struct State {
    run: u32,
    running: bool,
    previous: Option<u32>,
}

/// The logs of one container from its first run to its last.
#[derive(Debug)]
pub(super) struct Logs {
    folder: PathBuf,
    run: u32,
    previous: Option<u32>,
}

impl Logs {
    /// Those of this container, before its first run.
    pub(super) fn new(pod: &Path, container: &str) -> Self {
        Self {
            folder: pod.join(container),
            run: 0,
            previous: None,
        }
    }

    /// Where the run that is under way, or comes next, writes to.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.run))
    }

    /// The next run has begun.
    pub(super) fn begun(&self) {
        self.tell(true);
    }

    /// The run is over. It is the previous one as soon as the container's status says that another one follows.
    pub(super) fn ended(&mut self, another_follows: bool) {
        if another_follows {
            self.previous = Some(self.run);
        }
        self.tell(false);
        if another_follows {
            self.run += 1;
        }
    }

    fn tell(&self, running: bool) {
        let state = State {
            run: self.run,
            running,
            previous: self.previous,
        };
        if let Err(error) = replace(&self.folder.join("state.json"), &state) {
            warn!(folder = %self.folder.display(), %error, "telling which logs a container has");
        }
    }
}

/// Writes a file that others read at any time: they see all of it, or what was there before.
pub(super) fn replace(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(content)?)?;
    fs::rename(&new, path)
}
