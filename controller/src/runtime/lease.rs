//! One controller at a time: a Lease in the cluster, and a fence that each write asks. Knows nothing of what is written.
//!
//! # Guarantees
//! [`Leadership::holds_for`] answers yes only while no other replica can have taken the lease within that time, as far
//! as clocks run at the same *rate*: the holder counts from before its renewal was sent, a challenger from when it saw
//! the renewal. Nobody's wall clock is trusted. The fence itself is [`super::client::connect_fenced`]: no request that writes
//! is sent, or goes on being sent, without it.
//!
//! A leader that was killed is followed within [`DURATION`] and twice [`FOLLOWING`], one that was stopped within [`FOLLOWING`].
//!
//! # Caveats
//! The clock stands still while a whole machine sleeps, and so does a leader's time on it. Its weights, routes and statuses are
//! then refused by their resourceVersion, and its pushes by the look at the lease itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;

use super::clock;

/// How long a lease lasts after its last renewal: a killed leader is followed in less than 15 s.
const DURATION: Duration = Duration::from_secs(10);
/// How often it is renewed: three tries that time out fit into its duration.
const RENEWING: Duration = Duration::from_secs(2);
/// How often a follower looks: a lease that was let go of is taken as soon.
const FOLLOWING: Duration = Duration::from_secs(1);
/// The longest wait for the API server in one try.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What this process is among the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The lease was not read yet.
    Unknown,
    /// Another replica leads, or nobody does.
    Following,
    /// The lease is ours until then.
    Leading(Instant),
}

impl Standing {
    fn until(self) -> Option<Instant> {
        match self {
            Self::Leading(until) => Some(until),
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
    #[cfg(test)]
    pub(crate) fn of_a_follower() -> Self {
        Self(watch::channel(Standing::Following).1)
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

    /// Waits until the lease was read: this process leads, or is there to follow who does.
    pub async fn known(&mut self) {
        // An error says that the lease's task has ended; its own error is what the process ends with.
        drop(self.0.wait_for(|standing| *standing != Standing::Unknown).await);
    }

    /// Waits until this process leads.
    pub async fn acquired(&mut self) {
        // An error says that the lease's task has ended; its own error is what the process ends with.
        drop(self.0.wait_for(|standing| standing.until().is_some()).await);
    }
}

/// A lease that this process tries to get and to keep.
#[derive(Debug)]
pub struct Lease {
    api: Api<LeaseObject>,
    name: String,
    identity: Arc<str>,
    standing: watch::Sender<Standing>,
    leader: watch::Sender<Option<String>>,
}

/// A look at the lease itself, past every cache: for what no later write can take back.
#[derive(Clone)]
pub struct Holder {
    api: Api<LeaseObject>,
    name: String,
    identity: Arc<str>,
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

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    /// The lease is ours.
    Ours,
    /// It is another replica's.
    Anothers,
    /// Somebody wrote it at the same time: the next look tells who has it.
    Raced,
}

struct Rival {
    /// What the holder wrote last; any change of it is a sign of life.
    seen: (Option<String>, Option<MicroTime>),
    /// When that was seen first, by our clock.
    at: Instant,
}

impl Lease {
    /// A lease of this name, held under this identity (unique for each process).
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> (Self, Leadership) {
        let (standing, receiver) = watch::channel(Standing::Unknown);
        let lease = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.into(),
            standing,
            leader: watch::channel(None).0,
        };
        (lease, Leadership(receiver))
    }

    /// Who holds it, as of the last try.
    pub fn leader(&self) -> watch::Receiver<Option<String>> {
        self.leader.subscribe()
    }

    /// A look at who holds it.
    pub fn holder(&self) -> Holder {
        Holder {
            api: self.api.clone(),
            name: self.name.clone(),
            identity: self.identity.clone(),
        }
    }

    /// Gets and keeps the lease until the future ends; then lets go of it.
    ///
    /// # Errors
    /// When the lease was held and is lost: the process must end, as somebody else may write now.
    pub async fn keep(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::pin!(shutdown);
        let mut rival: Option<Rival> = None;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = &mut shutdown => {
                    self.release().await;
                    return Ok(());
                }
                () = tokio::time::sleep_until(next.into()) => {}
            }
            // One who slept too long leads no more, whatever the lease says.
            self.check()?;
            let before = Instant::now();
            let tried = tokio::time::timeout(TIMEOUT, self.try_hold(&mut rival)).await;
            let held = self.standing.borrow().until().is_some();
            match tried {
                Ok(Ok(Try::Ours)) => {
                    if !held {
                        tracing::info!(lease = %self.name, identity = %self.identity, "leading");
                    }
                    self.standing.send_replace(Standing::Leading(before + DURATION));
                }
                Ok(Ok(Try::Anothers)) if held => {
                    self.standing.send_replace(Standing::Following);
                    anyhow::bail!(
                        "the lease {} was taken by another replica; ending, so that only one writes",
                        self.name
                    );
                }
                Ok(Ok(Try::Anothers)) => {
                    if self.standing.send_replace(Standing::Following) == Standing::Unknown {
                        tracing::info!(lease = %self.name, identity = %self.identity, "following");
                    }
                }
                Ok(Ok(Try::Raced)) => tracing::debug!(lease = %self.name, "somebody wrote it at the same time"),
                Ok(Err(error)) => tracing::warn!(lease = %self.name, "the lease could not be renewed: {error:#}"),
                Err(_) => {
                    tracing::warn!(lease = %self.name, "the API server did not answer for the lease in {TIMEOUT:?}");
                }
            }
            self.check()?;
            let leads = self.standing.borrow().until().is_some();
            next = before + if leads { RENEWING } else { FOLLOWING };
        }
    }

