//! The objects that looks read, kept by watches, so that a look costs no request for them. It must not know a rollout, or what
//! is decided.
//!
//! They are kept as packed text ([`Shelves`]), without what no look reads: of thousands of rollouts few are looked at in a second, and
//! the objects themselves would be many times the size.
//!
//! # Caveats
//! What is kept may be old: by milliseconds, or by a minute where a connection hangs. A look on it finds out that something is to
//! be done; what else than taking traffic away is to be done is decided on [`Reads::Direct`].

use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use futures::{Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Container, PodSpec, Service};
use kube::api::{Api, ListParams};
use kube::core::ObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, arms, call};
use crate::runtime::index::Index;
use crate::runtime::shelves::Shelves;

/// Written by `kubectl apply`, whole.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Seconds after which a watch is begun anew: one that hangs is given up little later.
const WATCH: u32 = 60;

/// Objects of a list that are read at once: at a start the lists of all kinds are, and none of it is kept as it comes.
const PAGE: u32 = 100;

/// How everything is watched.
pub(super) fn watching() -> watcher::Config {
    watcher::Config::default().timeout(WATCH).page_size(PAGE)
}

/// Where a look reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// What watches told, where they tell.
    Kept,
    /// The API server.
    Direct,
}

/// The kinds that looks read. Clones keep the same objects.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) deployments: Cache<Deployment>,
    pub(super) replica_sets: Cache<ReplicaSet>,
    pub(super) services: Cache<Service>,
    pub(super) autoscalers: Cache<HorizontalPodAutoscaler>,
}

impl Cluster {
    /// Nothing is kept before the watches run.
    pub(super) fn new(client: &Client) -> Self {
        // Of a ReplicaSet's template the annotations are read.
        let without_pods = |set: &mut ReplicaSet| {
            if let Some(template) = set.spec.as_mut().and_then(|spec| spec.template.as_mut()) {
                template.spec = None;
            }
        };
        // Of a Deployment's, its images, and on which ports its containers listen.
        let with_images_and_ports = |deployment: &mut Deployment| {
            if let Some(pod) = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) {
                *pod = PodSpec {
                    containers: images_and_ports(&pod.containers),
                    init_containers: pod.init_containers.as_deref().map(images_and_ports),
                    ..PodSpec::default()
                };
            }
            if let Some(status) = deployment.status.as_mut() {
                status.conditions = None;
            }
        };
        Self {
            deployments: Cache::new(client, Asked::Itself, with_images_and_ports),
            replica_sets: Cache::new(client, Asked::ByAnother(owner), without_pods),
            services: Cache::new(client, Asked::Itself, |_| {}),
            autoscalers: Cache::new(client, Asked::ByAnother(target), |autoscaler| autoscaler.status = None),
        }
    }

    /// Whether the watches of all kinds have told everything once, or have failed to.
    pub(super) fn is_settled(&self) -> bool {
        self.deployments.is_settled()
            && self.replica_sets.is_settled()
            && self.services.is_settled()
            && self.autoscalers.is_settled()
    }

    /// The Deployment's own, and others that its selector finds.
    pub(super) async fn replica_sets_of(
        &self,
        reads: Reads,
        deployment: &Deployment,
    ) -> Result<Vec<Arc<ReplicaSet>>, Error> {
        let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
        if let Some(kept) = self.replica_sets.read(reads, &namespace, &name) {
            return Ok(kept);
        }
        let labels = arms::selector(deployment);
        let selector: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let doing = || format!("listing the ReplicaSets of {namespace}/{name}");
        let api = self.replica_sets.api(&namespace);
        let sets = call(doing, api.list(&ListParams::default().labels(&selector.join(",")))).await?;
        Ok(sets.items.into_iter().map(Arc::new).collect())
    }

    /// The one that scales this Deployment.
    pub(super) async fn autoscaler_of(
        &self,
        reads: Reads,
        deployment: &Deployment,
    ) -> Result<Option<Arc<HorizontalPodAutoscaler>>, Error> {
        let (namespace, name) = (deployment.namespace().unwrap_or_default(), deployment.name_any());
        if let Some(kept) = self.autoscalers.read(reads, &namespace, &name) {
            return Ok(kept.into_iter().next());
        }
        let doing = || format!("listing the HorizontalPodAutoscalers of {namespace}");
        let api = self.autoscalers.api(&namespace);
        let all = call(doing, api.list(&ListParams::default())).await?;
        let scales = |autoscaler: &HorizontalPodAutoscaler| target(autoscaler).as_ref() == Some(&name);
        Ok(all.items.into_iter().find(scales).map(Arc::new))
    }
}

fn images_and_ports(containers: &[Container]) -> Vec<Container> {
    let lean = |container: &Container| Container {
        name: container.name.clone(),
        image: container.image.clone(),
        ports: container.ports.clone(),
        ..Container::default()
    };
    containers.iter().map(lean).collect()
}

/// The name of the Deployment that a ReplicaSet belongs to.
pub(super) fn owner(set: &ReplicaSet) -> Option<String> {
    let owners = set.owner_references().iter();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true) && owner.kind == "Deployment");
    controllers.next().map(|owner| owner.name.clone())
}

/// The name of the Deployment that an autoscaler scales.
fn target(autoscaler: &HorizontalPodAutoscaler) -> Option<String> {
    let target = &autoscaler.spec.as_ref()?.scale_target_ref;
    (target.kind == "Deployment").then(|| target.name.clone())
}

