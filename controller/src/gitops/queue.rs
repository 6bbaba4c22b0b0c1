//! One writer per (repository, branch), rollbacks first. It must not know what is written.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Priority {
    Rollback,
    Other,
}

#[derive(Debug, Default)]
struct State {
    busy: bool,
    rollbacks: VecDeque<oneshot::Sender<Turn>>,
    others: VecDeque<oneshot::Sender<Turn>>,
}

/// The queue of one branch.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Mutex<State>>);

/// The right to write; dropping it lets the next one write.
#[derive(Debug)]
pub(super) struct Turn(Option<Queue>);

impl Queue {
    /// Waits for the right to write. Giving up the wait leaves the queue.
    pub(super) async fn turn(&self, priority: Priority) -> Turn {
        let receiver = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !state.busy {
                state.busy = true;
                return Turn(Some(self.clone()));
            }
            let (sender, receiver) = oneshot::channel();
            match priority {
                Priority::Rollback => state.rollbacks.push_back(sender),
                Priority::Other => state.others.push_back(sender),
            }
            receiver
        };
        // A sender lives in the queue until it is used; a lost one could only mean that nobody writes.
        receiver.await.unwrap_or_else(|_| Turn(Some(self.clone())))
    }

    fn pass_on(&self) {
        let mut turn = Turn(Some(self.clone()));
        loop {
            let next = {
                let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let next = state.rollbacks.pop_front().or_else(|| state.others.pop_front());
                if next.is_none() {
                    state.busy = false;
                    turn.0 = None;
                    return;
                }
                next
            };
            match next.map(|next| next.send(turn)) {
                // That one gave up waiting.
                Some(Err(back)) => turn = back,
                _ => return,
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.pass_on();
        }
    }
}

/// A value per (repository, branch), made when first asked for.
#[derive(Debug)]
pub(super) struct PerBranch<T>(Mutex<HashMap<(String, String), T>>);

impl<T> Default for PerBranch<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Default> PerBranch<T> {
    pub(super) fn of(&self, url: &str, branch: &str) -> T {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.entry((url.to_owned(), branch.to_owned())).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn rollbacks_go_before_others_and_those_who_gave_up_are_passed_over() {
        let queue = Queue::default();
        let first = queue.turn(Priority::Other).await;
        let mut promotion = Box::pin(queue.turn(Priority::Other));
        let mut gone = Box::pin(queue.turn(Priority::Rollback));
        let mut rollback = Box::pin(queue.turn(Priority::Rollback));
        assert!((&mut promotion).now_or_never().is_none());
        assert!((&mut gone).now_or_never().is_none());
        assert!((&mut rollback).now_or_never().is_none());
        drop(gone);
        drop(first);
        assert!((&mut promotion).now_or_never().is_none());
        let second = (&mut rollback).now_or_never().expect("the rollback's turn");
        drop(second);
        let third = (&mut promotion).now_or_never().expect("the promotion's turn");
        drop(third);
        assert!(queue.turn(Priority::Other).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_turn_that_arrives_at_somebody_who_just_left_is_not_lost() {
        let queue = Queue::default();
        let first = queue.turn(Priority::Other).await;
        let mut waiting = Box::pin(queue.turn(Priority::Other));
        assert!((&mut waiting).now_or_never().is_none());
        drop(first);
        drop(waiting);
        assert!(queue.turn(Priority::Other).now_or_never().is_some());
    }
}
