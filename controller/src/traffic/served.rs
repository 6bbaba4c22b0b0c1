//! Which version of a kind the cluster serves: asked once, and again when it was no more. Must not know what is in a route.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use kube::api::ApiResource;

use super::kind::Kind;

/// The answers so far. Cheap to clone. That a kind is *not* served is asked each time: its CRD may come at any moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Served(Arc<Mutex<HashMap<Kind, ApiResource>>>);

impl Served {
    /// The best version that is served; `None` when none is.
    pub(super) async fn resource(&self, client: &Client, kind: Kind) -> kube::Result<Option<ApiResource>> {
        if let Some(known) = self.lock().get(&kind) {
            return Ok(Some(known.clone()));
        }
        for version in kind.versions() {
            let resource = kind.resource_of(version);
            let list = match client.list_api_group_resources(&resource.api_version).await {
                Ok(list) => list,
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                Err(error) => return Err(error),
            };
            if list.resources.iter().any(|r| r.name == resource.plural) {
                self.lock().insert(kind, resource.clone());
                return Ok(Some(resource));
            }
        }
        Ok(None)
    }

    /// Forgets an answer that turned out to be wrong.
    pub(super) fn forget(&self, kind: Kind) {
        self.lock().remove(&kind);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Kind, ApiResource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
