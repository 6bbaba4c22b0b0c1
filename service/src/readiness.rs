//! Whether this process wants calls, told by gRPC health and by HTTP alike, so that the two never disagree.
//! It must not know why the state changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Mutex;
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
    /// It can't answer them, as the database does not.
    CutOff = 2,
    /// It answers, and wants clients to turn away. It will never want calls again.
    Draining = 3,
}

/// A handle on the state; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    phase: Arc<AtomicU8>,
    /// Held while the state changes, so that HTTP and gRPC end with the same one.
    change: Arc<Mutex<()>>,
    health: HealthReporter,
}

impl Readiness {
    /// A process that does not want calls yet.
    pub(crate) async fn starting() -> Self {
        let readiness = Self {
            phase: Arc::new(AtomicU8::new(Phase::Starting as u8)),
            change: Arc::default(),
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
            2 => Phase::CutOff,
            _ => Phase::Draining,
        }
    }

    /// Goes into a phase, and says whether it was another one before. Nothing comes after draining.
    pub(crate) async fn enter(&self, phase: Phase) -> bool {
        let _change = self.change.lock().await;
        if matches!(self.phase(), present if present == phase || present == Phase::Draining) {
            return false;
        }
        self.phase.store(phase as u8, Ordering::Release);
        self.set_health(match phase {
            Phase::Serving => ServingStatus::Serving,
            Phase::Starting | Phase::CutOff | Phase::Draining => ServingStatus::NotServing,
        })
        .await;
        true
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
