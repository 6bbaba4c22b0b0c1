//! The kinds of routes, and the small trait that each of them answers. Pure: must not know a client.

use std::fmt;

use kube::api::{ApiResource, GroupVersionKind};
use serde_json::Value;
use serin_core::Weight;

use super::gateway::Gateway;
use super::spec::RouteSpec;

/// A kind of route whose weights Linkerd obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The default for gRPC: only its metrics show gRPC failures as such.
    GrpcRoute,
    /// Linkerd shows every gRPC failure over it as HTTP 200.
    HttpRoute,
}

/// Two weights, stable's and the canary's.
pub(super) type Weights = (i64, i64);

/// What differs from kind to kind: how two weights are said, found and changed.
pub(super) trait Rules {
    /// The whole object.
    fn generated(&self, spec: &RouteSpec, weights: Weights) -> Value;
    /// The weights of a live object; `None` when it does not split between the two arms.
    fn weights(&self, spec: &RouteSpec, live: &Value) -> Option<Weights>;
    /// The steps of a JSON patch that set both weights and nothing else; none when they stand already.
    fn reweigh(&self, spec: &RouteSpec, live: &Value, weights: Weights) -> Vec<Value>;
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::GrpcRoute, Self::HttpRoute];

    /// As it is written in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::GrpcRoute => "GRPCRoute",
            Self::HttpRoute => "HTTPRoute",
        }
    }

    /// Where the API server serves it.
    pub fn resource(self) -> ApiResource {
        let plural = match self {
            Self::GrpcRoute => "grpcroutes",
            Self::HttpRoute => "httproutes",
        };
        ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", self.name()),
            plural,
        )
    }

    /// The route as Serin generates it.
    pub fn generated(self, spec: &RouteSpec, weight: Weight) -> Value {
        self.rules().generated(spec, written(weight))
    }

    pub(super) fn rules(self) -> Box<dyn Rules + Send + Sync> {
        Box::new(Gateway(self))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The two weights that say a share.
pub(super) fn written(weight: Weight) -> Weights {
    let (stable, canary) = weight.backends();
    (stable.into(), canary.into())
}
