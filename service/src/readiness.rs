//! Whether this process wants calls, told by gRPC health and by HTTP alike, so that the two never disagree.
//! It must not know why the state changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// The name under which gRPC health tells about the process as a whole.
const OVERALL: &str = "";

/// What the process does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Not yet.
    Starting = 0,
    /// It wants calls.
    Serving = 1,
    /// It answers, and wants clients to turn away.
    Draining = 2,
}

/// A handle on the state; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    phase: Arc<AtomicU8>,
    health: HealthReporter,
}

impl Readiness {
    /// A process that does not want calls yet.
    pub(crate) async fn starting() -> Self {
        let readiness = Self {
            phase: Arc::new(AtomicU8::new(Phase::Starting as u8)),
            health: HealthReporter::new(),
        };
        readiness.set_health(ServingStatus::NotServing).await;
        readiness
    }

    /// The gRPC side of the state.
    pub(crate) fn health_server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.health.clone()))
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    pub(crate) async fn serving(&self) {
        self.phase.store(Phase::Serving as u8, Ordering::Release);
        self.set_health(ServingStatus::Serving).await;
    }

    pub(crate) async fn draining(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::Release);
        self.set_health(ServingStatus::NotServing).await;
    }

    /// Ends the streams of those who watch health: they would hold their connections open for ever.
    pub(crate) async fn release_watchers(&self) {
        let mut health = self.health.clone();
        health.clear_service_status(OVERALL).await;
        health.clear_service_status(user_proto::SERVICE_NAME).await;
    }

    async fn set_health(&self, status: ServingStatus) {
        self.health.set_service_status(OVERALL, status).await;
        self.health.set_service_status(user_proto::SERVICE_NAME, status).await;
    }
}
