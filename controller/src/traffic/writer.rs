//! The only part of this room that talks to the API server.
//!
//! # Assumptions
//! The client does not retry by itself (kube's default does, for up to 1,000 s): its owner sets `default_retry = false`.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GetParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::runtime::watcher::Event;
use kube::{Client, Resource as _};
use serde_json::Value;
use serin_core::Weight;

use super::FIELD_MANAGER;
use super::error::Error;
use super::kept::{Kept, Known};
use super::kind::{Kind, written};
use super::live::{LiveRoute, is_ours, owner};
use super::repair::{guard, repairs, ties};
use super::served::Served;
use super::spec::RouteSpec;
use crate::runtime::order;

/// The longest wait for one answer of the API server, and for the turn before it: the client ends what is on its way sooner.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Tries of one write, when somebody else writes the same object.
const TRIES: usize = 4;

/// Reads and writes routes and arm Services. Cheap to clone.
#[derive(Clone)]
pub struct Traffic {
    client: Client,
    timeout: Duration,
    served: Served,
    kept: Kept,
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Traffic {
    /// Over this client, which must not retry by itself.
    pub fn new(client: Client) -> Self {
        Self::with_timeout(client, CALL_TIMEOUT)
    }

    /// The same over another client; what is known of the cluster's kinds is known to both.
    #[must_use]
    pub fn over(&self, client: Client) -> Self {
        Self { client, ..self.clone() }
    }

    /// The same, and each call of the API server ends within `timeout`.
    pub fn with_timeout(client: Client, timeout: Duration) -> Self {
        Self {
            client,
            timeout,
            served: Served::default(),
            kept: Kept::default(),
        }
    }

    /// Where the cluster serves this kind, in the best version that Serin can use; `None` when it serves none.
    pub async fn served(&self, kind: Kind) -> Result<Option<ApiResource>, Error> {
        let doing = "asking for the served versions of";
        match tokio::time::timeout(self.timeout, self.served.resource(&self.client, kind)).await {
            Ok(answer) => answer.map_err(|error| Error::of(doing, &format!("{kind}s"), error)),
            Err(_) => Err(Error::Timeout {
                doing,
                object: format!("{kind}s"),
                after: self.timeout,
            }),
        }
    }

    /// The route as it stands; `None` when there is none of this name.
    pub async fn read(&self, spec: &RouteSpec) -> Result<Option<LiveRoute>, Error> {
        let live = self.place(spec).await?.get("reading").await;
        let live = live.inspect_err(|error| self.learn(spec.kind, error))?;
        self.kept.put(spec.kind, (&spec.namespace, &spec.name), live.as_ref());
        Ok(live.map(|object| LiveRoute::of(spec, &object)))
    }

    /// The route as a watch told it, or as it was written here last.
    pub fn kept(&self, spec: &RouteSpec) -> Known<LiveRoute> {
        let kept = self.kept.get(spec.kind, &spec.namespace, &spec.name);
        kept.map(|object| LiveRoute::of(spec, &object))
    }

    /// Keeps what the watch of a kind told; `None`: it failed.
    pub fn told(&self, kind: Kind, event: Option<&Event<DynamicObject>>) {
        self.kept.take(kind, event);
    }

    /// Whether the watches have told all routes once, or have failed to.
    pub fn is_settled(&self) -> bool {
        self.kept.is_settled()
    }

    /// Sees that the arms' Services stand, and then the route: a route that names a Service which does not exist fails its
    /// share. Each Service comes from [`super::ArmService::generated`].
    pub async fn ensure(&self, services: &[Value], spec: &RouteSpec) -> Result<LiveRoute, Error> {
        for service in services {
            self.ensure_service(&spec.namespace, service, &spec.owner).await?;
        }
        self.ensure_route(spec).await
    }

    /// Sees that this Service stands, with exactly this selector and these ports.
    pub async fn ensure_service(&self, namespace: &str, service: &Value, owner: &OwnerReference) -> Result<(), Error> {
        let name = service
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let place = self.at(
            ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&()),
            namespace,
            name,
        );
        place
            .ensure(owner, |_| service.clone(), &["/spec/ports", "/spec/selector"])
            .await?;
        Ok(())
    }

