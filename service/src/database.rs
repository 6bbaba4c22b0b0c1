//! Keeps an eye on the database: migrates at the start, tells readiness whether it answers, and tidies up now and then. It must
//! not know what calls ask of it.

use std::convert::Infallible;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock;
use crate::config::Migrate;
use crate::readiness::{Phase, Readiness};
use crate::store::{Store, StoreError};

/// How often to look. A server that is gone is noticed within twice this time.
const LOOK: Duration = Duration::from_secs(1);
/// A look that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many looks in a row have to fail: one alone may be a busy machine.
const FAILURES: u32 = 2;
/// How long the request ids of creates are kept: longer than any client goes on trying.
const REQUESTS_KEPT: SignedDuration = SignedDuration::from_hours(24);
const TIDY: SignedDuration = SignedDuration::from_hours(1);

/// Goes on for as long as the process serves. It ends only when the schema can't be had.
pub(crate) async fn watch(store: Store, migrate: Migrate, readiness: Readiness) -> Result<Infallible, StoreError> {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if migrate == Migrate::Apply {
        wait_for_schema(&store, &mut looks).await?;
    }
    let (mut failures, mut tidied) = (0, None);
    loop {
        failures = match timeout(PATIENCE, store.ping()).await {
            Ok(Ok(())) => 0,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the database does not answer");
                failures + 1
            }
            Err(_) => failures + 1,
        };
        match failures {
            0 if readiness.enter(Phase::Serving).await => tracing::info!("ready"),
            FAILURES.. if readiness.enter(Phase::CutOff).await => {
                tracing::error!(
                    "not ready: the database does not answer; calls are answered with UNAVAILABLE until it does"
                );
            }
            _ => {}
        }
        let now = clock::now();
        if failures == 0 && tidied.is_none_or(|last| now.duration_since(last) >= TIDY) {
            tidied = Some(now);
            match store.forget_requests(now - REQUESTS_KEPT).await {
                Ok(forgotten) => tracing::debug!(forgotten, "old request ids"),
                Err(error) => tracing::debug!(%error, "forgetting old request ids"),
            }
        }
        looks.tick().await;
    }
}

async fn wait_for_schema(store: &Store, looks: &mut tokio::time::Interval) -> Result<(), StoreError> {
    let mut said = false;
    loop {
        looks.tick().await;
        match store.migrate(clock::now()).await {
            Err(error @ StoreError::Unavailable(_)) => {
                if !said {
                    tracing::warn!(%error, "waiting for the database");
                }
                said = true;
            }
            other => return other,
        }
    }
}
