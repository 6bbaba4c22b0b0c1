//! When faults are on: always, or only in one instance, above a rate of calls, or while something that several share is down.
//! It must not know what the faults are.

use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The stretch of time over which calls are counted: longer than chance, shorter than a person's patience.
const WINDOW: Duration = Duration::from_secs(2);

/// What has to hold for a call to meet the faults.
#[derive(Debug)]
pub(super) struct Condition {
    /// Calls a second that this instance has to get; 0 for any.
    above_rate: f64,
    recent: Mutex<VecDeque<Instant>>,
    /// A file that has to exist.
    during: Option<PathBuf>,
}

impl Condition {
    /// The condition; `None` when it never holds here, as another instance has claimed the faults.
    pub(super) fn new(above_rate: f64, during: Option<&Path>, claim: Option<&Path>) -> Option<Self> {
        if claim.is_some_and(|claim| !claims(claim)) {
            return None;
        }
        Some(Self {
            above_rate,
            recent: Mutex::default(),
            during: during.map(Path::to_owned),
        })
    }

    /// Whether it holds for a call that arrives now; counts the call.
    pub(super) fn holds(&self, now: Instant) -> bool {
        self.is_above_rate(now) && self.during.as_ref().is_none_or(|file| file.exists())
    }

    fn is_above_rate(&self, now: Instant) -> bool {
        if self.above_rate <= 0.0 {
            return true;
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        while recent.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            recent.pop_front();
        }
        recent.push_back(now);
        let calls = u32::try_from(recent.len()).unwrap_or(u32::MAX);
        f64::from(calls) > self.above_rate * WINDOW.as_secs_f64()
    }
}

/// Whether this instance is the one that makes the file.
fn claims(file: &Path) -> bool {
    match File::create_new(file) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the faults can't be claimed: this instance has none");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_always_unless_something_is_asked_for() {
        let condition = Condition::new(0.0, None, None).unwrap();
        assert!(condition.holds(Instant::now()));
    }

    #[test]
    fn holds_above_a_rate_only() {
        let condition = Condition::new(10.0, None, None).unwrap();
        let start = Instant::now();
        let holds = |ms: u64| condition.holds(start + Duration::from_millis(ms));
        assert!(!(0..100).any(|call| holds(call * 200)), "5 calls a second");
        assert!(
            (0..100)
                .map(|call| holds(20_000 + call * 50))
                .filter(|held| *held)
                .count()
                > 70,
            "20 calls a second"
        );
        assert!(!holds(60_000), "and it is over when they stop");
    }

    #[test]
    fn holds_while_the_file_exists() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("down");
        let condition = Condition::new(0.0, Some(&file), None).unwrap();
        assert!(!condition.holds(Instant::now()));
        File::create(&file).unwrap();
        assert!(condition.holds(Instant::now()));
    }

    #[test]
    fn one_instance_alone_claims_the_faults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("claim");
        assert!(Condition::new(0.0, None, Some(&file)).is_some());
        assert!(Condition::new(0.0, None, Some(&file)).is_none());
    }
}
