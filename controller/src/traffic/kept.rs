//! Routes as watches told them, or as this process wrote them last, so that a look costs no request. It must not know whose a route
//! is, or what is decided.
//!
//! They are kept as packed text ([`Shelves`]): of thousands of routes hardly one is looked at in a second.
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
use crate::runtime::shelves::Shelves;

/// All kinds of them. Cheap to clone; clones are one.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<HashMap<Kind, Routes>>>);

#[derive(Default)]
struct Routes {
    /// Whether they are all there, and the watch is up.
    whole: bool,
    /// Whether they were all there once, or the watch has failed.
    settled: bool,
    all: Shelves<Version>,
    /// What a list that has begun has brought so far, and this process has written meanwhile.
    listed: Option<Shelves<Version>>,
}

#[derive(Debug, Clone, Copy)]
struct Version {
    /// `None` where it can't be told which of two is newer.
    number: Option<u64>,
    /// A write of this process may have come later.
    unsure: bool,
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
        match routes.all.about(namespace, name) {
            None => Known::Absent,
            Some(Version {
                number: Some(_),
                unsure: false,
            }) => {
                let text = routes.all.text(namespace, name);
                let object = text.and_then(|text| serde_json::from_slice(&text).ok());
                object.map_or(Known::Not, Known::There)
            }
            Some(_) => Known::Not,
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
        for shelves in kept.entry(kind).or_default().shelves() {
            match object {
                Some(object) => {
                    if let Some(version) = shelves.about_mut(namespace, name) {
                        version.unsure = false;
                    }
                    insert(shelves, object);
                }
                None => drop(shelves.remove(namespace, name)),
            }
        }
    }

    /// A write of this process may have been done or not.
    pub(super) fn doubt(&self, kind: Kind, namespace: &str, name: &str) {
        let mut kept = self.lock();
        for shelves in kept.entry(kind).or_default().shelves() {
            if let Some(version) = shelves.about_mut(namespace, name) {
                version.unsure = true;
            }
        }
    }

    /// What the watch of this kind told; `None`: it failed, and may have missed something until it tells something again.
    pub(super) fn take(&self, kind: Kind, event: Option<&Event<DynamicObject>>) {
        let mut kept = self.lock();
        let routes = kept.entry(kind).or_default();
        match event {
            None => (routes.whole, routes.settled) = (false, true),
            Some(Event::Init) => routes.listed = Some(Shelves::default()),
            Some(Event::InitApply(object)) => routes.list(object),
            Some(Event::InitDone) => {
                routes.all = routes.listed.take().unwrap_or_default();
                (routes.whole, routes.settled) = (true, true);
            }
            Some(Event::Apply(object)) => {
                insert(&mut routes.all, object);
                routes.whole = true;
            }
            Some(Event::Delete(object)) => {
                let (namespace, name) = place(object);
                routes.all.remove(namespace, name);
                routes.whole = true;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Routes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes {
    /// Where what this process writes is kept.
    fn shelves(&mut self) -> impl Iterator<Item = &mut Shelves<Version>> {
        std::iter::once(&mut self.all).chain(self.listed.as_mut())
    }

    /// Takes what a list says of a route, unless what is known of it is newer.
    fn list(&mut self, object: &DynamicObject) {
        let (namespace, name) = place(object);
        let listed = self.listed.get_or_insert_default();
        let known = self.all.about(namespace, name).copied();
        match known.filter(|known| known.unsure || known.number > number(object)) {
            Some(known) => {
                let text = self.all.text(namespace, name).unwrap_or_default();
                listed.put((namespace, name), known, &text);
            }
            None => insert(listed, object),
        }
    }
}

/// Keeps it, unless what is known of it is newer.
fn insert(shelves: &mut Shelves<Version>, object: &DynamicObject) {
    let ((namespace, name), number) = (place(object), number(object));
    let known = shelves.about(namespace, name);
    if known.is_some_and(|known| known.number > number && number.is_some()) {
        return;
    }
    let unsure = known.is_some_and(|known| known.unsure);
    let Ok(text) = serde_json::to_vec(&lean(object)) else {
        return;
    };
    shelves.put((namespace, name), Version { number, unsure }, &text);
}

fn number(object: &DynamicObject) -> Option<u64> {
    object.metadata.resource_version.as_deref()?.parse().ok()
}

fn place(object: &DynamicObject) -> (&str, &str) {
    let metadata = &object.metadata;
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
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
    fn a_write_while_a_list_comes_is_not_lost_with_it() {
        let kept = Kept::default();
        for event in [Event::Init, Event::InitApply(route("9")), Event::InitDone, Event::Init] {
            kept.take(KIND, Some(&event));
        }
        // The first is listed after it, the second is not on the list yet.
        kept.put(KIND, ("prod", "web"), Some(&route("10")));
        kept.take(KIND, Some(&Event::InitApply(route("9"))));
        let mut new = route("11");
        new.metadata.name = Some("new".to_owned());
        kept.put(KIND, ("prod", "new"), Some(&new));
        kept.take(KIND, Some(&Event::InitDone));
        assert_eq!(version(&kept), Known::There("10".to_owned()));
        assert!(matches!(kept.get(KIND, "prod", "new"), Known::There(_)));
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
