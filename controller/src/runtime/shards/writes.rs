//! What a [`Keeper`] writes: Leases, the number of shards in force, its announcement. It must not know why.

use std::time::Instant;

use anyhow::Context as _;
use futures::future::{join, join_all};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt as _;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::super::clock;
use super::super::lease::{DURATION, Standing, TIMEOUT};
use super::Shard;
use super::keeper::Keeper;
use super::sight::{Announcement, SHARDS, Seen, Sight, holder};

impl Keeper {
    /// Writes a Lease that is ours or nobody's. False says that somebody else wrote it meanwhile.
    pub(super) async fn hold(&self, shard: Shard, seen: &Seen) -> anyhow::Result<bool> {
        let (before, now) = (Instant::now(), MicroTime(clock::now()));
        let lease = seen.leases.get(&shard);
        let spec = lease.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or(0);
        // `acquireTime` stays while the holder stays: it says since when somebody leads.
        let new = match spec.acquire_time {
            _ if lease.is_none() => held_by(&self.identity, 0, now.clone(), now),
            Some(acquired) if spec.holder_identity.as_deref() == Some(&*self.identity) => {
                held_by(&self.identity, transitions, acquired, now)
            }
            _ => held_by(&self.identity, transitions.saturating_add(1), now.clone(), now),
        };
        let is_held = self.write(shard, lease, new).await?;
        if is_held {
            match self.standing(shard) {
                Standing::Leading(_) => self.stand(shard, Standing::Leading(before + DURATION)),
                Standing::Yielding(_) => self.stand(shard, Standing::Yielding(before + DURATION)),
                Standing::Unknown | Standing::Following => {}
            }
        }
        Ok(is_held)
    }

    /// Lets another replica have a shard in which nothing is done any more: straight into its hands, so that nobody comes between.
    pub(super) async fn give(&self, shard: Shard, seen: &Seen, to: Option<&String>) -> anyhow::Result<()> {
        // The fence closes first.
        self.stand(shard, Standing::Following);
        let Some(lease) = seen.leases.get(&shard) else {
            return Ok(());
        };
        let to = to.filter(|to| **to != *self.identity && seen.view.may_begin(self.count));
        let spec = lease.spec.clone().unwrap_or_default();
        let new = match to {
            Some(to) => {
                let now = MicroTime(clock::now());
                let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(1);
                held_by(to, transitions, now.clone(), now)
            }
            None => LeaseSpec {
                holder_identity: None,
                ..spec
            },
        };
        if self.write(shard, Some(lease), new).await? {
            tracing::info!(%shard, to = to.map_or("nobody", String::as_str), "handed over");
        }
        Ok(())
    }

    /// Writes a Lease, with the resourceVersion that was read: of two that try, one gets a conflict.
    async fn write(&self, shard: Shard, lease: Option<&Lease>, spec: LeaseSpec) -> anyhow::Result<bool> {
        let name = shard.lease(&self.name);
        let mut object = lease.cloned().unwrap_or_else(|| named(&name));
        object
            .annotations_mut()
            .insert(SHARDS.to_owned(), self.count.to_string());
        object.spec = Some(spec);
        let params = PostParams::default();
        let written = match lease {
            Some(_) => self.api.replace(&name, &params, &object).await,
            None => self.api.create(&params, &object).await,
        };
        won(written).with_context(|| format!("writing the lease {name}"))
    }

    /// Puts this process's number of shards in force.
    pub(super) async fn enforce(&self, seen: &Seen) -> anyhow::Result<()> {
        let name = Sight::members_name(&self.name);
        let count = json!({ SHARDS: self.count.to_string() });
        let written = match &seen.members {
            Some(members) => {
                // Nobody has written it since it was read.
                let metadata = json!({ "resourceVersion": members.metadata.resource_version, "annotations": count });
                self.patch(&name, metadata).await
            }
            None => {
                let mut members = named(&name);
                members
                    .annotations_mut()
                    .insert(SHARDS.to_owned(), self.count.to_string());
                self.api.create(&PostParams::default(), &members).await
            }
        };
        if won(written).context("putting the number of shards in force")? {
            tracing::info!(shards = %self.count, "this number of shards is in force");
        }
        Ok(())
    }

    pub(super) async fn announce(&self, announcement: Option<Value>, seen: &Seen) -> anyhow::Result<()> {
        let (Some(Value::Object(mut words)), Some(_)) = (announcement, &seen.members) else {
            return Ok(());
        };
        words.extend(seen.dead.iter().map(|key| (key.clone(), Value::Null)));
        self.patch(&Sight::members_name(&self.name), json!({ "annotations": words }))
            .await?;
        Ok(())
    }

    async fn patch(&self, name: &str, metadata: Value) -> kube::Result<Lease> {
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        self.api.patch(name, &PatchParams::default(), &patch).await
    }

    /// Lets other replicas have all shards at once.
    pub(super) async fn release(&self) {
        let held = self
            .count
            .shards()
            .filter(|shard| self.standing(*shard).until().is_some());
        let released = join_all(held.map(|shard| async move {
            self.stand(shard, Standing::Following);
            let name = shard.lease(&self.name);
            let release = async {
                let mut lease = self.api.get(&name).await?;
                if holder(&lease).as_deref() == Some(&*self.identity)
                    && let Some(spec) = &mut lease.spec
                {
                    // As an empty holder is nobody, the next look of a follower takes it.
                    spec.holder_identity = None;
                    self.api.replace(&name, &PostParams::default(), &lease).await?;
                }
                Ok::<_, kube::Error>(())
            };
            match tokio::time::timeout(TIMEOUT, release).await {
                Ok(Ok(())) => tracing::info!(lease = %name, "released"),
                _ => tracing::warn!(lease = %name, "the lease could not be released; it expires in {DURATION:?}"),
            }
        }));
        // Who is gone is given nothing.
        let name = Sight::members_name(&self.name);
        let gone = json!({ "annotations": { Announcement::key(&self.identity): Value::Null } });
        let (_, gone) = join(released, tokio::time::timeout(TIMEOUT, self.patch(&name, gone))).await;
        if !matches!(gone, Ok(Ok(_))) {
            tracing::debug!("the announcement could not be taken back; it is old in {DURATION:?}");
        }
    }
}

fn held_by(holder: &str, transitions: i32, acquired: MicroTime, now: MicroTime) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(acquired),
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

fn named(name: &str) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Lease::default()
    }
}

/// Whether it was written; false when somebody else has written it meanwhile.
fn won(result: kube::Result<Lease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
