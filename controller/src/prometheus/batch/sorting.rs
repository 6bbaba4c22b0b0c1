//! Whose each series of an answer is. Pure; must not know what is counted from it.
//!
//! # Guarantees
//! Each target gets the series that it would have got alone, and no others: what a list of names selects beside what was meant is
//! put aside here, by the same rules by which a question for one target alone selects.

use std::collections::HashMap;
use std::sync::Arc;

use super::question::{SUBJECTS, Subject};
use crate::linkerd::metrics as m;
use crate::linkerd::promql::is_asked_for;
use crate::prometheus::answer::Series;
use crate::prometheus::labels::Names;
use crate::prometheus::own::{Own, Pair};
use crate::prometheus::raw::Raw;
use crate::prometheus::target::{ArmTarget, Backends, Seen, Target};
use crate::prometheus::{arms, sent};

/// What a label that is kept takes, and a sample.
const LABEL: usize = 32;
const SAMPLE: usize = 16;
/// What a series takes beside them.
const SERIES: usize = 64;

/// The labels that are the same for all series of one backend's counter.
const BACKEND_LABELS: [&str; 5] = [
    m::PARENT_KIND,
    m::PARENT_NAMESPACE,
    m::PARENT_NAME,
    m::BACKEND_NAMESPACE,
    m::BACKEND_NAME,
];

#[derive(Debug, Clone, Copy)]
enum Side {
    Canary,
    Stable,
}

/// One arm of one target.
#[derive(Debug, Clone, Copy)]
struct Arm<'a> {
    place: usize,
    side: Side,
    pods: &'a ArmTarget,
}

/// One side of a metric of one target.
#[derive(Debug, Clone, Copy)]
struct Backend<'a> {
    place: usize,
    metric: usize,
    side: Side,
    of: &'a Backends,
}

/// Sorts the series of several answers to those whose they are.
pub(super) struct Sorting<'a> {
    targets: &'a [Arc<Target>],
    /// By namespace and Deployment.
    arms: HashMap<(&'a str, &'a str), Vec<Arm<'a>>>,
    /// By namespace and Service.
    services: HashMap<(&'a str, &'a str), Vec<usize>>,
    /// By namespace, apex Service and arm's Service.
    backends: HashMap<(&'a str, &'a str, &'a str), Vec<Backend<'a>>>,
    names: Names,
    sorted: Vec<Sorted>,
    /// How long the texts were that were nobody's.
    strays: [usize; SUBJECTS],
    kept: usize,
}

/// What is one target's.
pub(super) struct Sorted {
    pub(super) seen: Seen,
    /// How long the texts of its largest answer were, with its share of what was nobody's.
    pub(super) bytes: usize,
    /// How much memory its series take.
    pub(super) held: usize,
    by_subject: [usize; SUBJECTS],
}

impl<'a> Sorting<'a> {
    /// For these targets.
    pub(super) fn new(targets: &'a [Arc<Target>]) -> Self {
        let mut new = Self {
            targets,
            arms: HashMap::new(),
            services: HashMap::new(),
            backends: HashMap::new(),
            names: Names::default(),
            sorted: Vec::with_capacity(targets.len()),
            strays: [0; SUBJECTS],
            kept: 0,
        };
        for (place, target) in targets.iter().enumerate() {
            new.add(place, target);
        }
        new
    }

    fn add(&mut self, place: usize, target: &'a Target) {
        let namespace = target.namespace.as_str();
        for (side, pods) in [(Side::Canary, &target.canary), (Side::Stable, &target.stable)] {
            let owners = self.arms.entry((namespace, &pods.deployment)).or_default();
            owners.push(Arm { place, side, pods });
        }
        for service in &target.services {
            let owners = self.services.entry((namespace, service)).or_default();
            owners.push(place);
        }
        let metrics = target.custom.iter().enumerate();
        for (metric, of) in metrics.filter_map(|(metric, one)| Some((metric, one.backends.as_ref()?))) {
            for (side, backend) in [(Side::Canary, &of.canary), (Side::Stable, &of.stable)] {
                let owners = self.backends.entry((namespace, &of.service, backend)).or_default();
                owners.push(Backend {
                    place,
                    metric,
                    side,
                    of,
                });
            }
        }
        let own = |_: &_| Own::Counts {
            canary: Pair::default(),
            stable: Pair::default(),
        };
        self.sorted.push(Sorted {
            seen: Seen {
                own: target.custom.iter().map(own).collect(),
                ..Seen::default()
            },
            bytes: 0,
            held: 0,
            by_subject: [0; SUBJECTS],
        });
    }

