//! Whether this process may write: leadership that a Lease in the cluster gives, and a fence that each write asks. Knows nothing of
//! what is written, nor how a Lease is got.
//!
//! # Guarantees
//! [`Leadership::holds_for`] answers yes only while no other replica can have taken the lease within that time, as far
//! as clocks run at the same *rate*: the holder counts from before its renewal was sent, a challenger from when it saw
//! the renewal. Nobody's wall clock is trusted. The fence itself is [`super::client::fenced`]: no request that writes
//! is sent, or goes on being sent, without it.
//!
//! A leader that was killed is followed within [`DURATION`] and twice [`FOLLOWING`], one that was stopped within [`FOLLOWING`].
//!
//! # Caveats
//! The clock stands still while a whole machine sleeps, and so does a leader's time on it. Its weights, routes and statuses are
//! then refused by their resourceVersion, and its pushes by the look at the lease itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::sync::watch;

/// How long a lease lasts after its last renewal: a killed leader is followed in less than 15 s.
pub(super) const DURATION: Duration = Duration::from_secs(10);
/// How often it is renewed: three tries that time out fit into its duration.
pub(super) const RENEWING: Duration = Duration::from_secs(2);
/// How often everybody looks: a lease that was let go of is taken as soon.
pub(super) const FOLLOWING: Duration = Duration::from_secs(1);
/// The longest wait for the API server in one try.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);

/// What this process is among the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The lease was not read yet.
    Unknown,
    /// Another replica leads, or nobody does.
    Following,
    /// The lease is ours until then.
    Leading(Instant),
    /// So it is, and another replica is to have it: what was begun comes to its end, and nothing else is begun.
    Yielding(Instant),
}

impl Standing {
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Leading(until) | Self::Yielding(until) => Some(until),
            Self::Unknown | Self::Following => None,
        }
    }
}

/// Whether this process may write.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Standing>);

impl Leadership {
    /// Leadership that is never lost: for a controller that runs without a lease.
    pub fn unchallenged() -> Self {
        let far = Instant::now() + Duration::from_secs(60 * 60 * 24 * 365);
        Self(watch::channel(Standing::Leading(far)).1)
    }

    /// Leadership that this process never has.
    pub fn never() -> Self {
        Self(watch::channel(Standing::Following).1)
    }

    /// As somebody else says.
    pub(super) fn new(standing: watch::Receiver<Standing>) -> Self {
        Self(standing)
    }

    /// Leadership that ends then, or when it is told.
    #[cfg(test)]
    pub(super) fn until(until: Instant) -> (watch::Sender<Standing>, Self) {
        let (standing, receiver) = watch::channel(Standing::Leading(until));
        (standing, Self(receiver))
    }

    /// Whether the lease is ours for at least this long.
    pub fn holds_for(&self, span: Duration) -> bool {
        self.0
            .borrow()
            .until()
            .is_some_and(|until| until > Instant::now() + span)
    }

    /// Whether something new may be begun: the lease is ours, and nobody else is to have it.
    pub fn is_to_stay(&self) -> bool {
        matches!(*self.0.borrow(), Standing::Leading(until) if until > Instant::now())
    }

    /// Waits until the lease was read: this process leads, or is there to follow who does.
    pub async fn known(&mut self) {
        self.wait_for(|standing| standing != Standing::Unknown).await;
    }

    /// Waits until this process leads.
    pub async fn acquired(&mut self) {
        self.wait_for(|standing| matches!(standing, Standing::Leading(_))).await;
    }

    /// Waits until it leads no more, or is to lead no more.
    pub async fn yielding(&mut self) {
        self.wait_for(|standing| !matches!(standing, Standing::Leading(_)))
            .await;
    }

    async fn wait_for(&mut self, is: impl Fn(Standing) -> bool) {
        if self.0.wait_for(|standing| is(*standing)).await.is_err() {
            // The lease's task has ended, and its own error is what the process ends with.
            std::future::pending::<()>().await;
        }
    }
}

/// A look at the lease itself, past every cache: for what no later write can take back.
#[derive(Clone)]
pub struct Holder {
    pub(super) api: Api<Lease>,
    pub(super) name: String,
    pub(super) identity: Arc<str>,
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holder")
            .field("name", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Holder {
    /// Whether the lease names this process now. An API server that does not answer in time says no.
    pub async fn is_this_process(&self) -> bool {
        let Ok(Ok(lease)) = tokio::time::timeout(TIMEOUT, self.api.get(&self.name)).await else {
            return false;
        };
        lease.spec.and_then(|spec| spec.holder_identity).as_deref() == Some(&*self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_leader_is_followed_within_15_s_and_may_miss_two_renewals() {
        assert!(DURATION + 2 * FOLLOWING + TIMEOUT <= Duration::from_secs(15));
        assert!(2 * TIMEOUT + RENEWING < DURATION);
    }

    #[test]
    fn leadership_ends_by_itself() {
        let now = Instant::now();
        let (_, leadership) = Leadership::until(now + Duration::from_secs(5));
        assert!(leadership.holds_for(Duration::ZERO));
        assert!(!leadership.holds_for(Duration::from_secs(5)));
        assert!(!Leadership::until(now).1.holds_for(Duration::ZERO));
    }

    #[test]
    fn one_who_yields_ends_what_it_began_and_begins_nothing() {
        let until = Instant::now() + Duration::from_secs(5);
        let (standing, leadership) = Leadership::until(until);
        assert!(leadership.is_to_stay());
        standing.send_replace(Standing::Yielding(until));
        assert!(leadership.holds_for(Duration::ZERO) && !leadership.is_to_stay());
    }
}
