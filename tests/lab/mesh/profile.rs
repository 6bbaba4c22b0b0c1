//! ServiceProfiles as far as they decide where calls go, and the TrafficSplits that an adaptor writes into them. Tolerant: what
//! it does not know is left out. It must not know routes.

use serde_json::Value;

use super::policy::ServicePort;

/// A profile that acts: it has routes or overrides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// Where it stands: clients look in their own namespace first, then in the Service's.
    pub(super) namespace: String,
    /// The Service that it is about.
    pub(super) service: (String, String),
    /// Where its calls go, by weight; to the Service itself when there are none.
    pub(super) overrides: Vec<(ServicePort, u32)>,
    /// As they are written: which calls each is about decides nothing here.
    pub(super) routes: Vec<Value>,
}

impl Profile {
    /// Reads a ServiceProfile; `None` when it does not act.
    pub(super) fn read(namespace: &str, name: &str, spec: &Value) -> Option<Self> {
        let list = |field: &str| spec.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let (service, rest) = name.split_once('.')?;
        let (of, _) = rest.split_once(".svc.")?;
        let overrides = list("dstOverrides")
            .iter()
            .filter_map(read_override)
            .collect::<Vec<_>>();
        let routes = list("routes");
        let acts = !routes.is_empty() || !overrides.is_empty();
        acts.then(|| Self {
            namespace: namespace.to_owned(),
            service: (of.to_owned(), service.to_owned()),
            overrides,
            routes,
        })
    }

    /// What the adaptor makes of a TrafficSplit: a weight of 0 is dropped, and all zeros mean the Service itself.
    pub(super) fn of_split(namespace: &str, spec: &Value) -> Option<Self> {
        let service = spec.get("service")?.as_str()?;
        let service = service.split('.').next().unwrap_or(service);
        let backends = spec.get("backends")?.as_array()?;
        let overrides = backends.iter().filter_map(|backend| {
            let name = backend.get("service")?.as_str()?;
            let weight = weight(backend.get("weight")?).filter(|weight| *weight > 0)?;
            // The port is the one that was called.
            Some((at(namespace, name, 0), weight))
        });
        Some(Self {
            namespace: namespace.to_owned(),
            service: (namespace.to_owned(), service.to_owned()),
            overrides: overrides.collect(),
            routes: Vec::new(),
        })
    }
}

impl Profile {
    /// The same, with this port where an override does not say one.
    pub(super) fn at_port(&self, port: u16) -> Self {
        let mut profile = self.clone();
        for (to, _) in profile.overrides.iter_mut().filter(|(to, _)| to.port == 0) {
            to.port = port;
        }
        profile
    }
}

fn at(namespace: &str, name: &str, port: u16) -> ServicePort {
    ServicePort {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port,
    }
}

fn read_override(value: &Value) -> Option<(ServicePort, u32)> {
    let authority = value.get("authority")?.as_str()?;
    Some((ServicePort::parse(authority, "")?, weight(value.get("weight")?)?))
}

/// A number, or a whole quantity as text.
fn weight(value: &Value) -> Option<u32> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_acts_only_with_routes_or_overrides() {
        let read = |spec: Value| Profile::read("shop", "web.shop.svc.cluster.local", &spec);
        assert_eq!(read(json!({"retryBudget": {}})), None);
        assert_eq!(read(json!({"routes": [{}]})).unwrap().overrides, []);
        let over = json!({"dstOverrides": [{"authority": "web-canary.shop.svc.cluster.local:80", "weight": "10"}]});
        let profile = read(over).unwrap();
        assert_eq!(profile.service, ("shop".to_owned(), "web".to_owned()));
        assert_eq!(profile.overrides, [(at("shop", "web-canary", 80), 10)]);
    }

    #[test]
    fn a_splits_zero_weights_are_dropped_and_all_zeros_mean_the_service() {
        let split = |stable: Value, canary: Value| {
            let backends =
                json!([{"service": "web-stable", "weight": stable}, {"service": "web-canary", "weight": canary}]);
            Profile::of_split("shop", &json!({"service": "web", "backends": backends}))
                .unwrap()
                .overrides
        };
        assert_eq!(split(json!(100), json!(0)), [(at("shop", "web-stable", 0), 100)]);
        assert_eq!(split(json!("90"), json!("10")).len(), 2);
        assert_eq!(split(json!(0), json!(0)), []);
    }
}
