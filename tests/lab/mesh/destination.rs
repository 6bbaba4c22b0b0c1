//! What one proxy remembers of the destinations that it has in use, and how one can be spoiled. It must not know how calls
//! are made.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    policy::{Policy, ServicePort},
    table::Table,
};

/// A destination that was not used for so long is forgotten, and found anew at its next use. Linkerd's default.
pub(super) const IDLE: Duration = Duration::from_secs(5);

/// The destinations of one proxy, by what its client calls them.
#[derive(Debug)]
pub(super) struct Destinations {
    namespace: String,
    known: HashMap<String, Destination>,
}

#[derive(Debug)]
struct Destination {
    service: ServicePort,
    /// Whether a ServiceProfile decides instead of routes. It is looked for once: while the destination is in use, one that comes
    /// is not seen, and of one that goes the last word stays.
    by_profile: bool,
    /// None when it was spoiled from the beginning.
    policy: Option<Arc<Policy>>,
    /// Weights that are all zero end the watch for good: the policy stays as it was.
    poisoned: bool,
    usage: Arc<Usage>,
}

#[derive(Debug)]
struct Usage(Mutex<(usize, Instant)>);

/// Keeps a destination in use.
#[derive(Debug)]
pub(super) struct Lease(Arc<Usage>);

impl Drop for Lease {
    fn drop(&mut self) {
        let mut usage = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *usage = (usage.0.saturating_sub(1), Instant::now());
    }
}

impl Usage {
    fn lease(self: &Arc<Self>) -> Lease {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        Lease(Arc::clone(self))
    }

    fn is_idle(&self, now: Instant) -> bool {
        let (leases, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leases == 0 && now.saturating_duration_since(since) > IDLE
    }
}

/// Why a destination has no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unresolved {
    NoService,
    Poisoned,
}

impl Destinations {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            known: HashMap::new(),
        }
    }

    /// What is to be done with a call to this authority.
    pub(super) fn policy(
        &mut self,
        authority: &str,
        table: &Table,
        now: Instant,
    ) -> Result<(Arc<Policy>, Lease), Unresolved> {
        if self.known.get(authority).is_none_or(|known| known.usage.is_idle(now)) {
            let found = Destination::find(authority, &self.namespace, table, now).ok_or(Unresolved::NoService)?;
            self.known.insert(authority.to_owned(), found);
        }
        let known = self.known.get(authority).ok_or(Unresolved::NoService)?;
        let lease = known.usage.lease();
        let policy = known.policy.clone().ok_or(Unresolved::Poisoned)?;
        Ok((policy, lease))
    }

    /// Takes over what has changed.
    pub(super) fn update(&mut self, table: &Table, now: Instant) {
        self.known
            .retain(|_, known| !known.usage.is_idle(now) && known.update(&self.namespace, table));
    }
}

impl Destination {
    fn find(authority: &str, namespace: &str, table: &Table, now: Instant) -> Option<Self> {
        let service = ServicePort::parse(authority, namespace)?;
        let by_routes = table.policy(&service)?;
        let profile = table.profile(namespace, &service);
        let policy = profile.unwrap_or(by_routes);
        let poisoned = policy.is_poison();
        Some(Self {
            by_profile: profile.is_some(),
            policy: (!poisoned).then(|| Arc::clone(policy)),
            poisoned,
            service,
            usage: Arc::new(Usage(Mutex::new((0, now)))),
        })
    }