    /// Sees that the route stands. A new one begins with all traffic on stable; one that stands keeps its weights. An adopted
    /// one is only looked at: whoever has it in Git makes it.
    pub async fn ensure_route(&self, spec: &RouteSpec) -> Result<LiveRoute, Error> {
        let rules = spec.kind.rules();
        let place = self.place(spec).await?;
        if spec.adopted {
            let doing = "adopting";
            let object = place.name();
            let live = self.read(spec).await?.ok_or(Error::NotFound { doing, object })?;
            return live.fit(place.name());
        }
        let wanted = |live: Option<&Value>| {
            let kept = live.and_then(|live| rules.weights(spec, live));
            let sane = kept.filter(|(stable, canary)| Weight::from_backends(*stable, *canary).is_some());
            rules.generated(spec, sane.unwrap_or(written(Weight::ZERO)))
        };
        let object = place.ensure(&spec.owner, wanted, rules.generated_fields()).await;
        let object = object.inspect_err(|_| self.kept.doubt(spec.kind, &spec.namespace, &spec.name))?;
        self.kept.put(spec.kind, (&spec.namespace, &spec.name), Some(&object));
        Ok(LiveRoute::of(spec, &object))
    }

    /// Writes the canary's share: both weights in one patch, guarded by the version that was read. Writes nothing when they
    /// stand already. A conflict is read again and tried at once.
    ///
    /// # Errors
    /// [`Error::Lowered`] when a conflict shows that somebody lowered the weight meanwhile and `weight` would raise it.
    pub async fn write_weights(&self, spec: &RouteSpec, live: &LiveRoute, weight: Weight) -> Result<LiveRoute, Error> {
        let rules = spec.kind.rules();
        let place = self.place(spec).await?;
        let mut live = live.clone();
        for _ in 0..TRIES {
            if spec.adopted {
                // Weights that can be written are: to take traffic away, a rule need not be one to shift traffic by.
                live = if live.weights.is_some() {
                    live
                } else {
                    live.fit(place.name())?
                };
            } else if !live.owned {
                return Err(live.foreign(spec));
            }
            let mut steps = rules.reweigh(spec, &live.object, weight);
            if steps.is_empty() {
                return Ok(live);
            }
            steps.insert(0, guard(&live.resource_version));
            let failed = match place.patch(steps).await {
                Ok(object) => {
                    self.kept.put(spec.kind, (&spec.namespace, &spec.name), Some(&object));
                    return Ok(LiveRoute::of(spec, &object));
                }
                Err(error) if matches!(error, Error::Conflict { .. }) || error.is_unfit() => error,
                Err(error) => {
                    self.kept.doubt(spec.kind, &spec.namespace, &spec.name);
                    return Err(error);
                }
            };
            let Some(now) = self.read(spec).await? else {
                return Err(Error::NotFound {
                    doing: "writing the weights of",
                    object: place.name(),
                });
            };
            if now.resource_version == live.resource_version && failed.is_unfit() {
                return Err(failed);
            }
            if let (Some(from), Some(to)) = (live.weight(), now.weight())
                && to < from
                && weight > to
            {
                return Err(Error::Lowered {
                    object: place.name(),
                    from,
                    to,
                    wanted: weight,
                });
            }
            live = now;
        }
        Err(Error::Conflict {
            doing: "writing the weights of",
            object: place.name(),
        })
    }

    /// Deletes a generated route, if it is still the one that was read. One that is gone already is no error.
    pub async fn remove(&self, spec: &RouteSpec, live: &LiveRoute) -> Result<(), Error> {
        if spec.adopted || !live.owned {
            return Err(live.foreign(spec));
        }
        let place = self.place(spec).await?;
        let only = Preconditions {
            resource_version: Some(live.resource_version.clone()),
            uid: None,
        };
        let params = DeleteParams {
            preconditions: Some(only),
            ..DeleteParams::default()
        };
        match place.call("deleting", place.api.delete(&place.name, &params)).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn place(&self, spec: &RouteSpec) -> Result<Place, Error> {
        let resource = self.served(spec.kind).await?.ok_or_else(|| Error::KindNotServed {
            doing: "finding",
            object: format!("{} {}/{}", spec.kind, spec.namespace, spec.name),
            wanted: spec.kind.wanted(),
        })?;
        Ok(self.at(resource, &spec.namespace, &spec.name))
    }

    fn learn(&self, kind: Kind, error: &Error) {
        if matches!(error, Error::KindNotServed { .. }) {
            self.served.forget(kind);
        }
    }

    fn at(&self, resource: ApiResource, namespace: &str, name: &str) -> Place {
        Place {
            api: Api::namespaced_with(self.client.clone(), namespace, &resource),
            timeout: self.timeout,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            resource,
        }
    }
}

/// One object's place in the cluster.
struct Place {
    api: Api<DynamicObject>,
    timeout: Duration,
    resource: ApiResource,
    namespace: String,
    name: String,
}

impl Place {
    fn name(&self) -> String {
        format!("{} {}/{}", self.resource.kind, self.namespace, self.name)
    }

