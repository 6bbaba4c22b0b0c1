//! All rollouts, as a watch told them or as this process wrote them last, found by what they name. It must not know what is
//! decided.
//!
//! # Guarantees
//! - What is kept is never older than this process's own last write: the answer of a write is kept at once, and what a watch tells
//!   of an older version is passed over. After a write whose answer was lost nothing is kept until the API server was asked.
//! - What others wrote may be unseen for as long as the watch is behind. So a decision that does more than count, or take traffic
//!   away, is made again on what the API server says; and each status is written over the version that it was decided on.
//!
//! # Assumptions
//! Versions of one resource rise, as Kubernetes says they do. One that is no number is never kept.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::{Stream, StreamExt as _};
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{ObjectRef, Store, reflector, store};
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::{Notify, watch};

use super::access;
use super::cluster::{slim, watching};
use super::desk::Key;
use super::observe::{is_to_end, route_name};
use crate::api::{CanaryRollout, parse};
use crate::board::{Board, Key as BoardKey};
use crate::runtime::clock;
use crate::runtime::index::Index;

/// A name in a namespace.
type Place = (String, String);

/// All of them. Cheap to clone; clones are one.
#[derive(Clone)]
pub(super) struct Rollouts {
    kept: Arc<RwLock<Kept>>,
    /// Whether they were listed once.
    known: Arc<watch::Sender<bool>>,
}

impl Default for Rollouts {
    fn default() -> Self {
        Self {
            kept: Arc::default(),
            known: Arc::new(watch::channel(false).0),
        }
    }
}

#[derive(Default)]
struct Kept {
    /// Whether the watch is up.
    whole: bool,
    all: HashMap<Arc<Place>, Entry>,
    by_deployment: Index<Place, Arc<Place>>,
    by_route: Index<Place, Arc<Place>>,
    by_file: Index<Arc<access::File>, Arc<Place>>,
}

struct Entry {
    rollout: Arc<CanaryRollout>,
    /// `None` where it can't be told which of two is newer.
    version: Option<u64>,
    /// A write of this process may have come later.
    unsure: bool,
    files: Box<[Arc<access::File>]>,
    news: News,
}

/// Whether there is anything new about a rollout.
struct News {
    is_untold: bool,
    /// Whoever waits for it.
    ear: Option<Arc<Notify>>,
}

impl News {
    /// Of one that nobody has looked at: what it names may have been told before it was.
    fn of_a_stranger() -> Self {
        Self {
            is_untold: true,
            ear: None,
        }
    }

    fn come(&mut self) {
        self.is_untold = true;
        if let Some(ear) = &self.ear {
            ear.notify_one();
        }
    }
}

impl Rollouts {
    /// Keeps what is told, as long as the stream is read; the store has the same objects for kube's controller, and the board for
    /// readers.
    pub(super) fn watch(
        &self,
        api: Api<CanaryRollout>,
        board: Board,
    ) -> (
        Store<CanaryRollout>,
        impl Stream<Item = watcher::Result<CanaryRollout>> + Send + use<>,
    ) {
        let (reader, writer) = store();
        board.take_over();
        let (kept, objects) = (self.clone(), reader.clone());
        let told = watcher(api, watching()).modify(|rollout| slim(&mut rollout.metadata));
        let stream = reflector(writer, told)
            .inspect(move |event| {
                let event = event.as_ref().ok();
                kept.take(event, &objects);
                show(&board, event, &objects);
            })
            .applied_objects();
        (reader, stream)
    }

    /// Waits until all were listed once.
    pub(super) async fn known(&self) {
        // The sender is this one's.
        drop(self.known.subscribe().wait_for(|known| *known).await);
    }

