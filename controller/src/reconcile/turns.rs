//! Counts what is being done in a shard, so that somebody can wait until all of it has come to its end. It must not know what that is.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What is being done. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    begun: TaskTracker,
    cut: CancellationToken,
}

impl Turns {
    /// Something is being done as long as the turn lives.
    pub(super) fn begin(&self) -> TaskTrackerToken {
        self.begun.token()
    }

    /// Comes back when what waits for others is to wait no more.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Waits until nothing is being done; after this time, only for what does not heed [`Self::cut`].
    pub(super) async fn ended(&self, patience: Duration) {
        self.begun.close();
        let in_time = tokio::time::timeout(patience, self.begun.wait()).await;
        self.cut.cancel();
        if in_time.is_err() {
            self.begun.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_begun_comes_to_its_end_and_what_hangs_is_cut() {
        let turns = Turns::default();
        let (quick, slow) = (turns.begin(), turns.begin());
        let (hangs, ends) = (turns.clone(), tokio::sync::oneshot::channel::<()>());
        let hanging = tokio::spawn(async move {
            let _turn = slow;
            hangs.cut().await;
        });
        let waits = turns.clone();
        let waiting = tokio::spawn(async move {
            waits.ended(Duration::from_millis(1)).await;
            drop(ends.0);
        });
        // It is cut, and what does not heed that is waited for still.
        hanging.await.unwrap();
        assert!(!waiting.is_finished());
        drop(quick);
        waiting.await.unwrap();
        assert!(ends.1.await.is_err());
    }
}
