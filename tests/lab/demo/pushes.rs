//! When which commit came to be the branch's head, by the server's own file. It must not know who pushes.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{task::JoinHandle, time::sleep};

use crate::clock;

const LOOK: Duration = Duration::from_millis(20);

/// A watch of the branch `main`. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Pushes {
    seen: Arc<Mutex<Vec<(Timestamp, String)>>>,
    task: JoinHandle<()>,
}

impl Pushes {
    /// Watches a bare repository from now on.
    pub(super) fn watch(repository: &Path) -> Self {
        let head = repository.join("refs/heads/main");
        let seen: Arc<Mutex<Vec<(Timestamp, String)>>> = Arc::default();
        let into = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Ok(text) = fs::read_to_string(&head) {
                    let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                    let id = text.trim();
                    if seen.last().is_none_or(|(_, last)| last != id) {
                        seen.push((clock::now(), id.to_owned()));
                    }
                }
                sleep(LOOK).await;
            }
        });
        Self { seen, task }
    }

    /// When this commit was first seen as the head.
    pub(super) fn at(&self, commit: &str) -> Option<Timestamp> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|(_, id)| id == commit).map(|(at, _)| *at)
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        self.task.abort();
    }
}
