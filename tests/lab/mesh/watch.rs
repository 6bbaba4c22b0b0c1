//! Reads what the mesh needs from the API server, and nowhere else. It must not know what the objects mean to calls.

use std::{fmt::Debug, future::pending, hash::Hash, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store, store::Writer},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::oneshot, time::timeout};
use tracing::{debug, warn};

use super::{
    accept::{Seen, Teller},
    fabric::Fabric,
    profile::Profile,
    route::{Kind, Route},
    table::Objects,
};

/// Changes that come together are taken over together.
const TOGETHER: Duration = Duration::from_millis(4);
/// A cluster without one of the kinds of routes has no such routes.
const FIRST_LIST: Duration = Duration::from_secs(5);

/// Keeps the mesh's table up to date, as long as it is polled. Says when it has read everything for the first time.
pub(super) async fn run(client: Client, fabric: Arc<Fabric>, ready: oneshot::Sender<()>) {
    let (services, service_changes) = watch::<Service>(Api::all(client.clone()), ());
    let (pods, pod_changes) = watch::<Pod>(Api::all(client.clone()), ());
    let dynamic = |group: &str, version: &str, kind: &str| {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        watch(api, resource)
    };
    let mut all = vec![service_changes, pod_changes];
    let mut followed = |(store, changes): (Store<DynamicObject>, BoxStream<'static, ()>)| {
        all.push(changes);
        store
    };
    let routes = [Kind::Grpc, Kind::Http, Kind::Policy]
        .map(|kind| (kind, followed(dynamic(kind.group(), kind.version(), kind.name()))));
    let profiles = followed(dynamic("linkerd.io", "v1alpha2", "ServiceProfile"));
    let splits = followed(dynamic("split.smi-spec.io", "v1alpha2", "TrafficSplit"));
    let mut changes = futures::stream::select_all(all).ready_chunks(1024);

    let objects = || {
        let of = |(kind, store): &(Kind, Store<DynamicObject>)| {
            let routes = store.state().into_iter();
            routes.filter_map(|object| route(*kind, &object)).collect::<Vec<_>>()
        };
        // The adaptor writes a split into the Service's profile.
        let splits = splits.state().into_iter().filter_map(|object| split(&object));
        let profiles = profiles.state().into_iter().filter_map(|object| profile(&object));
        Objects {
            services: services.state(),
            pods: pods.state(),
            routes: routes.iter().flat_map(of).collect(),
            profiles: splits.chain(profiles).collect(),
        }
    };
    let teller = Teller::start(client.clone());
    let tell = || {
        let of = |(kind, store): &(Kind, Store<DynamicObject>)| {
            let routes = store.state().into_iter();
            routes
                .map(|object| (Arc::clone(&object), route(*kind, &object)))
                .collect::<Vec<_>>()
        };
        let name = |service: Arc<Service>| {
            let meta = &service.metadata;
            Some((meta.namespace.clone()?, meta.name.clone()?))
        };
        teller.tell(Seen {
            routes: routes.iter().flat_map(of).collect(),
            services: services.state().into_iter().filter_map(name).collect(),
        });
    };
    let first = async {
        let core = async { tokio::join!(services.wait_until_ready(), pods.wait_until_ready()) };
        let mut stores: Vec<_> = routes.iter().map(|(_, store)| store).collect();
        stores.extend([&profiles, &splits]);
        let routes = futures::future::join_all(stores.into_iter().map(Store::wait_until_ready));
        let _ = tokio::join!(core, timeout(FIRST_LIST, routes));
    };
    let mut first = Box::pin(first);
    let mut ready = Some(ready);
    loop {
        tokio::select! {
            change = changes.next() => if change.is_none() { pending::<()>().await },
            () = &mut first, if ready.is_some() => {
                fabric.publish(&objects());
                tell();
                let _ = ready.take().map(|ready| ready.send(()));
                continue;
            }
        }
        if ready.is_none() {
            // The streams go on filling the stores only while they are polled.
            let _ = timeout(TOGETHER, async { while changes.next().await.is_some() {} }).await;
            fabric.publish(&objects());
            tell();
        }
    }
}

fn profile(object: &DynamicObject) -> Option<Profile> {
    let meta = &object.metadata;
    let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
    Profile::read(namespace, name, object.data.get("spec")?)
}

fn split(object: &DynamicObject) -> Option<Profile> {
    Profile::of_split(object.metadata.namespace.as_deref()?, object.data.get("spec")?)
}

fn route(kind: Kind, object: &DynamicObject) -> Option<Route> {
    let meta = &object.metadata;
    if meta.deletion_timestamp.is_some() {
        return None;
    }
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let created = meta
        .creation_timestamp
        .as_ref()
        .map(|time| time.0.to_string())
        .unwrap_or_default();
    match Route::read(kind, namespace, name, &created, object.data.get("spec")?) {
        Ok(route) => Some(route),
        Err(error) => {
            warn!(namespace, name, %error, "a route that the mesh can't read");
            None
        }
    }
}

/// A store, and a stream that fills it and says when it has changed.
fn watch<K>(api: Api<K>, kind: K::DynamicType) -> (Store<K>, BoxStream<'static, ()>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Debug + Send + Sync + 'static,
{
    let writer = Writer::new(kind);
    let store = writer.as_reader();
    let events =
        watcher::watcher(api, watcher::Config::default()).inspect_err(|error| debug!(%error, "watching for the mesh"));
    let events = reflector::reflector(writer, events).default_backoff();
    (store, events.map(|_| ()).boxed())
}
