//! Faults on purpose, so that a rollback can be rehearsed: some calls fail, or all are slow, always or under a condition.
//! It must not know what a call does, and must never touch health or reflection.

mod condition;

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::{Code, Status};
use tower::{Layer, Service};

use self::condition::Condition;
use crate::config::FaultConfig;
use crate::metrics::{Fault, Method, Metrics};

/// Which calls fail, and how slow they are.
#[derive(Debug)]
pub(crate) struct Faults {
    error_rate: f64,
    code: Code,
    latency: Duration,
    condition: Condition,
    rng: Mutex<SmallRng>,
    metrics: Arc<Metrics>,
}

impl Faults {
    /// The faults that were asked for; `None` if none were, or another instance has them.
    pub(crate) fn new(config: &FaultConfig, metrics: Arc<Metrics>) -> Option<Self> {
        let FaultConfig {
            fault_error_rate: error_rate,
            fault_code: code,
            fault_latency: latency,
            fault_above_rate: above_rate,
            ref fault_while,
            ref fault_claim,
            fault_seed,
        } = *config;
        if error_rate <= 0.0 && latency.is_zero() {
            return None;
        }
        let condition = Condition::new(above_rate, fault_while.as_deref(), fault_claim.as_deref())?;
        let seed = fault_seed.unwrap_or_else(rand::random);
        tracing::warn!(
            error_rate,
            ?code,
            ?latency,
            ?condition,
            seed,
            "FAULTS ARE ON: calls of user.UserService fail or wait on purpose"
        );
        Some(Self {
            error_rate,
            code,
            latency,
            condition,
            rng: Mutex::new(SmallRng::seed_from_u64(seed)),
            metrics,
        })
    }

    /// What one call has to suffer before it is answered.
    async fn inject(&self) -> Result<(), Status> {
        if !self.condition.holds(Instant::now()) {
            return Ok(());
        }
        if !self.latency.is_zero() {
            self.metrics.fault_injected(Fault::Latency);
            tokio::time::sleep(self.latency).await;
        }
        if self.next_call_fails() {
            self.metrics.fault_injected(Fault::Error);
            return Err(Status::new(self.code, "a fault on purpose (FAULT_ERROR_RATE)"));
        }
        Ok(())
    }

    fn next_call_fails(&self) -> bool {
        self.rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random_bool(self.error_rate)
    }
}

/// Puts the faults in front of a service; without faults it adds nothing.
#[derive(Clone, Debug)]
pub(crate) struct FaultLayer(pub(crate) Option<Arc<Faults>>);

impl<S> Layer<S> for FaultLayer {
    type Service = FaultService<S>;

    fn layer(&self, inner: S) -> FaultService<S> {
        FaultService {
            faults: self.0.clone(),
            inner,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct FaultService<S> {
    faults: Option<Arc<Faults>>,
    inner: S,
}

impl<S> Service<Request<Body>> for FaultService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let faults = self
            .faults
            .clone()
            .filter(|_| Method::of_path(request.uri().path()).is_some());
        let Some(faults) = faults else {
            return Box::pin(self.inner.call(request));
        };
        // The service that said it was ready must be the one that is called.
        let fresh = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            match faults.inject().await {
                Ok(()) => ready.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MetricsDetail;
    use crate::identity::Identity;

    fn faults(fault_error_rate: f64, fault_latency: Duration) -> Option<Faults> {
        let identity = Identity {
            version: "1".parse().unwrap(),
            revision: "1".parse().unwrap(),
            instance: "pod-1".parse().unwrap(),
        };
        let config = FaultConfig {
            fault_error_rate,
            fault_code: Code::Unavailable,
            fault_latency,
            fault_above_rate: 0.0,
            fault_while: None,
            fault_claim: None,
            fault_seed: Some(7),
        };
        Faults::new(&config, Arc::new(Metrics::new(&identity, MetricsDetail::Full)))
    }

    #[test]
    fn no_faults_unless_asked_for() {
        assert!(faults(0.0, Duration::ZERO).is_none());
        assert!(faults(0.0, Duration::from_millis(1)).is_some());
        assert!(faults(0.1, Duration::ZERO).is_some());
    }

    #[test]
    fn the_share_of_failures_is_the_rate() {
        let faults = faults(0.2, Duration::ZERO).unwrap();
        let failures = (0..10_000).filter(|_| faults.next_call_fails()).count();
        assert!((1_850..=2_150).contains(&failures), "{failures}");
    }

    #[test]
    fn the_same_seed_fails_the_same_calls() {
        let draw = || {
            let faults = faults(0.5, Duration::ZERO).unwrap();
            (0..64).map(|_| faults.next_call_fails()).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }

    #[test]
    fn a_rate_of_one_spares_no_call() {
        let faults = faults(1.0, Duration::ZERO).unwrap();
        assert!((0..1_000).all(|_| faults.next_call_fails()));
    }
}