    /// Whether the lease, if it was ours, still is.
    fn check(&self) -> anyhow::Result<()> {
        let until = self.standing.borrow().until();
        if until.is_some_and(|until| until <= Instant::now()) {
            self.standing.send_replace(Standing::Following);
            anyhow::bail!(
                "the lease {} was not renewed in {DURATION:?}; ending, so that only one writes",
                self.name
            );
        }
        Ok(())
    }

    /// One try to have the lease.
    async fn try_hold(&self, rival: &mut Option<Rival>) -> anyhow::Result<Try> {
        let now = MicroTime(clock::now());
        let Some(mut lease) = self.api.get_opt(&self.name).await.context("reading the lease")? else {
            let spec = self.spec(now.clone(), 0, now);
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            };
            let object = LeaseObject {
                metadata,
                spec: Some(spec),
            };
            return won(self.api.create(&PostParams::default(), &object).await).context("creating the lease");
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.clone().filter(|h| !h.is_empty());
        let ours = holder.as_deref() == Some(&*self.identity);
        self.leader.send_replace(holder.clone());
        if !ours && holder.is_some() && !expired(rival, &spec) {
            return Ok(Try::Anothers);
        }
        // `acquireTime` stays while the holder stays: it says since when somebody leads.
        let transitions = spec.lease_transitions.unwrap_or(0);
        let new = if ours {
            self.spec(spec.acquire_time.unwrap_or_else(|| now.clone()), transitions, now)
        } else {
            self.spec(now.clone(), transitions.saturating_add(1), now)
        };
        // Replaced with the resourceVersion that was read: of two that try, one gets a conflict.
        lease.spec = Some(new);
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await).context("writing the lease")
    }

    fn spec(&self, acquired: MicroTime, transitions: i32, now: MicroTime) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.to_string()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(acquired),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Lets the next replica have the lease at once.
    async fn release(&self) {
        if self.standing.send_replace(Standing::Following).until().is_none() {
            return;
        }
        let release = async {
            let mut lease = self.api.get(&self.name).await?;
            if let Some(spec) = lease
                .spec
                .as_mut()
                .filter(|s| s.holder_identity.as_deref() == Some(&*self.identity))
            {
                // As an empty holder is nobody, the next look of a follower takes it.
                spec.holder_identity = None;
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(TIMEOUT, release).await {
            Ok(Ok(())) => tracing::info!(lease = %self.name, "released"),
            _ => tracing::warn!(lease = %self.name, "the lease could not be released; it expires in {DURATION:?}"),
        }
    }
}

/// Whether the holder gave no sign of life for the lease's duration, by our own clock.
fn expired(rival: &mut Option<Rival>, spec: &LeaseSpec) -> bool {
    let seen = (spec.holder_identity.clone(), spec.renew_time.clone());
    match rival {
        Some(known) if known.seen == seen => known.at.elapsed() > DURATION,
        _ => {
            *rival = Some(Rival {
                seen,
                at: Instant::now(),
            });
            false
        }
    }
}

fn won(result: Result<LeaseObject, kube::Error>) -> Result<Try, kube::Error> {
    match result {
        Ok(_) => Ok(Try::Ours),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Try::Raced),
        Err(error) => Err(error),
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
    fn a_holder_lives_as_long_as_it_writes_anything() {
        let spec = |renewed: i64| LeaseSpec {
            holder_identity: Some("a".to_owned()),
            renew_time: jiff::Timestamp::from_second(renewed).ok().map(MicroTime),
            ..LeaseSpec::default()
        };
        let mut rival = None;
        assert!(!expired(&mut rival, &spec(1)), "seen for the first time");
        if let Some(rival) = &mut rival {
            rival.at = Instant::now().checked_sub(2 * DURATION).unwrap();
        }
        // Its own clock may say what it wants: it is the change that counts.
        assert!(!expired(&mut rival, &spec(0)));
        if let Some(rival) = &mut rival {
            rival.at = Instant::now().checked_sub(2 * DURATION).unwrap();
        }
        assert!(expired(&mut rival, &spec(0)));
    }
}
