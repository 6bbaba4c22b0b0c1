//! Paths that a server does not serve. It must not know what stands behind them.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is hidden, and how often somebody asked for it.
#[derive(Debug, Default)]
pub(super) struct Hidden(Mutex<(Vec<String>, u64)>);

impl Hidden {
    fn lock(&self) -> MutexGuard<'_, (Vec<String>, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, path: &str) {
        self.lock().0.push(path.to_owned());
    }

    pub(super) fn met(&self) -> u64 {
        self.lock().1
    }

    /// Whether this is not there; counts it if so.
    pub(super) fn hides(&self, path: &str) -> bool {
        let mut all = self.lock();
        let hides = all.0.iter().any(|hidden| path.starts_with(hidden));
        all.1 += u64::from(hides);
        hides
    }
}
