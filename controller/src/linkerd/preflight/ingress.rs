//! Whether calls from outside of the cluster come by the apex Service. Must not know routes or samples.

use serde_json::Value;

use super::Line;
use super::facts::{Facts, annotations, list, name, named, text};

const GROUP: &str = "mesh";
/// What tells a controller to call the Service and not to look up its pods: on the Ingress.
const ON_INGRESS: [&str; 1] = ["nginx.ingress.kubernetes.io/service-upstream"];
/// The same, on the Service.
const ON_SERVICE: [&str; 2] = [
    "ingress.kubernetes.io/service-upstream",
    "traefik.ingress.kubernetes.io/service.nativelb",
];

pub(super) fn check(facts: &Facts) -> Line {
    let line = Line::new(GROUP, "ingresses call the apex Service, not its pods");
    let (ingresses, services) = match (&facts.ingresses, &facts.services) {
        (Ok(ingresses), Ok(services)) => (ingresses, services),
        (Err(why), _) | (_, Err(why)) => return line.unread(why),
    };
    let by_service = named(services, &facts.apex).is_some_and(|apex| is_on(apex, &ON_SERVICE));
    for ingress in ingresses {
        let arms = [facts.stable_service.as_str(), facts.canary_service.as_str()];
        let arm = backends(ingress).find(|service| arms.contains(service));
        if let Some(arm) = arm {
            return line.warn(
                format!(
                    "the Ingress {} calls {arm}, past the route: weights do not move its calls",
                    name(ingress)
                ),
                format!("let it call the Service {}", facts.apex),
            );
        }
        let calls_apex = backends(ingress).any(|service| service == facts.apex);
        if calls_apex && !by_service && !is_on(ingress, &ON_INGRESS) {
            return line.warn(
                format!(
                    "the Ingress {} does not say that its controller calls the Service; most controllers call its pods, \
                     and weights do not move those calls",
                    name(ingress)
                ),
                "mesh the ingress controller, and annotate the Ingress with nginx.ingress.kubernetes.io/service-upstream: \"true\" \
                 (Traefik: the Service with traefik.ingress.kubernetes.io/service.nativelb: \"true\")",
            );
        }
    }
    line
}

fn is_on(object: &Value, keys: &[&str]) -> bool {
    let value = |key: &str| object.pointer("/metadata/annotations")?.get(key)?.as_str();
    annotations(object, keys)
        .into_iter()
        .any(|key| value(key) == Some("true"))
}

/// The Services that an Ingress names.
fn backends(ingress: &Value) -> impl Iterator<Item = &str> {
    let paths = list(ingress, "/spec/rules").flat_map(|rule| list(rule, "/http/paths"));
    let by_path = paths.filter_map(|path| text(path, "/backend/service/name"));
    by_path.chain(text(ingress, "/spec/defaultBackend/service/name"))
}
