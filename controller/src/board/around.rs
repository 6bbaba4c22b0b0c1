//! What stands around a rollout and what was told of it, as the replica that leads saw it: pods, autoscaler, events. It must not know who
//! reads it.

use std::collections::VecDeque;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde::Serialize;

/// Events that are remembered of one rollout.
const MOST: usize = 20;
/// Characters of one that are.
const LONGEST: usize = 300;

/// As of the last look; nothing on a replica that does not lead.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Around {
    /// Stable's Deployment.
    pub stable: Option<Deployed>,
    /// The canary's.
    pub canary: Option<Deployed>,
    /// Stable's autoscaler, while a revision is on trial.
    pub autoscaler: Option<Scaler>,
    /// Events since this replica leads, oldest first. Readers are told of them with what happened before.
    #[serde(skip)]
    pub told: VecDeque<Told>,
}

/// One Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deployed {
    /// The first container's.
    pub image: String,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that are wanted.
    pub wanted: i32,
}

/// An autoscaler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scaler {
    /// The fewest pods.
    pub least: i32,
    /// The most.
    pub most: i32,
    /// Those that there are.
    pub present: i32,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// When.
    pub at: Option<Timestamp>,
    /// Whether it is a warning.
    pub warns: bool,
    /// The word for it.
    pub reason: String,
    /// The sentence.
    pub message: String,
}

impl Deployed {
    /// What a Deployment says of itself.
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let container = spec.and_then(|spec| spec.template.spec.as_ref()?.containers.first());
        let status = deployment.status.as_ref();
        Self {
            image: container
                .and_then(|container| container.image.clone())
                .unwrap_or_default(),
            ready: status.and_then(|status| status.ready_replicas).unwrap_or(0),
            wanted: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        }
    }
}

impl Scaler {
    /// What an autoscaler says of itself.
    pub fn of(scaler: &HorizontalPodAutoscaler) -> Option<Self> {
        let spec = scaler.spec.as_ref()?;
        let status = scaler.status.as_ref();
        Some(Self {
            least: spec.min_replicas.unwrap_or(1),
            most: spec.max_replicas,
            present: status.and_then(|status| status.current_replicas).unwrap_or(0),
        })
    }
}

impl Around {
    /// Adds an event, and forgets the oldest.
    pub(super) fn note(&mut self, told: Told) {
        let message = told.message.chars().take(LONGEST).collect();
        self.told.push_back(Told { message, ..told });
        if self.told.len() > MOST {
            self.told.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_remembered_in_few_words() {
        let mut around = Around::default();
        for nth in 0..2 * MOST {
            around.note(Told {
                at: None,
                warns: false,
                reason: nth.to_string(),
                message: "語".repeat(1_000),
            });
        }
        assert_eq!(around.told.len(), MOST);
        assert_eq!(around.told.back().unwrap().reason, (2 * MOST - 1).to_string());
        assert_eq!(around.told.back().unwrap().message.chars().count(), LONGEST);
    }
}
