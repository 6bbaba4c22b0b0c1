//! Gets, keeps and gives away the shards' Leases, as [`super::plan`] says. It must not know what is done in a shard.
//!
//! # Caveats
//! A Lease that is lost against this process's will ends the process: somebody else may write now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use futures::future::{join, join_all};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::super::lease::{DURATION, FOLLOWING, Holder, Leadership, RENEWING, Standing, TIMEOUT};
use super::plan::{Move, Seat, moves};
use super::sight::{Announcement, Seen, Sight, holder};
use super::{Count, Holders, Shard, Sharing, Term};

/// Keeps the Leases of a process.
#[derive(Debug)]
pub struct Keeper {
    pub(super) api: Api<Lease>,
    pub(super) name: String,
    pub(super) identity: Arc<str>,
    pub(super) count: Count,
    standings: Vec<watch::Sender<Standing>>,
    holders: watch::Sender<Holders>,
    over: mpsc::UnboundedReceiver<Shard>,
}

/// What is remembered from one look to the next.
struct Own {
    sight: Sight,
    beat: u64,
    announced: Option<Instant>,
    /// When each Lease was written last.
    written: BTreeMap<Shard, Instant>,
    /// Shards that nothing is done in any more.
    over: BTreeSet<Shard>,
}

/// What came of a look.
enum Round {
    Done,
    /// The next one has something to do at once.
    Again,
    /// A Lease of this process's names another.
    Lost(Shard),
}

