//! What an Application wants against what is there, and the way from one to the other. It must not know Git, nor what the
//! Application's status says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use futures::future::{join_all, try_join_all};
use serde_json::Value;

use super::{
    TRACKING,
    cluster::Cluster,
    health::Health,
    object::{self, Key},
    project::Project,
    source::Rendered,
    spec::Spec,
    status::Resource,
};

/// These change when or how an object is applied, and are not obeyed here.
const UNKNOWN: [&str; 6] = [
    "helm.sh/hook",
    "argocd.argoproj.io/hook",
    "argocd.argoproj.io/sync-wave",
    "argocd.argoproj.io/sync-options",
    "argocd.argoproj.io/compare-options",
    "argocd.argoproj.io/ignore-healthcheck",
];

/// One object that an Application has, or had.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) key: Key,
    /// None for what is to be pruned.
    pub(super) wanted: Option<Value>,
    pub(super) live: Option<Value>,
    pub(super) is_synced: bool,
}

impl Item {
    pub(super) fn resource(&self) -> Resource {
        let health = Health::of(self.live.as_ref()).filter(|_| self.wanted.is_some());
        let state = if self.is_synced { "Synced" } else { "OutOfSync" };
        Resource {
            requires_pruning: self.wanted.is_none(),
            ..Resource::new(&self.key, state, health)
        }
    }

    fn is_going(&self) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| live.pointer("/metadata/deletionTimestamp").is_some())
    }

    /// Whether something can be done now about a difference.
    pub(super) fn is_due(&self, prune: bool) -> bool {
        !self.is_synced && (self.wanted.is_some() || (prune && !self.is_going()))
    }
}

/// Compares and applies, and remembers what it found to be the same.
#[derive(Debug)]
pub(super) struct Comparison {
    cluster: Arc<Cluster>,
    /// What was applied, what the object then said, and whether that is the same.
    known: BTreeMap<Key, (Value, Value, bool)>,
}

