//! What the API server saw of the controller, from its audit log. It must not ask the controller anything.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use lab::audit::{Asked, AuditLog};

use crate::objects::Rollout;

/// Every request of the controller, and those that write routes with the route that came of it.
pub(crate) const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted, Panic]
omitManagedFields: true
rules:
  - level: None
    users: [admin, \"system:apiserver\"]
  - level: RequestResponse
    userGroups: [\"system:serviceaccounts\"]
    verbs: [patch, update, create]
    resources:
      - {group: gateway.networking.k8s.io, resources: [grpcroutes]}
  - level: Metadata
    userGroups: [\"system:serviceaccounts\"]
";

/// Requests in a stretch of time.
#[derive(Debug, Default, Clone)]
pub(crate) struct Requests {
    /// By verb and resource, without those that are for the cluster as a whole.
    pub(crate) by_kind: BTreeMap<String, usize>,
    /// About rollouts that progress, and about those at rest.
    pub(crate) progressing: usize,
    pub(crate) idle: usize,
    /// The lease, the watches that are begun anew, and what else is no rollout's.
    pub(crate) own: usize,
}

/// What the controller asked for from one time to another.
pub(crate) fn requests(log: &AuditLog, account: &str, (from, to): (Timestamp, Timestamp)) -> anyhow::Result<Requests> {
    let mut requests = Requests::default();
    for asked in log.asked_by(account)? {
        if asked.came < from || asked.came >= to {
            continue;
        }
        match about(&asked) {
            Some(of) if of.is_progressing() => requests.progressing += 1,
            Some(_) => requests.idle += 1,
            None => {
                requests.own += 1;
                continue;
            }
        }
        *requests
            .by_kind
            .entry(format!("{} {}", asked.verb, asked.resource))
            .or_default() += 1;
    }
    Ok(requests)
}

/// The rollout that a request is about, by the name of its object; a list is of all.
fn about(asked: &Asked) -> Option<Rollout> {
    let name = if asked.name.is_empty() { "svc-00" } else { &asked.name };
    (asked.verb != "watch" && !asked.namespace.is_empty())
        .then(|| Rollout::of(&asked.namespace, name))
        .flatten()
}

/// When each rollout's canary had its weight taken away, after a time.
pub(crate) fn zeros(
    log: &AuditLog,
    namespaces: &[String],
    after: Timestamp,
) -> anyhow::Result<HashMap<Rollout, Timestamp>> {
    let mut zeros = HashMap::new();
    for namespace in namespaces {
        for write in log.weights(namespace)? {
            if write.canary == 0
                && write.at >= after
                && let Some(of) = Rollout::of(namespace, &write.name)
            {
                zeros.entry(of).or_insert(write.at);
            }
        }
    }
    Ok(zeros)
}
