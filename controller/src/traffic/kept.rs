//! Routes as watches told them, or as this process wrote them last, so that a look costs no request. It must not know whose a route
//! is, or what is decided.
//!
//! They are kept as text: of thousands of routes hardly one is looked at in a second, and text is a fifth of the size.
//!
//! # Guarantees
//! What is kept is never older than this process's own last write, and says who wrote the weights last.
//!
//! # Caveats
//! What others wrote may be unseen for as long as a watch is behind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;

use super::kind::Kind;
use super::live::lean;

/// All kinds of them. Cheap to clone; clones are one.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<HashMap<Kind, Routes>>>);

#[derive(Default)]
struct Routes {
    /// Whether they are all there, and the watch is up.
    whole: bool,
    all: HashMap<Place, Route>,
    /// What a list that has begun has brought so far.
    listed: HashMap<Place, Route>,
    /// Whether they were all there once, or the watch has failed.
    settled: bool,
}

type Place = (String, String);

struct Route {
    /// `None` where it can't be told which of two is newer.
    version: Option<u64>,
    /// A write of this process may have come later.
    unsure: bool,
    text: Box<[u8]>,
}

/// What is known of an object without asking the API server.
#[derive(Debug, Clone, PartialEq)]
pub enum Known<T> {
    /// Nothing: the API server has to be asked.
    Not,
    /// That there is none.
    Absent,
    /// The object.
    There(T),
}

impl<T> Known<T> {
    /// The same, of what is made of the object.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Not => Known::Not,
            Self::Absent => Known::Absent,
            Self::There(object) => Known::There(make(object)),
        }
    }
}

impl Kept {
    /// What is known of the route of this name.
    pub(super) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Known<DynamicObject> {
        let kept = self.lock();
        let Some(routes) = kept.get(&kind).filter(|routes| routes.whole) else {
            return Known::Not;
        };
        match routes.all.get(&(namespace.to_owned(), name.to_owned())) {
            None => Known::Absent,
            Some(route) if route.unsure || route.version.is_none() => Known::Not,
            Some(route) => serde_json::from_slice(&route.text).map_or(Known::Not, Known::There),
        }
    }

    /// Whether the watches that were begun have told everything once, or have failed to.
    pub(super) fn is_settled(&self) -> bool {
        let kept = self.lock();
        !kept.is_empty() && kept.values().all(|routes| routes.settled)
    }

    /// What the API server answered to a request of this process; `None`: there is none.
    pub(super) fn put(&self, kind: Kind, (namespace, name): (&str, &str), object: Option<&DynamicObject>) {
        let mut kept = self.lock();
        let routes = kept.entry(kind).or_default();
        let place = (namespace.to_owned(), name.to_owned());
        match object {
            Some(object) => {
                if let Some(route) = routes.all.get_mut(&place) {
                    route.unsure = false;
                }
                routes.insert(object);
            }
            None => drop(routes.all.remove(&place)),
        }
    }

    /// A write of this process may have been done or not.
    pub(super) fn doubt(&self, kind: Kind, namespace: &str, name: &str) {
        let mut kept = self.lock();
        let place = (namespace.to_owned(), name.to_owned());
        if let Some(route) = kept.get_mut(&kind).and_then(|routes| routes.all.get_mut(&place)) {
            route.unsure = true;
        }
    }

