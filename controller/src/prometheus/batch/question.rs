//! What is asked for many targets at once. Text only; must not know when it is asked, nor what comes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;

use crate::linkerd::promql::{self, Arms, Endpoints};
use crate::prometheus::target::Target;

/// What a query is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// That the proxies were scraped, since when they run, what they answered and how slowly.
    Proxies,
    /// Where clients sent calls.
    Requests,
    /// What clients saw of the answers.
    Backends,
}

/// How many subjects there are.
pub(super) const SUBJECTS: usize = 3;

/// The queries that hold all that these targets need, in a window.
pub(super) fn queries(targets: &[Arc<Target>], window: SignedDuration) -> Vec<(Subject, String)> {
    let namespaces = texts(targets.iter().map(|t| &t.namespace));
    let deployments = texts(
        targets
            .iter()
            .flat_map(|t| [&t.canary.deployment, &t.stable.deployment]),
    );
    let ports: BTreeSet<_> = targets.iter().map(|t| t.port).collect();
    let bounds: BTreeSet<_> = targets.iter().flat_map(|t| t.thresholds_ms.iter().copied()).collect();
    let arms = Arms {
        namespaces: &namespaces,
        deployments: &deployments,
    };
    let mut queries = vec![(Subject::Proxies, promql::proxies_of_many(arms, &ports, &bounds))];
    queries.extend(requests(targets).map(|query| (Subject::Requests, query)));
    queries.extend(backends(targets).map(|query| (Subject::Backends, query)));
    for (_, query) in &mut queries {
        *query = promql::over(query, window);
    }
    queries
}

fn requests(targets: &[Arc<Target>]) -> Option<String> {
    let asking: Vec<_> = targets.iter().filter(|t| !t.services.is_empty()).collect();
    let to = Endpoints {
        namespaces: &texts(asking.iter().map(|t| &t.namespace)),
        services: &texts(asking.iter().flat_map(|t| &t.services)),
    };
    let ports = asking.iter().map(|t| t.port).collect();
    (!asking.is_empty()).then(|| promql::outbound_requests_to_many(to, &ports))
}

fn backends(targets: &[Arc<Target>]) -> Option<String> {
    let each = || {
        let of = |target: &'_ Arc<Target>| target.custom.iter().filter_map(|one| one.backends.as_ref()).count() > 0;
        targets.iter().filter(move |target| of(target))
    };
    let asked = || each().flat_map(|t| t.custom.iter().filter_map(|one| one.backends.as_ref()));
    let of = Endpoints {
        namespaces: &texts(each().map(|t| &t.namespace)),
        services: &texts(asked().map(|b| &b.service)),
    };
    let metrics: BTreeSet<_> = asked().map(|b| b.counter.metric()).collect();
    let names = texts(asked().flat_map(|b| [&b.canary, &b.stable]));
    (!metrics.is_empty()).then(|| promql::backend_responses_of_many(&metrics, of, &names))
}

fn texts<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeSet<&'a str> {
    texts.map(String::as_str).collect()
}