    /// Takes a series of an answer, and says how much memory all that were kept take.
    pub(super) fn take(&mut self, subject: Subject, raw: &Raw<'_>) -> usize {
        let owners = match subject {
            Subject::Proxies => self.proxies(raw),
            Subject::Requests => self.clients(raw),
            Subject::Backends => self.answers(raw),
        };
        if owners == 0
            && let Some(strays) = self.strays.get_mut(subject as usize)
        {
            *strays += raw.bytes;
        }
        self.kept
    }

    fn proxies(&mut self, raw: &Raw<'_>) -> usize {
        let key = (raw.label(m::NAMESPACE), raw.label(m::DEPLOYMENT));
        let owners = self.arms.get(&key).cloned().unwrap_or_default();
        let is_its = |arm: &&Arm<'_>| {
            let target = self.targets.get(arm.place);
            let revision = arm.pods.pod_template_hash.as_deref();
            revision.is_none_or(|hash| raw.label(m::POD_TEMPLATE_HASH) == hash)
                && target.is_some_and(|target| match raw.label(m::NAME) {
                    m::LATENCY_BUCKETS => {
                        is_inbound(raw)
                            && is_on(raw.label(m::SERVER_PORT), target)
                            && is_asked_for(raw.label(m::LE), &target.thresholds_ms)
                    }
                    m::RESPONSES => is_inbound(raw) && is_on(raw.label(m::SERVER_PORT), target),
                    _ => true,
                })
        };
        let owners: Vec<_> = owners.iter().filter(is_its).copied().collect();
        for arm in &owners {
            let series = self.keep(arm.place, raw, |name| arms::LABELS.contains(&name));
            self.give(arm.place, Subject::Proxies, raw.bytes, |seen| match arm.side {
                Side::Canary => seen.canary.push(series),
                Side::Stable => seen.stable.push(series),
            });
        }
        owners.len()
    }

    fn clients(&mut self, raw: &Raw<'_>) -> usize {
        let key = (raw.label(m::DST_NAMESPACE), raw.label(m::DST_SERVICE));
        let mut owners = self.services.get(&key).cloned().unwrap_or_default();
        let targets = self.targets;
        owners.retain(|place| {
            targets
                .get(*place)
                .is_some_and(|target| is_on(raw.label(m::TARGET_PORT), target))
        });
        for place in &owners {
            let series = self.keep(*place, raw, |name| sent::LABELS.contains(&name));
            self.give(*place, Subject::Requests, raw.bytes, |seen| seen.clients.push(series));
        }
        owners.len()
    }

    fn answers(&mut self, raw: &Raw<'_>) -> usize {
        let namespace = raw.label(m::PARENT_NAMESPACE);
        let key = (namespace, raw.label(m::PARENT_NAME), raw.label(m::BACKEND_NAME));
        let mut owners = self.backends.get(&key).cloned().unwrap_or_default();
        owners.retain(|backend| {
            namespace == raw.label(m::BACKEND_NAMESPACE) && raw.label(m::NAME) == backend.of.counter.metric()
        });
        for backend in &owners {
            // Other exporters' series are told apart by all their labels.
            let series = self.keep(backend.place, raw, |name| !BACKEND_LABELS.contains(&name));
            let is_bad = backend.of.counter.is_bad(|name| raw.label(name));
            self.give(backend.place, Subject::Backends, raw.bytes, |seen| {
                let Some(Own::Counts { canary, stable }) = seen.own.get_mut(backend.metric) else {
                    return;
                };
                let pair = match backend.side {
                    Side::Canary => canary,
                    Side::Stable => stable,
                };
                if is_bad {
                    pair.bad.push(series.clone());
                }
                pair.total.push(series);
            });
        }
        owners.len()
    }

    fn keep(&mut self, place: usize, raw: &Raw<'_>, wanted: impl Fn(&str) -> bool) -> Series {
        let labels = raw.labels.iter().map(|(name, value)| (&**name, &**value));
        let labels = self.names.labels(labels.filter(|(name, _)| wanted(name)));
        let takes = SERIES + labels.len() * LABEL + raw.samples.len() * SAMPLE;
        self.kept += takes;
        if let Some(sorted) = self.sorted.get_mut(place) {
            sorted.held += takes;
        }
        Series {
            labels,
            samples: raw.samples.clone(),
        }
    }

    fn give(&mut self, place: usize, subject: Subject, bytes: usize, give: impl FnOnce(&mut Seen)) {
        if let Some(sorted) = self.sorted.get_mut(place) {
            if let Some(slot) = sorted.by_subject.get_mut(subject as usize) {
                *slot += bytes;
            }
            give(&mut sorted.seen);
        }
    }

    /// What is whose, in the order of the targets.
    pub(super) fn finish(self) -> Vec<Sorted> {
        let among = self.targets.len().max(1);
        let mut sorted = self.sorted;
        for one in &mut sorted {
            let with_share = one.by_subject.iter().zip(&self.strays);
            one.bytes = with_share.map(|(own, strays)| own + strays / among).max().unwrap_or(0);
            for own in &mut one.seen.own {
                if let Own::Counts { canary, stable } = own {
                    // Alone, those without a status come with a query of their own.
                    for pair in [canary, stable] {
                        pair.bad.sort_by_key(has_no_status);
                    }
                }
            }
        }
        sorted
    }
}

