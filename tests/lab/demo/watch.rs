//! Shows a rollout while it goes on: a line for each change of what it does. It must not decide anything.

use std::time::{Duration, Instant};

use tokio::{task::JoinHandle, time::sleep};

use crate::site::{Environment, SERVICE};

const LOOK: Duration = Duration::from_millis(100);

/// A live view. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Live(JoinHandle<()>);

impl Live {
    pub(super) fn show(environment: &Environment) -> Self {
        let (rollouts, begun) = (environment.rollouts(), Instant::now());
        Self(tokio::spawn(async move {
            let mut last = String::new();
            loop {
                if let Ok(rollout) = rollouts.get(SERVICE).await {
                    let status = rollout.status.unwrap_or_default();
                    let weight = status.weight.unwrap_or_default();
                    let bar = "█".repeat(usize::try_from(weight.observed).unwrap_or(0).div_ceil(5));
                    let line = format!(
                        "{:<12} {:>3} % {bar:<20}  {}",
                        status.phase.unwrap_or_default(),
                        weight.observed,
                        status.message.unwrap_or_default(),
                    );
                    if line != last {
                        println!("{:6.1} s  {line}", begun.elapsed().as_secs_f64());
                        last = line;
                    }
                }
                sleep(LOOK).await;
            }
        }))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.abort();
    }
}