/// A namespace, and a name in it.
type Place = (String, String);

/// The name that looks ask for an object with.
enum Asked<K> {
    /// Its own.
    Itself,
    /// Another's; `None` for an object that no look asks for.
    ByAnother(fn(&K) -> Option<String>),
}

impl<K> Clone for Asked<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Asked<K> {}

/// The objects of one kind, found by the name that looks ask with.
#[derive(Clone)]
pub(super) struct Cache<K> {
    client: Client,
    kept: Arc<RwLock<Kept>>,
    asked: Asked<K>,
    /// Leaves out what no look reads.
    lean: fn(&mut K),
}

#[derive(Default)]
struct Kept {
    /// Whether it is all there, and the watch is up.
    whole: bool,
    /// Whether it was all there once, or the watch has failed.
    settled: bool,
    objects: Objects,
    /// What a list that has begun has brought so far.
    listed: Objects,
}

/// Objects as text.
#[derive(Default)]
struct Objects {
    /// Each with the name that it is asked for with, if that is another's.
    shelves: Shelves<Option<Box<str>>>,
    /// The names of such objects.
    by_other: Index<Place, Box<str>>,
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    fn new(client: &Client, asked: Asked<K>, lean: fn(&mut K)) -> Self {
        Self {
            client: client.clone(),
            kept: Arc::default(),
            asked,
            lean,
        }
    }

    /// Keeps what is told, as long as the stream is read.
    pub(super) fn watch(&self, api: Api<K>) -> impl Stream<Item = watcher::Result<K>> + Send + use<K> {
        let (kept, asked, lean) = (self.kept.clone(), self.asked, self.lean);
        watcher(api, watching())
            .modify(move |object| {
                slim(object.meta_mut());
                lean(object);
            })
            .inspect(move |event| {
                let mut kept = kept.write().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(event) => kept.take(event, asked),
                    Err(_) => kept.doubt(),
                }
            })
            .touched_objects()
    }

    /// The object of this name.
    pub(super) async fn get(&self, reads: Reads, namespace: &str, name: &str) -> Result<Option<Arc<K>>, Error> {
        if let Some(kept) = self.read(reads, namespace, name) {
            return Ok(kept.into_iter().next());
        }
        let doing = || format!("reading the {} {namespace}/{name}", K::kind(&()));
        Ok(call(doing, self.api(namespace).get_opt(name)).await?.map(Arc::new))
    }

    fn is_settled(&self) -> bool {
        self.kept.read().unwrap_or_else(PoisonError::into_inner).settled
    }

    fn api(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// What is kept under this name; `None` where the API server has to be asked.
    fn read(&self, reads: Reads, namespace: &str, asked: &str) -> Option<Vec<Arc<K>>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if reads == Reads::Direct || !kept.whole {
            return None;
        }
        let texts = match self.asked {
            Asked::Itself => kept.objects.shelves.text(namespace, asked).into_iter().collect(),
            Asked::ByAnother(_) => kept.objects.under(namespace, asked),
        };
        // What was written as text is read again; if it is not, the API server is asked.
        let read = |text: Vec<u8>| serde_json::from_slice(&text).ok().map(Arc::new);
        texts.into_iter().map(read).collect()
    }
}

impl Kept {
    /// After an error the watch may have missed something, until it tells something again.
    fn doubt(&mut self) {
        (self.whole, self.settled) = (false, true);
    }

    fn take<K>(&mut self, event: &Event<K>, asked: Asked<K>)
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        match event {
            Event::Init => self.listed = Objects::default(),
            Event::InitApply(object) => self.listed.put(object, asked),
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.listed);
                (self.whole, self.settled) = (true, true);
            }
            Event::Apply(object) => {
                self.objects.put(object, asked);
                self.whole = true;
            }
            Event::Delete(object) => {
                self.objects.remove(&place(object));
                self.whole = true;
            }
        }
    }
}

impl Objects {
    /// The texts of those that are asked for with this name of another.
    fn under(&self, namespace: &str, asked: &str) -> Vec<Vec<u8>> {
        let names = self.by_other.get(&(namespace.to_owned(), asked.to_owned())).iter();
        names.filter_map(|name| self.shelves.text(namespace, name)).collect()
    }

    fn put<K>(&mut self, object: &K, asked: Asked<K>)
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let place = place(object);
        let other = match asked {
            Asked::Itself => None,
            Asked::ByAnother(other) => match other(object) {
                Some(other) => Some(other.into_boxed_str()),
                None => return self.remove(&place),
            },
        };
        // What was read from JSON can be written as such; else nothing reads the empty text.
        let text = serde_json::to_vec(object).unwrap_or_default();
        let before = self.shelves.put((&place.0, &place.1), other.clone(), &text);
        if before.as_ref() == Some(&other) {
            return;
        }
        self.forget(&place, before.flatten());
        if let Some(other) = other {
            self.by_other.add((place.0, other.into()), place.1.into());
        }
    }

    fn remove(&mut self, place: &Place) {
        let other = self.shelves.remove(&place.0, &place.1).flatten();
        self.forget(place, other);
    }

    /// It is not asked for with this name any more.
    fn forget(&mut self, (namespace, name): &Place, other: Option<Box<str>>) {
        if let Some(other) = other {
            self.by_other.remove(&(namespace.clone(), other.into()), name.as_str());
        }
    }
}

fn place<K: Resource<DynamicType = ()>>(object: &K) -> Place {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Without what no look reads.
pub(super) fn slim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
