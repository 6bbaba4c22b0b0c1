//! The kinds of routes, and the small trait that each of them answers. Pure: must not know a client.

use std::fmt;

use kube::api::{ApiResource, GroupVersionKind};
use serde_json::Value;
use serin_core::Weight;
use serin_core::analysis::Sides;

use super::gateway::Gateway;
use super::spec::RouteSpec;
use super::split::Split;

/// A kind of route whose weights Linkerd obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The default for gRPC: only its metrics show gRPC failures as such.
    GrpcRoute,
    /// Linkerd shows every gRPC failure over it as HTTP 200.
    HttpRoute,
    /// Linkerd's own HTTPRoute, for meshes without the Gateway API's CRDs.
    PolicyHttpRoute,
    /// The Service Mesh Interface's split: the one that lives with a ServiceProfile.
    TrafficSplit,
}

/// Two weights, stable's and the canary's.
pub(super) type Weights = (i64, i64);

/// What differs from kind to kind: how two weights are said, found and changed.
pub(super) trait Rules {
    /// The whole object, in the version that is preferred.
    fn generated(&self, spec: &RouteSpec, weights: Weights) -> Value;
    /// The weights of a live object; `None` when it does not split between the two arms.
    fn weights(&self, spec: &RouteSpec, live: &Value) -> Option<Weights>;
    /// The steps of a JSON patch that set both weights and nothing else; none when they stand already.
    fn reweigh(&self, spec: &RouteSpec, live: &Value, weight: Weight) -> Vec<Value>;
    /// Which deviations of the calls from the weights mean anything.
    fn sides(&self, spec: &RouteSpec, live: &Value) -> Sides;
    /// Why a live object can't be adopted; `None` when it can.
    fn misfit(&self, spec: &RouteSpec, live: &Value) -> Option<String>;
    /// What is the rollout's own in a generated object, and put right when it is not as generated.
    fn generated_fields(&self) -> &'static [&'static str];
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::GrpcRoute,
        Self::HttpRoute,
        Self::PolicyHttpRoute,
        Self::TrafficSplit,
    ];

    /// As it is written in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::GrpcRoute => "GRPCRoute",
            Self::HttpRoute | Self::PolicyHttpRoute => "HTTPRoute",
            Self::TrafficSplit => "TrafficSplit",
        }
    }

    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::GrpcRoute | Self::HttpRoute => "gateway.networking.k8s.io",
            Self::PolicyHttpRoute => "policy.linkerd.io",
            Self::TrafficSplit => "split.smi-spec.io",
        }
    }

    /// The versions that Serin can read and write, best first. Older ones of the same kinds have no weights, or others.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Self::GrpcRoute => &["v1", "v1alpha2"],
            Self::HttpRoute => &["v1", "v1beta1"],
            Self::PolicyHttpRoute => &["v1beta3", "v1beta2"],
            Self::TrafficSplit => &["v1alpha2", "v1alpha1"],
        }
    }

    /// The name in the API server's paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::GrpcRoute => "grpcroutes",
            Self::HttpRoute | Self::PolicyHttpRoute => "httproutes",
            Self::TrafficSplit => "trafficsplits",
        }
    }

    /// Where the API server serves a version of it.
    pub fn resource_of(self, version: &str) -> ApiResource {
        let gvk = GroupVersionKind::gvk(self.group(), version, self.name());
        ApiResource::from_gvk_with_plural(&gvk, self.plural())
    }

    /// Where the API server serves the best version of it, if it does.
    pub fn resource(self) -> ApiResource {
        self.resource_of(self.versions().first().copied().unwrap_or_default())
    }

    /// All versions that Serin can use, for people.
    pub(super) fn wanted(self) -> String {
        let full = |version: &&str| format!("{} {}/{version}", self.name(), self.group());
        self.versions().iter().map(full).collect::<Vec<_>>().join(", ")
    }

    /// The route as Serin generates it.
    pub fn generated(self, spec: &RouteSpec, weight: Weight) -> Value {
        self.rules().generated(spec, written(weight))
    }

    pub(super) fn rules(self) -> Box<dyn Rules + Send + Sync> {
        match self {
            Self::GrpcRoute | Self::HttpRoute | Self::PolicyHttpRoute => Box::new(Gateway(self)),
            Self::TrafficSplit => Box::new(Split),
        }
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

/// The two weights that say a share of what the two have together, beside backends of weights that are not Serin's to change:
/// the two keep their sum, or the others' share would change. At full weight 1 is left on stable, as [`written`] says why.
pub(super) fn written_beside(weight: Weight, together: i64) -> Weights {
    let canary = match i64::from(weight.percent()) {
        100 => together - 1,
        percent => together.saturating_mul(percent) / 100,
    };
    let canary = canary.clamp(0, together);
    (together - canary, canary)
}

/// The least sum of the two arms' weights beside others: below it a percent, and 1 left of 100, can't be said.
pub(super) const LEAST_BESIDE: i64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_beside_others_is_read_back_as_it_was_written() {
        for together in [LEAST_BESIDE, 1_001, 99_999] {
            for percent in 0..=100 {
                let weight = Weight::try_from(percent).unwrap();
                let (stable, canary) = written_beside(weight, together);
                assert_eq!(stable + canary, together);
                assert!(stable > 0);
                assert_eq!(
                    Weight::from_backends(stable, canary),
                    Some(weight),
                    "{percent} of {together}"
                );
            }
        }
    }
}