fn has_no_status(series: &Series) -> bool {
    series.label("grpc_status").is_empty() && series.label("http_status").is_empty()
}

fn is_inbound(raw: &Raw<'_>) -> bool {
    raw.label(m::DIRECTION) == m::INBOUND
}

fn is_on(port: &str, target: &Target) -> bool {
    port.parse() == Ok(target.port)
}

#[cfg(test)]
mod tests {
    use super::super::tests::target;
    use super::*;

    #[test]
    fn a_target_is_as_large_as_its_part_of_the_largest_answer_and_its_share_of_what_is_nobodys() {
        let targets = ["a", "b"].map(|namespace| Arc::new(target(namespace, "web")));
        let mut sorting = Sorting::new(&targets);
        let responses = |namespace: &str, hash: &str| {
            format!(
                r#"{{"metric":{{"__name__":"response_total","namespace":"{namespace}","deployment":"web-canary",
                "pod_template_hash":"{hash}","direction":"inbound","srv_port":"50051","pod":"p"}},"values":[[1,"1"]]}}"#
            )
        };
        let (mine, stray) = (responses("a", "c1"), responses("a", "c0"));
        let sent = r#"{"metric":{"__name__":"request_total","dst_namespace":"a","dst_service":"web","target_port":"50051"},"values":[[1,"1"]]}"#;
        let mut take = |subject, text: &str| sorting.take(subject, &Raw::read(text.as_bytes()).unwrap());
        take(Subject::Requests, sent);
        take(Subject::Proxies, &mine);
        take(Subject::Proxies, &mine);
        let kept = take(Subject::Proxies, &stray);
        assert_eq!(take(Subject::Proxies, &stray), kept, "what is nobody's is not held");
        let sorted = sorting.finish();
        let share = stray.len();
        assert_eq!(
            sorted.iter().map(|one| one.bytes).collect::<Vec<_>>(),
            [2 * mine.len() + share, share]
        );
        assert_eq!((sorted[0].seen.canary.len(), sorted[0].seen.clients.len()), (2, 1));
        assert_eq!((sorted[0].held, sorted[1].held), (kept, 0));
        assert_eq!(
            sorted[0].seen.canary[0].labels.len(),
            2,
            "the name and the pod are all that counting reads of these"
        );
    }
}
