//! Fills the board by one watch a replica. It must not know who reads it.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use kube::Api;
use kube::api::ResourceExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};

use super::{Board, Key, trim};
use crate::api::CanaryRollout;
use crate::runtime::clock;

/// Seconds after which the watch is begun anew: one that hangs is given up little later.
const WATCH: u32 = 60;

impl Board {
    /// Follows the API server for as long as it is polled, or until another watch takes over.
    pub async fn follow(self, rollouts: Api<CanaryRollout>) {
        let own_watch = self.0.own_watch.clone();
        tokio::select! {
            () = self.follow_alone(rollouts) => {}
            () = own_watch.cancelled() => std::future::pending().await,
        }
    }

    async fn follow_alone(&self, rollouts: Api<CanaryRollout>) {
        let config = watcher::Config::default().timeout(WATCH);
        let mut events = std::pin::pin!(watcher(rollouts, config).default_backoff());
        let mut listed: Option<BTreeSet<Key>> = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed = Some(BTreeSet::new()),
                Ok(Event::InitApply(mut rollout)) => {
                    trim(&mut rollout);
                    if let Some(listed) = &mut listed {
                        listed.insert(Key::of(&rollout));
                    }
                    self.put(rollout, clock::now());
                }
                Ok(Event::InitDone) => self.keep_only(&listed.take().unwrap_or_default()),
                Ok(Event::Apply(mut rollout)) => {
                    trim(&mut rollout);
                    self.put(rollout, clock::now());
                }
                Ok(Event::Delete(rollout)) => {
                    tracing::debug!(rollout = rollout.name_any(), "gone");
                    self.remove(&Key::of(&rollout));
                }
                Err(error) => tracing::warn!("watching rollouts for the page and the metrics: {error}; tried again"),
            }
        }
    }
}