impl Keeper {
    /// Leases of this name, held under this identity (unique for each process); and what the process is told of them.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        count: Count,
    ) -> (Self, Vec<Term>, Sharing) {
        let (tell_over, over) = mpsc::unbounded_channel();
        let standings: Vec<_> = count.shards().map(|_| watch::channel(Standing::Unknown).0).collect();
        let (holders, holding) = watch::channel(Holders::from(vec![None; count.get()]));
        let keeper = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.into(),
            count,
            standings,
            holders,
            over,
        };
        let term = |(shard, standing): (Shard, &watch::Sender<Standing>)| Term {
            shard,
            leadership: Leadership::new(standing.subscribe()),
            holder: Some(Holder {
                api: keeper.api.clone(),
                name: shard.lease(name),
                identity: keeper.identity.clone(),
            }),
            over: tell_over.clone(),
        };
        let terms: Vec<_> = count.shards().zip(&keeper.standings).map(term).collect();
        let sharing = Sharing {
            count,
            terms: terms.iter().map(|term| term.leadership.clone()).collect(),
            holders: holding,
        };
        (keeper, terms, sharing)
    }

    /// Gets and keeps shards until the future ends; then lets go of them. Once it is to stop, it gets no more.
    ///
    /// # Errors
    /// When a Lease was held and is lost: the process must end, as somebody else may write now.
    pub async fn keep(mut self, stop: CancellationToken, done: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::pin!(done);
        let mut own = Own {
            sight: Sight::new(&self.name, self.identity.clone()),
            beat: 0,
            announced: None,
            written: BTreeMap::new(),
            over: BTreeSet::new(),
        };
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = &mut done => {
                    self.release().await;
                    return Ok(());
                }
                Some(shard) = self.over.recv() => {
                    own.over.insert(shard);
                }
                () = tokio::time::sleep_until(next.into()) => {}
            }
            // One who slept too long leads no more, whatever the Lease says.
            self.check()?;
            let before = Instant::now();
            next = before + FOLLOWING;
            match tokio::time::timeout(TIMEOUT, self.round(&mut own, stop.is_cancelled())).await {
                Ok(Ok(Round::Done)) => {}
                Ok(Ok(Round::Again)) => next = before,
                Ok(Ok(Round::Lost(shard))) => {
                    self.stand(shard, Standing::Following);
                    anyhow::bail!(
                        "the lease {} was taken by another replica; ending, so that only one writes",
                        shard.lease(&self.name)
                    );
                }
                Ok(Err(error)) => tracing::warn!(lease = %self.name, "the leases could not be looked after: {error:#}"),
                Err(_) => {
                    tracing::warn!(lease = %self.name, "the API server did not answer for the leases in {TIMEOUT:?}");
                }
            }
            self.check()?;
        }
    }

    pub(super) fn standing(&self, shard: Shard) -> Standing {
        let standing = self.standings.get(shard.index());
        standing.map_or(Standing::Following, |standing| *standing.borrow())
    }

    pub(super) fn stand(&self, shard: Shard, is: Standing) {
        if let Some(standing) = self.standings.get(shard.index()) {
            standing.send_replace(is);
        }
    }

    /// Whether the Leases that were ours still are.
    fn check(&self) -> anyhow::Result<()> {
        for shard in self.count.shards() {
            if self
                .standing(shard)
                .until()
                .is_some_and(|until| until <= Instant::now())
            {
                self.stand(shard, Standing::Following);
                anyhow::bail!(
                    "the lease {} was not renewed in {DURATION:?}; ending, so that only one writes",
                    shard.lease(&self.name)
                );
            }
        }
        Ok(())
    }

    /// One look, and what follows from it.
    async fn round(&self, own: &mut Own, leaves: bool) -> anyhow::Result<Round> {
        let seen = self.look(own).await?;
        if let Some(lost) = self.tell(&seen) {
            return Ok(Round::Lost(lost));
        }
        let announce = self.announce(own.announcement(leaves, &self.identity, self.count), &seen);
        let mut moves = moves(&seen.view, &self.identity, self.count);
        if leaves {
            // What is being done comes to its end first; what was handed over just now goes on to somebody else.
            let ours = seen.view.seats.iter().filter(|(_, seat)| **seat == Seat::Ours);
            let moved = |shard: Shard| match self.standing(shard).until() {
                Some(_) => Move::Hold(shard),
                None => Move::Yield(shard),
            };
            moves = ours.map(|(shard, _)| moved(*shard)).collect();
        }
        let mut is_again = false;
        let (mut hold, mut give) = (Vec::new(), Vec::new());
        for step in moves {
            match step {
                Move::Enforce => {
                    self.enforce(&seen).await?;
                    is_again = true;
                }
                Move::Hold(shard) => {
                    if let (Standing::Yielding(until), true) = (self.standing(shard), own.over.remove(&shard)) {
                        self.stand(shard, Standing::Leading(until));
                    }
                    hold.push(shard);
                }
                Move::Yield(shard) => match self.standing(shard) {
                    Standing::Leading(until) => {
                        own.over.remove(&shard);
                        tracing::info!(%shard, "another replica is to have this shard");
                        self.stand(shard, Standing::Yielding(until));
                        hold.push(shard);
                    }
                    Standing::Yielding(_) if !own.over.remove(&shard) => hold.push(shard),
                    Standing::Yielding(_) | Standing::Unknown | Standing::Following => give.push(shard),
                },
            }
        }
        hold.retain(|shard| self.standing(*shard).until().is_none() || own.is_due(*shard));
        let fair = seen.view.fair(&self.identity, self.count);
        let gives = join_all(give.iter().map(|shard| self.give(*shard, &seen, fair.get(shard))));
        let holds = join_all(hold.iter().map(|shard| async {
            let written = Instant::now();
            (*shard, written, self.hold(*shard, &seen).await)
        }));
        let (announced, (gave, held)) = join(announce, join(gives, holds)).await;
        if let Err(error) = announced {
            tracing::warn!("this replica could not announce itself: {error:#}");
        }
        let mut taken = Vec::new();
        let mut trouble = gave.into_iter().find_map(Result::err);
        for (shard, written, held) in held {
            match held {
                Ok(true) => {
                    own.written.insert(shard, written);
                    if self.standing(shard).until().is_none() {
                        taken.push((shard, written));
                    }
                }
                // Somebody wrote it at the same time: the next look tells who has it.
                Ok(false) => tracing::debug!(%shard, "somebody wrote the lease at the same time"),
                Err(error) => trouble = Some(error),
            }
        }
        if !taken.is_empty() && !leaves {
            self.begin(own, taken).await?;
        }
        match trouble {
            Some(error) => Err(error),
            None if is_again => Ok(Round::Again),
            None => {
                self.follow();
                Ok(Round::Done)
            }
        }
    }

    /// What was looked at and did not become this process's is another's, or will be.
    fn follow(&self) {
        let mut unknown = self.count.shards();
        while let Some(shard) = unknown.find(|shard| self.standing(*shard) == Standing::Unknown) {
            tracing::info!(lease = %shard.lease(&self.name), identity = %self.identity, "following");
            self.stand(shard, Standing::Following);
        }
    }

    async fn look(&self, own: &mut Own) -> anyhow::Result<Seen> {
        let list = self
            .api
            .list(&ListParams::default())
            .await
            .context("reading the leases")?;
        let has = |shard: Shard| self.standing(shard).until().is_some();
        Ok(own.sight.look(list.items, has, Instant::now()))
    }

    /// Tells who has what; a shard of this process's that another has is lost.
    fn tell(&self, seen: &Seen) -> Option<Shard> {
        let holders: Holders = self
            .count
            .shards()
            .map(|shard| seen.leases.get(&shard).and_then(holder))
            .collect();
        self.holders.send_if_modified(|known| {
            let is_new = *known != holders;
            *known = holders;
            is_new
        });
        let is_lost = |shard: &Shard| {
            let seat = seen.view.seats.get(shard);
            self.standing(*shard).until().is_some() && !matches!(seat, Some(Seat::Ours))
        };
        self.count.shards().find(is_lost)
    }

    /// Work begins where the Lease is ours and nobody who counts otherwise works: read after the Lease was written.
    async fn begin(&self, own: &mut Own, taken: Vec<(Shard, Instant)>) -> anyhow::Result<()> {
        let seen = self.look(own).await?;
        for (shard, written) in taken {
            let is_ours = seen.view.seats.get(&shard) == Some(&Seat::Ours);
            if is_ours && seen.view.may_begin(self.count) {
                tracing::info!(lease = %shard.lease(&self.name), identity = %self.identity, "leading");
                own.over.remove(&shard);
                self.stand(shard, Standing::Leading(written + DURATION));
            }
        }
        self.tell(&seen);
        Ok(())
    }
}

impl Own {
    fn is_due(&self, shard: Shard) -> bool {
        // Looks come once a second, and none is quite on time.
        self.written
            .get(&shard)
            .is_none_or(|written| written.elapsed() + FOLLOWING / 2 >= RENEWING)
    }

    /// What is said of this process now, if it is time to.
    fn announcement(&mut self, leaves: bool, identity: &Arc<str>, count: Count) -> Option<Value> {
        let is_due = self
            .announced
            .is_none_or(|last| last.elapsed() + FOLLOWING / 2 >= RENEWING);
        if !is_due {
            return None;
        }
        self.announced = Some(Instant::now());
        self.beat += 1;
        let said = Announcement {
            identity: identity.to_string(),
            count,
            beat: self.beat,
        };
        let value = if leaves { Value::Null } else { said.value().into() };
        Some(json!({ Announcement::key(identity): value }))
    }
}