    /// Waits until there is something new about the rollout since this was last waited for: it came to be known, it [is to end](is_to_end),
    /// or it was [stirred](Self::stir). One waits at a time.
    pub(super) async fn stirred(&self, key: &Key) {
        let place = place_of(key);
        loop {
            let ear = self.write().all.get_mut(&place).map(|entry| {
                let news = &mut entry.news;
                let ear = news.ear.get_or_insert_default().clone();
                (std::mem::take(&mut news.is_untold), ear)
            });
            match ear {
                Some((true, _)) => return,
                Some((false, ear)) => ear.notified().await,
                // Nothing is told of one that is gone.
                None => std::future::pending().await,
            }
        }
    }

    /// What these rollouts name has changed, or what is to be done about them.
    pub(super) fn stir(&self, keys: &[Key]) {
        let mut kept = self.write();
        for key in keys {
            if let Some(entry) = kept.all.get_mut(&place_of(key)) {
                entry.news.come();
            }
        }
    }

    /// The rollout; `None` where the API server has to be asked.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<CanaryRollout>> {
        let kept = self.read();
        let entry = kept.all.get(&place_of(key)).filter(|_| kept.whole)?;
        (entry.version.is_some() && !entry.unsure).then(|| entry.rollout.clone())
    }

    /// What the API server said to this process, just now.
    pub(super) fn put(&self, mut rollout: CanaryRollout) -> Arc<CanaryRollout> {
        slim(&mut rollout.metadata);
        let rollout = Arc::new(rollout);
        let mut kept = self.write();
        if let Some(entry) = kept.all.get_mut(&place(&rollout)) {
            entry.unsure = false;
            kept.insert(rollout.clone());
        }
        rollout
    }

    /// A write of this process may have been done or not.
    pub(super) fn doubt(&self, key: &Key) {
        if let Some(entry) = self.write().all.get_mut(&place_of(key)) {
            entry.unsure = true;
        }
    }

    /// All that are known.
    pub(super) fn all(&self) -> Vec<Arc<CanaryRollout>> {
        let kept = self.read();
        kept.all.values().map(|entry| entry.rollout.clone()).collect()
    }

    /// Those whose arm is this Deployment.
    pub(super) fn of_deployment(&self, namespace: Option<&str>, name: &str) -> Vec<Key> {
        self.naming(|kept| &kept.by_deployment, namespace, name)
    }

    /// Those whose route has this name.
    pub(super) fn of_route(&self, namespace: Option<&str>, name: &str) -> Vec<Key> {
        self.naming(|kept| &kept.by_route, namespace, name)
    }

    fn naming(&self, index: fn(&Kept) -> &Index<Place, Arc<Place>>, namespace: Option<&str>, name: &str) -> Vec<Key> {
        let named = (namespace.unwrap_or_default().to_owned(), name.to_owned());
        let kept = self.read();
        let of = index(&kept).get(&named).iter();
        of.map(|place| ObjectRef::new(&place.1).within(&place.0)).collect()
    }

    /// All that have a file of their arms in common with this one, which is among them once it is known.
    pub(super) fn beside(&self, files: &[access::File]) -> Vec<Arc<CanaryRollout>> {
        let kept = self.read();
        let places: HashSet<&Arc<Place>> = files.iter().flat_map(|file| kept.by_file.get(file)).collect();
        let entries = places.into_iter().filter_map(|place| kept.all.get(place));
        entries.map(|entry| entry.rollout.clone()).collect()
    }

    fn take(&self, event: Option<&Event<CanaryRollout>>, objects: &Store<CanaryRollout>) {
        let mut kept = self.write();
        match event {
            // After an error the watch may have missed something, until it tells something again.
            None => kept.whole = false,
            Some(Event::Init | Event::InitApply(_)) => {}
            Some(Event::InitDone) => {
                let listed = objects.state();
                let there: HashSet<Place> = listed.iter().map(|rollout| place(rollout)).collect();
                let gone: Vec<Arc<Place>> = kept
                    .all
                    .keys()
                    .filter(|place| !there.contains(&***place))
                    .cloned()
                    .collect();
                for place in gone {
                    kept.remove(&place);
                }
                for rollout in listed {
                    kept.insert(rollout);
                }
                kept.whole = true;
                self.known.send_replace(true);
            }
            Some(Event::Apply(rollout)) => {
                // The very object of the store: it is kept once.
                let rollout = objects.get(&ObjectRef::from_obj(rollout));
                if let Some(rollout) = rollout {
                    kept.insert(rollout);
                }
                kept.whole = true;
            }
            Some(Event::Delete(rollout)) => {
                kept.remove(&place(rollout));
                kept.whole = true;
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn insert(&mut self, rollout: Arc<CanaryRollout>) {
        let (place, version) = (place(&rollout), version(&rollout));
        let (mut unsure, mut news) = (false, News::of_a_stranger());
        if let Some(known) = self.all.get_mut(&place) {
            if known.version > version && version.is_some() {
                return;
            }
            if is_to_end(&rollout) {
                known.news.come();
            }
            // Most that is told is a status: what a rollout names stays.
            if known.rollout.spec == rollout.spec {
                (known.rollout, known.version) = (rollout, version);
                return;
            }
            (unsure, news) = (known.unsure, std::mem::replace(&mut known.news, News::of_a_stranger()));
        }
        self.remove(&place);
        let place = Arc::new(place);
        let files = self.name(&rollout, &place);
        let entry = Entry {
            rollout,
            version,
            unsure,
            files,
            news,
        };
        self.all.insert(place, entry);
    }

    /// Adds what the rollout names to the indices.
    fn name(&mut self, rollout: &CanaryRollout, of: &Arc<Place>) -> Box<[Arc<access::File>]> {
        for deployment in deployments(rollout) {
            self.by_deployment.add((of.0.clone(), deployment.clone()), of.clone());
        }
        self.by_route
            .add((of.0.clone(), route_name(rollout).to_owned()), of.clone());
        // One that makes no sense has no subtree that it could keep from others.
        let files = parse(&rollout.spec).map(|parsed| access::files_of(&rollout.spec.git, &parsed.layout));
        let files: Box<[_]> = files.unwrap_or_default().into_iter().map(Arc::new).collect();
        for file in &files {
            self.by_file.add(file.clone(), of.clone());
        }
        files
    }

    fn remove(&mut self, of: &Place) {
        let Some(Entry { rollout, files, .. }) = self.all.remove(of) else {
            return;
        };
        for deployment in deployments(&rollout) {
            self.by_deployment.remove(&(of.0.clone(), deployment.clone()), of);
        }
        self.by_route
            .remove(&(of.0.clone(), route_name(&rollout).to_owned()), of);
        for file in &files {
            self.by_file.remove(file, of);
        }
    }
}

/// Readers see the very objects of the store.
fn show(board: &Board, event: Option<&Event<CanaryRollout>>, objects: &Store<CanaryRollout>) {
    let now = clock::now();
    match event {
        None | Some(Event::Init | Event::InitApply(_)) => {}
        Some(Event::InitDone) => {
            let listed = objects.state();
            board.keep_only(&listed.iter().map(|rollout| BoardKey::of(rollout)).collect());
            for rollout in listed {
                board.put(rollout, now);
            }
        }
        Some(Event::Apply(rollout)) => {
            if let Some(rollout) = objects.get(&ObjectRef::from_obj(rollout)) {
                board.put(rollout, now);
            }
        }
        Some(Event::Delete(rollout)) => board.remove(&BoardKey::of(rollout)),
    }
}

fn deployments(rollout: &CanaryRollout) -> [&String; 2] {
    [&rollout.spec.stable.deployment, &rollout.spec.canary.deployment]
}

fn version(rollout: &CanaryRollout) -> Option<u64> {
    rollout.metadata.resource_version.as_deref()?.parse().ok()
}

fn place(rollout: &CanaryRollout) -> Place {
    (rollout.namespace().unwrap_or_default(), rollout.name_any())
}

fn place_of(key: &Key) -> Place {
    (key.namespace.clone().unwrap_or_default(), key.name.clone())
}

#[cfg(test)]
#[path = "rollouts_tests.rs"]
mod tests;
