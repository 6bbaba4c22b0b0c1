//! Keeps mirrors small: now and then all objects go into one pack, and those that nothing leads to go away. It must not know what
//! is in them.
//!
//! # Guarantees
//! It begins when nobody has used the mirror for a while, and ends at once when a commit is to be made: no write ever waits for it.
//! Who only reads waits for a limited time. Whatever becomes of it, the mirror answers as before: a pack is removed when another
//! holds what it held, and what may still be pushed is younger than what goes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::time::Instant;

use super::Branch;
use super::command::Call;
use super::error::Result;
use super::repository::Mirror;

/// Objects that nothing leads to and that are younger than this stay: somebody may be about to push them.
const YOUNG: &str = "2.hours.ago";
/// A large history takes its time; whoever needs the mirror ends it.
const LONGEST: Duration = Duration::from_secs(600);
/// After one that failed or was ended.
const AGAIN: Duration = Duration::from_secs(120);

/// When a mirror is tidied up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Housekeeping {
    /// With so many objects in files of their own.
    pub loose: usize,
    /// Or with so many packs.
    pub packs: usize,
    /// When nobody has used it for so long.
    pub quiet: Duration,
    /// So long who reads waits for its end.
    pub patience: Duration,
}

impl Default for Housekeeping {
    /// Git's own numbers are 6,700 and 50.
    fn default() -> Self {
        Self {
            loose: 5_000,
            packs: 30,
            quiet: Duration::from_secs(5),
            patience: Duration::from_secs(20),
        }
    }
}

/// Who is in a mirror: one who fetches, or one who tidies up.
#[derive(Debug, Default)]
pub(super) struct House<T> {
    line: Mutex<T>,
    /// Those who want in and are not.
    wanting: AtomicUsize,
    called: Notify,
    is_kept: AtomicBool,
    next: std::sync::Mutex<Option<Instant>>,
}

/// While somebody wants in.
struct Wanting<'a>(&'a AtomicUsize);

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<T> House<T> {
    /// Goes in for a write: whoever tidies up leaves at once.
    pub(super) async fn enter(&self) -> MutexGuard<'_, T> {
        self.wanting.fetch_add(1, Ordering::SeqCst);
        let _wanting = Wanting(&self.wanting);
        self.called.notify_waiters();
        self.line.lock().await
    }

    /// Goes in to read: whoever tidies up has so long to come to an end.
    pub(super) async fn visit(&self, patience: Duration) -> MutexGuard<'_, T> {
        match tokio::time::timeout(patience, self.line.lock()).await {
            Ok(line) => line,
            Err(_) => self.enter().await,
        }
    }

    /// Does this while nobody else is in; none when somebody wants in, before or meanwhile.
    async fn alone<R>(&self, work: impl Future<Output = R>) -> Option<R> {
        let mut called = std::pin::pin!(self.called.notified());
        called.as_mut().enable();
        let _line = self.line.try_lock().ok()?;
        if self.wanting.load(Ordering::SeqCst) > 0 {
            return None;
        }
        tokio::select! {
            biased;
            () = called => None,
            done = work => Some(done),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        next.is_none_or(|next| next <= now)
    }

    fn put_off(&self, until: Instant) {
        *self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(until);
    }
}

/// Sees to it that the mirror is tidied up soon, if there is need.
pub(super) fn keep(branch: &Arc<Branch>, mirror: &Mirror, when: Housekeeping) {
    let house = &branch.house;
    if !house.is_due(Instant::now()) || !is_untidy(&mirror.dir, when) || house.is_kept.swap(true, Ordering::SeqCst) {
        return;
    }
    let (branch, mirror) = (branch.clone(), mirror.clone());
    tokio::spawn(async move {
        let house = &branch.house;
        house.put_off(Instant::now() + AGAIN);
        tokio::time::sleep(when.quiet).await;
        // Who computes a commit reads the mirror, and is not to be slowed down.
        if branch.queue.is_idle() {
            let repository = mirror.repo().name();
            match house.alone(mirror.tidy()).await {
                Some(Ok(())) => tracing::debug!(repository, "the mirror was tidied up"),
                Some(Err(error)) => tracing::warn!(repository, %error, "the mirror could not be tidied up, and grows"),
                None => tracing::debug!(repository, "the mirror is needed and is tidied up later"),
            }
        }
        house.is_kept.store(false, Ordering::SeqCst);
    });
}

fn is_untidy(dir: &Path, when: Housekeeping) -> bool {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let objects = dir.join("objects");
    let is_pack = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|end| end == "pack");
    if entries(&objects.join("pack")).filter(is_pack).count() >= when.packs {
        return true;
    }
    // Ids are spread evenly over their first two digits; a few folders say enough of all.
    let some: Vec<_> = entries(&objects)
        .filter(|folder| folder.file_name().len() == 2)
        .collect();
    let sample = some.len().min(16);
    let in_sample: usize = some
        .iter()
        .take(sample)
        .map(|folder| entries(&folder.path()).count())
        .sum();
    in_sample * some.len() >= when.loose * sample.max(1)
}

impl Mirror {
    /// Puts all objects into one pack, without those that nothing leads to.
    async fn tidy(&self) -> Result<()> {
        let repack = [
            "-c",
            "pack.threads=1",
            "-c",
            "pack.windowMemory=32m",
            "repack",
            "-A",
            "-d",
            "-l",
            "-q",
            "--no-write-bitmap-index",
        ];
        let young = [format!("--unpack-unreachable={YOUNG}")];
        let repack = repack.into_iter().map(str::to_owned).chain(young);
        let prune = ["prune".to_owned(), format!("--expire={YOUNG}")];
        self.text(Call::new("tidy up the mirror of", repack).within(LONGEST))
            .await?;
        self.text(Call::new("tidy up the mirror of", prune).within(LONGEST))
            .await?;
        Ok(())
    }
}