    /// False when the Service is gone.
    fn update(&mut self, namespace: &str, table: &Table) -> bool {
        let Some(by_routes) = table.policy(&self.service) else {
            return false;
        };
        let policy = if self.by_profile {
            match table.profile(namespace, &self.service) {
                Some(policy) => policy,
                None => return true,
            }
        } else {
            by_routes
        };
        self.poisoned = self.poisoned || policy.is_poison();
        if !self.poisoned {
            self.policy = Some(Arc::clone(policy));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::mesh::{
        profile::Profile,
        route::{Kind, Route},
        table::Objects,
    };

    fn table(stable: u32, canary: u32) -> Table {
        with_profile(stable, canary, None)
    }

    /// With a profile whose overrides have these weights.
    fn with_profile(stable: u32, canary: u32, profile: Option<(u32, u32)>) -> Table {
        let service = |name: &str| {
            let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let spec = json!({
            "parentRefs": [{"kind": "Service", "group": "core", "name": "web", "port": 80}],
            "rules": [{"backendRefs": [
                {"name": "stable", "port": 80, "weight": stable}, {"name": "canary", "port": 80, "weight": canary},
            ]}],
        });
        Table::new(&Objects {
            services: ["web", "stable", "canary"].map(service).to_vec(),
            pods: Vec::new(),
            routes: vec![Route::read(Kind::Grpc, "shop", "r", "", &spec).unwrap()],
            profiles: profile.into_iter().map(profile_of).collect(),
        })
    }

    fn profile_of((stable, canary): (u32, u32)) -> Profile {
        let over = |name: &str, weight: u32| json!({"authority": format!("{name}.shop.svc.cluster.local:80"), "weight": weight});
        let spec = json!({"dstOverrides": [over("stable", stable), over("canary", canary)]});
        Profile::read("shop", "web.shop.svc.cluster.local", &spec).unwrap()
    }

    #[test]
    fn a_profile_beats_every_route_and_is_looked_for_once_while_a_destination_is_in_use() {
        let (mut destinations, now) = (Destinations::new("shop"), Instant::now());
        let profiled = with_profile(90, 10, Some((7, 3)));
        assert_eq!(weights(&mut destinations, &profiled, now), Ok(vec![7, 3]));
        // The route's weights do nothing; the profile's do.
        destinations.update(&with_profile(1, 99, Some((6, 4))), now);
        assert_eq!(weights(&mut destinations, &profiled, now), Ok(vec![6, 4]));
        // It is gone, and its word stays until nobody calls any more.
        destinations.update(&table(1, 99), now);
        assert_eq!(weights(&mut destinations, &table(1, 99), now), Ok(vec![6, 4]));
        let later = Instant::now() + IDLE + Duration::from_secs(1);
        assert_eq!(weights(&mut destinations, &table(1, 99), later), Ok(vec![1, 99]));
        // One that comes while calls go on is not seen either.
        let mut others = Destinations::new("shop");
        assert_eq!(weights(&mut others, &table(90, 10), now), Ok(vec![90, 10]));
        others.update(&profiled, now);
        assert_eq!(weights(&mut others, &profiled, now), Ok(vec![90, 10]));
    }

    #[test]
    fn a_profile_of_the_clients_namespace_counts_for_its_clients_only() {
        let mut objects = profile_of((7, 3));
        "clients".clone_into(&mut objects.namespace);
        let service = |name: &str| {
            let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let table = Table::new(&Objects {
            services: ["web", "stable", "canary"].map(service).to_vec(),
            profiles: vec![objects],
            ..Objects::default()
        });
        let of = |namespace: &str| {
            let (policy, _lease) = Destinations::new(namespace)
                .policy("web.shop:80", &table, Instant::now())
                .unwrap();
            policy.rule("/", &http::HeaderMap::new()).unwrap().backends.len()
        };
        assert_eq!((of("clients"), of("shop"), of("others")), (2, 1, 1));
    }

    fn weights(destinations: &mut Destinations, table: &Table, now: Instant) -> Result<Vec<u32>, Unresolved> {
        let (policy, _lease) = destinations.policy("web:80", table, now)?;
        let rule = policy.rule("/", &http::HeaderMap::new()).unwrap();
        Ok(rule.backends.iter().map(|backend| backend.weight).collect())
    }

    #[test]
    fn after_all_zero_weights_every_update_is_ignored_until_the_destination_was_idle() {
        let (mut destinations, now) = (Destinations::new("shop"), Instant::now());
        assert_eq!(weights(&mut destinations, &table(90, 10), now), Ok(vec![90, 10]));
        destinations.update(&table(80, 20), now);
        assert_eq!(weights(&mut destinations, &table(80, 20), now), Ok(vec![80, 20]));
        destinations.update(&table(0, 0), now);
        destinations.update(&table(100, 0), now);
        assert_eq!(weights(&mut destinations, &table(100, 0), now), Ok(vec![80, 20]));
        // The lease of the call above ended after `now`.
        let later = Instant::now() + IDLE + Duration::from_secs(1);
        assert_eq!(weights(&mut destinations, &table(100, 0), later), Ok(vec![100, 0]));
    }

    #[test]
    fn a_destination_with_calls_in_flight_is_not_idle() {
        let (mut destinations, now) = (Destinations::new("shop"), Instant::now());
        let call = destinations.policy("web:80", &table(90, 10), now).unwrap();
        destinations.update(&table(0, 0), now);
        let later = now + IDLE * 2;
        assert_eq!(weights(&mut destinations, &table(100, 0), later), Ok(vec![90, 10]));
        drop(call);
    }

    #[test]
    fn a_destination_spoiled_from_the_beginning_answers_nothing() {
        let (mut destinations, now) = (Destinations::new("shop"), Instant::now());
        assert_eq!(weights(&mut destinations, &table(0, 0), now), Err(Unresolved::Poisoned));
        destinations.update(&table(100, 0), now);
        assert_eq!(
            weights(&mut destinations, &table(100, 0), now),
            Err(Unresolved::Poisoned)
        );
        assert_eq!(
            destinations.policy("other:80", &table(1, 0), now).err(),
            Some(Unresolved::NoService)
        );
    }
}