    /// What the watch of this kind told; `None`: it failed, and may have missed something until it tells something again.
    pub(super) fn take(&self, kind: Kind, event: Option<&Event<DynamicObject>>) {
        let mut kept = self.lock();
        let routes = kept.entry(kind).or_default();
        match event {
            None => (routes.whole, routes.settled) = (false, true),
            Some(Event::Init) => routes.listed.clear(),
            Some(Event::InitApply(object)) => {
                if let Some(route) = Route::of(object) {
                    routes.listed.insert(place(object), route);
                }
            }
            Some(Event::InitDone) => {
                let mut known = std::mem::take(&mut routes.all);
                for (place, listed) in std::mem::take(&mut routes.listed) {
                    let newer = known
                        .remove(&place)
                        .filter(|known| known.unsure || known.version > listed.version);
                    routes.all.insert(place, newer.unwrap_or(listed));
                }
                (routes.whole, routes.settled) = (true, true);
            }
            Some(Event::Apply(object)) => {
                routes.insert(object);
                routes.whole = true;
            }
            Some(Event::Delete(object)) => {
                routes.all.remove(&place(object));
                routes.whole = true;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Routes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes {
    fn insert(&mut self, object: &DynamicObject) {
        let Some(mut route) = Route::of(object) else { return };
        let place = place(object);
        if let Some(known) = self.all.get(&place) {
            if known.version > route.version && route.version.is_some() {
                return;
            }
            route.unsure = known.unsure;
        }
        self.all.insert(place, route);
    }
}

impl Route {
    fn of(object: &DynamicObject) -> Option<Self> {
        let version = object.metadata.resource_version.as_deref();
        Some(Self {
            version: version.and_then(|version| version.parse().ok()),
            unsure: false,
            text: serde_json::to_vec(&lean(object)).ok()?.into_boxed_slice(),
        })
    }
}

fn place(object: &DynamicObject) -> Place {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&object.metadata.namespace), text(&object.metadata.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KIND: Kind = Kind::GrpcRoute;

    fn route(version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute",
            "metadata": {
                "name": "web", "namespace": "prod", "resourceVersion": version,
                "managedFields": [
                    {"manager": "helm", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:rules": {}}}},
                    {"manager": "policy", "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:status": {}}},
                ],
            },
            "spec": {"rules": []},
        }))
        .unwrap()
    }

    fn version(kept: &Kept) -> Known<String> {
        kept.get(KIND, "prod", "web")
            .map(|route| route.metadata.resource_version.unwrap())
    }

    #[test]
    fn the_api_server_is_asked_until_a_list_is_whole_and_after_an_error() {
        let kept = Kept::default();
        kept.take(KIND, Some(&Event::Init));
        kept.take(KIND, Some(&Event::InitApply(route("1"))));
        assert_eq!(version(&kept), Known::Not);
        assert!(!kept.is_settled());
        kept.take(KIND, Some(&Event::InitDone));
        assert_eq!(version(&kept), Known::There("1".to_owned()));
        assert_eq!(kept.get(KIND, "prod", "other"), Known::Absent);
        kept.take(KIND, None);
        assert!(kept.is_settled(), "what fails is not waited for");
        assert_eq!(version(&kept), Known::Not);
        kept.take(KIND, Some(&Event::Delete(route("1"))));
        assert_eq!(version(&kept), Known::Absent);
    }

    #[test]
    fn a_write_of_our_own_is_never_unseen() {
        let kept = Kept::default();
        for event in [Event::Init, Event::InitApply(route("9")), Event::InitDone] {
            kept.take(KIND, Some(&event));
        }
        kept.put(KIND, ("prod", "web"), Some(&route("10")));
        kept.take(KIND, Some(&Event::Apply(route("9"))));
        assert_eq!(version(&kept), Known::There("10".to_owned()));
        for event in [Event::Init, Event::InitApply(route("9")), Event::InitDone] {
            kept.take(KIND, Some(&event));
        }
        assert_eq!(version(&kept), Known::There("10".to_owned()));
        kept.doubt(KIND, "prod", "web");
        kept.take(KIND, Some(&Event::Apply(route("11"))));
        assert_eq!(
            version(&kept),
            Known::Not,
            "its answer was lost, and another's write says nothing of ours"
        );
        kept.put(KIND, ("prod", "web"), None);
        assert_eq!(version(&kept), Known::Absent);
    }

    #[test]
    fn who_wrote_the_weights_last_is_kept_and_nothing_else_of_who_writes() {
        let kept = Kept::default();
        for event in [Event::Init, Event::InitApply(route("9")), Event::InitDone] {
            kept.take(KIND, Some(&event));
        }
        let Known::There(route) = kept.get(KIND, "prod", "web") else {
            panic!("it is kept")
        };
        let fields = route.metadata.managed_fields;
        let managers: Vec<_> = fields.unwrap().into_iter().filter_map(|entry| entry.manager).collect();
        assert_eq!(managers, ["helm"]);
    }
}
