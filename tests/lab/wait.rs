//! How tests and the lab wait: for a condition, with a deadline. It must not know what is waited for.

use std::{future::Future, time::Duration};

use anyhow::bail;
use tokio::time::{Instant, sleep};

/// Between the first two looks, and between any later ones. Stories run side by side: one that looks all the time takes the machine
/// from those it looks at.
const LOOKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(200));

/// Waits until `check` gives a value; an error says what it last saw.
///
/// # Errors
/// When it gives none before the deadline.
pub async fn eventually<T, F>(what: &str, deadline: Duration, mut check: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let end = Instant::now() + deadline;
    let (mut pause, longest) = LOOKS;
    loop {
        match check().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > end => bail!("waited {deadline:?} for this: {what}; now: {error:#}"),
            Err(_) => {
                sleep(pause).await;
                pause = longest.min(pause * 2);
            }
        }
    }
}