    async fn get(&self, doing: &'static str) -> Result<Option<DynamicObject>, Error> {
        let request = self.request().get(&self.name, &GetParams::default());
        match self.send(doing, request.map_err(kube::Error::BuildRequest)).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn patch(&self, steps: Vec<Value>) -> Result<DynamicObject, Error> {
        let doing = "patching";
        let unwritable = |e| Error::Api {
            doing,
            object: self.name(),
            source: Box::new(kube::Error::SerdeError(e)),
        };
        let patch = Patch::<()>::Json(serde_json::from_value(Value::Array(steps)).map_err(unwritable)?);
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let request = self.request().patch(&self.name, &params, &patch);
        self.send(doing, request.map_err(kube::Error::BuildRequest)).await
    }

    fn request(&self) -> kube::core::Request {
        kube::core::Request::new(DynamicObject::url_path(&self.resource, Some(&self.namespace)))
    }

    /// What takes traffic away goes before all else.
    async fn send(
        &self,
        doing: &'static str,
        request: kube::Result<http::Request<Vec<u8>>>,
    ) -> Result<DynamicObject, Error> {
        let client = self.api.clone().into_client();
        let answer = async move { client.request(order::marked(request?)).await };
        self.call(doing, answer).await
    }

    /// Creates the object, or puts right those of its fields that `fields` points to. Nothing is written when it is right.
    async fn ensure(
        &self,
        ours: &OwnerReference,
        wanted: impl Fn(Option<&Value>) -> Value,
        fields: &[&str],
    ) -> Result<DynamicObject, Error> {
        let mut last = Error::Conflict {
            doing: "ensuring",
            object: self.name(),
        };
        for _ in 0..TRIES {
            let tried = match self.get("reading").await? {
                None => self.create(wanted(None)).await,
                Some(live) if live.metadata.deletion_timestamp.is_some() => {
                    return Err(Error::Deleting { object: self.name() });
                }
                Some(live) if !is_ours(&live, ours) => {
                    return Err(Error::Foreign {
                        object: self.name(),
                        owner: owner(&live),
                    });
                }
                Some(live) => {
                    let value = serde_json::to_value(&live).unwrap_or_default();
                    let wanted = wanted(Some(&value));
                    let mut steps = repairs(&value, &wanted, fields);
                    steps.extend(ties(&value, &wanted));
                    if steps.is_empty() {
                        return Ok(live);
                    }
                    steps.insert(0, guard(live.metadata.resource_version.as_deref().unwrap_or_default()));
                    self.patch(steps).await
                }
            };
            match tried {
                Err(error) if matches!(error, Error::Conflict { .. }) || error.is_unfit() => last = error,
                done => return done,
            }
        }
        Err(last)
    }

    async fn create(&self, object: Value) -> Result<DynamicObject, Error> {
        let doing = "creating";
        let unwritable = |e| Error::Api {
            doing,
            object: self.name(),
            source: Box::new(kube::Error::SerdeError(e)),
        };
        let mut object: DynamicObject = serde_json::from_value(object).map_err(unwritable)?;
        if let Some(types) = &mut object.types {
            types.api_version.clone_from(&self.resource.api_version);
        }
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.call(doing, self.api.create(&params, &object)).await
    }

    /// On the heap: who could come to a call, and waits for something else, has no room for it.
    fn call<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> impl Future<Output = Result<T, Error>> {
        let call = Box::pin(tokio::time::timeout(self.timeout, call));
        async move {
            match call.await {
                Ok(answer) => answer.map_err(|error| Error::of(doing, &self.name(), error)),
                Err(_) => Err(Error::Timeout {
                    doing,
                    object: self.name(),
                    after: self.timeout,
                }),
            }
        }
    }
}
