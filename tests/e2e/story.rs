//! What a story is, and how stories wait. It must not know any particular story.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::anyhow;
use futures::future::BoxFuture;
use lab::Lab;
pub(crate) use lab::wait::eventually;
use tokio::time::{Instant, sleep, timeout};

/// No story takes longer; most take a minute, and the machine does much else.
const LONGEST: Duration = Duration::from_mins(15);

/// What ought to happen at once, on a machine that does much else.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// One that is told alone may take as long as it is asked to.
const LONGEST_ALONE: Duration = Duration::from_mins(60);

/// One end-to-end test.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    /// It is told when it is asked for, and not together with the others.
    pub(crate) is_alone: bool,
    run: Box<dyn FnOnce(Arc<Lab>) -> BoxFuture<'static, anyhow::Result<()>> + Send>,
}

impl Story {
    /// A story by its name, which is a claim.
    pub(crate) fn new<F>(name: &'static str, run: impl FnOnce(Arc<Lab>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self {
            name,
            is_alone: false,
            run: Box::new(move |lab| Box::pin(run(lab))),
        }
    }

    /// A story that has the lab to itself.
    pub(crate) fn alone<F>(name: &'static str, run: impl FnOnce(Arc<Lab>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self {
            is_alone: true,
            ..Self::new(name, run)
        }
    }

    pub(crate) async fn run(self, lab: Arc<Lab>) -> anyhow::Result<()> {
        let longest = if self.is_alone { LONGEST_ALONE } else { LONGEST };
        // In a task of its own, so that its own tasks and timers run on the runtime's threads.
        let story = tokio::spawn((self.run)(lab));
        timeout(longest, story)
            .await
            .map_err(|_| anyhow!("not done after {longest:?}"))??
    }
}

/// Looks on for so long, and sees that `check` holds each time; an error says what it saw.
pub(crate) async fn throughout<F>(what: &str, span: Duration, mut check: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let end = Instant::now() + span;
    while Instant::now() < end {
        check()
            .await
            .map_err(|error| anyhow!("this did not hold for {span:?}: {what}; now: {error:#}"))?;
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