impl Comparison {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            known: BTreeMap::new(),
        }
    }

    /// What the Application wants, in the order in which it is applied.
    pub(super) async fn wanted(
        &self,
        application: &str,
        spec: &Spec,
        project: &Project,
        rendered: &Rendered,
    ) -> anyhow::Result<Vec<(Key, Value)>> {
        let mut all = Vec::new();
        for object in rendered.objects.iter() {
            let mut object = object.clone();
            let mut key = Key::of(&object, &spec.destination.namespace)?;
            let namespaced = self.cluster.is_namespaced(&key).await?;
            if !namespaced {
                key.namespace.clear();
            }
            project.permit(&key, namespaced)?;
            let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
            if let Some(unknown) = UNKNOWN
                .iter()
                .find(|name| annotations.is_some_and(|all| all.contains_key(**name)))
            {
                bail!("{key}: the lab's stand-in for Argo CD does not know the annotation {unknown}");
            }
            object::adopt(&mut object, &key, application)?;
            all.push((key, object));
        }
        all.sort_by_key(|(key, _)| key.order());
        Ok(all)
    }

    /// Looks at everything that is wanted, and at what was there before and may have to go.
    pub(super) async fn compare(
        &mut self,
        application: &str,
        spec: &Spec,
        wanted: &[(Key, Value)],
        before: &[Resource],
    ) -> anyhow::Result<Vec<Item>> {
        let gone: BTreeSet<_> = before.iter().map(Resource::key).collect();
        let gone = gone
            .into_iter()
            .filter(|key| !wanted.iter().any(|(other, _)| other.is(key)));
        let gone = gone.map(|key| (key, None));
        let all = wanted
            .iter()
            .map(|(key, object)| (key.clone(), Some(object)))
            .chain(gone);
        let this = &*self;
        let looked = all.map(|(key, object)| async move { this.look(application, spec, key, object).await });
        let looked = try_join_all(looked).await?;
        let mut items = Vec::new();
        for (item, known) in looked.into_iter().flatten() {
            if let Some(known) = known {
                self.known.insert(item.key.clone(), known);
            }
            items.push(item);
        }
        self.known.retain(|key, _| items.iter().any(|item| item.key == *key));
        Ok(items)
    }

    async fn look(
        &self,
        application: &str,
        spec: &Spec,
        key: Key,
        object: Option<&Value>,
    ) -> anyhow::Result<Option<(Item, Option<(Value, Value, bool)>)>> {
        let live = self.cluster.get(&key).await?;
        let Some(object) = object else {
            let ours = live.filter(|live| object::is_tracked(live, &key, application));
            let item = |live| {
                (
                    Item {
                        key,
                        wanted: None,
                        live: Some(live),
                        is_synced: false,
                    },
                    None,
                )
            };
            return Ok(ours.map(item));
        };
        let Some(live) = live else {
            return Ok(Some((
                Item {
                    key,
                    wanted: Some(object.clone()),
                    live: None,
                    is_synced: false,
                },
                None,
            )));
        };
        let owner = live
            .pointer("/metadata/annotations")
            .and_then(|all| all.get(TRACKING)?.as_str()?.split_once(':'));
        if let Some((other, _)) = owner.filter(|(owner, _)| *owner != application) {
            bail!("{key} is part of the Applications {application} and {other}");
        }
        let pointers = object::ignored(&key, &spec.ignore_differences);
        let mut wanted = object.clone();
        if spec.respects_ignored() {
            object::keep_live(&mut wanted, &live, &pointers);
        }
        let reduced = object::reduced(&live, &pointers);
        let known = self
            .known
            .get(&key)
            .filter(|(wanted_then, live_then, _)| *wanted_then == wanted && *live_then == reduced);
        let (is_synced, known) = match known {
            Some((_, _, same)) => (*same, None),
            // Only the server knows what its defaults and its notations make of the object.
            None => match self.cluster.try_apply(&key, &wanted).await {
                Ok(then) => {
                    let same = object::same(&live, &then, &pointers);
                    (same, Some((wanted.clone(), reduced, same)))
                }
                // Applying it will say what is wrong.
                Err(_) => (false, None),
            },
        };
        Ok(Some((
            Item {
                key,
                wanted: Some(wanted),
                live: Some(live),
                is_synced,
            },
            known,
        )))
    }

    /// Applies and prunes what differs, one kind after the other. It stops at the first kind that has an error.
    pub(super) async fn sync(&mut self, spec: &Spec, items: &mut [Item], prune: bool) -> anyhow::Result<()> {
        for kinds in
            items.chunk_by_mut(|a, b| a.key.order() == b.key.order() && a.wanted.is_some() == b.wanted.is_some())
        {
            let mut errors = Vec::new();
            let due = kinds.iter_mut().filter(|item| item.is_due(prune));
            let cluster = &self.cluster;
            let done = join_all(due.map(|item| async move { (act(cluster, item).await, item) })).await;
            for (result, item) in done {
                match (result, &item.wanted) {
                    (Ok(Some(live)), Some(wanted)) => {
                        let pointers = object::ignored(&item.key, &spec.ignore_differences);
                        self.known.insert(
                            item.key.clone(),
                            (wanted.clone(), object::reduced(&live, &pointers), true),
                        );
                        item.live = Some(live);
                        item.is_synced = true;
                    }
                    (Ok(_), _) => {}
                    (Err(error), _) => errors.push(format!("{error:#}")),
                }
            }
            if !errors.is_empty() {
                bail!("{}", errors.join("; "));
            }
        }
        Ok(())
    }
}

/// Applies or deletes one object; gives what an applied one then says.
async fn act(cluster: &Cluster, item: &Item) -> anyhow::Result<Option<Value>> {
    if let Some(wanted) = &item.wanted {
        return cluster.apply(&item.key, wanted).await.map(Some);
    }
    let live = item.live.as_ref().context("nothing is there to prune")?;
    let uid = live.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
    cluster.delete(&item.key, uid).await.map(|()| None)
}
